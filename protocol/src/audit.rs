//! The bodies of what admins read, and of what a runner tells for them.
//!
//! Apart from `api.rs`, because nothing here binds anybody. Unknown fields are refused in what comes in alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::ActionDigest;
use crate::api::{HostScope, PersonsAnswer, ReviewResource};
use crate::policy::ShadowStats;
use crate::review::ReviewId;

/// `POST /v1/reviews/{id}/ran`: how the run of a spent approval ended. Told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// What was run.
    pub action_digest: ActionDigest,
    /// The command's own status, 0 to 255; `None` where it ended by a signal or did not start.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// The signal that ended it, 1 to 64.
    #[serde(default)]
    pub signal: Option<u8>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Which walls stood, as the runner's report names them: at most 8 KiB as JSON.
    #[serde(default)]
    pub confinement: Option<Value>,
}

/// `GET /v1/reviews/{id}?view=full`: everything on record about one review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReviewDetail {
    /// The review.
    pub review: ReviewResource,
    /// When its approval was spent.
    pub redeemed_at: Option<Timestamp>,
    /// Action, trigger, session, environment and client; `None` where they were erased.
    pub question: Option<Value>,
    /// Transcript, evidence and the like; `None` where they were erased.
    pub context: Option<Value>,
    /// What the reviewer was shown, and each call of a model, where it was asked.
    pub exhibit: Option<Value>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
}

/// `POST /v1/reviews/{id}/answer` over TCP: an approver's answer to a review that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApproverAnswer {
    /// Yes or no.
    pub answer: PersonsAnswer,
    /// Why: 1 to 1,000 characters.
    pub reason: String,
    /// The action that the approver saw.
    pub action_digest: ActionDigest,
    /// How long a yes about a host holds: `once`, for the command that asked, where nothing is said. For no other action,
    /// with no denial, and `session` only where the question named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<HostScope>,
}

/// `POST /v1/reviews/{id}/leave`: an approver's leave for an action that was denied, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GiveLeave {
    /// Why: 1 to 1,000 characters.
    pub reason: String,
    /// The action that the approver saw.
    pub action_digest: ActionDigest,
    /// How long it may be used, in seconds: 1 to 86,400. 900 where not set.
    #[serde(default)]
    pub valid_secs: Option<u64>,
}

/// The answer to a [`GiveLeave`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaveResource {
    /// The review that was denied.
    pub review_id: ReviewId,
    /// For what.
    pub action_digest: ActionDigest,
    /// In which session.
    pub session_id: Option<String>,
    /// Who gave it.
    pub given_by: String,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// The server's signature over it.
    pub signature: String,
}

/// `POST /v1/reviews/{id}/leave/withdraw`: takes back leave that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WithdrawLeave {
    /// Why: 1 to 1,000 characters.
    pub reason: String,
}

/// The answer to a [`WithdrawLeave`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WithdrawnLeave {
    /// The review that was denied. Its denial stands.
    pub review_id: ReviewId,
    /// Who took the leave back.
    pub withdrawn_by: String,
    /// From when on it lifts nothing.
    pub withdrawn_at: Timestamp,
}

/// `GET /v1/waiting`: what waits for a person at this server, oldest first; at most 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingReviews {
    /// Each with all that is on record about it.
    pub reviews: Vec<ReviewDetail>,
    /// How many approvers must agree before an action is allowed; one who denies is enough.
    #[serde(default)]
    pub approvals_wanted: u32,
    /// Who has agreed already, by review.
    #[serde(default)]
    pub agreed: BTreeMap<String, Vec<String>>,
}

/// One line of the hash chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimelineEntry {
    /// Its number in the tenant's chain.
    pub seq: i64,
    /// What happened.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The particulars that the chain covers.
    pub body: Value,
    /// The hash over this line and the one before it, in hex.
    pub hash: String,
}

/// The data of one server-sent event: a line of the hash chain, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamedEvent {
    /// The review that it happened to.
    pub review_id: ReviewId,
    /// What happened. `seq` is the event's id as well.
    #[serde(flatten)]
    pub entry: TimelineEntry,
    /// The review as it ended, signed: where one review is streamed, with the event that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewResource>,
}

/// A page of the history, with how many reviews there are of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WithCount<T> {
    /// The page.
    #[serde(flatten)]
    pub page: T,
    /// How many match, where it was asked for; 10,001 means more than ten thousand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<i64>,
    /// The events that the index had yet to see; 0 where the answer is complete.
    #[serde(default)]
    pub behind: u64,
}

/// `GET /v1/stats`: sums over reviews that ended, by whole hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    /// How many there were.
    pub reviews: i64,
    /// The share that failed or timed out: from 0 to 1, or `None` where there were no reviews.
    pub not_judged_share: Option<f64>,
    /// By status.
    pub by_status: BTreeMap<String, i64>,
    /// By who decided.
    pub by_decided_by: BTreeMap<String, i64>,
    /// By risk, where they were judged.
    pub by_risk: BTreeMap<String, i64>,
    /// By the step that failed.
    pub by_failed_step: BTreeMap<String, i64>,
    /// How long they took, from acceptance to the end, in milliseconds: percentile to value, an eighth too low at most.
    pub latency_ms: BTreeMap<String, u64>,
    /// The programs that were denied most often, at most twenty.
    pub denied_programs: Vec<(String, i64)>,
    /// The hosts that were denied most often, at most twenty.
    pub denied_hosts: Vec<(String, i64)>,
    /// What models were asked, by their name.
    pub models: BTreeMap<String, ModelCost>,
    /// What judged alongside and bound nobody, by its policy's revision.
    #[serde(default)]
    pub shadows: BTreeMap<String, ShadowStats>,
    /// The events that the sums had yet to see.
    pub behind: u64,
}

/// What a model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelCost {
    /// How often.
    pub calls: i64,
    /// Tokens that it read.
    pub input_tokens: i64,
    /// Tokens that it wrote.
    pub output_tokens: i64,
}

/// `GET /v1/verify`: whether the record of the tenant holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifyAnswer {
    /// Whether every line holds.
    pub holds: bool,
    /// How many lines hold.
    pub lines: i64,
    /// The hash of the last one of them, in hex.
    pub head: String,
    /// The number of the first line that does not hold, and why.
    pub broken: Option<(i64, String)>,
    /// Payloads that are not there any more.
    pub erased: u64,
    /// The number of the last line that was let go, by the server's own word; 0 where none was.
    #[serde(default)]
    pub let_go: i64,
    /// Who let go of what, the newest first; at most 100.
    #[serde(default)]
    pub let_go_by: Vec<LetGo>,
}

/// Lines of a chain that were let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LetGo {
    /// The last of them.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who wanted it so.
    pub by: String,
}
