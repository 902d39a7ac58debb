//! Turns, sessions, stale approvals and a person's leave, through the API.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::{
    Answered, Folder, SilentModel, command, embedded, get, harmful, harmless, post, redeem_body,
    submission, submit, unclear, with,
};
use crate::roles::Stage;

fn in_turn(action: &protocol::Action, session: Option<&str>, turn: Option<&str>) -> Value {
    let session = json!({"session": {"session_id": session, "turn_id": turn}});
    with(submission(action), &session)
}

#[tokio::test]
async fn three_denials_stop_a_turn_over_a_restart_and_the_next_turn_is_free() {
    let folder = Folder::new();
    let turn = |name| in_turn(&harmful(), Some("s-1"), Some(name));
    for round in 0..4 {
        let service = embedded(&folder, "").await;
        let router = service.embedded_router(protocol::CallerId::of_uid(1));
        let told = submit(&router, &turn("t-1")).await;
        let wanted = if round < 3 {
            "denied"
        } else {
            "failed/breaker/too_many_denials"
        };
        assert_eq!(told.end(), wanted, "{:?}", told.body);
        service.close().await;
    }
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(protocol::CallerId::of_uid(1));
    // Neither what is harmless nor what a person would be asked gets by; P5 holds.
    let harmless_now = submit(&router, &in_turn(&harmless(), Some("s-1"), Some("t-1"))).await;
    assert_eq!(harmless_now.end(), "failed/breaker/too_many_denials");
    assert_eq!(harmless_now.body["risk_level"], Value::Null);
    assert_eq!(harmless_now.body["outcome"], Value::Null);
    assert_eq!(submit(&router, &turn("t-2")).await.end(), "denied");
    let other = service.embedded_router(protocol::CallerId::of_uid(2));
    assert_eq!(
        submit(&other, &in_turn(&harmful(), Some("s-2"), Some("t-1")))
            .await
            .end(),
        "denied"
    );
    let session = get(&router, "/v1/sessions/s-1").await;
    let turns = session.body["turns"].as_array().expect("turns").clone();
    let told: Vec<_> = turns
        .iter()
        .map(|turn| {
            json!([
                turn["turn_id"],
                turn["reviews"],
                turn["denied_in_a_row"],
                turn["stopped"]["code"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["t-2", 1, 1, null]),
            json!(["t-1", 3, 3, "too_many_denials"])
        ]
    );
    assert_eq!(
        get(&other, "/v1/sessions/s-1").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        get(&router, "/v1/sessions/none").await.status,
        StatusCode::NOT_FOUND
    );
    service.close().await;
}

#[tokio::test]
async fn without_a_session_user_and_workspace_count_and_there_is_no_ceiling() {
    let folder = Folder::new();
    let service = embedded(&folder, "[reviewer.breaker]\nreviews_per_turn = 2\n").await;
    let router = service.embedded_router(protocol::CallerId::of_uid(1));
    for _ in 0..4 {
        let told = submit(&router, &in_turn(&harmless(), None, None)).await;
        assert_eq!(told.end(), "approved");
    }
    for wanted in [
        "denied",
        "denied",
        "denied",
        "failed/breaker/too_many_denials",
    ] {
        let told = submit(&router, &in_turn(&harmful(), None, Some("t-1"))).await;
        assert_eq!(told.end(), wanted);
    }
    let elsewhere = json!({"environment": {
        "host": "h", "user": "u", "cwd": "/srv/other", "workspace_roots": ["/srv/other"],
        "sandbox_mode": "workspace-write", "approval_policy": "on-request",
    }});
    let told = submit(&router, &with(in_turn(&harmful(), None, None), &elsewhere)).await;
    assert_eq!(told.end(), "denied");
    for wanted in ["approved", "approved", "failed/budget/too_many_reviews"] {
        let told = submit(&router, &in_turn(&harmless(), Some("s-1"), Some("t-1"))).await;
        assert_eq!(told.end(), wanted);
    }
    service.close().await;
}

/// A model that says yes to the first question once it is told to, and notes what it was asked.
mod slow_model {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;
    use tokio_util::task::TaskTracker;

    pub(super) struct SlowModel {
        pub(super) answers: Arc<Semaphore>,
        pub(super) asked: Arc<Mutex<Vec<Value>>>,
        /// One permit for each call that the other side gave up.
        pub(super) given_up: Arc<Semaphore>,
        address: std::net::SocketAddr,
    }

    impl SlowModel {
        pub(super) async fn new(outcome: &'static str, risk: &'static str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let answers = Arc::new(Semaphore::new(0));
            let asked = Arc::default();
            let given_up = Arc::new(Semaphore::new(0));
            let (gate, notes) = (Arc::clone(&answers), Arc::clone(&asked));
            let left = Arc::clone(&given_up);
            let tasks = TaskTracker::new();
            let calls = tasks.clone();
            drop(tasks.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (gate, notes) = (Arc::clone(&gate), Arc::clone(&notes));
                    let left = Arc::clone(&left);
                    let answering = answer(stream, (gate, left), notes, (outcome, risk));
                    drop(calls.spawn(answering));
                }
            }));
            Self {
                answers,
                asked,
                given_up,
                address,
            }
        }

        pub(super) fn settings(&self) -> String {
            format!(
                "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://{}/v1\"\nmodel = \"m\"\n",
                self.address
            )
        }

        /// Waits until so many questions have come.
        pub(super) async fn was_asked(&self, count: usize) {
            for _ in 0..3_000 {
                if self.asked.lock().expect("whole").len() >= count {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("the model was not asked {count} times");
        }
    }

    async fn answer(
        mut stream: tokio::net::TcpStream,
        (gate, given_up): (Arc<Semaphore>, Arc<Semaphore>),
        notes: Arc<Mutex<Vec<Value>>>,
        (outcome, risk): (&str, &str),
    ) {
        let mut bytes = Vec::new();
        let body = loop {
            let mut part = vec![0; 65_536];
            let count = stream.read(&mut part).await.expect("read");
            assert_ne!(count, 0, "it ended early");
            bytes.extend_from_slice(&part[..count]);
            if let Some(body) = whole(&bytes) {
                break body;
            }
        };
        notes.lock().expect("whole").push(body);
        let mut more = [0];
        tokio::select! {
            permit = gate.acquire() => permit.expect("open").forget(),
            // Nothing more is sent on a connection that waits for its answer.
            _end = stream.read(&mut more) => return given_up.add_permits(1),
        }
        let assessment = json!({
            "risk_level": risk, "user_authorization": "high", "outcome": outcome, "rationale": "as told",
        });
        let reply = json!({
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": assessment.to_string()}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        })
        .to_string();
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{reply}",
            reply.len()
        );
        stream.write_all(text.as_bytes()).await.expect("written");
    }

    fn whole(bytes: &[u8]) -> Option<Value> {
        let text = String::from_utf8_lossy(bytes);
        let (_, body) = text.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }
}

use slow_model::SlowModel;

fn saying(texts: &[&str], turn: &str) -> Value {
    let entries: Vec<Value> = texts
        .iter()
        .zip(1..)
        .map(|(text, n)| json!({"n": n, "author": "user", "trust": "trusted", "text": text}))
        .collect();
    let changes = json!({
        "client": {"name": "test", "version": "0", "channel": "adapter"},
        "transcript": {"complete": true, "entries": entries},
    });
    with(in_turn(&unclear(), Some("s-1"), Some(turn)), &changes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_stale_where_the_user_spoke_while_the_model_thought() {
    let folder = Folder::new();
    let model = SlowModel::new("allow", "low").await;
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(protocol::CallerId::of_uid(1));
    let first = saying(&["look after the tickets"], "t");
    let (early, late) = tokio::join!(submit(&router, &first), async {
        model.was_asked(1).await;
        let body = saying(&["look after the tickets", "no, wait"], "t");
        let (late, ()) = tokio::join!(submit(&router, &body), async {
            model.was_asked(2).await;
            model.answers.add_permits(2);
        });
        late
    });
    assert_eq!(early.end(), "failed/prompt/stale_authorization");
    assert_eq!(early.body["failure"]["retryable"], true);
    assert_eq!(early.body["risk_level"], Value::Null);
    assert_eq!(late.end(), "approved");
    let spent = post(
        &router,
        &format!("/v1/reviews/{}/redeem", early.id()),
        &[],
        &redeem_body(unclear().digest(), Some("s-1")),
    )
    .await;
    assert_eq!(spent.told(), (409, "not_approved"));
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_taken_back_stops_the_call_of_its_model() {
    let folder = Folder::new();
    let model = SlowModel::new("allow", "low").await;
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(protocol::CallerId::of_uid(1));
    let opened = post(&router, "/v1/reviews", &[], &saying(&["look"], "t")).await;
    model.was_asked(1).await;
    assert_eq!(model.given_up.available_permits(), 0);
    let abort = format!("/v1/reviews/{}/abort", opened.id());
    let aborted = post(&router, &abort, &[], &Value::Null).await;
    assert_eq!(aborted.end(), "aborted");
    let patience = std::time::Duration::from_secs(30);
    let stopped = tokio::time::timeout(patience, model.given_up.acquire()).await;
    stopped
        .expect("the call is stopped")
        .expect("open")
        .forget();
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_review_of_a_session_shows_the_model_only_what_is_new_and_nothing_of_another() {
    let folder = Folder::new();
    let model = SlowModel::new("allow", "low").await;
    model.answers.add_permits(8);
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(protocol::CallerId::of_uid(1));
    assert_eq!(
        submit(&router, &saying(&["look after the tickets"], "t"))
            .await
            .end(),
        "approved"
    );
    let second = submit(
        &router,
        &saying(&["look after the tickets", "and again"], "t"),
    )
    .await;
    assert_eq!(second.end(), "approved");
    let other = service.embedded_router(protocol::CallerId::of_uid(2));
    let foreign = with(
        saying(&["look after the tickets", "and again"], "t"),
        &json!({"session": {"session_id": "s-2"}}),
    );
    assert_eq!(submit(&other, &foreign).await.end(), "approved");
    let asked = model.asked.lock().expect("whole").clone();
    let roles = |at: usize| -> Vec<String> {
        let messages = asked[at]["messages"].as_array().expect("messages");
        messages
            .iter()
            .map(|message| message["role"].as_str().unwrap_or("-").to_owned())
            .collect()
    };
    assert_eq!(roles(0), ["system", "user"]);
    assert_eq!(roles(1), ["system", "user", "assistant", "user"]);
    assert_eq!(roles(2), ["system", "user"], "another caller's session");
    assert_eq!(asked[1]["messages"][0], asked[0]["messages"][0]);
    assert_eq!(asked[1]["messages"][1], asked[0]["messages"][1]);
    let new = asked[1]["messages"][3]["content"].as_str().expect("text");
    assert!(
        new.contains("and again") && !new.contains("look after the tickets"),
        "{new}"
    );
    let path = format!("/v1/reviews/{}?view=full", second.id());
    let exhibit = get(&router, &path).await.body["exhibit"].clone();
    assert_eq!(exhibit["reviews_before"], 1);
    assert_eq!(exhibit["attempts"][0]["tokens"]["input"], 10);
    service.close().await;
}

fn risky() -> protocol::Action {
    // Denied by the built-in rules, with high risk.
    command(&["cat", "/home/u/.aws/credentials"])
}

async fn give(stage: &Stage, token: &str, id: &str, changes: &Value) -> Answered {
    let body = with(
        json!({"reason": "it is a copy", "action_digest": risky().digest()}),
        changes,
    );
    let path = format!("/v1/reviews/{id}/leave");
    stage.call(token, "POST", &path, Some(&body)).await
}

async fn ask(stage: &Stage, token: &str, body: &Value) -> Answered {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("prefer", "wait=30"),
    ];
    let router = stage.service.router();
    post(&router, "/v1/reviews", &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_starts_the_counts_of_its_turn_anew_at_once() {
    let stage = Stage::new().await;
    let runner = stage.token(&["--person", "ana"]);
    let approver = stage.token(&["--role", "approver", "--person", "bob"]);
    let question = in_turn(&risky(), Some("s-1"), Some("t-1"));
    let denied = ask(&stage, &runner, &question).await;
    for _ in 0..2 {
        assert_eq!(ask(&stage, &runner, &question).await.end(), "denied");
    }
    let stopped = ask(&stage, &runner, &question).await;
    assert_eq!(stopped.end(), "failed/breaker/too_many_denials");
    assert_eq!(
        give(&stage, &approver, &denied.id(), &json!({}))
            .await
            .status,
        201
    );
    // Nothing else is written in between.
    assert_eq!(ask(&stage, &runner, &question).await.end(), "approved");
    stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_lifts_one_denial_once_for_exactly_that_action() {
    let stage = Stage::new().await;
    let runner = stage.token(&["--person", "ana"]);
    let other_runner = stage.token(&[]);
    let same_person = stage.token(&["--role", "approver", "--person", "ana"]);
    let approver = stage.token(&["--role", "approver", "--person", "bob"]);
    let question = in_turn(&risky(), Some("s-1"), Some("t-1"));
    let denied = ask(&stage, &runner, &question).await;
    assert_eq!(denied.end(), "denied", "{:?}", denied.body);
    for _ in 0..2 {
        assert_eq!(ask(&stage, &runner, &question).await.end(), "denied");
    }
    let stopped = ask(&stage, &runner, &question).await;
    assert_eq!(stopped.end(), "failed/breaker/too_many_denials");
    let id = denied.id();
    for (token, changes, told) in [
        (&runner, json!({}), (403, "role_missing")),
        (&same_person, json!({}), (403, "own_question")),
        (&approver, json!({"reason": " "}), (422, "invalid_body")),
        (&approver, json!({"valid_secs": 0}), (422, "invalid_body")),
        (
            &approver,
            json!({"valid_secs": 86_401}),
            (422, "invalid_body"),
        ),
        (
            &approver,
            json!({"action_digest": harmful().digest()}),
            (409, "other_action"),
        ),
    ] {
        assert_eq!(
            give(&stage, token, &id, &changes).await.told(),
            told,
            "{changes}"
        );
    }
    assert_eq!(
        give(&stage, &approver, &stopped.id(), &json!({}))
            .await
            .told(),
        (409, "not_liftable"),
        "what failed was not denied"
    );
    assert_eq!(give(&stage, &approver, &id, &json!({})).await.status, 201);
    assert_eq!(
        give(&stage, &approver, &id, &json!({})).await.told(),
        (409, "already_lifted")
    );
    // Another session and another caller have nothing of it.
    let elsewhere = in_turn(&risky(), Some("s-2"), Some("t-1"));
    assert_eq!(ask(&stage, &runner, &elsewhere).await.end(), "denied");
    let theirs = in_turn(&risky(), Some("s-3"), Some("t-1"));
    assert_eq!(ask(&stage, &other_runner, &theirs).await.end(), "denied");
    // The turn that was stopped goes on, and the action is done once.
    let lifted = ask(&stage, &runner, &question).await;
    assert_eq!(lifted.end(), "approved", "{:?}", lifted.body);
    assert_eq!(lifted.body["decided_by"], "person");
    assert_eq!(ask(&stage, &runner, &question).await.end(), "denied");
    let path = format!("/v1/reviews/{}?view=full", lifted.id());
    let detail = stage.call(&approver, "GET", &path, None).await;
    assert!(detail.text.contains(&id), "the denied review is named");
    assert!(detail.text.contains("bob"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_never_lifts_what_is_critical_and_a_forged_row_lifts_nothing() {
    let stage = Stage::new().await;
    let runner = stage.token(&[]);
    let approver = stage.token(&["--role", "approver"]);
    let critical = ask(&stage, &runner, &in_turn(&harmful(), Some("s-1"), None)).await;
    assert_eq!(critical.end(), "denied");
    let body = json!({"reason": "sure", "action_digest": harmful().digest()});
    let path = format!("/v1/reviews/{}/leave", critical.id());
    let told = stage.call(&approver, "POST", &path, Some(&body)).await;
    assert_eq!(told.told(), (409, "not_liftable"));
    let denied = ask(&stage, &runner, &in_turn(&risky(), Some("s-1"), None)).await;
    assert_eq!(
        give(&stage, &approver, &denied.id(), &json!({}))
            .await
            .status,
        201
    );
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(stage.folder.database());
    let mut connection = options.connect().await.expect("a connection");
    sqlx::raw_sql("UPDATE leaves SET given_by = 'mallory'")
        .execute(&mut connection)
        .await
        .expect("changed");
    connection.close().await.expect("closed");
    let again = ask(&stage, &runner, &in_turn(&risky(), Some("s-1"), None)).await;
    assert_eq!(
        again.end(),
        "denied",
        "its signature does not hold any more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_who_ask_at_once_under_one_leave_one_is_approved() {
    let stage = std::sync::Arc::new(
        Stage::with("[reviewer.breaker]\ndenials_in_a_row = 50\ndenials_among_last_50 = 50\n")
            .await,
    );
    let runner = stage.token(&[]);
    let approver = stage.token(&["--role", "approver"]);
    let question = in_turn(&risky(), Some("s-1"), None);
    let denied = ask(&stage, &runner, &question).await;
    assert_eq!(
        give(&stage, &approver, &denied.id(), &json!({}))
            .await
            .status,
        201
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (stage, runner, question) = (
            std::sync::Arc::clone(&stage),
            runner.clone(),
            question.clone(),
        );
        tasks.spawn(async move { ask(&stage, &runner, &question).await.end() });
    }
    let mut approved = 0;
    while let Some(end) = tasks.join_next().await {
        approved += usize::from(end.expect("a task") == "approved");
    }
    assert_eq!(approved, 1);
}

#[tokio::test]
async fn readiness_tells_of_a_model_that_does_not_answer() {
    use crate::harness::Program;
    let folder = Folder::new();
    let silent = SilentModel::new();
    drop(silent);
    // A port that nobody listens on: refused at once.
    let program = Program::new(
        &folder,
        "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"no-such-model\"\n",
    );
    let token = program.token();
    let server = program.serve();
    for _ in 0..1_000 {
        let told = server.get(&token, "/readyz").await;
        if told.told() == (503, "model_unavailable") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it was never told");
}
