//! What is taken on, in which order, and what identical questions share.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use protocol::Action;
use serde_json::{Value, json};
use server::{Limits, Service};
use tokio::task::JoinSet;

use crate::api::caller;
use crate::harness::{
    AlikeModel, Answered, Folder, SilentModel, embedded, get, harmful, harmless, post, submission,
    submit, unclear, with, with_limits,
};

async fn full(router: &Router, id: &str) -> Value {
    get(router, &format!("/v1/reviews/{id}?view=full"))
        .await
        .body
}

/// Asks the same question twice at the same time, and lets the model answer once both are open.
async fn asked_twice(service: &Service, model: &AlikeModel) -> [Answered; 2] {
    let router = service.embedded_router(caller());
    let body = submission(&unclear());
    let mut asked = JoinSet::new();
    for _ in 0..2 {
        let (router, body) = (router.clone(), body.clone());
        asked.spawn(async move { submit(&router, &body).await });
    }
    let open = "/v1/reviews?status=reviewing";
    while get(&router, open).await.body["reviews"]
        .as_array()
        .map(Vec::len)
        != Some(2)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    model.let_go();
    let mut told = asked.join_all().await.into_iter();
    [told.next().expect("one"), told.next().expect("another")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_questions_in_flight_share_a_denial_and_the_record_says_so() {
    let folder = Folder::new();
    let model = AlikeModel::new("deny", "high").await;
    let service = embedded(&folder, &model.settings()).await;
    let told = asked_twice(&service, &model).await;
    assert_eq!(model.asked(), 1);
    let router = service.embedded_router(caller());
    let mut shared = Vec::new();
    for (one, other) in [(0, 1), (1, 0)] {
        assert_eq!(told[one].end(), "denied");
        let detail = full(&router, &told[one].id()).await;
        if detail["exhibit"]["shared_with"] == json!(told[other].id()) {
            shared.push(one);
        }
    }
    assert_eq!(shared.len(), 1, "one was judged, the other heard of it");
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_that_many_share_counts_once_in_their_turn() {
    let folder = Folder::new();
    let model = AlikeModel::new("deny", "high").await;
    let settings = format!(
        "{}[reviewer.breaker]\ndenials_in_a_row = 2\n",
        model.settings()
    );
    let service = embedded(&folder, &settings).await;
    let told = asked_twice(&service, &model).await;
    assert_eq!(told.map(|told| told.end()), ["denied", "denied"]);
    let router = service.embedded_router(caller());
    let session = get(&router, "/v1/sessions/s-1").await.body;
    let turn = &session["turns"][0];
    assert_eq!(
        (&turn["reviews"], &turn["denied_in_a_row"]),
        (&json!(2), &json!(1)),
        "{session}"
    );
    // The second judgement that denies is the second denial, and the last.
    let body = submission(&unclear());
    assert_eq!(submit(&router, &body).await.end(), "denied");
    let stopped = submit(&router, &body).await.end();
    assert_eq!(stopped, "failed/breaker/too_many_denials");
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_built_in_rules_decide_waits_for_no_model_however_it_is_asked() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let limits = Limits {
        models_at_once: NonZeroU32::MIN,
        ..Limits::default()
    };
    let service = with_limits(&folder, &model.settings(), limits).await;
    let router = service.embedded_router(caller());
    let first = post(&router, "/v1/reviews", &[], &submission(&unclear())).await;
    assert_eq!(first.status, 202, "it has the only place");
    for (action, end) in [(harmless(), "approved"), (harmful(), "denied")] {
        let asked = post(&router, "/v1/reviews", &[], &submission(&action)).await;
        // Who waits for nothing may still find it decided.
        assert!(asked.status.is_success(), "{}", asked.text);
        let path = format!("/v1/reviews/{}?wait=30", asked.id());
        assert_eq!(get(&router, &path).await.end(), end);
    }
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_never_shared() {
    let folder = Folder::new();
    let model = AlikeModel::new("allow", "low").await;
    let service = embedded(&folder, &model.settings()).await;
    let told = asked_twice(&service, &model).await;
    assert_eq!(model.asked(), 2, "each approval has a judgement of its own");
    let router = service.embedded_router(caller());
    for one in &told {
        assert_eq!(one.end(), "approved");
        let detail = full(&router, &one.id()).await;
        assert_eq!(detail["exhibit"]["shared_with"], json!(null));
    }
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_session_shares_nothing() {
    let folder = Folder::new();
    let model = AlikeModel::new("deny", "high").await;
    model.let_go();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    let one = submission(&unclear());
    let other = with(one.clone(), &json!({"session": {"session_id": "s-2"}}));
    let told = tokio::join!(submit(&router, &one), submit(&router, &other));
    assert_eq!(
        (told.0.end(), told.1.end()),
        ("denied".into(), "denied".into())
    );
    assert_eq!(model.asked(), 2);
    service.close().await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again_and_nothing_is_recorded() {
    let folder = Folder::new();
    let limits = Limits {
        per_minute_of_caller: NonZeroU32::new(2),
        ..Limits::default()
    };
    let service = with_limits(&folder, "", limits).await;
    let router = service.embedded_router(caller());
    let body = submission(&harmless());
    for _ in 0..2 {
        assert_eq!(submit(&router, &body).await.end(), "approved");
    }
    let refused = submit(&router, &body).await;
    assert_eq!(refused.told(), (429, "rate_limited"));
    let seconds: u64 = refused.retry_after.expect("when").parse().expect("seconds");
    assert!((1..=31).contains(&seconds), "{seconds}");
    let history = get(&router, "/v1/reviews").await.body;
    assert_eq!(history["reviews"].as_array().map(Vec::len), Some(2));
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_whose_turn_does_not_come_in_time_failed_and_was_not_denied() {
    let folder = Folder::new();
    let model = AlikeModel::new("allow", "low").await;
    let limits = Limits {
        models_at_once: NonZeroU32::MIN,
        ..Limits::default()
    };
    let service = with_limits(&folder, &model.settings(), limits).await;
    let router = service.embedded_router(caller());
    let first = post(&router, "/v1/reviews", &[], &submission(&unclear())).await;
    assert_eq!(first.status, 202);
    model.asked_beyond(0).await;
    let other = json!({"session": {"session_id": "s-2"}, "deadline_ms": 300});
    let late = submit(&router, &with(submission(&unclear()), &other)).await;
    assert_eq!(late.end(), "failed/admission/no_slot");
    assert_eq!(late.body["risk_level"], json!(null));
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overloaded_models_turn_away_neither_what_the_rules_decide_nor_what_a_person_decides() {
    let folder = Folder::new();
    let model = AlikeModel::new("allow", "low").await;
    let limits = Limits {
        models_at_once: NonZeroU32::MIN,
        ..Limits::default()
    };
    let service = with_limits(&folder, &model.settings(), limits).await;
    let router = service.embedded_router(caller());
    let asked = |action: &Action, session: &str, milliseconds: u64| {
        let changes = json!({"session": {"session_id": session}, "deadline_ms": milliseconds});
        with(submission(action), &changes)
    };
    // One slot was held for longer than those who come next have, and is held again.
    let slow = submit(&router, &asked(&unclear(), "s-1", 2_000)).await;
    assert_eq!(slow.review_status(), "timed_out", "{}", slow.text);
    let before = model.asked();
    let holding = post(&router, "/v1/reviews", &[], &submission(&unclear())).await;
    assert_eq!(holding.status, 202);
    // It has the slot once its model is asked, a moment after it was taken on.
    model.asked_beyond(before).await;
    let refused = submit(&router, &asked(&unclear(), "s-3", 300)).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    for (action, end) in [(harmless(), "approved"), (harmful(), "denied")] {
        let judged = submit(&router, &asked(&action, "s-4", 1_000)).await;
        assert_eq!(judged.end(), end, "{}", judged.text);
    }
    let by_person = with(
        asked(&unclear(), "s-5", 1_000),
        &json!({"must_be_human": true}),
    );
    let waits = post(&router, "/v1/reviews", &[], &by_person).await;
    assert_eq!(waits.status, 202, "{}", waits.text);
    service.close().await;
}
