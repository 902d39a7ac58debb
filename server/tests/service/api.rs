//! The router in this process: what it takes, what it refuses, how reviews end.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use protocol::{CallerId, Decision, PermitSource, RedeemAnswer, ReviewPage};
use serde_json::{Value, json};
use server::Limits;

use crate::harness::{
    Answered, Folder, SilentModel, call, embedded, expected, get, harmful, harmless, post,
    redeem_body, submission, submit, unclear, with, with_limits,
};

pub(crate) fn caller() -> CallerId {
    CallerId::of_uid(1000)
}

#[tokio::test]
async fn an_approval_is_signed_spent_once_and_then_permits_exactly_its_action() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let approved = submit(&router, &submission(&harmless())).await;
    assert_eq!(
        (approved.status.as_u16(), approved.review_status()),
        (200, "approved"),
        "{approved:?}"
    );
    let resource = approved.resource();
    let expected = expected(&harmless(), &caller(), resource.nonce.clone());
    let decision = service.server_key().read_decision(&resource, &expected);
    let Ok(Decision::Approved(grant)) = decision else {
        panic!("no grant: {decision:?}");
    };
    let path = format!("/v1/reviews/{}/redeem", resource.review_id);
    let spent = post(
        &router,
        &path,
        &[],
        &redeem_body(harmless().digest(), Some("s-1")),
    )
    .await;
    assert_eq!(spent.status, 200, "{spent:?}");
    let answer: RedeemAnswer = serde_json::from_value(spent.body).expect("a receipt");
    let receipt = service
        .server_key()
        .read_receipt(&answer, resource.review_id, &expected)
        .expect("a receipt that holds");
    let permitted = grant.permit(&receipt, harmless()).expect("leave");
    assert_eq!(
        permitted.source(),
        &PermitSource::Review(resource.review_id)
    );
    let again = post(
        &router,
        &path,
        &[],
        &redeem_body(harmless().digest(), Some("s-1")),
    )
    .await;
    assert_eq!(again.told(), (409, "already_redeemed"));
    service.close().await;
}

#[tokio::test]
async fn each_end_has_its_own_face() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let denied = submit(&router, &submission(&harmful())).await;
    let failed = submit(&router, &submission(&unclear())).await;
    let face = |answered: &Answered| {
        let fields = [
            "status",
            "outcome",
            "decided_by",
            "risk_level",
            "user_authorization",
        ];
        let told = fields.map(|name| answered.body[name].as_str().unwrap_or("-").to_owned());
        let has = [
            "rationale",
            "rule_id",
            "failure",
            "guidance",
            "signature",
            "expires_at",
        ]
        .map(|name| {
            if answered.body[name].is_null() {
                ""
            } else {
                name
            }
        });
        format!("{} | {}", told.join(" "), has.join(" "))
    };
    insta::assert_snapshot!(face(&denied), @"denied deny built_in critical unknown | rationale rule_id  guidance signature expires_at");
    insta::assert_snapshot!(face(&failed), @"failed - none - - |   failure guidance signature expires_at");
    assert_eq!(failed.end(), "failed/not_configured/no_model");
    service.close().await;
}

#[tokio::test]
async fn a_submission_is_answered_at_once_and_its_end_can_be_waited_for() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    let body = with(submission(&unclear()), &json!({"deadline_ms": 1500}));
    let accepted = post(&router, "/v1/reviews", &[], &body).await;
    assert_eq!(
        (accepted.status.as_u16(), accepted.review_status()),
        (202, "reviewing")
    );
    assert!(accepted.body["signature"].is_null() && accepted.body["expires_at"].is_null());
    let location = accepted.location.expect("a location");
    assert_eq!(
        location,
        format!(
            "/v1/reviews/{}",
            accepted.body["review_id"].as_str().expect("an id")
        )
    );
    let soon = get(&router, &location).await;
    assert_eq!(soon.review_status(), "reviewing");
    let end = get(&router, &format!("{location}?wait=30")).await;
    assert_eq!(
        end.end(),
        "timed_out",
        "the client's deadline holds: {end:?}"
    );
    assert!(
        end.body["risk_level"].is_null(),
        "a time-out says nothing about danger"
    );
    service.close().await;
}

#[tokio::test]
async fn a_repeated_submission_is_the_same_review_and_another_body_is_a_conflict() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let key = [("idempotency-key", "k-1"), ("prefer", "wait=30")];
    let body = submission(&harmless());
    let first = post(&router, "/v1/reviews", &key, &body).await;
    let again = post(&router, "/v1/reviews", &key, &body).await;
    assert_eq!(first.id(), again.id());
    assert_eq!(again.resource().nonce.as_str(), "k-1");
    let other = with(body.clone(), &json!({"retry_reason": "again"}));
    let conflict = post(&router, "/v1/reviews", &key, &other).await;
    assert_eq!(conflict.told(), (409, "idempotency_conflict"));
    assert_eq!(conflict.content_type, "application/problem+json");
    // Another caller's keys are its own.
    let stranger = service.embedded_router(CallerId::of_uid(2));
    let body = with(body, &json!({"session": {"session_id": "s-2"}}));
    let theirs = post(&stranger, "/v1/reviews", &key, &body).await;
    assert_ne!(theirs.id(), first.id());
    service.close().await;
}

#[tokio::test]
async fn twenty_of_the_same_submission_at_once_are_one_review() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    let body = with(submission(&unclear()), &json!({"deadline_ms": 800}));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (router, body) = (router.clone(), body.clone());
        tasks.spawn(async move {
            let headers = [("idempotency-key", "k-1"), ("prefer", "wait=30")];
            let answered = post(&router, "/v1/reviews", &headers, &body).await;
            (answered.id(), answered.end())
        });
    }
    let answers: std::collections::BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    service.close().await;
}

#[tokio::test]
async fn nobody_sees_or_touches_another_caller_s_review_or_session() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let stranger = service.embedded_router(CallerId::of_uid(2));
    let id = submit(&router, &submission(&harmless())).await.id();
    let redeem = redeem_body(harmless().digest(), Some("s-1"));
    let answer = json!({"answer": "allow"});
    for (verb, body) in [
        ("redeem", &redeem),
        ("abort", &Value::Null),
        ("answer", &answer),
    ] {
        let path = format!("/v1/reviews/{id}/{verb}");
        assert_eq!(
            post(&stranger, &path, &[], body).await.told(),
            (404, "not_found"),
            "{verb}"
        );
    }
    assert_eq!(
        get(&stranger, &format!("/v1/reviews/{id}")).await.told(),
        (404, "not_found")
    );
    assert_eq!(
        get(&stranger, "/v1/reviews").await.body["reviews"],
        json!([])
    );
    let squatted = submit(&stranger, &submission(&harmless())).await;
    assert_eq!(squatted.told(), (403, "session_taken"));
    let path = format!("/v1/reviews/{id}/redeem");
    assert_eq!(
        post(&router, &path, &[], &redeem).await.status,
        200,
        "it is still whole for its caller"
    );
    service.close().await;
}

#[tokio::test]
async fn an_approval_is_worthless_for_another_action_session_or_time() {
    let folder = Folder::new();
    let limits = Limits {
        approval_lifetime: Duration::from_millis(700),
        ..Limits::default()
    };
    let service = with_limits(&folder, "", limits).await;
    let router = service.embedded_router(caller());
    let redeem = async |id: String, digest, session| {
        post(
            &router,
            &format!("/v1/reviews/{id}/redeem"),
            &[],
            &redeem_body(digest, session),
        )
        .await
    };
    let id = submit(&router, &submission(&harmless())).await.id();
    let digest = harmless().digest();
    let other = redeem(id.clone(), harmful().digest(), Some("s-1")).await;
    assert_eq!(other.told(), (409, "other_action"));
    assert_eq!(
        redeem(id.clone(), digest, Some("s-9")).await.told(),
        (409, "other_session")
    );
    assert_eq!(
        redeem(id.clone(), digest, None).await.told(),
        (409, "other_session")
    );
    let denied = submit(&router, &submission(&harmful())).await.id();
    assert_eq!(
        redeem(denied, harmful().digest(), Some("s-1")).await.told(),
        (409, "not_approved")
    );
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(
        redeem(id, digest, Some("s-1")).await.told(),
        (409, "approval_expired")
    );
    service.close().await;
}

fn trusted() -> Value {
    json!({"complete": true, "entries": [{"n": 1, "author": "user", "trust": "trusted", "text": "do it"}]})
}

/// A name, a body and its refusal.
fn no_submissions() -> [(&'static str, String, (u16, &'static str)); 13] {
    let good = submission(&harmless()).to_string();
    let trusted = trusted();
    let changed = |changes| with(submission(&harmless()), &changes).to_string();
    [
        (
            "two keys",
            good.replacen('{', "{\"version\":1,", 1),
            (422, "invalid_body"),
        ),
        (
            "two keys deep inside",
            good.replace("\"cwd\":\"/srv/app\"", "\"cwd\":\"/srv/app\",\"cwd\":\"/\""),
            (422, "invalid_body"),
        ),
        (
            "unknown field",
            changed(json!({"approved": true})),
            (422, "invalid_body"),
        ),
        (
            "forged trust",
            changed(json!({"transcript": trusted})),
            (422, "trust_refused"),
        ),
        (
            "another action's digest",
            changed(json!({"action_digest": harmful().digest()})),
            (422, "digest_mismatch"),
        ),
        (
            "another version",
            changed(json!({"version": 2})),
            (422, "unsupported_version"),
        ),
        (
            "empty session name",
            changed(json!({"session": {"session_id": ""}})),
            (422, "invalid_body"),
        ),
        (
            "endless session name",
            changed(json!({"session": {"session_id": "s".repeat(257)}})),
            (422, "invalid_body"),
        ),
        ("two values", format!("{good}{good}"), (400, "invalid_json")),
        (
            "cut off",
            good.trim_end_matches('}').to_owned(),
            (400, "invalid_json"),
        ),
        ("nothing", String::new(), (400, "invalid_json")),
        ("too deep", "[".repeat(200), (422, "invalid_body")),
        (
            "too large",
            format!("{good}{}", " ".repeat(1024 * 1024)),
            (413, "too_large"),
        ),
    ]
}

#[tokio::test]
async fn what_is_no_submission_is_refused_by_name() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    for (case, body, told) in no_submissions() {
        let request = Request::post("/v1/reviews").header("content-type", "application/json");
        let answered = call(&router, request.body(Body::from(body)).expect("a request")).await;
        assert_eq!(answered.told(), told, "{case}: {answered:?}");
        assert_eq!(answered.content_type, "application/problem+json", "{case}");
    }
    let not_utf8 = Request::post("/v1/reviews").header("content-type", "application/json");
    let not_utf8 = not_utf8
        .body(Body::from(vec![b'"', 0xff, b'"']))
        .expect("a request");
    assert_eq!(call(&router, not_utf8).await.status, 400);
    assert_eq!(
        get(&router, "/v1/reviews").await.body["reviews"],
        json!([]),
        "nothing of it was reviewed"
    );
    let allowed = with(
        submission(&harmless()),
        &json!({"transcript": trusted(), "client": {"name": "a", "version": "0", "channel": "adapter"}}),
    );
    assert_eq!(submit(&router, &allowed).await.review_status(), "approved");
    service.close().await;
}

#[tokio::test]
async fn what_is_no_call_is_refused_by_name() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let good = submission(&harmless());
    for headers in [
        vec![("content-type", "text/plain")],
        vec![
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
        vec![],
    ] {
        let mut request = Request::post("/v1/reviews");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answered = call(
            &router,
            request
                .body(Body::from(good.to_string()))
                .expect("a request"),
        )
        .await;
        assert_eq!(answered.told(), (415, "unsupported_media_type"));
    }
    for headers in [[("prefer", "wait=soon")], [("idempotency-key", "a b")]] {
        let answered = post(&router, "/v1/reviews", &headers, &good).await;
        assert_eq!(answered.told(), (400, "invalid_parameter"));
    }
    assert_eq!(
        get(&router, "/v1/reviews?offset=1").await.told(),
        (400, "invalid_parameter")
    );
    assert_eq!(get(&router, "/v1/nothing").await.told(), (404, "not_found"));
    assert_eq!(
        get(&router, "/v1/reviews/%ff").await.told(),
        (404, "not_found")
    );
    assert_eq!(
        get(&router, "/v1/reviews/1/redeem").await.told(),
        (405, "method_not_allowed")
    );
    service.close().await;
}

#[tokio::test]
async fn a_question_can_be_taken_back_until_it_is_decided() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    let id = post(&router, "/v1/reviews", &[], &submission(&unclear()))
        .await
        .id();
    let abort = format!("/v1/reviews/{id}/abort");
    assert_eq!(
        post(&router, &abort, &[], &Value::Null).await.end(),
        "aborted"
    );
    assert_eq!(
        post(&router, &abort, &[], &Value::Null).await.end(),
        "aborted",
        "twice is once"
    );
    let decided = submit(&router, &submission(&harmless())).await.id();
    let late = post(
        &router,
        &format!("/v1/reviews/{decided}/abort"),
        &[],
        &Value::Null,
    )
    .await;
    assert_eq!(late.told(), (409, "already_ended"));
    service.close().await;
}

#[tokio::test]
async fn what_only_a_person_may_decide_waits_for_one() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let ask = |deadline| {
        with(
            submission(&harmless()),
            &json!({"must_be_human": true, "deadline_ms": deadline}),
        )
    };
    let answer = async |id: &str, answer: Value| {
        post(&router, &format!("/v1/reviews/{id}/answer"), &[], &answer).await
    };

    let id = post(&router, "/v1/reviews", &[], &ask(30_000)).await.id();
    let yes = answer(&id, json!({"answer": "allow", "reason": "I looked"})).await;
    assert_eq!(
        (
            yes.review_status(),
            &yes.body["decided_by"],
            &yes.body["rationale"]
        ),
        ("approved", &json!("person"), &json!("I looked"))
    );
    assert_eq!(
        answer(&id, json!({"answer": "deny"})).await.told(),
        (409, "not_waiting")
    );

    let id = post(&router, "/v1/reviews", &[], &ask(30_000)).await.id();
    let no = answer(&id, json!({"answer": "deny", "reason": "not today"})).await;
    assert_eq!(
        (
            no.review_status(),
            &no.body["outcome"],
            &no.body["risk_level"]
        ),
        ("denied", &json!("deny"), &Value::Null)
    );

    assert_eq!(submit(&router, &ask(300)).await.end(), "timed_out");
    let judged = submit(&router, &submission(&harmless())).await.id();
    assert_eq!(
        answer(&judged, json!({"answer": "allow"})).await.told(),
        (409, "not_waiting")
    );
    service.close().await;
}

#[tokio::test]
async fn the_history_is_newest_first_in_pages_and_tells_what_was_spent() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let mut ids = Vec::new();
    for action in [harmless(), harmful(), harmless(), unclear(), harmless()] {
        ids.push(submit(&router, &submission(&action)).await.id());
    }
    let redeem = redeem_body(harmless().digest(), Some("s-1"));
    post(
        &router,
        &format!("/v1/reviews/{}/redeem", ids[0]),
        &[],
        &redeem,
    )
    .await;
    let page = async |query: String| -> ReviewPage {
        let answered = get(&router, &format!("/v1/reviews?{query}")).await;
        serde_json::from_value(answered.body).expect("a page")
    };
    let mut seen = Vec::new();
    let mut next = page("limit=2".to_owned()).await;
    while let Some(before) = next.next_before {
        seen.extend(next.reviews);
        next = page(format!("limit=2&before={before}")).await;
    }
    seen.extend(next.reviews);
    let listed: Vec<_> = seen
        .iter()
        .rev()
        .map(|entry| entry.review.review_id.to_string())
        .collect();
    assert_eq!(listed, ids);
    let spent: Vec<_> = seen
        .iter()
        .rev()
        .map(|entry| entry.redeemed_at.is_some())
        .collect();
    assert_eq!(spent, [true, false, false, false, false]);
    assert_eq!(seen[0].action, harmless());
    let denied = page("status=denied".to_owned()).await;
    assert_eq!(denied.reviews.len(), 1);
    assert_eq!(denied.next_before, None);
    service.close().await;
}

#[tokio::test]
async fn going_down_ends_what_is_open_as_drained_and_takes_nothing_on() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    let mut waiting = tokio::task::JoinSet::new();
    let asking = router.clone();
    waiting.spawn(async move { submit(&asking, &submission(&unclear())).await });
    while get(&router, "/v1/reviews?status=reviewing").await.body["reviews"] == json!([]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    service.close().await;
    let drained = waiting.join_next().await.expect("asked");
    assert_eq!(drained.expect("answered").end(), "failed/drain/going_down");
    let refused = submit(&router, &submission(&harmless())).await;
    assert_eq!(refused.told(), (503, "draining"));
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let history = get(&router, "/v1/reviews").await;
    assert_eq!(
        history.body["reviews"][0]["review"]["failure"]["step"],
        "drain"
    );
    service.close().await;
}

#[tokio::test]
async fn more_than_there_is_room_for_is_refused_early() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let limits = Limits {
        in_flight_mib: 1,
        ..Limits::default()
    };
    let service = with_limits(&folder, &model.settings(), limits).await;
    let router = service.embedded_router(caller());
    let mut refused = None;
    for _ in 0..80 {
        let answered = post(&router, "/v1/reviews", &[], &submission(&unclear())).await;
        if answered.status != 202 {
            refused = Some(answered);
            break;
        }
    }
    assert_eq!(refused.expect("a refusal").told(), (503, "overloaded"));
    service.close().await;
}

#[tokio::test]
async fn a_problem_is_spelled_like_this() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let problem = get(&router, "/v1/reviews/nothing").await;
    insta::assert_snapshot!(problem.body.to_string(), @r#"{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"There is nothing here for this caller."}"#);
    service.close().await;
}
