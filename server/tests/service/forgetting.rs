//! Whole reviews are let go from the first one on: what is left holds, and nobody else can make it look so.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::caller;
use crate::harness::{
    Folder, Program, embedded, get, harmful, harmless, network_report, post, raw, submission,
    submit, unclear, with,
};

fn run(program: &Program, arguments: &[&str]) -> Result<String, String> {
    let (code, out, err) = program.output(arguments);
    match code {
        0 => Ok(out),
        1 => Err(err),
        other => panic!("{arguments:?} ended with {other}: {err}"),
    }
}

/// The time, once it is later than everything that was recorded.
async fn later() -> String {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let now = jiff::Timestamp::now().to_string();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    now
}

/// Four old reviews, what was told of a door, and three new reviews; the time between.
async fn old_and_new(folder: &Folder) -> String {
    let service = embedded(folder, "").await;
    let router = service.embedded_router(caller());
    for body in [harmless(), harmful(), harmless(), harmful()] {
        assert_eq!(submit(&router, &submission(&body)).await.status, 200);
    }
    let told = post(&router, "/v1/network-reports", &[], &network_report("r")).await;
    assert_eq!(told.status, 204);
    let between = later().await;
    for body in [harmless(), harmful(), harmless()] {
        assert_eq!(submit(&router, &submission(&body)).await.status, 200);
    }
    service.close().await;
    between
}

fn forget(program: &Program, before: &str) -> Result<String, String> {
    run(program, &["forget", "--before", before, "--by", "ana"])
}

async fn execute(database: &Path, statements: &[&'static str]) {
    let mut connection = raw(database).await;
    for sql in statements {
        connection.execute(*sql).await.expect("forced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_go_is_gone_and_what_is_left_holds_and_goes_on() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let between = old_and_new(&folder).await;
    let heads = folder.path("heads.jsonl");
    std::fs::write(&heads, run(&program, &["head"]).expect("heads")).expect("kept");
    let sums = run(&program, &["stats"]).expect("sums");
    // Lines about old reviews that come after new ones.
    let erase = ["erase", "--before", &between, "--by", "ana"];
    assert!(run(&program, &erase).expect("erased").contains("4 reviews"));

    assert_eq!(
        forget(&program, &between).expect("gone"),
        "let 9 lines of the record go\n"
    );
    let told = run(&program, &["verify"]).expect("it holds");
    assert_eq!(
        told.replace(told.split([',', '\n']).nth(1).unwrap_or_default(), " THEN"),
        "`default`: the lines up to 9 were let go by ana, THEN\nthe record holds: 10 lines\n"
    );
    let json: Value =
        serde_json::from_str(&run(&program, &["verify", "--json"]).expect("it holds"))
            .expect("JSON");
    assert_eq!(json["record"]["let_go"], 9);
    assert_eq!(json["record"]["let_go_by"][0]["by"], "ana");
    let against = ["verify", "--against", heads.to_str().expect("a name")];
    assert!(
        run(&program, &against).is_ok(),
        "heads of before do not count"
    );
    let table = run(&program, &["history"]).expect("a table");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert_eq!(
        run(&program, &["network"])
            .expect("a table")
            .lines()
            .count(),
        1
    );
    assert_eq!(
        run(&program, &["stats"]).expect("sums"),
        sums,
        "sums are kept"
    );
    assert_eq!(
        run(&program, &["history", "--text", "ls"])
            .expect("a table")
            .lines()
            .count(),
        run(&program, &["history", "--where", "program=ls"])
            .expect("a table")
            .lines()
            .count(),
        "nothing is found that is not there"
    );
    assert_eq!(
        forget(&program, &between).expect("nothing"),
        "let 0 lines of the record go\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_goes_on_and_the_last_line_stays() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let between = old_and_new(&folder).await;
    forget(&program, &between).expect("gone");
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    assert_eq!(submit(&router, &submission(&harmless())).await.status, 200);
    service.close().await;
    assert!(
        run(&program, &["verify"])
            .expect("it holds")
            .contains("holds: 8 lines")
    );
    let copy = folder.path("copy.db");
    let backup = ["backup", copy.to_str().expect("a name")];
    assert!(run(&program, &backup).is_ok(), "a copy holds as well");
    // All that is old, but the last line: numbers go on.
    let now = later().await;
    assert!(forget(&program, &now).is_ok());
    assert!(
        run(&program, &["verify"])
            .expect("it holds")
            .contains("holds: 1 lines")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_that_is_open_and_all_after_it_stay() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    assert_eq!(submit(&router, &submission(&harmless())).await.status, 200);
    let waits = with(submission(&unclear()), &json!({"must_be_human": true}));
    let id = post(&router, "/v1/reviews", &[], &waits).await.id();
    assert_eq!(submit(&router, &submission(&harmful())).await.status, 200);
    let now = later().await;
    assert_eq!(
        forget(&program, &now).expect("gone"),
        "let 2 lines of the record go\n"
    );
    let path = format!("/v1/reviews/{id}");
    assert_eq!(get(&router, &path).await.review_status(), "reviewing");
    let answer = post(
        &router,
        &format!("{path}/answer"),
        &[],
        &json!({"answer": "allow"}),
    )
    .await;
    assert_eq!(answer.review_status(), "approved");
    service.close().await;
    assert!(
        run(&program, &["verify"])
            .expect("it holds")
            .contains("holds: 4 lines")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_goes_with_its_first_line_however_late_it_ended() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let waits = |number| {
        let asked = with(submission(&unclear()), &json!({"must_be_human": true}));
        with(
            asked,
            &json!({"session": {"session_id": format!("s-{number}")}}),
        )
    };
    let end = async |id: &str| {
        let path = format!("/v1/reviews/{id}/answer");
        let ended = post(&router, &path, &[], &json!({"answer": "deny"})).await;
        assert_eq!(ended.review_status(), "denied");
    };
    // At no moment is none of them open.
    let mut open = post(&router, "/v1/reviews", &[], &waits(0)).await.id();
    let mut between = String::new();
    for number in 1..40 {
        let next = post(&router, "/v1/reviews", &[], &waits(number)).await.id();
        if number == 30 {
            between = later().await;
        }
        end(&open).await;
        open = next;
    }
    end(&open).await;
    service.close().await;
    // 31 were opened before, 29 of which had ended.
    assert_eq!(
        forget(&program, &between).expect("gone"),
        "let 60 lines of the record go\n"
    );
    let told = run(&program, &["verify"]).expect("it holds");
    assert!(told.contains("holds: 20 lines"), "{told}");
    let table = run(&program, &["history"]).expect("a table");
    assert_eq!(table.lines().count(), 1 + 9, "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_does_not_hold_is_not_cut() {
    const FREE: &str = "DROP TRIGGER review_events_are_not_changed; DROP TRIGGER IF EXISTS signed_heads_are_not_changed";
    for attack in [
        // As if everything were old.
        "UPDATE review_events SET at = 1 WHERE seq <= 11; UPDATE reviews SET created_at = 1; UPDATE history SET created_at = 1",
        "UPDATE review_events SET body = replace(body, 'denied', 'approved') WHERE seq <= 4",
        "UPDATE signed_heads SET hash = zeroblob(32)",
    ] {
        let folder = Folder::new();
        let program = Program::new(&folder, "");
        old_and_new(&folder).await;
        run(&program, &["head"]).expect("signed");
        execute(&folder.database(), &[FREE, attack]).await;
        let now = later().await;
        for before in ["2000-01-01T00:00:00Z", &now] {
            // Nothing is old enough, or it is told that it does not hold.
            match forget(&program, before) {
                Ok(told) => assert_eq!(told, "let 0 lines of the record go\n", "{attack}"),
                Err(told) => assert!(told.contains("does not hold"), "{attack}: {told}"),
            }
        }
        let told = forget(&program, &now).expect_err(attack);
        assert!(told.contains("nothing is let go"), "{attack}: {told}");
        assert!(run(&program, &["verify"]).is_err(), "{attack}");
        let mut connection = raw(&folder.database()).await;
        let (starts, lines): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM chain_starts), (SELECT count(*) FROM review_events)",
        )
        .fetch_one(&mut connection)
        .await
        .expect("read");
        assert_eq!((starts, lines), (0, 15), "{attack}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_let_go_stays_on_record_and_a_copy_knows_its_start() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let between = old_and_new(&folder).await;
    forget(&program, &between).expect("gone");
    let now = later().await;
    run(&program, &["forget", "--before", &now, "--by", "bob"]).expect("gone");
    let json = run(&program, &["verify", "--json"]).expect("it holds");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let by = json["record"]["let_go_by"].as_array().expect("a list");
    let by: Vec<_> = by.iter().map(|cut| cut["by"].as_str()).collect();
    assert_eq!(by, [Some("bob"), Some("ana")]);
    execute(
        &folder.database(),
        &["DROP TRIGGER chain_starts_go_forward; UPDATE chain_starts SET by = 'eve', seq = seq"],
    )
    .await;
    let copy = folder.path("copy.db");
    let told = run(&program, &["backup", copy.to_str().expect("a name")]).expect_err("forged");
    assert!(told.contains("is not this server's word"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_the_server_did_not_sign_is_told() {
    const FREE: &str = "DROP TRIGGER chain_starts_go_forward; DROP TRIGGER chain_starts_are_not_removed; \
                        DROP TRIGGER review_events_are_not_removed";
    for (attack, told) in [
        // As if more had been let go, with the right hash.
        (
            "UPDATE chain_starts SET seq = 11, hash = (SELECT hash FROM review_events WHERE seq = 11)",
            "is not this server's word",
        ),
        (
            "UPDATE chain_starts SET by = 'eve'",
            "is not this server's word",
        ),
        ("DELETE FROM chain_starts", "a line is missing before it"),
        (
            "DELETE FROM review_events WHERE seq <= 11",
            "a line is missing before it",
        ),
        (
            "DELETE FROM review_events WHERE seq = 12",
            "a line is missing before it",
        ),
        (
            "DELETE FROM reviews WHERE ended_seq = 11",
            "its review is missing",
        ),
    ] {
        let folder = Folder::new();
        let program = Program::new(&folder, "");
        let between = old_and_new(&folder).await;
        forget(&program, &between).expect("gone");
        execute(&folder.database(), &[FREE, attack]).await;
        let error = run(&program, &["verify"]).expect_err(attack);
        assert!(error.contains(told), "{attack}: {error}");
    }
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    old_and_new(&folder).await;
    let mut connection = raw(&folder.database()).await;
    let removed = connection
        .execute("DELETE FROM review_events WHERE seq <= 2")
        .await;
    assert!(removed.is_err(), "nothing goes without a start");
    let forged = "INSERT INTO chain_starts SELECT tenant_id, seq, hash, at, 'eve', 'ed25519:00' \
                  FROM review_events WHERE seq = 2";
    connection.execute(forged).await.expect("forced");
    let error = run(&program, &["verify"]).expect_err("forged");
    assert!(error.contains("is not this server's word"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_half_done_holds_and_is_finished_the_next_time() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let between = old_and_new(&folder).await;
    let before = folder.path("before.db");
    let backup = ["backup", before.to_str().expect("a name")];
    run(&program, &backup).expect("a copy");
    forget(&program, &between).expect("gone");
    // The start is written, and nothing is removed yet.
    let mut connection = raw(&folder.database()).await;
    let attach = format!("ATTACH '{}' AS old", before.display());
    connection
        .execute(sqlx::AssertSqlSafe(attach))
        .await
        .expect("attached");
    for sql in [
        "INSERT INTO review_events SELECT * FROM old.review_events WHERE seq <= 9",
        "INSERT INTO reviews SELECT * FROM old.reviews WHERE ended_seq <= 9",
        "INSERT INTO review_requests SELECT * FROM old.review_requests WHERE review_no NOT IN (SELECT review_no FROM review_requests)",
        "INSERT INTO history SELECT * FROM old.history WHERE review_no NOT IN (SELECT review_no FROM history)",
        "DETACH old",
    ] {
        connection.execute(sql).await.expect("put back");
    }
    drop(connection);
    assert!(
        run(&program, &["verify"])
            .expect("it holds")
            .contains("holds: 6 lines")
    );
    assert_eq!(
        forget(&program, &between).expect("finished"),
        "let 9 lines of the record go\n"
    );
    assert_eq!(
        run(&program, &["history"])
            .expect("a table")
            .lines()
            .count(),
        4
    );
    assert!(run(&program, &["verify"]).is_ok());
}
