//! What stands in the way of finding out: pipes, devices, huge files, limits, and what changes while the question is open.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use harness::{Gate, Script, Stage, assessment};
use serde_json::Value;

use super::{Watched, committed, facts, one};

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
