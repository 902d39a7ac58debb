//! How much a command may use and print: what ended it is named, what was thrown away is counted, and nothing of it happens
//! where nobody asked.

use harness::{Missing, Stage, Terminal, lacks};

/// What the harness's report says at `key`.
fn reported(ran: &harness::Ran, key: &str) -> String {
    ran.report[key].to_string()
}

#[test]
fn a_command_that_takes_all_memory_is_ended_and_told_why() {
    let stage = Stage::new();
    stage.runner_settings("[limits]\nmemory_mebibytes = 64\n");
    let hog = "perl -e 'my @held; for (1..64) { push @held, \"x\" x (16 << 20) } sleep 60'";
    let ran = stage.exec(&[], &["sh", "-c", hog]).ran();
    assert_eq!(ran.code(), 137, "{}", ran.stderr);
    assert_eq!(reported(&ran, "limit"), "\"memory\"");
    assert!(
        ran.stderr.contains("held more memory than it may")
            && ran.stderr.contains("memory_mebibytes"),
        "{}",
        ran.stderr
    );
}

#[test]
fn memory_is_limited_where_nothing_is_said() {
    let stage = Stage::new();
    let explained = stage
        .runner()
        .args(["explain", "--json", "--", "true"])
        .ran();
    let plan: serde_json::Value = serde_json::from_str(&explained.text()).expect("JSON");
    let limit = plan["plan"]["limits"]["memory_bytes"].as_u64();
    assert!(limit.is_some_and(|bytes| bytes > 0), "{plan}");
}

#[test]
fn a_command_that_takes_too_long_is_ended_and_told_why() {
    let stage = Stage::new();
    stage.runner_settings("[limits]\nwall_secs = 1\n");
    let ran = stage.exec(&[], &["sh", "-c", "echo begun; sleep 60"]).ran();
    assert_eq!((ran.code(), ran.text()), (137, "begun\n".to_owned()));
    assert_eq!(reported(&ran, "limit"), "\"wall_time\"");
    assert!(ran.stderr.contains("wall_secs"), "{}", ran.stderr);
}

#[test]
fn the_signal_of_a_limit_is_named_and_the_same_signal_without_one_is_not() {
    let stage = Stage::new();
    let burn = "exec perl -e '1 while 1'";
    stage.runner_settings("[limits]\ncpu_secs = 1\n");
    let ran = stage.exec(&[], &["sh", "-c", burn]).ran();
    assert_eq!(
        (ran.code(), reported(&ran, "limit")),
        (152, "\"cpu_time\"".to_owned())
    );
    stage.runner_settings("[limits]\nfile_mebibytes = 1\n");
    let write =
        "exec perl -e 'open F, \">big\"; $| = 1; print F \"x\" x (4 << 20); close F; sleep 60'";
    let ran = stage.exec(&[], &["sh", "-c", write]).ran();
    assert_eq!(
        (ran.code(), reported(&ran, "limit")),
        (153, "\"file_size\"".to_owned()),
        "{}",
        ran.stderr
    );
    stage.runner_settings("");
    let ran = stage.exec(&[], &["sh", "-c", "kill -XFSZ $$"]).ran();
    assert_eq!(
        (ran.code(), reported(&ran, "limit")),
        (153, "null".to_owned())
    );
    assert_eq!(ran.stderr, "");
}

#[test]
fn no_more_is_passed_on_than_was_asked_for_and_the_command_ends_as_it_does() {
    let stage = Stage::new();
    let flood = "head -c 3000000 /dev/zero | tr '\\0' y; head -c 3000000 /dev/zero | tr '\\0' z >&2; exit 7";
    let ran = stage
        .exec(&["--max-output", "100000"], &["sh", "-c", flood])
        .ran();
    assert_eq!(ran.code(), 7);
    let (errors, said) = ran
        .stderr
        .split_once("agent-runner: ")
        .expect("what was cut");
    assert_eq!(ran.stdout.len() + errors.len(), 100_000);
    assert_eq!(
        said,
        "5900000 bytes of output were thrown away, beyond what is passed on\n"
    );
    assert_eq!(reported(&ran, "output_thrown_away"), "5900000");
}

#[test]
fn a_bound_that_is_not_reached_changes_no_byte() {
    let stage = Stage::new();
    stage.runner_settings("[limits]\nmax_output_bytes = 4000000\n");
    let sent: Vec<u8> = (0..1_000_000u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let ran = stage.exec(&[], &["cat"]).stdin(sent.clone()).ran();
    assert!(ran.stdout == sent && ran.stderr.is_empty() && ran.code() == 0);
}

#[test]
fn what_steers_a_terminal_is_spelled_out_where_it_was_asked_for_and_nowhere_else() {
    let stage = Stage::new();
    let script =
        "printf '\\033]52;c;cm0gLXJm\\007\\033[31mred\\033[0m\\n'; printf 'rm -rf /\\rls\\n' >&2";
    let filtered = stage
        .exec(&["--filter-escapes"], &["sh", "-c", script])
        .ran();
    assert_eq!(filtered.text(), "\\x1b]52;c;cm0gLXJm\\x07red\n");
    assert_eq!(filtered.stderr, "rm -rf /\nls\n");
    let plain = stage.exec(&[], &["sh", "-c", script]).ran();
    assert_eq!(
        plain.text(),
        "\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}[31mred\u{1b}[0m\n"
    );
}

#[test]
fn whoever_prints_to_nobody_is_told_by_the_pipe() {
    let stage = Stage::new();
    // `head` leaves after one line; without an end to it the command would print for ever.
    let launcher = ["sh", "-c", "\"$@\" | head -n 1", "sh"];
    let ran = stage
        .exec(&["--max-output", "1000000000"], &["yes"])
        .launched_by(launcher)
        .ran();
    assert_eq!(ran.text(), "y\n");
}

#[test]
fn what_stays_behind_does_not_keep_the_runner() {
    let stage = Stage::new();
    let ran = stage
        .exec(
            &["--max-output", "1000"],
            &["sh", "-c", "(sleep 300; echo late) & echo done"],
        )
        .ran();
    assert_eq!((ran.code(), ran.text()), (0, "done\n".to_owned()));
}

#[test]
fn a_persons_terminal_is_left_alone() {
    let stage = Stage::new();
    let Some(terminal) = Terminal::open(24, 80) else {
        lacks(Missing::ControllingTerminal, "output on a terminal");
        return;
    };
    let run = stage.exec(
        &["--max-output", "1", "--filter-escapes"],
        &["sh", "-c", "test -t 1 && echo terminal"],
    );
    assert_eq!(terminal.run(run).code(), Some(0));
    terminal.shows("terminal");
}
