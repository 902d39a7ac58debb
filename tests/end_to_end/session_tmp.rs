//! The `/tmp` of a session: what one command leaves there the next one finds, and nobody else (design D28).

use std::fs;

use harness::{Ran, Script, ScriptedModel, Stage, assessment};
use serde_json::Value;

const SESSION: &[&str] = &["--session", "s-1"];

fn runs(stage: &Stage, flags: &[&str], script: &str) -> Ran {
    stage.exec(flags, &["sh", "-c", script]).ran()
}

fn ended(stage: &Stage, session: &str) -> Value {
    let run = stage.runner().arg("request-permissions");
    let ran = run.args(["--session", session, "--end"]).ran();
    serde_json::from_str(&ran.text()).expect("the answer is JSON")
}

#[test]
fn commands_of_a_session_have_one_tmp_and_others_see_nothing_of_it() {
    let stage = Stage::new();
    let left = runs(&stage, SESSION, "echo left > /tmp/left; chmod 777 /tmp");
    assert_eq!(left.code(), 0, "{}", left.stderr);
    let other_turn = [SESSION, &["--turn", "t-2"]].concat();
    let subfolder = stage.workspace("sub");
    fs::create_dir(&subfolder).expect("a folder");
    let elsewhere = [SESSION, &["--cd", subfolder.to_str().expect("a path")]].concat();
    for same in [SESSION, &other_turn, &elsewhere] {
        let found = runs(&stage, same, "cat /tmp/left");
        assert_eq!(found.text(), "left\n", "{same:?}: {}", found.stderr);
    }
    let read_only = [SESSION, &["--sandbox", "read-only"]].concat();
    assert_eq!(runs(&stage, &read_only, "cat /tmp/left").text(), "left\n");
    for other in [&[][..], &["--session", "s-2"]] {
        let seen = runs(&stage, other, "ls -A /tmp | wc -l");
        assert_eq!(seen.text().trim(), "0", "{other:?}");
    }
    assert!(!std::path::Path::new("/tmp/left").exists());

    assert_eq!(ended(&stage, "s-2")["temporary_folder"], "removed");
    assert_eq!(ended(&stage, "s-1")["temporary_folder"], "removed");
    assert_eq!(ended(&stage, "s-1")["temporary_folder"], "none");
    let seen = runs(&stage, SESSION, "ls -A /tmp | wc -l");
    assert_eq!(seen.text().trim(), "0");
}

/// What is reviewed was held as it lies on the host: a script in the session's folder is none of that.
#[test]
fn what_a_session_left_in_tmp_runs_in_no_reviewed_command() {
    let stage = Stage::new();
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "high")));
    stage.runner_settings(&model.table("openai-chat"));
    let trace = stage.outside("trace");
    let name = format!("/tmp/script-{}", uuid::Uuid::new_v4());
    let script = format!("echo 'touch {}' > {name}; cat {name}", trace.display());
    let left = runs(&stage, SESSION, &script);
    assert!(left.text().starts_with("touch "), "{}", left.stderr);
    let permissions = serde_json::json!({"file_system": {"write": [stage.outside("")]}});
    let permissions = permissions.to_string();
    for asked in [
        &["--escalate"][..],
        &["--additional-permissions", &permissions],
    ] {
        let flags = [SESSION, asked, &["--justification", "to set up"]].concat();
        let ran = stage.exec(&flags, &["sh", &name]).ran();
        assert_ne!(ran.code(), 0, "{asked:?}");
        assert!(!trace.exists(), "{asked:?}");
    }
}

#[test]
fn a_session_does_not_end_below_a_command() {
    let stage = Stage::new();
    let ready = stage.workspace("ready");
    let script =
        "echo x > /tmp/x; touch ready; while [ -e ready ]; do sleep 0.05; done; cat /tmp/x";
    let running = stage.exec(SESSION, &["sh", "-c", script]).start();
    harness::eventually("the command runs", || ready.exists().then_some(()));
    assert_eq!(ended(&stage, "s-1")["temporary_folder"], "in_use");
    fs::remove_file(&ready).expect("a file");
    let ran = running.wait();
    assert_eq!(ran.text(), "x\n", "{}", ran.stderr);
}
