//! Which way a command goes: inside the walls, outside by a rule, to somebody who is asked, or nowhere. Pure and total.
//!
//! One function decides, [`decide`]; the table it is held to is `route/expected.txt`, written by hand from the
//! documented policies. Invariant: the only ways out of the walls are an allow rule, [`Route::Ask`] and full access chosen
//! by name.

mod denial;
mod kinds;

use exec_policy::{Class, Coverage, Verdict};
use protocol::{FullAccessByName, SandboxPermissions, TriggerKind};
use serde::Serialize;

pub(crate) use self::denial::{AfterDenial, Denied, OnRequest, on_denial};
pub(crate) use self::kinds::{Category, may_ask};
use crate::config::{ApprovalPolicy, ApprovalsReviewer, SandboxMode, Settings};
use crate::ruled::Ruled;

/// Which way a command goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// Inside the walls, asking nobody.
    Inside,
    /// Outside the walls, by an allow rule that covers every word of it.
    ByRule,
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
    /// A rule forbids it.
    Forbidden,
    /// `approval_policy = "never"`, and it would have to be asked.
    NobodyMayBeAsked,
    /// A shell in it reads the files of a login, and `allow_login_shell` is off.
    LoginShell,
    /// Its category of the granular policy is off.
    CategoryOff(Category),
}

/// What about a command matters for its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which walls stand.
    pub(crate) sandbox: SandboxMode,
    /// Which of them it wants moved.
    pub(crate) permissions: SandboxPermissions,
    /// The strictest rule that matched.
    pub(crate) verdict: Option<Verdict>,
    /// How much allow rules cover.
    pub(crate) coverage: Coverage,
    /// What the part is that they do not cover.
    pub(crate) class: Class,
}

/// Where a command goes, before anybody's name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It runs within whatever walls stand.
    Run,
    /// It runs outside the walls, by a rule.
    ByRule,
    /// The reviewer in force is asked.
    Ask(TriggerKind),
    /// A person is asked, whoever the reviewer is.
    AskPerson(TriggerKind),
    /// It does not run.
    Refuse(Refusal),
}

/// The decision procedure: approval policy × walls × rules × what is asked for × what the command is.
pub(crate) fn decide(policy: ApprovalPolicy, facts: Facts) -> Way {
    if facts.verdict == Some(Verdict::Forbidden) {
        return Way::Refuse(Refusal::Forbidden);
    }
    let wants_out = facts.permissions != SandboxPermissions::UseDefault;
    // Who may not ask to leave is told so before any rule is looked at, full access or not.
    if wants_out && let Err(refusal) = may_ask(policy, Category::Sandbox) {
        return Way::Refuse(refusal);
    }
    match facts.verdict {
        Some(Verdict::Prompt) => return ask(policy, Category::Rules, TriggerKind::RulePrompt),
        Some(Verdict::PromptUser) => {
            return match ask(policy, Category::Rules, TriggerKind::RulePrompt) {
                Way::Ask(trigger) => Way::AskPerson(trigger),
                other @ (Way::Run | Way::ByRule | Way::AskPerson(_) | Way::Refuse(_)) => other,
            };
        }
        Some(Verdict::Allow | Verdict::Forbidden) | None => {}
    }
    let walls = facts.sandbox != SandboxMode::DangerFullAccess;
    // A rule lifts the walls as far as an approved escalation would, not further.
    let by_rule = facts.coverage == Coverage::Whole
        && !(walls && facts.permissions == SandboxPermissions::RequireUnconfined);
    match (by_rule, walls) {
        (true, true) => return Way::ByRule,
        (true, false) => return Way::Run,
        (false, _) => {}
    }
    if wants_out && walls {
        return ask(policy, Category::Sandbox, TriggerKind::EscalationRequested);
    }
    match (policy, facts.class) {
        (_, Class::Dangerous) | (ApprovalPolicy::Untrusted, Class::Unknown) => {
            ask(policy, Category::Sandbox, TriggerKind::UntrustedCommand)
        }
        (_, Class::KnownSafe | Class::Unknown) => Way::Run,
    }
}

fn ask(policy: ApprovalPolicy, category: Category, trigger: TriggerKind) -> Way {
    match (may_ask(policy, category), policy) {
        (Err(refusal), _) => Way::Refuse(refusal),
        // The page routes `untrusted` to the person, whoever the reviewer is (design D28).
        (Ok(()), ApprovalPolicy::Untrusted) => Way::AskPerson(trigger),
        (
            Ok(()),
            ApprovalPolicy::Never
            | ApprovalPolicy::Granular(_)
            | ApprovalPolicy::OnRequest
            | ApprovalPolicy::OnFailure,
        ) => Way::Ask(trigger),
    }
}

impl Route {
    /// The route of a command with these permissions under `settings`.
    pub(crate) fn of(settings: &Settings, permissions: SandboxPermissions, ruled: &Ruled) -> Self {
        let facts = Facts {
            sandbox: settings.sandbox,
            permissions,
            verdict: ruled.verdict,
            coverage: ruled.coverage,
            class: ruled.rest,
        };
        if ruled.logs_in && !settings.allow_login_shell {
            return Self::Refused(Refusal::LoginShell);
        }
        let question = |of, trigger| Self::Ask(Question { of, trigger });
        match decide(settings.approval, facts) {
            Way::Run => FullAccessByName::parse(settings.sandbox.as_str())
                .map_or(Self::Inside, Self::FullAccess),
            // What may not be read may not be read outside either: the rule then allows inside (and the notes say so).
            Way::ByRule if settings.denies_reads() => Self::Inside,
            Way::ByRule => Self::ByRule,
            Way::Ask(trigger) => question(settings.asks(trigger), trigger),
            Way::AskPerson(trigger) => question(ApprovalsReviewer::User, trigger),
            Way::Refuse(refusal) => Self::Refused(refusal),
        }
    }

    /// The way's name, for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::ByRule => "allow_rule",
            Self::Ask(_) => "ask",
            Self::FullAccess(_) => "full_access",
            Self::Refused(_) => "refused",
        }
    }

    /// The rule, in words.
    pub(crate) fn because(&self, ruled: &Ruled) -> String {
        match self {
            Self::Inside => {
                "it stays inside the walls, and what they stop stays stopped".to_owned()
            }
            Self::ByRule => ruled.because("a rule allows it"),
            Self::Ask(question) => match question.trigger {
                TriggerKind::EscalationRequested => "it asks to leave the walls".to_owned(),
                TriggerKind::UntrustedCommand => {
                    "the approval policy asks about a command like this one".to_owned()
                }
                TriggerKind::RulePrompt => ruled.because("a rule asks for approval"),
                TriggerKind::SandboxDenied
                | TriggerKind::NetworkBlocked
                | TriggerKind::PermissionRequested
                | TriggerKind::ToolSideEffect
                | TriggerKind::SkillApproval => "it needs approval".to_owned(),
            },
            Self::FullAccess(_) => {
                "`danger-full-access` was chosen: there are no walls and nobody is asked".to_owned()
            }
            Self::Refused(Refusal::Forbidden) => ruled.because("a rule forbids it"),
            Self::Refused(refusal) => refusal.because().to_owned(),
        }
    }
}

impl Refusal {
    /// The rule, in words.
    pub(crate) fn because(self) -> &'static str {
        match self {
            Self::Forbidden => "a rule forbids it",
            Self::NobodyMayBeAsked => {
                "it would need approval, and `approval_policy = \"never\"` asks nobody"
            }
            Self::LoginShell => {
                "it starts a login shell, and `allow_login_shell` is off; use `-c` instead of `-lc`"
            }
            Self::CategoryOff(category) => category.off(),
        }
    }
}

#[cfg(test)]
mod tests;
