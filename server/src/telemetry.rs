//! What reviews come to, counted for `/metrics` and told to a collector.
//!
//! Apart from the desk, which calls it once when a review is taken in and once when it has ended. Invariants: nothing here
//! waits; a process that is asked for neither does neither; what is told of a review is its verdict and what models took,
//! never what was asked, said or written (the rationale alone, where the settings say so).

use std::sync::OnceLock;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use protocol::{
    FailedStep, Outcome, ReviewId, ReviewStatus, RiskLevel, TenantId, UserAuthorization,
};
use serde::Deserialize;
use telemetry::{Event, Span, SpanKind, Telemetry, TraceContext, Value};

use crate::intake::Accepted;
use crate::store::sqlite::history::Detail;
use crate::store::{Ending, Question};
use crate::verdict::Verdict;

mod measures;

pub(crate) use measures::{Gauges, Measures};

tokio::task_local! {
    /// The trace that the call under way belongs to.
    static TRACE: TraceContext;
}

/// Who is told. Set once, by who serves.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pub(crate) telemetry: OnceLock<Telemetry>,
    pub(crate) measures: OnceLock<Measures>,
}

/// A review that was taken in, as far as its end will be told.
#[derive(Debug)]
pub(crate) struct Asked {
    review_id: ReviewId,
    tenant: TenantId,
    session: Option<String>,
    turn: Option<String>,
    tool: &'static str,
    created_at: Timestamp,
    parent: Option<TraceContext>,
    span: Option<TraceContext>,
}

/// Each call of a model, as the exhibit has it.
#[derive(Debug, Default, Deserialize)]
struct Tried {
    #[serde(default)]
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Attempt {
    provider: String,
    model: String,
    latency_ms: u64,
    error: Option<String>,
    first_token_ms: Option<u64>,
    tokens: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    input: u64,
    output: u64,
    cached_input: u64,
}

/// Carries the caller's `traceparent` through its call.
pub(crate) async fn in_trace(request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent");
    let header = header.and_then(|value| value.to_str().ok());
    match header.and_then(TraceContext::parse) {
        Some(trace) => TRACE.scope(trace, next.run(request)).await,
        None => next.run(request).await,
    }
}

impl Observer {
    /// Notes a review that is taken in; `None` where nobody is told of its end.
    pub(crate) fn asked(&self, accepted: &Accepted) -> Option<Asked> {
        let parent = TRACE.try_with(|trace| *trace).ok();
        let told = self.telemetry.get();
        if told.is_none() && self.measures.get().is_none() && parent.is_none() {
            return None;
        }
        let span = told.and_then(|_| match parent {
            Some(parent) => parent.child(),
            None => TraceContext::new(),
        });
        let (opening, escalation) = (&accepted.opening, &accepted.case.escalation);
        Some(Asked {
            review_id: opening.review_id,
            tenant: opening.scope.tenant.clone(),
            session: opening.session_id.clone(),
            turn: escalation.session.turn_id.clone(),
            tool: escalation.action.tool(),
            created_at: opening.created_at,
            parent,
            span,
        })
    }

    /// A review that another process took in, as far as its end is told; `None` where nobody is told.
    pub(crate) fn on_record(&self, detail: &Detail) -> Option<Asked> {
        if self.telemetry.get().is_none() && self.measures.get().is_none() {
            return None;
        }
        let question = detail.question.clone()?;
        let question: Question = serde_json::from_value(question).ok()?;
        let recorded = &detail.recorded;
        Some(Asked {
            review_id: recorded.review_id,
            tenant: recorded.scope.tenant.clone(),
            session: recorded.session_id.clone(),
            turn: question.session.turn_id,
            tool: question.action.tool(),
            created_at: recorded.created_at,
            parent: None,
            span: self.telemetry.get().and_then(|_| TraceContext::new()),
        })
    }

    /// Tells how a review ended, once that is on record.
    pub(crate) fn ended(&self, asked: Option<&Asked>, ending: &Ending) {
        let Some(asked) = asked else { return };
        let exhibit = ending.exhibit.as_deref().unwrap_or("{}");
        let tried: Tried = serde_json::from_str(exhibit).unwrap_or_default();
        if let Some(measures) = self.measures.get() {
            let took = ending.completed_at.duration_since(asked.created_at);
            measures.ended(&asked.tenant, &ending.verdict, took, &tried.attempts);
        }
        if let Some(telemetry) = self.telemetry.get() {
            for (number, attempt) in tried.attempts.iter().enumerate() {
                attempt.tell(telemetry, asked, number, ending.completed_at);
            }
            asked.tell(telemetry, (ending, &tried));
        }
    }
}

impl Asked {
    /// The `traceparent` of what is called for it.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.span.or(self.parent).map(|trace| trace.to_string())
    }

    fn event(&self, name: &'static str, at: Timestamp) -> Event {
        Event::new(name, at)
            .in_trace(self.span)
            .with_some("conversation.id", self.session.clone())
            .with("tenant", self.tenant.as_str())
            .with("review.id", self.review_id.to_string())
    }

    fn tell(&self, telemetry: &Telemetry, (ending, tried): (&Ending, &Tried)) {
        let (verdict, at) = (&ending.verdict, ending.completed_at);
        let tags = self.tags(verdict);
        telemetry.count("codex.guardian.review", &tags, 1);
        let took = milliseconds(at.duration_since(self.created_at));
        telemetry.duration("codex.guardian.review.duration_ms", &tags, took);
        let attempts = tried.attempts.len() as u64;
        telemetry.count("codex.guardian.review.attempt_count", &tags, attempts);
        let first_token = tried.first_token_ms();
        if let Some(first_token) = first_token {
            telemetry.duration(
                "codex.guardian.review.ttft.duration_ms",
                &tags,
                to_float(first_token),
            );
        }
        let rationale = verdict.rationale.as_ref().map(|it| it.as_str());
        let event = self
            .event("codex.guardian_assessment", at)
            .with_some("turn.id", self.turn.clone())
            .with("status", verdict.status.as_str())
            .with("decision_source", verdict.decided_by.as_str())
            .with_some("outcome", verdict.outcome.map(outcome))
            .with_some("risk_level", verdict.risk_level.map(RiskLevel::as_str))
            .with_some(
                "user_authorization",
                verdict.user_authorization.map(UserAuthorization::as_str),
            )
            .with_some(
                "failure_reason",
                verdict.failure.as_ref().map(|it| it.step.as_str()),
            )
            .with(
                "started_at_ms",
                self.created_at.as_millisecond().to_string(),
            )
            .with("completed_at_ms", at.as_millisecond().to_string())
            .with("attempt_count", attempts.to_string())
            .with_some(
                "time_to_first_token_ms",
                first_token.map(|it| it.to_string()),
            )
            .with_some(
                "rationale_length",
                rationale.map(|it| it.chars().count().to_string()),
            )
            .with_some(
                "rationale",
                rationale.filter(|_| telemetry.tells_assessments()),
            );
        telemetry.event(event);
        self.tell_span(telemetry, &tags, at);
    }

    fn tell_span(&self, telemetry: &Telemetry, tags: &[(&'static str, &str)], at: Timestamp) {
        let Some(trace) = self.span else { return };
        let tags = tags
            .iter()
            .map(|(name, value)| (*name, Value::from(*value)));
        telemetry.span(Span {
            name: "review",
            kind: SpanKind::Server,
            trace,
            parent: self.parent,
            started: self.created_at,
            ended: at,
            attributes: tags.collect(),
        });
    }

    fn tags<'a>(&'a self, verdict: &'a Verdict) -> Vec<(&'static str, &'a str)> {
        let (decision, terminal) = match verdict.status {
            ReviewStatus::Approved => ("approved", "approved"),
            ReviewStatus::Denied => ("denied", "denied"),
            ReviewStatus::TimedOut => ("denied", "timed_out"),
            ReviewStatus::Aborted => ("aborted", "aborted"),
            ReviewStatus::Failed | ReviewStatus::Reviewing => ("denied", "failed_closed"),
        };
        let step = verdict.failure.as_ref().map(|it| it.step);
        let mut tags = vec![
            ("decision", decision),
            ("terminal_status", terminal),
            ("reviewed_action", self.tool),
        ];
        let more = [
            ("failure_reason", step.map(FailedStep::as_str)),
            ("outcome", verdict.outcome.map(outcome)),
            ("risk_level", verdict.risk_level.map(RiskLevel::as_str)),
            (
                "user_authorization",
                verdict.user_authorization.map(UserAuthorization::as_str),
            ),
        ];
        let more = more.into_iter().filter_map(|(name, it)| Some((name, it?)));
        tags.extend(more);
        tags
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "allow",
        Outcome::Deny => "deny",
    }
}

impl Tried {
    /// How long the first token of the first answer took.
    fn first_token_ms(&self) -> Option<u64> {
        self.attempts.iter().find_map(|it| it.first_token_ms)
    }
}

impl Attempt {
    fn outcome(&self) -> &str {
        self.error.as_deref().unwrap_or("ok")
    }

    fn tell(&self, telemetry: &Telemetry, asked: &Asked, number: usize, at: Timestamp) {
        let success = if self.error.is_none() {
            "true"
        } else {
            "false"
        };
        let model = self.model.as_str();
        let tags = [
            ("model", model),
            ("success", success),
            ("status", self.outcome()),
        ];
        telemetry.count("codex.api_request", &tags, 1);
        let latency = to_float(self.latency_ms);
        telemetry.duration("codex.api_request.duration_ms", &tags, latency);
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let event = asked
            .event("codex.api_request", at)
            .with("provider_name", self.provider.as_str())
            .with("model", model)
            .with("attempt", Value::Int(number))
            .with("duration_ms", self.latency_ms.to_string())
            .with_some("error.message", self.error.as_deref());
        telemetry.event(event);
        let Some(tokens) = &self.tokens else { return };
        let event = asked
            .event("codex.sse_event", at)
            .with("event.kind", "response.completed")
            .with("model", model)
            .with("duration_ms", self.latency_ms.to_string())
            .with_some("ttft_ms", self.first_token_ms.map(|it| it.to_string()))
            .with("input_token_count", tokens.input.to_string())
            .with("output_token_count", tokens.output.to_string())
            .with("cached_token_count", tokens.cached_input.to_string());
        telemetry.event(event);
        let tags = [("kind", "response.completed"), ("success", success)];
        telemetry.count("codex.sse_event", &tags, 1);
        telemetry.duration("codex.sse_event.duration_ms", &tags, latency);
        for (kind, count) in [
            ("input", tokens.input),
            ("output", tokens.output),
            ("cached_input", tokens.cached_input),
        ] {
            let tags = [("model", model), ("token_type", kind)];
            telemetry.count("codex.guardian.review.token_usage", &tags, count);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a time in milliseconds is far below 2^52"
)]
fn to_float(milliseconds: u64) -> f64 {
    milliseconds as f64
}

fn milliseconds(took: jiff::SignedDuration) -> f64 {
    (took.as_secs_f64() * 1_000.0).max(0.0)
}
