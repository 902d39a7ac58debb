//! No process outlives its command, no file stays in the workspace, no mount on the machine, no terminal is left raw,
//! whatever way the command ends (P8, D22, D27).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use harness::{
    Marker, Missing, Run, Script, ScriptedModel, Stage, Started, Terminal, assessment, children_of,
    eventually, is_alive, kill, lacks,
};
use rustix::process::Signal;

/// Three ways out of the walls, and staying in.
const PLANS: [&[&str]; 3] = [&[], &["--escalate"], &["--unconfined"]];

/// A stage whose reviewer says yes to everything.
fn trusting() -> (Stage, ScriptedModel) {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    let stage = Stage::new();
    stage.runner_settings(&model.table("openai-responses"));
    (stage, model)
}

fn marked(run: Run, marker: &Marker) -> Run {
    run.env(Marker::VARIABLE, marker.text())
}

/// Everything below `folder`, with what each thing is.
fn everything(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        found.insert(format!("{} {kind:?}", entry.path().display()));
        if kind.is_dir() {
            found.extend(everything(&entry.path()));
        }
    }
    found
}

/// The mounts of this process's namespace that lie at or below `root`.
fn mounts_below(root: &Path) -> Vec<String> {
    let list = fs::read_to_string("/proc/self/mountinfo").expect("a list of mounts");
    list.lines()
        .filter(|line| line.contains(&root.display().to_string()))
        .map(str::to_owned)
        .collect()
}

fn gone(marker: &Marker, what: &str) {
    let mut left = Vec::new();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the processes to end", || {
            left = marker.processes();
            left.is_empty().then_some(())
        });
    }));
    assert!(ended.is_ok(), "{what}: still there: {left:?}");
}

#[test]
fn fifty_commands_leave_no_process_no_mount_and_no_file() {
    let (stage, _model) = trusting();
    let marker = Marker::new();
    let name = marker.text();
    let daemons = "setsid sleep 300 >/dev/null 2>&1 </dev/null & (trap '' HUP TERM; setsid setsid sleep 300 >/dev/null 2>&1 </dev/null &) & exit 3";
    stage.file("daemons.sh", daemons);
    let outside = stage.outside("made").display().to_string();
    let commands: [(&[&str], Vec<&str>, i32); 10] = [
        (&[], vec!["true"], 0),
        (&[], vec!["false"], 1),
        (&[], vec!["sh", "-c", daemons], 3),
        (&["--escalate"], vec!["touch", &outside], 0),
        (&["--escalate"], vec!["sh", "daemons.sh"], 3),
        (&["--unconfined"], vec!["sh", "daemons.sh"], 3),
        (&[], vec!["sh", "-c", "kill -KILL $$"], 137),
        (
            &[],
            vec![
                "sh",
                "-c",
                "mkdir .agents .codex; touch .git/x .git/hooks/x; echo x > /tmp/$E2E_MARK; exit 4",
            ],
            4,
        ),
        (
            &["--sandbox", "read-only"],
            vec!["sh", "-c", "touch here 2>/dev/null; sleep 300 & exit 5"],
            5,
        ),
        (&[], vec!["no-such-program"], 127),
    ];
    let before = everything(&stage.workspace(""));
    for round in 0..5 {
        for (flags, command, code) in &commands {
            let ran = marked(stage.exec(flags, command), &marker).ran();
            assert_eq!(
                ran.code(),
                *code,
                "{round} {flags:?} {command:?}: {}",
                ran.stderr
            );
        }
    }
    gone(&marker, "after fifty commands");
    assert_eq!(everything(&stage.workspace("")), before);
    assert_eq!(mounts_below(stage.root()), Vec::<String>::new());
    assert!(
        !Path::new("/tmp").join(name).exists(),
        "what a confined command writes to /tmp is its own"
    );
    let tmp = fs::read_dir("/tmp")
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name());
    assert!(
        !tmp.into_iter()
            .any(|entry| entry.to_string_lossy().contains(name))
    );
}

#[test]
fn twenty_commands_at_once_in_one_workspace_leave_it_as_it_was() {
    let stage = Stage::new();
    let marker = Marker::new();
    let before = everything(&stage.workspace(""));
    let script = "mkdir .agents .codex .git/new 2>/dev/null; sleep 0.$1; test -e .agents && ls -a .agents; exit 3";
    let run = |number: usize| {
        marked(
            stage.exec(&[], &["sh", "-c", script, "sh", &number.to_string()]),
            &marker,
        )
    };
    let mut started: Vec<Started> = (0..20).map(|number| run(number).start()).collect();
    // Two of them die in the middle.
    drop(started.split_off(18));
    for started in started {
        let ran = started.wait();
        assert_eq!(ran.code(), 3, "{}", ran.stderr);
    }
    gone(&marker, "after twenty commands at once");
    eventually("the workspace to be as it was", || {
        (everything(&stage.workspace("")) == before).then_some(())
    });
    assert_eq!(mounts_below(stage.root()), Vec::<String>::new());
}

/// Starts a command that goes on for ever and whose children do too, and waits until it is under way.
fn under_way(stage: &Stage, flags: &[&str], marker: &Marker, script: &str) -> Started {
    let ready = stage.workspace("ready");
    fs::remove_file(&ready).unwrap_or_default();
    stage.file("forever.sh", script);
    let started = marked(stage.exec(flags, &["sh", "forever.sh"]), marker).start();
    eventually("the command to be under way", || {
        ready.exists().then_some(())
    });
    let runner = started.pid();
    assert!(
        marker.processes().iter().any(|(pid, _)| *pid != runner),
        "the command can be found while it runs"
    );
    started
}

// `exec` at the end: dash loses an interrupt that comes while it starts a program (it starts it by vfork).
const FOREVER: &str =
    "setsid sleep 300 >/dev/null 2>&1 </dev/null &\nsleep 300 &\ntouch ready\nexec sleep 300\n";

#[test]
fn a_signal_to_the_runner_ends_command_and_runner_with_the_usual_status() {
    let (stage, _model) = trusting();
    let signals = [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::QUIT, 131),
    ];
    for flags in PLANS {
        for (signal, code) in signals {
            let marker = Marker::new();
            let started = under_way(&stage, flags, &marker, FOREVER);
            started.signal(signal);
            assert_eq!(started.wait().code(), code, "{flags:?} {signal:?}");
            gone(&marker, &format!("{flags:?} {signal:?}"));
        }
    }
}

#[test]
fn a_command_that_does_not_listen_is_ended_all_the_same() {
    let (stage, _model) = trusting();
    let marker = Marker::new();
    let stubborn = "trap '' TERM\ntouch ready\nwhile :; do sleep 1; done\n";
    let started = under_way(&stage, &[], &marker, stubborn);
    started.signal(Signal::TERM);
    assert_eq!(started.wait().code(), 143);
    gone(&marker, "after a command that ignores SIGTERM");
}

#[test]
fn a_command_that_handles_a_signal_has_the_last_word() {
    let (stage, _model) = trusting();
    let marker = Marker::new();
    let polite = "trap 'echo tidied up; exit 7' INT\ntouch ready\nwhile :; do :; done\n";
    let started = under_way(&stage, &[], &marker, polite);
    started.signal(Signal::INT);
    let ran = started.wait();
    assert_eq!(
        (ran.code(), ran.text().as_str()),
        (7, "tidied up\n"),
        "{}",
        ran.stderr
    );
    gone(&marker, "after a command that handles SIGINT");
}

#[test]
fn a_runner_that_is_killed_takes_its_command_with_it_and_leaves_no_file() {
    let (stage, _model) = trusting();
    for flags in PLANS {
        let marker = Marker::new();
        let before = everything(&stage.workspace(""));
        let started = under_way(&stage, flags, &marker, FOREVER);
        let runner = started.pid();
        drop(started);
        assert!(!is_alive(runner));
        gone(&marker, &format!("{flags:?}: after SIGKILL to the runner"));
        for name in ["ready", "forever.sh"] {
            fs::remove_file(stage.workspace(name)).expect("the test's own file");
        }
        eventually("the workspace to be as it was", || {
            (everything(&stage.workspace("")) == before).then_some(())
        });
        assert_eq!(mounts_below(stage.root()), Vec::<String>::new());
    }
}

#[test]
fn a_killed_command_ends_the_run_and_its_children() {
    let (stage, _model) = trusting();
    let marker = Marker::new();
    let script = "sleep 300 &\nsetsid sleep 300 &\ntouch ready\nwhile [ -e ready ]; do sleep 0.05; done\nkill -KILL $$\n";
    let started = under_way(&stage, &[], &marker, script);
    fs::remove_file(stage.workspace("ready")).expect("the command's own file");
    let ran = started.wait();
    assert_eq!(ran.code(), 137, "{}", ran.stderr);
    gone(&marker, "after the command was killed");
}

#[test]
fn the_terminal_is_as_it_was_whatever_way_the_command_ends() {
    let Some(terminal) = Terminal::open(24, 80) else {
        lacks(
            Missing::ControllingTerminal,
            "that the terminal is left as it was",
        );
        return;
    };
    let (stage, _model) = trusting();
    let before = terminal.modes();
    for flags in [&[][..], &["--tty"], &["--tty", "--escalate"]] {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 3", 3),
            ("stty raw -echo 2>/dev/null; exit 4", 4),
            ("kill -KILL $$", 137),
        ] {
            stage.file("task.sh", script);
            // Without a terminal of its own a command may change the one it inherited: that is passed through.
            if flags.is_empty() && script.starts_with("stty") {
                continue;
            }
            let run = terminal.run(stage.exec(flags, &["sh", "task.sh"]));
            assert_eq!(
                run.code(),
                Some(code),
                "{flags:?} {script}: {}",
                terminal.shown()
            );
            assert_eq!(terminal.modes(), before, "{flags:?} {script}");
        }
    }
}

#[test]
fn the_terminal_is_as_it_was_after_a_signal_to_the_runner() {
    let Some(terminal) = Terminal::open(24, 80) else {
        lacks(
            Missing::ControllingTerminal,
            "that the terminal is left as it was after a signal",
        );
        return;
    };
    let (stage, _model) = trusting();
    let (before, marker) = (terminal.modes(), Marker::new());
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let run = terminal.run(marked(
            stage.exec(&["--tty"], &["sh", "-c", "echo under way; sleep 300"]),
            &marker,
        ));
        eventually("the command to be under way", || {
            (terminal.modes() != before).then_some(())
        });
        terminal.shows("under way");
        kill(run.pid(), signal);
        assert_eq!(run.code(), Some(code), "{}", terminal.shown());
        assert_eq!(terminal.modes(), before, "{signal:?}");
        gone(&marker, "after a signal at a terminal");
    }
}

#[test]
fn a_trusted_folder_runs_two_commands_at_once_and_another_after_a_crash() {
    let stage = Stage::new();
    stage.settings("");
    let trusted = stage.runner().arg("trust").ran();
    assert_eq!(trusted.code(), 0, "{}", trusted.stderr);
    let first = stage.exec(&[], &["sleep", "300"]).start();
    let kept_free = stage.workspace(".codex");
    eventually("the missing name to be kept free", || {
        fs::symlink_metadata(&kept_free).ok()
    });
    let beside = stage.exec(&[], &["true"]).ran();
    assert_eq!(beside.code(), 0, "{}", beside.stderr);

    // Nobody is left who could remove what was made.
    first.signal(Signal::STOP);
    for process in children_of(first.pid()) {
        kill(process, Signal::KILL);
    }
    first.signal(Signal::KILL);
    let _killed = first.wait();
    assert!(fs::symlink_metadata(&kept_free).is_ok());
    let after = stage.exec(&[], &["true"]).ran();
    assert_eq!(after.code(), 0, "{}", after.stderr);
    assert!(fs::symlink_metadata(&kept_free).is_err());
}
