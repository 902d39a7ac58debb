//! One review while this process judges it: how far it is, and how it is called back or answered.
//!
//! Apart, because it is shared between the task that judges and whoever waits. Invariant: it lands once; what it landed
//! in is on record or lost.

use std::sync::{Mutex, PoisonError};

use protocol::{Answer, ReviewId};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Recorded, RecordedEnd, Scope, StoreError};

/// How far a review is.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// It is judged, or its end is being recorded.
    Open,
    /// It ended, on record.
    Ended(Box<RecordedEnd>),
    /// How it ended could not be recorded.
    Lost(StoreError),
}

impl Progress {
    pub(crate) fn ended(end: RecordedEnd) -> Self {
        Self::Ended(Box::new(end))
    }
}

/// One review while this process judges it.
#[derive(Debug)]
pub(crate) struct Flight {
    opened: Recorded,
    progress: watch::Sender<Progress>,
    abort: CancellationToken,
    person: Mutex<Option<oneshot::Sender<Answer>>>,
}

impl Flight {
    /// A review that is about to be opened as `opened`.
    pub(crate) fn new(opened: Recorded) -> Self {
        Self {
            opened,
            progress: watch::Sender::new(Progress::Open),
            abort: CancellationToken::new(),
            person: Mutex::new(None),
        }
    }

    pub(crate) fn review_id(&self) -> ReviewId {
        self.opened.review_id
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.opened.scope
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Open)
    }

    /// Tells everybody how it ended. Only the first time counts.
    pub(crate) fn land(&self, landed: Progress) {
        self.progress.send_if_modified(|progress| {
            let first = matches!(progress, Progress::Open);
            if first {
                *progress = landed;
            }
            first
        });
    }

    /// Waits for the end, until `until` at most. An open review is an answer too.
    pub(crate) async fn wait(&self, until: Instant) -> Result<Recorded, StoreError> {
        let mut watched = self.progress.subscribe();
        let landed = watched.wait_for(|progress| !matches!(progress, Progress::Open));
        let progress = match tokio::time::timeout_at(until, landed).await {
            Ok(Ok(progress)) => progress.clone(),
            Ok(Err(_never_lands)) => Progress::Lost(StoreError::Closed),
            Err(_elapsed) => Progress::Open,
        };
        let end = match progress {
            Progress::Open => None,
            Progress::Ended(end) => Some(*end),
            Progress::Lost(error) => return Err(error),
        };
        Ok(Recorded {
            end,
            ..self.opened.clone()
        })
    }

    /// Takes the question back, if it is not decided yet.
    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }

    /// Resolves when the question is taken back.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// From now on a person may answer: here is where the answer comes out.
    pub(crate) fn ask_person(&self) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.person().replace(sender);
        receiver
    }

    /// Hands a person's answer in. `false`: nobody asked, or it was answered before.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        let asked = self.person().take();
        asked.is_some_and(|sender| sender.send(answer).is_ok())
    }

    fn person(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<Answer>>> {
        self.person.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
