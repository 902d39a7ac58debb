//! Webhooks: whoever a tenant names is told how its reviews end, and what waits for a person.
//!
//! Apart from the reviews' own way, which never waits for it. What is to be told follows from the record (a delivery is
//! made in the transaction that looks at its event), so a crash, a restart or an outage of the other side loses nothing;
//! what is told may come late, twice and out of order, and says so by its number. Invariant: what cannot be told is tried
//! again at growing distances, and then kept as dead until somebody sends it again or its time is over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::{TenantId, WebhookMessage};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::desk::{Desk, after, now};
use crate::resource::resource;
use crate::store::sqlite::webhooks::{Delivery, Tried};
use crate::store::{ReviewStore as _, Sight, StoreError};

pub(crate) mod address;
mod post;
pub(crate) mod turns;

pub(crate) use post::Secret;
use post::{Letter, NotTold, PATIENCE, choose_crypto, post};
use turns::Turns;

/// Attempts under way at once.
const AT_ONCE: usize = 32;
/// How often the queue is looked at without being told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Events gather before they are looked at.
const GATHER: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long what was given up is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often what is older is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// `[webhooks]`, valid.
#[derive(Debug, Clone)]
pub(crate) struct WebhookSettings {
    /// Hosts that may have an address that is not public, and may be plain `http`.
    pub(crate) allowed_hosts: BTreeSet<String>,
    /// Certificates (PEM) trusted in the place of the machine's own.
    pub(crate) ca: Option<String>,
    /// How often a delivery is tried.
    pub(crate) attempts: u32,
    /// The pause after the first attempt; each one after it is twice as long.
    pub(crate) first_pause: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            allowed_hosts: BTreeSet::new(),
            ca: None,
            attempts: 10,
            first_pause: Duration::from_secs(5),
        }
    }
}

/// The key of one webhook: it follows from the server's own and is stored nowhere.
pub(crate) fn secret(desk: &Desk, tenant: &TenantId, id: &str) -> Secret {
    Secret::new(
        desk.key
            .derive("auto-review webhook v1", &[tenant.as_str(), id]),
    )
}

/// The places for attempts.
#[derive(Debug)]
struct Places {
    room: Arc<Semaphore>,
    turns: Mutex<Turns>,
    /// Told when a place is free again.
    freed: Notify,
}

impl Places {
    fn turns(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place while an attempt is under way; free again when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    webhook_id: String,
    tenant: TenantId,
    _room: OwnedSemaphorePermit,
}

impl Place {
    fn take(places: &Arc<Places>, delivery: &Delivery, room: OwnedSemaphorePermit) -> Self {
        places.turns().start(&delivery.webhook_id, &delivery.tenant);
        Self {
            places: Arc::clone(places),
            webhook_id: delivery.webhook_id.clone(),
            tenant: delivery.tenant.clone(),
            _room: room,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.turns().end(&self.webhook_id, &self.tenant);
        self.places.freed.notify_one();
    }
}

/// Tells what is to be told, until the service goes down.
pub(crate) async fn keep_telling(desk: Arc<Desk>, settings: Arc<WebhookSettings>) {
    choose_crypto();
    let places = Arc::new(Places {
        room: Arc::new(Semaphore::new(AT_ONCE)),
        turns: Mutex::default(),
        freed: Notify::new(),
    });
    let mut written = desk.store.written();
    let mut forgotten = tokio::time::Instant::now();
    loop {
        let pause = pause_after(&step(&desk, &settings, &places).await);
        if forgotten.elapsed() >= FORGET {
            forgotten = tokio::time::Instant::now();
            forget(&desk).await;
        }
        tokio::select! {
            () = desk.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            _ = written.changed(), if !pause.is_zero() => tokio::time::sleep(GATHER).await,
            () = places.freed.notified(), if !pause.is_zero() => tokio::time::sleep(GATHER).await,
        }
    }
}

fn pause_after(step: &Result<Left, StoreError>) -> Duration {
    match step {
        Ok(Left::More) => Duration::ZERO,
        Ok(Left::Nothing) => LOOK_AGAIN,
        Err(error) => {
            tracing::warn!(%error, "webhooks could not be looked at");
            LOOK_AGAIN * 5
        }
    }
}

/// Whether there is something to do at once.
enum Left {
    More,
    Nothing,
}

async fn step(
    desk: &Arc<Desk>,
    settings: &Arc<WebhookSettings>,
    places: &Arc<Places>,
) -> Result<Left, StoreError> {
    let looked = desk.store.queue_deliveries(now()).await?;
    let started = now();
    // Longer than an attempt can take: a server that dies leaves its attempts to the next one.
    let until = after(started, PATIENCE * 3);
    let due = desk.store.due_webhooks(started).await?;
    let free = places.room.available_permits();
    let chosen = places.turns().choose(due, free);
    let claimed = desk
        .store
        .claim_deliveries((started, until), chosen)
        .await?;
    for delivery in claimed {
        let Ok(permit) = Arc::clone(&places.room).acquire_owned().await else {
            return Ok(Left::Nothing);
        };
        let place = Place::take(places, &delivery, permit);
        let (teller, settings) = (Arc::clone(desk), Arc::clone(settings));
        drop(desk.tasks.spawn(async move {
            tell(&teller, &settings, delivery, place).await;
        }));
    }
    Ok(if looked { Left::More } else { Left::Nothing })
}

async fn tell(desk: &Desk, settings: &WebhookSettings, delivery: Delivery, _place: Place) {
    let tried = tokio::select! {
        // Its claim runs out, and it is tried again.
        () = desk.stopping.cancelled() => return,
        told = attempt(desk, settings, &delivery) => match told {
            Ok(()) => Tried::Delivered,
            Err(error) => after_failure(settings, &delivery, &error),
        },
    };
    if let Err(error) = desk.store.settle_delivery(delivery.id, tried).await {
        tracing::warn!(%error, "what came of a webhook's delivery could not be written");
    }
}

async fn attempt(
    desk: &Desk,
    settings: &WebhookSettings,
    delivery: &Delivery,
) -> Result<(), NotTold> {
    let sight = Sight::Tenant(delivery.tenant.clone());
    let recorded = desk.store.review(&sight, delivery.review_id).await;
    let recorded = recorded.ok().flatten().ok_or(NotTold::Spelling)?;
    let message = WebhookMessage {
        event: delivery.event,
        tenant: delivery.tenant.clone(),
        seq: delivery.seq,
        review: resource(&recorded, &desk.key),
    };
    let secret = secret(desk, &delivery.tenant, &delivery.webhook_id);
    let letter = Letter {
        id: format!("{}-{}", delivery.webhook_id, delivery.seq),
        url: &delivery.url,
        secret: &secret,
        at: now(),
    };
    let ca = settings.ca.as_deref();
    post(&letter, &message, &settings.allowed_hosts, ca).await
}

fn after_failure(settings: &WebhookSettings, delivery: &Delivery, error: &NotTold) -> Tried {
    let reason = error.to_string();
    if matches!(error, NotTold::Gone) || delivery.attempts >= settings.attempts {
        return Tried::Dead(reason);
    }
    let pause = pause(settings.first_pause, delivery.attempts, delivery.id);
    Tried::Again(after(now(), pause), reason)
}

/// Twice as long after each attempt, and up to a quarter longer, by the delivery's number: what failed together does not
/// come back together.
fn pause(first: Duration, attempts: u32, number: i64) -> Duration {
    let doubled = first.saturating_mul(
        1_u32
            .checked_shl(attempts.saturating_sub(1))
            .unwrap_or(u32::MAX),
    );
    let bounded = doubled.min(LONGEST);
    let quarter = u32::try_from(number.rem_euclid(64)).unwrap_or(0);
    bounded + bounded / 256 * quarter
}

async fn forget(desk: &Desk) {
    let before = now().as_millisecond() - i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    let before = jiff::Timestamp::from_millisecond(before).unwrap_or_else(|_| now());
    if let Err(error) = desk.store.forget_deliveries(before).await {
        tracing::warn!(%error, "old deliveries could not be forgotten");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn pauses_double_and_have_an_end() {
        let first = Duration::from_secs(5);
        let seconds: Vec<_> = (1..=14).map(|it| pause(first, it, 0).as_secs()).collect();
        assert_eq!(
            seconds,
            [
                5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600
            ]
        );
        assert!(pause(first, 200, 63) <= Duration::from_secs(4_500));
        assert!(pause(first, 1, 63) > pause(first, 1, 0));
    }
}
