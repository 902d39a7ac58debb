//! What is reviewed is what runs (D21): scripts, programs and folders that are swapped while the review is pending.
//!
//! For each there are two good ends: what was reviewed runs, or nothing does. What came later never runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use harness::{Gate, Ran, Script, Stage, assessment};

use super::Trusting;

/// Asks to run `command`, does `swap` while the reviewer considers it, and lets the reviewer say yes.
fn swapped(
    trusting: &Trusting,
    gate: &Gate,
    flags: &[&str],
    command: &[&str],
    swap: impl FnOnce(&Stage),
) -> Ran {
    let flags: Vec<&str> = ["--escalate"].iter().chain(flags).copied().collect();
    let started = trusting.stage.exec(&flags, command).start();
    gate.reached();
    swap(&trusting.stage);
    gate.open();
    let ran = started.wait();
    assert!(
        [0, 125, 126].contains(&ran.code()),
        "it runs, or the runner refuses: {}: {}",
        ran.code(),
        ran.stderr
    );
    ran
}

fn pending() -> (Trusting, Gate) {
    let gate = Gate::default();
    (
        Trusting::with(Script::Waits(
            gate.clone(),
            assessment("allow", "low", "unknown"),
        )),
        gate,
    )
}

fn script_text(stage: &Stage, name: &str) -> String {
    format!(
        "#!/bin/sh\necho {name} > '{}'\n",
        stage.outside(name).display()
    )
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// Holds that `evil` never ran, and that the reviewed one ran exactly where the run says it did.
fn holds(stage: &Stage, ran: &Ran) {
    assert!(
        !stage.outside("evil").exists(),
        "what was never reviewed ran: {}",
        ran.stderr
    );
    assert_eq!(
        stage.outside("good").exists(),
        ran.code() == 0,
        "{}",
        ran.stderr
    );
}

#[test]
fn a_script_that_is_written_over_during_its_review_does_not_run_as_it_is_now() {
    let (trusting, gate) = pending();
    let script = trusting
        .stage
        .file("task.sh", &script_text(&trusting.stage, "good"));
    let ran = swapped(&trusting, &gate, &[], &["sh", "task.sh"], |stage| {
        fs::write(&script, script_text(stage, "evil")).expect("a script");
    });
    holds(&trusting.stage, &ran);
}

/// One way to have a shell run a script, with the script swapped during its review.
fn swapped_behind(words: &[&str]) {
    let (trusting, gate) = pending();
    let script = trusting
        .stage
        .file("task.sh", &script_text(&trusting.stage, "good"));
    let ran = swapped(&trusting, &gate, &[], words, |stage| {
        fs::write(&script, script_text(stage, "evil")).expect("a script");
    });
    holds(&trusting.stage, &ran);
}

#[test]
fn a_script_behind_a_letter_that_takes_nothing_is_held_as_well() {
    swapped_behind(&["sh", "-e", "task.sh"]);
    swapped_behind(&["sh", "-eu", "./task.sh"]);
}

#[test]
fn a_script_behind_the_end_of_the_options_is_held_as_well() {
    swapped_behind(&["sh", "--", "task.sh"]);
}

#[test]
fn a_script_behind_an_option_with_a_value_is_held_as_well() {
    swapped_behind(&["bash", "-o", "errexit", "task.sh"]);
    swapped_behind(&["bash", "--norc", "task.sh"]);
}

#[test]
fn a_script_behind_a_wrapper_is_held_as_well() {
    swapped_behind(&["env", "sh", "task.sh"]);
    swapped_behind(&["timeout", "20", "sh", "task.sh"]);
}

#[test]
fn a_script_that_a_shell_s_own_words_name_is_held_as_well() {
    swapped_behind(&["sh", "-c", "sh task.sh"]);
    swapped_behind(&["sh", "-c", ". ./task.sh"]);
}

#[test]
fn a_script_in_a_folder_that_the_command_goes_to_is_held_as_well() {
    for words in [
        &["sh", "-c", "cd sub && ./task.sh"][..],
        &["sh", "-c", "cd sub; . ./task.sh"],
        &["sh", "-c", "env -C sub sh task.sh"],
        &["env", "-C", "sub", "./task.sh"],
        &["sh", "-c", "sh < sub/task.sh"],
    ] {
        let (trusting, gate) = pending();
        fs::create_dir(trusting.stage.workspace("sub")).expect("a folder");
        let text = script_text(&trusting.stage, "good");
        let script = trusting.stage.file("sub/task.sh", &text);
        executable(&script);
        let ran = swapped(&trusting, &gate, &[], words, |stage| {
            fs::write(&script, script_text(stage, "evil")).expect("a script");
        });
        holds(&trusting.stage, &ran);
    }
}

#[test]
fn a_script_that_is_replaced_during_its_review_does_not_run_as_it_is_now() {
    let (trusting, gate) = pending();
    let script = trusting
        .stage
        .file("task.sh", &script_text(&trusting.stage, "good"));
    let ran = swapped(&trusting, &gate, &[], &["sh", "task.sh"], |stage| {
        let evil = stage.file("evil.sh", &script_text(stage, "evil"));
        fs::rename(evil, &script).expect("renamed");
    });
    holds(&trusting.stage, &ran);
}

#[test]
fn a_script_that_becomes_a_link_during_its_review_is_not_followed() {
    let (trusting, gate) = pending();
    let script = trusting
        .stage
        .file("task.sh", &script_text(&trusting.stage, "good"));
    let ran = swapped(&trusting, &gate, &[], &["sh", "task.sh"], |stage| {
        let evil = stage.file("evil.sh", &script_text(stage, "evil"));
        fs::remove_file(&script).expect("removed");
        symlink(evil, &script).expect("a link");
    });
    holds(&trusting.stage, &ran);
}

/// A link to a script could be turned while the review is pending, so the question is not even put.
fn a_turnable_link_is_refused(words: &[&str], lay: impl FnOnce(&Stage)) {
    let (trusting, _gate) = pending();
    lay(&trusting.stage);
    let ran = trusting.stage.exec(&["--escalate"], words).ran();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert!(ran.stderr.contains("symbolic link"), "{}", ran.stderr);
    assert!(trusting.model.asked().is_empty());
}

#[test]
fn a_link_to_a_script_that_could_be_turned_during_its_review_is_refused() {
    a_turnable_link_is_refused(&["sh", "link.sh"], |stage| {
        let good = stage.file("good.sh", &script_text(stage, "good"));
        symlink(good, stage.workspace("link.sh")).expect("a link");
    });
}

#[test]
fn a_link_on_the_way_to_a_script_that_could_be_turned_during_its_review_is_refused() {
    a_turnable_link_is_refused(&["sh", "current/task.sh"], |stage| {
        fs::create_dir(stage.workspace("good")).expect("a folder");
        stage.file("good/task.sh", &script_text(stage, "good"));
        symlink("good", stage.workspace("current")).expect("a link");
    });
}

#[test]
fn a_link_to_a_program_that_is_turned_during_its_review_is_not_followed() {
    let (trusting, gate) = pending();
    let stage = &trusting.stage;
    for name in ["good", "evil"] {
        executable(&stage.file(name, &script_text(stage, name)));
    }
    let link = stage.workspace("current");
    symlink("good", &link).expect("a link");
    let ran = swapped(&trusting, &gate, &[], &["./current"], |_| {
        fs::remove_file(&link).expect("removed");
        symlink("evil", &link).expect("a link");
    });
    holds(&trusting.stage, &ran);
}

#[test]
fn a_folder_of_a_script_that_is_swapped_during_its_review_does_not_run_what_is_there_now() {
    let (trusting, gate) = pending();
    let stage = &trusting.stage;
    for name in ["current", "other"] {
        fs::create_dir(stage.workspace(name)).expect("a folder");
    }
    stage.file("current/task.sh", &script_text(stage, "good"));
    stage.file("other/task.sh", &script_text(stage, "evil"));
    let ran = swapped(&trusting, &gate, &[], &["sh", "current/task.sh"], |stage| {
        fs::rename(stage.workspace("current"), stage.workspace("before")).expect("renamed");
        fs::rename(stage.workspace("other"), stage.workspace("current")).expect("renamed");
    });
    holds(&trusting.stage, &ran);
}

#[test]
fn a_program_that_is_a_script_and_changes_during_its_review_does_not_run_as_it_is_now() {
    let (trusting, gate) = pending();
    let script = trusting
        .stage
        .file("task", &script_text(&trusting.stage, "good"));
    executable(&script);
    let ran = swapped(&trusting, &gate, &[], &["./task"], |stage| {
        fs::write(&script, script_text(stage, "evil")).expect("a script");
    });
    holds(&trusting.stage, &ran);
}

/// A copy of the system's program `name` at `path`.
fn copy_of(name: &str, path: &Path) {
    let source = ["/usr/bin", "/bin"]
        .iter()
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|path| path.exists());
    // Replaced and not written over: a program that runs cannot be.
    let draft = path.with_extension("draft");
    fs::copy(source.expect("the program is there"), &draft).expect("copied");
    executable(&draft);
    fs::rename(draft, path).expect("renamed");
}

/// `touch` makes a file, and `mkdir` a folder of the same name: what is there says which of them ran.
fn holds_program(made: &Path, ran: &Ran) {
    assert!(
        !made.is_dir(),
        "the program that was never reviewed ran: {}",
        ran.stderr
    );
    assert_eq!(made.is_file(), ran.code() == 0, "{}", ran.stderr);
}

#[test]
fn a_program_in_the_workspace_that_is_swapped_during_its_review_does_not_run() {
    let (trusting, gate) = pending();
    let (tool, made) = (
        trusting.stage.workspace("tool"),
        trusting.stage.outside("made"),
    );
    copy_of("touch", &tool);
    let command = ["./tool", &made.display().to_string()];
    let ran = swapped(&trusting, &gate, &[], &command, |_| copy_of("mkdir", &tool));
    holds_program(&made, &ran);
}

#[test]
fn a_program_elsewhere_that_is_swapped_during_its_review_does_not_run() {
    let (trusting, gate) = pending();
    let (tool, made) = (
        trusting.stage.outside("tool"),
        trusting.stage.outside("made"),
    );
    copy_of("touch", &tool);
    let (program, operand) = (tool.display().to_string(), made.display().to_string());
    let command = [program.as_str(), operand.as_str()];
    let ran = swapped(&trusting, &gate, &[], &command, |_| copy_of("mkdir", &tool));
    holds_program(&made, &ran);
}

#[test]
fn a_program_elsewhere_that_is_written_over_in_place_during_its_review_does_not_run() {
    let (trusting, gate) = pending();
    let (tool, made) = (
        trusting.stage.outside("tool"),
        trusting.stage.outside("made"),
    );
    copy_of("touch", &tool);
    let (program, operand) = (tool.display().to_string(), made.display().to_string());
    let command = [program.as_str(), operand.as_str()];
    let ran = swapped(&trusting, &gate, &[], &command, |stage| {
        let other = stage.outside("other");
        copy_of("mkdir", &other);
        let bytes = fs::read(other).expect("a program");
        fs::write(&tool, bytes).expect("a program that does not run can be written");
    });
    holds_program(&made, &ran);
}

#[test]
fn a_working_directory_that_is_swapped_during_the_review_is_not_entered() {
    let (trusting, gate) = pending();
    let stage = &trusting.stage;
    let folder = stage.workspace("sub");
    fs::create_dir(&folder).expect("a folder");
    let elsewhere = stage.outside("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    stage.file("sub/task.sh", "echo made > made-here\n");
    let path = folder.display().to_string();
    let flags = ["--cd", path.as_str()];
    let ran = swapped(&trusting, &gate, &flags, &["sh", "task.sh"], |stage| {
        fs::rename(&folder, stage.workspace("sub-before")).expect("renamed");
        symlink(&elsewhere, &folder).expect("a link");
    });
    assert!(
        !elsewhere.join("made-here").exists(),
        "it ran in a folder that was never reviewed: {}",
        ran.stderr
    );
    let made = trusting.stage.workspace("sub-before/made-here").exists();
    assert_eq!(made, ran.code() == 0, "{}", ran.stderr);
}

#[test]
fn a_program_that_was_planted_on_the_path_in_the_workspace_does_not_cross_the_walls() {
    let trusting = Trusting::new();
    let stage = &trusting.stage;
    fs::create_dir(stage.workspace("bin")).expect("a folder");
    let planted = stage.file("bin/git", &script_text(stage, "evil"));
    executable(&planted);
    let linked = stage.outside("bin");
    symlink(stage.workspace("bin"), &linked).expect("a link");
    let system = "/usr/local/bin:/usr/bin:/bin";
    for first in [
        stage.workspace("bin").display().to_string(),
        linked.display().to_string(),
        "bin".to_owned(),
        ".".to_owned(),
        String::new(),
    ] {
        let run = stage
            .escalate(&["git", "--version"])
            .env("PATH", format!("{first}:{system}"));
        let ran = run.started_in(&stage.workspace("")).ran();
        assert_eq!(ran.code(), 0, "{first}: {}", ran.stderr);
        assert!(
            ran.text().starts_with("git version"),
            "{first}: {}",
            ran.text()
        );
        assert!(!stage.outside("evil").exists(), "{first}");
    }
}

#[test]
fn a_script_that_appears_during_its_review_does_not_run() {
    for words in [&["sh", "-e", "gen.sh"][..], &["sh", "-c", "sh gen.sh"]] {
        let (trusting, gate) = pending();
        let ran = swapped(&trusting, &gate, &[], words, |stage| {
            stage.file("gen.sh", &script_text(stage, "evil"));
        });
        assert_eq!(ran.code(), 126, "{words:?}: {}", ran.stderr);
        assert!(!trusting.stage.outside("evil").exists(), "{words:?}");
    }
}

#[test]
fn an_interpreter_that_is_swapped_during_the_review_of_its_script_does_not_run() {
    let (trusting, gate) = pending();
    let stage = &trusting.stage;
    let interpreter = stage.file("interp", &script_text(stage, "good"));
    executable(&interpreter);
    let script = stage.file("run.sh", &format!("#!{}\n", interpreter.display()));
    executable(&script);
    let ran = swapped(&trusting, &gate, &[], &["./run.sh"], |stage| {
        fs::write(&interpreter, script_text(stage, "evil")).expect("an interpreter");
    });
    holds(stage, &ran);
}
