//! What nobody could decide, or a person has to, waits at the server for an approver where the settings say so.

use std::fs;

use harness::{Ran, Stage, Started, TestServer, eventually};
use serde_json::{Value, json};

/// A server without a model, and runners that put what it cannot decide in its queue.
fn queued(fallback: &str, settings: &str) -> (Stage, TestServer, String) {
    let (stage, server) = (Stage::new(), TestServer::with(""));
    stage.ask(&server);
    let own = fs::read_to_string(stage.codex("agent-runner.toml")).expect("settings");
    stage.runner_settings(&format!("{own}[fallback]\n{fallback}\n"));
    stage.settings(&format!("sandbox_mode = \"workspace-write\"\n{settings}\n"));
    let approver = server.create_token_for("approver", "bob");
    (stage, server, approver)
}

fn asked(stage: &Stage) -> Started {
    let (command, _) = stage.canary_script();
    stage.escalate(&command).start()
}

/// What waits for an approver, once something does.
fn waiting(server: &TestServer, approver: &str) -> Value {
    eventually("a review waits for an approver", || {
        let told = server.call_as(approver, "GET", "/v1/waiting", None).value();
        told["reviews"].get(0).cloned()
    })
}

fn answer(server: &TestServer, approver: &str, review: &Value, yes: bool) {
    let id = review["review"]["review_id"].as_str().expect("an id");
    let body = json!({
        "answer": if yes { "allow" } else { "deny" },
        "reason": "talked about it",
        "action_digest": review["review"]["action_digest"],
    });
    let path = format!("/v1/reviews/{id}/answer");
    let told = server.call_as(approver, "POST", &path, Some(&body));
    assert_eq!(told.status, 200, "{}", told.value());
}

fn ended(stage: &Stage, started: Started) -> (Ran, bool) {
    let ran = started.wait();
    (ran, stage.outside("canary").exists())
}

#[test]
fn what_could_not_be_judged_waits_for_an_approver_and_runs_by_a_yes_alone() {
    let auto = "approvals_reviewer = \"auto_review\"";
    for yes in [true, false] {
        let (stage, server, approver) = queued("on_failure = \"queue\"", auto);
        let started = asked(&stage);
        let review = waiting(&server, &approver);
        assert!(!stage.outside("canary").exists());
        answer(&server, &approver, &review, yes);
        let (ran, sings) = ended(&stage, started);
        let wanted = if yes { 0 } else { 126 };
        assert_eq!((ran.code(), sings), (wanted, yes), "{}", ran.stderr);
        assert_eq!(ran.reported("/review/decided_by"), "person");
    }
}

#[test]
fn what_a_person_has_to_decide_waits_there_where_no_terminal_is() {
    let (stage, server, approver) = queued("on_failure = \"queue\"", "");
    let started = asked(&stage);
    let review = waiting(&server, &approver);
    answer(&server, &approver, &review, true);
    let (ran, sings) = ended(&stage, started);
    assert_eq!((ran.code(), sings), (0, true), "{}", ran.stderr);
}

#[test]
fn without_the_word_nothing_waits() {
    let auto = "approvals_reviewer = \"auto_review\"";
    let (stage, server, approver) = queued("on_deny = \"queue\"", auto);
    let (ran, sings) = ended(&stage, asked(&stage));
    assert_eq!((ran.code(), sings), (126, false), "{}", ran.stderr);
    assert_eq!(ran.reported("/status"), "failed");
    let told = server
        .call_as(&approver, "GET", "/v1/waiting", None)
        .value();
    assert_eq!(told["reviews"].as_array().map(Vec::len), Some(0));
}
