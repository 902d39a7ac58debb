//! Named permission profiles and the environment's policy, held against the real walls.

use std::fs;

use harness::{Ran, Stage, is_root};

/// A stage whose settings are `text`, and whose workspace has `secret.env`, `docs/guide` and `open.txt`.
fn stage(text: &str) -> Stage {
    let stage = Stage::new();
    stage.settings(text);
    stage.file("secret.env", "hunter2\n");
    stage.file("open.txt", "everybody\n");
    fs::create_dir(stage.workspace("docs")).expect("a folder");
    stage.file("docs/guide", "read me\n");
    stage
}

fn sh(stage: &Stage, script: &str) -> Ran {
    stage.exec(&[], &["sh", "-c", script]).ran()
}

#[test]
fn the_documented_example_hides_env_files_in_a_workspace_that_stays_writable() {
    let stage = stage(
        "default_permissions = \"workspace\"\n\n[permissions.workspace.filesystem]\n\
         \":project_roots\" = { \".\" = \"write\", \"**/*.env\" = \"none\" }\nglob_scan_max_depth = 3\n",
    );
    let ran = sh(
        &stage,
        "echo new > made.txt; cat open.txt; cat secret.env; cat < secret.env",
    );
    assert_eq!(ran.text(), "everybody\n", "{}", ran.stderr);
    assert!(stage.workspace("made.txt").exists());
    let outside = sh(&stage, &format!("ls '{}'", stage.outside("").display()));
    assert_ne!(outside.code(), 0, "what no entry opens was read");
}

#[test]
fn deeper_entries_win_and_what_is_read_only_stays_so() {
    let stage = stage(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"docs\" = \"read\"\n\"docs/drafts\" = \"write\"\n\"private\" = \"deny\"\n\"private/shared\" = \"read\"\n",
    );
    for folder in ["docs/drafts", "private/shared"] {
        fs::create_dir_all(stage.workspace(folder)).expect("a folder");
    }
    stage.file("private/diary", "dear diary\n");
    stage.file("private/shared/note", "for all\n");
    let script = "cat private/diary; cat private/shared/note; echo x > docs/guide; echo x > docs/new; echo x > docs/drafts/new; echo x > top; ls docs";
    let ran = sh(&stage, script);
    let shown = ran.text();
    assert!(
        shown.contains("for all") && !shown.contains("dear diary"),
        "{shown}"
    );
    assert_eq!(
        fs::read_to_string(stage.workspace("docs/guide")).expect("text"),
        "read me\n"
    );
    assert!(!stage.workspace("docs/new").exists());
    assert!(stage.workspace("docs/drafts/new").exists() && stage.workspace("top").exists());
}

#[test]
fn a_grant_by_name_opens_a_protected_name_and_says_so() {
    let stage = stage(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\".git\" = \"write\"\n",
    );
    let ran = stage
        .exec(
            &[],
            &[
                "git",
                "-c",
                "user.name=T",
                "-c",
                "user.email=t@example.com",
                "commit",
                "--quiet",
                "--allow-empty",
                "-m",
                "inside",
            ],
        )
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(stage.git(&["log", "--oneline"]).contains("inside"));
    let notes = ran.report["notes"].to_string();
    assert!(notes.contains("granted by name"), "{notes}");
}

#[test]
fn a_profile_that_reads_alone_writes_nothing_and_one_without_tmp_has_none() {
    let stage = stage("default_permissions = \":read-only\"\n");
    assert_ne!(sh(&stage, "echo x > made").code(), 0);
    assert!(!stage.workspace("made").exists());
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[permissions.p.filesystem]\n\":slash_tmp\" = \"deny\"\n",
    );
    assert_ne!(
        sh(&stage, "echo x > /tmp/made").code(),
        0,
        "/tmp was written"
    );
}

#[test]
fn a_profile_that_cannot_hold_starts_nothing() {
    let stage = stage("");
    for (text, says) in [
        (
            "default_permissions = \"gone\"\n",
            "there is no profile `gone`",
        ),
        (
            "[permissions.p]\nextends = \":workspace\"\n",
            "nothing says which one holds",
        ),
        (
            "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[permissions.p.network]\nenabled = true\ndomains = { \"a b\" = \"allow\" }\n",
            "not a pattern of hosts",
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.filesystem]\n\"/etc/passwd\" = \"read\"\n",
            "does not open the working directory",
        ),
        (
            "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.b]\nextends = \"a\"\n",
            "a -> b -> a",
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.filesystem]\n\"/usr\" = \"write\"\n\":workspace_roots\" = { \".\" = \"write\" }\n",
            "/usr",
        ),
    ] {
        stage.settings(text);
        let ran = sh(&stage, "echo ran > ran");
        assert_eq!(ran.code(), 125, "{text}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(says),
            "`{says}` is not in: {}",
            ran.stderr
        );
        assert!(!stage.workspace("ran").exists());
    }
}

#[test]
fn an_older_setting_beats_the_profile_and_the_report_says_so() {
    let stage = stage(
        "sandbox_mode = \"read-only\"\ndefault_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n",
    );
    let ran = sh(&stage, "echo x > made");
    assert_ne!(ran.code(), 0);
    assert!(!stage.workspace("made").exists());
    assert!(
        ran.report["notes"].to_string().contains("beats it"),
        "{}",
        ran.report
    );
    let by_name = stage
        .runner()
        .args([
            "sandbox",
            "--permissions-profile",
            "p",
            "--",
            "sh",
            "-c",
            "echo x > made",
        ])
        .ran();
    assert_eq!(by_name.code(), 0, "{}", by_name.stderr);
    assert!(stage.workspace("made").exists());
}

#[test]
fn commands_see_the_variables_that_the_policy_leaves_and_never_a_secret() {
    let stage = stage(
        "sandbox_mode = \"workspace-write\"\n[shell_environment_policy]\ninherit = \"all\"\nexclude = [\"DROP_*\"]\nset = { MINE = \"set\" }\n",
    );
    let ran = stage
        .exec(&[], &["env"])
        .env("DROP_ME", "dropped-value")
        .env("KEPT", "kept-value")
        .env("SOME_TOKEN", "token-value")
        .env("LD_PRELOAD", "/none-preloaded.so")
        .ran();
    let shown = ran.text();
    assert!(
        shown.contains("MINE=set") && shown.contains("KEPT=kept-value"),
        "{shown}"
    );
    // The runner's own loader has its say about LD_PRELOAD on standard error; the command's output is what counts.
    for absent in ["dropped-value", "token-value", "none-preloaded"] {
        assert!(!shown.contains(absent), "{absent} in {shown}");
    }
    stage.settings(
        "sandbox_mode = \"workspace-write\"\n[shell_environment_policy]\ninherit = \"none\"\n",
    );
    let none = stage
        .exec(&[], &["/usr/bin/env"])
        .env("KEPT", "kept-value")
        .ran();
    assert!(
        !none.text().contains("KEPT") && !none.text().contains("HOME="),
        "{}",
        none.text()
    );
}

#[test]
fn the_sandboxes_own_init_holds_no_variable_of_the_caller() {
    let stage = stage("sandbox_mode = \"workspace-write\"\n");
    let script = "tr '\\0' '\\n' < /proc/1/environ";
    let ran = stage
        .exec(&[], &["sh", "-c", script])
        .env("SOME_TOKEN", "token-value")
        .env("KEPT", "kept-value")
        .ran();
    assert!(!ran.text().contains("value"), "{}", ran.text());
}

#[test]
fn the_walls_of_another_system_are_refused_in_one_line() {
    let stage = stage("");
    for word in ["macos", "seatbelt", "windows"] {
        let ran = stage
            .runner()
            .args(["sandbox", word, "--", "touch", "made"])
            .ran();
        assert_eq!(ran.code(), 125, "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    assert!(!stage.workspace("made").exists());
    for spelling in [
        &["sandbox", "linux", "--", "true"][..],
        &["sandbox", "landlock", "true"],
        &["debug", "landlock", "--sandbox", "read-only", "true"],
        &["sandbox", "linux", "--full-auto", "true"],
        &["sandbox", "true"],
    ] {
        let ran = stage.runner().args(spelling.iter().copied()).ran();
        assert_eq!(ran.code(), 0, "{spelling:?}: {}", ran.stderr);
    }
}

#[test]
fn a_commands_end_is_passed_on_and_an_unknown_program_is_127() {
    let stage = stage("");
    let code = |words: &[&str]| {
        let run = stage
            .runner()
            .args(["sandbox", "--"])
            .args(words.iter().copied());
        run.ran().code()
    };
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
    assert_eq!(code(&["there-is-no-such-program"]), 127);
    let told = stage
        .runner()
        .args(["sandbox", "--json", "--", "sh", "-c", "echo out; exit 3"])
        .ran();
    assert_eq!((told.code(), told.text().as_str()), (3, "out\n"));
    let line: serde_json::Value =
        serde_json::from_str(told.stderr.trim()).expect("one line of JSON");
    assert_eq!(line["exit_code"], 3);
    assert_eq!(line["confinement"]["walls"], "confined");
}

#[test]
fn doctor_tries_every_wall_and_says_what_stands() {
    let stage = stage("");
    let ran = stage.runner().args(["doctor"]).ran();
    assert_eq!(ran.code(), 0, "{}{}", ran.text(), ran.stderr);
    for line in [
        "refused  a write outside the workspace",
        "refused  a read of a denied file",
        "refused  a connection to the host's loopback",
        "refused  a mount",
        "refused  a host that no rule allows, by the proxy",
        "refused  an address outside, past the proxy",
        "refused  the host's loopback, past the door",
        "those that know of none, are decided by name",
    ] {
        assert!(
            ran.text().contains(line),
            "`{line}` is not in:\n{}",
            ran.text()
        );
    }
    let json = stage.runner().args(["doctor", "--json"]).ran();
    let told: serde_json::Value = serde_json::from_str(&json.text()).expect("JSON");
    assert_eq!(told["host"]["root"], is_root());
    let held = told["self_test"].as_array().expect("attempts");
    assert!(
        held.len() == 7 && held.iter().all(|attempt| attempt["held"] == true),
        "{told}"
    );
}

#[test]
fn what_the_walls_refused_is_told_with_its_path_and_rule() {
    let stage = stage(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"**/*.env\" = \"deny\"\n",
    );
    let script = format!(
        "echo x > '{}'; echo x >> .git/config; cat secret.env; perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(80, inet_aton(\"192.0.2.1\")))'; unshare --user true; true",
        stage.outside("made").display()
    );
    let told = stage
        .runner()
        .args(["sandbox", "--log-denials", "--", "sh", "-c", &script])
        .ran();
    assert_eq!(told.code(), 0, "{}", told.stderr);
    let outside = format!("refused: write {}", stage.outside("made").display());
    for line in [
        outside.as_str(),
        ".git decides what runs later",
        "the pattern **/*.env",
        "refused: connect 192.0.2.1:80",
        "refused: system call unshare",
    ] {
        assert!(
            told.stderr.contains(line),
            "`{line}` is not in: {}",
            told.stderr
        );
    }
    let plain = sh(&stage, &script);
    let denials = plain.report["denials"].as_array().expect("a list").clone();
    let kinds: Vec<_> = denials
        .iter()
        .filter_map(|denial| denial["refused"].as_str())
        .collect();
    for kind in ["write", "read", "connect", "system_call"] {
        assert!(kinds.contains(&kind), "{kind} is not in {denials:?}");
    }
}

#[test]
fn no_profile_opens_what_no_command_may_touch() {
    let stage = stage("");
    fs::write(stage.codex("auth.json"), "hunter2\n").expect("a file");
    // The runner's own folder is made by its first run.
    assert_eq!(sh(&stage, "true").code(), 0);
    let (codex, state) = (stage.codex(""), stage.state(""));
    for folder in [&codex, &state] {
        stage.settings(&format!(
            "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[permissions.p.filesystem]\n\"{}\" = \"write\"\n",
            folder.display().to_string().trim_end_matches('/')
        ));
        let ran = sh(&stage, "echo ran > ran");
        assert_eq!(ran.code(), 125, "{}", ran.stderr);
        assert!(!stage.workspace("ran").exists());
    }
    let profile = |entries: &str| {
        format!(
            "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[permissions.p.filesystem]\n{entries}\n"
        )
    };
    let (codex, state) = (codex.display(), state.display().to_string());
    let state = state.trim_end_matches('/');
    stage.settings(&profile(&format!(
        "\"{codex}auth.json\" = \"read\"\n\"{state}\" = \"read\""
    )));
    let ran = sh(
        &stage,
        &format!("cat '{codex}auth.json' '{state}'/*; echo end"),
    );
    assert_eq!(ran.text(), "end\n", "{}", ran.stderr);
    let settings = profile(&format!("\"{codex}config.toml\" = \"write\""));
    stage.settings(&settings);
    let ran = sh(&stage, &format!("echo x >> '{codex}config.toml'"));
    assert_ne!(ran.code(), 0, "{}", ran.stderr);
    let now = fs::read_to_string(stage.codex("config.toml")).expect("settings");
    assert_eq!(now, settings);
}

#[test]
fn the_profile_of_another_system_is_printed_and_nothing_runs() {
    let stage = Stage::new();
    let printed = |words: &[&str]| {
        let run = stage.runner().args(words.iter().copied());
        run.ran()
    };
    let ran = printed(&["sandbox", "macos", "--print-profile"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let text = ran.text();
    assert!(
        text.starts_with("(version 1)\n; Text only: this profile has not been run"),
        "{text}"
    );
    let root = stage.root().display().to_string();
    let rules: Vec<String> = text
        .lines()
        .skip_while(|line| !line.starts_with("; rules by path"))
        .take_while(|line| !line.starts_with("; names that"))
        .map(|line| line.replace(&root, "/home/u"))
        .collect();
    insta::assert_snapshot!(rules.join("\n"), @r#"
    ; rules by path, the deeper ones later
    (allow file-read* file-write* (subpath "/home/u/workspace"))
    "#);
    assert!(text.ends_with("(deny network*)\n"), "{text}");
    let read_only = printed(&[
        "sandbox",
        "seatbelt",
        "--sandbox",
        "read-only",
        "--print-profile",
    ]);
    assert!(
        !read_only.text().contains(&format!(
            "(allow file-read* file-write* (subpath \"{root}/workspace\"))"
        )),
        "{}",
        read_only.text()
    );
    for words in [
        &["sandbox", "--print-profile"][..],
        &["sandbox", "linux", "--print-profile"],
        &[
            "sandbox",
            "macos",
            "--sandbox",
            "danger-full-access",
            "--print-profile",
        ],
        &["sandbox", "macos", "--print-profile", "--", "true"],
        &["sandbox", "macos", "--", "true"],
    ] {
        assert_eq!(printed(words).code(), 125, "{words:?}");
    }
}
