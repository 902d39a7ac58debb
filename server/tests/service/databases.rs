//! Databases that the programs of past steps made: brought up to date, nothing of them lost, and the record goes on.
//!
//! Apart from the older one in `keeping`, which the steps alone take from one to the next: these hold what their program
//! could do (a person's leave, a webhook, policies and their changes, what a door decided), with a key of their own.
//! Invariant: the newest step has one.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::harness::{
    Answered, Folder, Program, Server, command, harmful, harmless, network_report, raw,
    redeem_body, submission, with,
};

const SETTINGS: &str = "[webhooks]\nallowed_hosts = [\"127.0.0.1\"]\n";
/// What signed their heads, leaves and changes. It signs nothing else anywhere.
const SEED: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases")
}

fn put_private(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.expect("a file"), bytes).expect("written");
}

/// A program with the key that signed what is recorded.
fn program(folder: &Folder) -> Program {
    let mut key = folder.database().into_os_string();
    key.push(".key");
    let text = format!("auto-review signing key, ed25519, keep secret\n{SEED}\n");
    put_private(Path::new(&key), text.as_bytes());
    Program::new(folder, SETTINGS)
}

fn done(program: &Program, arguments: &[&str]) -> String {
    let (code, out, err) = program.output(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

fn token(program: &Program, role: &str) -> String {
    let made = ["token", "create", "--role", role, "--person", role];
    done(program, &made).trim().to_owned()
}

/// Asks for what the built-in reviewer denies and a person may lift; the review's id.
async fn denied(server: &Server, runner: &str) -> String {
    let key = command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let told = server.post(runner, "/v1/reviews", &submission(&key)).await;
    assert_eq!(told.end(), "denied", "{}", told.text);
    told.id()
}

async fn lift(server: &Server, approver: &str, id: &str) {
    let key = command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let leave = json!({"reason": "an old key", "action_digest": key.digest(), "valid_secs": 60});
    let path = format!("/v1/reviews/{id}/leave");
    sent((server, approver), &path, &leave, 201).await;
}

/// Posts `body` and wants `status`.
async fn sent((server, token): (&Server, &str), path: &str, body: &Value, status: u16) -> Answered {
    let told = server.post(token, path, body).await;
    assert_eq!(told.status, status, "{path}: {}", told.text);
    told
}

/// One review that was approved, spent and run; one that was denied; leave that was spent, and leave that was taken back
/// where the program can: how that call was answered.
async fn reviewed(server: &Server, [runner, approver, admin]: [&str; 3]) -> u16 {
    let asking = (server, runner);
    let question = submission(&harmless());
    let approved = sent(asking, "/v1/reviews", &question, 200).await;
    assert_eq!(approved.end(), "approved", "{}", approved.text);
    let path = format!("/v1/reviews/{}", approved.id());
    let spend = redeem_body(harmless().digest(), Some("s-1"));
    sent(asking, &format!("{path}/redeem"), &spend, 200).await;
    let ran = json!({"action_digest": harmless().digest(), "exit_code": 0});
    sent(asking, &format!("{path}/ran"), &ran, 204).await;
    sent(asking, "/v1/reviews", &submission(&harmful()), 200).await;

    let first = denied(server, runner).await;
    lift(server, approver, &first).await;
    let key = command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let lifted = sent(asking, "/v1/reviews", &submission(&key), 200).await;
    assert_eq!(lifted.end(), "approved", "{}", lifted.text);
    let second = denied(server, runner).await;
    lift(server, approver, &second).await;
    let path = format!("/v1/reviews/{second}/leave/withdraw");
    let withdraw = json!({"reason": "it is in use"});
    server.post(admin, &path, &withdraw).await.status.as_u16()
}

/// What a door decided, a webhook, and a policy that was put in force.
async fn told(server: &Server, [runner, admin]: [&str; 2]) {
    let report = network_report("run-1");
    sent((server, runner), "/v1/network-reports", &report, 204).await;
    let ruling = (server, admin);
    let hook = json!({"url": "http://127.0.0.1:9/hook", "events": ["failed"]});
    sent(ruling, "/v1/webhooks", &hook, 201).await;
    let policy = json!({"policy": {"deny": ["program:dd"]}});
    let kept = sent(ruling, "/v1/policies", &policy, 201).await;
    let change =
        json!({"step": "activate", "revision": kept.body["revision"], "reason": "no disks"});
    sent(ruling, "/v1/policies/changes", &change, 200).await;
}

/// A database of the program as it stands, in `folder`: the step, and the lines of its record.
async fn make(folder: &Folder) -> (i64, usize) {
    let program = program(folder);
    done(&program, &["tenant", "create", "acme"]);
    let tokens = ["runner", "auditor", "approver", "admin"].map(|role| token(&program, role));
    let [runner, _, approver, admin] = tokens.each_ref().map(String::as_str);
    let mut server = program.serve();
    let withdrawn = reviewed(&server, [runner, approver, admin]).await;
    told(&server, [runner, admin]).await;
    assert_eq!(server.terminate(), Some(0));

    let mut connection = raw(&folder.database()).await;
    let small = "PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM";
    connection.execute(small).await.expect("small");
    let step = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations");
    let step = step.fetch_one(&mut connection).await.expect("a step");
    sqlx::Connection::close(connection).await.expect("closed");
    // Programs before step 16 know no such call.
    assert_eq!(withdrawn, if step < 16 { 404 } else { 200 });
    (step, lines(step))
}

/// How many lines a database of `step` holds: ten of five reviews that ended, two of an approval that was spent and run, two
/// of a leave that was spent, one of another, one of a door, and from step 16 on one of a leave that was taken back.
fn lines(step: i64) -> usize {
    if step < 16 { 16 } else { 17 }
}

/// Everything that [`make`] made is there, holds, and goes on.
async fn is_whole(folder: &Folder, step: i64) {
    let program = Program::new(folder, SETTINGS);
    let run = |arguments: &[&str]| done(&program, arguments);
    let holds = |lines: usize| {
        let told = run(&["verify"]);
        let wanted = format!("the record holds: {lines} lines");
        assert!(told.contains(&wanted), "step {step}: {told}");
    };
    holds(lines(step));
    let listed: Value = serde_json::from_str(&run(&["history", "--json"])).expect("JSON");
    let statuses = listed["reviews"].as_array().expect("a list").iter();
    let statuses: Vec<_> = statuses
        .map(|it| it["review"]["status"].as_str().expect("a status"))
        .collect();
    let wanted = ["denied", "approved", "denied", "denied", "approved"];
    assert_eq!(statuses, wanted, "step {step}");
    assert!(run(&["network"]).contains("b.example"), "step {step}");
    assert!(run(&["tenant", "list"]).contains("acme"), "step {step}");
    let tokens = run(&["token", "list"]);
    assert_eq!(tokens.lines().count(), 5, "a heading and four: {tokens}");
    assert!(run(&["policy", "log"]).contains("no disks"), "step {step}");

    let (runner, approver) = (token(&program, "runner"), token(&program, "approver"));
    let admin = token(&program, "admin");
    let mut server = program.serve();
    let hooks = server.get(&admin, "/v1/webhooks").await;
    assert!(hooks.text.contains("127.0.0.1:9"), "{}", hooks.text);
    let disk = command(&["dd", "if=/dev/zero", "of=/dev/sda"]);
    let body = with(
        submission(&disk),
        &json!({"session": {"session_id": "s-2"}}),
    );
    let told = server.post(&runner, "/v1/reviews", &body).await;
    assert_eq!(told.end(), "denied", "{}", told.text);
    lift_again(&server, &approver, &listed).await;
    assert_eq!(server.terminate(), Some(0));
    holds(lines(step) + 2);
}

/// What was given leave for once gets none a second time, whatever became of it.
async fn lift_again(server: &Server, approver: &str, listed: &Value) {
    let key = command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let leave = json!({"reason": "once more", "action_digest": key.digest()});
    for place in [0, 2] {
        let id = listed["reviews"][place]["review"]["review_id"].as_str();
        let path = format!("/v1/reviews/{}/leave", id.expect("an id"));
        let told = server.post(approver, &path, &leave).await;
        assert_eq!(told.told(), (409, "already_lifted"), "{}", told.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_the_program_of_each_step_made_is_brought_up_to_date_and_goes_on() {
    let steps: Vec<i64> = std::fs::read_dir(recorded())
        .expect("the folder")
        .filter_map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_str()?.strip_suffix(".db")?.parse().ok()
        })
        .filter(|step| *step >= 15)
        .collect();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let all = sqlx::migrate::Migrator::new(all).await.expect("steps");
    let newest = all.iter().map(|it| it.version).max().expect("a step");
    assert!(
        steps.contains(&newest),
        "no database of step {newest} is recorded: see migrations/README.md"
    );
    for step in steps {
        let folder = Folder::new();
        let bytes = std::fs::read(recorded().join(format!("{step:04}.db")));
        put_private(&folder.database(), &bytes.expect("a database"));
        drop(program(&folder));
        is_whole(&folder, step).await;
    }
}

/// What is recorded is what this makes: it stays in the build's own folder, from where it is copied once for a new step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_this_step_is_what_is_recorded_of_one() {
    let folder = Folder::new();
    let (step, lines) = make(&folder).await;
    assert!(lines >= 16);
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{step:04}.db"));
    std::fs::copy(folder.database(), &made).expect("copied");
    is_whole(&folder, step).await;
}
