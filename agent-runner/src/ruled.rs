//! What the rules say of one command, with the rules' own places: for the route, for `explain` and for the record.
//!
//! Owned, so that it outlives the settings it came from. Invariant: it says no more than the ruling it was made from.

use exec_policy::{Class, Coverage, Hit, HitCertainty, Reading, RuleSet, Verdict};
use protocol::RuleId;
use serde::Serialize;

/// The most hits that are kept to be shown.
const MAX_SHOWN: usize = 64;

/// What the rules say of one command.
#[derive(Debug, Clone)]
pub(crate) struct Ruled {
    /// The strictest verdict of the rules that matched.
    pub(crate) verdict: Option<Verdict>,
    /// How much allow rules cover.
    pub(crate) coverage: Coverage,
    /// What the rest is.
    pub(crate) rest: Class,
    /// Whether a shell in it reads the files of a login.
    pub(crate) logs_in: bool,
    /// The rules that matched, as shown.
    pub(crate) hits: Vec<RuleHit>,
    deciding: Option<RuleHit>,
}

/// A rule that matched, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RuleHit {
    /// `allow`, `prompt`, `prompt-user` or `forbidden`.
    pub(crate) decision: &'static str,
    /// The rule's words.
    pub(crate) pattern: String,
    /// File and line.
    pub(crate) rule: String,
    /// The command that it matched, in words; `None`: what could not be read.
    pub(crate) command: Option<String>,
    /// Whether the words are the rule's, or may become so.
    pub(crate) certain: bool,
    /// Why, in the rule's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) justification: Option<String>,
}

impl Ruled {
    /// What `rules` say of `reading`.
    pub(crate) fn of(rules: &RuleSet, reading: &Reading) -> Self {
        let ruling = rules.judge(reading);
        Self {
            verdict: ruling.verdict(),
            coverage: ruling.coverage(),
            rest: ruling.rest(),
            logs_in: reading.logs_in(),
            hits: ruling
                .hits()
                .iter()
                .take(MAX_SHOWN)
                .map(|hit| shown(hit, reading))
                .collect(),
            deciding: ruling.deciding().map(|hit| shown(hit, reading)),
        }
    }

    /// `fallback`, with the rule that decides and its reason.
    pub(crate) fn because(&self, fallback: &str) -> String {
        let Some(hit) = &self.deciding else {
            return fallback.to_owned();
        };
        let doubt = match (hit.certain, &hit.command) {
            (true, _) => "",
            (false, Some(_)) => ", whose words may become that when it runs",
            (false, None) => {
                ", and a part of the command cannot be read, so the strictest rule holds"
            }
        };
        let reason = hit
            .justification
            .as_ref()
            .map_or_else(String::new, |text| format!(": {text}"));
        format!(
            "{fallback}: `{}` ({}){doubt}{reason}",
            hit.pattern, hit.rule
        )
    }

    /// The rule that decides, as the record names it.
    pub(crate) fn rule_id(&self) -> RuleId {
        RuleId::new(self.deciding.as_ref().map_or_else(
            || "rules".to_owned(),
            |hit| format!("{} ({})", hit.rule, hit.pattern),
        ))
    }

    /// What the rules come to, for people and programs.
    pub(crate) fn coverage_name(&self) -> &'static str {
        match self.coverage {
            Coverage::None => "none",
            Coverage::Partial => "partial",
            Coverage::Whole => "whole",
        }
    }
}

fn shown(hit: &Hit<'_>, reading: &Reading) -> RuleHit {
    let command = hit.command.and_then(|at| reading.commands().get(at));
    RuleHit {
        decision: hit.rule.verdict().as_str(),
        pattern: hit.rule.pattern(),
        rule: hit.rule.origin().to_string(),
        command: command.map(shown_words),
        certain: hit.certainty == HitCertainty::Certain,
        justification: hit.rule.justification().map(str::to_owned),
    }
}

/// A command's words as a person would write them.
pub(crate) fn shown_words(command: &exec_policy::Command) -> String {
    let words: Vec<String> = command.words().iter().map(ToString::to_string).collect();
    words.join(" ")
}
