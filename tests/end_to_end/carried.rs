//! A host where `/usr/bin/bwrap` alone may make user namespaces: the runner has it make them, all four walls stand, and the
//! report says who made them.
//!
//! The host is this one with a filter that refuses every other program's (`cases/only_bwrap.py`), and an ordinary user.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{
    Missing, Ran, Run, Script, ScriptedModel, Stage, Terminal, assessment, children_of, eventually,
    is_root, kill, lacks, launches,
};
use rustix::process::Signal;

const SUPERVISOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/only_bwrap.py");
const USER: u32 = 1000;

/// The words that start a program on such a host.
fn launcher() -> Vec<&'static str> {
    let mut words = Vec::new();
    if is_root() {
        words.extend([
            "setpriv",
            "--reuid",
            "1000",
            "--regid",
            "1000",
            "--clear-groups",
        ]);
    }
    words.extend(["/usr/bin/python3", SUPERVISOR]);
    words
}

/// A stage on such a host, or none where this machine cannot make one.
fn stage() -> Option<Stage> {
    let bwrap = ["/usr/bin/bwrap", "--unshare-user", "--ro-bind", "/", "/"];
    let words: Vec<&str> = launcher().into_iter().chain(bwrap).collect();
    if !launches(&words) {
        lacks(
            Missing::Tool,
            "what happens where bwrap alone may make namespaces",
        );
        return None;
    }
    Some(Stage::new())
}

/// Gives everything there to the user who runs the command.
fn hand_over(path: &Path) {
    if !is_root() {
        return;
    }
    lchown(path, Some(USER), Some(USER)).expect("handed over");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a folder") {
            hand_over(&entry.expect("an entry").path());
        }
    }
}

fn on_such_a_host(stage: &Stage, run: Run) -> Run {
    hand_over(stage.root());
    run.launched_by(launcher().into_iter().map(OsString::from))
}

/// The same where no other program watches the calls.
fn unwatched(stage: &Stage, flags: &[&str], script: &str) -> Ran {
    hand_over(stage.root());
    let run = stage.exec(flags, &["sh", "-c", script]);
    let by_flags = launcher().into_iter().chain(["--by-flags"]);
    run.launched_by(by_flags.map(OsString::from)).ran()
}

fn inside(stage: &Stage, flags: &[&str], script: &str) -> Ran {
    on_such_a_host(stage, stage.exec(flags, &["sh", "-c", script])).ran()
}

/// A secret file in the workspace, and settings that deny it.
fn deny(stage: &Stage) -> PathBuf {
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"private\" = \"deny\"\n\"**/*.env\" = \"deny\"\n\"docs\" = \"read\"\n",
    );
    for folder in ["private", "docs", "src"] {
        fs::create_dir(stage.workspace(folder)).expect("a folder");
    }
    stage.file("private/diary", "hunter2\n");
    stage.file("docs/guide", "read me\n");
    stage.file("src/.env", "hunter2\n")
}

#[test]
fn all_walls_stand_and_the_report_says_who_made_the_namespaces() {
    let Some(stage) = stage() else { return };
    let script = "grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; id -u; \
                  ls /proc | grep -cE '^[0-9]+$'; ls -A /tmp | wc -l; echo error >&2; exit 7";
    let ran = inside(&stage, &[], script);
    assert_eq!((ran.code(), ran.stderr.as_str()), (7, "error\n"));
    let text = ran.text();
    let lines: Vec<&str> = text.lines().collect();
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        assert!(
            lines.contains(&format!("{name}:\t0000000000000000").as_str()),
            "{text}"
        );
    }
    assert!(
        lines.contains(&"NoNewPrivs:\t1") && lines.contains(&"Seccomp:\t2"),
        "{text}"
    );
    let processes: u32 = lines[lines.len() - 2].parse().expect("a number");
    assert!(processes < 10, "{text}");
    assert_eq!(lines.last(), Some(&"0"));
    let confinement = &ran.report["confinement"];
    assert_eq!(confinement["made_by"], "bubblewrap", "{confinement}");
    assert_eq!(confinement["walls"], "confined");
    assert!(
        confinement["landlock_abi"].as_u64() >= Some(3),
        "{confinement}"
    );
    assert!(
        confinement["seccomp"].to_string().contains("namespaces"),
        "{confinement}"
    );
    assert_eq!(confinement["observed"], "nothing");
}

#[test]
fn files_are_kept_as_the_policy_says() {
    let Some(stage) = stage() else { return };
    let secret = deny(&stage);
    fs::write(stage.outside("note"), "outside\n").expect("a file");
    fs::write(stage.codex("auth.json"), "hunter2\n").expect("a file");
    let script = format!(
        "echo x > src/made; echo x > /tmp/t; cat /tmp/t docs/guide; \
         cat private/diary src/.env '{secret}' '{codex}/auth.json' {state}/*; \
         echo x > .git/hooks/pre-commit; echo x >> .git/config; echo x > .vscode; mkdir .idea; echo x > docs/guide; \
         mv .git elsewhere; mv src/.env elsewhere; mv private elsewhere; mv src elsewhere; ln -s /etc .envrc; \
         echo x > '{outside}/made'; echo x >> '{outside}/note'; rm '{outside}/note'; mkdir /proc/x /dev/x /run/x; \
         echo x > /dev/shm/t && cat /dev/shm/t; echo x > /dev/null; echo done",
        secret = secret.display(),
        codex = stage.codex("").display(),
        state = stage.state("").display(),
        outside = stage.outside("").display(),
    );
    let ran = inside(&stage, &[], &script);
    assert_eq!(ran.text(), "x\nread me\nx\ndone\n", "{}", ran.stderr);
    assert!(stage.workspace("src/made").exists());
    assert_eq!(
        fs::read_to_string(stage.outside("note")).expect("text"),
        "outside\n"
    );
    for made in [
        ".git/hooks/pre-commit",
        ".vscode",
        ".idea",
        ".envrc",
        "elsewhere",
    ] {
        assert!(
            fs::symlink_metadata(stage.workspace(made)).is_err(),
            "{made}"
        );
    }
    assert!(!stage.outside("made").exists());
    assert!(!Path::new("/tmp/t").exists() || fs::read("/tmp/t").expect("bytes") != b"x\n");
}

#[test]
fn no_network_namespace_mount_or_foreign_process_is_reached() {
    let Some(stage) = stage() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let script = format!(
        "exec 2>/dev/null; (exec 3<>/dev/tcp/127.0.0.1/{port}) && echo tcp; unshare --user true && echo namespace; \
         mkdir m; mount -t tmpfs none m && echo mount; kill -0 {pid} && echo kill; cat /proc/{pid}/environ && echo environ; \
         ls /proc/self/fd/ | tr '\\n' ' '",
        port = listener.local_addr().expect("an address").port(),
        pid = std::process::id(),
    );
    let ran = on_such_a_host(&stage, stage.exec(&[], &["bash", "-c", &script])).ran();
    // The last is that of the folder being listed.
    assert_eq!(ran.text(), "0 1 2 3 ", "{}", ran.stderr);
    assert!(listener.accept().is_err());
}

#[test]
fn words_variables_input_and_scripts_arrive_as_they_are() {
    let Some(stage) = stage() else { return };
    let script = stage.file("say", "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\"; cat\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    let run = stage
        .exec(&[], &["./say", "two words", "", "$HOME;`id`", "--"])
        .stdin("from outside");
    let ran = on_such_a_host(&stage, run).ran();
    assert!(
        ran.text()
            .ends_with("say|two words||$HOME;`id`|--|from outside"),
        "{} {}",
        ran.text(),
        ran.stderr
    );
    let ran = inside(
        &stage,
        &[],
        "env | cut -d= -f1 | sort | tr '\\n' ' '; kill -TERM $$",
    );
    assert!(
        !ran.text().contains("LD_") && ran.text().contains("TMPDIR"),
        "{}",
        ran.text()
    );
    assert_eq!(ran.code(), 143, "{}", ran.stderr);
    let ran = inside(&stage, &["--max-output", "5"], "echo 123456789");
    assert_eq!(ran.text(), "12345");
}

#[test]
fn nothing_of_it_outlives_the_runner() {
    let Some(stage) = stage() else { return };
    let mark = stage.workspace("alive");
    // Works on until it is ended, and says so.
    let script = "(setsid sh -c 'while :; do date +%N > alive; sleep 0.05; done' &) ; while :; do sleep 1; done";
    let run = on_such_a_host(&stage, stage.exec(&[], &["sh", "-c", script]));
    let started = run.start();
    eventually("the command to work", || mark.exists().then_some(()));
    // The supervisor's one child is the runner: it gets no chance to tidy up.
    let runner = children_of(started.pid());
    assert_eq!(runner.len(), 1);
    kill(runner[0], Signal::KILL);
    drop(started.wait());
    eventually("nothing to write any more", || {
        let before = fs::read(&mark).expect("bytes");
        std::thread::sleep(Duration::from_millis(300));
        (before == fs::read(&mark).expect("bytes")).then_some(())
    });
    eventually("no name to be left", || {
        (!stage.workspace(".vscode").exists()).then_some(())
    });
}

#[test]
fn the_persons_terminal_is_in_no_folder_of_the_command() {
    let Some(stage) = stage() else { return };
    let Some(terminal) = Terminal::open(24, 80) else {
        lacks(Missing::ControllingTerminal, "output on a terminal");
        return;
    };
    let script = "ls /dev/console /dev/pts/*; cat < /dev/tty; test -t 1 && echo terminal";
    let run = on_such_a_host(&stage, stage.exec(&[], &["sh", "-c", script]));
    assert_ne!(terminal.run(run).code(), Some(125));
    terminal.shows("terminal");
    let shown = terminal.shown();
    assert!(!shown.lines().any(|line| line == "/dev/console"), "{shown}");
}

#[test]
fn a_limit_ends_it_all_the_same() {
    let Some(stage) = stage() else { return };
    stage.runner_settings("[limits]\nwall_secs = 1\n");
    let ran = inside(&stage, &[], "echo begun; sleep 60");
    assert_eq!((ran.code(), ran.text()), (137, "begun\n".to_owned()));
    assert_eq!(ran.report["limit"], "wall_time");
}

#[test]
fn the_doctor_says_who_makes_them() {
    let Some(stage) = stage() else { return };
    let ran = on_such_a_host(&stage, stage.runner().arg("doctor")).ran();
    assert_eq!(ran.code(), 0, "{} {}", ran.text(), ran.stderr);
    assert!(
        ran.text().contains("namespaces made by: /usr/bin/bwrap"),
        "{}",
        ran.text()
    );
}

#[test]
fn what_the_walls_refuse_is_reported() {
    let Some(stage) = stage() else { return };
    let secret = deny(&stage);
    let script = format!(
        "echo x > '{outside}'; echo x > .git/config; cat '{secret}'; mount -t tmpfs none src; echo done",
        outside = stage.outside("made").display(),
        secret = secret.display(),
    );
    let ran = unwatched(&stage, &[], &script);
    assert_eq!(ran.text(), "done\n", "{}", ran.stderr);
    let confinement = &ran.report["confinement"];
    assert_eq!(confinement["made_by"], "bubblewrap", "{confinement}");
    assert_ne!(confinement["observed"], "nothing", "{confinement}");
    let denials = ran.report["denials"].to_string();
    for refused in ["outside/made", ".git/config", "src/.env", "mount"] {
        assert!(denials.contains(refused), "{refused}: {denials}");
    }
}

/// Takes a model that says yes, and more settings.
fn judged(stage: &Stage, settings: &str) -> ScriptedModel {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "medium", "low")));
    stage.runner_settings(&model.table("openai-chat"));
    stage.settings(&format!(
        "approvals_reviewer = \"auto_review\"\n{settings}\n"
    ));
    model
}

#[test]
fn a_command_that_the_walls_stopped_is_asked_about_and_runs_outside_them() {
    let Some(stage) = stage() else { return };
    let model = judged(&stage, "approval_policy = \"on-failure\"");
    let made = stage.outside("made");
    let ran = unwatched(&stage, &[], &format!("touch '{}'", made.display()));
    assert_eq!(ran.code(), 0, "{} {}", ran.stderr, ran.report);
    assert!(made.exists());
    assert_eq!(ran.reported("/confinement/walls"), "escalated");
    assert_eq!(ran.reported("/confinement/made_by"), "bubblewrap");
    drop(model);
}

#[test]
fn an_approved_escalation_keeps_what_no_command_may_touch() {
    let Some(stage) = stage() else { return };
    let model = judged(&stage, "");
    let canary = stage.outside("canary");
    // Spelled so that nobody reads it before it runs: what keeps it is the walls.
    let spelled = |path: PathBuf| {
        let text = path.to_str().expect("text").to_owned();
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    stage.file(
        "task.py",
        &format!(
            "import os\nstate = bytes.fromhex('{}').decode().rstrip('/')\nprint(os.access(state, os.R_OK), end=' ')\n\
             try:\n    os.rename(state, state + '.gone')\n    print('renamed', end=' ')\n\
             except OSError:\n    print('kept', end=' ')\n\
             open(bytes.fromhex('{}').decode(), 'w')\nopen('/dev/null', 'w').write('x')\n\
             print(sum(name.isdigit() for name in os.listdir('/proc')))\n",
            spelled(stage.state("")),
            spelled(canary.clone()),
        ),
    );
    let script = "python3 task.py";
    let flags = ["--escalate", "--justification", "try"];
    for run in [inside, unwatched] {
        let ran = run(&stage, &flags, script);
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        assert!(canary.exists(), "{}", ran.stderr);
        let text = ran.text();
        let processes = text
            .strip_prefix("False kept ")
            .map(|left| left.trim().parse());
        assert!(matches!(processes, Some(Ok(0..10))), "{text}");
        assert_eq!(ran.reported("/confinement/made_by"), "bubblewrap");
        assert_eq!(ran.reported("/confinement/walls"), "escalated");
        assert!(stage.state("").exists());
        fs::remove_file(&canary).expect("removed");
    }
    assert_eq!(model.asked().len(), 2);
}
