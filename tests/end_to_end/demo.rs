//! `agent-runner demo`, as somebody sees it who types it on a fresh machine.

use std::path::{Path, PathBuf};

use harness::{Database, Folder, Ran, Stage};

/// Runs the demo with its throw-away folder made in `temporary`.
fn demo(stage: &Stage, temporary: &Path, arguments: &[&str]) -> Ran {
    stage
        .runner()
        .arg("demo")
        .args(arguments.iter().copied())
        .env("TMPDIR", temporary.as_os_str().to_owned())
        .ran()
}

fn holds_every_row(ran: &Ran) {
    let shown = ran.text();
    assert_eq!(ran.code(), 0, "{shown}{}", ran.stderr);
    assert!(!shown.contains("NOT AS EXPECTED"), "{shown}");
    let rows = shown
        .lines()
        .filter(|line| line.trim_end().ends_with(" yes"))
        .count();
    assert!(
        rows >= 8,
        "at least eight rows come out as expected: {shown}"
    );
    for status in ["Approved", "Denied", "Failed", "Timed out"] {
        assert!(
            shown.lines().any(|line| line.starts_with(status)),
            "the record shows `{status}`: {shown}"
        );
    }
    assert!(
        shown.contains("reviews.sqlite"),
        "it says where the record is: {shown}"
    );
    assert!(!shown.contains('\u{1b}'), "no escapes where no terminal is");
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn every_row_comes_out_as_expected_and_nothing_stays() {
    let (stage, temporary) = (Stage::new(), Folder::new());
    let ran = demo(&stage, temporary.path(), &[]);
    holds_every_row(&ran);
    assert_eq!(entries(temporary.path()), Vec::<PathBuf>::new());
    assert!(
        !stage.state("").exists(),
        "the user's own record is not touched"
    );
    assert_eq!(entries(&stage.home("")), Vec::<PathBuf>::new());
}

#[test]
fn keep_keeps_the_folder_with_the_record() {
    let (stage, temporary) = (Stage::in_tmp(), Folder::in_tmp());
    let ran = demo(&stage, temporary.path(), &["--keep"]);
    holds_every_row(&ran);
    let kept = entries(temporary.path());
    assert_eq!(kept.len(), 1, "{kept:?}");
    let database = kept[0].join("state/reviews.sqlite");
    assert!(
        ran.text().contains(&database.display().to_string()),
        "{}",
        ran.text()
    );
    let events = Database::open(&database).events();
    assert!(
        events.iter().any(|event| event.kind == "redeemed"),
        "{events:?}"
    );
    assert!(
        std::fs::read_to_string(kept[0].join("precious/canary.txt"))
            .is_ok_and(|text| !text.is_empty())
    );
}
