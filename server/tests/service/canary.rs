//! What may stand nowhere, and what in one place only: tokens, keys, and secrets that somebody typed are in no log, no
//! export, no file and no table; a conversation is with its question and nowhere else (P9).
//!
//! The tables are those that the database has, so that a new one is looked through without anybody's thinking of it, and
//! each must hold something, so that looking means something.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::harness::{
    AlikeModel, Answered, Folder, Program, Server, bearer, call_at, raw, redeem_body, submission,
    unclear, with,
};
use crate::telemetry::Collector;

const MODEL_KEY: &str = "model-key-canary-6b1e";
const COLLECTOR_KEY: &str = "collector-key-canary-77aa";
const WRONG_TOKEN: &str = "ars_wrong-token-canary-91c4";
/// Typed into a reason by somebody who thought nothing of it.
const IN_A_LEAVE: &str = "hunter2-canary-in-a-leave";
const IN_AN_ANSWER: &str = "hunter3-canary-in-an-answer";
const IN_A_CHANGE: &str = "hunter4-canary-in-a-change";
const IN_A_TRANSCRIPT: &str = "canary-5e0d-of-a-transcript";

/// Tables that this test need not write to: erasure is a test of its own, heads are signed now and then, and the last is
/// SQLite's.
const EMPTY: [&str; 5] = [
    "chain_cuts",
    "chain_starts",
    "erasures",
    "signed_heads",
    "sqlite_sequence",
];

struct World {
    folder: Folder,
    collector: Collector,
    model: AlikeModel,
    program: Program,
    tokens: Vec<String>,
    log: std::path::PathBuf,
}

impl World {
    async fn new() -> Self {
        let folder = Folder::new();
        let collector = Collector::http().await;
        let model = AlikeModel::new("deny", "high").await;
        model.let_go();
        let exporter = |path: &str| {
            let at = collector.address;
            format!(
                "{{ otlp-http = {{ endpoint = \"http://{at}/{path}\", protocol = \"json\", headers = {{ x-key = \"${{COLLECTOR_KEY}}\" }} }} }}"
            )
        };
        let settings = format!(
            "{}api_key_env = \"MODEL_KEY\"\n[webhooks]\nallowed_hosts = [\"127.0.0.1\"]\n\
             [otel]\nexporter = {}\ntrace_exporter = {}\nmetrics_exporter = {}\n",
            model.settings(),
            exporter("logs"),
            exporter("traces"),
            exporter("metrics"),
        );
        let program = Program::new(&folder, &settings);
        let tokens = ["runner", "approver", "admin"].map(|role| {
            let (code, out, err) =
                program.output(&["token", "create", "--role", role, "--person", role]);
            assert_eq!(code, 0, "{err}");
            out.trim().to_owned()
        });
        Self {
            log: folder.path("stderr"),
            tokens: tokens.to_vec(),
            folder,
            collector,
            model,
            program,
        }
    }

    fn serve(&self) -> Server {
        let mut command = self.program.command(&["serve", "--listen", "127.0.0.1:0"]);
        command
            .env("AUTO_REVIEW_LOG", "trace")
            .env("MODEL_KEY", MODEL_KEY)
            .env("COLLECTOR_KEY", COLLECTOR_KEY)
            .stderr(File::create(&self.log).expect("a log"));
        Server::start(&mut command)
    }
}

fn question() -> Value {
    let entry =
        json!({"n": 1, "author": "tool_output", "trust": "untrusted", "text": IN_A_TRANSCRIPT});
    let transcript = json!({"complete": true, "omitted": 0, "entries": [entry]});
    let session = json!({"session_id": "s-1", "turn_id": "t-1"});
    with(
        submission(&unclear()),
        &json!({"transcript": transcript, "session": session}),
    )
}

/// One of everything that is written down; the webhook's secret.
async fn live(world: &World, server: &Server) -> String {
    let [runner, approver, admin] = &world.tokens[..] else {
        panic!("three tokens")
    };
    // Nobody listens there, so what was to be told is kept with the reason why not.
    let hook = json!({"url": "http://127.0.0.1:9/hook", "events": ["denied", "approved"]});
    let hook = server.post(admin, "/v1/webhooks", &hook).await;
    assert_eq!(hook.status, 201, "{}", hook.text);

    changed(server, admin).await;
    lifted(server, (runner, approver)).await;
    answered(server, (runner, approver)).await;
    refused(server, runner).await;
    // What is looked for is indexed at the latest when somebody looks.
    let told = server.get(admin, "/v1/reviews?limit=5").await;
    assert_eq!(told.status, 200, "{}", told.text);
    let counted = |told: &Answered| told.body["shadows"] != json!({});
    crate::harness::until(|| server.get(admin, "/v1/stats"), counted).await;
    hook.body["secret"].as_str().expect("a secret").to_owned()
}

/// Another policy that judges alongside, for a reason that says too much.
async fn changed(server: &Server, admin: &str) {
    let policy = json!({"policy": {"deny": ["program:dd"]}});
    let kept = server.post(admin, "/v1/policies", &policy).await;
    assert_eq!(kept.status, 201, "{}", kept.text);
    let change = json!({
        "step": "shadow",
        "revision": kept.body["revision"],
        "reason": format!("to see; password: {IN_A_CHANGE}"),
    });
    let told = server.post(admin, "/v1/policies/changes", &change).await;
    assert_eq!(told.status, 200, "{}", told.text);
}

/// A denial that a person lifts with a reason that says too much.
async fn lifted(server: &Server, (runner, approver): (&str, &str)) {
    let denied = server.post(runner, "/v1/reviews", &question()).await;
    assert_eq!(denied.end(), "denied", "{}", denied.text);
    let leave = json!({"reason": format!("it is ours, password: {IN_A_LEAVE}"), "action_digest": unclear().digest()});
    let path = format!("/v1/reviews/{}/leave", denied.id());
    let given = server.post(approver, &path, &leave).await;
    assert_eq!(given.status, 201, "{}", given.text);
    let lifted = server.post(runner, "/v1/reviews", &question()).await;
    assert_eq!(lifted.end(), "approved", "{}", lifted.text);
    let path = format!("/v1/reviews/{}/redeem", lifted.id());
    let spend = redeem_body(unclear().digest(), Some("s-1"));
    assert_eq!(server.post(runner, &path, &spend).await.status, 200);
}

/// A question for a person, and an answer that says too much.
async fn answered(server: &Server, (runner, approver): (&str, &str)) {
    let human = with(question(), &json!({"must_be_human": true}));
    let head = format!(
        "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
        bearer(runner)
    );
    let asked: Answered = server.call(&head, &human.to_string()).await;
    let waiting = |told: &Answered| told.body["reviews"][0].is_object();
    crate::harness::until(|| server.get(approver, "/v1/waiting"), waiting).await;
    let path = format!("/v1/reviews/{}/answer", asked.id());
    let reason = format!("no, and why is there `token={IN_AN_ANSWER}` in it");
    let no = json!({"answer": "deny", "reason": reason, "action_digest": unclear().digest()});
    let told = server.post(approver, &path, &no).await;
    assert_eq!(told.end(), "denied", "{}", told.text);
    assert!(told.text.contains("MASKED.token."), "{}", told.text);
}

/// What is not even taken on.
async fn refused(server: &Server, runner: &str) {
    let stranger = server.post(WRONG_TOKEN, "/v1/reviews", &question()).await;
    assert_eq!(stranger.status, 401);
    let broken = with(question(), &json!({"no_such_field": IN_A_TRANSCRIPT}));
    assert_eq!(
        server.post(runner, "/v1/reviews", &broken).await.status,
        422
    );
    let head = format!("GET /v1/history?q={IN_A_TRANSCRIPT} HTTP/1.1\r\n");
    let nobody = call_at(server.address, &head, "").await;
    assert_eq!(nobody.status, 401);
}

/// The tables of a database, and in how many rows of each `needle` stands, in whatever column.
async fn rows_with(connection: &mut SqliteConnection, needle: &str) -> Vec<(String, i64, i64)> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let names = sqlx::query(names).fetch_all(&mut *connection).await;
    let mut found = Vec::new();
    for row in names.expect("tables") {
        let name: String = row.get(0);
        let columns = sqlx::query("SELECT name FROM pragma_table_info(?)").bind(&name);
        let columns = columns.fetch_all(&mut *connection).await.expect("columns");
        let holds: Vec<String> = columns
            .iter()
            .map(|column| {
                let column: String = column.get(0);
                format!("instr(CAST(\"{column}\" AS BLOB), ?1) > 0")
            })
            .collect();
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE {}) FROM \"{name}\"",
            holds.join(" OR ")
        );
        let counted = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(needle.as_bytes());
        let counted = counted.fetch_one(&mut *connection).await.expect("counted");
        found.push((name, counted.get(0), counted.get(1)));
    }
    found
}

fn holds(path: &Path, needle: &str) -> bool {
    let bytes = std::fs::read(path).expect("a file");
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_token_or_typed_secret_stands_in_any_table_file_log_or_export() {
    let world = World::new().await;
    let mut server = world.serve();
    let hook_secret = live(&world, &server).await;
    assert_eq!(server.terminate(), Some(0));
    assert!(world.model.asked() >= 1, "the model's key was used");

    let mut nowhere: Vec<&str> = world.tokens.iter().map(String::as_str).collect();
    nowhere.extend([
        MODEL_KEY,
        COLLECTOR_KEY,
        WRONG_TOKEN,
        IN_A_LEAVE,
        IN_AN_ANSWER,
        IN_A_CHANGE,
        &hook_secret,
    ]);
    let files: Vec<_> = std::fs::read_dir(world.folder.path("."))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    assert!(
        files.contains(&world.folder.path("./reviews.db")),
        "{files:?}"
    );
    let exports: Vec<String> = ["/logs", "/traces", "/metrics"]
        .into_iter()
        .flat_map(|path| world.collector.bodies(path))
        .collect();
    assert!(exports.len() >= 3, "each signal was told");
    for needle in &nowhere {
        for file in &files {
            assert!(!holds(file, needle), "{needle} in {}", file.display());
        }
    }
    assert!(holds(&world.log, "TRACE"), "all was logged that can be");
    assert!(
        !holds(&world.log, IN_A_TRANSCRIPT),
        "a conversation in a log"
    );
    for needle in nowhere.iter().chain(&[IN_A_TRANSCRIPT]) {
        let told = exports.iter().find(|body| body.contains(needle));
        assert_eq!(told, None, "{needle} was exported");
    }

    let mut connection = raw(&world.folder.database()).await;
    let reason = sqlx::query("SELECT reason FROM leaves").fetch_one(&mut connection);
    let reason: String = reason.await.expect("the leave").get(0);
    assert!(
        reason.starts_with("it is ours, password: MASKED."),
        "{reason}"
    );
    let tables = rows_with(&mut connection, IN_A_TRANSCRIPT).await;
    // The search's own tables are SQLite's to fill.
    let empty = tables.iter().filter(|(table, rows, _)| {
        *rows == 0 && !EMPTY.contains(&table.as_str()) && !table.starts_with("history_index")
    });
    let empty: Vec<_> = empty.collect();
    assert!(empty.is_empty(), "looking through {empty:?} says nothing");
    for (table, _, with_it) in tables {
        let may = table == "review_requests";
        assert_eq!(with_it > 0, may, "a conversation in `{table}`");
    }
}

/// `command` in `folder`, with a core file of any size.
fn with_core(folder: &Folder, command: &Command) -> Command {
    let mut with = Command::new("sh");
    with.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]);
    with.arg(command.get_program()).args(command.get_args());
    with.current_dir(folder.path(""));
    with
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_leaves_its_keys_in_no_core_file() {
    let folder = Folder::new();
    let mut sleeping = Command::new("sleep");
    let mut other = with_core(&folder, sleeping.arg("60")).spawn().expect("run");
    let core_of_another = {
        // A signal before `exec` would end the shell.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let pid = rustix::process::Pid::from_child(&other);
        rustix::process::kill_process(pid, Signal::ABORT).expect("signalled");
        other.wait().expect("gone").core_dumped()
    };
    if !core_of_another {
        eprintln!("NOT TRIED: no program leaves a core file here");
    }
    let program = Program::new(&folder, "");
    let _token = program.token();
    let serving = program.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Server::start(&mut with_core(&folder, &serving));
    let ended = server.end_by(Signal::ABORT);
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!ended.core_dumped(), "{ended:?}");
}
