//! What the door decided, as events of the field's name.
//!
//! Apart from the run's own events because a command makes any number of these. Invariant: one event for each different
//! decision that the report keeps, so that their number is bounded; never a URL, a path or a body.

use ::telemetry::{Event, Telemetry, TraceContext};
use jiff::Timestamp;
use network_proxy::Source;

use crate::door::{NetworkEntry, NetworkReport};

/// Tells each decision of `report`.
pub(super) fn tell(telemetry: &Telemetry, trace: TraceContext, report: &NetworkReport) {
    let event = || {
        Event::new("codex.network_proxy.policy_decision", Timestamp::now())
            .in_trace(Some(trace))
            .with("execution.id", report.execution.as_str())
            .with("network.policy.scope", "domain")
    };
    for entry in &report.decisions {
        telemetry.event(with_entry(event(), entry));
    }
    if report.unlisted > 0 {
        let event = event().with("network.policy.unlisted", report.unlisted.to_string());
        telemetry.event(event);
    }
}

fn with_entry(event: Event, entry: &NetworkEntry) -> Event {
    let (decision, reason) = if entry.is_allowed() {
        ("allow", None)
    } else {
        ("deny", Some(entry.verdict))
    };
    let source = match entry.by {
        Source::Policy => "baseline_policy",
        Source::Gate => "reviewer",
    };
    let addresses = (!entry.addresses.is_empty()).then(|| entry.addresses.join(","));
    event
        .with("network.policy.decision", decision)
        .with("network.policy.source", source)
        .with_some("network.policy.reason", reason)
        .with_some("network.policy.rule", entry.rule.clone())
        .with("network.transport.protocol", entry.protocol.word())
        .with_some("server.address", entry.host.clone())
        .with_some("server.port", entry.port.map(|port| port.to_string()))
        .with_some("http.request.method", entry.method.clone())
        .with_some("network.peer.address", addresses)
        .with("network.policy.times", entry.times.to_string())
        .with("network.io.sent", entry.sent.to_string())
        .with("network.io.received", entry.received.to_string())
}
