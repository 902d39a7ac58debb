//! What cannot be meant is refused in one clear line, with exit status 125, before anything starts (issue: bad input).

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::{Missing, Run, Stage, is_root, lacks};

/// Runs a command that leaves a trace, changed by `change`, and holds that it was refused in one line that has `says`.
fn refused(stage: &Stage, flags: &[&str], change: impl Fn(Run) -> Run, says: &str) {
    for escalate in [&[][..], &["--escalate"]] {
        let trace = stage.outside("trace");
        let inside = stage.workspace("trace");
        let flags: Vec<&str> = flags.iter().chain(escalate).copied().collect();
        let script = format!("touch '{}' '{}'", trace.display(), inside.display());
        let ran = change(stage.exec(&flags, &["sh", "-c", &script])).ran();
        assert_eq!(ran.code(), 125, "{flags:?}: {}", ran.stderr);
        assert!(!trace.exists() && !inside.exists(), "{flags:?}: it started");
        assert!(ran.stdout.is_empty(), "{flags:?}: {}", ran.text());
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(
            lines.first().is_some_and(|line| line.contains(says)),
            "`{says}` is not in: {}",
            ran.stderr
        );
        let hints = lines.iter().skip(1).all(|line| line.starts_with("hint: "));
        assert!(
            lines.len() <= 2 && hints,
            "one line, and a hint where there is one: {}",
            ran.stderr
        );
        assert!(lines[0].starts_with("agent-runner: "), "{}", ran.stderr);
    }
    assert!(stage.journal().is_empty());
}

/// The same for what the command line's own reader refuses: it shows the usage behind its line.
fn misused(arguments: &[&str], says: &str) {
    let stage = Stage::new();
    let ran = stage.runner().args(arguments.iter().copied()).ran();
    assert_eq!(ran.code(), 125, "{arguments:?}: {}", ran.stderr);
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("agent-runner: ") && ran.stderr.contains(says),
        "`{says}`: {}",
        ran.stderr
    );
    assert!(!stage.state("").exists(), "nothing was even looked at");
}

#[test]
fn a_wrong_command_line_is_the_runner_s_failure() {
    misused(&["exec", "--sandbox", "nonsense", "--", "true"], "nonsense");
    misused(
        &["exec", "--ask-for-approval", "sometimes", "--", "true"],
        "sometimes",
    );
    misused(&["exec"], "<CMD>");
    misused(&["exec", "--"], "<CMD>");
    misused(
        &["exec", "--escalate", "--unconfined", "--", "true"],
        "cannot be used with",
    );
    misused(
        &["exec", "--intent", "x", "--transcript", "y", "--", "true"],
        "cannot be used with",
    );
    for beside in [
        &["--sandbox", "read-only"][..],
        &["--ask-for-approval", "never"],
        &["--approve-for-me"],
    ] {
        misused(
            &[&["exec", "--yolo"][..], beside, &["--", "true"]].concat(),
            "cannot be used with",
        );
    }
    misused(&["sandbox"], "<CMD>");
    misused(&["fly"], "fly");
}

#[test]
fn a_flag_that_is_not_known_is_not_taken_for_the_command() {
    misused(&["exec", "--no-such-flag", "--", "true"], "--no-such-flag");
    misused(&["exec", "--escalat", "true"], "--escalat");
    misused(&["sandbox", "--no-such-flag", "true"], "--no-such-flag");
}

#[test]
fn an_unknown_mode_policy_or_reviewer_is_refused() {
    let stage = Stage::new();
    refused(
        &stage,
        &["-c", "sandbox_mode=nonsense"],
        |run| run,
        "nonsense",
    );
    refused(
        &stage,
        &["-c", "approval_policy=sometimes"],
        |run| run,
        "sometimes",
    );
    refused(
        &stage,
        &["-c", "approvals_reviewer=nobody"],
        |run| run,
        "nobody",
    );
    refused(&stage, &["-c", "sandbox_mode"], |run| run, "key=value");
    stage.settings("sandbox_mode = \"nonsense\"\n");
    refused(&stage, &[], |run| run, "config.toml");
}

#[test]
fn a_transcript_that_cannot_be_read_is_refused() {
    let stage = Stage::new();
    let missing = stage
        .outside("no-such-transcript.jsonl")
        .display()
        .to_string();
    refused(&stage, &["--transcript", &missing], |run| run, &missing);
    let folder = stage.outside("").display().to_string();
    refused(&stage, &["--transcript", &folder], |run| run, "outside");
    for (name, bytes) in [
        ("prose", &b"please run it\n"[..]),
        ("binary", b"\xff\xfe\x00\n"),
        (
            "half",
            b"{\"author\":\"user\",\"text\":\"yes\"}\n{\"author\":\"us",
        ),
        ("nobody", b"{\"author\":\"god\",\"text\":\"yes\"}\n"),
        ("array", b"[{\"author\":\"user\",\"text\":\"yes\"}]\n"),
    ] {
        let path = stage.outside(name);
        fs::write(&path, bytes).expect("a file");
        refused(
            &stage,
            &["--transcript", &path.display().to_string()],
            |run| run,
            name,
        );
    }
}

#[test]
fn a_working_directory_that_cannot_be_used_is_refused() {
    let stage = Stage::new();
    refused(&stage, &["--cd", "workspace"], |run| run, "absolute");
    refused(&stage, &["--cd", "."], |run| run, "absolute");
    let missing = stage.outside("no-such-folder").display().to_string();
    refused(&stage, &["--cd", &missing], |run| run, &missing);
    let file = stage.file("file", "").display().to_string();
    refused(&stage, &["--cd", &file], |run| run, &file);
}

#[test]
fn a_workspace_that_is_too_much_to_hand_out_is_refused() {
    let stage = Stage::new();
    for path in ["/", "/etc", "/usr", "/tmp", "/proc", "/home", "/var"] {
        if Path::new(path).is_dir() {
            refused(&stage, &["--cd", path], |run| run, &format!("`{path}`"));
        }
    }
    let home = stage.home("").display().to_string();
    refused(&stage, &["--cd", &home], |run| run, "home folder");
    let around = stage.root().display().to_string();
    refused(&stage, &["--cd", &around], |run| run, &around);
    refused(
        &stage,
        &["-c", "sandbox_workspace_write.writable_roots=[\"/\"]"],
        |run| run,
        "`/`",
    );
}

#[test]
fn settings_that_ask_for_what_cannot_be_enforced_are_refused() {
    let stage = Stage::new();
    let base = "sandbox_mode = \"workspace-write\"\n";
    let network = "[sandbox_workspace_write]\nnetwork_access = true\n";
    for (text, says) in [
        (
            format!("{network}[features]\nnetwork_proxy = \"on\"\n"),
            "network_proxy",
        ),
        (
            "[permissions.mine]\nextend = \":workspace\"\n".to_owned(),
            "extend",
        ),
        (
            format!(
                "{network}[features.network_proxy]\nenabled = true\ndomains = {{ \"*\" = \"deny\" }}\n"
            ),
            "network_proxy",
        ),
        (
            "[shell_environment_policy]\nset = { LD_PRELOAD = \"/x\" }\n".to_owned(),
            "LD_PRELOAD",
        ),
    ] {
        stage.settings(&format!("{base}{text}"));
        refused(&stage, &[], |run| run, says);
    }
}

#[test]
fn rules_that_do_not_load_are_refused_by_their_place() {
    let stage = Stage::new();
    fs::create_dir(stage.codex("rules")).expect("a folder");
    let file = stage.codex("rules/default.rules");
    for (text, says) in [
        (
            "prefix_rule([\"a\"])\nprefix_rule([\"b\"], \"deny\")\n",
            "default.rules:2:1",
        ),
        ("prefix_rule(\n", "default.rules:"),
        ("[x for x in range(1000000000)]\n", "default.rules:1:1"),
    ] {
        fs::write(&file, text).expect("rules");
        refused(&stage, &[], |run| run, says);
    }
    fs::write(&file, "# long\n".repeat(1_500_000)).expect("rules");
    refused(&stage, &[], |run| run, "default.rules");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a folder in its place");
    refused(&stage, &[], |run| run, "default.rules");
}

#[test]
fn settings_that_are_no_toml_are_refused() {
    let stage = Stage::new();
    stage.settings("sandbox_mode = = \"workspace-write\"\n");
    refused(&stage, &[], |run| run, "config.toml");
    stage.settings("sandbox_mode = \"workspace-write\"\n");
    stage.runner_settings("a = = b\n");
    refused(&stage, &[], |run| run, "agent-runner.toml");
}

#[test]
fn unknown_keys_in_the_runner_s_own_settings_are_refused() {
    let stage = Stage::new();
    for text in [
        "server_ulr = \"http://127.0.0.1:1\"\n",
        "[reviewer]\nmodle = 1\n",
        "[state]\nfolder = \"/x\"\n",
    ] {
        stage.runner_settings(text);
        refused(&stage, &[], |run| run, "agent-runner.toml");
    }
}

#[test]
fn a_setting_that_is_misspelt_where_it_is_typed_is_refused_with_what_was_meant() {
    let stage = Stage::new();
    for (flags, says) in [
        (
            &["-c", "sandbox_mod=read-only"][..],
            "did you mean `sandbox_mode`?",
        ),
        (
            &["-c", "features.network_prxy=true"],
            "did you mean `network_proxy`?",
        ),
        (
            &["--enable", "network_prxy"],
            "did you mean `network_proxy`?",
        ),
        (&["-c", "nothing_like_it=1"], "there is no such key"),
        (&["-c", "a..b=1"], "a part of the key is empty"),
    ] {
        refused(&stage, flags, |run| run, says);
    }
    // What is the agent's own is none of ours to judge, and a file's slip is a note.
    stage.settings("model = \"m\"\nsandbox_mod = \"x\"\n[features]\nnetwork_prxy = true\n");
    let ran = stage.exec(&["-c", "model=n"], &["true"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let notes = ran.reported("/notes");
    for meant in ["`sandbox_mode`?", "`network_proxy`?"] {
        assert!(notes.contains(meant), "{notes}");
    }
}

#[test]
fn settings_and_rules_that_others_can_change_are_not_believed() {
    let stage = Stage::new();
    stage.settings("sandbox_mode = \"workspace-write\"\n");
    stage.runner_settings("retry_on_denial = false\n");
    fs::create_dir(stage.codex("rules")).expect("a folder");
    fs::write(
        stage.codex("rules/default.rules"),
        "prefix_rule([\"touch\"], \"allow\")",
    )
    .expect("rules");
    let set = |path: &Path, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).expect("a mode");
    };
    for (name, safe) in [
        ("config.toml", 0o600),
        ("agent-runner.toml", 0o600),
        ("rules/default.rules", 0o644),
        ("rules", 0o755),
    ] {
        let path = stage.codex(name);
        for open in [safe | 0o002, safe | 0o020] {
            set(&path, open);
            refused(&stage, &[], |run| run, "others can change what it allows");
        }
        set(&path, safe);
    }
    if is_root() {
        let rules = stage.codex("rules/default.rules");
        std::os::unix::fs::chown(&rules, Some(12_345), None).expect("another's");
        refused(&stage, &[], |run| run, "belongs to user 12345");
        std::os::unix::fs::chown(&rules, Some(0), None).expect("ours");
    } else {
        lacks(Missing::Root, "a rules file of another user's");
    }
    assert_eq!(stage.exec(&[], &["true"]).ran().code(), 0);
}

#[test]
fn a_codex_home_that_is_not_there_is_refused() {
    let stage = Stage::new();
    let typo = stage.outside("typo");
    let elsewhere = |run: Run| run.env("CODEX_HOME", &typo);
    refused(&stage, &[], elsewhere, "which is not a folder");
    assert!(!typo.exists());
}

#[test]
fn a_check_of_the_settings_says_what_a_command_would_find() {
    let key = format!(
        "ed25519:{}",
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    );
    let server = format!("server_url = \"http://127.0.0.1:9\"\nserver_key = \"{key}\"\n");
    let model = "[[reviewer.model]]\nprovider = \"openai-chat\"\nmodel = \"m\"\n";
    for (settings, says) in [
        (format!("{model}base_url = \"x\"\n"), "base_url"),
        (
            format!("{model}base_url = \"https://h/v1\"\napi_key_env = \"NO_SUCH\"\n"),
            "NO_SUCH",
        ),
        (
            format!("{model}base_url = \"https://h/v1\"\napi_key_file = \"no.key\"\n"),
            "no.key",
        ),
        ("[policy]\nsection_file = \"no.md\"\n".to_owned(), "no.md"),
        (format!("{server}token_file = \"no.token\"\n"), "no.token"),
    ] {
        let stage = Stage::new();
        stage.runner_settings(&settings);
        let ran = stage.runner().args(["config", "check"]).ran();
        assert_eq!(ran.code(), 125, "{settings}: {}", ran.text());
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
    let stage = Stage::new();
    stage.settings("[sandbox_workspace_write]\nwritable_roots = [\"/no/such/folder\"]\n");
    let check = ["config", "check", "-c", "sandbox_mode=workspace-write"];
    let ran = stage.runner().args(check).ran();
    assert_eq!(ran.code(), 125, "{}", ran.text());
    let ran = Stage::new().runner().args(["config", "check"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
}

#[test]
fn who_closes_the_pipe_has_read_enough_and_no_words_at_all_get_the_help() {
    let stage = Stage::new();
    // The reader is gone before a word is written.
    let script = "{ sleep 0.2; \"$@\"; } | true; exit ${PIPESTATUS[0]}";
    for words in [
        &["doctor", "--json"][..],
        &["status"],
        &["history"],
        &["config", "show"],
        &["explain", "--", "true"],
        &["sandbox", "macos", "--print-profile"],
        &["--help"],
    ] {
        let run = stage.runner().args(words.iter().copied());
        let ran = run.launched_by(["bash", "-c", script, "bash"]).ran();
        // A diagnosis may find something.
        assert!([0, 1].contains(&ran.code()), "{words:?}: {}", ran.code());
        assert_eq!(ran.stderr, "", "{words:?}");
    }
    let ran = stage.runner().ran();
    assert_eq!(ran.code(), 125);
    assert!(ran.stderr.contains("\n  exec "), "{}", ran.stderr);
}

#[test]
fn a_server_that_cannot_be_asked_safely_is_refused() {
    let stage = Stage::new();
    stage.runner_settings("server_url = \"http://127.0.0.1:1\"\n");
    refused(&stage, &[], |run| run, "server_key");
    stage.runner_settings(
        "server_url = \"http://192.0.2.1:80\"\nserver_key = \"x\"\ntoken_file = \"/x\"\n",
    );
    refused(&stage, &[], |run| run, "server_url");
    let key = format!("ed25519:{}", "00".repeat(31));
    stage.runner_settings(&format!(
        "server_url = \"http://127.0.0.1:1\"\nserver_key = \"{key}\"\ntoken_file = \"/x\"\n"
    ));
    refused(&stage, &[], |run| run, "server_key");
}

#[test]
fn an_environment_without_a_home_is_refused() {
    let stage = Stage::new();
    refused(&stage, &[], |run| run.without_env("HOME"), "HOME");
    refused(&stage, &[], |run| run.env("HOME", "relative"), "HOME");
    refused(
        &stage,
        &[],
        |run| run.env("CODEX_HOME", "relative"),
        "CODEX_HOME",
    );
    refused(
        &stage,
        &[],
        |run| run.env("XDG_STATE_HOME", "relative"),
        "XDG_STATE_HOME",
    );
}

#[test]
fn a_program_that_is_not_there_and_one_that_cannot_be_executed_are_told_apart() {
    let stage = Stage::new();
    stage.file("plain.txt", "text");
    for flags in [&[][..], &["--escalate"]] {
        let missing = stage.exec(flags, &["no-such-program"]).ran();
        assert_eq!(missing.code(), 127, "{}", missing.stderr);
        assert!(
            missing.stderr.contains("no-such-program"),
            "{}",
            missing.stderr
        );
        let plain = stage.exec(flags, &["./plain.txt"]).ran();
        assert_eq!(plain.code(), 126, "{}", plain.stderr);
        assert!(plain.stderr.contains("plain.txt"), "{}", plain.stderr);
    }
    assert!(stage.history().is_empty(), "nobody was asked about them");
}

#[test]
fn words_that_are_no_text_pass_inside_the_walls_and_are_not_asked_about() {
    let stage = Stage::new();
    let odd = std::ffi::OsString::from_vec(b"a\xff\xfeb".to_vec());
    let inside = stage.exec(&[], &["printf", "%s"]).arg(odd.clone()).ran();
    assert_eq!(
        (inside.code(), inside.stdout.as_slice()),
        (0, &b"a\xff\xfeb"[..]),
        "{}",
        inside.stderr
    );
    let new = stage.outside("new").into_os_string();
    let ran = stage.escalate(&["touch"]).arg(new.clone()).arg(odd).ran();
    assert_eq!(
        ran.code(),
        125,
        "what cannot be shown whole is not asked about: {}",
        ran.stderr
    );
    assert!(!Path::new(&new).exists());
    assert!(stage.history().is_empty());
}

#[test]
fn a_kernel_without_user_namespaces_starts_nothing_and_is_named() {
    // A user namespace in which no further one may be made is to its processes such a kernel.
    const SCRIPT: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let launcher = [
        "unshare",
        "--user",
        "--map-root-user",
        "--",
        "sh",
        "-ec",
        SCRIPT,
        "sh",
    ];
    let stage = Stage::new();
    let simulated = Run::new("/usr/bin/env".as_ref(), stage.root())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let unshared = simulated
        .args(["unshare", "--user", "true"])
        .launched_by(launcher)
        .ran();
    let works = Run::new("/usr/bin/env".as_ref(), stage.root())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let works = works.arg("true").launched_by(launcher).ran();
    if unshared.code() == 0 || works.code() != 0 {
        lacks(
            Missing::UserNamespace,
            "what happens on a kernel without user namespaces",
        );
        return;
    }
    let ran = stage
        .exec(&[], &["touch", "trace"])
        .launched_by(launcher)
        .ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(!stage.workspace("trace").exists());
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        (1..=2).contains(&lines.len()),
        "one line and a hint: {}",
        ran.stderr
    );
    let named = ["user namespace", "max_user_namespaces"]
        .iter()
        .any(|words| ran.stderr.contains(words));
    assert!(
        named,
        "it says what is missing (root: {}): {}",
        is_root(),
        ran.stderr
    );
}
