//! People in the loop: who may answer for one, about what, until when, and that it is on record.

use serde_json::{Value, json};

use crate::harness::{Answered, harmless, redeem_body, submission, unclear, with};
use crate::roles::Stage;

fn question(deadline_ms: u64) -> Value {
    let changes = json!({"must_be_human": true, "deadline_ms": deadline_ms});
    with(submission(&unclear()), &changes)
}

fn yes() -> Value {
    json!({"answer": "allow", "reason": "agreed in the release call", "action_digest": unclear().digest()})
}

struct Team {
    stage: Stage,
    runner: String,
    same_person: String,
    approver: String,
    foreign: String,
}

impl Team {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let (code, _, err) = stage.program.output(&["tenant", "create", "acme"]);
        assert_eq!(code, 0, "{err}");
        Self {
            runner: stage.token(&["--person", "ana"]),
            same_person: stage.token(&["--role", "approver", "--person", "ana"]),
            approver: stage.token(&["--role", "approver", "--person", "bob"]),
            foreign: stage.token(&["--role", "approver", "--tenant", "acme"]),
            stage,
        }
    }

    /// Asks without waiting for the end; the review's id, once a person is waited for.
    async fn asked(&self, deadline_ms: u64) -> String {
        let body = question(deadline_ms);
        let path = "/v1/reviews";
        let router = self.stage.service.router();
        let authorization = format!("Bearer {}", self.runner);
        let headers = [("authorization", authorization.as_str())];
        let told = crate::harness::post(&router, path, &headers, &body).await;
        assert_eq!(told.status, 202, "{:?}", told.body);
        for _ in 0..100 {
            if !self.waiting(&self.approver).await.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        told.id()
    }

    async fn waiting(&self, token: &str) -> Vec<Value> {
        let told = self.stage.call(token, "GET", "/v1/waiting", None).await;
        told.body["reviews"].as_array().expect("a list").clone()
    }

    async fn answer(&self, token: &str, id: &str, body: &Value) -> Answered {
        let path = format!("/v1/reviews/{id}/answer");
        self.stage.call(token, "POST", &path, Some(body)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_person_answers_exactly_what_was_asked_once_and_with_a_reason() {
    let team = Team::new().await;
    let id = team.asked(60_000).await;
    let waiting = team.waiting(&team.approver).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["question"]["action"]["tool_name"], "close");
    assert!(team.waiting(&team.foreign).await.is_empty());

    for (token, body, told) in [
        (&team.runner, yes(), (403, "role_missing")),
        (&team.same_person, yes(), (403, "own_question")),
        (&team.foreign, yes(), (404, "not_found")),
        (
            &team.approver,
            with(yes(), &json!({"reason": " "})),
            (422, "invalid_body"),
        ),
        (
            &team.approver,
            with(yes(), &json!({"action_digest": harmless().digest()})),
            (409, "other_action"),
        ),
    ] {
        let refused = team.answer(token, &id, &body).await;
        assert_eq!(refused.told(), told, "{body}");
    }
    let told = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(told.review_status(), "approved", "{:?}", told.body);
    assert_eq!(told.body["decided_by"], "person");
    assert_eq!(told.body["rationale"], "agreed in the release call");
    let again = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(again.told(), (409, "not_waiting"));
    assert!(team.waiting(&team.approver).await.is_empty());

    let path = format!("/v1/reviews/{id}?view=full");
    let detail = team
        .stage
        .call(&team.approver, "GET", &path, None)
        .await
        .body;
    assert_eq!(
        detail["timeline"][1]["body"]["verdict"]["answered_by"],
        "bob"
    );
    let spend = redeem_body(unclear().digest(), Some("s-1"));
    let path = format!("/v1/reviews/{id}/redeem");
    let stolen = team
        .stage
        .call(&team.approver, "POST", &path, Some(&spend))
        .await;
    assert_eq!(
        stolen.told(),
        (403, "role_missing"),
        "an approver runs nothing"
    );
    let spent = team
        .stage
        .call(&team.runner, "POST", &path, Some(&spend))
        .await;
    assert_eq!(spent.status, 200, "{:?}", spent.body);
    team.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_in_time_is_no_yes_and_no_no() {
    let team = Team::new().await;
    let id = team.asked(400).await;
    let path = format!("/v1/reviews/{id}?wait=10");
    let ended = team.stage.call(&team.runner, "GET", &path, None).await;
    assert_eq!(ended.review_status(), "timed_out", "{:?}", ended.body);
    let late = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(late.told(), (409, "not_waiting"));
    let no = with(yes(), &json!({"answer": "deny"}));
    let id = team.asked(60_000).await;
    let denied = team.answer(&team.approver, &id, &no).await;
    assert_eq!(denied.review_status(), "denied");
    team.stage.service.close().await;
}
