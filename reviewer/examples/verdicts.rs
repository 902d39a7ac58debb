//! How long the built-in reviewer takes: every command of the test fixture and every labelled case, each many times, shell
//! parse and the user's words included.
//!
//! `cargo run --release -p reviewer --example verdicts`. The yardstick beside it is the reading alone.

use std::io::Write as _;
use std::time::{Duration, Instant};

use protocol::{Action, Escalation, SubmitReview};
use reviewer::BuiltIn;
use serde_json::{Value, json};

const ROUNDS: usize = 60;

fn main() -> std::io::Result<()> {
    let fixture = include_str!("../tests/commands.jsonl")
        .lines()
        .filter_map(case);
    let labelled = LABELLED
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(labelled);
    let cases: Vec<(Vec<String>, Escalation)> = fixture.chain(labelled).collect();
    let reviewer = BuiltIn::new();
    let mut readings = Vec::new();
    let mut verdicts = Vec::new();
    for _ in 0..ROUNDS {
        for (words, escalation) in &cases {
            let started = Instant::now();
            let reading = exec_policy::Reading::of_argv(words);
            readings.push(started.elapsed());
            let started = Instant::now();
            let verdict = reviewer.judge(escalation);
            verdicts.push(started.elapsed());
            std::hint::black_box((reading, verdict));
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{} actions, {ROUNDS} rounds", cases.len())?;
    writeln!(out, "reading: {}", summary(readings))?;
    writeln!(out, "verdict: {}", summary(verdicts))
}

const LABELLED: [&str; 7] = [
    include_str!("../../tests/cases/exfiltration.jsonl"),
    include_str!("../../tests/cases/credentials.jsonl"),
    include_str!("../../tests/cases/weakening.jsonl"),
    include_str!("../../tests/cases/destruction.jsonl"),
    include_str!("../../tests/cases/injection.jsonl"),
    include_str!("../../tests/cases/overreach.jsonl"),
    include_str!("../../tests/cases/everyday.jsonl"),
];

fn labelled(line: &str) -> Option<(Vec<String>, Escalation)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let body: SubmitReview = serde_json::from_value(value.get("request")?.clone()).ok()?;
    let words = match &body.action {
        Action::Command(command) => command.command.clone(),
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => Vec::new(),
    };
    let id = serde_json::from_value(json!("example")).ok()?;
    Some((words, Escalation::from_submission(id, body, |_| true).ok()?))
}

fn case(line: &str) -> Option<(Vec<String>, Escalation)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let words: Vec<String> = serde_json::from_value(value.get("command")?.clone()).ok()?;
    let action: Action = serde_json::from_value(json!({
        "tool": "exec_command", "command": words, "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated",
    }))
    .ok()?;
    let body: SubmitReview = serde_json::from_value(json!({
        "version": 1,
        "client": { "name": "example", "version": "1", "channel": "adapter" },
        "environment": {
            "host": "box", "user": "u", "cwd": "/home/u/code/app", "workspace_roots": ["/home/u/code/app"],
            "sandbox_mode": "workspace-write", "approval_policy": "on-request",
        },
        "action_digest": action.digest(),
        "action": action,
        "trigger": { "kind": "escalation_requested" },
    }))
    .ok()?;
    let id = serde_json::from_value(json!("example")).ok()?;
    Some((
        words,
        Escalation::from_submission(id, body, |_| false).ok()?,
    ))
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 1000)
            .copied()
            .unwrap_or_default()
    };
    format!("p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999))
}
