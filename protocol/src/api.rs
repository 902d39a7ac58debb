//! The bodies of the HTTP API, next to each other (design D9 and §7).
//!
//! Raw as they travel; what spans fields is checked where a body becomes an [`Escalation`](crate::Escalation).
//! Unknown fields are refused everywhere but under `extra`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::{AbsolutePath, Action, ActionDigest};
use crate::assessment::{Outcome, Rationale, RiskLevel, UserAuthorization};
use crate::decision::{DecidedBy, ReviewFailure, RuleId};
use crate::escalation::{Evidence, Trigger};
use crate::review::{ReviewId, ReviewStatus};
use crate::signing::Nonce;
use crate::transcript::Transcript;

/// `POST /v1/reviews`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitReview {
    /// The version of this body: 1.
    pub version: u32,
    /// Which program asks, and by which channel.
    pub client: ClientDescription,
    /// In which conversation.
    #[serde(default)]
    pub session: SessionReference,
    /// Where the action would be done.
    pub environment: EnvironmentDescription,
    /// What would be done.
    pub action: Action,
    /// The client's digest of it; the server computes its own and compares.
    pub action_digest: ActionDigest,
    /// What made it an escalation.
    pub trigger: Trigger,
    /// Why it is asked again, where it is.
    #[serde(default)]
    pub retry_reason: Option<String>,
    /// What was said before.
    #[serde(default)]
    pub transcript: Transcript,
    /// Facts that the runner gathered itself.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Whether only a person may decide.
    #[serde(default)]
    pub must_be_human: bool,
    /// How long the client waits, in milliseconds from acceptance. The server's own limit may be shorter.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Whatever else a client has to say. Kept, never obeyed.
    #[serde(default)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// Which program asks, and by which channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientDescription {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The channel that the escalation came by, for example `runner`.
    pub channel: String,
}

/// In which conversation. All parts may be missing: then nothing is scoped to a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionReference {
    /// The session; it belongs to the caller who opened it.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The turn in it.
    #[serde(default)]
    pub turn_id: Option<String>,
    /// The item in the turn.
    #[serde(default)]
    pub item_id: Option<String>,
    /// The session that started this one.
    #[serde(default)]
    pub parent_session_id: Option<String>,
}

/// Where the action would be done, and which walls stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentDescription {
    /// The machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// The working directory of the session.
    pub cwd: AbsolutePath,
    /// The folders that may be written.
    pub workspace_roots: Vec<AbsolutePath>,
    /// The sandbox mode that stood.
    pub sandbox_mode: String,
    /// The approval policy that stood.
    pub approval_policy: String,
    /// Paths and globs that may not be read.
    #[serde(default)]
    pub denied_reads: Vec<String>,
}

/// One review, as every endpoint answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReviewResource {
    /// Its id.
    pub review_id: ReviewId,
    /// Where it stands.
    pub status: ReviewStatus,
    /// `allow` exactly where it is approved, `deny` exactly where it is denied.
    pub outcome: Option<Outcome>,
    /// How much harm the action could do, where it was judged.
    pub risk_level: Option<RiskLevel>,
    /// How clearly the user wants it, where it was judged.
    pub user_authorization: Option<UserAuthorization>,
    /// Why, where somebody decided.
    pub rationale: Option<Rationale>,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// The rule by which it was decided, where there is one.
    pub rule_id: Option<RuleId>,
    /// Which step failed, where one did.
    pub failure: Option<ReviewFailure>,
    /// What the agent may do instead, where it may not do this.
    pub guidance: Option<String>,
    /// What was reviewed.
    pub action_digest: ActionDigest,
    /// The policy under which it was judged.
    pub policy_revision: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Until when an approval can be spent.
    pub expires_at: Option<Timestamp>,
    /// The client's mark of the question.
    pub nonce: Nonce,
    /// The server's signature over the decision.
    pub signature: Option<String>,
}

/// One line of the history: the review, what it was about, and whether its approval was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryEntry {
    /// The review.
    pub review: ReviewResource,
    /// What would be done.
    pub action: Action,
    /// What made it an escalation.
    pub trigger: Trigger,
    /// In which conversation.
    pub session: SessionReference,
    /// Where it would be done.
    pub environment: EnvironmentDescription,
    /// When the approval was spent.
    pub redeemed_at: Option<Timestamp>,
}

/// `GET /v1/reviews`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReviewPage {
    /// The reviews.
    pub reviews: Vec<HistoryEntry>,
    /// What to pass as `before` for the next page; `None` on the last one.
    pub next_before: Option<ReviewId>,
}

/// `GET /v1/sessions/{id}`: for its owner and the tenant's auditors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionResource {
    /// Its name.
    pub session_id: String,
    /// Whose it is.
    pub caller: String,
    /// When its first review was opened.
    pub opened_at: Timestamp,
    /// Its turns, newest first; the newest thousand.
    pub turns: Vec<TurnResource>,
}

/// One turn of a [`SessionResource`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TurnResource {
    /// Its name; `None` for what was asked without one, of which the last hour counts.
    pub turn_id: Option<String>,
    /// When its first review was opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub last_at: Timestamp,
    /// How many reviews were taken on.
    pub reviews: u32,
    /// Denials since the last approval.
    pub denied_in_a_row: u32,
    /// Denials among the last 50 that were decided.
    pub denied_among_last_50: u32,
    /// Why no more are taken on, where none are.
    pub stopped: Option<ReviewFailure>,
}

/// `POST /v1/reviews/{id}/redeem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RedeemRequest {
    /// What is about to be done.
    pub action_digest: ActionDigest,
    /// In which session.
    #[serde(default)]
    pub session_id: Option<String>,
}

/// The answer to a [`RedeemRequest`] that was met: 200 once, then 409.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RedeemAnswer {
    /// Which review's approval was spent.
    pub review_id: ReviewId,
    /// For what.
    pub action_digest: ActionDigest,
    /// When.
    pub redeemed_at: Timestamp,
    /// How long leave for a host holds; told only where the runner asked to hear it (`Prefer: host-scope`).
    #[serde(default, skip_serializing_if = "ReceiptScope::is_once")]
    pub scope: ReceiptScope,
    /// The server's signature over the receipt.
    pub signature: String,
}

/// A person's answer to a review that waits for one: `POST /v1/reviews/{id}/answer`. In the embedded server only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Yes or no.
    pub answer: PersonsAnswer,
    /// Why, where the person said so: 1 to 1,000 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How long an approver's yes about a host holds. The narrower is the less. That it holds always is for the user of the
/// machine alone to say, in rules of their own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HostScope {
    /// For the command that asked.
    #[default]
    Once,
    /// For the rest of the session that it was asked in, twelve hours at most.
    Session,
}

impl HostScope {
    /// Whether it is the narrowest, which is never spelled.
    #[must_use]
    pub fn is_once(&self) -> bool {
        *self == Self::Once
    }
}

/// How long leave for a host holds, as a receipt says it.
///
/// Part of what is signed: whether a person or a reviewer gave the leave is what makes it last, so neither can be passed off as
/// the other between server and runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReceiptScope {
    /// For the command that asked: a person chose it, or nothing was said.
    #[default]
    Once,
    /// For the rest of the session: a person chose it.
    Session,
    /// A reviewer gave it: for as long as the runner's own settings let a reviewer's yes hold.
    Reviewer,
}

impl ReceiptScope {
    /// Whether it is the narrowest, which is never spelled.
    #[must_use]
    pub fn is_once(&self) -> bool {
        *self == Self::Once
    }
}

impl From<HostScope> for ReceiptScope {
    fn from(scope: HostScope) -> Self {
        match scope {
            HostScope::Once => Self::Once,
            HostScope::Session => Self::Session,
        }
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PersonsAnswer {
    /// Let it happen, once.
    Allow,
    /// Do not.
    Deny,
}

/// `POST /v1/tokens`: a token of the admin's own tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    #[serde(default)]
    pub name: String,
    /// What its holder may do: `runner`, `auditor`, `policy-author`, `approver`, `admin`. At least one.
    #[cfg_attr(
        feature = "schema",
        schemars(extend(
            "minItems" = 1,
            "items" = {"type": "string", "enum": ["runner", "auditor", "policy-author", "approver", "admin"]}
        ))
    )]
    pub roles: Vec<String>,
    /// The human behind it. Nobody answers for a person what the same human asked.
    #[serde(default)]
    pub person: Option<String>,
    /// From when on it is refused.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// The answer to a [`CreateToken`]: the only time that the token is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatedToken {
    /// Its name in lists.
    pub id: String,
    /// The secret.
    pub token: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreatedToken({})", self.id)
    }
}

/// `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenList {
    /// Oldest first, revoked ones included.
    pub tokens: Vec<TokenResource>,
}

/// A token, without what would let anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenResource {
    /// Its name in lists.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What its holder may do.
    pub roles: Vec<String>,
    /// The human behind it.
    pub person: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// An error, as `application/problem+json` (RFC 9457) with a stable `code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `about:blank`: the status says the class, `code` the case.
    #[serde(rename = "type")]
    pub kind: String,
    /// The class in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The case, as a stable name.
    pub code: String,
    /// What happened and what to do about it.
    pub detail: String,
}
