//! What is asked of the writer, and how it answers.
//!
//! Apart from the rules, which need no channel. Invariant: each command is answered once, and only with what came of
//! itself; an answer that does not fit is an error, never an `Ok`.

use protocol::{ReviewId, TenantId};
use tokio::sync::oneshot;

use super::super::{
    Closing, Ended, Ending, Opened, Opening, Redeemed, Redemption, Scope, StoreError,
};
use crate::owner::OwnerId;

/// A change and the body of the event it makes.
#[derive(Debug)]
pub(super) struct Change<T> {
    pub(super) what: T,
    pub(super) body: String,
}

/// A review that is opened and ended at once.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) opening: Change<Opening>,
    pub(super) ending: Change<Ending>,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Open(Box<Change<Opening>>, Reply<Opened>),
    Record(Box<Recording>, Reply<Opened>),
    End(Box<Change<Ending>>, Reply<Ended>),
    Redeem(Box<Change<Redemption>>, Reply<Redeemed>),
    EndAllOf(OwnerId, Box<Closing>, Reply<Vec<Ending>>),
    Probe(i64, Reply<()>),
}

/// What came of a command, told once the batch is durable.
#[derive(Debug)]
pub(super) enum Outcome {
    Opened(Opened),
    Ended(Ended),
    Redeemed(Redeemed),
    EndedAll(Vec<Ending>),
    Done,
}

impl Command {
    /// What it opens.
    pub(super) fn opening(&self) -> Option<&Opening> {
        match self {
            Self::Open(change, _) => Some(&change.what),
            Self::Record(both, _) => Some(&both.opening.what),
            Self::End(..) | Self::Redeem(..) | Self::EndAllOf(..) | Self::Probe(..) => None,
        }
    }

    /// Whose chain grows by it.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.opening()
            .map(|opening| &opening.scope.tenant)
            .or_else(|| self.touches().map(|(scope, _)| &scope.tenant))
    }

    /// The review that must be read for it.
    pub(super) fn touches(&self) -> Option<(&Scope, ReviewId)> {
        match self {
            Self::End(change, _) => Some((&change.what.scope, change.what.review_id)),
            Self::Redeem(change, _) => Some((&change.what.scope, change.what.review_id)),
            Self::Open(..) | Self::Record(..) | Self::EndAllOf(..) | Self::Probe(..) => None,
        }
    }

    /// The review that it ends.
    pub(super) fn ends(&self) -> Option<(&Scope, ReviewId)> {
        match self {
            Self::End(change, _) => Some((&change.what.scope, change.what.review_id)),
            Self::Open(..)
            | Self::Record(..)
            | Self::Redeem(..)
            | Self::EndAllOf(..)
            | Self::Probe(..) => None,
        }
    }

    /// The review whose denial it lifts by a person's leave.
    pub(super) fn lifts(&self) -> Option<ReviewId> {
        match self {
            Self::End(change, _) => change.what.verdict.lifts,
            Self::Open(..)
            | Self::Record(..)
            | Self::Redeem(..)
            | Self::EndAllOf(..)
            | Self::Probe(..) => None,
        }
    }

    /// The owner whose open reviews must be read for it.
    pub(super) fn closes(&self) -> Option<&OwnerId> {
        match self {
            Self::EndAllOf(owner, _, _) => Some(owner),
            Self::Open(..)
            | Self::Record(..)
            | Self::End(..)
            | Self::Redeem(..)
            | Self::Probe(..) => None,
        }
    }

    /// Tells whoever waits. Nobody may wait any more; the change stands all the same.
    pub(super) fn settle(self, outcome: Result<Outcome, StoreError>) {
        let unsent = match (self, outcome) {
            (Self::Open(_, reply) | Self::Record(_, reply), Ok(Outcome::Opened(opened))) => {
                reply.send(Ok(opened)).is_err()
            }
            (Self::End(_, reply), Ok(Outcome::Ended(ended))) => reply.send(Ok(ended)).is_err(),
            (Self::Redeem(_, reply), Ok(Outcome::Redeemed(redeemed))) => {
                reply.send(Ok(redeemed)).is_err()
            }
            (Self::EndAllOf(_, _, reply), Ok(Outcome::EndedAll(ended))) => {
                reply.send(Ok(ended)).is_err()
            }
            (Self::Probe(_, reply), Ok(Outcome::Done)) => reply.send(Ok(())).is_err(),
            (command, Ok(_mismatch)) => {
                command.refuse(StoreError::Corrupt("a change has another change's outcome"))
            }
            (command, Err(error)) => command.refuse(error),
        };
        if unsent {
            tracing::debug!("nobody waits for a change any more");
        }
    }

    fn refuse(self, error: StoreError) -> bool {
        match self {
            Self::Open(_, reply) | Self::Record(_, reply) => reply.send(Err(error)).is_err(),
            Self::End(_, reply) => reply.send(Err(error)).is_err(),
            Self::Redeem(_, reply) => reply.send(Err(error)).is_err(),
            Self::EndAllOf(_, _, reply) => reply.send(Err(error)).is_err(),
            Self::Probe(_, reply) => reply.send(Err(error)).is_err(),
        }
    }
}
