//! What a run tells a collector, where `[otel]` asks for it.
//!
//! Apart from the run, which it watches and never changes: everything told here follows from the settings before and the
//! report after. Invariants: with no exporter in the settings nothing is made and nothing waits; a collector that is gone
//! costs the end of a run [`PATIENCE`] at most, after the command has ended; what was typed is told only where
//! `log_user_prompt` says so.

mod network;

use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ::telemetry::{
    Carrier, Event, HttpOnly, Prompts, Span, SpanKind, Telemetry, TraceContext, Value,
};
use jiff::Timestamp;
use protocol::{DecidedBy, Printable, ReviewStatus, SessionReference};

use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::prepare::Prepared;
use crate::report::Report;
use crate::shown::Shown;
use crate::state::State;

/// How long the end of a run waits for its collector.
const PATIENCE: Duration = Duration::from_secs(1);

/// The trace that this process is. One process, one run, one trace.
static TRACE: OnceLock<TraceContext> = OnceLock::new();

/// The header that says so to a server; `None` where nobody is told.
pub(crate) fn traceparent() -> Option<String> {
    TRACE.get().map(ToString::to_string)
}

/// Which of the runner's tools was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Exec,
    Sandbox,
    ApplyPatch,
    RequestPermissions,
}

impl Tool {
    /// The tool's name in events, as agents know it.
    fn name(self) -> &'static str {
        match self {
            Self::Exec | Self::Sandbox => "exec_command",
            Self::ApplyPatch => "apply_patch",
            Self::RequestPermissions => "request_permissions",
        }
    }

    /// The name of its span.
    fn span(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Sandbox => "sandbox",
            Self::ApplyPatch => "apply_patch",
            Self::RequestPermissions => "request_permissions",
        }
    }
}

/// A run that is told.
#[derive(Debug)]
pub(crate) struct Observation {
    tool: Tool,
    telemetry: Telemetry,
    carrier: Carrier<HttpOnly>,
    trace: TraceContext,
    started_at: Timestamp,
    started: Instant,
    call: String,
    sandbox: &'static str,
    approval: &'static str,
    servers: String,
}

impl Observation {
    /// Begins to watch a run of `tool` under `settings`; `None` where nobody is to be told. What stands in the way of telling is a
    /// note: no command hangs on it.
    pub(crate) fn begin(
        tool: Tool,
        settings: &Settings,
        environment: &Environment,
        session: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Option<Self> {
        let table = settings.otel.clone()?;
        let read = match table.read(&|name| environment.lookup(name)) {
            Ok(read) => read,
            Err(error) => {
                notes.push(format!("nothing is told to a collector: `otel`: {error}"));
                return None;
            }
        };
        if read.wants_grpc() {
            notes.push(
                "`otlp-grpc` is the server's; the runner tells by `otlp-http` alone".to_owned(),
            );
        }
        let trace = TraceContext::new()?;
        let call = trace.to_string();
        let session = session.unwrap_or(&call);
        let common = vec![
            ("conversation.id", Value::from(session)),
            ("app.version", env!("CARGO_PKG_VERSION").into()),
            ("originator", "agent-runner".into()),
        ];
        let now = Timestamp::now();
        let (telemetry, carrier) = Telemetry::new(read, "agent-runner", common, now)?;
        let trace = *TRACE.get_or_init(|| trace);
        let servers = settings
            .tools
            .get("mcp_servers")
            .and_then(|it| it.as_table());
        let servers = servers.map(|servers| servers.keys().cloned().collect::<Vec<_>>());
        Some(Self {
            tool,
            telemetry,
            carrier,
            trace,
            started_at: now,
            started: Instant::now(),
            call,
            sandbox: settings.sandbox.as_str(),
            approval: settings.approval.as_str(),
            servers: servers.unwrap_or_default().join(","),
        })
    }

    /// The same with what was typed, for a tool without a report: what stands in the way is said at once.
    pub(crate) fn of(
        tool: Tool,
        prepared: &Prepared,
        environment: &Environment,
        session: &SessionReference,
        argv: &[OsString],
    ) -> Option<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let session = session.session_id.as_deref();
        let begun = Self::begin(tool, &prepared.settings, environment, session, &mut notes);
        notes.iter().for_each(|note| crate::say(note));
        let observation = begun?;
        let typed = observation.typed(argv, &prepared.state);
        Some((observation, typed))
    }

    /// What was typed, with its secrets masked, where that may be told.
    pub(crate) fn typed(&self, argv: &[OsString], state: &State) -> Vec<String> {
        let words = argv.iter().map(|word| word.to_string_lossy().into_owned());
        match (self.telemetry.prompts(), state.mask_key()) {
            (Prompts::Told, Ok(key)) => Shown::by(key).words(&words.collect::<Vec<_>>()),
            (Prompts::Told | Prompts::Redacted, _) => vec!["[REDACTED]".to_owned()],
        }
    }

    /// Tells how the run of what was `typed` ended, and waits until that is told, or not for long.
    pub(crate) async fn end(
        self,
        typed: Vec<String>,
        report: &Report,
        ended: &Result<u8, Failure>,
    ) {
        self.tell_start();
        self.tell_decision(report);
        self.tell_result(&typed, report, ended);
        self.tell_outcome(report);
        if let Some(network) = &report.network {
            network::tell(&self.telemetry, self.trace, network);
        }
        self.telemetry.span(Span {
            name: self.tool.span(),
            kind: SpanKind::Internal,
            trace: self.trace,
            parent: None,
            started: self.started_at,
            ended: Timestamp::now(),
            attributes: vec![("route", report.route.into())],
        });
        self.carrier.flush(PATIENCE).await;
    }

    fn event(&self, name: &'static str) -> Event {
        Event::new(name, Timestamp::now()).in_trace(Some(self.trace))
    }

    fn tool(&self, name: &'static str) -> Event {
        self.event(name)
            .with("tool_name", self.tool.name())
            .with("call_id", self.call.as_str())
    }

    fn tell_start(&self) {
        let started = self
            .event("codex.conversation_starts")
            .with("approval_policy", self.approval)
            .with("sandbox_policy", self.sandbox)
            .with("mcp_servers", self.servers.as_str());
        self.telemetry.event(started);
    }

    fn tell_decision(&self, report: &Report) {
        let decided_by = report.review.as_ref().map(|review| review.decided_by);
        let source = match decided_by {
            None => "Config",
            Some(DecidedBy::Person) => "User",
            Some(DecidedBy::BuiltIn | DecidedBy::Model | DecidedBy::Rule | DecidedBy::None) => {
                "AutomatedReviewer"
            }
        };
        let decision = match (report.status, report.route) {
            (None, "refused") | (Some(ReviewStatus::Denied), _) => "denied",
            // Where somebody had to be asked and nobody answered, nobody approved and nobody denied.
            (None, "ask") | (Some(ReviewStatus::Failed | ReviewStatus::Reviewing), _) => "failed",
            (None | Some(ReviewStatus::Approved), _) => "approved",
            (Some(ReviewStatus::TimedOut), _) => "timed_out",
            (Some(ReviewStatus::Aborted), _) => "abort",
        };
        let decided = self
            .tool("codex.tool_decision")
            .with("decision", decision)
            .with("source", source)
            .with("route", report.route)
            .with_some(
                "review.id",
                report.review.as_ref().map(|it| it.review_id.to_string()),
            );
        self.telemetry.event(decided);
        if report.status.is_some() {
            let approved = if decision == "approved" {
                "true"
            } else {
                "false"
            };
            let tags = [("tool", self.tool.name()), ("approved", approved)];
            self.telemetry.count("codex.approval.requested", &tags, 1);
        }
    }

    fn tell_result(&self, typed: &[String], report: &Report, ended: &Result<u8, Failure>) {
        let success = if matches!(ended, Ok(0)) {
            "true"
        } else {
            "false"
        };
        let took = self.started.elapsed();
        let arguments = match self.telemetry.prompts() {
            Prompts::Redacted => "[REDACTED]".to_owned(),
            Prompts::Told => Printable(&typed.join(" ")).to_string(),
        };
        let result = self
            .tool("codex.tool_result")
            .with("arguments", arguments)
            .with("duration_ms", took.as_millis().to_string())
            .with("success", success)
            .with_some("exit_code", ended.as_ref().ok().map(u8::to_string));
        self.telemetry.event(result);
        let sandbox = if report.confinement.is_some() {
            self.sandbox
        } else {
            "none"
        };
        let tags = [
            ("tool", self.tool.name()),
            ("success", success),
            ("sandbox", sandbox),
        ];
        self.telemetry.count("codex.tool.call", &tags, 1);
        let milliseconds = took.as_secs_f64() * 1_000.0;
        self.telemetry
            .duration("codex.tool.call.duration_ms", &tags, milliseconds);
    }

    fn tell_outcome(&self, report: &Report) {
        let denied = report
            .denials
            .as_ref()
            .is_some_and(|denials| !denials.is_empty());
        let outcome = match (report.status, report.signal) {
            (Some(ReviewStatus::TimedOut), _) => "timed_out",
            (Some(ReviewStatus::Approved), _) => "escalated",
            (_, Some(_)) => "signal",
            _ if denied => "denied",
            _ => return,
        };
        let took = self.started.elapsed().as_millis().to_string();
        let told = self
            .tool("codex.sandbox_outcome")
            .with("outcome", outcome)
            .with("initial_duration_ms", took);
        self.telemetry.event(told);
    }
}
