//! What is taken on: how often a caller and a tenant may ask, how much room they get, and whether there is time.
//!
//! Apart from the desk, because it decides before anything is written: a question that is turned away here leaves no
//! trace in the record, and its `Idempotency-Key` stays unused. Pure but for its own counts. Invariant (P2): whatever is
//! turned away was not reviewed; nothing here ever says yes to an action.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::TenantId;
use tokio::time::Instant;

use crate::service::Limits;
use crate::store::Scope;

mod rate;
mod room;
mod slots;

use rate::Rates;
use room::Rooms;
pub(crate) use slots::Slots;

/// Why a question is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The caller or its tenant asks too often. When the next question is taken.
    TooOften(Duration),
    /// There is no room, or the tenant has its share of it.
    NoRoom,
    /// It would not be judged before its deadline. How long the wait is likely to be.
    TooLate(Duration),
}

/// What is taken on.
#[derive(Debug)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
    pub(crate) slots: Slots,
}

#[derive(Debug)]
struct Counts {
    rates: Rates,
    /// Of what runners tell without asking anything: it takes no question's place.
    reports: Rates,
    rooms: Rooms,
}

/// Reports of what doors decided, a minute, where the settings say nothing of rates: each is a line for ever.
const REPORTS_OF_CALLER: NonZeroU32 = NonZeroU32::new(600).unwrap();
const REPORTS_OF_TENANT: NonZeroU32 = NonZeroU32::new(6_000).unwrap();

/// Room that is held while a review is judged; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    admission: Arc<Admission>,
    tenant: TenantId,
    kibibytes: u32,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            counts: Mutex::new(Counts {
                rates: Rates::new(limits.per_minute_of_caller, limits.per_minute_of_tenant),
                reports: Rates::new(
                    limits.per_minute_of_caller.or(Some(REPORTS_OF_CALLER)),
                    limits.per_minute_of_tenant.or(Some(REPORTS_OF_TENANT)),
                ),
                rooms: Rooms::new(u32::from(limits.in_flight_mib) * 1024),
            }),
            slots: Slots::new(limits.models_at_once),
        }
    }

    /// Takes a question of `kibibytes` on, or says why not. Nothing is counted where it is refused.
    pub(crate) fn admit(self: &Arc<Self>, scope: &Scope, kibibytes: u32) -> Result<Held, Refused> {
        let mut counts = self.counts();
        let Counts { rates, rooms, .. } = &mut *counts;
        rooms.check(&scope.tenant, kibibytes)?;
        rates.count(scope, Instant::now())?;
        rooms.take(&scope.tenant, kibibytes);
        Ok(Held {
            admission: Arc::clone(self),
            tenant: scope.tenant.clone(),
            kibibytes,
        })
    }

    /// Takes a report on, as often as its caller and tenant may ask.
    pub(crate) fn admit_report(&self, scope: &Scope) -> Result<(), Refused> {
        self.counts().reports.count(scope, Instant::now())
    }

    /// Refuses a question that a model has to be asked about, where its turn would likely come after the `time` it has left.
    /// What the built-in rules decide and what a person decides waits for no model, and is not asked for here.
    pub(crate) fn in_time(&self, tenant: &TenantId, time: Duration) -> Result<(), Refused> {
        let wait = self.slots.likely_wait(tenant);
        if wait >= time {
            return Err(Refused::TooLate(wait));
        }
        Ok(())
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.rooms.give_back(&self.tenant, self.kibibytes);
    }
}

/// How many a minute; `None`: as many as like.
pub(crate) type PerMinute = Option<NonZeroU32>;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use protocol::{CallerId, TenantId};

    use super::{Admission, Refused};
    use crate::service::Limits;
    use crate::store::Scope;

    fn scope(tenant: &str, caller: &str) -> Scope {
        Scope {
            tenant: TenantId::parse(tenant).expect("a tenant"),
            caller: CallerId::stored(caller.to_owned()),
        }
    }

    #[tokio::test]
    async fn what_is_refused_for_room_counts_against_no_rate() {
        let admission = Arc::new(Admission::new(&Limits {
            in_flight_mib: 1,
            per_minute_of_caller: NonZeroU32::new(1),
            ..Limits::default()
        }));
        let one = scope("a", "x");
        for _ in 0..3 {
            let refused = admission.admit(&one, 2_000).expect_err("no room");
            assert_eq!(refused, Refused::NoRoom);
        }
        let held = admission.admit(&one, 10).expect("taken on");
        let refused = admission.admit(&one, 10).expect_err("too often");
        assert!(matches!(refused, Refused::TooOften(_)), "{refused:?}");
        drop(held);
    }

    #[tokio::test]
    async fn a_question_that_would_wait_past_its_deadline_is_turned_away_at_once() {
        let admission = Arc::new(Admission::new(&Limits {
            models_at_once: NonZeroU32::MIN,
            ..Limits::default()
        }));
        let one = scope("a", "x");
        let _judged = admission.slots.take(&one.tenant).await;
        admission.slots.state().mean = Duration::from_secs(10);
        let likely = admission.slots.likely_wait(&one.tenant);
        assert_eq!(likely, Duration::from_secs(10));
        let refused = admission.in_time(&one.tenant, Duration::from_secs(9));
        assert_eq!(refused, Err(Refused::TooLate(likely)));
        let taken = admission.in_time(&one.tenant, Duration::from_secs(11));
        assert_eq!(taken, Ok(()));
    }
}
