//! Rules, layers and patches as people bring them: what a rule forbids does not run, what it allows leaves the walls and
//! is on record, and a project's files widen nothing (P1, P2, D15, D28).

use std::fs;
use std::path::Path;

use harness::{Script, ScriptedModel, Stage, assessment};

/// A stage with these rules.
fn ruled(rules: &str) -> Stage {
    let stage = Stage::new();
    stage.settings("sandbox_mode = \"workspace-write\"\n");
    write_rules(&stage, rules);
    stage
}

fn write_rules(stage: &Stage, rules: &str) {
    fs::create_dir_all(stage.codex("rules")).expect("a folder");
    fs::write(stage.codex("rules/default.rules"), rules).expect("rules");
}

/// A reviewer in the runner's own process whose model allows everything.
fn allowing(stage: &Stage) -> ScriptedModel {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "low")));
    stage.runner_settings(&model.table("openai-chat"));
    stage.settings("sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"auto_review\"\n");
    model
}

fn patch(stage: &Stage, flags: &[&str], text: &str) -> harness::Ran {
    let run = stage
        .runner()
        .arg("apply-patch")
        .args(flags.iter().copied());
    run.stdin(format!("*** Begin Patch\n{text}\n*** End Patch\n"))
        .ran()
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_forbidding_rule_holds_whatever_is_asked_and_says_why() {
    let stage =
        ruled("prefix_rule([\"touch\"], \"forbidden\", justification = \"use the editor\")\n");
    let (trace, inside) = (stage.outside("trace"), stage.workspace("trace"));
    for flags in [
        &[][..],
        &["--escalate"],
        &["--unconfined"],
        &["--yolo"],
        &["-a", "never"],
        &["--approve-for-me"],
    ] {
        for script in [
            "touch X",
            "a=touch; $a X",
            "env touch X > /dev/null",
            "echo X | xargs touch",
            "(touch X)",
        ] {
            let script = script.replace('X', &format!("{} {}", trace.display(), inside.display()));
            let ran = stage.exec(flags, &["bash", "-c", &script]).ran();
            assert_eq!(ran.code(), 126, "{flags:?} {script}: {}", ran.stderr);
            assert!(ran.stderr.contains("default.rules:1"), "{}", ran.stderr);
            assert!(ran.stderr.contains("use the editor"), "{}", ran.stderr);
            assert!(!trace.exists() && !inside.exists(), "{flags:?} {script}");
        }
    }
}

#[test]
fn an_allow_rule_lifts_the_walls_for_plain_words_and_the_crossing_is_on_record() {
    let stage = ruled("prefix_rule([\"touch\"])\n");
    let outside = stage.outside("new");
    let path = outside.display().to_string();
    for script in [
        format!("touch {path} 2> /dev/null"),
        format!("X=1 touch {path}"),
        format!("touch {path}$X"),
        format!("touch {path} && ls > /dev/null; $X"),
    ] {
        let ran = stage.exec(&[], &["bash", "-c", &script]).ran();
        assert!(!outside.exists(), "{script}: {}", ran.stderr);
    }
    assert!(stage.journal().is_empty(), "{:?}", stage.journal());
    let ran = stage.exec(&[], &["touch", &path]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(outside.exists());
    assert_eq!(ran.reported("/route"), "allow_rule");
    let journal = stage.journal();
    assert_eq!(journal.len(), 1, "{journal:?}");
    assert_eq!(journal[0]["event"]["kind"], "allow_rule");
    assert!(
        journal[0]["event"]["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("default.rules:1"))
    );
}

#[test]
fn a_command_that_a_rule_allows_cannot_change_the_rules() {
    let stage = ruled("prefix_rule([\"touch\"])\nprefix_rule([\"rm\"])\n");
    for name in ["rules/more.rules", "config.toml"] {
        let path = stage.codex(name).display().to_string();
        let ran = stage.exec(&[], &["touch", &path]).ran();
        let grown = name.contains("more") && stage.codex(name).exists();
        assert!(ran.code() != 0 && !grown, "{name}: {}", ran.stderr);
    }
    let rules = stage.codex("rules/default.rules").display().to_string();
    let ran = stage.exec(&[], &["rm", "-f", &rules]).ran();
    assert!(
        ran.code() != 0 && Path::new(&rules).exists(),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_rule_that_was_chosen_is_written_as_proposed_and_matches_the_next_time() {
    let stage = ruled("");
    let outside = stage.outside("made");
    let command = ["mkdir", "-p", &outside.display().to_string()];
    let before = stage.exec(&[], &command).ran();
    assert!(before.code() != 0 && !outside.exists(), "{}", before.stderr);
    let run = |words: &[&str]| {
        stage
            .runner()
            .args(words.iter().copied())
            .arg("--")
            .args(command)
            .ran()
    };
    let proposed = run(&["rules", "propose", "--json"]);
    let proposed: serde_json::Value = serde_json::from_str(&proposed.text()).expect("JSON");
    let line = proposed["choices"][0]["lines"][0]
        .as_str()
        .expect("a line")
        .to_owned();
    assert_eq!(run(&["rules", "allow", "--choice", "99"]).code(), 125);
    assert_eq!(text_of(&stage.codex("rules/default.rules")), "");
    assert_eq!(run(&["rules", "allow", "--choice", "1"]).code(), 0);
    assert_eq!(
        text_of(&stage.codex("rules/default.rules")),
        format!("{line}\n")
    );
    let after = stage.exec(&[], &command).ran();
    assert!(after.code() == 0 && outside.exists(), "{}", after.stderr);
}

#[test]
fn a_project_s_own_files_widen_nothing_and_count_only_when_trusted() {
    let stage = Stage::new();
    fs::create_dir_all(stage.workspace(".codex/rules")).expect("a folder");
    stage.file(
        ".codex/rules/p.rules",
        "prefix_rule([\"touch\"])\nprefix_rule([\"ls\"], \"forbidden\")\n",
    );
    stage.file(
        ".codex/config.toml",
        "sandbox_mode = \"danger-full-access\"\napproval_policy = \"never\"\n",
    );
    let outside = stage.outside("new");
    let path = outside.display().to_string();
    stage.settings("");
    assert_eq!(
        stage.exec(&[], &["ls"]).ran().code(),
        0,
        "it is not trusted"
    );

    let trusted = stage.runner().arg("trust").ran();
    assert_eq!(trusted.code(), 0, "{}", trusted.stderr);
    let status = stage.runner().args(["status", "--json"]).ran();
    let status: serde_json::Value = serde_json::from_str(&status.text()).expect("JSON");
    assert_eq!(status["trust"], "trusted");
    assert_eq!(status["sandbox_mode"], "workspace-write");
    assert_eq!(status["approval_policy"], "never");
    assert_eq!(stage.exec(&[], &["ls"]).ran().code(), 126, "it restricts");
    assert!(stage.exec(&[], &["touch", &path]).ran().code() != 0 && !outside.exists());
}

#[test]
fn a_patch_inside_the_workspace_is_made_and_one_that_leaves_it_is_not() {
    let stage = ruled("");
    stage.file("a.txt", "one\ntwo\n");
    fs::create_dir_all(stage.workspace(".git/hooks")).expect("a folder");
    let ran = patch(
        &stage,
        &[],
        "*** Update File: a.txt\n*** Move to: b.txt\n@@\n one\n-two\n+three\n*** Add File: new/c.txt\n+c",
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(text_of(&stage.workspace("b.txt")), "one\nthree\n");
    assert_eq!(text_of(&stage.workspace("new/c.txt")), "c\n");
    assert!(!stage.workspace("a.txt").exists());

    let outside = stage.outside("new");
    std::os::unix::fs::symlink(stage.outside(""), stage.workspace("link")).expect("a link");
    for path in [
        outside.display().to_string(),
        "link/new".to_owned(),
        "../outside/new".to_owned(),
        ".git/hooks/post-commit".to_owned(),
        stage.codex("config.toml").display().to_string(),
    ] {
        for flags in [&["-a", "never"][..], &[]] {
            let ran = patch(&stage, flags, &format!("*** Add File: {path}\n+x"));
            assert_eq!(ran.code(), 126, "{flags:?} {path}: {}", ran.stderr);
        }
    }
    assert!(!outside.exists() && !stage.workspace(".git/hooks/post-commit").exists());
    // One change that does not fit, and none is made.
    let ran = patch(
        &stage,
        &[],
        "*** Delete File: b.txt\n*** Update File: new/c.txt\n@@\n-not there\n+x",
    );
    assert!(ran.code() != 0, "{}", ran.stderr);
    assert!(stage.workspace("b.txt").exists());
}

#[test]
fn a_patch_that_a_reviewer_approved_is_made_outside_and_nothing_else_of_the_runner_s_is_touched() {
    let stage = Stage::new();
    let model = allowing(&stage);
    let outside = stage.outside("new");
    let ran = patch(
        &stage,
        &[],
        &format!("*** Add File: {}\n+x", outside.display()),
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(text_of(&outside), "x\n");
    assert_eq!(model.asked().len(), 1);
    let settings = stage.codex("config.toml");
    let before = text_of(&settings);
    let ran = patch(
        &stage,
        &["--yolo"],
        &format!("*** Delete File: {}", settings.display()),
    );
    assert_eq!(
        (ran.code(), text_of(&settings)),
        (126, before),
        "{}",
        ran.stderr
    );
}

#[test]
fn additional_permissions_widen_the_walls_by_exactly_what_was_asked() {
    let stage = Stage::new();
    let _model = allowing(&stage);
    for name in ["yes", "no"] {
        fs::create_dir(stage.outside(name)).expect("a folder");
    }
    let (yes, no) = (stage.outside("yes"), stage.outside("no"));
    let wish = format!("{{\"file_system\":{{\"write\":[\"{}\"]}}}}", yes.display());
    let script = format!(
        "touch '{0}/f' && ! touch '{1}/f'",
        yes.display(),
        no.display()
    );
    let ran = stage
        .exec(&["--additional-permissions", &wish], &["sh", "-c", &script])
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(yes.join("f").exists() && !no.join("f").exists());
    for wrong in [
        "{}",
        "{\"network\":{\"enabled\":false}}",
        "x",
        "{\"odd\":1}",
    ] {
        let ran = stage
            .exec(&["--additional-permissions", wrong], &["true"])
            .ran();
        assert_eq!(ran.code(), 125, "{wrong}: {}", ran.stderr);
    }
}

#[test]
fn a_table_of_settings_and_commands_is_explained_row_by_row() {
    let stage = Stage::new();
    let rows = stage.file(
        "rows.toml",
        r#"
[[row]]
config = 'approval_policy = "never"'
command = "rm -rf x"
expect = "refused"
[[row]]
config = 'approval_policy = "untrusted"'
command = ["ls", "-l"]
expect = "inside"
[[row]]
rules = 'prefix_rule(["make"])'
command = "make all"
expect = "allow_rule"
[[row]]
config = 'sandbox_mode = "danger-full-access"'
command = "make"
expect = "full_access"
[[row]]
command = "make"
sandbox_permissions = "require_escalated"
expect = "ask"
"#,
    );
    let rows = rows.display().to_string();
    let ran = stage
        .runner()
        .args(["explain", "--json", "--matrix", &rows])
        .ran();
    assert_eq!(ran.code(), 0, "{}{}", ran.text(), ran.stderr);
    assert_eq!(ran.text().lines().count(), 5);
    fs::write(&rows, "[[row]]\ncommand = \"ls\"\nexpect = \"ask\"\n").expect("rows");
    assert_eq!(
        stage
            .runner()
            .args(["explain", "--matrix", &rows])
            .ran()
            .code(),
        1
    );
}

#[test]
fn nobody_but_the_runner_makes_a_patch_past_its_judgement() {
    let stage = ruled("");
    let outside = stage.outside("new");
    let text = format!("*** Add File: {}\n+x", outside.display());
    let ran = patch(&stage, &["--inside"], &text);
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    let file = stage.file("p", &format!("*** Begin Patch\n{text}\n*** End Patch\n"));
    let file = file.display().to_string();
    let ran = stage
        .runner()
        .args(["apply-patch", "--inside", &file])
        .ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(!outside.exists());
}

#[test]
fn settings_that_are_not_there_cannot_be_made_by_an_approved_command() {
    let stage = Stage::new();
    let _model = allowing(&stage);
    fs::remove_file(stage.codex("config.toml")).expect("removed");
    let flags = [
        "--escalate",
        "-c",
        "sandbox_mode=\"workspace-write\"",
        "-c",
        "approvals_reviewer=\"auto_review\"",
    ];
    for name in ["config.toml", "rules/x.rules", "agent-runner.toml"] {
        let path = stage.codex(name);
        let before = text_of(&path);
        let script = format!("echo x >> '{0}'; rm -f '{0}'; mv '{0}' x", path.display());
        let ran = stage.exec(&flags, &["sh", "-c", &script]).ran();
        assert_eq!(text_of(&path), before, "{name}: {}", ran.stderr);
    }
}

#[test]
fn what_a_rule_allows_inside_has_the_variables_of_the_inside() {
    let stage = ruled("prefix_rule([\"env\"], \"allow\")\n");
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p.filesystem]\n\":root\" = \"read\"\n\":workspace_roots\" = { \".\" = \"write\", \"secret.txt\" = \"deny\" }\n",
    );
    stage.file("secret.txt", "x");
    let variables = |flags: &[&str]| {
        let ran = stage.exec(flags, &["env"]).ran();
        assert_eq!(ran.code(), 0, "{flags:?}: {}", ran.stderr);
        let mut lines: Vec<_> = ran.text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let plain = variables(&[]);
    assert!(
        plain
            .iter()
            .any(|line| line.starts_with("AUTO_REVIEW_SANDBOX="))
    );
    assert_eq!(variables(&["--escalate"]), plain);
}
