//! An approval is spent once, by the caller it was given to, for the action and session it was given for, within a
//! minute (P1, D17, D19).

use std::time::Duration;

use harness::{Answer, Proxy};
use serde_json::{Value, json};

use super::{Trusting, count};
use crate::records::text_at;

/// A review that was approved and whose approval was not spent: its id, and the body that would spend it.
fn unspent(trusting: &Trusting, session: Option<&str>) -> (String, Value) {
    let proxy = Proxy::with(trusting.server.address(), |_, reply| Answer::Reply(reply));
    let (script, file) = trusting.counting_script();
    let address = trusting.server.address();
    let gate = harness::Loopback::start(move |request| {
        if request.target.ends_with("/redeem") {
            return Answer::Close;
        }
        harness::call(address, &request).map_or(Answer::Close, Answer::Reply)
    });
    drop(proxy);
    trusting.stage.ask_at(&trusting.server, &gate.url());
    let mut flags = vec!["--escalate"];
    flags.extend(session.iter().flat_map(|session| ["--session", session]));
    let ran = trusting.stage.exec(&flags, &script).ran();
    assert_eq!(
        ran.code(),
        126,
        "an approval that could not be spent is worth nothing: {}",
        ran.stderr
    );
    assert_eq!(count(&file), 0);
    let entry = &trusting.server.history()[0];
    assert_eq!(text_at(entry, "/review/status"), "approved");
    assert_eq!(entry["redeemed_at"], Value::Null);
    let body = json!({ "action_digest": entry["review"]["action_digest"], "session_id": session });
    (text_at(entry, "/review/review_id"), body)
}

fn refused(trusting: &Trusting, id: &str, body: &Value, code: &str) {
    let reply = trusting
        .server
        .call("POST", &format!("/v1/reviews/{id}/redeem"), Some(body));
    assert_eq!(
        (reply.status, text_at(&reply.value(), "/code").as_str()),
        (409, code),
        "{body}"
    );
}

#[test]
fn an_approval_is_spent_once() {
    let trusting = Trusting::new();
    let (id, body) = unspent(&trusting, None);
    let target = format!("/v1/reviews/{id}/redeem");
    assert_eq!(
        trusting.server.call("POST", &target, Some(&body)).status,
        200
    );
    refused(&trusting, &id, &body, "already_redeemed");
    refused(&trusting, &id, &body, "already_redeemed");
}

#[test]
fn twenty_at_once_spend_an_approval_once() {
    let trusting = Trusting::new();
    let (id, body) = unspent(&trusting, None);
    let target = format!("/v1/reviews/{id}/redeem");
    let server = &trusting.server;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| server.call("POST", &target, Some(&body)).status))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("a status"))
            .collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [200, 409].contains(status)),
        "{statuses:?}"
    );
}

#[test]
fn an_approval_is_for_its_caller_action_and_session_alone() {
    let trusting = Trusting::new();
    let (id, body) = unspent(&trusting, Some("s-1"));
    let target = format!("/v1/reviews/{id}/redeem");
    let stranger = trusting.server.create_token();
    // A new token counts a second later at most.
    let reply = harness::eventually("the new token to count", || {
        let reply = trusting
            .server
            .call_as(&stranger, "POST", &target, Some(&body));
        (reply.status != 401).then_some(reply)
    });
    assert_eq!(reply.status, 404, "what is another caller's is not there");
    assert_eq!(
        trusting
            .server
            .call_as(&stranger, "GET", &format!("/v1/reviews/{id}"), None)
            .status,
        404
    );
    assert_eq!(
        trusting
            .server
            .call_as("arv_0", "POST", &target, Some(&body))
            .status,
        401
    );

    let mut other_session = body.clone();
    other_session["session_id"] = json!("s-2");
    refused(&trusting, &id, &other_session, "other_session");
    let mut no_session = body.clone();
    no_session["session_id"] = Value::Null;
    refused(&trusting, &id, &no_session, "other_session");
    let mut other_action = body.clone();
    other_action["action_digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    refused(&trusting, &id, &other_action, "other_action");
    assert_eq!(
        trusting.server.call("POST", &target, Some(&body)).status,
        200,
        "it is still there for whom it is"
    );
}

#[test]
fn an_approval_is_worth_nothing_after_a_minute() {
    let trusting = Trusting::new();
    let (id, body) = unspent(&trusting, None);
    let entry = &trusting.server.history()[0];
    let at = |pointer| {
        text_at(entry, pointer)
            .parse::<jiff::Timestamp>()
            .expect("a time")
    };
    let (completed, expires) = (at("/review/completed_at"), at("/review/expires_at"));
    let life = expires.as_millisecond() - completed.as_millisecond();
    assert!((1..=60_000).contains(&life), "{life} ms");
    let left = expires.as_millisecond() - jiff::Timestamp::now().as_millisecond() + 200;
    std::thread::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
    refused(&trusting, &id, &body, "approval_expired");
}

#[test]
fn a_review_that_was_not_approved_cannot_be_spent() {
    let trusting = Trusting::new();
    let precious = trusting.stage.outside("precious");
    std::fs::create_dir(&precious).expect("a folder");
    let ran = trusting
        .stage
        .escalate(&["rm", "-rf", &precious.display().to_string()])
        .ran();
    assert_eq!(ran.reported("/status"), "denied", "{}", ran.stderr);
    let id = ran.reported("/review/review_id");
    let body =
        json!({ "action_digest": ran.report["review"]["action_digest"], "session_id": null });
    refused(&trusting, &id, &body, "not_approved");
}

#[test]
fn a_session_belongs_to_the_caller_that_opened_it() {
    let trusting = Trusting::new();
    let (_, _) = unspent(&trusting, Some("s-1"));
    let other = harness::Folder::new();
    let token = other.file("token", &trusting.server.create_token());
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    trusting
        .stage
        .ask_with(&trusting.server.url(), trusting.server.key(), &token);
    let (script, file) = trusting.counting_script();
    let code = harness::eventually("the new token to count", || {
        let ran = trusting
            .stage
            .exec(&["--escalate", "--session", "s-1"], &script)
            .ran();
        assert_eq!(ran.code(), 126, "{}", ran.stderr);
        let code = trusting
            .stage
            .journal()
            .last()
            .map(|entry| text_at(entry, "/event/failure/code"));
        code.filter(|code| code != "unauthorized")
    });
    assert_eq!(code, "session_taken");
    assert_eq!(count(&file), 0);
}
