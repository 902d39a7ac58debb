//! The fail-closed list at the reviewer's own level, over real HTTP (P2, P5): whatever the model does, nothing but a
//! proper assessment within the thresholds is an approval, and each failure keeps its own name.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its endpoint up has to end"
)]

mod common;
mod fault_matrix;
mod hedging;
mod scripted;
mod time_and_tries;

use std::time::Duration;

use common::{command, escalation, with_transcript};
use protocol::{DecidedBy, Decision, Escalation, FailedStep, ReviewStatus};
use reviewer::{Reviewed, Reviewer, ReviewerSettings};
use scripted::{Behaviour, Scripted};
use serde_json::json;
use tokio::time::Instant;

const ALLOW: &str = r#"{"risk_level":"medium","user_authorization":"unknown","outcome":"allow","rationale":"an ordinary build"}"#;
const DENY: &str =
    r#"{"risk_level":"high","user_authorization":"unknown","outcome":"deny","rationale":"no"}"#;

fn reviewer_of(models: &[(&str, &str)]) -> Reviewer {
    let models: Vec<_> = models
        .iter()
        .map(|(provider, url)| json!({ "provider": provider, "base_url": url, "model": "m", "api_key_env": "KEY", "effort": "low" }))
        .collect();
    let settings: ReviewerSettings =
        serde_json::from_value(json!({ "reviewer": { "model": models } })).expect("settings");
    Reviewer::new(&settings, &|name| {
        (name == "KEY").then(|| "canary-key".to_owned())
    })
    .expect("a reviewer")
}

/// An action that the built-in reviewer leaves to others.
fn undecided() -> Escalation {
    escalation(command(&["make".to_owned()]))
}

async fn review(reviewer: &Reviewer, escalation: &Escalation, limit: Duration) -> Reviewed {
    reviewer.review(escalation, Instant::now() + limit).await
}

async fn over(provider: &str, behaviours: Vec<Behaviour>) -> (Reviewed, Vec<String>) {
    let model = Scripted::start(behaviours);
    let reviewer = reviewer_of(&[(provider, &model.base_url)]);
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    (reviewed, model.requests())
}

fn failure(reviewed: &Reviewed) -> (FailedStep, &str, bool) {
    let Decision::Failed(failure) = &reviewed.decision else {
        panic!("not a failure: {:?}", reviewed.decision)
    };
    (failure.step, failure.code.as_str(), failure.retryable)
}

#[tokio::test]
async fn a_proper_answer_is_an_approval_over_both_apis() {
    for (provider, behaviour, path) in [
        (
            "openai-chat",
            Behaviour::chat(ALLOW),
            "POST /v1/chat/completions ",
        ),
        (
            "openai-responses",
            Behaviour::response(ALLOW),
            "POST /v1/responses ",
        ),
    ] {
        let (reviewed, requests) = over(provider, vec![behaviour]).await;
        assert_eq!(
            reviewed.decision.status(),
            ReviewStatus::Approved,
            "{provider}"
        );
        assert_eq!(reviewed.decision.decided_by(), DecidedBy::Model);
        let attempt = reviewed.exhibit.attempts.first().expect("an attempt");
        assert_eq!(
            (
                attempt.error.as_deref(),
                attempt.tokens.map(|tokens| (tokens.input, tokens.output))
            ),
            (None, Some((7, 3)))
        );
        let request = requests.first().expect("a request");
        assert!(request.starts_with(path), "{request}");
        assert!(
            request
                .to_ascii_lowercase()
                .contains("authorization: bearer canary-key")
        );
        assert!(request.contains("\"strict\":true"));
        let shown = serde_json::to_string(&reviewed.exhibit).expect("json");
        assert!(!shown.contains("canary-key") && !format!("{reviewed:?}").contains("canary-key"));
        assert!(reviewed.exhibit.prompt_digest.is_some());
    }
}

#[tokio::test]
async fn what_is_not_worth_another_try_is_tried_once() {
    for (behaviour, code) in [
        (Behaviour::json(401, "{}"), "unauthorized"),
        (Behaviour::json(403, "{}"), "unauthorized"),
        (Behaviour::json(404, "{}"), "not_found"),
        (Behaviour::json(400, ALLOW), "bad_request"),
        (Behaviour::json(422, "{}"), "bad_request"),
        (
            Behaviour::Answer(302, "location: http://127.0.0.1:1/\r\n", String::new()),
            "redirected",
        ),
        (
            Behaviour::Answer(307, "location: /v1/x\r\n", String::new()),
            "redirected",
        ),
        (Behaviour::Endless(10 * 1024 * 1024), "too_large"),
        (
            Behaviour::Answer(
                200,
                "content-type: application/json\r\n",
                " ".repeat(10 * 1024 * 1024),
            ),
            "too_large",
        ),
        (
            Behaviour::json(
                200,
                r#"{"choices":[{"finish_reason":"stop","message":{"content":null,"refusal":"no"}}]}"#,
            ),
            "declined",
        ),
        (
            Behaviour::json(
                200,
                r#"{"choices":[{"finish_reason":"content_filter","message":{"content":"x"}}]}"#,
            ),
            "declined",
        ),
    ] {
        let shown = format!("{behaviour:?}")
            .chars()
            .take(120)
            .collect::<String>();
        let (reviewed, requests) = over("openai-chat", vec![behaviour]).await;
        assert_eq!(
            failure(&reviewed),
            (FailedStep::Model, code, false),
            "{shown}"
        );
        assert_eq!(requests.len(), 1, "{shown}");
        assert_eq!(reviewed.exhibit.attempts.len(), 1);
    }
}

/// What may go wrong before there is a reply.
fn transport_faults() -> Vec<(Behaviour, &'static str)> {
    vec![
        (Behaviour::json(429, "{}"), "rate_limited"),
        (Behaviour::json(500, ALLOW), "server_error"),
        (Behaviour::json(503, "{}"), "server_error"),
        (Behaviour::json(408, "{}"), "server_error"),
        (Behaviour::Close, "cut_off"),
        (Behaviour::Cut(500, ALLOW), "cut_off"),
        (Behaviour::json(200, ""), "empty"),
        (Behaviour::json(200, ALLOW), "wrong_shape"),
        (Behaviour::json(200, "<html>allow</html>"), "wrong_shape"),
        (
            Behaviour::Answer(200, "content-type: text/html\r\n", ALLOW.to_owned()),
            "wrong_shape",
        ),
        (Behaviour::Answer(200, "", ALLOW.to_owned()), "wrong_shape"),
        (Behaviour::json(204, ""), "wrong_shape"),
        (Behaviour::json(200, r#"{"choices":[]}"#), "wrong_shape"),
        (
            Behaviour::json(
                200,
                r#"{"choices":[{"message":{"content":"","tool_calls":[{}]}}]}"#,
            ),
            "wrong_shape",
        ),
        (
            Behaviour::json(
                200,
                r#"{"choices":[{"finish_reason":"length","message":{"content":"{"}}]}"#,
            ),
            "cut_off",
        ),
        (
            Behaviour::json(
                200,
                r#"{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}"#,
            ),
            "wrong_shape",
        ),
    ]
}

/// Replies that are no assessment.
fn reply_faults() -> Vec<(Behaviour, FailedStep, &'static str)> {
    let two = format!("{ALLOW}{ALLOW}");
    let chat = |text: &str| Behaviour::chat(text);
    vec![
        (chat(""), FailedStep::Model, "empty"),
        (chat("allow"), FailedStep::Reply, "not_json"),
        (chat(&two), FailedStep::Reply, "not_json"),
        (
            chat(&ALLOW.replace("allow", "approve")),
            FailedStep::Reply,
            "not_an_assessment",
        ),
        (
            chat(r#"{"outcome":"allow"}"#),
            FailedStep::Reply,
            "not_an_assessment",
        ),
    ]
}

#[tokio::test]
async fn a_fault_that_may_pass_is_tried_three_times_and_then_fails() {
    let cases = transport_faults()
        .into_iter()
        .map(|(behaviour, code)| (behaviour, FailedStep::Model, code))
        .chain(reply_faults());
    // Side by side, because each takes two pauses.
    let mut running = tokio::task::JoinSet::new();
    for (behaviour, step, code) in cases {
        running.spawn(async move {
            let shown = format!("{behaviour:?}");
            let (reviewed, requests) = over("openai-chat", vec![behaviour]).await;
            assert_eq!(failure(&reviewed), (step, code, true), "{shown}");
            assert_eq!(requests.len(), 3, "{shown}");
            let Decision::Failed(failure) = reviewed.decision else {
                panic!("{shown}")
            };
            assert!(
                !failure.message.contains("ordinary build") && !failure.message.contains("html"),
                "{}",
                failure.message
            );
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("the case holds");
    }
}

#[tokio::test]
async fn the_responses_api_is_held_as_strictly() {
    let part = |kind: &str, text: &str| json!({ "type": "message", "content": [{ "type": kind, "text": text }] });
    let body = |status: &str, output: serde_json::Value| {
        Behaviour::json(
            200,
            &json!({ "status": status, "output": output }).to_string(),
        )
    };
    let mut running = tokio::task::JoinSet::new();
    for (behaviour, code) in [
        (
            body("completed", json!([part("refusal", "no")])),
            "declined",
        ),
        (body("completed", json!([])), "empty"),
        (
            body(
                "completed",
                json!([part("output_text", ALLOW), part("output_text", ALLOW)]),
            ),
            "wrong_shape",
        ),
        (
            body(
                "completed",
                json!([part("output_text", ALLOW), { "type": "function_call" }]),
            ),
            "wrong_shape",
        ),
        (
            body("incomplete", json!([part("output_text", ALLOW)])),
            "cut_off",
        ),
        (
            body("failed", json!([part("output_text", ALLOW)])),
            "server_error",
        ),
        (
            body("in_progress", json!([part("output_text", ALLOW)])),
            "wrong_shape",
        ),
        (Behaviour::chat(ALLOW), "wrong_shape"),
    ] {
        running.spawn(async move {
            let (reviewed, _) = over("openai-responses", vec![behaviour]).await;
            assert_eq!(
                (failure(&reviewed).0, failure(&reviewed).1),
                (FailedStep::Model, code)
            );
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("the case holds");
    }
}

#[tokio::test]
async fn a_fault_that_passes_leaves_its_mark_and_no_more() {
    let (reviewed, requests) = over(
        "openai-chat",
        vec![
            Behaviour::json(500, "{}"),
            Behaviour::chat("nonsense"),
            Behaviour::chat(ALLOW),
        ],
    )
    .await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert_eq!(requests.len(), 3);
    let errors: Vec<Option<&str>> = reviewed
        .exhibit
        .attempts
        .iter()
        .map(|attempt| attempt.error.as_deref())
        .collect();
    assert_eq!(errors, [Some("server_error"), Some("not_json"), None]);
}

#[tokio::test]
async fn a_denial_is_final_and_no_other_model_is_asked() {
    let first = Scripted::start(vec![Behaviour::chat(DENY)]);
    let second = Scripted::start(vec![Behaviour::chat(ALLOW)]);
    let reviewer = reviewer_of(&[
        ("openai-chat", &first.base_url),
        ("openai-chat", &second.base_url),
    ]);
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Denied);
    assert!(second.requests().is_empty());
}

#[tokio::test]
async fn what_a_model_said_is_no_reason_to_ask_another() {
    let refusal = Behaviour::json(
        200,
        r#"{"choices":[{"finish_reason":"content_filter","message":{"content":"x"}}]}"#,
    );
    for (behaviour, asked) in [(Behaviour::chat("nonsense"), 3), (refusal, 1)] {
        let first = Scripted::start(vec![behaviour]);
        let second = Scripted::start(vec![Behaviour::chat(ALLOW)]);
        let reviewer = reviewer_of(&[
            ("openai-chat", &first.base_url),
            ("openai-chat", &second.base_url),
        ]);
        let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
        assert_eq!(reviewed.decision.status(), ReviewStatus::Failed);
        assert_eq!(
            (first.requests().len(), second.requests().len()),
            (asked, 0)
        );
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_read_is_asked_to_be_repaired_once() {
    let (reviewed, requests) = over("openai-chat", vec![Behaviour::chat("nonsense")]).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Failed);
    let repairs: Vec<bool> = requests
        .iter()
        .map(|request| request.contains("could not be read"))
        .collect();
    assert_eq!(repairs, [false, true, false]);
}

#[tokio::test]
async fn anthropic_is_asked_by_its_own_header_and_its_tool_holds_the_answer() {
    let input: serde_json::Value = serde_json::from_str(ALLOW).expect("json");
    let body = json!({
        "type": "message",
        "content": [{ "type": "tool_use", "id": "t", "name": "assessment", "input": input }],
        "stop_reason": "tool_use",
        "usage": { "input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 5 },
    });
    let (reviewed, requests) =
        over("anthropic", vec![Behaviour::json(200, &body.to_string())]).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    let request = requests.first().expect("a request").to_ascii_lowercase();
    assert!(request.starts_with("post /v1/messages "), "{request}");
    assert!(
        request.contains("x-api-key: canary-key")
            && request.contains("anthropic-version: 2023-06-01")
    );
    assert!(!request.contains("authorization:"));
    let tokens = reviewed
        .exhibit
        .attempts
        .first()
        .and_then(|attempt| attempt.tokens)
        .expect("tokens");
    assert_eq!(
        (tokens.input, tokens.output, tokens.cached_input),
        (12, 3, 5)
    );
}

#[tokio::test]
async fn ceilings_hold_before_a_call_and_prices_are_on_record() {
    let model = Scripted::start(vec![Behaviour::chat(ALLOW)]);
    let settings: ReviewerSettings = serde_json::from_value(json!({ "reviewer": {
        "budget": { "requests_per_hour": 2 },
        "model": [{ "provider": "openai-chat", "base_url": model.base_url, "model": "m",
                    "headers": { "x-team": "blue" }, "input_cents_per_million": 250, "output_cents_per_million": 1000 }],
    } }))
    .expect("settings");
    let reviewer = Reviewer::new(&settings, &|_| None).expect("a reviewer");
    for _ in 0..2 {
        let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
        assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
        // 7 tokens at 2.5 and 3 at 10 millionths.
        let cost = reviewed
            .exhibit
            .attempts
            .first()
            .and_then(|attempt| attempt.cost_micros);
        assert_eq!(cost, Some(17 + 30));
    }
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    assert_eq!(
        failure(&reviewed),
        (FailedStep::Budget, "budget_exhausted", true)
    );
    assert_eq!(model.requests().len(), 2);
    assert!(
        model
            .requests()
            .iter()
            .all(|request| request.to_ascii_lowercase().contains("x-team: blue"))
    );
}

#[tokio::test]
async fn the_thresholds_hold_whatever_the_model_says() {
    let trusted = json!({ "complete": true, "entries": [{ "n": 1, "author": "user", "trust": "trusted", "text": "run make" }] });
    let spoken_for = with_transcript(command(&["make".to_owned()]), &trusted);
    let sudo = escalation(command(&["sudo", "make"].map(str::to_owned)));
    let says = |risk: &str, authorization: &str| {
        format!(
            r#"{{"risk_level":"{risk}","user_authorization":"{authorization}","outcome":"allow","rationale":"x"}}"#
        )
    };
    for (escalation, text, wanted) in [
        (&spoken_for, says("critical", "high"), ReviewStatus::Denied),
        (&spoken_for, says("high", "unknown"), ReviewStatus::Denied),
        (&spoken_for, says("high", "low"), ReviewStatus::Denied),
        (&spoken_for, says("high", "medium"), ReviewStatus::Approved),
        // Nobody with a voice spoke: the model's `high` counts as `low`.
        (&undecided(), says("high", "high"), ReviewStatus::Denied),
        // The floor of `sudo` is high, whatever the model calls it.
        (&sudo, says("low", "high"), ReviewStatus::Denied),
    ] {
        let model = Scripted::start(vec![Behaviour::chat(&text)]);
        let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
        let reviewed = review(&reviewer, escalation, Duration::from_secs(20)).await;
        assert_eq!(reviewed.decision.status(), wanted, "{text}");
    }
}

#[tokio::test]
async fn an_action_that_does_not_fit_is_not_shown_cut_and_not_approved() {
    let model = Scripted::start(vec![Behaviour::chat(ALLOW)]);
    let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
    let large = escalation(command(&["make".to_owned(), "x".repeat(70_000)]));
    let reviewed = review(&reviewer, &large, Duration::from_secs(20)).await;
    assert_eq!(
        failure(&reviewed),
        (FailedStep::Prompt, "action_too_large", false)
    );
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn a_built_in_denial_asks_no_model() {
    let model = Scripted::start(vec![Behaviour::chat(ALLOW)]);
    let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
    let escalation = escalation(command(&["rm", "-rf", "/"].map(str::to_owned)));
    let reviewed = review(&reviewer, &escalation, Duration::from_secs(20)).await;
    assert_eq!(
        (reviewed.decision.status(), reviewed.decision.decided_by()),
        (ReviewStatus::Denied, DecidedBy::BuiltIn)
    );
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn a_teams_own_section_is_not_bypassed_by_a_built_in_allow() {
    let model = Scripted::start(vec![Behaviour::chat(DENY)]);
    let escalation = escalation(command(&["mkdir", "../x"].map(str::to_owned)));
    let reviewer = |policy: serde_json::Value, allow: Option<bool>| {
        let settings = json!({
            "policy": policy,
            "reviewer": { "built_in_allow": allow, "model": [{ "provider": "openai-chat", "base_url": model.base_url, "model": "m" }] },
        });
        let settings: ReviewerSettings = serde_json::from_value(settings).expect("settings");
        Reviewer::new(&settings, &|_| None).expect("a reviewer")
    };
    let own = json!({ "section": "Nothing is made outside." });
    for (policy, allow, wanted) in [
        (json!({}), None, ReviewStatus::Approved),
        (json!({}), Some(false), ReviewStatus::Denied),
        (own.clone(), None, ReviewStatus::Denied),
        (
            json!({ "section": "More.", "mode": "extend" }),
            None,
            ReviewStatus::Denied,
        ),
        (own, Some(true), ReviewStatus::Approved),
    ] {
        let reviewed = review(
            &reviewer(policy.clone(), allow),
            &escalation,
            Duration::from_secs(20),
        )
        .await;
        assert_eq!(reviewed.decision.status(), wanted, "{policy} {allow:?}");
    }
}

/// Everything that is logged at any level, by this crate and by those it uses.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_holds_a_key_a_transcript_or_what_a_model_said() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // For the whole process: what other tests log at the same time may hold no canary either.
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    let said = json!({ "complete": true, "entries": [{ "n": 1, "author": "user", "trust": "trusted", "text": "canary-transcript" }] });
    let case = with_transcript(
        command(&["make".to_owned(), "canary-action".to_owned()]),
        &said,
    );
    for behaviour in [
        Behaviour::chat(&ALLOW.replace("an ordinary build", "canary-reply")),
        Behaviour::chat("canary-reply"),
        Behaviour::json(401, "canary-reply"),
        Behaviour::json(400, "canary-reply"),
        Behaviour::Cut(500, "canary-reply"),
    ] {
        let model = Scripted::start(vec![behaviour]);
        let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
        let reviewed = review(&reviewer, &case, Duration::from_millis(600)).await;
        assert!(!reviewed.exhibit.attempts.is_empty());
        let exhibit = serde_json::to_string(&reviewed.exhibit).expect("json");
        assert!(!exhibit.contains("canary"), "{exhibit}");
    }
    let text = String::from_utf8_lossy(&log.0.lock().expect("the log")).into_owned();
    assert!(
        text.contains("a review failed"),
        "something was logged: {text}"
    );
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("canary"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
