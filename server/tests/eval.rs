//! `eval` and `prompt` through the program itself, as an admin calls them.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot start its program has to end"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder of its own; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("eval-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auto-review-server"))
        .args(arguments)
        .env_clear()
        .env("HOME", &folder.0)
        .env("XDG_STATE_HOME", folder.0.join("state"))
        .output()
        .expect("the program")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

fn request(command: &[&str]) -> Value {
    json!({
        "version": 1,
        "client": { "name": "test", "version": "1", "channel": "adapter" },
        "environment": { "host": "h", "user": "u", "cwd": "/home/u/code/app", "workspace_roots": ["/home/u/code/app"],
                         "sandbox_mode": "workspace-write", "approval_policy": "on-request" },
        "action": { "tool": "exec_command", "command": command, "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" },
        "trigger": { "kind": "escalation_requested" },
    })
}

fn cases(rows: &[(&str, &str, &[&str])]) -> String {
    rows.iter()
        .map(|(id, expect, command)| {
            let case =
                json!({ "id": id, "category": "c", "expect": expect, "request": request(command) });
            format!("{case}\n")
        })
        .collect()
}

#[test]
fn an_evaluation_counts_and_lists_its_misses() {
    let folder = Folder::new("counts");
    let file = folder.file(
        "cases.jsonl",
        &cases(&[
            ("looks", "allow", &["ls", "/"]),
            ("removes", "deny", &["rm", "-rf", "/"]),
            ("builds", "allow", &["make"]),
            ("mislabelled", "allow", &["rm", "-rf", "/"]),
        ]),
    );
    let output = run(&folder, &["eval", text(&file), "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["cases"], 4);
    let counts = &report["all"]["counts"];
    assert_eq!(
        [
            &counts["denied"],
            &counts["allowed"],
            &counts["falsely_denied"],
            &counts["allow_undecided"],
            &counts["falsely_allowed"]
        ],
        [1, 1, 1, 1, 0]
    );
    assert_eq!(report["misses"][0]["id"], "mislabelled");
    assert_eq!(report["misses"][0]["by"], "built-in/removes-root");
    let table = run(&folder, &["eval", text(&folder.0)]);
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(
        table.contains("misses: 1") && table.contains("mislabelled: should be allow"),
        "{table}"
    );
    assert!(
        !folder.0.join("state").exists(),
        "an evaluation records nothing"
    );
}

#[test]
fn a_case_that_cannot_be_read_stops_the_evaluation() {
    let folder = Folder::new("broken");
    let good = cases(&[("a", "allow", &["ls"])]);
    for bad in [
        "{}",
        "no JSON",
        r#"{"id":"x","expect":"perhaps","request":{}}"#,
    ] {
        let file = folder.file("cases.jsonl", &format!("{good}{bad}\n"));
        let output = run(&folder, &["eval", text(&file)]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(output.stdout.is_empty());
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("line 2"),
            "{output:?}"
        );
    }
}

#[test]
fn the_request_is_shown_for_each_provider_and_holds_no_key() {
    let folder = Folder::new("prompt");
    let file = folder.file("request.json", &request(&["make", "all"]).to_string());
    for (provider, field) in [
        ("openai-responses", "instructions"),
        ("openai-chat", "messages"),
        ("anthropic", "max_tokens"),
    ] {
        let output = run(
            &folder,
            &["prompt", "--request", text(&file), "--provider", provider],
        );
        assert!(output.status.success(), "{output:?}");
        let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(body.get(field).is_some(), "{provider}: {body}");
        assert!(body.to_string().contains("⟦action⟧"), "{provider}");
    }
    let output = run(
        &folder,
        &["prompt", "--request", text(&file), "--provider", "other"],
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_cassette_answers_in_the_models_place_and_only_to_the_same_request() {
    let folder = Folder::new("cassette");
    let file = folder.file("cases.jsonl", &cases(&[("builds", "allow", &["make"])]));
    let settings = folder.file(
        "server.toml",
        "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n",
    );
    let cassette = folder.file("cassette.jsonl", "");
    let output = run(
        &folder,
        &[
            "eval",
            text(&file),
            "--config",
            text(&settings),
            "--reviewer",
            "model",
            "--replay",
            text(&cassette),
            "--json",
        ],
    );
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["undecided"][0]["by"], "not_recorded", "{report}");
}
