//! Leave to do one action, once, and the proof without which nothing runs with wider walls (P1).
//!
//! Neither [`Grant`] nor [`PermittedAction`] can be copied, built from parts or read from bytes. A grant alone moves
//! nothing: it takes the server's signed [`Receipt`] that the approval was spent, for the same review and action.

use thiserror::Error;

use crate::action::{Action, ActionDigest};
use crate::decision::{Judgement, RuleId};
use crate::review::ReviewId;
use crate::signing::Receipt;

/// Leave to do one action, once. Made by [`crate::Decision::from_assessment`], by a person's yes, or read from a
/// decision whose signature held.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    action: ActionDigest,
    judgement: Option<Judgement>,
}

/// Why a grant does not cover what is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GrantMismatch {
    /// The action is not the one that was approved.
    #[error("the action to be run is not the action that was approved")]
    Action,
    /// The receipt is for another review or another action.
    #[error("the receipt belongs to another approval")]
    Receipt,
}

impl Grant {
    pub(crate) fn judged(action: ActionDigest, judgement: Judgement) -> Self {
        Self {
            action,
            judgement: Some(judgement),
        }
    }

    /// A person's yes to `action`.
    #[must_use]
    pub fn by_person(action: ActionDigest) -> Self {
        Self {
            action,
            judgement: None,
        }
    }

    /// The judgement behind it; `None` for a person's grant.
    #[must_use]
    pub fn judgement(&self) -> Option<&Judgement> {
        self.judgement.as_ref()
    }

    /// The digest of what was approved.
    #[must_use]
    pub fn action_digest(&self) -> ActionDigest {
        self.action
    }

    /// Trades the spent grant for leave to run exactly `action`.
    ///
    /// # Errors
    /// `action` is not what was approved, or the receipt is for something else. Nothing may run then.
    pub fn permit(
        self,
        receipt: &Receipt,
        action: Action,
    ) -> Result<PermittedAction, GrantMismatch> {
        if action.digest() != self.action {
            return Err(GrantMismatch::Action);
        }
        if receipt.action_digest() != self.action {
            return Err(GrantMismatch::Receipt);
        }
        let source = match self.judgement {
            Some(_) => PermitSource::Review(receipt.review_id()),
            None => PermitSource::Person(receipt.review_id()),
        };
        Ok(PermittedAction { action, source })
    }
}

/// An action that may run with wider walls: the only thing that moves them.
#[derive(Debug)]
pub struct PermittedAction {
    action: Action,
    source: PermitSource,
}

/// Who gave leave: the four sources of P1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermitSource {
    /// A reviewer approved it.
    Review(ReviewId),
    /// A person approved it.
    Person(ReviewId),
    /// An allow rule covers it.
    AllowRule(RuleId),
    /// Full access was chosen by name.
    FullAccess,
}

/// The person's own words `danger-full-access`, read from their settings or command line. Made where settings are read
/// and nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct FullAccessByName(());

impl FullAccessByName {
    /// Reads the name.
    #[must_use]
    pub fn parse(sandbox_mode: &str) -> Option<Self> {
        (sandbox_mode == "danger-full-access").then_some(Self(()))
    }
}

impl PermittedAction {
    /// Leave by full access, chosen by name.
    #[must_use]
    pub fn by_full_access(_: FullAccessByName, action: Action) -> Self {
        Self {
            action,
            source: PermitSource::FullAccess,
        }
    }

    /// Leave by an allow rule of the user's or the administrator's that covers every word of `action`; the caller has
    /// judged that, and written it down.
    #[must_use]
    pub fn by_allow_rule(rule: RuleId, action: Action) -> Self {
        Self {
            action,
            source: PermitSource::AllowRule(rule),
        }
    }

    /// Leave from any source, for tests of what takes it.
    #[cfg(test)]
    pub(crate) fn for_tests(action: Action, source: PermitSource) -> Self {
        Self { action, source }
    }

    /// What may run.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Who gave leave.
    #[must_use]
    pub fn source(&self) -> &PermitSource {
        &self.source
    }
}
