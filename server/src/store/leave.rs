//! A person's leave for an action that was denied, as it is kept.
//!
//! Apart, because it is the only thing that lifts a denial. Invariant: it is signed by this server over everything that
//! it says, so a row that somebody wrote into the database lifts nothing; whether it lifts is [`PersonsLeave`]'s rule.

use jiff::Timestamp;
use protocol::{ActionDigest, Canonical, Nonce, ReviewId, TenantId};
use reviewer::{PersonsLeave, Use};

use super::Scope;
use crate::key::SigningKey;

/// A person's leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leave {
    /// The review that denied it.
    pub(crate) review_id: ReviewId,
    /// Who may use it.
    pub(crate) scope: Scope,
    pub(crate) session_id: Option<String>,
    pub(crate) action_digest: ActionDigest,
    /// Of the denied review.
    pub(crate) nonce: Nonce,
    pub(crate) given_by: String,
    pub(crate) reason: String,
    pub(crate) given_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) signature: String,
}

/// What a leave is looked up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaveKey {
    pub(crate) scope: Scope,
    pub(crate) session_id: Option<String>,
    pub(crate) action_digest: ActionDigest,
}

/// A leave that was not spent, as far as spending it needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaveToSpend {
    pub(crate) key: LeaveKey,
    pub(crate) expires_at: Timestamp,
}

/// That a leave is taken back. Who may is checked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    pub(crate) tenant: TenantId,
    /// The review that was denied.
    pub(crate) review_id: ReviewId,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// What became of a [`Withdrawal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// It lifts nothing from now on.
    Recorded,
    /// It was taken back before.
    Before,
    /// A review was approved by it before.
    Spent,
    /// The tenant has no such leave.
    Unknown,
}

impl Leave {
    /// The same, signed.
    pub(crate) fn signed(self, key: &SigningKey) -> Self {
        let signature = key.sign_canonical(&self.to_canonical());
        Self { signature, ..self }
    }

    /// Whether this server signed it as it stands.
    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        // Ed25519 signs the same bytes the same way each time (RFC 8032, 5.1.6).
        key.sign_canonical(&self.to_canonical()) == self.signature
    }

    /// As the rule sees it. Only leave that was neither spent nor taken back is read from the store.
    pub(crate) fn to_rule(&self) -> PersonsLeave {
        PersonsLeave {
            action: self.action_digest,
            session: self.session_id.clone(),
            expires_at: self.expires_at.as_second(),
            spent: Use::Unspent,
        }
    }

    fn to_canonical(&self) -> Canonical {
        let mut out = Canonical::new("auto-review leave v1");
        out.text(&self.review_id.to_string())
            .text(self.scope.tenant.as_str())
            .text(self.scope.caller.as_str())
            .optional(self.session_id.as_deref())
            .text(&self.action_digest.to_string())
            .text(self.nonce.as_str())
            .text(&self.given_by)
            .text(&self.reason)
            .text(&self.given_at.as_millisecond().to_string())
            .text(&self.expires_at.as_millisecond().to_string());
        out
    }
}
