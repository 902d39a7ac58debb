//! The bodies of the events, as JSON: what the chain covers.
//!
//! Apart, because every back end must write the same bytes. A payload stands here by its SHA-256 only, so that it can be
//! erased without breaking the chain.

use protocol::{CallerId, ReceiptScope, ReviewId, Sha256Hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Ending, Opening, Redemption, StoreError, Withdrawal};
use crate::verdict::Verdict;

mod spelled;

pub(crate) use spelled::Spelled;

#[derive(Serialize)]
struct OpenedBody<'a> {
    caller: &'a str,
    nonce: &'a str,
    session_id: Option<&'a str>,
    action_digest: String,
    policy_revision: &'a str,
    deadline_at: i64,
    request: Sha256Hex,
    question: Sha256Hex,
    context: Sha256Hex,
}

#[derive(Serialize, Deserialize)]
struct EndedBody {
    verdict: Verdict,
    expires_at: i64,
    exhibit: Option<Sha256Hex>,
}

#[derive(Serialize)]
struct RedeemedBody<'a> {
    caller: &'a str,
    session_id: Option<&'a str>,
    action_digest: String,
    #[serde(skip_serializing_if = "ReceiptScope::is_once")]
    scope: ReceiptScope,
}

/// What stands in the chain of a leave: everything of it that the review itself does not say.
#[derive(Serialize)]
pub(super) struct LeaveGiven<'a> {
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
    /// Milliseconds since the Unix epoch.
    pub(super) expires_at: i64,
    pub(super) signature: &'a str,
}

#[derive(Serialize)]
struct LeaveSpent {
    by: ReviewId,
}

#[derive(Serialize)]
struct LeaveWithdrawn<'a> {
    by: &'a str,
    reason: &'a str,
}

/// The body of `opened`.
pub(super) fn opened(opening: &Opening) -> Result<String, StoreError> {
    spell(&OpenedBody {
        caller: opening.scope.caller.as_str(),
        nonce: opening.nonce.as_str(),
        session_id: opening.session_id.as_deref(),
        action_digest: opening.action_digest.to_string(),
        policy_revision: &opening.policy_revision,
        deadline_at: opening.deadline_at.as_millisecond(),
        request: Sha256Hex::of(&opening.request_digest),
        question: digest(&opening.question),
        context: digest(&opening.context),
    })
}

/// The body of the event that ends a review.
pub(super) fn ended(ending: &Ending) -> Result<String, StoreError> {
    spell(&EndedBody {
        verdict: ending.verdict.clone(),
        expires_at: ending.expires_at.as_millisecond(),
        exhibit: ending.exhibit.as_deref().map(digest),
    })
}

/// The verdict in a body that [`ended`] made.
pub(super) fn verdict(body: &str) -> Result<Verdict, StoreError> {
    serde_json::from_str::<EndedBody>(body)
        .map(|body| body.verdict)
        .map_err(|_| StoreError::Corrupt("the event that ended a review cannot be read"))
}

/// The body of `redeemed`.
pub(super) fn redeemed(redemption: &Redemption) -> Result<String, StoreError> {
    let caller: &CallerId = &redemption.scope.caller;
    spell(&RedeemedBody {
        caller: caller.as_str(),
        session_id: redemption.session_id.as_deref(),
        action_digest: redemption.action_digest.to_string(),
        scope: redemption.host_scope,
    })
}

/// The body of `leave_given`.
pub(super) fn leave_given(leave: &LeaveGiven<'_>) -> Result<String, StoreError> {
    spell(leave)
}

/// The body of `leave_spent`: the review that was approved by it.
pub(super) fn leave_spent(by: ReviewId) -> Result<String, StoreError> {
    spell(&LeaveSpent { by })
}

/// The body of `leave_withdrawn`.
pub(super) fn leave_withdrawn(withdrawal: &Withdrawal) -> Result<String, StoreError> {
    spell(&LeaveWithdrawn {
        by: &withdrawal.by,
        reason: &withdrawal.reason,
    })
}

fn digest(text: &str) -> Sha256Hex {
    Sha256Hex::of(&Sha256::digest(text.as_bytes()).into())
}

fn spell(body: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(body).map_err(|_| StoreError::Corrupt("an event cannot be spelled"))
}
