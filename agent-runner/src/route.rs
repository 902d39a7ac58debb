//! Which way a command goes: inside the walls, to somebody who is asked, or nowhere. Pure and total.
//!
//! The table is the decision matrix of approval policy × sandbox mode × what is asked for × what the command is.
//! Invariant: the only ways out of the walls are [`Route::Ask`] and full access chosen by name.

use exec_policy::{Class, Reading};
use protocol::{FullAccessByName, SandboxPermissions, TriggerKind};
use serde::Serialize;

use crate::config::{ApprovalPolicy, ApprovalsReviewer, SandboxMode, Settings};

/// Which way a command goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// Inside the walls, asking nobody.
    Inside,
    /// Asked first; what it may do after a yes is the permissions it asked for.
    Ask(Question),
    /// Without walls, by full access chosen by name.
    FullAccess(FullAccessByName),
    /// Nowhere.
    Refused(Refusal),
}

/// Who is asked about what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Question {
    /// Who.
    pub(crate) of: ApprovalsReviewer,
    /// Why it is asked at all.
    pub(crate) trigger: TriggerKind,
}

/// Why a command goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// `approval_policy = "never"`, and it would have to be asked.
    NobodyMayBeAsked,
    /// `granular.sandbox_approval = false`, and it asks to leave the walls.
    CategoryOff,
}

/// What about a command matters for its route.
#[derive(Debug, Clone, Copy)]
struct Facts {
    sandbox: SandboxMode,
    permissions: SandboxPermissions,
    class: Class,
}

impl Route {
    /// Decides.
    pub(crate) fn of(
        settings: &Settings,
        permissions: SandboxPermissions,
        reading: &Reading,
    ) -> Self {
        let facts = Facts {
            sandbox: settings.sandbox,
            permissions,
            class: class(reading),
        };
        match trigger(settings.approval, facts) {
            Some(trigger) => ask(settings, trigger),
            None => FullAccessByName::parse(settings.sandbox.as_str())
                .map_or(Self::Inside, Self::FullAccess),
        }
    }

    /// The way's name, for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Ask(_) => "ask",
            Self::FullAccess(_) => "full_access",
            Self::Refused(_) => "refused",
        }
    }

    /// The rule, in words.
    pub(crate) fn because(&self) -> &'static str {
        match self {
            Self::Inside => "it stays inside the walls, and what they stop stays stopped",
            Self::Ask(question) => match question.trigger {
                TriggerKind::EscalationRequested => "it asks to leave the walls",
                TriggerKind::UntrustedCommand => {
                    "the approval policy asks about a command like this one"
                }
                TriggerKind::SandboxDenied
                | TriggerKind::NetworkBlocked
                | TriggerKind::RulePrompt
                | TriggerKind::PermissionRequested
                | TriggerKind::ToolSideEffect
                | TriggerKind::SkillApproval => "it needs approval",
            },
            Self::FullAccess(_) => {
                "`danger-full-access` was chosen: there are no walls and nobody is asked"
            }
            Self::Refused(refusal) => refusal.because(),
        }
    }
}

impl Refusal {
    /// The rule, in words.
    pub(crate) fn because(self) -> &'static str {
        match self {
            Self::NobodyMayBeAsked => {
                "it would need approval, and `approval_policy = \"never\"` asks nobody"
            }
            Self::CategoryOff => {
                "it asks to leave the walls, and `granular.sandbox_approval` is off"
            }
        }
    }
}

/// What the command is as a whole: as dangerous as its most dangerous part, and safe only when all of it is.
fn class(reading: &Reading) -> Class {
    if reading
        .commands()
        .iter()
        .any(|command| command.class() == Class::Dangerous)
    {
        Class::Dangerous
    } else if reading.known_safe() {
        Class::KnownSafe
    } else {
        Class::Unknown
    }
}

/// What makes it a question under `policy`, if anything does.
fn trigger(policy: ApprovalPolicy, facts: Facts) -> Option<TriggerKind> {
    // Under full access there are no walls to leave.
    let leaves = facts.permissions != SandboxPermissions::UseDefault
        && facts.sandbox != SandboxMode::DangerFullAccess;
    if leaves {
        return Some(TriggerKind::EscalationRequested);
    }
    let asks = match (policy, facts.class) {
        (_, Class::Dangerous) | (ApprovalPolicy::Untrusted, Class::Unknown) => true,
        (_, Class::KnownSafe | Class::Unknown) => false,
    };
    asks.then_some(TriggerKind::UntrustedCommand)
}

fn ask(settings: &Settings, trigger: TriggerKind) -> Route {
    let of = match settings.approval {
        ApprovalPolicy::Never => return Route::Refused(Refusal::NobodyMayBeAsked),
        ApprovalPolicy::Granular(granular) if !granular.sandbox_approval => {
            return Route::Refused(Refusal::CategoryOff);
        }
        // The page routes `untrusted` to the person, whoever the reviewer is (design D28).
        ApprovalPolicy::Untrusted => ApprovalsReviewer::User,
        ApprovalPolicy::Granular(_) | ApprovalPolicy::OnRequest | ApprovalPolicy::OnFailure => {
            settings.reviewer
        }
    };
    Route::Ask(Question { of, trigger })
}

#[cfg(test)]
mod tests {
    use exec_policy::{Class, Reading};
    use protocol::SandboxPermissions::{self, RequireEscalated, UseDefault};

    use super::{Facts, class, trigger};
    use crate::config::ApprovalPolicy::{self, Never, OnFailure, OnRequest, Untrusted};
    use crate::config::SandboxMode::{self, DangerFullAccess, ReadOnly, WorkspaceWrite};

    fn asks(
        policy: ApprovalPolicy,
        sandbox: SandboxMode,
        permissions: SandboxPermissions,
        class: Class,
    ) -> bool {
        trigger(
            policy,
            Facts {
                sandbox,
                permissions,
                class,
            },
        )
        .is_some()
    }

    #[test]
    fn the_matrix_holds_for_every_policy_and_mode() {
        for mode in [ReadOnly, WorkspaceWrite, DangerFullAccess] {
            for policy in [Never, OnRequest, OnFailure] {
                assert!(
                    !asks(policy, mode, UseDefault, Class::Unknown),
                    "{policy:?} {mode:?}"
                );
                assert!(
                    asks(policy, mode, UseDefault, Class::Dangerous),
                    "{policy:?} {mode:?}"
                );
                let leaves = asks(policy, mode, RequireEscalated, Class::Unknown);
                assert_eq!(leaves, mode != DangerFullAccess, "{policy:?} {mode:?}");
            }
            assert!(
                asks(Untrusted, mode, UseDefault, Class::Unknown),
                "{mode:?}"
            );
            assert!(
                !asks(Untrusted, mode, UseDefault, Class::KnownSafe),
                "{mode:?}"
            );
            assert!(
                asks(Untrusted, mode, UseDefault, Class::Dangerous),
                "{mode:?}"
            );
        }
        assert!(asks(
            Untrusted,
            WorkspaceWrite,
            RequireEscalated,
            Class::KnownSafe
        ));
    }

    #[test]
    fn a_forced_removal_is_dangerous_wherever_it_stands() {
        let class = |words: &[&str]| {
            class(&Reading::of_argv(
                &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(),
            ))
        };
        assert_eq!(class(&["rm", "-rf", "x"]), Class::Dangerous);
        assert_eq!(class(&["bash", "-lc", "ls && (rm -f x)"]), Class::Dangerous);
        assert_eq!(class(&["ls", "-l"]), Class::KnownSafe);
        assert_eq!(class(&["make"]), Class::Unknown);
    }
}
