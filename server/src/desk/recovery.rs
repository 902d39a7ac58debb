//! Closes what processes that are gone left open, and nothing else.
//!
//! Apart, because it runs at start and on a timer, and must never touch a review whose owner lives: the proof is the
//! owner's lock, held while its reviews are closed.

use std::time::Duration;

use protocol::{FailedStep, ReviewFailure};

use super::{Desk, now};
use crate::owner::LockError;
use crate::store::{Closing, Ending, ReviewStore as _, Sight, StoreError};
use crate::verdict::Verdict;

/// How often recovery looks. A review of a dead process stays open this much longer at most.
const EVERY: Duration = Duration::from_secs(5);

/// Why recovery could not finish. It comes back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An owner's lock could not be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Desk {
    /// Closes every open review whose owner is gone; how each of them ended.
    pub(crate) async fn recover(&self) -> Result<Vec<Ending>, RecoveryError> {
        let owners = self.store.owners_of_open().await?;
        let mut closed = Vec::new();
        for owner in owners.iter().filter(|owner| **owner != self.owner) {
            let Some(gone) = self.locks.gone(owner)? else {
                continue;
            };
            let closing = Closing {
                verdict: Verdict::failed(restarted()),
                at: now(),
            };
            closed.extend(self.store.end_all_of(owner.clone(), closing).await?);
            drop(gone);
        }
        self.locks.sweep(&owners)?;
        Ok(closed)
    }

    /// Recovers again and again, until the service goes down.
    pub(crate) async fn keep_recovering(&self) {
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let recovered = self.recover().await;
            tell(&recovered);
            self.observe_ends(&recovered.unwrap_or_default()).await;
        }
    }

    /// Tells the observer of reviews that ended without the process that took them in: nobody else will.
    pub(crate) async fn observe_ends(&self, ended: &[Ending]) {
        for ending in ended {
            let sight = Sight::Own(ending.scope.clone());
            match self.store.detail(&sight, ending.review_id).await {
                Ok(Some(detail)) => {
                    let asked = self.observer.on_record(&detail);
                    self.observer.ended(asked.as_ref(), ending);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a review that was closed could not be told of");
                }
            }
        }
    }
}

fn tell(recovered: &Result<Vec<Ending>, RecoveryError>) {
    match recovered.as_ref().map(Vec::len) {
        Ok(0) => {}
        Ok(closed) => tracing::info!(closed, "closed reviews of processes that are gone"),
        Err(error) => tell_failure(error),
    }
}

fn tell_failure(error: &RecoveryError) {
    tracing::warn!(%error, "recovery could not finish");
}

fn restarted() -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::Restart,
        code: "owner_gone".to_owned(),
        retryable: true,
        message: "The process that held the review went away before it was finished.".to_owned(),
    }
}
