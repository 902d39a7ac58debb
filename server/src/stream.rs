//! The record as server-sent events: for one review until it has ended, for a tenant as long as somebody listens.
//!
//! Apart from the other answers, because a stream outlives its call. Everything comes from the record, so a stream that
//! was cut goes on after `Last-Event-ID` at any server over the same record, and nothing is told that a crash could take
//! back. Invariants: memory for one stream is one page; the number of streams is bounded, for each tenant and in all;
//! who does not read for [`SLOW`] is dropped; a token that does not count any more ends its streams within a second.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::channel::Sender;
use protocol::{ReviewEvent, ReviewId, Sha256Hex, StreamedEvent, TenantId, TimelineEntry};
use tokio::time::Instant;

use crate::auth::Standing;
use crate::desk::Desk;
use crate::resource::resource;
use crate::store::sqlite::history::{Followed, More, TimelineEvent, is_seen};
use crate::store::{ReviewStore as _, Sight, StoreError};

/// How long a reader may leave what was sent to it unread.
const SLOW: Duration = Duration::from_secs(10);
/// How often a stream that has nothing to say says so, and the longest time until another process's events are seen.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The pause between two looks while events pour in: they gather.
const GATHER: Duration = Duration::from_millis(25);
/// Frames that wait to be written.
pub(crate) const AHEAD: usize = 2;
/// The most streams of one tenant, and of all.
const MOST: Most = Most {
    of_tenant: 128,
    of_all: 1_024,
};
/// The same of exports and verifications: one that nobody reads holds a few pages until it is cut.
const MOST_LONG_READS: Most = Most {
    of_tenant: 8,
    of_all: 64,
};
/// Told first: how long to wait before a stream that was cut is asked for again, in milliseconds.
const GREETING: &str = "retry: 1000\n\n";

/// A stream that cannot go on: the connection is cut, and the client comes back for the rest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The record could not be read on.
    #[error("the record could not be read on")]
    Store(#[source] StoreError),
    /// The reader was too slow.
    #[error("the reader was too slow")]
    Slow,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
struct Most {
    of_tenant: usize,
    of_all: usize,
}

/// How many streams there are, by tenant.
#[derive(Debug)]
pub(crate) struct Streams {
    counts: Mutex<HashMap<TenantId, usize>>,
    most: Most,
}

/// The place of one stream.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<Streams>,
    tenant: TenantId,
}

impl Streams {
    /// None yet, of events.
    pub(crate) fn of_events() -> Self {
        Self::at_most(MOST)
    }

    /// None yet, of exports and verifications.
    pub(crate) fn of_long_reads() -> Self {
        Self::at_most(MOST_LONG_READS)
    }

    fn at_most(most: Most) -> Self {
        Self {
            counts: Mutex::default(),
            most,
        }
    }

    /// A place for one more stream of `tenant`, where there is one.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<Place> {
        let mut counts = self.counts();
        let all: usize = counts.values().sum();
        let count = counts.entry(tenant.clone()).or_default();
        if *count >= self.most.of_tenant || all >= self.most.of_all {
            return None;
        }
        *count += 1;
        Some(Place {
            streams: Arc::clone(self),
            tenant: tenant.clone(),
        })
    }

    /// How many streams `tenant` has open.
    pub(crate) fn of(&self, tenant: &TenantId) -> usize {
        self.counts().get(tenant).copied().unwrap_or(0)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        if let Some(count) = counts.get_mut(&self.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.tenant);
            }
        }
    }
}

/// What is streamed.
#[derive(Debug)]
pub(crate) enum Subject {
    /// Everything that the sight covers.
    All(Sight),
    /// One review that the sight covers, until it has ended.
    Review(Sight, ReviewId),
}

/// A stream about to be carried.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) subject: Subject,
    /// The number of the last event that the client has.
    pub(crate) after: i64,
    pub(crate) standing: Option<Standing>,
    /// Given back with the stream.
    pub(crate) _place: Place,
}

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    Ended,
}

impl Stream {
    /// Sends until the subject has ended, nobody listens any more or the server goes down.
    pub(crate) async fn carry(mut self, desk: &Desk, mut sender: Sender<Bytes, Cut>) {
        match self.send_all(desk, &mut sender).await {
            Ok(()) => {}
            Err(cut) => {
                tracing::debug!(%cut, "a stream of events was cut");
                sender.abort(cut);
            }
        }
    }

    async fn send_all(&mut self, desk: &Desk, sender: &mut Sender<Bytes, Cut>) -> Result<(), Cut> {
        let mut written = desk.store.written();
        let mut text = GREETING.to_owned();
        let mut heard = Instant::now();
        loop {
            let page = self.next(desk).await.map_err(Cut::Store)?;
            let told = self.tell(desk, &page, &mut text).await;
            let goes = told.map_err(Cut::Store)?;
            if text.is_empty() && heard.elapsed() >= HEARTBEAT {
                text.push_str(":\n\n");
            }
            if !text.is_empty() {
                heard = Instant::now();
                let frame = Bytes::from(std::mem::take(&mut text));
                let sent = tokio::time::timeout(SLOW, sender.send_data(frame)).await;
                if sent.map_err(|_elapsed| Cut::Slow)?.is_err() {
                    // Nobody listens any more.
                    return Ok(());
                }
            }
            let over = goes == Goes::Ended || desk.stopping.is_cancelled();
            if over || !self.may_go_on().await {
                return Ok(());
            }
            if page.more == More::NotYet {
                tokio::select! {
                    () = desk.stopping.cancelled() => {}
                    _ = written.changed() => tokio::time::sleep(GATHER).await,
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }

    async fn may_go_on(&self) -> bool {
        match &self.standing {
            Some(standing) => standing.holds().await,
            None => true,
        }
    }

    async fn next(&mut self, desk: &Desk) -> Result<Followed, StoreError> {
        let page = match &self.subject {
            Subject::All(sight) => desk.store.events_after(sight, self.after).await?,
            Subject::Review(sight, id) => {
                let tenant = sight.tenant();
                desk.store.events_of(tenant, *id, self.after).await?
            }
        };
        let sight = match &self.subject {
            Subject::All(sight) | Subject::Review(sight, _) => sight,
        };
        let mut page = page;
        page.events.retain(|(_, event)| is_seen(sight, &event.kind));
        self.after = page.reached;
        Ok(page)
    }

    /// Spells a page.
    async fn tell(
        &self,
        desk: &Desk,
        page: &Followed,
        out: &mut String,
    ) -> Result<Goes, StoreError> {
        let mut ended = false;
        for (review_id, event) in &page.events {
            let ends = ReviewEvent::parse(&event.kind).is_some_and(ends);
            let review = match &self.subject {
                Subject::Review(sight, id) if ends => desk.store.review(sight, *id).await?,
                Subject::Review(..) | Subject::All(_) => None,
            };
            ended |= ends && matches!(self.subject, Subject::Review(..));
            let told = StreamedEvent {
                review_id: *review_id,
                entry: entry(event),
                review: review.map(|recorded| resource(&recorded, &desk.key)),
            };
            push(&told, out)?;
        }
        Ok(if ended && page.more == More::NotYet {
            Goes::Ended
        } else {
            Goes::On
        })
    }
}

/// Whether a review ends with `event`.
pub(crate) fn ends(event: ReviewEvent) -> bool {
    match event {
        ReviewEvent::Approved
        | ReviewEvent::Denied
        | ReviewEvent::TimedOut
        | ReviewEvent::Aborted
        | ReviewEvent::Failed => true,
        ReviewEvent::Opened
        | ReviewEvent::Redeemed
        | ReviewEvent::Ran
        | ReviewEvent::Voted
        | ReviewEvent::Shadowed
        | ReviewEvent::Erased
        | ReviewEvent::LeaveGiven
        | ReviewEvent::LeaveSpent
        | ReviewEvent::LeaveWithdrawn
        | ReviewEvent::Network => false,
    }
}

fn entry(event: &TimelineEvent) -> TimelineEntry {
    TimelineEntry {
        seq: event.seq,
        kind: event.kind.clone(),
        at: event.at,
        body: event.body.clone(),
        hash: Sha256Hex::of(&event.hash).into(),
    }
}

/// One event. JSON holds no line break, so its data is one line.
fn push(told: &StreamedEvent, out: &mut String) -> Result<(), StoreError> {
    let data = serde_json::to_string(told)
        .map_err(|_| StoreError::Corrupt("an event cannot be spelled"))?;
    let (seq, kind) = (told.entry.seq, &told.entry.kind);
    // Writing to a String cannot fail.
    write!(out, "id: {seq}\nevent: {kind}\ndata: {data}\n\n").unwrap_or_default();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::TenantId;

    use super::{MOST, Streams};

    #[test]
    fn one_tenant_cannot_take_every_place_and_gives_back_what_it_leaves() {
        let streams = Arc::new(Streams::of_events());
        let (ours, theirs) = (
            TenantId::default(),
            TenantId::parse("acme").expect("a name"),
        );
        let mut places: Vec<_> = (0..MOST.of_tenant)
            .map(|_| streams.enter(&ours).expect("a place"))
            .collect();
        assert!(streams.enter(&ours).is_none());
        assert!(streams.enter(&theirs).is_some());
        places.pop();
        assert!(streams.enter(&ours).is_some());
        drop(places);
        assert_eq!((streams.of(&ours), streams.of(&theirs)), (0, 0));
    }
}
