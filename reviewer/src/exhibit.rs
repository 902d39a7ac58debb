//! What the reviewer was shown and what it tried: stored beside each decision.
//!
//! Apart, because the record outlives the review. Invariant: no text of a model, a tool or a transcript stands in it.

use protocol::{Outcome, RiskLevel, RuleId};
use serde::Serialize;

use crate::policy::PolicyRevision;
use crate::settings::Provider;

/// What the reviewer was shown and what it tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exhibit {
    /// The policy that was judged by.
    pub policy_revision: PolicyRevision,
    /// What the built-in reviewer said, always.
    pub built_in: BuiltInExhibit,
    /// The SHA-256 of the prompt, where one was made.
    pub prompt_digest: Option<String>,
    /// How many reviews of the session stood in front of it; the entries below are then those that were new.
    pub reviews_before: u64,
    /// How many entries of the transcript were shown, whole or shortened.
    pub entries_kept: u64,
    /// How many were not.
    pub entries_omitted: u64,
    /// Each call of a model, in order.
    pub attempts: Vec<Attempt>,
}

/// What the built-in reviewer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltInExhibit {
    /// The rule.
    pub rule_id: RuleId,
    /// Its outcome; `None` where it could not decide.
    pub outcome: Option<Outcome>,
    /// The least risk that the action has, whoever judges it.
    pub risk_floor: RiskLevel,
}

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Which API.
    pub provider: Provider,
    /// Which model.
    pub model: String,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// What went wrong, as a stable name; `None` where the reply was read.
    pub error: Option<String>,
    /// How long until the first of the answer came, in milliseconds, where it was streamed.
    pub first_token_ms: Option<u64>,
    /// What it took, where the provider said so.
    pub tokens: Option<Tokens>,
    /// What it cost, in millionths of the currency of the configured prices.
    pub cost_micros: Option<u64>,
}

/// Tokens, as the provider counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of the prompt.
    pub input: u64,
    /// Of the reply, reasoning included.
    pub output: u64,
    /// Of the prompt, what the provider had in its cache.
    pub cached_input: u64,
}
