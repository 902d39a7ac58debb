//! A recorded review as it is told: spelled and signed.
//!
//! Apart and pure, because every endpoint answers the same resource. Invariant (D19): what has ended carries an expiry
//! and a signature over review, action, session, caller, status, expiry and nonce; what has not carries neither.

use jiff::Timestamp;
use protocol::{
    DecidedBy, Nonce, RedeemAnswer, ReviewResource, ReviewStatus, Statement, StatementKind,
};

use crate::key::SigningKey;
use crate::store::{Recorded, Redemption};

/// Spells and signs `recorded`.
pub(crate) fn resource(recorded: &Recorded, key: &SigningKey) -> ReviewResource {
    let open = ReviewResource {
        review_id: recorded.review_id,
        status: ReviewStatus::Reviewing,
        outcome: None,
        risk_level: None,
        user_authorization: None,
        rationale: None,
        decided_by: DecidedBy::None,
        rule_id: None,
        failure: None,
        guidance: None,
        action_digest: recorded.action_digest,
        policy_revision: recorded.policy_revision.clone(),
        created_at: recorded.created_at,
        completed_at: None,
        expires_at: None,
        nonce: recorded.nonce.clone(),
        signature: None,
    };
    let Some(end) = &recorded.end else {
        return open;
    };
    let verdict = end.verdict.clone();
    let kind = StatementKind::Decision {
        status: verdict.status,
        expires_at: end.expires_at,
    };
    let statement = Statement {
        kind,
        review_id: recorded.review_id,
        action_digest: recorded.action_digest,
        session_id: recorded.session_id.clone(),
        caller: recorded.scope.caller.clone(),
        nonce: recorded.nonce.clone(),
    };
    ReviewResource {
        status: verdict.status,
        outcome: verdict.outcome,
        risk_level: verdict.risk_level,
        user_authorization: verdict.user_authorization,
        decided_by: verdict.decided_by,
        guidance: verdict.guidance().map(str::to_owned),
        rationale: verdict.rationale,
        rule_id: verdict.rule_id,
        failure: verdict.failure,
        completed_at: Some(end.completed_at),
        expires_at: Some(end.expires_at),
        signature: Some(key.sign(&statement)),
        ..open
    }
}

/// Spells and signs the receipt of a spent approval.
pub(crate) fn receipt(spent: Redemption, nonce: Nonce, key: &SigningKey) -> RedeemAnswer {
    let redeemed_at: Timestamp = spent.at;
    let statement = Statement {
        kind: StatementKind::Receipt {
            redeemed_at,
            scope: spent.host_scope,
        },
        review_id: spent.review_id,
        action_digest: spent.action_digest,
        session_id: spent.session_id,
        caller: spent.scope.caller,
        nonce,
    };
    RedeemAnswer {
        review_id: spent.review_id,
        action_digest: spent.action_digest,
        redeemed_at,
        scope: spent.host_scope,
        signature: key.sign(&statement),
    }
}
