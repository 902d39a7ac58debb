//! The record's door: what the service asks of a store, in words that know no database.
//!
//! Apart, so that PostgreSQL can stand beside SQLite behind the same contract (`store/contract.rs`). Invariant: an
//! `Ok` means that the change is durable (design P4); on an `Err` nothing was promised to anybody.

use jiff::Timestamp;
use protocol::{
    ActionDigest, CallerId, FailedStep, HistoryEntry, Nonce, ReceiptScope, ReviewId, ReviewStatus,
    TenantId,
};
use thiserror::Error;

use crate::owner::OwnerId;
use crate::verdict::Verdict;

mod bodies;
mod chain;
#[cfg(test)]
mod contract;
pub(crate) mod leave;
pub(crate) mod search;
pub(crate) mod sqlite;
pub(crate) mod turns;

pub(crate) use bodies::Spelled;
pub(crate) use leave::{Leave, LeaveKey, LeaveToSpend, Withdrawal, Withdrawn};
pub(crate) use sqlite::{Noted, SqliteStore};
pub(crate) use turns::{SessionRecord, TurnKey, TurnRecord, TurnReference, Words};

/// Keeps reviews.
pub(crate) trait ReviewStore: Send + Sync + 'static {
    /// Opens a review, unless its nonce or session says otherwise.
    fn open(&self, opening: Opening) -> impl Future<Output = Result<Opened, StoreError>> + Send;
    /// Opens a review that has been decided already, and ends it so: both events, or neither.
    fn record(
        &self,
        opening: Opening,
        ending: Ending,
    ) -> impl Future<Output = Result<Opened, StoreError>> + Send;
    /// Ends a review, unless it has ended already.
    fn end(&self, ending: Ending) -> impl Future<Output = Result<Ended, StoreError>> + Send;
    /// Spends an approval, once.
    fn redeem(
        &self,
        redemption: Redemption,
    ) -> impl Future<Output = Result<Redeemed, StoreError>> + Send;
    /// Ends every open review of `owner` with `verdict`; how each of them ended.
    fn end_all_of(
        &self,
        owner: OwnerId,
        closing: Closing,
    ) -> impl Future<Output = Result<Vec<Ending>, StoreError>> + Send;
    /// Who holds open reviews.
    fn owners_of_open(&self) -> impl Future<Output = Result<Vec<OwnerId>, StoreError>> + Send;
    /// One review that `sight` covers.
    fn review(
        &self,
        sight: &Sight,
        review_id: ReviewId,
    ) -> impl Future<Output = Result<Option<Recorded>, StoreError>> + Send;
    /// Reviews that `sight` covers, newest first: fewer than `page` asks for where they are large.
    fn page(
        &self,
        sight: &Sight,
        page: &Page,
    ) -> impl Future<Output = Result<Found, StoreError>> + Send;
    /// Writes something, durably.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Whose reviews are meant: nobody sees or touches another caller's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) tenant: TenantId,
    pub(crate) caller: CallerId,
}

/// Whose reviews are looked at. Nobody looks past a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// One caller's own.
    Own(Scope),
    /// A whole tenant's.
    Tenant(TenantId),
}

impl Sight {
    pub(crate) fn tenant(&self) -> &TenantId {
        match self {
            Self::Own(scope) => &scope.tenant,
            Self::Tenant(tenant) => tenant,
        }
    }

    /// The one caller, where there is only one.
    pub(crate) fn caller(&self) -> Option<&CallerId> {
        match self {
            Self::Own(scope) => Some(&scope.caller),
            Self::Tenant(_) => None,
        }
    }

    /// Whether a review of `scope` may be seen.
    pub(crate) fn covers(&self, scope: &Scope) -> bool {
        let caller = self.caller();
        *self.tenant() == scope.tenant && caller.is_none_or(|caller| *caller == scope.caller)
    }
}

/// A review about to be opened.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) nonce: Nonce,
    /// SHA-256 over `question` and `context`: tells a repeated submission from another one.
    pub(crate) request_digest: [u8; 32],
    pub(crate) session_id: Option<String>,
    pub(crate) turn: TurnReference,
    /// What the user had said, where the submission carries words of theirs.
    pub(crate) words: Option<Words>,
    pub(crate) action_digest: ActionDigest,
    pub(crate) policy_revision: String,
    pub(crate) owner: OwnerId,
    pub(crate) created_at: Timestamp,
    pub(crate) deadline_at: Timestamp,
    /// What the history shows, as JSON: action, trigger, session, environment, client.
    pub(crate) question: String,
    /// The rest of the submission, as JSON: transcript, evidence and the like.
    pub(crate) context: String,
}

/// What became of an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is open.
    New,
    /// The same caller sent the same body under the same nonce before: this review.
    Same(ReviewId),
    /// The same caller sent another body under the same nonce before.
    OtherBody,
    /// The session belongs to another caller.
    SessionTaken,
    /// The turn is stopped: it was opened, and ended at once as `failed`.
    Stopped(Box<RecordedEnd>),
}

/// How a review ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) verdict: Verdict,
    pub(crate) completed_at: Timestamp,
    /// Until when an approval can be spent.
    pub(crate) expires_at: Timestamp,
    /// What the reviewer was shown and tried, as JSON.
    pub(crate) exhibit: Option<String>,
    /// How it ends where the leave that its verdict leans on was spent or ran out by then.
    pub(crate) without_leave: Option<Box<Verdict>>,
    /// What it is to the turn's breaker.
    pub(crate) tally: Tally,
}

/// Whether a turn counts an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    /// It is one of its own.
    Counted,
    /// It repeats what an identical question came to at the same time, which is counted.
    Shared,
}

impl Ending {
    /// The end that is on record of a review that nobody judged.
    pub(crate) fn as_recorded(review_id: ReviewId, scope: &Scope, end: &RecordedEnd) -> Self {
        Self {
            review_id,
            scope: scope.clone(),
            verdict: end.verdict.clone(),
            completed_at: end.completed_at,
            expires_at: end.expires_at,
            exhibit: None,
            without_leave: None,
            tally: Tally::Counted,
        }
    }
}

/// What became of an [`Ending`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ended so.
    Recorded,
    /// It had ended before; nothing changed.
    Before,
    /// It ended so instead of approved: the user had said something more by then, or the leave was not there any more.
    Instead(Box<Verdict>),
}

/// The end of everything that an owner left open.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    pub(crate) verdict: Verdict,
    pub(crate) at: Timestamp,
}

/// An approval about to be spent.
#[derive(Debug, Clone)]
pub(crate) struct Redemption {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) session_id: Option<String>,
    pub(crate) action_digest: ActionDigest,
    /// How long leave for a host holds, where the runner is told.
    pub(crate) host_scope: ReceiptScope,
    pub(crate) at: Timestamp,
}

/// What became of a [`Redemption`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// It is spent, for the question with this nonce.
    Spent(Nonce),
    /// It cannot be spent.
    Refused(RedeemRefusal),
    /// This caller has no such review.
    Unknown,
}

/// Why an approval cannot be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedeemRefusal {
    /// The review did not end in an approval.
    NotApproved,
    /// It was spent before.
    AlreadySpent,
    /// It covers another action.
    OtherAction,
    /// It was given in another session.
    OtherSession,
    /// Its time is over, or the clock was set back to before it was given.
    Expired,
}

/// How a run ended, about to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct RanReport {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) action_digest: ActionDigest,
    pub(crate) at: Timestamp,
    /// The report as JSON, as it stands in the chain.
    pub(crate) body: String,
}

/// What became of a [`RanReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It is on record, from now or from before.
    Recorded,
    /// Another one is on record.
    Before,
    /// The review is no approval that was spent.
    NotSpent,
    /// The approval covers another action.
    OtherAction,
    /// This caller has no such review.
    Unknown,
}

/// One review as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) nonce: Nonce,
    pub(crate) session_id: Option<String>,
    pub(crate) action_digest: ActionDigest,
    pub(crate) policy_revision: String,
    pub(crate) created_at: Timestamp,
    /// `None` while it is open.
    pub(crate) end: Option<RecordedEnd>,
    pub(crate) redeemed_at: Option<Timestamp>,
}

/// How a recorded review ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedEnd {
    pub(crate) verdict: Verdict,
    pub(crate) completed_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryLine {
    pub(crate) recorded: Recorded,
    pub(crate) question: Question,
}

/// What [`Opening::question`] holds, as far as the history shows it.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub(crate) struct Question {
    pub(crate) session: protocol::SessionReference,
    pub(crate) environment: protocol::EnvironmentDescription,
    pub(crate) action: protocol::Action,
    pub(crate) trigger: protocol::Trigger,
}

impl HistoryLine {
    /// The line as it travels.
    pub(crate) fn into_entry(self, review: protocol::ReviewResource) -> HistoryEntry {
        HistoryEntry {
            review,
            action: self.question.action,
            trigger: self.question.trigger,
            session: self.question.session,
            environment: self.question.environment,
            redeemed_at: self.recorded.redeemed_at,
        }
    }
}

/// Which reviews a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: Option<ReviewStatus>,
    pub(crate) before: Option<ReviewId>,
    pub(crate) limit: u32,
}

/// A page of what was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lines: Vec<HistoryLine>,
    /// Before which review the next page begins, where one follows. It may be another than the last line's: what was found
    /// and is not shown counts as read.
    pub(crate) next_before: Option<ReviewId>,
}

/// Why the store did not do it. Nothing was promised to anybody then.
#[derive(Debug, Clone, Error)]
pub(crate) enum StoreError {
    /// Another process held the database for too long.
    #[error("the database is locked by another process")]
    Locked,
    /// No room is left.
    #[error("no room is left for the database\nhint: make room on its disk; it goes on by itself")]
    Full,
    /// It cannot be written.
    #[error("the database cannot be written")]
    ReadOnly,
    /// The disk does not read or write it. Goes on by itself once the disk does.
    #[error(
        "the disk under the database fails (SQLite's code {0})\nhint: see the kernel's log; nothing counts that was not \
         written, and `auto-review-server verify` says what holds"
    )]
    Disk(u32),
    /// The disk lost something on its way from the log to the database. What was promised is in the log.
    #[error(
        "the disk under the database lost a write\nhint: once it works, start anew: what was recorded is read again from \
         the database's log"
    )]
    Lost,
    /// Its files were removed or replaced.
    #[error("the database's files were removed or replaced")]
    Gone,
    /// What it holds contradicts itself.
    #[error("the record contradicts itself: {0}")]
    Corrupt(&'static str),
    /// It does not hold, so nothing of it is let go.
    #[error(
        "line {seq} of the record does not hold ({what}): nothing is let go\nhint: `auto-review-server verify` holds all of it"
    )]
    DoesNotHold {
        /// The number of the line.
        seq: i64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The database reports something else.
    #[error("the database failed: {0}")]
    Database(String),
}

impl StoreError {
    /// The failure that is recorded, once the store can be written again, for a review whose end could not be.
    pub(crate) fn failure() -> protocol::ReviewFailure {
        protocol::ReviewFailure {
            step: FailedStep::Store,
            code: "not_recorded".to_owned(),
            retryable: true,
            message: "The review ended, but its record could not be written in time, so it does not count."
                .to_owned(),
        }
    }
}
