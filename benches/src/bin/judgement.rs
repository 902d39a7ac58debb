//! What a review adds to the call of a model, in processor time: prompt, attempts, budget, reply and thresholds, all
//! features on, beside the same call made bare. And what the built-in reviewer's verdict takes by itself, on every
//! labelled action.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::error::Error;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use benches::{Samples, shown};
use protocol::{Action, Escalation, SubmitReview};
use reviewer::{BuiltIn, Conversation, Reviewer, ReviewerSettings};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CALLS: u32 = 2_000;
const WARM_UP: u32 = 200;
/// Verdicts on each case.
const VERDICTS: usize = 20;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    // Fails only where a provider was installed before, which serves as well.
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap_or_default();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}/v1", listener.local_addr()?);
    let model = Router::new().route(
        "/v1/chat/completions",
        post(|| async { axum::Json(reply()) }),
    );
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(listener, model).await });

    let reviewer = reviewer(&base)?;
    let asked = asked()?;
    let body = reviewer.request(&asked, None)?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{base}/chat/completions");
    let bare = async || -> Outcome<()> {
        let text = client.post(&url).json(&body).send().await?.text().await?;
        let _value: Value = serde_json::from_str(&text)?;
        Ok(())
    };
    let before: Option<Conversation> = None;
    let reviewed = async || -> Outcome<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let done = reviewer
            .review_following(&asked, deadline, before.as_ref())
            .await;
        match done.exhibit.attempts.len() {
            1 => Ok(()),
            other => Err(format!("{other} attempts").into()),
        }
    };
    // In turns, so that both see the same machine.
    let mut sums = [Duration::ZERO; 2];
    for round in 0..4 {
        let calls = if round == 0 { WARM_UP } else { CALLS };
        let spent = [burnt(calls, &bare).await?, burnt(calls, &reviewed).await?];
        if round > 0 {
            sums = [sums[0] + spent[0], sums[1] + spent[1]];
        }
    }
    let [bare, reviewed] = sums.map(|sum| sum / (3 * CALLS));
    println!(
        "processor time of a bare call of the model, both ends: {}",
        shown(bare)
    );
    println!(
        "the same as a review: {}; added: {}; ×{:.2}",
        shown(reviewed),
        shown(reviewed.saturating_sub(bare)),
        reviewed.as_secs_f64() / bare.as_secs_f64().max(f64::EPSILON)
    );
    serving.shutdown().await;
    verdicts(asked)
}

/// Processor time of the process over `calls`.
async fn burnt(calls: u32, call: &impl AsyncFn() -> Outcome<()>) -> Outcome<Duration> {
    let started = processor_time()?;
    for _ in 0..calls {
        call().await?;
    }
    Ok(processor_time()?.saturating_sub(started))
}

fn processor_time() -> Outcome<Duration> {
    spent_by(ClockId::ProcessCPUTime)
}

fn spent_by(clock: ClockId) -> Outcome<Duration> {
    let spent = clock_gettime(clock);
    Ok(Duration::new(
        spent.tv_sec.try_into()?,
        spent.tv_nsec.try_into()?,
    ))
}

/// The built-in verdict on every labelled action of `tests/cases`, and on `asked` with its long conversation.
fn verdicts(asked: Escalation) -> Outcome<()> {
    let built_in = BuiltIn::new();
    let mut cases = cases()?;
    cases.push(("the bench's own".to_owned(), asked));
    let (mut all, mut processor) = (Samples::default(), Samples::default());
    let mut slowest = (Duration::ZERO, "");
    for (id, escalation) in &cases {
        let mut own = Samples::default();
        for _ in 0..VERDICTS {
            let before = spent_by(ClockId::ThreadCPUTime)?;
            let started = Instant::now();
            std::hint::black_box(built_in.judge(std::hint::black_box(escalation)));
            all.push(started.elapsed());
            own.push(spent_by(ClockId::ThreadCPUTime)?.saturating_sub(before));
        }
        slowest = slowest.max((own.percentile(50), id));
        processor.extend((0..VERDICTS).map(|at| own.percentile(at * 100 / VERDICTS)));
    }
    println!(
        "built-in verdict on {} cases: p50 {}, p99 {}; in processor time p50 {}, p99 {}; slowest {} ({})",
        cases.len(),
        shown(all.percentile(50)),
        shown(all.percentile(99)),
        shown(processor.percentile(50)),
        shown(processor.percentile(99)),
        shown(slowest.0),
        slowest.1,
    );
    Ok(())
}

/// The labelled actions, by their ids.
fn cases() -> Outcome<Vec<(String, Escalation)>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let case: Value = serde_json::from_str(line)?;
            let field = |of: &Value, name: &str| of.get(name).cloned().unwrap_or_default();
            let mut request = field(&case, "request");
            let action: Action = serde_json::from_value(field(&request, "action"))?;
            if let Some(fields) = request.as_object_mut() {
                // Whoever writes cases by hand need not compute it.
                fields.insert("action_digest".to_owned(), json!(action.digest()));
            }
            let body: SubmitReview = serde_json::from_value(request)?;
            let id = serde_json::from_value(json!("bench"))?;
            let name = field(&case, "id").as_str().unwrap_or_default().to_owned();
            cases.push((name, Escalation::from_submission(id, body, |_| true)?));
        }
    }
    Ok(cases)
}

fn reviewer(base: &str) -> Outcome<Reviewer> {
    let settings: ReviewerSettings = serde_json::from_value(json!({
        "reviewer": {
            "model": [{ "provider": "openai-chat", "base_url": base, "model": "m",
                        "input_cents_per_million": 100, "output_cents_per_million": 400 }],
            "budget": { "requests_per_hour": 1_000_000, "tokens_per_hour": 1_000_000_000_u64, "cost_cents_per_hour": 1_000_000 },
            "hedge_after_ms": 60_000,
        },
        "policy": { "trusted_destinations": ["files.example.com"], "deny": ["program:scp"] },
    }))?;
    Ok(Reviewer::new(&settings, &|_| None)?)
}

/// What only a model can judge, with a conversation of a usual length.
fn asked() -> Outcome<Escalation> {
    let action: Action = serde_json::from_value(json!({
        "tool": "exec_command", "command": ["bash", "-lc", "npm ci && npm run build 2>&1 | tail -40"],
        "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated",
    }))?;
    let entries: Vec<Value> = (1..=40)
        .map(|n| match n % 4 {
            1 => json!({ "n": n, "author": "user", "trust": "trusted", "text": "build it and tell me what is wrong with the cart" }),
            2 => json!({ "n": n, "author": "assistant", "trust": "untrusted", "text": "I will look at the failing step first. ".repeat(6) }),
            3 => json!({ "n": n, "author": "tool_call", "trust": "untrusted", "text": "{\"command\":[\"rg\",\"-n\",\"cart\"]}" }),
            _ => json!({ "n": n, "author": "tool_output", "trust": "untrusted", "text": "src/cart.ts:12: export function total() {\n".repeat(12) }),
        })
        .collect();
    let body: SubmitReview = serde_json::from_value(json!({
        "version": 1,
        "client": { "name": "bench", "version": "1", "channel": "adapter" },
        "environment": { "host": "h", "user": "u", "cwd": "/home/u/code/app", "workspace_roots": ["/home/u/code/app"],
                         "sandbox_mode": "workspace-write", "approval_policy": "on-request" },
        "action": action, "action_digest": action.digest(),
        "trigger": { "kind": "escalation_requested" },
        "transcript": { "complete": true, "entries": entries },
    }))?;
    let id = serde_json::from_value(json!("bench"))?;
    Ok(Escalation::from_submission(id, body, |_| true)?)
}

fn reply() -> Value {
    let assessment = json!({
        "risk_level": "low", "user_authorization": "high", "outcome": "allow", "rationale": "builds the app, as asked",
    });
    json!({
        "choices": [{ "index": 0, "finish_reason": "stop",
                      "message": { "role": "assistant", "content": assessment.to_string() } }],
        "usage": { "prompt_tokens": 3_000, "completion_tokens": 40, "total_tokens": 3_040 },
    })
}
