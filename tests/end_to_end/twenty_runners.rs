//! Twenty runners at once on one record: each gets its own verdict, and the chain of events holds (D10, D18).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::{Database, Ran, Stage, TestServer};
use protocol::Canonical;

use crate::records::text_at;

/// What the runner with this number asks, and how that must end.
fn question(stage: &Stage, number: usize) -> (Vec<String>, &'static str, i32) {
    let path = |name: &str| {
        stage
            .outside(&format!("{name}-{number}"))
            .display()
            .to_string()
    };
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match number % 4 {
        0 => (own(&["touch", &path("new")]), "approved", 0),
        1 => (own(&["rm", "-rf", &path("precious")]), "denied", 126),
        2 => (own(&["sh", "task.sh", &number.to_string()]), "failed", 126),
        _ => (own(&["mkdir", &path("folder")]), "approved", 0),
    }
}

fn twenty_at_once(stage: &Stage, database: &Path, lines: usize) {
    stage.canary_script();
    let questions: Vec<_> = (0..20).map(|number| question(stage, number)).collect();
    for (command, status, _) in &questions {
        if *status == "denied" {
            std::fs::create_dir(PathBuf::from(&command[2])).expect("a folder");
        }
    }
    // Each in a turn of its own: three denials in one would stop whoever comes after them.
    let runs: Vec<_> = questions
        .iter()
        .enumerate()
        .map(|(number, (command, ..))| {
            let session = format!("s-{number}");
            let flags = ["--escalate", "--justification", "the test asks for it"];
            let turn = ["--session", session.as_str(), "--turn", "t-1"];
            stage.exec(&[&flags[..], &turn[..]].concat(), command)
        })
        .collect();
    let started: Vec<_> = runs.into_iter().map(harness::Run::start).collect();
    let ended: Vec<Ran> = started.into_iter().map(harness::Started::wait).collect();
    for ((command, status, code), ran) in questions.iter().zip(&ended) {
        assert_eq!(ran.code(), *code, "{command:?}: {}", ran.stderr);
        assert_eq!(
            ran.reported("/status"),
            *status,
            "{command:?}: {}",
            ran.stderr
        );
        let object = PathBuf::from(command.last().expect("a word"));
        assert!(*status == "failed" || object.exists(), "{command:?}");
    }
    assert!(!stage.outside("canary").exists());
    assert!(stage.journal().is_empty(), "{:?}", stage.journal());

    let history = stage.history();
    let told: BTreeMap<String, String> = history
        .iter()
        .map(|entry| {
            (
                text_at(entry, "/review/review_id"),
                text_at(entry, "/review/status"),
            )
        })
        .collect();
    let wanted: BTreeMap<String, String> = ended
        .iter()
        .map(|ran| (ran.reported("/review/review_id"), ran.reported("/status")))
        .collect();
    assert_eq!(told.len(), 20);
    assert_eq!(told, wanted);
    holds_chain(database, lines);
}

/// Follows the chain from its first line, by the written rule: each hash is over the line and the hash before.
fn holds_chain(database: &Path, lines: usize) {
    let events = Database::open(database).events();
    assert_eq!(events.len(), lines);
    let mut before = vec![0; 32];
    for (number, event) in (1_i64..).zip(&events) {
        assert_eq!(event.seq, number);
        let mut bytes = Canonical::new("auto-review event v1");
        bytes
            .bytes(&before)
            .text(&event.tenant)
            .bytes(&event.seq.to_be_bytes())
            .bytes(&event.review);
        bytes
            .text(&event.kind)
            .bytes(&event.at.to_be_bytes())
            .text(&event.body);
        assert_eq!(event.hash, bytes.sha256(), "line {number} of the chain");
        before.clone_from(&event.hash);
    }
}

#[test]
fn twenty_runners_start_at_once_on_a_record_that_is_not_there_yet() {
    let stage = Stage::new();
    // Twenty opened, twenty ended, ten of them redeemed, and the end of ten runs.
    twenty_at_once(&stage, &stage.state("reviews.sqlite"), 60);
}

#[test]
fn twenty_runners_ask_one_server_at_once() {
    let (stage, server) = (Stage::new(), TestServer::with(""));
    stage.ask(&server);
    // A server is told the end of each run as well.
    twenty_at_once(&stage, &server.database(), 60);
}
