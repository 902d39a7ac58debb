//! The store is locked, full, read-only or gone: nothing is answered as approved, and what was open ends as failed.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use protocol::CallerId;
use serde_json::json;
use sqlx::Executor as _;

use crate::harness::{
    Answered, Folder, Program, Server, embedded, get, harmless, post, program, raw, submission,
    submit, until, with,
};

#[tokio::test]
async fn a_locked_store_opens_nothing_and_says_so() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    let mut holder = raw(&folder.database()).await;
    holder.execute("BEGIN IMMEDIATE").await.expect("held");
    let refused = server
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await;
    assert_eq!(refused.told(), (503, "store_failed"));
    assert_eq!(
        server.call("GET /readyz HTTP/1.1\r\n", "").await.told(),
        (503, "store_failed")
    );
    assert_eq!(
        server.call("GET /healthz HTTP/1.1\r\n", "").await.status,
        200
    );
    holder.execute("ROLLBACK").await.expect("let go");
    let page = server.get(&token, "/v1/reviews").await;
    assert_eq!(page.body["reviews"], json!([]), "nothing was reviewed");
    let approved = server
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await;
    assert_eq!(approved.review_status(), "approved");
}

#[tokio::test]
async fn an_approval_that_cannot_be_recorded_is_never_told_and_ends_as_failed() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(CallerId::of_uid(1000));
    let body = with(submission(&harmless()), &json!({"must_be_human": true}));
    let id = post(&router, "/v1/reviews", &[], &body).await.id();
    let mut holder = raw(&folder.database()).await;
    holder.execute("BEGIN IMMEDIATE").await.expect("held");
    let answer = format!("/v1/reviews/{id}/answer");
    let told = post(&router, &answer, &[], &json!({"answer": "allow"})).await;
    assert_eq!(told.told(), (503, "store_failed"));
    let path = format!("/v1/reviews/{id}");
    assert_eq!(get(&router, &path).await.review_status(), "reviewing");
    holder.execute("ROLLBACK").await.expect("let go");
    let end = until(
        || get(&router, &path),
        |answered| answered.review_status() != "reviewing",
    )
    .await;
    assert_eq!(end.end(), "failed/store/not_recorded");
    service.close().await;
}

#[tokio::test]
async fn an_approval_lost_with_its_process_is_closed_by_the_next_one() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(CallerId::of_uid(1000));
    let body = with(submission(&harmless()), &json!({"must_be_human": true}));
    let id = post(&router, "/v1/reviews", &[], &body).await.id();
    let mut holder = raw(&folder.database()).await;
    holder.execute("BEGIN IMMEDIATE").await.expect("held");
    let answer = format!("/v1/reviews/{id}/answer");
    post(&router, &answer, &[], &json!({"answer": "allow"})).await;
    service.close().await;
    holder.execute("ROLLBACK").await.expect("let go");
    let next = embedded(&folder, "").await;
    let router = next.embedded_router(CallerId::of_uid(1000));
    let end = get(&router, &format!("/v1/reviews/{id}")).await;
    assert_eq!(end.end(), "failed/restart/owner_gone");
    next.close().await;
}

#[tokio::test]
async fn a_store_that_was_moved_away_promises_nothing() {
    let folder = Folder::new();
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(CallerId::of_uid(1000));
    assert_eq!(
        submit(&router, &submission(&harmless()))
            .await
            .review_status(),
        "approved"
    );
    std::fs::rename(folder.database(), folder.path("away")).expect("moved");
    let refused = submit(&router, &submission(&harmless())).await;
    assert_eq!(refused.told(), (503, "store_failed"));
    service.close().await;
}

/// Submits smaller and smaller bodies until the store refuses them all; how many were approved, and the last refusal.
async fn fill(server: &Server, token: &str) -> (usize, Answered) {
    let mut approved = 0;
    let mut refusal = None;
    for size in [200_000, 20_000, 1] {
        let padding = json!({"extra": {"padding": "x".repeat(size)}});
        let body = with(submission(&harmless()), &padding);
        for _ in 0..400 {
            let answered = server.post(token, "/v1/reviews", &body).await;
            if answered.status != 200 {
                refusal = Some(answered);
                break;
            }
            assert_eq!(answered.review_status(), "approved");
            approved += 1;
        }
    }
    (approved, refusal.expect("the store filled up"))
}

async fn a_full_store_fails_closed(server: &Server, token: &str) {
    let (approved, refused) = fill(server, token).await;
    assert!(approved > 0, "it worked while there was room: {refused:?}");
    assert_eq!(refused.told(), (503, "store_failed"));
    let ready = until(
        || server.call("GET /readyz HTTP/1.1\r\n", ""),
        |answered| answered.status == 503,
    )
    .await;
    assert_eq!(ready.code(), "store_failed");
    assert_eq!(
        server.call("GET /healthz HTTP/1.1\r\n", "").await.status,
        200
    );
    let page = server
        .get(token, "/v1/reviews?status=approved&limit=200")
        .await;
    let recorded = page.body["reviews"].as_array().expect("a page").len();
    assert_eq!(
        recorded, approved,
        "every approval that was told is on record, and no other"
    );
}

#[tokio::test]
async fn a_store_at_the_file_size_limit_fails_closed() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            "ulimit -f 4096; exec \"$0\" serve --listen 127.0.0.1:0 --config \"$1\"",
        ])
        .arg(crate::harness::program())
        .arg(&program.config);
    let server = Server::start(&mut command);
    a_full_store_fails_closed(&server, &token).await;
}

/// Runs the program behind a mount of its own, in a namespace that ends with it. `None` where this user may not mount.
fn behind_a_mount(script: &str, config: &std::path::Path) -> Option<Command> {
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "/bin/sh",
            "-c",
            script,
        ])
        .arg(program())
        .arg(config)
        .process_group(0);
    Some(command)
}

#[tokio::test]
async fn a_full_disk_fails_closed() {
    let folder = Folder::new();
    let inner = folder.path("disk");
    std::fs::create_dir(&inner).expect("a folder");
    let program = Program::new(&folder, "");
    let text = format!("database_url = \"sqlite:{}/reviews.db\"\n", inner.display());
    std::fs::write(&program.config, text).expect("settings");
    let script = format!(
        "set -e; mount -t tmpfs -o size=3m,mode=0700 none '{0}'; \"$0\" token create --config \"$1\" > '{1}'; \
         exec \"$0\" serve --listen 127.0.0.1:0 --config \"$1\"",
        inner.display(),
        folder.path("token").display(),
    );
    let Some(mut command) = behind_a_mount(&script, &program.config) else {
        eprintln!("SKIPPED: this user may not make a mount namespace");
        return;
    };
    let server = Server::start(&mut command);
    let token = std::fs::read_to_string(folder.path("token")).expect("a token");
    a_full_store_fails_closed(&server, token.trim()).await;
}

#[test]
fn a_read_only_store_is_refused_at_start() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    program.token();
    let place = folder.database();
    let place = place.parent().expect("a folder").display();
    let script = format!(
        "set -e; mount --bind '{place}' '{place}'; mount -o remount,bind,ro '{place}'; \
         exec \"$0\" serve --listen 127.0.0.1:0 --config \"$1\""
    );
    let Some(mut command) = behind_a_mount(&script, &program.config) else {
        eprintln!("SKIPPED: this user may not make a mount namespace");
        return;
    };
    let output = command.output().expect("it ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        output.stdout.is_empty() && told.contains("reviews.db"),
        "{told}"
    );
}
