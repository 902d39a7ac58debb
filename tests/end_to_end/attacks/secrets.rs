//! What no command may touch: the runner's state, token, key, database, the agent's credentials (D16).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use harness::Stage;

use super::Trusting;

/// Reads its operands in every way it can think of. Whatever it gets, it prints.
const READ: &str = r#"
for path in "$@"; do
  cat "$path"; ls -la "$path"; od -c "$path" | head; strings "$path"
  for root in self 1 2 "$PPID" thread-self; do cat "/proc/$root/root$path" "/proc/$root/cwd/../${path##*/}"; done
  rm -f link hard copy; ln -s "$path" link; cat link link/*; ln "$path" hard && cat hard
  cp -rL "$path" copy; cat copy copy/*; tar -cf - "$path"; grep -ra . "$path"; find "$path" -type f -exec cat {} +
  (cd "$(dirname "$path")" && cat "$(basename "$path")"); cat "${path%/*}/../${path%/*}/${path##*/}" "$path"/*
done
for descriptor in /proc/$$/fd/* /proc/$PPID/fd/* /proc/1/fd/*; do [ -f "$descriptor" ] && cat "$descriptor"; done
cat "/proc/$PPID/environ" /proc/1/environ | tr '\0' '\n'
"#;

/// Takes covers away that lie over its operands, or goes around them, and prints what it gets.
const UNCOVER: &str = r#"
umount "$@"; umount -l "$@"; for path in "$@"; do cat "$path"; done
unshare --user --map-root-user --mount sh -c 'umount "$@"; umount -l "$@"; cat "$@"' sh "$@"
unshare --mount sh -c 'umount "$@"; umount -l "$@"; cat "$@"' sh "$@"
mkdir -p over; mount --bind "$(dirname "$1")" over && cat over/*; umount over
mount -t proc proc over && cat "over/1/root$1"; umount over
nsenter --target 1 --mount cat "$@"; chroot "/proc/1/root" cat "$@"
exit 0
"#;

/// Changes its operands in every way it can think of.
const WRITE: &str = r#"
for path in "$@"; do
  echo tampered > "$path"; echo tampered >> "$path"; echo tampered > "$path/planted"; truncate -s 0 "$path"
  chmod -R 0777 "$path"; printf tampered | dd of="$path" conv=notrunc; mv "$path" "$path.moved"
  cp probe.sh "$path"; ln -sf probe.sh "$path"; rm -rf "$path"
done
exit 0
"#;

const SECRET: &str = "this-is-the-secret-of-";

/// A stage with every secret in place, each holding its own text, and their paths.
fn with_secrets() -> (Trusting, Vec<PathBuf>) {
    let trusting = Trusting::new();
    let stage = &trusting.stage;
    // The runner makes its folder, key and embedded database.
    stage.runner_settings("");
    assert!(stage.history().is_empty());
    stage.ask_at(&trusting.server, &trusting.proxy.url());
    let journal = stage.state("journal.jsonl");
    fs::write(&journal, format!("{SECRET}journal\n")).expect("a journal");
    let auth = stage.codex("auth.json");
    fs::write(&auth, format!("{SECRET}auth\n")).expect("credentials");
    for path in [&journal, &auth] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    let token = trusting.server.token_file();
    let paths = vec![
        token,
        auth,
        journal,
        stage.state("mask.key"),
        stage.state("reviews.sqlite"),
        stage.state(""),
    ];
    (trusting, paths)
}

/// What must not come out: the token, and the texts that stand for the others.
fn leaks(trusting: &Trusting, output: &[u8]) -> Vec<String> {
    let key = fs::read(trusting.stage.state("mask.key")).unwrap_or_default();
    let needles = [
        trusting.server.token().as_bytes(),
        SECRET.as_bytes(),
        b"SQLite format 3",
        b"CREATE TABLE review_events",
        &key,
    ];
    let found = needles
        .iter()
        .filter(|needle| !needle.is_empty() && contains(output, needle));
    found
        .map(|needle| String::from_utf8_lossy(needle).into_owned())
        .collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// The command that runs the probe on `paths`. They stand in the probe: named beside it, no reviewer gives leave.
fn words(stage: &Stage, paths: &[PathBuf]) -> [&'static str; 2] {
    let text = fs::read_to_string(stage.workspace("inner.sh")).expect("the probe");
    let quoted: Vec<_> = paths
        .iter()
        .map(|path| format!("'{}'", path.display()))
        .collect();
    stage.file("inner.sh", &format!("set -- {}\n{text}", quoted.join(" ")));
    ["sh", "probe.sh"]
}

/// The file that the mask key is made into exists once something was shown to a reviewer.
fn asked_once(stage: &Stage) {
    let new = stage.outside("first").display().to_string();
    assert_eq!(stage.escalate(&["touch", &new]).ran().code(), 0);
}

#[test]
fn the_probes_of_these_tests_do_read_what_no_wall_guards() {
    let (trusting, paths) = with_secrets();
    asked_once(&trusting.stage);
    probe(&trusting.stage, READ);
    let bare = Command::new("sh")
        .arg("inner.sh")
        .args(&paths)
        .current_dir(trusting.stage.workspace(""))
        .output();
    let output = bare.expect("a shell").stdout;
    assert_eq!(
        leaks(&trusting, &output).len(),
        5,
        "without walls every secret comes out"
    );
}

fn holds_against_reading(flags: &[&str]) {
    let (trusting, paths) = with_secrets();
    asked_once(&trusting.stage);
    probe(&trusting.stage, &[READ, UNCOVER].concat());
    let ran = trusting
        .stage
        .exec(flags, &words(&trusting.stage, &paths))
        .ran();
    assert_eq!(ran.code(), 0, "the probe ran: {}", ran.stderr);
    let output = [ran.stdout.as_slice(), ran.stderr.as_bytes()].concat();
    assert_eq!(
        leaks(&trusting, &output),
        Vec::<String>::new(),
        "{}",
        String::from_utf8_lossy(&output)
    );
}

#[test]
fn a_confined_command_reads_none_of_the_runner_s_secrets() {
    holds_against_reading(&[]);
}

#[test]
fn a_read_only_command_reads_none_of_the_runner_s_secrets() {
    holds_against_reading(&["--sandbox", "read-only"]);
}

#[test]
fn an_escalated_command_that_was_approved_reads_none_of_the_runner_s_secrets() {
    holds_against_reading(&["--escalate"]);
}

fn holds_against_writing(flags: &[&str]) {
    let (trusting, paths) = with_secrets();
    asked_once(&trusting.stage);
    probe(&trusting.stage, WRITE);
    let contents = |name: &PathBuf| {
        (
            fs::read(name).unwrap_or_default(),
            fs::metadata(name).map(|it| it.permissions().mode()).ok(),
        )
    };
    let files = paths
        .iter()
        .filter(|path| path.is_file() && !path.ends_with("journal.jsonl"))
        .cloned()
        .collect::<Vec<_>>();
    let before: Vec<_> = files.iter().map(contents).collect();
    let ran = trusting
        .stage
        .exec(flags, &words(&trusting.stage, &paths))
        .ran();
    assert_eq!(ran.code(), 0, "the probe ran: {}", ran.stderr);
    let after: Vec<_> = files.iter().map(contents).collect();
    for ((file, before), after) in files.iter().zip(before).zip(after) {
        assert!(before == after, "{} was changed", file.display());
    }
    let journal = fs::read_to_string(trusting.stage.state("journal.jsonl")).expect("the journal");
    assert_eq!(journal, format!("{SECRET}journal\n"));
    assert!(!trusting.stage.state("planted").exists());
    assert!(!trusting.server.history().is_empty());
}

#[test]
fn a_confined_command_changes_none_of_the_runner_s_files() {
    holds_against_writing(&[]);
}

#[test]
fn an_escalated_command_that_was_approved_changes_none_of_the_runner_s_files() {
    holds_against_writing(&["--escalate"]);
}

/// Runs a command that moves the folder around the runner's own away and puts another in its place.
fn holds_against_moving(flags: &[&str]) {
    let (trusting, _) = with_secrets();
    asked_once(&trusting.stage);
    let state = trusting.stage.root().join("state");
    let moved = trusting.stage.root().join("moved");
    let (from, to) = (state.display(), moved.display());
    trusting.stage.file(
        "probe.sh",
        &format!("mv '{from}' '{to}' && mkdir -p '{from}/auto-review' && echo moved\nexit 0\n"),
    );
    let ran = trusting.stage.exec(flags, &["sh", "probe.sh"]).ran();
    assert_eq!(ran.code(), 0, "the probe ran: {}", ran.stderr);
    assert!(
        !moved.exists(),
        "the runner's folder was moved away, and another stands in its place"
    );
    assert!(trusting.stage.state("mask.key").exists());
}

#[test]
fn a_confined_command_cannot_put_another_folder_in_the_place_of_the_runner_s() {
    holds_against_moving(&[]);
}

#[test]
fn an_escalated_command_that_was_approved_cannot_put_another_folder_in_the_place_of_the_runner_s() {
    holds_against_moving(&["--escalate"]);
}

fn holds_behind_closed_folders(flags: &[&str]) {
    let (trusting, paths) = with_secrets();
    asked_once(&trusting.stage);
    for folder in [
        trusting.stage.root().join("state"),
        trusting.stage.codex(""),
    ] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("a mode");
    }
    probe(&trusting.stage, READ);
    let ran = trusting
        .stage
        .exec(flags, &words(&trusting.stage, &paths))
        .ran();
    assert_eq!(ran.code(), 0, "it runs: {}", ran.stderr);
    assert_eq!(leaks(&trusting, &ran.stdout), Vec::<String>::new());
}

#[test]
fn secrets_in_folders_that_only_their_user_may_enter_keep_no_confined_command_from_running() {
    holds_behind_closed_folders(&[]);
}

#[test]
fn secrets_in_folders_that_only_their_user_may_enter_keep_no_escalated_command_from_running() {
    holds_behind_closed_folders(&["--escalate"]);
}

#[test]
fn a_confined_command_that_starts_the_runner_gets_no_further_than_its_walls() {
    let stage = Stage::new();
    let canary = stage.outside("canary");
    let script = format!(
        "export XDG_STATE_HOME=$PWD/own-state CODEX_HOME=$PWD/own-codex HOME=$PWD/own-home; mkdir -p \"$HOME\" sub\n\
         '{runner}' exec -c approvals_reviewer=auto_review --cd \"$PWD/sub\" --escalate -- touch '{canary}'\n\
         '{runner}' exec --sandbox danger-full-access --cd \"$PWD/sub\" -- touch '{canary}'\n\
         exit 0\n",
        runner = harness::runner_program().display(),
        canary = canary.display(),
    );
    stage.file("nested.sh", &script);
    let ran = stage.exec(&[], &["sh", "nested.sh"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(!canary.exists(), "{}{}", ran.text(), ran.stderr);
    assert!(
        stage.history().is_empty(),
        "the user's own record knows nothing of it"
    );
}

/// Puts a probe in its place, behind a script of its own: for what it does in plain sight no reviewer gives leave.
fn probe(stage: &Stage, text: &str) {
    stage.file("inner.sh", text);
    stage.file("probe.sh", "exec sh ./inner.sh\n");
}

/// Runs a probe that replaces the runner's own program, by a runner that is a copy for this purpose.
fn holds_program(flags: &[&str]) {
    let trusting = Trusting::new();
    let stage = &trusting.stage;
    let copy = stage.outside("agent-runner");
    fs::copy(harness::runner_program(), &copy).expect("a copy");
    let path = copy.display();
    let probe = format!(
        "printf '#!/bin/sh\\n' > evil && chmod 755 evil; cat evil > '{path}'; mv -f evil '{path}'; rm -f '{path}'; exit 0\n"
    );
    self::probe(stage, &probe);
    let before = fs::read(&copy).expect("the program");
    let run = stage.exec(flags, &["sh", "probe.sh"]);
    // The launcher hands everything on to the copy in the program's place.
    let hand_on = format!("shift; exec '{path}' \"$@\"");
    let ran = run.launched_by(["sh", "-c", &hand_on, "sh"]).ran();
    assert_eq!(ran.code(), 0, "the probe ran: {}", ran.stderr);
    assert!(
        fs::read(&copy).is_ok_and(|now| now == before),
        "the runner's own program was replaced"
    );
}

#[test]
fn a_confined_command_cannot_replace_the_runner_s_program() {
    holds_program(&[]);
}

#[test]
fn an_escalated_command_that_was_approved_cannot_replace_the_runner_s_program() {
    holds_program(&["--escalate"]);
}

#[test]
fn a_link_planted_where_the_report_goes_leads_nowhere() {
    let stage = Stage::new();
    let precious = stage.outside("precious");
    fs::write(&precious, "untouched").expect("a file");
    let script = format!("ln -sf '{}' report.json", precious.display());
    let run = stage
        .runner()
        .args(["exec", "--report", "report.json", "--", "sh", "-c", &script]);
    let ran = run.ran();
    assert_eq!(
        fs::read_to_string(&precious).expect("the file"),
        "untouched",
        "{}",
        ran.stderr
    );
}

/// Runs a command that tries to kill the runner by its number.
fn cannot_kill(flags: &[&str]) {
    let trusting = Trusting::new();
    let stage = &trusting.stage;
    stage.file("probe.sh", "while ! [ -s number ]; do sleep 0.05; done\nkill -KILL \"$(cat number)\" 2>/dev/null && echo killed\nexit 9\n");
    let started = stage.exec(flags, &["sh", "probe.sh"]).start();
    stage.file("draft", &started.pid().to_string());
    fs::rename(stage.workspace("draft"), stage.workspace("number")).expect("renamed");
    let ran = started.wait();
    assert_eq!((ran.code(), ran.text().as_str()), (9, ""), "{}", ran.stderr);
}

#[test]
fn a_confined_command_cannot_signal_the_runner() {
    cannot_kill(&[]);
}

#[test]
fn an_escalated_command_that_was_approved_cannot_signal_the_runner() {
    cannot_kill(&["--escalate"]);
}

#[test]
fn a_confined_command_cannot_knock_at_the_server_s_port() {
    let trusting = Trusting::new();
    let port = trusting.server.address().port();
    let knock = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo open");
    let bare = Command::new("bash")
        .args(["-c", &knock])
        .output()
        .expect("bash");
    assert_eq!(
        String::from_utf8_lossy(&bare.stdout),
        "open\n",
        "without walls the port is open"
    );
    let ran = trusting.stage.exec(&[], &["bash", "-c", &knock]).ran();
    assert_eq!((ran.code(), ran.text().as_str()), (1, ""), "{}", ran.stderr);
}

#[test]
fn a_descriptor_that_the_runner_inherited_reaches_no_command() {
    let trusting = Trusting::new();
    let launcher = format!(
        "exec 9< '{}'; exec \"$@\"",
        trusting.server.token_file().display()
    );
    for flags in [&[][..], &["--escalate"]] {
        trusting.stage.file("descriptors.sh", "ls /proc/self/fd\n");
        let run = trusting.stage.exec(flags, &["sh", "descriptors.sh"]);
        let ran = run.launched_by(["sh", "-c", &launcher, "sh"]).ran();
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let own: Vec<String> = ran.text().lines().map(str::to_owned).collect();
        assert_eq!(
            own,
            ["0", "1", "2", "3"],
            "`ls` has one of its own beside the three: {}",
            ran.stderr
        );
    }
}
