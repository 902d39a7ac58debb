//! What is kept of the record and how long, and what shows when somebody takes something away from it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::caller;
use crate::harness::{
    Folder, Program, embedded, get, harmful, harmless, post, raw, submission, submit, unclear, with,
};

/// A text that only a transcript holds.
const CANARY: &str = "canary-5d1c7f0e-in-the-transcript";

fn with_transcript() -> Value {
    let entry = json!({"n": 1, "author": "tool_output", "trust": "untrusted", "text": CANARY});
    let transcript = json!({"complete": true, "omitted": 0, "entries": [entry]});
    with(submission(&harmless()), &json!({"transcript": transcript}))
}

/// Some reviews on record: two approved and one denied, none open.
async fn recorded(folder: &Folder) {
    let service = embedded(folder, "").await;
    let router = service.embedded_router(caller());
    for body in [
        with_transcript(),
        submission(&harmless()),
        submission(&harmful()),
    ] {
        assert_eq!(submit(&router, &body).await.status, 200);
    }
    service.close().await;
}

fn holds(program: &Program, arguments: &[&str]) -> Result<String, String> {
    let (code, out, err) = program.output(arguments);
    match code {
        0 => Ok(out),
        1 => Err(err),
        other => panic!("{arguments:?} ended with {other}: {err}"),
    }
}

/// Takes the last review away, with everything that would show it but what was signed.
async fn cut(database: &Path) {
    let mut connection = raw(database).await;
    for sql in [
        "DROP TRIGGER review_events_are_not_removed",
        "CREATE TEMP TABLE last AS SELECT review_id, review_no FROM reviews ORDER BY review_no DESC LIMIT 1",
        "DELETE FROM review_events WHERE review_id IN (SELECT review_id FROM last)",
        "DELETE FROM reviews WHERE review_no IN (SELECT review_no FROM last)",
        "DELETE FROM review_requests WHERE review_no IN (SELECT review_no FROM last)",
        "DELETE FROM review_exhibits WHERE review_no IN (SELECT review_no FROM last)",
        "DELETE FROM history WHERE review_no IN (SELECT review_no FROM last)",
        "DELETE FROM history_index WHERE rowid IN (SELECT review_no FROM last)",
        "DELETE FROM history_state",
    ] {
        connection.execute(sql).await.expect("forced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_cut_does_not_fit_its_signed_heads() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    recorded(&folder).await;
    let kept = folder.path("heads.jsonl");
    let heads = holds(&program, &["head"]).expect("signed");
    assert_eq!(
        holds(&program, &["head"]).expect("again"),
        heads,
        "it has not moved"
    );
    std::fs::write(&kept, &heads).expect("kept");
    let against = ["verify", "--against", kept.to_str().expect("a name")];
    assert!(
        holds(&program, &["verify"])
            .expect("holds")
            .contains("6 lines")
    );
    assert!(holds(&program, &against).is_ok());

    cut(&folder.database()).await;
    let told = holds(&program, &["verify"]).expect_err("cut");
    assert!(
        told.contains("ends before a head that was signed"),
        "{told}"
    );
    // Who removes the heads as well is caught by the copy alone.
    let mut connection = raw(&folder.database()).await;
    for sql in [
        "DROP TRIGGER signed_heads_are_not_removed",
        "DELETE FROM signed_heads",
    ] {
        connection.execute(sql).await.expect("forced");
    }
    assert!(holds(&program, &["verify"]).is_ok());
    let told = holds(&program, &against).expect_err("cut");
    assert!(
        told.contains("ends before a head that was signed"),
        "{told}"
    );
    // What was recorded since is another line six, whatever it says.
    recorded(&folder).await;
    let told = holds(&program, &against).expect_err("rewritten");
    assert!(told.contains("not the line that was signed"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_looks_makes_neither_a_record_nor_a_key() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let key = beside(&folder.database(), ".key");
    let copy = folder.path("copy");
    let looking: [&[&str]; 8] = [
        &["verify"],
        &["history"],
        &["stats"],
        &["export"],
        &["head"],
        &["policy", "list"],
        &["network"],
        &["backup", copy.to_str().expect("a path")],
    ];
    let without = |arguments: &[&str], problem: &str| {
        let (code, out, err) = program.output(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(problem) && err.contains("hint: "), "{err}");
    };
    for arguments in looking {
        without(arguments, "there is no database");
    }
    assert!(!folder.database().exists() && !key.exists() && !copy.exists());
    // A record with signed heads, put back without its key.
    let _token = program.token();
    let mut server = program.serve();
    let runner = program.token();
    let told = server
        .post(&runner, "/v1/reviews", &submission(&harmless()))
        .await;
    assert_eq!(told.end(), "approved", "{}", told.text);
    assert_eq!(server.terminate(), Some(0));
    std::fs::rename(&key, folder.path("kept")).expect("moved");
    for arguments in [&["verify"][..], &["history"], &["head"]] {
        without(arguments, "is missing");
    }
    assert!(!key.exists());
    std::fs::rename(folder.path("kept"), &key).expect("moved");
    assert_eq!(program.output(&["verify"]).0, 0);
    // A tenant that nobody made and a value that nothing has are no empty record.
    without(
        &["history", "--tenant", "acne"],
        "there is no tenant `acne`",
    );
    let (code, _, err) = program.output(&["history", "--where", "status=bogus"]);
    assert_eq!(code, 2);
    assert!(err.contains("timed_out"), "{err}");
    let (code, out, err) = program.output(&["history", "--where", "decided_by=Built-in"]);
    assert_eq!((code, out.lines().count()), (0, 2), "{err}");
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_this_server_did_not_sign_is_no_proof() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    recorded(&folder).await;
    let head: Value =
        serde_json::from_str(&holds(&program, &["head"]).expect("signed")).expect("JSON");
    let kept = folder.path("heads.jsonl");
    let against = ["verify", "--against", kept.to_str().expect("a name")];
    for (name, value) in [
        ("seq", json!(4)),
        ("hash", json!("0".repeat(64))),
        ("at", json!("2001-01-01T00:00:00Z")),
        ("signature", json!("ed25519:00")),
    ] {
        let forged = with(head.clone(), &json!({ name: value }));
        std::fs::write(&kept, forged.to_string()).expect("forged");
        let told = holds(&program, &against).expect_err("forged");
        assert!(told.contains("not this server's"), "{name}: {told}");
    }
    std::fs::write(&kept, "{}").expect("written");
    assert_eq!(program.output(&against).0, 2, "not a head at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_down_signs_where_the_record_stands_and_heads_cannot_be_changed() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let mut server = program.serve();
    let body = submission(&harmless());
    for _ in 0..3 {
        let told = server.post(&token, "/v1/reviews", &body).await;
        assert_eq!(told.review_status(), "approved");
    }
    assert_eq!(server.terminate(), Some(0));
    let mut connection = raw(&folder.database()).await;
    let signed: i64 = sqlx::query_scalar("SELECT max(seq) FROM signed_heads")
        .fetch_one(&mut connection)
        .await
        .expect("a head");
    assert_eq!(signed, 6);
    for sql in [
        "UPDATE signed_heads SET seq = 1",
        "DELETE FROM signed_heads",
    ] {
        assert!(connection.execute(sql).await.is_err(), "{sql}");
    }
}

fn holds_text(folder: &Folder, text: &str) -> bool {
    let names = ["reviews.db", "reviews.db-wal"].map(|name| folder.path(name));
    names.iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_payloads_are_in_no_file_and_the_chain_still_holds() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    recorded(&folder).await;
    assert!(holds_text(&folder, CANARY), "it was there");
    let now = jiff::Timestamp::now().to_string();
    let erase = ["erase", "--by", "ana", "--before", now.as_str()];
    assert!(
        holds(&program, &erase)
            .expect("erased")
            .contains("of 3 reviews")
    );
    assert!(
        !holds_text(&folder, CANARY),
        "a page or the log still holds it"
    );
    assert!(
        holds(&program, &erase)
            .expect("erased")
            .contains("of 0 reviews")
    );

    let verified: Value =
        serde_json::from_str(&holds(&program, &["verify", "--json"]).expect("holds"))
            .expect("JSON");
    assert_eq!(verified["record"]["holds"], true);
    assert_eq!(verified["record"]["lines"], 9, "a line each says so");
    assert!(
        verified["record"]["erased"].as_u64() >= Some(3),
        "{verified}"
    );
    let table = holds(&program, &["history"]).expect("listed");
    assert_eq!(table.lines().count(), 4, "decisions stay: {table}");
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let page = get(&router, "/v1/reviews").await.body;
    let id = page["reviews"][2]["review"]["review_id"]
        .as_str()
        .expect("an id");
    let detail = get(&router, &format!("/v1/reviews/{id}?view=full"))
        .await
        .body;
    assert_eq!(
        (&detail["context"], &detail["exhibit"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(detail["question"]["action"]["tool"], "exec_command");
    let timeline = detail["timeline"].as_array().expect("a timeline");
    let last = timeline.last().expect("a line");
    assert_eq!(
        (&last["kind"], &last["body"]["by"]),
        (&json!("erased"), &json!("ana"))
    );
    service.close().await;
    let mut connection = raw(&folder.database()).await;
    let by: String = sqlx::query_scalar("SELECT by FROM erasures")
        .fetch_one(&mut connection)
        .await
        .expect("on record, once");
    assert_eq!(by, "ana");
}

/// What somebody does by force, and what `verify` says of it.
const TAKEN: [(&str, &str, &str); 5] = [
    (
        "a context",
        "UPDATE review_requests SET context = '' WHERE review_no = (SELECT max(review_no) FROM reviews)",
        "nobody erased",
    ),
    (
        "an exhibit",
        "DELETE FROM review_exhibits WHERE review_no = (SELECT max(review_no) FROM reviews)",
        "nobody erased",
    ),
    (
        "a question",
        "UPDATE review_requests SET question = '' WHERE review_no = (SELECT max(review_no) FROM reviews)",
        "was asked is missing",
    ),
    (
        "who erased",
        "DROP TRIGGER review_events_are_not_changed; \
         UPDATE review_events SET body = replace(body, 'ana', 'eve') WHERE kind = 'erased'",
        "hash does not cover",
    ),
    (
        "the lines that said so",
        "DROP TRIGGER review_events_are_not_removed; DELETE FROM review_events WHERE seq > 6",
        "nobody erased",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_away_without_a_line_shows_also_behind_an_erasure() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    recorded(&folder).await;
    let now = jiff::Timestamp::now().to_string();
    let erase = ["erase", "--by", "ana", "--before", now.as_str()];
    holds(&program, &erase).expect("erased");
    recorded(&folder).await;
    assert!(holds(&program, &["verify"]).is_ok());
    let whole = std::fs::read(folder.database()).expect("a database");
    for (what, sql, told) in TAKEN {
        let mut connection = raw(&folder.database()).await;
        connection.execute(sql).await.expect("forced");
        sqlx::Connection::close(connection).await.expect("closed");
        let err = holds(&program, &["verify"]).expect_err(what);
        assert!(err.contains(told), "{what}: {err}");
        std::fs::write(folder.database(), &whole).expect("put back");
    }
    assert!(holds(&program, &["verify"]).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_erased_before_there_were_lines_for_it_still_holds() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    recorded(&folder).await;
    let mut connection = raw(&folder.database()).await;
    connection
        .execute("UPDATE review_requests SET context = ''")
        .await
        .expect("forced");
    assert!(holds(&program, &["verify"]).is_err());
    // As the program of the step before left it.
    connection
        .execute(
            "INSERT INTO erasures (tenant_id, before, at, by, payloads) \
             VALUES ('default', 32503680000000, 1, 'ana', 3)",
        )
        .await
        .expect("forced");
    assert!(holds(&program, &["verify"]).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_or_not_past_is_not_erased() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let later = ["erase", "--by", "ana", "--before", "2999-01-01T00:00:00Z"];
    assert_eq!(program.output(&later).0, 2);
    let nobody = ["erase", "--by", " ", "--before", "2020-01-01T00:00:00Z"];
    assert_eq!(program.output(&nobody).0, 2);
    let service = embedded(&folder, "").await;
    let router = service.embedded_router(caller());
    let waits = with(submission(&unclear()), &json!({"must_be_human": true}));
    let id = post(&router, "/v1/reviews", &[], &waits).await.id();
    let now = jiff::Timestamp::now().to_string();
    let erase = ["erase", "--by", "ana", "--before", now.as_str()];
    assert!(
        holds(&program, &erase)
            .expect("nothing")
            .contains("of 0 reviews")
    );
    let path = format!("/v1/reviews/{id}?view=full");
    assert_ne!(get(&router, &path).await.body["context"], Value::Null);
    service.close().await;
}

/// What the history says of each review.
async fn statuses(router: &axum::Router) -> Option<Vec<(String, String)>> {
    let page = get(router, "/v1/reviews").await;
    let reviews = page.body["reviews"].as_array()?.clone();
    let told = reviews.iter().map(|entry| {
        let text = |name: &str| {
            entry["review"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (text("review_id"), text("status"))
    });
    Some(told.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_never_turns_a_review_into_another_and_never_brings_the_program_down() {
    let folder = Folder::new();
    recorded(&folder).await;
    let whole = std::fs::read(folder.database()).expect("a database");
    let service = embedded(&folder, "").await;
    let sound = statuses(&service.embedded_router(caller()))
        .await
        .expect("a page");
    service.close().await;
    let pages = whole.len() / 4096;
    assert!(pages > 20, "{pages} pages");
    let mut noticed = 0;
    for page in 0..pages {
        let folder = Folder::new();
        let mut bytes = whole.clone();
        // Past the first page's header, so that it is still a database; in the others the head of the page too.
        let from = page * 4096 + if page == 0 { 108 } else { 0 };
        bytes[from..from + 64].fill(0xa5);
        bytes[page * 4096 + 3900..page * 4096 + 4000].fill(0x5a);
        std::fs::write(folder.database(), bytes).expect("damaged");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.database(), mode).expect("private");
        let program = Program::new(&folder, "");
        let (code, _, err) = program.output(&["verify"]);
        assert!([0, 1].contains(&code), "page {page}: {code} {err}");
        assert!(!err.contains("panicked"), "page {page}: {err}");
        noticed += usize::from(code == 1);
        // What is still answered is what was recorded.
        let router = program.output(&["history", "--json"]);
        let listed: Value = serde_json::from_str(&router.1).unwrap_or_default();
        for entry in listed["reviews"].as_array().unwrap_or(&Vec::new()) {
            let text = |name: &str| {
                entry["review"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let told = (text("review_id"), text("status"));
            assert!(sound.contains(&told), "page {page}: {told:?}");
        }
    }
    assert!(noticed >= pages / 3, "{noticed} of {pages} noticed");
}

/// Puts the database that was released at step 3 into `folder` (two approvals that were spent and run, one denial, two
/// tokens, two tenants), and takes it to `step`.
async fn put_at(folder: &Folder, step: i64) {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(
        crate_folder.join("tests/databases/0003.db"),
        folder.database(),
    )
    .expect("copied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.database(), mode).expect("private");
    let all = crate_folder.join("../migrations/sqlite");
    let mut migrator = sqlx::migrate::Migrator::new(all).await.expect("steps");
    migrator.migrations.to_mut().retain(|it| it.version <= step);
    let mut connection = raw(&folder.database()).await;
    migrator.run(&mut connection).await.expect("taken there");
    let at: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .expect("a step");
    assert_eq!(at, step);
    sqlx::Connection::close(connection).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_an_older_step_is_brought_up_to_date_and_loses_nothing() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let all = sqlx::migrate::Migrator::new(all).await.expect("steps");
    let later = all.iter().map(|it| it.version).filter(|step| *step >= 3);
    let later: Vec<_> = later.collect();
    assert!(later.len() >= 6, "{later:?}");
    for step in later {
        let folder = Folder::new();
        // One that was made by the program of step three, and one of each step that came after it, brought there by the
        // steps alone: as a program that was killed between two of them leaves it.
        put_at(&folder, step).await;
        let program = Program::new(&folder, "");
        let run = |arguments: &[&str]| {
            holds(&program, arguments).unwrap_or_else(|err| panic!("step {step}: {err}"))
        };
        assert!(run(&["verify"]).contains("the record holds: 10 lines"));
        assert_eq!(run(&["history"]).lines().count(), 4);
        let denied = run(&[
            "history",
            "--where",
            "program=rm",
            "--where",
            "status=denied",
        ]);
        assert_eq!(denied.lines().count(), 2, "{denied}");
        let early = run(&["history", "--until", "2020-01-01T00:00:00Z"]);
        assert_eq!(early.lines().count(), 1, "{early}");
        assert!(run(&["stats"]).starts_with("reviews            3\n"));
        assert!(run(&["tenant", "list"]).contains("acme"));
        assert!(run(&["token", "list"]).contains("laptop"));
        let now = jiff::Timestamp::now().to_string();
        let tested = run(&["erase", "--by", "ana", "--before", &now]);
        assert!(tested.starts_with("erased"), "{tested}");
        // It goes on from there.
        let service = embedded(&folder, "").await;
        let session = json!({"session": {"session_id": "s-2"}});
        let body = with(submission(&harmless()), &session);
        let told = submit(&service.embedded_router(caller()), &body).await;
        assert_eq!(told.end(), "approved");
        service.close().await;
        assert!(run(&["verify"]).contains("the record holds: 15 lines"));
    }
}
