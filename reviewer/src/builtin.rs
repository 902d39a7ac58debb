//! The built-in reviewer: decides from the action alone, with no model and no network (design D6).
//!
//! The first tier in front of every model, the floor under it, and the only one where none is configured. Invariant: it
//! allows only what it read whole and knows to be low risk; what it denies holds whatever anybody else says; where it
//! cannot tell, it says so and names the least risk that a model may not go below.

mod allow;
mod deny;
mod floor;
mod places;
mod rule;
mod scene;

use protocol::{Action, Assessment, Escalation, Outcome, RiskLevel, UserAuthorization};

pub use rule::{RULES, Rule};

use self::scene::Scene;

/// The built-in reviewer. It holds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn(());

/// What the built-in reviewer says of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Provably low risk.
    Allow {
        /// By this rule.
        rule: Rule,
        /// What and why.
        rationale: String,
    },
    /// Plainly not to be done.
    Deny {
        /// By this rule.
        rule: Rule,
        /// What, why, and what would be allowed instead.
        rationale: String,
    },
    /// Somebody else has to judge it.
    Undecided {
        /// The rule that found the most risk.
        rule: Rule,
        /// The least risk that the action has.
        floor: RiskLevel,
    },
}

/// Something that a rule found in an action.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    rule: Rule,
    object: String,
}

impl BuiltIn {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// Judges an escalation by its action alone. Pure; takes well under a millisecond.
    #[must_use]
    pub fn judge(&self, escalation: &Escalation) -> Verdict {
        let scene = Scene::of(escalation);
        let mut found = Vec::new();
        match &escalation.action {
            Action::Command(command) => {
                deny::command(&scene, &mut found);
                floor::command(command, &scene, &mut found);
            }
            Action::FileChange(change) => deny::patch(change, &scene, &mut found),
            Action::NetworkAccess(access) => deny::network(access, &mut found),
            Action::ToolCall(call) => deny::tool(call, &mut found),
            Action::PermissionRequest(request) => {
                deny::permissions(&request.permissions, &scene, &mut found);
            }
        }
        settle(found).unwrap_or_else(|| match &escalation.action {
            Action::Command(command) => allow::command(command, &scene),
            Action::FileChange(_)
            | Action::NetworkAccess(_)
            | Action::ToolCall(_)
            | Action::PermissionRequest(_) => Verdict::undecided(Rule::NothingKnown),
        })
    }
}

/// The gravest finding decides; the first of equals, so that the answer does not depend on what stands behind it.
fn settle(found: Vec<Finding>) -> Option<Verdict> {
    let gravest = found
        .into_iter()
        .rev()
        .max_by_key(|finding| (finding.rule.denies(), finding.rule.floor()))?;
    Some(if gravest.rule.denies() {
        Verdict::Deny {
            rule: gravest.rule,
            rationale: gravest.rule.rationale(&gravest.object),
        }
    } else {
        Verdict::undecided(gravest.rule)
    })
}

impl Verdict {
    fn undecided(rule: Rule) -> Self {
        Self::Undecided {
            rule,
            floor: rule.floor(),
        }
    }

    /// The rule behind it.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Allow { rule, .. } | Self::Deny { rule, .. } | Self::Undecided { rule, .. } => {
                *rule
            }
        }
    }

    /// The least risk that the action has, whoever judges it.
    #[must_use]
    pub fn floor(&self) -> RiskLevel {
        match self {
            Self::Allow { .. } => RiskLevel::Low,
            Self::Deny { rule, .. } => rule.floor(),
            Self::Undecided { floor, .. } => *floor,
        }
    }

    /// The assessment that binds: a denial always, an allow where `may_allow`.
    pub(crate) fn binding(&self, may_allow: bool) -> Option<Assessment> {
        let (outcome, rationale) = match self {
            Self::Allow { rationale, .. } if may_allow => (Outcome::Allow, rationale),
            Self::Deny { rationale, .. } => (Outcome::Deny, rationale),
            Self::Allow { .. } | Self::Undecided { .. } => return None,
        };
        Some(Assessment {
            risk_level: self.floor(),
            // It reads no conversation, so it claims no more than that somebody asked.
            user_authorization: UserAuthorization::Unknown,
            outcome,
            rationale: rationale.as_str().into(),
        })
    }
}

#[cfg(test)]
mod tests;
