//! Processes that start together, die and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::CallerId;
use serde_json::{Value, json};

use crate::harness::{
    Folder, Program, Server, SilentModel, chain_length, embedded, get, harmless, post, raw,
    redeem_body, submission, submit, unclear, until, with,
};

/// A submission in a session of its own, so that servers can share callers.
fn question(action: &protocol::Action, session: &str) -> Value {
    with(
        submission(action),
        &json!({"session": {"session_id": session}}),
    )
}

#[tokio::test]
async fn a_review_whose_process_was_killed_is_failed_as_restart_and_its_approvals_live_on() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let program = Program::new(&folder, &model.settings());
    let token = program.token();
    let (_, auditor, _) = program.output(&["token", "create", "--role", "auditor"]);
    let mut first = program.serve();
    let approved = first
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await;
    let open = first
        .call(
            &format!(
                "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
                crate::harness::bearer(&token)
            ),
            &submission(&unclear()).to_string(),
        )
        .await;
    assert_eq!(
        (open.status.as_u16(), open.review_status()),
        (202, "reviewing")
    );
    first.kill();
    let second = program.serve();
    let closed = second
        .get(&token, &format!("/v1/reviews/{}", open.id()))
        .await;
    assert_eq!(closed.end(), "failed/restart/owner_gone");
    assert!(closed.body["risk_level"].is_null() && closed.body["outcome"].is_null());
    // Whoever closes it tells of it: the process that took it in cannot.
    let measured = second.get(auditor.trim(), "/metrics").await.text;
    let closed = "auto_review_reviews_total{status=\"failed\",decided_by=\"none\",risk_level=\"\",\
                  failed_step=\"restart\"} 1\n";
    assert!(measured.contains(closed), "{measured}");
    let path = format!("/v1/reviews/{}/redeem", approved.id());
    let redeem = redeem_body(harmless().digest(), Some("s-1"));
    assert_eq!(second.post(&token, &path, &redeem).await.status, 200);
    assert_eq!(
        second.post(&token, &path, &redeem).await.told(),
        (409, "already_redeemed")
    );
}

#[tokio::test]
async fn killed_at_work_no_approval_that_was_told_is_missing_and_none_is_half_there() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let mut server = program.serve();
    // The first allow is opened before it is judged; from then on both events are one transaction.
    let body = submission(&harmless());
    let first = server.post(&token, "/v1/reviews", &body).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (address, token) = (server.address, token.clone());
        tasks.spawn(async move {
            let head = format!(
                "POST /v1/reviews HTTP/1.1\r\n{}prefer: wait=30\r\ncontent-type: application/json\r\n",
                crate::harness::bearer(&token)
            );
            let body = submission(&harmless()).to_string();
            let mut told = Vec::new();
            loop {
                let answered = crate::harness::try_call_at(address, &head, &body).await;
                match answered {
                    Some(answered) if answered.status == 200 => told.push(answered.id()),
                    Some(_) | None => return told,
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill();
    let mut told: BTreeSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    told.insert(first.id());
    assert!(told.len() > 8, "it was at work: {}", told.len());
    let mut record = raw(&folder.database()).await;
    let open = sqlx::query("SELECT 1 FROM reviews WHERE status <> 'approved'");
    let open = open.fetch_all(&mut record).await.expect("rows");
    assert_eq!(open.len(), 0, "opened and ended are one transaction");
    let all = sqlx::query("SELECT 1 FROM reviews").fetch_all(&mut record);
    let all = all.await.expect("rows").len();
    assert_eq!(chain_length(&folder.database()).await, 2 * all);
    let next = program.serve();
    for id in told {
        let there = next.get(&token, &format!("/v1/reviews/{id}")).await;
        assert_eq!(there.review_status(), "approved");
    }
}

#[tokio::test]
async fn only_the_dead_process_s_reviews_are_closed_also_while_the_others_run() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let program = Program::new(&folder, &model.settings());
    let token = program.token();
    let (mut dying, living) = (program.serve(), program.serve());
    let open = async |server: &Server, session: &str| {
        let head = format!(
            "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
            crate::harness::bearer(&token)
        );
        server
            .call(&head, &question(&unclear(), session).to_string())
            .await
            .id()
    };
    let (orphan, held) = (open(&dying, "s-1").await, open(&living, "s-2").await);
    // A third process that starts now finds both owners alive.
    let third = program.serve();
    let show = async |id: &str| living.get(&token, &format!("/v1/reviews/{id}")).await;
    assert_eq!(show(&orphan).await.review_status(), "reviewing");
    dying.kill();
    let closed = until(
        || show(&orphan),
        |answered| answered.review_status() != "reviewing",
    )
    .await;
    assert_eq!(closed.end(), "failed/restart/owner_gone");
    assert_eq!(show(&held).await.review_status(), "reviewing");
    // What another process holds can be taken back from here, and that process sees it.
    let aborted = third
        .post(&token, &format!("/v1/reviews/{held}/abort"), &Value::Null)
        .await;
    assert_eq!(aborted.end(), "aborted");
    assert_eq!(
        show(&held).await.review_status(),
        "reviewing",
        "its own process still judges it"
    );
}

#[tokio::test]
async fn sigterm_ends_what_is_open_as_drained_and_answers_who_waits() {
    let folder = Folder::new();
    let model = SilentModel::new();
    let program = Program::new(&folder, &model.settings());
    let token = program.token();
    let mut server = program.serve();
    let address = server.address;
    let asking = {
        let head = format!(
            "POST /v1/reviews HTTP/1.1\r\n{}prefer: wait=60\r\ncontent-type: application/json\r\n",
            crate::harness::bearer(&token)
        );
        async move { crate::harness::call_at(address, &head, &submission(&unclear()).to_string()).await }
    };
    let stopping = async {
        let open = || server.get(&token, "/v1/reviews?status=reviewing");
        until(open, |answered| answered.body["reviews"] != json!([])).await;
        server.terminate()
    };
    let (drained, code) = tokio::join!(asking, stopping);
    assert_eq!(code, Some(0));
    assert_eq!(drained.end(), "failed/drain/going_down");
}

#[tokio::test]
async fn twenty_first_starts_at_once_all_work_on_one_database() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let children: Vec<_> = (0..20)
        .map(|_| {
            let mut command = program.command(&["token", "create"]);
            command.stdout(std::process::Stdio::piped());
            command.spawn().expect("started")
        })
        .collect();
    let tokens: BTreeSet<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("ended");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("a token")
        })
        .collect();
    assert_eq!(tokens.len(), 20);
}

#[tokio::test]
async fn twenty_processes_at_once_keep_one_record_and_one_chain() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let servers: Vec<_> = (0..20).map(|_| program.serve()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, server) in servers.iter().enumerate() {
        let (address, token) = (server.address, token.clone());
        tasks.spawn(async move {
            let head = format!(
                "POST /v1/reviews HTTP/1.1\r\n{}prefer: wait=60\r\ncontent-type: application/json\r\n",
                crate::harness::bearer(&token)
            );
            let mut ids = Vec::new();
            for _ in 0..10 {
                let body = question(&harmless(), &format!("s-{number}")).to_string();
                let answered = crate::harness::call_at(address, &head, &body).await;
                assert_eq!(answered.review_status(), "approved", "{answered:?}");
                ids.push(answered.id());
            }
            ids
        });
    }
    let ids: BTreeSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.len(), 200);
    // One approval, asked for by twenty processes at once, is spent once.
    let id = ids.first().expect("an id");
    let path = format!("/v1/reviews/{id}");
    let session = session_of(&servers[0], &token, id).await;
    let redeem = redeem_body(harmless().digest(), Some(&session));
    let mut spent = 0;
    for server in &servers {
        let answered = server
            .post(&token, &format!("{path}/redeem"), &redeem)
            .await;
        spent += usize::from(answered.status == 200);
    }
    assert_eq!(spent, 1);
    drop(servers);
    assert_eq!(chain_length(&folder.database()).await, 401);
}

async fn session_of(server: &Server, token: &str, id: &str) -> String {
    let page = server.get(token, "/v1/reviews?limit=200").await;
    let entries = page.body["reviews"].as_array().expect("a page").clone();
    let entry = entries
        .iter()
        .find(|entry| entry["review"]["review_id"] == id);
    let session = entry.and_then(|entry| entry["session"]["session_id"].as_str());
    session.expect("a session").to_owned()
}

#[tokio::test]
async fn two_services_in_two_processes_of_one_user_share_history_and_sessions() {
    let folder = Folder::new();
    let caller = CallerId::of_uid(1000);
    let (one, two) = (embedded(&folder, "").await, embedded(&folder, "").await);
    let (first, second) = (
        one.embedded_router(caller.clone()),
        two.embedded_router(caller),
    );
    let id = submit(&first, &submission(&harmless())).await.id();
    let seen = get(&second, &format!("/v1/reviews/{id}")).await;
    assert_eq!(seen.review_status(), "approved");
    let open = with(
        submission(&harmless()),
        &json!({"must_be_human": true, "deadline_ms": 60_000}),
    );
    let open = post(&first, "/v1/reviews", &[], &open).await.id();
    let waiting = get(&second, &format!("/v1/reviews/{open}?wait=1")).await;
    assert_eq!(waiting.review_status(), "reviewing");
    let elsewhere = post(
        &second,
        &format!("/v1/reviews/{open}/answer"),
        &[],
        &json!({"answer": "allow"}),
    )
    .await;
    assert_eq!(
        elsewhere.told(),
        (409, "not_waiting"),
        "the person sits at the other terminal"
    );
    one.close().await;
    let closed = get(&second, &format!("/v1/reviews/{open}?wait=5")).await;
    assert_eq!(closed.end(), "failed/drain/going_down");
    tokio::time::sleep(Duration::from_millis(1)).await;
    two.close().await;
}
