//! What the runner finds out before it asks (D21, D23), and that secrets stay home (P9, D20): what reached the wire, for each
//! kind of action and for what a hostile workspace puts in the way.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Gate, Proxy, Ran, Script, ScriptedModel, Stage, TestServer, assessment};
use serde_json::Value;

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

/// Makes every setting, attribute and hook of the repository name the program `evil`.
fn poison(stage: &Stage, evil: &str) {
    for (name, value) in [
        ("core.fsmonitor", evil),
        ("core.pager", evil),
        ("core.sshCommand", evil),
        ("diff.external", evil),
        ("filter.f.clean", evil),
        ("filter.f.smudge", evil),
        ("filter.f.process", evil),
        ("diff.f.textconv", evil),
        ("credential.helper", evil),
        ("gpg.program", evil),
        ("log.showSignature", "true"),
        ("alias.rev-parse", "!touch nothing"),
        ("core.hooksPath", "hooks-of-mine"),
    ] {
        stage.git(&["config", name, value]);
    }
    fs::write(stage.workspace(".gitattributes"), "* filter=f diff=f\n").expect("attributes");
    fs::write(stage.workspace("src/main.rs"), "changed\n").expect("a file");
    for hook in ["pre-commit", "post-index-change", "fsmonitor-watchman"] {
        let hook = stage.workspace(".git/hooks").join(hook);
        fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
        fs::copy(evil, &hook).expect("a hook");
    }
}

#[test]
fn a_repository_that_would_run_programs_runs_none_and_is_told_of() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    committed(stage);
    let canary = stage.outside("canary");
    let evil = stage.file(
        "evil.sh",
        &format!(
            "#!/bin/sh\ntouch '{}' /tmp/x\nsleep 30\ncat\n",
            canary.display()
        ),
    );
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("a mode");
    let evil = evil.display().to_string();
    poison(stage, &evil);
    for command in [
        &["git", "push", "origin", "main"][..],
        &["rm", "-rf", "src"],
        &["git", "commit", "-am", "x"],
    ] {
        let (ran, body) = watched.asked(&[], command);
        assert_eq!(ran.code(), 126, "{}", ran.stderr);
        assert!(
            !canary.exists(),
            "{command:?} ran a program of the repository's"
        );
        // Inside the walls it could leave no trace; but it sleeps, and then git would have had no time to answer.
        let repository = one(&body, "repository");
        let told = repository["settings_that_run_programs"].to_string();
        for name in [
            "core.fsmonitor",
            "filter.f.clean",
            "alias.rev-parse",
            "core.hookspath",
            "diff.external",
        ] {
            assert!(told.contains(name), "{name} in {told}");
        }
        assert!(
            repository["hooks"].to_string().contains("pre-commit"),
            "{repository}"
        );
    }
}

#[test]
fn a_pipe_a_device_and_a_link_are_told_and_not_read() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    let pipe = stage.workspace("pipe.sh");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::from_raw_mode(0o666),
    )
    .expect("a pipe");
    let began = Instant::now();
    let (ran, body) = watched.asked(&[], &["sh", "pipe.sh"]);
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "nobody waits for a writer"
    );
    let path = one(&body, "path");
    assert_eq!(
        (&path["type"], &path["done"]),
        (&Value::from("pipe"), &Value::from("script"))
    );

    let secret = stage.outside("secret");
    fs::write(&secret, "precious-content").expect("a file");
    symlink(&secret, stage.workspace("notes")).expect("a link");
    let (_, body) = watched.asked(&[], &["sh", "-c", "echo x > notes"]);
    let path = one(&body, "path");
    assert_eq!(path["type"], "link");
    assert_eq!(path["points_to"], secret.display().to_string());
    assert!(!body["evidence"].to_string().contains("precious-content"));
}

#[test]
fn a_huge_file_and_a_huge_folder_are_told_in_part_and_in_time() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    let file = fs::File::create(stage.workspace("huge")).expect("a file");
    file.set_len(10 << 30).expect("10 GiB of nothing");
    let folder = stage.workspace("many");
    fs::create_dir(&folder).expect("a folder");
    for at in 0..100_000 {
        fs::File::create(folder.join(at.to_string())).expect("a file");
    }
    let began = Instant::now();
    let (ran, body) = watched.asked(&[], &["rm", "-rf", "huge", "many"]);
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert!(began.elapsed() < Duration::from_secs(30));
    let paths = facts(&body, "path");
    assert_eq!(paths.len(), 2, "{}", body["evidence"]);
    assert_eq!(paths[0]["bytes"], 10_u64 << 30);
    assert_eq!(paths[1]["more"], true, "{}", paths[1]);
    let (_, body) = watched.asked(&[], &["sh", "-c", "echo x > huge"]);
    let content = &one(&body, "path")["content"];
    assert!(
        content["sha256"].is_null() && content["binary"] == true,
        "{content}"
    );
    assert!(body.to_string().len() < 100_000);
}

#[test]
fn what_no_command_may_read_is_not_read_for_a_reviewer_either() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    let auth = stage.codex("auth.json");
    fs::write(&auth, "the-secret-of-auth").expect("credentials");
    fs::set_permissions(&auth, fs::Permissions::from_mode(0o600)).expect("a mode");
    let auth = auth.display().to_string();
    let (_, body) = watched.asked(&[], &["sh", "-c", &format!("true && printf x > '{auth}'")]);
    let missing = facts(&body, "not_obtained");
    assert!(
        missing
            .iter()
            .any(|fact| fact["reason"] == "denied_read" && fact["about"] == auth.as_str()),
        "{missing:?}"
    );
    assert!(!body.to_string().contains("the-secret-of-auth"));
}

#[test]
fn what_cannot_be_known_is_said() {
    let watched = Watched::says_no();
    let (_, body) = watched.asked(&[], &["sh", "-c", "rm -rf \"$TARGET\"/x"]);
    let missing = facts(&body, "not_obtained");
    assert!(
        missing
            .iter()
            .any(|fact| fact["reason"] == "known_to_the_shell_only"),
        "{missing:?}"
    );
    let (_, body) = watched.asked(&[], &["sh", "task-that-is-not.sh"]);
    assert!(facts(&body, "script").is_empty());
}

#[test]
fn what_changes_while_the_question_is_open_stops_the_run() {
    let gate = Gate::default();
    let watched = Watched::with(Script::Waits(
        gate.clone(),
        assessment("allow", "low", "unknown"),
    ));
    let stage = &watched.stage;
    stage.file("notes.txt", "old");
    stage.file("task.sh", "echo new\n");
    let started = stage
        .exec(&["--escalate"], &["sh", "-c", "sh task.sh > notes.txt"])
        .start();
    gate.reached();
    stage.file("notes.txt", "all of my work");
    gate.open();
    let ran = started.wait();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert!(ran.stderr.contains("has changed since"), "{}", ran.stderr);
    let notes = fs::read_to_string(stage.workspace("notes.txt")).expect("the file");
    assert_eq!(notes, "all of my work", "nothing ran");

    let ran = stage
        .exec(&["--escalate"], &["sh", "-c", "sh task.sh > notes.txt"])
        .ran();
    assert_eq!(ran.code(), 0, "what does not change runs: {}", ran.stderr);
    let notes = fs::read_to_string(stage.workspace("notes.txt")).expect("the file");
    assert_eq!(notes, "new\n");
}

#[test]
fn limits_that_the_settings_name_hold() {
    let watched = Watched::says_no();
    let stage = &watched.stage;
    let settings = fs::read_to_string(stage.codex("agent-runner.toml")).expect("settings");
    stage.runner_settings(&format!("{settings}\n[evidence]\nmax_text_bytes = 300\n"));
    stage.file("task.sh", &"echo line\n".repeat(1000));
    let (_, body) = watched.asked(&[], &["sh", "task.sh"]);
    let script = one(&body, "script");
    let shown = script["text"].as_str().expect("a text").len();
    assert!(shown <= 300, "{shown}");
    assert_eq!(script["cut_bytes"].as_u64(), Some(10_000 - shown as u64));
    stage.runner_settings(&format!("{settings}\n[evidence]\ndeadline_ms = 1\n"));
    let ran = stage.exec(&["--escalate"], &["sh", "task.sh"]).ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("evidence.deadline_ms"),
        "{}",
        ran.stderr
    );
}
