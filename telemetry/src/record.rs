//! What is told: events, spans and measures, and the messages that carry them.
//!
//! Apart and pure. The field numbers are those of `opentelemetry-proto` 1.x (`logs.proto`, `trace.proto`, `metrics.proto`).
//! Events are told as the shared settings' own program tells them: no body, the name in `event.name`, the time in
//! `event.timestamp`, most numbers as text.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::message::{Field, Message};
use crate::trace::TraceContext;

/// The scope of all that is told.
const SCOPE: &str = "auto_review";
/// The upper bounds of a duration's buckets, in milliseconds.
pub(crate) const BOUNDS: [f64; 15] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 5_000.0, 10_000.0,
    60_000.0, 120_000.0,
];

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Int(i64),
    /// A flag.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

pub(crate) type Attributes = Vec<(&'static str, Value)>;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub(crate) name: &'static str,
    pub(crate) at: Timestamp,
    pub(crate) attributes: Attributes,
    pub(crate) trace: Option<TraceContext>,
}

impl Event {
    /// An event of the catalogue, at `at`.
    #[must_use]
    pub fn new(name: &'static str, at: Timestamp) -> Self {
        Self {
            name,
            at,
            attributes: Vec::new(),
            trace: None,
        }
    }

    /// The same with one attribute more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// The same with an attribute, where there is one.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The same as a part of a trace.
    #[must_use]
    pub fn in_trace(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }
}

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work of its own.
    Internal,
    /// The answer to somebody's call.
    Server,
    /// A call of somebody else.
    Client,
}

/// A piece of work with its beginning and its end.
#[derive(Debug, Clone)]
pub struct Span {
    /// What it is called.
    pub name: &'static str,
    /// What it is of.
    pub kind: SpanKind,
    /// Its own place in the trace.
    pub trace: TraceContext,
    /// What caused it.
    pub parent: Option<TraceContext>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// One series of measures: its name and its tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) tags: Vec<(&'static str, String)>,
}

/// What was measured since the last time it was told.
#[derive(Debug, Clone)]
pub(crate) enum Measured {
    Count(u64),
    Durations {
        count: u64,
        sum: f64,
        buckets: [u64; BOUNDS.len() + 1],
    },
}

/// Who tells: the attributes of the resource.
#[derive(Debug, Clone)]
pub(crate) struct Resource(pub(crate) Attributes);

fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}

fn pair(name: &str, value: Value) -> Message {
    let value = match value {
        Value::Text(text) => Message::default().with(1, "stringValue", Field::Text(text)),
        Value::Flag(flag) => Message::default().with(2, "boolValue", Field::Bool(flag)),
        Value::Int(number) => Message::default().with(3, "intValue", Field::Int(number)),
    };
    Message::default()
        .with(1, "key", Field::Text(name.to_owned()))
        .with(2, "value", Field::One(value))
}

fn pairs(attributes: impl IntoIterator<Item = (&'static str, Value)>) -> Field {
    let all = attributes
        .into_iter()
        .map(|(name, value)| pair(name, value));
    Field::Many(all.collect())
}

/// The three requests have one shape: resource, scope, and a list of what is told.
fn request(
    resource: &Resource,
    names: (&'static str, &'static str, &'static str),
    told: Vec<Message>,
) -> Message {
    let (outer, inner, list) = names;
    let scope = Message::default()
        .with(1, "name", Field::Text(SCOPE.to_owned()))
        .with(
            2,
            "version",
            Field::Text(env!("CARGO_PKG_VERSION").to_owned()),
        );
    let scoped =
        Message::default()
            .with(1, "scope", Field::One(scope))
            .with(2, list, Field::Many(told));
    let who = Message::default().with(1, "attributes", pairs(resource.0.clone()));
    let resourced = Message::default()
        .with(1, "resource", Field::One(who))
        .with(2, inner, Field::Many(vec![scoped]));
    Message::default().with(1, outer, Field::Many(vec![resourced]))
}

/// `ExportLogsServiceRequest`.
pub(crate) fn logs(resource: &Resource, common: &Attributes, events: Vec<Event>) -> Message {
    let told = events.into_iter().map(|event| {
        let timestamp = Timestamp::from_millisecond(event.at.as_millisecond()).unwrap_or(event.at);
        let named = [
            ("event.name", Value::from(event.name)),
            ("event.timestamp", Value::Text(format!("{timestamp:.3}"))),
        ];
        let all = named
            .into_iter()
            .chain(common.iter().cloned())
            .chain(event.attributes);
        let record = Message::default()
            .with(2, "severityNumber", Field::Number(9))
            .with(3, "severityText", Field::Text("INFO".to_owned()))
            .with(6, "attributes", pairs(all));
        let record = match event.trace {
            Some(trace) => record
                .with(9, "traceId", Field::Id(trace.trace().to_vec()))
                .with(10, "spanId", Field::Id(trace.span().to_vec())),
            None => record,
        };
        record.with(
            11,
            "observedTimeUnixNano",
            Field::Fixed64(nanoseconds(event.at)),
        )
    });
    request(
        resource,
        ("resourceLogs", "scopeLogs", "logRecords"),
        told.collect(),
    )
}

/// `ExportTraceServiceRequest`.
pub(crate) fn traces(resource: &Resource, common: &Attributes, spans: Vec<Span>) -> Message {
    let told = spans.into_iter().map(|span| {
        let kind = match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        };
        let told = Message::default()
            .with(1, "traceId", Field::Id(span.trace.trace().to_vec()))
            .with(2, "spanId", Field::Id(span.trace.span().to_vec()));
        let told = match span.parent {
            Some(parent) => told.with(4, "parentSpanId", Field::Id(parent.span().to_vec())),
            None => told,
        };
        told.with(5, "name", Field::Text(span.name.to_owned()))
            .with(6, "kind", Field::Number(kind))
            .with(
                7,
                "startTimeUnixNano",
                Field::Fixed64(nanoseconds(span.started)),
            )
            .with(
                8,
                "endTimeUnixNano",
                Field::Fixed64(nanoseconds(span.ended)),
            )
            .with(
                9,
                "attributes",
                pairs(common.iter().cloned().chain(span.attributes)),
            )
    });
    request(
        resource,
        ("resourceSpans", "scopeSpans", "spans"),
        told.collect(),
    )
}

/// `ExportMetricsServiceRequest`: what was measured from `since` to `until`, as deltas.
pub(crate) fn metrics(
    resource: &Resource,
    measured: BTreeMap<Series, Measured>,
    (since, until): (Timestamp, Timestamp),
) -> Message {
    const DELTA: u32 = 1;
    let told = measured.into_iter().map(|(series, measured)| {
        let tags = series
            .tags
            .into_iter()
            .map(|(name, value)| (name, Value::Text(value)));
        let times = Message::default()
            .with(2, "startTimeUnixNano", Field::Fixed64(nanoseconds(since)))
            .with(3, "timeUnixNano", Field::Fixed64(nanoseconds(until)));
        let metric = Message::default().with(1, "name", Field::Text(series.name.to_owned()));
        match measured {
            Measured::Count(count) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let point = times.with(6, "asInt", Field::FixedInt(count)).with(
                    7,
                    "attributes",
                    pairs(tags),
                );
                let sum = Message::default()
                    .with(1, "dataPoints", Field::Many(vec![point]))
                    .with(2, "aggregationTemporality", Field::Number(DELTA))
                    .with(3, "isMonotonic", Field::Bool(true));
                metric.with(7, "sum", Field::One(sum))
            }
            Measured::Durations {
                count,
                sum,
                buckets,
            } => {
                let point = times
                    .with(4, "count", Field::Fixed64(count))
                    .with(5, "sum", Field::Double(sum))
                    .with(6, "bucketCounts", Field::Fixed64s(buckets.to_vec()))
                    .with(7, "explicitBounds", Field::Doubles(BOUNDS.to_vec()))
                    .with(9, "attributes", pairs(tags));
                let histogram = Message::default()
                    .with(1, "dataPoints", Field::Many(vec![point]))
                    .with(2, "aggregationTemporality", Field::Number(DELTA));
                metric.with(3, "unit", Field::Text("ms".to_owned())).with(
                    9,
                    "histogram",
                    Field::One(histogram),
                )
            }
        }
    });
    request(
        resource,
        ("resourceMetrics", "scopeMetrics", "metrics"),
        told.collect(),
    )
}
