//! A disk that fails as disks do: it takes what is written, and says only at the sync that it could not be kept.
//!
//! Apart, because a tracer stands in for the disk: `strace` lets chosen calls on one file fail, or say that they wrote
//! what they did not. The kernel, the process and every other file are real.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Folder, Program, Server, harmless, program, submission, until, with};

/// The program behind a tracer that `inject`s into what is done to `file`.
fn traced(server: &Program, file: &Path, inject: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // `-D`: the server is our own child and the tracer ends with it, so that nothing stays behind.
    command
        .args(["-D", "-f", "-qq", "-o", "/dev/null"])
        .args(["-e", "trace=write,pwrite64,fsync,fdatasync", "-P"])
        .arg(file)
        .args(inject.iter().flat_map(|rule| ["-e", rule]))
        .arg(program())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&server.config);
    command
}

fn verify(server: &Program) {
    let (code, _, err) = server.output(&["verify"]);
    assert_eq!(code, 0, "{err}");
}

async fn on_record(server: &Server, token: &str) -> usize {
    let page = server
        .get(token, "/v1/reviews?status=approved&limit=200")
        .await;
    page.body["reviews"].as_array().expect("a page").len()
}

#[tokio::test]
async fn a_disk_that_fails_promises_nothing_and_goes_on_once_it_works() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let log = folder.path("reviews.db-wal");
    // The ninth sync of the log fails, and some more after it.
    let failing = ["inject=fsync,fdatasync:error=EIO:when=9..24"];
    let mut server = Server::start(&mut traced(&program, &log, &failing));
    let (mut approved, mut refused) = (0, 0);
    while refused == 0 && approved < 100 {
        let told = server
            .post(&token, "/v1/reviews", &submission(&harmless()))
            .await;
        if told.status == 200 {
            assert_eq!(told.review_status(), "approved");
            approved += 1;
        } else {
            assert_eq!(told.told(), (503, "store_failed"));
            refused += 1;
        }
    }
    assert!(approved > 0 && refused > 0, "{approved} and {refused}");
    let ready = || server.call("GET /readyz HTTP/1.1\r\n", "");
    assert_eq!(ready().await.told(), (503, "store_failed"));
    until(ready, |answered| answered.status == 200).await;
    let told = server
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await;
    assert_eq!(told.review_status(), "approved");
    assert_eq!(
        on_record(&server, &token).await,
        approved + 1,
        "what was told is on record, and no other"
    );
    verify(&program);
    server.kill();
    verify(&program);
}

/// The log is on a sound disk, what is carried over from it is lost, and only the first sync says so (fsync(2), "NOTES").
#[tokio::test]
async fn a_write_that_was_lost_behind_a_commit_ends_the_server_and_is_read_again_from_the_log() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let losing = [
        "inject=write,pwrite64:retval=4096",
        "inject=fsync,fdatasync:error=EIO:when=1",
    ];
    let mut server = Server::start(&mut traced(&program, &folder.database(), &losing));
    let mut approved = 0;
    // Large enough that the log is carried over whole, at the latest by its writer, before the list below ends.
    let padding = json!({"extra": {"padding": "x".repeat(40_000)}});
    let body = with(submission(&harmless()), &padding);
    while approved < 190 {
        match server.try_post(&token, "/v1/reviews", &body).await {
            Some(told) if told.status == 200 => approved += 1,
            Some(_) | None => break,
        }
    }
    assert!(
        (64..190).contains(&approved),
        "the log took {approved}, until it was carried over"
    );
    assert_eq!(
        server.wait(),
        Some(1),
        "it does not go on over what was lost"
    );
    let mut server = program.serve();
    assert_eq!(
        on_record(&server, &token).await,
        approved,
        "nothing that was told is lost"
    );
    verify(&program);
    assert_eq!(server.terminate(), Some(0));
    verify(&program);
}
