//! What a command reads, writes and ends with is its own; the runner adds nothing and takes nothing away (D27), and
//! who is asked is who was configured (D28).

use harness::{Gate, Missing, Ran, Script, ScriptedModel, Stage, Terminal, assessment, lacks};
use serde_json::Value;

use crate::records::text_at;

/// Bytes of every value in an order that repeats late: what is lost, doubled or changed shows.
fn bytes(length: usize) -> Vec<u8> {
    let mut state: u32 = 0x2545_f491;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_mebibyte_each_way_passes_untouched() {
    let stage = Stage::new();
    let sent = bytes(1024 * 1024);
    for mode in ["workspace-write", "read-only"] {
        let ran = stage
            .exec(&["--sandbox", mode], &["cat"])
            .stdin(sent.clone())
            .ran();
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        assert!(
            ran.stdout == sent,
            "{mode}: {} of {} bytes came back",
            ran.stdout.len(),
            sent.len()
        );
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn standard_output_and_error_stay_apart() {
    let stage = Stage::new();
    let script = "i=0; while [ $i -lt 2000 ]; do echo out-$i; echo error-$i >&2; i=$((i+1)); done";
    let ran = stage.exec(&[], &["sh", "-c", script]).ran();
    let lines = |word: &str| {
        (0..2000)
            .map(|i| format!("{word}-{i}\n"))
            .collect::<String>()
    };
    assert_eq!(ran.code(), 0);
    assert!(ran.text() == lines("out") && ran.stderr == lines("error"));
}

#[test]
fn every_exit_status_passes() {
    let stage = Stage::new();
    for status in [
        0, 1, 2, 7, 42, 100, 124, 125, 126, 127, 128, 129, 130, 143, 200, 254, 255,
    ] {
        let ran = stage
            .exec(&[], &["sh", "-c", &format!("exit {status}")])
            .ran();
        assert_eq!(ran.code(), status);
        assert_eq!(ran.stderr, "");
        // Where a status is one of the runner's own, the report says that the command ran.
        assert_ne!(ran.report["confinement"], Value::Null);
        assert_eq!(ran.report["exit_code"], status);
        assert_eq!(ran.report["message"], Value::Null);
    }
}

#[test]
fn a_death_by_signal_passes_as_128_and_the_number() {
    let stage = Stage::new();
    for (name, number) in [
        ("HUP", 1),
        ("INT", 2),
        ("ABRT", 6),
        ("KILL", 9),
        ("SEGV", 11),
        ("PIPE", 13),
        ("TERM", 15),
        ("USR1", 10),
    ] {
        let ran = stage
            .exec(&[], &["sh", "-c", &format!("kill -{name} $$; sleep 5")])
            .ran();
        assert_eq!(ran.code(), 128 + number, "{name}: {}", ran.stderr);
        assert_eq!(ran.report["signal"], number, "{name}");
    }
}

#[test]
fn what_reads_less_than_is_written_ends_the_writer_as_a_pipe_does() {
    let stage = Stage::new();
    let ran = stage.exec(&[], &["sh", "-c", "yes | head -n 3"]).ran();
    assert_eq!((ran.code(), ran.text().as_str()), (0, "y\ny\ny\n"));
    let ran = stage
        .exec(&[], &["head", "-c", "3"])
        .stdin(bytes(1024 * 1024))
        .ran();
    assert_eq!((ran.code(), ran.stdout.len()), (0, 3));
}

#[test]
fn arguments_and_environment_pass_word_for_word() {
    let stage = Stage::new();
    let odd = [
        "",
        " ",
        "two words",
        "a\nb",
        "'quoted\"",
        "$HOME `id` $(id)",
        "--",
        "-x",
        "é\u{1f980}",
        "*",
    ];
    let command: Vec<&str> = ["printf", "%s\\0"].into_iter().chain(odd).collect();
    let ran = stage.exec(&[], &command).ran();
    assert_eq!(ran.text().split_terminator('\0').collect::<Vec<_>>(), odd);
    let ran = stage
        .exec(&[], &["sh", "-c", "printf %s \"$ODD\""])
        .env("ODD", "a\nb=c \u{1f980}")
        .ran();
    assert_eq!(ran.text(), "a\nb=c \u{1f980}");
}

#[test]
fn a_report_may_go_to_an_inherited_descriptor() {
    let stage = Stage::new();
    let file = stage.root().join("by-descriptor.json");
    let launcher = format!("exec 3> '{}'; exec \"$@\"", file.display());
    let run = stage.runner().args([
        "exec",
        "--report",
        "3",
        "--",
        "sh",
        "-c",
        "echo out; exit 4",
    ]);
    let ran = run.launched_by(["sh", "-c", &launcher, "sh"]).ran();
    assert_eq!(
        (ran.code(), ran.text().as_str(), ran.stderr.as_str()),
        (4, "out\n", "")
    );
    let report: Value =
        serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON");
    assert_eq!(report["exit_code"], 4);
    assert_eq!(text_at(&report, "/route"), "inside");
}

fn terminal(what: &str) -> Option<Terminal> {
    let terminal = Terminal::open(33, 101);
    if terminal.is_none() {
        lacks(Missing::ControllingTerminal, what);
    }
    terminal
}

#[test]
fn without_tty_a_command_has_the_terminal_s_descriptors_and_not_the_terminal() {
    let Some(terminal) = terminal("what a command at a terminal has") else {
        return;
    };
    let stage = Stage::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && echo three of them; (: < /dev/tty) 2>/dev/null || echo not controlling; \
                  test \"$(cut -d' ' -f6 /proc/self/stat)\" = \"$(cut -d' ' -f5 /proc/self/stat)\"; echo done";
    let run = terminal.run(stage.exec(&[], &["sh", "-c", script]));
    assert_eq!(run.code(), Some(0), "{}", terminal.shown());
    terminal.shows("done");
    let shown = terminal.shown();
    assert!(
        shown.contains("three of them") && shown.contains("not controlling"),
        "{shown}"
    );
}

#[test]
fn with_tty_a_command_has_a_terminal_of_its_own_with_the_window_s_size() {
    let Some(terminal) = terminal("what `--tty` gives") else {
        return;
    };
    let stage = Stage::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && echo three; : < /dev/tty && echo controlling; stty size; \
                  read line; echo \"got <$line>\"; exit 9";
    let run = terminal.run(stage.exec(&["--tty"], &["sh", "-c", script]));
    terminal.shows("33 101");
    terminal.types("typed\n");
    assert_eq!(run.code(), Some(9), "{}", terminal.shown());
    terminal.shows("got <typed>");
    let shown = terminal.shown();
    assert!(
        shown.contains("three") && shown.contains("controlling"),
        "{shown}"
    );
}

#[test]
fn with_tty_an_interrupt_key_reaches_the_command_alone() {
    let Some(terminal) = terminal("the interrupt key") else {
        return;
    };
    let stage = Stage::new();
    let script = "trap 'echo caught; exit 6' INT; echo under way; while :; do :; done";
    let run = terminal.run(stage.exec(&["--tty"], &["sh", "-c", script]));
    terminal.shows("under way");
    terminal.types("\u{3}");
    assert_eq!(run.code(), Some(6), "{}", terminal.shown());
    terminal.shows("caught");
}

#[test]
fn without_tty_an_interrupt_key_ends_command_and_runner() {
    let Some(terminal) = terminal("the interrupt key") else {
        return;
    };
    let stage = Stage::new();
    let run = terminal.run(stage.exec(&[], &["sh", "-c", "echo under way; exec sleep 300"]));
    terminal.shows("under way");
    terminal.types("\u{3}");
    assert_eq!(run.code(), Some(130), "{}", terminal.shown());
}

#[test]
fn while_a_review_is_pending_a_terminal_shows_one_line_that_goes_away() {
    let Some(terminal) = terminal("the line of a pending review") else {
        return;
    };
    let gate = Gate::default();
    let model = ScriptedModel::start(Script::Waits(
        gate.clone(),
        assessment("allow", "low", "unknown"),
    ));
    let stage = Stage::new();
    stage.runner_settings(&model.table("openai-chat"));
    let (script, canary) = stage.canary_script();
    let run = terminal.run(stage.escalate(&script));
    gate.reached();
    terminal.shows("Reviewing");
    gate.open();
    assert_eq!(run.code(), Some(0), "{}", terminal.shown());
    assert!(canary.exists());
    terminal.shows("\r\u{1b}[K");
    assert_eq!(
        terminal.shown().matches("Reviewing").count(),
        1,
        "{:?}",
        terminal.shown()
    );
    assert!(
        terminal.shown().ends_with("\r\u{1b}[K"),
        "{:?}",
        terminal.shown()
    );
}

#[test]
fn never_refuses_an_escalation_and_asks_nobody() {
    let stage = Stage::new();
    for flags in [
        &["--escalate", "--ask-for-approval", "never"][..],
        &["--unconfined", "-a", "never"],
    ] {
        let new = stage.outside("new");
        let ran = stage
            .exec(flags, &["touch", &new.display().to_string()])
            .ran();
        assert_eq!(ran.code(), 126, "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 3, "{}", ran.stderr);
        assert!(ran.stderr.contains("never"), "{}", ran.stderr);
        assert!(!new.exists());
        assert_eq!(ran.reported("/route"), "refused");
    }
    assert!(stage.history().is_empty());
}

/// A stage whose approvals are a person's, and a script to ask about.
fn persons() -> (Stage, Vec<String>, std::path::PathBuf) {
    let stage = Stage::new();
    stage.settings("sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"user\"\n");
    let (script, canary) = stage.canary_script();
    (stage, script, canary)
}

fn holds_person(stage: &Stage, status: &str, by: &str) {
    let history = stage.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(
        text_at(&history[0], "/review/status"),
        status,
        "{}",
        history[0]
    );
    assert_eq!(
        text_at(&history[0], "/review/decided_by"),
        by,
        "{}",
        history[0]
    );
    assert_eq!(history[0]["redeemed_at"].is_null(), status != "approved");
}

#[test]
fn a_person_who_is_not_there_lets_nothing_run() {
    let (stage, script, canary) = persons();
    // In a session of its own there is no controlling terminal, wherever the tests are started.
    let ran: Ran = stage
        .escalate(&script)
        .stdin("y\ny\n")
        .launched_by(["setsid"])
        .ran();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 3, "{}", ran.stderr);
    assert!(!canary.exists());
    assert_eq!(
        text_at(&stage.journal()[0], "/event/failure/code"),
        "no_terminal"
    );
}

#[test]
fn a_person_who_says_yes_lets_it_run_once() {
    let Some(terminal) = terminal("a person's yes") else {
        return;
    };
    let (stage, script, canary) = persons();
    let run = terminal.run(stage.escalate(&script));
    terminal.shows("[y/N]");
    assert!(!canary.exists(), "nothing runs before the answer");
    terminal.types("y\n");
    assert_eq!(run.code(), Some(0), "{}", terminal.shown());
    assert!(canary.exists());
    assert!(
        terminal.shown().contains("task.sh") && terminal.shown().contains("OUTSIDE the walls"),
        "{}",
        terminal.shown()
    );
    holds_person(&stage, "approved", "person");
}

#[test]
fn a_person_who_says_anything_else_lets_nothing_run() {
    for (answer, ended) in [
        ("n\n", ("denied", "person")),
        ("\n", ("denied", "person")),
        ("no\n", ("denied", "person")),
        ("maybe\n", ("denied", "person")),
        ("yikes\n", ("denied", "person")),
        // Who ends the input has said nothing.
        ("\u{4}", ("aborted", "none")),
    ] {
        let Some(terminal) = terminal("a person's no") else {
            return;
        };
        let (stage, script, canary) = persons();
        let run = terminal.run(stage.escalate(&script));
        terminal.shows("[y/N]");
        terminal.types(answer);
        assert_eq!(run.code(), Some(126), "{answer:?}: {}", terminal.shown());
        assert!(!canary.exists(), "{answer:?}");
        holds_person(&stage, ended.0, ended.1);
    }
}

#[test]
fn a_yes_that_was_typed_before_the_question_is_no_answer() {
    let Some(terminal) = terminal("a yes that was typed ahead") else {
        return;
    };
    let (stage, script, canary) = persons();
    terminal.types("y\ny\nyes\n");
    let run = terminal.run(stage.escalate(&script));
    terminal.shows("[y/N]");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!canary.exists(), "{}", terminal.shown());
    terminal.types("n\n");
    assert_eq!(run.code(), Some(126), "{}", terminal.shown());
    assert!(!canary.exists());
    holds_person(&stage, "denied", "person");
}

#[test]
fn a_person_who_interrupts_takes_the_question_back() {
    let Some(terminal) = terminal("an interrupt at the question") else {
        return;
    };
    let (stage, script, canary) = persons();
    let run = terminal.run(stage.escalate(&script));
    terminal.shows("[y/N]");
    terminal.types("\u{3}");
    assert_eq!(run.code(), Some(130), "{}", terminal.shown());
    assert!(!canary.exists());
    holds_person(&stage, "aborted", "none");
}

#[test]
fn an_answer_on_standard_input_is_no_answer_of_a_person() {
    let Some(terminal) = terminal("that an answer must be typed") else {
        return;
    };
    let (stage, script, canary) = persons();
    stage.file("answers", "y\ny\n");
    let run = stage
        .escalate(&script)
        .launched_by(["sh", "-c", "exec \"$@\" < answers", "sh"]);
    let run = terminal.run(run);
    terminal.shows("[y/N]");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!canary.exists());
    terminal.types("n\n");
    assert_eq!(run.code(), Some(126), "{}", terminal.shown());
}

#[test]
fn untrusted_asks_the_person_even_where_the_reviewer_is_configured() {
    let stage = Stage::new();
    let trace = stage.workspace("trace");
    let flags = ["--ask-for-approval", "untrusted"];
    let ran = stage
        .exec(&flags, &["touch", "trace"])
        .launched_by(["setsid"])
        .ran();
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert!(!trace.exists());
    let safe = stage.exec(&flags, &["ls"]).ran();
    assert_eq!(
        safe.code(),
        0,
        "what is known to be safe runs: {}",
        safe.stderr
    );
}
