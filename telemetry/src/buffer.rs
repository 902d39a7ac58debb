//! What is to be told until it is told: bounded, and without a wait for whoever tells.
//!
//! Apart from the sending, because a collector that is slow or gone must cost nothing but what it is not told. Invariants:
//! [`Telemetry`] never waits; memory is bounded by counts; what was dropped is counted and told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::export::{Export, NotSent};
use crate::message::Message;
use crate::record::{
    Attributes, BOUNDS, Event, Measured, Resource, Series, Span, Value, logs, metrics, traces,
};
use crate::settings::{Prompts, Settings, Target};

/// The most events and spans that wait, each, and how many wake the carrier.
const MOST: usize = 4_096;
const MANY: usize = 512;
/// The most series of measures.
const SERIES: usize = 1_024;
/// How often logs and spans are sent, and how often measures are.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(30);
/// How long one sending may take while there is time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where things are told. Cheap to clone; off, it is nothing.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    wake: Notify,
    settings: Settings,
    resource: Resource,
    common: Attributes,
}

#[derive(Debug)]
struct Buffer {
    events: Vec<Event>,
    spans: Vec<Span>,
    measured: BTreeMap<Series, Measured>,
    since: Timestamp,
    dropped: u64,
}

/// Sends what is told.
#[derive(Debug)]
pub struct Carrier<E> {
    shared: Arc<Shared>,
    export: E,
}

impl Telemetry {
    /// Nothing is told.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Telling as `settings` say, for `service`; the [`Carrier`] does the sending. `None`: the settings ask for nothing.
    pub fn new<E: Export>(
        settings: Settings,
        service: &'static str,
        common: Vec<(&'static str, Value)>,
        now: Timestamp,
    ) -> Option<(Self, Carrier<E>)> {
        if settings.is_off() {
            return None;
        }
        let resource = Resource(vec![
            ("service.name", service.into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("env", settings.environment.clone().into()),
        ]);
        let buffer = Buffer {
            events: Vec::new(),
            spans: Vec::new(),
            measured: BTreeMap::new(),
            since: now,
            dropped: 0,
        };
        let export = E::of(&settings);
        let shared = Arc::new(Shared {
            buffer: Mutex::new(buffer),
            wake: Notify::new(),
            settings,
            resource,
            common,
        });
        let carrier = Carrier {
            shared: Arc::clone(&shared),
            export,
        };
        Some((Self(Some(shared)), carrier))
    }

    /// Whether anybody is told anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether what people said may be told.
    #[must_use]
    pub fn prompts(&self) -> Prompts {
        self.0
            .as_ref()
            .map_or(Prompts::Redacted, |shared| shared.settings.prompts)
    }

    /// Whether what reviews came to is told as an event of its own.
    #[must_use]
    pub fn tells_assessments(&self) -> bool {
        let shared = self.0.as_ref();
        shared.is_some_and(|shared| shared.settings.assessments)
    }

    /// Tells an event.
    pub fn event(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        if shared.settings.logs.is_none() {
            return;
        }
        let mut buffer = shared.buffer();
        if buffer.events.len() >= MOST {
            buffer.dropped += 1;
            return;
        }
        buffer.events.push(event);
        if buffer.events.len() == MANY {
            shared.wake.notify_one();
        }
    }

    /// Tells a piece of work that has ended.
    pub fn span(&self, span: Span) {
        let Some(shared) = &self.0 else { return };
        if shared.settings.traces.is_none() {
            return;
        }
        let mut buffer = shared.buffer();
        if buffer.spans.len() >= MOST {
            buffer.dropped += 1;
            return;
        }
        buffer.spans.push(span);
        if buffer.spans.len() == MANY {
            shared.wake.notify_one();
        }
    }

    /// Counts `by` more. Tags are names and fixed words, never texts of people or programs.
    pub fn count(&self, name: &'static str, tags: &[(&'static str, &str)], by: u64) {
        self.measure(name, tags, Measured::Count(0), |measured| {
            if let Measured::Count(count) = measured {
                *count = count.saturating_add(by);
            }
        });
    }

    /// Measures how long something took, in milliseconds.
    pub fn duration(&self, name: &'static str, tags: &[(&'static str, &str)], milliseconds: f64) {
        let none = Measured::Durations {
            count: 0,
            sum: 0.0,
            buckets: [0; BOUNDS.len() + 1],
        };
        self.measure(name, tags, none, |measured| {
            if let Measured::Durations {
                count,
                sum,
                buckets,
            } = measured
            {
                *count += 1;
                *sum += milliseconds;
                let place = BOUNDS.iter().position(|bound| milliseconds <= *bound);
                if let Some(bucket) = buckets.get_mut(place.unwrap_or(BOUNDS.len())) {
                    *bucket += 1;
                }
            }
        });
    }

    fn measure(
        &self,
        name: &'static str,
        tags: &[(&'static str, &str)],
        none: Measured,
        change: impl FnOnce(&mut Measured),
    ) {
        let Some(shared) = &self.0 else { return };
        if shared.settings.metrics.is_none() {
            return;
        }
        let tags = tags.iter().map(|(name, value)| (*name, tag(value)));
        let series = Series {
            name,
            tags: tags.collect(),
        };
        let mut buffer = shared.buffer();
        if buffer.measured.len() >= SERIES && !buffer.measured.contains_key(&series) {
            buffer.dropped += 1;
            return;
        }
        change(buffer.measured.entry(series).or_insert(none));
    }
}

/// The value of a tag: bounded, and of the characters that every back end takes.
fn tag(value: &str) -> String {
    let fit = |it: char| it.is_ascii_alphanumeric() || "._-/:".contains(it);
    value
        .chars()
        .take(128)
        .map(|it| if fit(it) { it } else { '_' })
        .collect()
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Whole after every statement.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which measures are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measures {
    Send,
    Keep,
}

impl<E: Export> Carrier<E> {
    /// Sends again and again until `stop` resolves, and then once more, for `last` at most.
    pub async fn run(self, stop: impl Future<Output = ()>, last: Duration) {
        let mut stop = std::pin::pin!(stop);
        let mut measured = Instant::now();
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(SOON) => {}
                () = self.shared.wake.notified() => {}
            }
            let measures = if measured.elapsed() >= SELDOM {
                measured = Instant::now();
                Measures::Send
            } else {
                Measures::Keep
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.send(measures) => {}
            }
        }
        self.flush(last).await;
    }

    /// Sends everything, for `limit` at most.
    pub async fn flush(&self, limit: Duration) {
        let sent = tokio::time::timeout(limit, self.send(Measures::Send)).await;
        if sent.is_err() {
            tracing::debug!("the collector was too slow for the last of the telemetry");
        }
    }

    async fn send(&self, measures: Measures) {
        let shared = &self.shared;
        let now = Timestamp::now();
        let (events, spans, measured, since) = {
            let mut buffer = shared.buffer();
            let dropped = std::mem::take(&mut buffer.dropped);
            if dropped > 0 {
                tracing::warn!(dropped, "telemetry was dropped: the collector is too slow");
            }
            let events = std::mem::take(&mut buffer.events);
            let spans = std::mem::take(&mut buffer.spans);
            let (measured, since) = match measures {
                Measures::Send => {
                    let since = std::mem::replace(&mut buffer.since, now);
                    (std::mem::take(&mut buffer.measured), since)
                }
                Measures::Keep => (BTreeMap::new(), now),
            };
            (events, spans, measured, since)
        };
        let (resource, common) = (&shared.resource, &shared.common);
        let settings = &shared.settings;
        let logs = async {
            if let Some(target) = settings.logs.as_ref().filter(|_| !events.is_empty()) {
                self.post(target, Signal::Logs, &logs(resource, common, events))
                    .await;
            }
        };
        let traces = async {
            if let Some(target) = settings.traces.as_ref().filter(|_| !spans.is_empty()) {
                self.post(target, Signal::Traces, &traces(resource, common, spans))
                    .await;
            }
        };
        let metrics = async {
            if let Some(target) = settings.metrics.as_ref().filter(|_| !measured.is_empty()) {
                let message = metrics(resource, measured, (since, now));
                self.post(target, Signal::Metrics, &message).await;
            }
        };
        tokio::join!(logs, traces, metrics);
    }

    async fn post(&self, target: &Target, signal: Signal, message: &Message) {
        let sending = self.export.send(target, signal, message);
        let sent = tokio::time::timeout(PATIENCE, sending).await;
        if let Err(error) = sent.unwrap_or(Err(NotSent::NoAnswer)) {
            tracing::warn!(%error, ?signal, "telemetry was not taken");
        }
    }
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Events.
    Logs,
    /// Spans.
    Traces,
    /// Measures.
    Metrics,
}
