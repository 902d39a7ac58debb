//! The built-in reviewer: decides from the action and the user's own words, with no model and no network
//! (design D6).
//!
//! The first tier in front of every model, the floor under it, and the only one where none is configured. Invariant: it
//! allows only what it read whole and knows to be low risk; what it denies holds whatever anybody else says; where it
//! cannot tell, it says so and names the least risk that a model may not go below.

mod allow;
mod asked;
mod deny;
mod facts;
mod fetch;
mod floor;
mod git_call;
mod harms;
mod machine;
mod open;
mod openings;
mod places;
mod quiet_git;
mod rule;
mod scene;
mod services;
mod sql;
mod steered;
mod stores;
mod tools;

use memchr::memmem;
use protocol::{
    Action, Assessment, Escalation, Outcome, PermissionScope, RiskLevel, UserAuthorization,
};

pub use rule::{RULES, Rule};

use self::asked::Wishes;
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
        /// How much risk it has all the same: above `low` only where the user's own words ask for it.
        risk: RiskLevel,
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

    /// Judges an escalation by its action, and where that does not decide, by what the user's own words ask for. Pure;
    /// takes well under a millisecond.
    #[must_use]
    pub fn judge(&self, escalation: &Escalation) -> Verdict {
        let scene = Scene::of(escalation);
        let mut found = findings(escalation, &scene);
        if found
            .iter()
            .any(|finding| asked::can_be_named(finding.rule))
        {
            let wishes = Wishes::of(&escalation.transcript);
            asked::soften(&mut found, &scene, &wishes);
        }
        if asked::is_forbidden(escalation, &scene, &found) {
            deny::add(
                &mut found,
                Rule::ForbiddenByUser,
                object(&escalation.action),
            );
        }
        if found.iter().any(|finding| finding.rule.denies()) {
            return settle(found).unwrap_or_else(|| Verdict::undecided(Rule::NothingKnown));
        }
        if let Some(rule) = low(escalation, &scene, &found) {
            return Verdict::allow(rule, RiskLevel::Low, escalation);
        }
        let wishes = Wishes::of(&escalation.transcript);
        if let Some(rule) = wished(escalation, &scene, &wishes, &found) {
            let risk = found.iter().map(|finding| finding.rule.floor()).max();
            let risk = risk.unwrap_or(RiskLevel::Low).max(rule.floor());
            if risk < RiskLevel::Critical {
                return Verdict::allow(rule, risk, escalation);
            }
        }
        settle(found).unwrap_or_else(|| Verdict::undecided(Rule::NothingKnown))
    }
}

/// Whether a word stands in a list of words with blanks between them.
///
/// Each command is held against dozens of lists: where the word stands is searched for, not where every word ends.
fn listed(list: &str, word: &str) -> bool {
    let (list, word) = (list.as_bytes(), word.as_bytes());
    let is_blank = |at: Option<usize>| {
        let byte = at.and_then(|at| list.get(at));
        byte.is_none_or(u8::is_ascii_whitespace)
    };
    let mut places = memmem::find_iter(list, word);
    let is_word = !word.is_empty() && !word.iter().any(u8::is_ascii_whitespace);
    is_word && places.any(|at| is_blank(at.checked_sub(1)) && is_blank(Some(at + word.len())))
}

/// All that speaks against an action.
fn findings(escalation: &Escalation, scene: &Scene) -> Vec<Finding> {
    let mut found = Vec::new();
    match &escalation.action {
        Action::Command(command) => {
            deny::command(scene, &mut found);
            deny::carried_code(command, scene, &mut found);
            floor::command(command, scene, &mut found);
        }
        Action::FileChange(change) => deny::patch(change, scene, &mut found),
        Action::NetworkAccess(access) => deny::network(access, &mut found),
        Action::ToolCall(call) => tools::tool(call, scene, &mut found),
        Action::PermissionRequest(request) => {
            deny::permissions(&request.permissions, scene, &mut found);
        }
    }
    found
}

/// The rule by which an action is low risk, whoever asks.
fn low(escalation: &Escalation, scene: &Scene, found: &[Finding]) -> Option<Rule> {
    match &escalation.action {
        Action::Command(command) => allow::command(command, scene, found),
        Action::ToolCall(call) => {
            let only_a_tool = found
                .iter()
                .all(|finding| finding.rule == Rule::SideEffects);
            (only_a_tool && tools::looks(call, scene)).then_some(Rule::LooksByTool)
        }
        Action::NetworkAccess(access) => {
            let public = found
                .iter()
                .all(|finding| finding.rule == Rule::ReachesNetwork);
            open::network(access, &escalation.trigger).filter(|_| public)
        }
        Action::PermissionRequest(request) => {
            let denied = &escalation.environment.denied_reads;
            open::permissions(&request.permissions, denied, scene).filter(|_| found.is_empty())
        }
        Action::FileChange(_) => None,
    }
}

/// The rule by which the user's own words ask for an action.
fn wished(
    escalation: &Escalation,
    scene: &Scene,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    match &escalation.action {
        Action::Command(command) => asked::command(command, scene, wishes, found),
        Action::FileChange(change) => asked::patch(change, scene, wishes, found),
        Action::NetworkAccess(access) => asked::network(access, wishes, found),
        Action::ToolCall(call) => asked::tool(call, wishes, found),
        // Words are about what is being done, which ends with the turn.
        Action::PermissionRequest(request) => match request.scope {
            PermissionScope::Turn => asked::permissions(&request.permissions, scene, wishes, found),
            PermissionScope::Session => None,
        },
    }
}

/// What an action is about, for a rationale.
fn object(action: &Action) -> String {
    match action {
        Action::Command(command) => command.command.join(" "),
        Action::FileChange(change) => {
            let files: Vec<&str> = change.files.iter().map(|file| file.as_str()).collect();
            files.join(" ")
        }
        Action::NetworkAccess(access) => format!("{}:{}", access.host, access.port),
        Action::ToolCall(call) => format!("{}/{}", call.server, call.tool_name),
        Action::PermissionRequest(request) => {
            let wanted = &request.permissions;
            let mut all: Vec<&str> = wanted
                .read
                .iter()
                .chain(&wanted.write)
                .map(|path| path.as_str())
                .collect();
            if wanted.network {
                all.push("network");
            }
            all.join(" ")
        }
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
    fn allow(rule: Rule, risk: RiskLevel, escalation: &Escalation) -> Self {
        Self::Allow {
            rule,
            risk,
            rationale: rule.rationale(&object(&escalation.action)),
        }
    }

    /// A host that the team trusts.
    pub(crate) fn trusted(host: &str) -> Self {
        Self::Allow {
            rule: Rule::ReachesTrusted,
            risk: RiskLevel::Low,
            rationale: Rule::ReachesTrusted.rationale(host),
        }
    }

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
            Self::Allow { risk, .. } => *risk,
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
            // But for the rules that hold the action against the user's words, it claims no more than that somebody asked.
            user_authorization: if outcome == Outcome::Allow && self.rule().is_by_words() {
                UserAuthorization::High
            } else {
                UserAuthorization::Unknown
            },
            outcome,
            rationale: rationale.as_str().into(),
        })
    }
}

#[cfg(test)]
mod tests;
