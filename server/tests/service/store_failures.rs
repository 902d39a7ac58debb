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

/// Whether this is the machine's own root: only then may a disk be made of a file.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let uid = lines.find_map(|line| line.strip_prefix("Uid:"));
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    uid.is_some_and(|uid| uid.split_whitespace().all(|id| id == "0"))
        && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Runs `words` where the process `pid` sees its mounts.
fn beside(pid: u32, words: &[&std::ffi::OsStr]) -> std::process::Output {
    Command::new("nsenter")
        .args(["--mount", "--target", &pid.to_string(), "--"])
        .args(words)
        .output()
        .expect("nsenter runs")
}

/// A disk of 64 MiB is a sparse file in 6 MiB of memory: it has room by its own account, and what finds none beneath it
/// fails as `EIO`, at the sync.
fn on_such_a_disk(folder: &Folder, program: &Program) -> Option<Command> {
    let (memory, disk) = (folder.path("memory"), folder.path("disk"));
    let text = format!(
        "database_url = \"sqlite:{}/data/reviews.db\"\n",
        disk.display()
    );
    std::fs::write(&program.config, text).expect("settings");
    for place in [&memory, &disk] {
        std::fs::create_dir(place).expect("a folder");
    }
    let script = format!(
        "set -e; mount --make-rprivate /; mount -t tmpfs -o size=6m none '{memory}'; truncate -s 64m '{memory}/image'; \
         mkfs.ext4 -q -O ^has_journal -N 64 '{memory}/image'; mount -o loop,errors=continue '{memory}/image' '{disk}'; \
         mkdir -m 700 '{disk}/data'; \"$0\" token create --config \"$1\" > '{token}'; \
         exec \"$0\" serve --listen 127.0.0.1:0 --config \"$1\"",
        memory = memory.display(),
        disk = disk.display(),
        token = folder.path("token").display(),
    );
    let probe = Command::new("sh")
        .args([
            "-c",
            "command -v mkfs.ext4 losetup nsenter && losetup --find",
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !is_root() || !probe.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a disk that fails needs root, mkfs.ext4 and a free loop device");
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "/bin/sh", "-c", &script])
        .arg(crate::harness::program())
        .arg(&program.config)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .process_group(0);
    Some(command)
}

/// Beside many others it failed about once in ten: the file system without a journal, of which a write is lost late, gave
/// back other bytes than it had taken, and the check said so. By itself it has not.
#[tokio::test]
#[ignore = "wants the machine for itself: `cargo xtask test` runs it behind the others"]
async fn a_disk_that_fails_promises_nothing_and_goes_on_once_it_works() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let Some(mut command) = on_such_a_disk(&folder, &program) else {
        return;
    };
    let mut server = Server::start(&mut command);
    let token = std::fs::read_to_string(folder.path("token")).expect("a token");
    let token = token.trim();
    let (approved, refused) = fill(&server, token).await;
    assert!(approved > 0, "it worked while the disk did: {refused:?}");
    assert_eq!(refused.told(), (503, "store_failed"));
    let ready = || server.call("GET /readyz HTTP/1.1\r\n", "");
    let not_ready = until(ready, |answered| answered.status == 503).await;
    assert_eq!(not_ready.code(), "store_failed");

    let grown = ["mount", "-o", "remount,size=64m"].map(std::ffi::OsStr::new);
    let memory = folder.path("memory");
    let grown = [&grown[..], &[memory.as_os_str()]].concat();
    let grown = beside(server.pid(), &grown);
    assert!(grown.status.success(), "{grown:?}");
    until(ready, |answered| answered.status == 200).await;
    let body = submission(&harmless());
    let told = server.post(token, "/v1/reviews", &body).await;
    assert_eq!(told.review_status(), "approved");
    let page = server
        .get(token, "/v1/reviews?status=approved&limit=200")
        .await;
    let recorded = page.body["reviews"].as_array().expect("a page").len();
    assert_eq!(
        recorded,
        approved + 1,
        "what was told is on record, and no other"
    );
    let verify = [
        crate::harness::program().as_os_str(),
        std::ffi::OsStr::new("verify"),
        std::ffi::OsStr::new("--config"),
        program.config.as_os_str(),
    ];
    let verified = beside(server.pid(), &verify);
    assert!(verified.status.success(), "{verified:?}");
    server.kill();
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
