//! Deadlines, waits and further tries: each ends within its time, keeps the known cause, and never becomes an approval.

use std::time::Duration;

use protocol::{Decision, FailedStep, ReviewStatus};
use tokio::time::Instant;

use crate::common::{command, escalation};
use crate::scripted::{Behaviour, Scripted};
use crate::{ALLOW, failure, review, reviewer_of, undecided};

#[tokio::test]
async fn a_provider_that_fails_again_and_again_is_left_alone() {
    let model = Scripted::start(vec![Behaviour::json(503, "{}")]);
    let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
    for _ in 0..2 {
        review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    }
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    assert_eq!(failure(&reviewed).1, "provider_paused");
    assert_eq!(model.requests().len(), 5);
}

#[tokio::test]
async fn a_probe_finds_a_wrong_name_before_anybody_waits() {
    let good = Scripted::start(vec![Behaviour::chat("{}")]);
    let bad = Scripted::start(vec![Behaviour::json(404, "{}")]);
    let reviewer = reviewer_of(&[
        ("openai-chat", &good.base_url),
        ("openai-chat", &bad.base_url),
    ]);
    let probes = reviewer
        .probe(Instant::now() + Duration::from_secs(5))
        .await;
    let problems: Vec<Option<bool>> = probes
        .iter()
        .map(|probe| {
            probe
                .problem
                .as_ref()
                .map(|problem| problem.contains("check `base_url` and `model`"))
        })
        .collect();
    assert_eq!(problems, [None, Some(true)]);
}

#[tokio::test]
async fn the_next_model_is_asked_where_one_cannot_be_used() {
    let first = Scripted::start(vec![Behaviour::json(404, "{}")]);
    let second = Scripted::start(vec![Behaviour::response(ALLOW)]);
    let reviewer = reviewer_of(&[
        ("openai-chat", &first.base_url),
        ("openai-responses", &second.base_url),
    ]);
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(20)).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn the_deadline_ends_a_model_that_hangs_or_drips() {
    for behaviour in [Behaviour::Hang, Behaviour::Drip] {
        let model = Scripted::start(vec![behaviour]);
        let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
        let started = Instant::now();
        let reviewed = review(&reviewer, &undecided(), Duration::from_millis(300)).await;
        assert_eq!(reviewed.decision, Decision::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(
            reviewed
                .exhibit
                .attempts
                .first()
                .and_then(|attempt| attempt.error.as_deref()),
            Some("deadline")
        );
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_times_out_even_where_the_built_in_reviewer_would_allow() {
    let reviewer = reviewer_of(&[]);
    let escalation = escalation(command(&["mkdir", "../x"].map(str::to_owned)));
    let reviewed = reviewer.review(&escalation, Instant::now()).await;
    assert_eq!(reviewed.decision, Decision::TimedOut);
}

#[tokio::test]
async fn a_wait_that_would_outlast_the_deadline_ends_with_the_known_cause() {
    let model = Scripted::start(vec![Behaviour::Answer(
        429,
        "retry-after: 600\r\n",
        String::new(),
    )]);
    let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(30)).await;
    assert_eq!(
        failure(&reviewed),
        (FailedStep::Model, "rate_limited", true)
    );
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_provider_asks() {
    let model = Scripted::start(vec![
        Behaviour::Answer(429, "retry-after: 1\r\n", String::new()),
        Behaviour::chat(ALLOW),
    ]);
    let reviewer = reviewer_of(&[("openai-chat", &model.base_url)]);
    let started = Instant::now();
    let reviewed = review(&reviewer, &undecided(), Duration::from_secs(30)).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert!(started.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn nobody_listening_is_a_failure_by_name() {
    let model = Scripted::start(vec![Behaviour::Close]);
    let url = model.base_url.clone();
    drop(model);
    let reviewed = review(
        &reviewer_of(&[("openai-chat", &url)]),
        &undecided(),
        Duration::from_secs(20),
    )
    .await;
    assert_eq!(
        failure(&reviewed),
        (FailedStep::Model, "connect_refused", true)
    );
    assert_eq!(reviewed.exhibit.attempts.len(), 3);
}

#[tokio::test]
async fn no_model_is_a_failure_that_names_the_setting() {
    let reviewed = review(&reviewer_of(&[]), &undecided(), Duration::from_secs(20)).await;
    assert_eq!(
        failure(&reviewed),
        (FailedStep::NotConfigured, "no_model", false)
    );
    let Decision::Failed(failure) = reviewed.decision else {
        panic!("not a failure")
    };
    assert!(
        failure.message.contains("[[reviewer.model]]"),
        "{}",
        failure.message
    );
}
