//! What the runner finds out before it asks (D21, D23), and that secrets stay home (P9, D20): what reached the wire, for each
//! kind of action and for what a hostile workspace puts in the way.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Proxy, Ran, Script, ScriptedModel, Stage, TestServer, assessment};
use serde_json::Value;

mod bounds;

/// A stage whose reviewer is a server with a model that answers `script`, and a recorder between.
struct Watched {
    stage: Stage,
    server: TestServer,
    proxy: Proxy,
    model: ScriptedModel,
}

impl Watched {
    fn with(script: Script) -> Self {
        let (stage, model) = (Stage::new(), ScriptedModel::start(script));
        let server = TestServer::with(&format!(
            "[reviewer]\ndeadline_secs = 40\n{}",
            model.table("openai-chat")
        ));
        let proxy = Proxy::recording(server.address());
        stage.ask_at(&server, &proxy.url());
        Self {
            stage,
            server,
            proxy,
            model,
        }
    }

    fn new() -> Self {
        Self::with(Script::Says(assessment("allow", "low", "unknown")))
    }

    fn says_no() -> Self {
        Self::with(Script::Says(assessment("deny", "high", "unknown")))
    }

    /// Asks to run `command` and answers with the run and the body that was posted.
    fn asked(&self, flags: &[&str], command: &[&str]) -> (Ran, Value) {
        let flags: Vec<&str> = ["--escalate"].iter().chain(flags).copied().collect();
        let ran = self.stage.exec(&flags, command).ran();
        (ran, self.posted())
    }

    /// The last body that was posted.
    fn posted(&self) -> Value {
        let taps = self.proxy.taps();
        let mut posted = taps.iter().rev().map(|(request, _)| request);
        let last =
            posted.find(|request| request.method == "POST" && request.target == "/v1/reviews");
        last.expect("something was posted").json()
    }
}

/// The facts of a kind.
fn facts<'b>(body: &'b Value, kind: &str) -> Vec<&'b Value> {
    let all = body["evidence"].as_array().expect("a list");
    for fact in all {
        assert!(
            fact["obtained"].as_str().is_some_and(|how| !how.is_empty()),
            "{fact}"
        );
    }
    let of_kind = all.iter().filter(|fact| fact["kind"] == kind);
    of_kind.map(|fact| &fact["value"]).collect()
}

fn one<'b>(body: &'b Value, kind: &str) -> &'b Value {
    let found = facts(body, kind);
    assert_eq!(found.len(), 1, "{kind} in {}", body["evidence"]);
    found[0]
}

/// A made-up token, put together so that none stands here.
fn token() -> String {
    format!(
        "gh{}{}",
        "p_",
        "a1B2c3D4e5".repeat(4).get(..36).expect("long enough")
    )
}

fn committed(stage: &Stage) {
    fs::create_dir(stage.workspace("src")).expect("a folder");
    stage.file("src/main.rs", "fn main() {}\n");
    stage.git(&["add", "."]);
    stage.git(&["commit", "--quiet", "-m", "first"]);
}

fn in_files(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(in_files(&path, needle));
        } else if fs::read(&path).is_ok_and(|bytes| {
            bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
        }) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_reaches_the_command_and_nobody_else() {
    let watched = Watched::new();
    let (stage, secret) = (&watched.stage, token());
    let password = "q7xhunterK2";
    let out = stage.outside("out");
    stage.file(
        "task.sh",
        &format!(
            "# deploy with {secret}\ncat - > '{0}'; echo \"$1 $2 $WORD\" >> '{0}'\n",
            out.display()
        ),
    );
    let transcript = stage.file(
        "talk.jsonl",
        &format!("{{\"author\":\"user\",\"text\":\"use {secret} please\"}}\n"),
    );
    let justification = format!("the token is {secret}");
    let flags = [
        "--escalate",
        "--stdin",
        "--justification",
        &justification,
        "--transcript",
        transcript.to_str().expect("text"),
    ];
    let run = stage.exec(&flags, &["sh", "task.sh", "--password", password]);
    let ran = run
        .env("WORD", format!("x {secret} y"))
        .stdin(format!("in {secret}\n"))
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let got = fs::read_to_string(&out).expect("the command ran");
    assert_eq!(
        got,
        format!("in {secret}\n--password {password} x {secret} y\n")
    );

    let body = watched.posted();
    marked_alike(&body);
    for needle in [secret.as_str(), password] {
        at_home(&watched, &ran, needle);
    }
}

#[test]
fn a_secret_is_in_no_journal_and_no_report_where_nobody_answers() {
    let mut watched = Watched::new();
    watched.server.kill();
    let (stage, secret) = (&watched.stage, token());
    let justification = format!("the token is {secret}");
    let flags = ["--escalate", "--justification", &justification];
    let new = stage.outside("new").display().to_string();
    let password = "q7xhunterK2";
    let script = format!("touch '{new}' # {secret}");
    let command = ["sh", "-c", &script, "sh", "--password", password];
    let ran = stage
        .exec(&flags, &command)
        .env("GH_TOKEN", secret.as_str())
        .ran();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    let journal = stage.journal();
    assert_eq!(journal.len(), 1, "{journal:?}");
    assert!(journal[0].to_string().contains("MASKED.password.11."));
    for needle in [secret.as_str(), password] {
        assert!(!ran.report.to_string().contains(needle), "{}", ran.report);
        let state = stage.root().join("state");
        assert_eq!(in_files(&state, needle), Vec::<String>::new());
    }
}

/// Holds that word, script, input and transcript show marks, and the same one for the same secret.
fn marked_alike(body: &Value) {
    let words = body["action"]["command"].as_array().expect("words");
    let password = words[3].as_str().expect("a word");
    assert!(password.starts_with("MASKED.password.11."), "{words:?}");
    let script = one(body, "script")["text"].as_str().expect("a text");
    assert!(
        script.starts_with("# deploy with MASKED.github_token.40."),
        "{script}"
    );
    let stdin = one(body, "stdin")["text"].as_str().expect("a text");
    assert!(stdin.starts_with("in MASKED.github_token.40."), "{stdin}");
    let mark = script.split_whitespace().nth(3).expect("a mark");
    assert!(stdin.contains(mark) && body["transcript"].to_string().contains(mark));
}

/// Holds that `needle` is nowhere but on this machine's own side.
fn at_home(watched: &Watched, ran: &Ran, needle: &str) {
    let (body, asked) = (watched.posted().to_string(), watched.model.asked());
    assert!(!asked.is_empty(), "the model was asked");
    assert!(!body.contains(needle), "on the wire");
    for request in &asked {
        let request = request.json().to_string();
        assert!(!request.contains(needle), "the model saw it");
    }
    assert!(!watched.server.said().contains(needle), "the server's log");
    let state = watched.stage.root().join("state");
    for folder in [watched.server.data(), state] {
        assert_eq!(in_files(&folder, needle), Vec::<String>::new());
    }
    assert!(!ran.report.to_string().contains(needle), "{}", ran.report);
}

#[test]
fn a_command_that_spells_a_mark_is_another_action_than_the_one_with_the_secret() {
    let watched = Watched::says_no();
    let (_, first) = watched.asked(
        &[],
        &["login", "--token", "abcdefgh1234"]
            .map(|word| if word == "login" { "echo" } else { word }),
    );
    let mark = first["action"]["command"][2]
        .as_str()
        .expect("a word")
        .to_owned();
    assert!(mark.starts_with("MASKED.token."), "{mark}");
    let (_, second) = watched.asked(&[], &["echo", "--token", &mark]);
    assert_ne!(first["action_digest"], second["action_digest"]);
}

#[test]
fn every_question_says_which_walls_stood_and_where_it_is() {
    let watched = Watched::says_no();
    watched.stage.file("task.sh", "true\n");
    let flags = ["--escalate"];
    let run = watched.stage.exec(&flags, &["sh", "task.sh", "eu-prod-1"]);
    let ran = run.env("CI", "true").env("APP_ENV", "production").ran();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    let body = watched.posted();
    let walls = one(&body, "walls");
    assert_eq!(walls["sandbox_mode"], "workspace-write");
    assert_eq!(walls["network"], "off");
    assert_eq!(walls["asked_for"], "require_escalated");
    assert_eq!(walls["stopped_by"], "escalation_requested");
    let place = one(&body, "place");
    assert!(place["ci"].to_string().contains("$CI"), "{place}");
    assert!(
        place["production_markers"]
            .to_string()
            .contains("$APP_ENV=production"),
        "{place}"
    );
    assert!(
        place["production_markers"]
            .to_string()
            .contains("eu-prod-1"),
        "{place}"
    );
    let script = one(&body, "script");
    assert_eq!(script["text"], "true\n");
    assert_eq!(script["sha256"], body["action"]["scripts"][0]["sha256"]);
}

#[test]
fn what_would_be_removed_is_told_with_what_could_be_had_back() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    committed(stage);
    let (_, body) = watched.asked(&[], &["rm", "-rf", "src"]);
    let path = one(&body, "path");
    assert_eq!(path["type"], "folder");
    assert_eq!(path["done"], "removed_whole");
    assert_eq!(
        (path["entries"].as_u64(), path["bytes_below"].as_u64()),
        (Some(1), Some(13))
    );
    assert_eq!(path["inside_workspace"], true);
    let paths = &one(&body, "repository")["paths"];
    assert_eq!(paths["recoverable"], "from_the_last_commit", "{paths}");

    stage.file("src/main.rs", "fn main() { changed() }\n");
    let (_, body) = watched.asked(&[], &["rm", "-rf", "src"]);
    let paths = &one(&body, "repository")["paths"];
    assert_eq!(paths["recoverable"], "in_part", "{paths}");
    assert_eq!(paths["committed_unchanged"], 0);

    fs::create_dir(stage.workspace("build")).expect("a folder");
    stage.file("build/out.o", "x");
    let (_, body) = watched.asked(&[], &["rm", "-rf", "build/"]);
    let paths = &one(&body, "repository")["paths"];
    assert_eq!(paths["recoverable"], "no", "{paths}");
    assert_eq!(paths["not_committed_files"], 1);

    let (_, body) = watched.asked(&[], &["rm", "-rf", ".git"]);
    let paths = &one(&body, "repository")["paths"];
    assert_eq!(
        paths["recoverable"], "no_the_repository_itself_is_lost",
        "{paths}"
    );
}

#[test]
fn repositories_within_a_repository_are_counted() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    committed(stage);
    let (_, body) = watched.asked(&[], &["git", "commit", "-am", "x"]);
    assert_eq!(one(&body, "repository")["nested_repositories"], 0);
    let head = stage.git(&["rev-parse", "HEAD"]);
    for name in ["one", "two"] {
        let entry = format!("160000,{},{name}", head.trim());
        stage.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }
    let (_, body) = watched.asked(&[], &["git", "commit", "-am", "x"]);
    let repository = one(&body, "repository");
    assert_eq!(repository["nested_repositories"], 2, "{repository}");
}

#[test]
fn a_large_repository_is_told_in_part_and_a_git_that_hangs_holds_nobody_up() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    fs::create_dir(stage.workspace("many")).expect("a folder");
    // Names alone make more than a mebibyte.
    for at in 0..8_000 {
        let name = format!("many/{at:0>200}");
        fs::write(stage.workspace(&name), "x").expect("a file");
    }
    stage.git(&["add", "."]);
    stage.git(&["commit", "--quiet", "-m", "many"]);
    // On a busy machine the usual two seconds are few for so many files.
    let settings = fs::read_to_string(stage.codex("agent-runner.toml")).expect("settings");
    stage.runner_settings(&format!("{settings}\n[evidence]\ndeadline_ms = 10000\n"));
    let (ran, body) = watched.asked(&[], &["rm", "-rf", "many"]);
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    let repository = one(&body, "repository");
    assert_eq!(repository["branch"], "main", "{repository}");
    assert_eq!(repository["paths"]["more"], true, "{repository}");
    assert_eq!(repository["paths"]["recoverable"], "in_part");

    // Whoever opens a pipe for reading waits for a writer, and none comes.
    let index = stage.workspace(".git/index");
    fs::remove_file(&index).expect("no index");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, &index, mode).expect("a pipe");
    stage.runner_settings(&settings);
    let began = Instant::now();
    let (ran, body) = watched.asked(&[], &["rm", "-rf", "many"]);
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let silent = facts(&body, "not_obtained");
    assert!(
        silent.iter().any(|fact| fact["reason"] == "timed_out"),
        "{}",
        body["evidence"]
    );
}

#[test]
fn what_would_be_pushed_is_told() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    let remote = stage.outside("remote.git");
    stage.git(&["init", "--quiet", "--bare", &remote.display().to_string()]);
    committed(stage);
    stage.git(&["remote", "add", "origin", &remote.display().to_string()]);
    stage.git(&["push", "--quiet", "-u", "origin", "main"]);
    stage.file("new.txt", "x");
    stage.git(&["add", "."]);
    stage.git(&["commit", "--quiet", "-m", "second thoughts"]);
    stage.git(&[
        "remote",
        "set-url",
        "origin",
        &format!("https://me:{}@git.example/a.git", token()),
    ]);
    let (_, body) = watched.asked(&[], &["git", "push", "--force", "origin", "main"]);
    let repository = one(&body, "repository");
    assert_eq!(repository["branch"], "main", "{repository}");
    let push = &repository["push"];
    assert_eq!(push["remote"], "origin");
    assert_eq!(push["options"][0], "--force");
    assert_eq!(push["commits"], 1, "{push}");
    assert!(
        push["newest_commits"][0]
            .as_str()
            .is_some_and(|line| line.ends_with("Test: second thoughts")),
        "{push}"
    );
    let url = push["push_urls"][0].as_str().expect("an address");
    assert!(
        url.starts_with("https://me:MASKED.") && url.ends_with("@git.example/a.git"),
        "{url}"
    );
    assert_eq!(repository["hooks"], serde_json::json!([]));
    assert_eq!(
        repository["settings_that_run_programs"],
        serde_json::json!([])
    );
}
