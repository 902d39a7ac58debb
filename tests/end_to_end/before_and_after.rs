//! Asking before the act and looking after it: `explain` runs nothing and says what `exec` does; `history` tells what was,
//! by status, with the journal merged in (D12, D25).

use harness::{Stage, TestServer};
use serde_json::Value;

use crate::records::text_at;

/// What `explain --json` says of `command`.
fn explained(stage: &Stage, flags: &[&str], command: &[&str]) -> Value {
    let run = stage
        .runner()
        .args(["explain", "--json"])
        .args(flags.iter().copied())
        .arg("--");
    let ran = run.args(command.iter().copied()).ran();
    assert_eq!(ran.code(), 0, "{command:?}: {}", ran.stderr);
    serde_json::from_str(&ran.text()).expect("JSON")
}

#[test]
fn what_is_explained_is_what_happens_and_explaining_runs_nothing() {
    let stage = Stage::new();
    let made = stage.outside("made").display().to_string();
    let inside = stage.workspace("made").display().to_string();
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &["touch", &inside]),
        (&["--escalate"], &["touch", &made]),
        (&["--escalate"], &["rm", "-rf", &made]),
        (&["--unconfined"], &["sh", "-c", "exit 0"]),
        (&["--sandbox", "danger-full-access"], &["touch", &made]),
        (&["--escalate", "-a", "never"], &["touch", &made]),
    ];
    for (flags, command) in cases {
        let said = explained(&stage, flags, command);
        assert!(
            !stage.outside("made").exists() && !stage.workspace("made").exists(),
            "{flags:?} {command:?}"
        );
        assert!(
            !stage.state("reviews.sqlite").exists(),
            "nobody was asked: {flags:?} {command:?}"
        );
        let other = Stage::new();
        let command: Vec<String> = command
            .iter()
            .map(|word| {
                word.replace(
                    &stage.root().display().to_string(),
                    &other.root().display().to_string(),
                )
            })
            .collect();
        let ran = other.exec(flags, &command).ran();
        assert_eq!(
            text_at(&said, "/route"),
            ran.reported("/route"),
            "{flags:?} {command:?}"
        );
        let judged = ran.reported("/review/rule_id");
        assert!(
            said.to_string()
                .contains(judged.trim_start_matches("built-in/")),
            "{judged}: {said}"
        );
    }
}

/// A stage on whose record there is one review of each of three ends, and one failure in the journal, in this order.
fn with_a_past() -> (Stage, TestServer) {
    let (stage, mut server) = (Stage::new(), TestServer::with(""));
    stage.ask(&server);
    let (script, _) = stage.canary_script();
    let new = stage.outside("new").display().to_string();
    let precious = stage.outside("precious");
    std::fs::create_dir(&precious).expect("a folder");
    assert_eq!(stage.escalate(&["touch", &new]).ran().code(), 0);
    assert_eq!(
        stage
            .escalate(&["rm", "-rf", &precious.display().to_string()])
            .ran()
            .code(),
        126
    );
    assert_eq!(stage.escalate(&script).ran().code(), 126);
    server.kill();
    assert_eq!(stage.escalate(&script).ran().code(), 126);
    (stage, server)
}

#[test]
fn a_history_that_cannot_be_read_whole_says_so_and_tells_what_there_is() {
    let (stage, _server) = with_a_past();
    let ran = stage.runner().args(["history", "--json"]).ran();
    assert_ne!(ran.code(), 0);
    assert!(ran.stderr.starts_with("agent-runner: "), "{}", ran.stderr);
    assert_eq!(ran.text().lines().count(), 1);
    assert!(ran.text().contains("unreachable"), "{}", ran.text());
}

#[test]
fn the_history_is_told_by_status_with_the_journal_among_the_failed() {
    let (stage, mut server) = with_a_past();
    server.restart();
    stage.ask(&server);
    let told = |arguments: &[&str]| {
        let ran = stage
            .runner()
            .args(["history", "--json"])
            .args(arguments.iter().copied())
            .ran();
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let lines = ran
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect::<Vec<Value>>();
        lines
            .iter()
            .map(|line| text_at(line, "/recorded_by"))
            .collect::<Vec<String>>()
    };
    assert_eq!(
        told(&[]),
        ["journal", "server", "server", "server"],
        "newest first"
    );
    assert_eq!(told(&["--status", "approved"]), ["server"]);
    assert_eq!(told(&["--status", "denied"]), ["server"]);
    assert_eq!(told(&["--status", "failed"]), ["journal", "server"]);
    assert_eq!(told(&["--status", "timed_out"]), Vec::<String>::new());
    assert_eq!(told(&["--limit", "2"]), ["journal", "server"]);

    let table = stage.runner().arg("history").ran().text();
    for words in [
        "Approved",
        "spent",
        "Denied",
        "Failed",
        "unreachable",
        "no_model",
    ] {
        assert!(table.contains(words), "`{words}` is not in: {table}");
    }
}
