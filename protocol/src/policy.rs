//! The bodies of what policy authors read and send.
//!
//! Apart from `audit.rs`, because what is sent here decides what binds from then on. Invariant: a policy that comes over
//! the wire is text and rules alone: it names no file, no model, no address and no variable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a team's section stands to the shipped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// Behind it; where the two differ the stricter holds.
    Extend,
    /// In its place.
    Replace,
}

/// A policy: the table `[policy]` of the settings with its section in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// The team's section, 64 KiB at most; the shipped one where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// `replace` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PolicyMode>,
    /// Hosts that the team's content may go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_destinations: Vec<String>,
    /// Remotes that the team's source may go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_repositories: Vec<String>,
    /// What is never done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// `POST /v1/policies`: keeps a policy. It binds nobody until a change names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepPolicy {
    /// The policy.
    pub policy: PolicyBody,
}

/// What can be done with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyStep {
    /// Have it judge alongside, binding nobody; without a revision, nothing does any more.
    Shadow,
    /// Have it judge a share of the sessions, or all from a time on.
    Stage,
    /// Have it judge everything; without a revision, what is staged.
    Activate,
    /// Go back: to what is in force beside a staged policy, or to what was before.
    Rollback,
}

/// `POST /v1/policies/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePolicy {
    /// What is done.
    pub step: PolicyStep,
    /// A policy that is kept, by its whole revision.
    #[serde(default)]
    pub revision: Option<String>,
    /// Of a staged policy: how many of a hundred sessions, 1 to 99.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Of a staged policy: from when on it judges everything.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Why: 1 to 1,000 characters.
    pub reason: String,
}

/// A policy that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyResource {
    /// Its revision.
    pub revision: String,
    /// Who wrote it, as far as was said.
    pub author: String,
    /// Since when it is kept.
    pub since: Timestamp,
    /// Where it stands now: `in_force`, `staged`, `shadow`, `settings`.
    pub stands: Vec<String>,
}

/// `GET /v1/policies/{revision}`: a policy with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyText {
    /// Which one.
    pub policy: PolicyResource,
    /// What a model gets, and what code denies.
    pub text: String,
}

/// Something that was done with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyChange {
    /// The tenant's first is 1.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// `settings`, `shadow`, `stage`, `activate` or `rollback`.
    pub what: String,
    /// Which policy; `None` where a shadow ended.
    pub revision: Option<String>,
    /// How many of a hundred sessions.
    pub percent: Option<u8>,
    /// From when on.
    pub from: Option<Timestamp>,
    /// The server's signature over it and the change before it.
    pub signature: String,
}

/// `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyList {
    /// The policies that are kept, the newest first.
    pub policies: Vec<PolicyResource>,
    /// What was done with them, the last 200, newest first.
    pub changes: Vec<PolicyChange>,
}

/// What a policy or model that judges alongside came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShadowStats {
    /// How often it said what bound.
    pub agreed: i64,
    /// How often it said otherwise: `approved>denied` is what bound, and what it said.
    pub flipped: BTreeMap<String, i64>,
    /// How often it came to nothing: no model, no time, no answer.
    pub failed: i64,
    /// How often there was no room for it.
    pub skipped: i64,
}
