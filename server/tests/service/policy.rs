//! The life of a policy: kept with its author, compared, and tried on what is on record before it is in force.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::api::caller;
use crate::harness::{
    AlikeModel, Folder, Program, embedded, get, harmful, harmless, submission, submit, unclear,
};

/// A denial of the built-in rules, an approval of theirs, and one of a model; and the settings' program.
async fn told(folder: &Folder) -> Program {
    let model = AlikeModel::new("allow", "low").await;
    model.let_go();
    let service = embedded(folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    for (action, status) in [
        (harmful(), "denied"),
        (harmless(), "approved"),
        (unclear(), "approved"),
    ] {
        let told = submit(&router, &submission(&action)).await;
        assert_eq!(told.end(), status);
    }
    service.close().await;
    Program::new(folder, "")
}

pub(crate) fn candidate(folder: &Folder, text: &str) -> String {
    let path = folder.path("candidate.toml");
    std::fs::write(&path, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).expect("private");
    path.to_str().expect("a name").to_owned()
}

fn tested(program: &Program, with: &str) -> Value {
    let (code, out, err) = program.output(&["policy", "test", "--json", "--with", with]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_rule_is_tried_on_the_record_and_binds_nothing() {
    let folder = Folder::new();
    let program = told(&folder).await;
    let same = tested(&program, &candidate(&folder, ""));
    assert_eq!(
        (&same["reviews"], &same["flipped"]),
        (&json!(3), &json!(0)),
        "{same}"
    );

    let denies = candidate(&folder, "[policy]\ndeny = [\"tool:tickets/close\"]\n");
    let flipped = tested(&program, &denies);
    assert_eq!(flipped["flipped"], 1);
    let flip = &flipped["flips"][0];
    assert_eq!(
        (&flip["status"], &flip["decided_by"]),
        (&json!("approved"), &json!("model"))
    );
    assert_eq!(flip["says"], "deny");
    assert_eq!(flip["action"]["tool_name"], "close");
    assert!(
        flip["rule"].as_str().is_some_and(|rule| !rule.is_empty()),
        "{flip}"
    );

    let own = candidate(
        &folder,
        "[policy]\nmode = \"replace\"\nsection = \"Ask about everything.\"\n",
    );
    let flipped = tested(&program, &own);
    assert_eq!(
        flipped["flipped"], 1,
        "a built-in yes is no longer one: {flipped}"
    );
    assert_eq!(flipped["flips"][0]["says"], "ask");
    let table = program.output(&["policy", "test", "--with", &own]).1;
    assert!(table.contains("another way    1"), "{table}");

    let service = embedded(&folder, "").await;
    let page = get(&service.embedded_router(caller()), "/v1/reviews")
        .await
        .body;
    assert_eq!(
        page["reviews"].as_array().map(Vec::len),
        Some(3),
        "nothing was recorded"
    );
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_erased_is_skipped_and_not_called_unchanged() {
    let folder = Folder::new();
    let program = told(&folder).await;
    let now = jiff::Timestamp::now().to_string();
    assert_eq!(
        program
            .output(&["erase", "--by", "ana", "--before", &now])
            .0,
        0
    );
    let tested = tested(&program, &candidate(&folder, ""));
    assert_eq!(
        (&tested["reviews"], &tested["skipped"]),
        (&json!(0), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_kept_with_their_author_and_compared_line_by_line() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let _token = program.token();
    let run = |arguments: &[&str]| program.output(arguments);
    assert!(
        run(&["policy", "record", "--author", "ana"])
            .1
            .contains("kept")
    );
    assert!(
        run(&["policy", "record", "--author", "bob"])
            .1
            .contains("known before")
    );
    let list = run(&["policy", "list"]).1;
    assert!(
        list.contains("ana") && list.contains("in_force, settings"),
        "{list}"
    );
    assert!(!list.contains("bob"), "the first author stays: {list}");

    let extends = candidate(
        &folder,
        "[policy]\nmode = \"extend\"\nsection = \"Never on a Friday.\"\n",
    );
    let diff = run(&["policy", "diff", "--with", &extends]).1;
    assert!(
        diff.lines().any(|line| line == "+Never on a Friday."),
        "{diff}"
    );
    assert!(
        !diff.lines().skip(2).any(|line| line.starts_with('-')),
        "it only adds: {diff}"
    );
    assert_eq!(
        run(&["policy", "diff", "--revision", "sha256:"]).1,
        "",
        "the same"
    );
    for (arguments, told) in [
        (["policy", "diff", "--revision", "sha256:0"], "policy list"),
        (["policy", "record", "--author", "\u{1b}[31m"], "--author"),
    ] {
        let (code, _, err) = run(&arguments);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(told), "{err}");
    }
    let wrong = candidate(&folder, "[policy]\nmodes = 1\n");
    let (code, _, err) = run(&["policy", "test", "--with", &wrong]);
    assert!(code == 2 && err.contains("unknown field"), "{code} {err}");
    let open = candidate(&folder, "");
    let mode = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&open, mode).expect("open");
    assert_eq!(run(&["policy", "test", "--with", &open]).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_the_policy_that_it_judges_by() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    program.token();
    let mut server = program.serve();
    assert_eq!(server.terminate(), Some(0));
    let list = program.output(&["policy", "list"]).1;
    assert!(
        list.contains("settings          in_force, settings  sha256:"),
        "{list}"
    );
}
