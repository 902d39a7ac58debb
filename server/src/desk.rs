//! The desk: takes escalations in, has them judged, records how they ended, and lets callers wait.
//!
//! The one place where store, reviewer and callers meet (steps 6 to 9 of an escalation's walk). Invariants: no model and
//! no person is asked about what is not on record; nobody is told an end before it is on record; every review that was
//! opened here ends, or is left to recovery by losing its owner's lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use protocol::{
    Answer, Escalation, HostScope, Nonce, ReviewId, ReviewStatus, SubmitReview, TenantId,
};
use reviewer::Reviewer;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::conversations::Conversations;
use crate::error::ApiError;
use crate::flight::{Flight, Progress, Reply};
use crate::intake::{Accepted, accept};
use crate::key::SigningKey;
use crate::model_health::ModelHealth;
use crate::owner::{OwnerId, OwnerLock, OwnerLocks};
use crate::policies::Policies;
use crate::role::{Right, Roles};
use crate::service::Limits;
use crate::store::{
    Ended, Ending, Found, Opened, Page, Recorded, RecordedEnd, Redeemed, Redemption,
    ReviewStore as _, Scope, Sight, SqliteStore, StoreError, Tally,
};
use crate::stream::Streams;
use crate::telemetry::{Asked, Observer};
use crate::verdict::Verdict;
use crate::webhook::WebhookSettings;

mod at_once;
mod judging;
mod keeping;
pub(crate) mod leave;
mod people;
mod recovery;
mod shadow;
mod together;

pub(crate) use judging::{Asks, Case};
pub(crate) use keeping::{Clock, Retention, Round};
pub(crate) use recovery::RecoveryError;
pub(crate) use shadow::Shadows;
pub(crate) use together::Together;

/// How often a review that another process holds is looked up while somebody waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long an abort waits for the end that it caused.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than its deadline the opening of a review may take before its caller is told that the store hangs.
const GRACE: Duration = Duration::from_secs(1);
/// The pauses between attempts to close a review whose end could not be recorded.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether who spends an approval is told how long leave for a host holds. A runner that does not ask would not believe a
/// receipt that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeIs {
    Told,
    Untold,
}

/// Who is calling, and who could answer for a person.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) scope: Scope,
    pub(crate) people: People,
    pub(crate) roles: Roles,
    /// The human behind the caller, where that is known.
    pub(crate) person: Option<String>,
}

impl Caller {
    /// Refuses who has no role that gives `right`.
    pub(crate) fn may(&self, right: Right) -> Result<(), ApiError> {
        if self.roles.allow(right) {
            Ok(())
        } else {
            Err(ApiError::Forbidden)
        }
    }

    /// What the caller may see: the tenant's reviews, or its own.
    pub(crate) fn sight(&self) -> Result<Sight, ApiError> {
        if self.roles.allow(Right::SeeTenant) {
            return Ok(Sight::Tenant(self.scope.tenant.clone()));
        }
        self.may(Right::SeeOwn)?;
        Ok(Sight::Own(self.scope.clone()))
    }
}

/// Whether a person can answer reviews that wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum People {
    /// One sits at this terminal.
    AtThisTerminal,
    /// The tenant has tokens of approvers.
    Approvers,
    /// Nobody can.
    Nobody,
}

/// What the desk works with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) store: SqliteStore,
    /// Judges where a tenant has no reviewer of its own.
    pub(crate) reviewer: Arc<Reviewer>,
    /// Judges by a tenant's own settings and policy.
    pub(crate) tenants: BTreeMap<TenantId, Arc<Reviewer>>,
    /// Which policy judges, where the record says so.
    pub(crate) policies: Policies,
    /// Room for judging alongside; nothing where this process has none.
    pub(crate) shadows: OnceLock<Shadows>,
    pub(crate) key: SigningKey,
    /// Channels that may mark text as the user's (D15).
    pub(crate) speaks_for_user: BTreeSet<String>,
    pub(crate) limits: Limits,
    /// This process, as the owner of what it holds open.
    pub(crate) owner: OwnerId,
    /// The proof that it lives, until it is closed.
    pub(crate) lock: Mutex<Option<OwnerLock>>,
    pub(crate) locks: OwnerLocks,
    /// What is taken on.
    pub(crate) admission: Arc<Admission>,
    /// Set where this process keeps the record: signs its heads and erases what is old.
    pub(crate) keeps: OnceLock<()>,
    /// Identical questions that are being judged.
    pub(crate) together: Together,
    /// Reviews that this process is judging.
    pub(crate) flights: Mutex<HashMap<ReviewId, Arc<Flight>>>,
    /// What models were shown, by session.
    pub(crate) conversations: Conversations,
    /// Whether models can be had.
    pub(crate) models: ModelHealth,
    pub(crate) tasks: TaskTracker,
    /// Streams of events that are open.
    pub(crate) streams: Arc<Streams>,
    /// Exports and verifications that are under way.
    pub(crate) long_reads: Arc<Streams>,
    /// Who is told what reviews come to.
    pub(crate) observer: Observer,
    /// How webhooks are told; nothing where this process tells none.
    pub(crate) webhooks: OnceLock<Arc<WebhookSettings>>,
    /// The time that retention believes; nothing before the first round.
    pub(crate) clock: Mutex<Option<Clock>>,
    /// What was closed before anybody could be told of it.
    pub(crate) untold: Mutex<Vec<Ending>>,
    /// Set when the service goes down.
    pub(crate) stopping: CancellationToken,
}

impl Desk {
    /// Takes a submission in and waits for its end, at most `wait`.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        caller: &Caller,
        nonce: Nonce,
        body: SubmitReview,
        wait: Duration,
    ) -> Result<Recorded, ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::Draining);
        }
        let until = Instant::now() + wait;
        let mut accepted = accept(self, caller, nonce, body)?;
        let asked = self.observer.asked(&accepted);
        let room = self.admission.admit(&caller.scope, accepted.kibibytes)?;
        let case = &mut accepted.case;
        if let Some(judged) = self.judge_at_once(&caller.scope, case, wait).await {
            return self.record_at_once(accepted, judged, (until, asked)).await;
        }
        let waits_for_model = accepted.case.asks == Asks::Others;
        if waits_for_model && !accepted.case.escalation.must_be_human {
            let time = accepted.case.deadline.duration_since(Instant::now());
            self.admission.in_time(&caller.scope.tenant, time)?;
        }
        let flight = Flight::new(accepted.as_recorded(), caller.person.clone());
        let flight = Arc::new(flight);
        self.flights()
            .insert(flight.review_id(), Arc::clone(&flight));
        let (opened, told) = oneshot::channel();
        let deadline = accepted.case.deadline + GRACE;
        // A task of its own: a caller that goes away must not leave a review open and unjudged.
        let (desk, carried) = (Arc::clone(self), Arc::clone(&flight));
        drop(self.tasks.spawn(async move {
            desk.carry((accepted, asked), &carried, opened).await;
            drop(room);
        }));
        // A store that hangs takes no caller past the deadline; what it opens after that times out at once.
        let told = tokio::time::timeout_at(deadline, told).await;
        let told = told.map_err(|_elapsed| StoreError::Locked)?;
        match told.map_err(|_gone| StoreError::Closed)?? {
            Opened::New | Opened::Stopped(_) => flight.wait(until).await.map_err(ApiError::Store),
            Opened::Same(before) => {
                self.wait(&Sight::Own(caller.scope.clone()), before, until)
                    .await
            }
            Opened::OtherBody => Err(ApiError::IdempotencyConflict),
            Opened::SessionTaken => Err(ApiError::SessionTaken),
        }
    }

    /// A review, after waiting for its end until `until` at most.
    pub(crate) async fn wait(
        &self,
        sight: &Sight,
        review_id: ReviewId,
        until: Instant,
    ) -> Result<Recorded, ApiError> {
        loop {
            if let Some(flight) = self.flight(sight, review_id) {
                return flight.wait(until).await.map_err(ApiError::Store);
            }
            let recorded = self.recorded(sight, review_id).await?;
            let enough = recorded.end.is_some() || self.stopping.is_cancelled();
            if enough || Instant::now() >= until {
                return Ok(recorded);
            }
            tokio::time::sleep_until(until.min(Instant::now() + LOOK_AGAIN)).await;
        }
    }

    /// A page of what the caller may see.
    pub(crate) async fn page(&self, sight: &Sight, page: &Page) -> Result<Found, ApiError> {
        Ok(self.store.page(sight, page).await?)
    }

    /// Who judges for `tenant` by the settings; [`Desk::reviewer_for`] knows what the record says.
    pub(crate) fn reviewer_of(&self, tenant: &TenantId) -> &Arc<Reviewer> {
        self.tenants.get(tenant).unwrap_or(&self.reviewer)
    }

    /// Takes a question back.
    pub(crate) async fn abort(
        &self,
        scope: &Scope,
        review_id: ReviewId,
    ) -> Result<Recorded, ApiError> {
        let recorded = match self.flight(&Sight::Own(scope.clone()), review_id) {
            Some(flight) => {
                flight.abort();
                flight.wait(Instant::now() + ABORT_PATIENCE).await?
            }
            None => self.abort_elsewhere(scope, review_id).await?,
        };
        match recorded.end.as_ref().map(|end| end.verdict.status) {
            Some(ReviewStatus::Aborted) | None => Ok(recorded),
            Some(
                ReviewStatus::Reviewing
                | ReviewStatus::Approved
                | ReviewStatus::Denied
                | ReviewStatus::TimedOut
                | ReviewStatus::Failed,
            ) => Err(ApiError::AlreadyEnded),
        }
    }

    /// Spends an approval. Whoever is to be told how long leave for a host holds is told what is on record.
    pub(crate) async fn redeem(
        &self,
        redemption: &mut Redemption,
        told: ScopeIs,
    ) -> Result<Nonce, ApiError> {
        if told == ScopeIs::Told {
            let sight = Sight::Own(redemption.scope.clone());
            let recorded = self.recorded(&sight, redemption.review_id).await?;
            let scope = recorded.end.map(|end| end.verdict.receipt_scope());
            redemption.host_scope = scope.unwrap_or_default();
        }
        match self.store.redeem(redemption.clone()).await? {
            Redeemed::Spent(nonce) => Ok(nonce),
            Redeemed::Refused(refusal) => Err(ApiError::NotRedeemable(refusal)),
            Redeemed::Unknown => Err(ApiError::NotFound),
        }
    }

    /// Hands a person's answer to the review that waits for it, and waits for the end.
    pub(crate) async fn answer(
        &self,
        scope: &Scope,
        review_id: ReviewId,
        answer: Answer,
    ) -> Result<Recorded, ApiError> {
        let sight = Sight::Own(scope.clone());
        let Some(flight) = self.flight(&sight, review_id) else {
            self.recorded(&sight, review_id).await?;
            return Err(ApiError::NotWaiting);
        };
        // As short as an approver's: what is masked and kept has an end.
        let reason = match &answer.reason {
            Some(said) => Some(self.said(&scope.tenant, people::reason_of(said)?)),
            None => None,
        };
        let answer = Answer { reason, ..answer };
        // The terminal's own runner knows how long its user's yes holds.
        let reply = Reply {
            answer,
            by: None,
            scope: HostScope::Once,
        };
        if !flight.answer(reply) {
            return Err(ApiError::NotWaiting);
        }
        Ok(flight.wait(Instant::now() + ABORT_PATIENCE).await?)
    }

    /// Says that this process holds nothing open any more.
    pub(crate) fn release_lock(&self) {
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// From acceptance to the record.
    async fn carry(
        self: Arc<Self>,
        (accepted, asked): (Accepted, Option<Asked>),
        flight: &Arc<Flight>,
        opened: oneshot::Sender<Result<Opened, StoreError>>,
    ) {
        let _landing = Landing {
            desk: &self,
            flight,
        };
        let Accepted { opening, case, .. } = accepted;
        let outcome = self.store.open(opening).await;
        let is_open = matches!(outcome, Ok(Opened::New));
        if let Ok(Opened::Stopped(end)) = &outcome {
            let ending = Ending::as_recorded(flight.review_id(), flight.scope(), end);
            self.observer.ended(asked.as_ref(), &ending);
            flight.land(Progress::Ended(end.clone()));
        }
        if opened.send(outcome).is_err() {
            tracing::debug!("the caller went away while its review was opened");
        }
        if is_open {
            let trace = asked.as_ref().and_then(Asked::traceparent);
            let judged = reviewer::in_trace(trace, self.judge(&case, flight)).await;
            let shadow = self.shadow_for(&flight.scope().tenant, &judged.verdict);
            let shadow = shadow.map(|shadow| (shadow, case.escalation));
            self.record(flight, (judged, shadow), asked.as_ref()).await;
        }
    }

    fn ending(&self, review_id: ReviewId, scope: &Scope, judged: judging::Judged) -> Ending {
        let completed_at = now();
        Ending {
            review_id,
            scope: scope.clone(),
            verdict: judged.verdict,
            completed_at,
            expires_at: after(completed_at, self.limits.approval_lifetime),
            exhibit: judged.exhibit,
            without_leave: judged.without_leave,
            tally: judged.tally,
        }
    }

    async fn record(
        self: &Arc<Self>,
        flight: &Flight,
        (judged, shadow): (judging::Judged, Option<(Arc<Reviewer>, Escalation)>),
        asked: Option<&Asked>,
    ) {
        let ending = self.ending(flight.review_id(), flight.scope(), judged);
        match self.store.end(ending.clone()).await {
            Ok(Ended::Recorded) => {
                self.observer.ended(asked, &ending);
                let status = ending.verdict.status;
                flight.land(Progress::ended(RecordedEnd {
                    verdict: ending.verdict,
                    completed_at: ending.completed_at,
                    expires_at: ending.expires_at,
                }));
                if let Some((reviewer, escalation)) = shadow {
                    let ended = (flight.review_id(), flight.scope(), status);
                    self.judge_alongside(reviewer, ended, escalation);
                }
            }
            Ok(Ended::Instead(verdict)) => {
                let ending = Ending {
                    verdict: *verdict,
                    ..ending
                };
                self.observer.ended(asked, &ending);
                flight.land(Progress::ended(RecordedEnd {
                    verdict: ending.verdict,
                    completed_at: ending.completed_at,
                    expires_at: ending.expires_at,
                }));
            }
            Ok(Ended::Before) => {
                let sight = Sight::Own(flight.scope().clone());
                let before = self.store.review(&sight, flight.review_id()).await;
                flight.land(
                    match before.map(|recorded| recorded.and_then(|it| it.end)) {
                        Ok(Some(end)) => Progress::ended(end),
                        Ok(None) => {
                            Progress::Lost(StoreError::Corrupt("an ended review is missing"))
                        }
                        Err(error) => Progress::Lost(error),
                    },
                );
            }
            Err(error) => {
                tracing::error!(%error, "the end of a review could not be recorded; it will be closed as failed");
                flight.land(Progress::Lost(error));
                self.flights().remove(&flight.review_id());
                self.close_as_failed(ending, asked).await;
            }
        }
    }

    /// Keeps trying until the store takes it. Going down, it tries once more; what stays open then is recovery's.
    async fn close_as_failed(&self, ending: Ending, asked: Option<&Asked>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let last = self.stopping.is_cancelled();
            let failed = Ending {
                verdict: Verdict::failed(StoreError::failure()),
                completed_at: now(),
                exhibit: None,
                ..ending.clone()
            };
            let closed = self.store.end(failed.clone()).await;
            if matches!(closed, Ok(Ended::Recorded)) {
                self.observer.ended(asked, &failed);
            }
            if closed.is_ok() || last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = self.stopping.cancelled() => {}
            }
        }
    }

    async fn abort_elsewhere(
        &self,
        scope: &Scope,
        review_id: ReviewId,
    ) -> Result<Recorded, ApiError> {
        let sight = Sight::Own(scope.clone());
        let recorded = self.recorded(&sight, review_id).await?;
        if recorded.end.is_some() {
            return Ok(recorded);
        }
        let completed_at = now();
        let ending = Ending {
            review_id,
            scope: scope.clone(),
            verdict: Verdict::of(protocol::Decision::Aborted, None),
            completed_at,
            expires_at: completed_at,
            exhibit: None,
            without_leave: None,
            tally: Tally::Counted,
        };
        // Whoever records an end tells of it; the process that took the question in sees it ended before.
        if self.store.end(ending.clone()).await? == Ended::Recorded {
            self.observe_ends(&[ending]).await;
        }
        self.recorded(&sight, review_id).await
    }

    async fn recorded(&self, sight: &Sight, review_id: ReviewId) -> Result<Recorded, ApiError> {
        let recorded = self.store.review(sight, review_id).await?;
        recorded.ok_or(ApiError::NotFound)
    }

    /// How many reviews of `tenant` are under way here.
    pub(crate) fn in_flight(&self, tenant: &TenantId) -> usize {
        let flights = self.flights();
        let ours = flights.values().filter(|it| it.scope().tenant == *tenant);
        ours.count()
    }

    fn flight(&self, sight: &Sight, review_id: ReviewId) -> Option<Arc<Flight>> {
        let flight = self.flights().get(&review_id).map(Arc::clone)?;
        (flight.is_open() && sight.covers(flight.scope())).then_some(flight)
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<ReviewId, Arc<Flight>>> {
        // The map is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the desk, whatever way its task ends. Who still waits then learns that it was lost.
struct Landing<'a> {
    desk: &'a Desk,
    flight: &'a Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.desk.flights().remove(&self.flight.review_id());
        self.flight.land(Progress::Lost(StoreError::Closed));
    }
}

/// Now, to the millisecond: what is signed has no finer time.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// `from` and `time` later; `from` itself where the calendar ends.
pub(crate) fn after(from: Timestamp, time: Duration) -> Timestamp {
    let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let later = from.as_millisecond().saturating_add(milliseconds);
    Timestamp::from_millisecond(later).unwrap_or(from)
}
