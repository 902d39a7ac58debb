//! What a server does for its record from time to time: signs where the chains stand, and erases old payloads.
//!
//! Apart from reviewing, which never waits for it. Invariant: what fails here is logged and tried again; it makes no
//! review fail.

use std::num::NonZeroU32;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use clock::{Believed, Told};

use super::{Desk, now};
use crate::store::StoreError;
use crate::store::sqlite::erase::Erasure;
use crate::store::sqlite::forget::Forgetting;
use crate::store::sqlite::policies::KnownPolicy;

mod clock;

pub(crate) use clock::Clock;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);
/// For how long nobody has asked in a turn or session that is forgotten: more than any work takes.
const IDLE: Duration = Duration::from_secs(365 * 86_400);

/// How long what is kept; `None`: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Transcripts, evidence and what reviewers were shown, in days.
    pub(crate) payload_days: Option<NonZeroU32>,
    /// Whole reviews, in days; not fewer than payloads.
    pub(crate) verdict_days: Option<NonZeroU32>,
}

/// How often a round comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    EachMinute,
    EachDay,
}

impl Desk {
    /// One round.
    pub(crate) async fn keep_the_record(&self, retention: Retention, round: Round) {
        self.sign_heads().await;
        if let Err(error) = self.remove_old(retention, round).await {
            tracing::warn!(%error, "what is older than it is kept could not be removed");
        }
    }

    async fn remove_old(&self, retention: Retention, round: Round) -> Result<(), StoreError> {
        if retention.payload_days.is_none() && round == Round::EachMinute {
            return Ok(());
        }
        let Some(at) = self.believed_time().await? else {
            return Ok(());
        };
        if let Some(days) = retention.payload_days {
            self.erase_older_than(days, at).await?;
        }
        if let Some(days) = retention.verdict_days
            && round == Round::EachDay
        {
            self.forget_older_than(days, at).await?;
        }
        if round == Round::EachDay
            && let Ok(before) = at.checked_sub(IDLE)
        {
            let forgotten = self.store.forget_idle(before).await?;
            tracing::debug!(forgotten, "looked for idle turns and sessions");
        }
        Ok(())
    }

    /// The time that retention may go by; `None` where the clock is not believed.
    async fn believed_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest = self.store.newest_line().await?;
        let (told, seen) = (now(), Instant::now());
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = clock.get_or_insert_with(|| Clock::new(newest.unwrap_or(told), seen));
        match clock.believe(told, seen) {
            Believed::Yes => Ok(Some(told)),
            Believed::NotYet(ahead, Told::New) => {
                tracing::error!(
                    days_ahead = ahead.as_hours() / 24,
                    "this machine's clock is further ahead of the record than it may be: nothing is erased unless it says \
                     so for a day\nhint: if the clock is wrong, correct it now"
                );
                Ok(None)
            }
            Believed::NotYet(_, Told::Before) => Ok(None),
        }
    }

    /// Keeps the text of the policies that this server judges by. Who wrote them the settings do not say.
    pub(crate) async fn keep_policies(&self) -> Result<(), StoreError> {
        for tenant in self.store.tenants().await? {
            let reviewer = self.reviewer_of(&tenant.id);
            let policy = reviewer.policy();
            let sources = self.policies.sources();
            let table = sources.map(|sources| &sources.of(&tenant.id).policy);
            // Read again: a file that has changed since the start makes another policy, which nothing judges by.
            let body = table
                .and_then(|table| table.inlined().ok())
                .filter(|table| {
                    let made = reviewer.with_policy(table);
                    made.is_ok_and(|made| made.policy_revision() == policy.revision())
                })
                .and_then(|table| serde_json::to_string(&table).ok());
            let known = KnownPolicy {
                revision: policy.revision().to_string(),
                text: policy.document(),
                body: body.unwrap_or_default(),
                author: "settings".to_owned(),
                since: now(),
                tenant: tenant.id,
            };
            self.store.add_policy(known).await?;
        }
        Ok(())
    }

    /// Signs where every chain stands.
    pub(crate) async fn sign_heads(&self) {
        if let Err(error) = self.store.sign_heads(&self.key, now()).await {
            tracing::warn!(%error, "the heads of the record could not be signed");
        }
    }

    async fn erase_older_than(&self, days: NonZeroU32, at: Timestamp) -> Result<(), StoreError> {
        let Some(before) = days_before(at, days) else {
            return Ok(());
        };
        for tenant in self.store.tenants().await? {
            let erased = self.store.erase(of(tenant.id, before, at)).await?;
            if erased > 0 {
                tracing::info!(
                    erased,
                    "erased payloads that were older than the settings keep them"
                );
            }
        }
        Ok(())
    }
}

impl Desk {
    async fn forget_older_than(&self, days: NonZeroU32, at: Timestamp) -> Result<(), StoreError> {
        let Some(before) = days_before(at, days) else {
            return Ok(());
        };
        for tenant in self.store.tenants().await? {
            let wanted = Forgetting {
                tenant: tenant.id,
                before,
                at,
                by: "retention.verdict_days".to_owned(),
            };
            let lines = self.store.forget(wanted, &self.key).await?;
            if lines > 0 {
                tracing::info!(lines, "let go what was older than the settings keep it");
            }
        }
        Ok(())
    }
}

/// `None` before the beginning of time.
fn days_before(at: Timestamp, days: NonZeroU32) -> Option<Timestamp> {
    at.checked_sub(DAY.saturating_mul(days.get())).ok()
}

fn of(tenant: protocol::TenantId, before: Timestamp, at: Timestamp) -> Erasure {
    Erasure {
        tenant,
        before,
        at,
        by: "retention.payload_days".to_owned(),
    }
}
