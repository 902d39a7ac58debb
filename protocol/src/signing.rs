//! What the server signs and the runner checks: a decision, and the receipt that an approval was spent (design D19).
//!
//! Here is the one place where a [`Decision`] is read from the wire. Invariant: without a signature of the pinned key
//! over this review, action, session, caller, status, expiry and nonce there is no [`Grant`](crate::Grant) and no
//! [`Receipt`]. The nonce is the client's own, so an old answer cannot be played again.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::ActionDigest;
use crate::api::{ReceiptScope, RedeemAnswer, ReviewResource};
use crate::assessment::{Assessment, Outcome};
use crate::canonical::Canonical;
use crate::decision::{DecidedBy, Decision, Denial, Judge, Judgement, RuleId};
use crate::permit::Grant;
use crate::review::{ReviewId, ReviewStatus};
use crate::tenant::{CallerId, hex, unhex};

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it says.
    pub kind: StatementKind,
    /// Of which review.
    pub review_id: ReviewId,
    /// Of which action.
    pub action_digest: ActionDigest,
    /// In which session.
    pub session_id: Option<String>,
    /// To whom.
    pub caller: CallerId,
    /// For which question.
    pub nonce: Nonce,
}

/// What a [`Statement`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// The review ended so; an approval can be spent until `expires_at`.
    Decision {
        /// How it ended.
        status: ReviewStatus,
        /// Until when an approval can be spent, to the millisecond.
        expires_at: Timestamp,
    },
    /// The approval was spent.
    Receipt {
        /// When, to the millisecond.
        redeemed_at: Timestamp,
        /// How long leave for a host holds, and by whose word.
        scope: ReceiptScope,
    },
}

impl Statement {
    /// The bytes that are signed.
    #[must_use]
    pub fn to_canonical(&self) -> Canonical {
        let mut out = Canonical::new("auto-review statement v1");
        match self.kind {
            StatementKind::Decision { status, expires_at } => {
                out.text("decision")
                    .text(status.as_str())
                    .text(&expires_at.as_millisecond().to_string());
            }
            StatementKind::Receipt { redeemed_at, scope } => {
                // The narrowest is spelled as it always was, so that runners of every version can check it.
                let kind = match scope {
                    ReceiptScope::Once => "receipt",
                    ReceiptScope::Session => "receipt_for_session",
                    ReceiptScope::Reviewer => "receipt_by_reviewer",
                };
                out.text(kind)
                    .text(&redeemed_at.as_millisecond().to_string());
            }
        }
        out.text(&self.review_id.to_string())
            .text(&self.action_digest.to_string());
        out.optional(self.session_id.as_deref())
            .text(self.caller.as_str())
            .text(&self.nonce.0);
        out
    }
}

/// A client's own mark of one question: 1 to 128 visible ASCII characters. It travels as `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[!-~]{1,128}$")))]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// The nonce that a random UUID makes.
    #[must_use]
    pub fn fresh(uuid: uuid::Uuid) -> Self {
        Self(uuid.to_string())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let fits =
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(text))
        } else {
            Err("1 to 128 visible ASCII characters are wanted")
        }
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// The key that a runner pins: `ed25519:` and 64 hex digits.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey(VerifyingKey);

/// Why a text is not a server's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a server key is `ed25519:` and 64 lower-case hex digits of a valid key")]
pub struct InvalidServerKey;

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ServerKey {
    type Err = InvalidServerKey;

    fn from_str(text: &str) -> Result<Self, InvalidServerKey> {
        let bytes = text
            .strip_prefix("ed25519:")
            .and_then(unhex)
            .ok_or(InvalidServerKey)?;
        VerifyingKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| InvalidServerKey)
    }
}

/// What the client asked, which every answer is held against.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The digest of the action that the client holds.
    pub action_digest: ActionDigest,
    /// The session that the client named.
    pub session_id: Option<String>,
    /// Who the client is.
    pub caller: CallerId,
    /// The nonce that the client sent.
    pub nonce: Nonce,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForgedAnswer {
    /// It is about another action, session or question.
    #[error("the answer is about another action or another question")]
    OtherQuestion,
    /// The signature is missing or does not hold under the pinned key.
    #[error("the answer is not signed by the pinned server key")]
    Signature,
    /// It says that nothing is decided yet.
    #[error("the answer holds no decision")]
    Undecided,
    /// Its fields contradict each other.
    #[error("the answer contradicts itself")]
    Contradiction,
}

/// Proof that an approval was spent for one action, once. Made only from a signature that held.
#[derive(Debug)]
pub struct Receipt {
    review_id: ReviewId,
    action_digest: ActionDigest,
    scope: ReceiptScope,
}

impl Receipt {
    /// How long leave for a host holds and by whose word, as the server signed it.
    #[must_use]
    pub fn scope(&self) -> ReceiptScope {
        self.scope
    }

    pub(crate) fn review_id(&self) -> ReviewId {
        self.review_id
    }

    pub(crate) fn action_digest(&self) -> ActionDigest {
        self.action_digest
    }
}

impl ServerKey {
    /// The key behind a signing key.
    #[must_use]
    pub fn new(key: VerifyingKey) -> Self {
        Self(key)
    }

    /// Reads the decision in `resource`.
    ///
    /// # Errors
    /// The answer is not believed: see [`ForgedAnswer`]. Nothing may run then.
    pub fn read_decision(
        &self,
        resource: &ReviewResource,
        expected: &Expected,
    ) -> Result<Decision, ForgedAnswer> {
        if !resource.status.is_terminal() {
            return Err(ForgedAnswer::Undecided);
        }
        if resource.action_digest != expected.action_digest || resource.nonce != expected.nonce {
            return Err(ForgedAnswer::OtherQuestion);
        }
        let expires_at = resource.expires_at.ok_or(ForgedAnswer::Signature)?;
        let kind = StatementKind::Decision {
            status: resource.status,
            expires_at,
        };
        self.check(
            kind,
            resource.review_id,
            expected,
            resource.signature.as_deref(),
        )?;
        decision(resource)
    }

    /// Reads the receipt in `answer`, for the approval that `review_id` names.
    ///
    /// # Errors
    /// The answer is not believed: see [`ForgedAnswer`]. Nothing may run then.
    pub fn read_receipt(
        &self,
        answer: &RedeemAnswer,
        review_id: ReviewId,
        expected: &Expected,
    ) -> Result<Receipt, ForgedAnswer> {
        if answer.review_id != review_id || answer.action_digest != expected.action_digest {
            return Err(ForgedAnswer::OtherQuestion);
        }
        let kind = StatementKind::Receipt {
            redeemed_at: answer.redeemed_at,
            scope: answer.scope,
        };
        self.check(kind, review_id, expected, Some(&answer.signature))?;
        Ok(Receipt {
            review_id,
            action_digest: answer.action_digest,
            scope: answer.scope,
        })
    }

    fn check(
        &self,
        kind: StatementKind,
        review_id: ReviewId,
        expected: &Expected,
        signature: Option<&str>,
    ) -> Result<(), ForgedAnswer> {
        let statement = Statement {
            kind,
            review_id,
            action_digest: expected.action_digest,
            session_id: expected.session_id.clone(),
            caller: expected.caller.clone(),
            nonce: expected.nonce.clone(),
        };
        let bytes = signature
            .and_then(|text| text.strip_prefix("ed25519:"))
            .and_then(unhex::<64>)
            .ok_or(ForgedAnswer::Signature)?;
        self.0
            .verify_strict(
                statement.to_canonical().as_bytes(),
                &Signature::from_bytes(&bytes),
            )
            .map_err(|_| ForgedAnswer::Signature)
    }
}

/// Spells a signature as it stands on the wire.
impl Statement {
    /// Signs it: `ed25519:` and 128 hex digits.
    #[must_use]
    pub fn sign(&self, key: &ed25519_dalek::SigningKey) -> String {
        use ed25519_dalek::Signer as _;
        format!(
            "ed25519:{}",
            hex(&key.sign(self.to_canonical().as_bytes()).to_bytes())
        )
    }
}

/// A believed answer as a decision. Only its consistency is left to check.
fn decision(resource: &ReviewResource) -> Result<Decision, ForgedAnswer> {
    match resource.status {
        ReviewStatus::Approved => match resource.decided_by {
            DecidedBy::Person => Ok(Decision::Approved(Grant::by_person(resource.action_digest))),
            DecidedBy::BuiltIn | DecidedBy::Model => {
                let judgement = judgement(resource, Outcome::Allow)?;
                Ok(Decision::Approved(Grant::judged(
                    resource.action_digest,
                    judgement,
                )))
            }
            DecidedBy::Rule | DecidedBy::None => Err(ForgedAnswer::Contradiction),
        },
        ReviewStatus::Denied => match resource.decided_by {
            DecidedBy::BuiltIn | DecidedBy::Model => Ok(Decision::Denied(Denial::Judged(
                judgement(resource, Outcome::Deny)?,
            ))),
            DecidedBy::Rule => {
                let rule = resource
                    .rule_id
                    .clone()
                    .ok_or(ForgedAnswer::Contradiction)?;
                Ok(Decision::Denied(Denial::ByRule(rule)))
            }
            DecidedBy::Person => {
                let reason = resource
                    .rationale
                    .as_ref()
                    .map_or_else(String::new, |reason| reason.as_str().to_owned());
                Ok(Decision::Denied(Denial::ByPerson(reason)))
            }
            DecidedBy::None => Err(ForgedAnswer::Contradiction),
        },
        ReviewStatus::TimedOut => Ok(Decision::TimedOut),
        ReviewStatus::Aborted => Ok(Decision::Aborted),
        ReviewStatus::Failed => resource
            .failure
            .clone()
            .map(Decision::Failed)
            .ok_or(ForgedAnswer::Contradiction),
        ReviewStatus::Reviewing => Err(ForgedAnswer::Undecided),
    }
}

fn judgement(resource: &ReviewResource, outcome: Outcome) -> Result<Judgement, ForgedAnswer> {
    let (Some(risk_level), Some(user_authorization), Some(rationale)) = (
        resource.risk_level,
        resource.user_authorization,
        resource.rationale.clone(),
    ) else {
        return Err(ForgedAnswer::Contradiction);
    };
    if resource.outcome != Some(outcome) {
        return Err(ForgedAnswer::Contradiction);
    }
    let judge = match (resource.decided_by, &resource.rule_id) {
        (DecidedBy::BuiltIn, Some(rule)) => Judge::BuiltIn(rule.clone()),
        (DecidedBy::BuiltIn, None) => Judge::BuiltIn(RuleId::new("built-in")),
        (DecidedBy::Model | DecidedBy::Rule | DecidedBy::Person | DecidedBy::None, _) => {
            Judge::Model
        }
    };
    let assessment = Assessment {
        risk_level,
        user_authorization,
        outcome,
        rationale,
    };
    Ok(Judgement { assessment, judge })
}

#[cfg(test)]
mod tests;
