//! How commands end, and that nothing is left.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command as Bare;
use std::time::{Duration, Instant};

use sandbox::{Ending, Plan, Program, Sandbox, SandboxError, Sealed, Stdin};

use crate::harness::{Lab, captured, find, finish, leave, start_error};

/// Processes of this machine whose command line holds `mark`.
fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

fn until(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn a_command_s_own_code_comes_back() {
    let lab = Lab::new();
    for code in [0, 1, 42, 126, 127, 255] {
        assert_eq!(
            lab.confined(&format!("exit {code}")).run.ending,
            Ending::Exited(code)
        );
    }
    assert_eq!(
        lab.confined("kill -SEGV $$").run.ending,
        Ending::Signalled(11)
    );
}

#[test]
fn a_signal_is_passed_on() {
    let lab = Lab::new();
    let (command, output) = captured(
        lab.command("trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done"),
    );
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let running = Sandbox::start(&plan, command).unwrap();
    let signaller = running.signaller();
    std::thread::sleep(Duration::from_millis(200));
    signaller.signal(15).unwrap();
    let seen = finish(running, output);
    assert_eq!(seen.run.ending, Ending::Exited(7));
    assert!(seen.output.ends_with("caught\n"), "{}", seen.output);
}

#[test]
fn what_the_command_left_running_ends_with_it() {
    let lab = Lab::new();
    let mark = format!("left-{}", std::process::id());
    lab.confined(&format!("(setsid sh -c 'exec sleep 1000; : {mark}' &) ; (trap '' HUP TERM; sleep 1000; : {mark}) & sleep 0.1"));
    assert_eq!(marked(&mark), 0);
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_cannot_be_executed() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let path = lab.workspace.join("program");
    let make = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    make("neither script nor image");
    let command = lab.words(&[path.to_str().unwrap()]);
    let plan = Plan::confined(&policy, &command).unwrap();
    assert!(matches!(
        start_error(&plan, command),
        SandboxError::NotExecutable { .. }
    ));
    make("#!/nonexistent/interpreter\n");
    let command = lab.words(&[path.to_str().unwrap()]);
    let plan = Plan::confined(&policy, &command).unwrap();
    assert!(matches!(
        start_error(&plan, command),
        SandboxError::NotFound { .. }
    ));
    assert!(Program::open(lab.base.join("missing")).is_err());
}

#[test]
fn a_swapped_program_or_directory_does_not_start() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let path = lab.workspace.join("program");
    fs::copy("/bin/true", &path).unwrap();
    let command = lab.words(&[path.to_str().unwrap()]);
    fs::copy("/bin/false", lab.workspace.join("other")).unwrap();
    fs::rename(lab.workspace.join("other"), &path).unwrap();
    let plan = Plan::confined(&policy, &command).unwrap();
    assert!(
        matches!(start_error(&plan, command), SandboxError::Replaced(replaced) if replaced == path)
    );

    let command = lab.command("true");
    let plan = Plan::confined(&policy, &command).unwrap();
    fs::rename(&lab.workspace, lab.base.join("moved")).unwrap();
    fs::create_dir(&lab.workspace).unwrap();
    let error = start_error(&plan, command);
    assert!(matches!(error, SandboxError::Replaced(_)), "{error:?}");
}

#[test]
fn a_script_runs_as_it_was_reviewed_under_its_own_name() {
    let lab = Lab::new();
    let script = lab.workspace.join("script");
    fs::write(&script, "#!/bin/sh\necho reviewed $0; . ./neighbour\n").unwrap();
    fs::write(lab.workspace.join("neighbour"), "echo neighbour\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let name = script.to_str().unwrap();
    let (command, output) = captured(lab.words(&[name]));
    fs::write(&script, "#!/bin/sh\necho swapped\n").unwrap();
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let seen = finish(Sandbox::start(&plan, command).unwrap(), output);
    assert_eq!(seen.output, format!("reviewed {name}\nneighbour\n"));
}

#[test]
fn a_sealed_copy_stands_over_the_file_that_an_interpreter_reads() {
    let lab = Lab::new();
    let script = lab.workspace.join("deploy");
    fs::write(&script, "echo swapped\n").unwrap();
    let sealed = Sealed::new(&script, b"echo reviewed\n".to_vec()).unwrap();
    let (command, output) = captured(
        lab.command("sh deploy; echo x >> deploy; mv deploy other; sh deploy")
            .with_sealed(sealed),
    );
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let seen = finish(Sandbox::start(&plan, command).unwrap(), output);
    assert_eq!(
        seen.output.matches("reviewed").count(),
        2,
        "{}",
        seen.output
    );
    assert_eq!(fs::read_to_string(&script).unwrap(), "echo swapped\n");
}

#[test]
fn the_sealed_copy_of_a_program_runs_whatever_becomes_of_the_file() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let path = lab.workspace.join("tool");
    for walls in [
        "use_default",
        "with_additional_permissions",
        "require_escalated",
        "require_unconfined",
    ] {
        for swap in ["overwritten", "replaced"] {
            fs::remove_file(&path).ok();
            fs::copy(find("echo"), &path).unwrap();
            let sealed = Sealed::new(&path, fs::read(&path).unwrap()).unwrap();
            let words = lab.words(&[path.to_str().unwrap(), "reviewed"]);
            let (command, output) = captured(words.with_sealed(sealed));
            if swap == "replaced" {
                fs::remove_file(&path).unwrap();
            }
            fs::copy(find("false"), &path).unwrap();
            let leave = |additional| leave(&command, walls, additional);
            let plan = match walls {
                "use_default" => Plan::confined(&policy, &command),
                "with_additional_permissions" => {
                    Plan::permitted(&policy, leave(r#"{"network":true}"#), &command)
                }
                _ => Plan::permitted(&policy, leave("{}"), &command),
            };
            let started = Sandbox::start(&plan.unwrap(), command);
            let running = started.unwrap_or_else(|error| panic!("{walls}, {swap}: {error:?}"));
            let seen = finish(running, output);
            assert_eq!(seen.output, "reviewed\n", "{walls}, {swap}");
            assert_eq!(seen.code(), Some(0), "{walls}, {swap}");
        }
    }
}

#[test]
fn standard_input_is_nothing_or_the_bytes_given() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    for (stdin, expected) in [
        (Stdin::Null, ""),
        (Stdin::Bytes(b"given".to_vec()), "given"),
    ] {
        let command = lab.command("cat > read").with_stdin(stdin);
        let plan = Plan::confined(&policy, &command).unwrap();
        Sandbox::start(&plan, command).unwrap().wait().unwrap();
        assert_eq!(
            fs::read_to_string(lab.workspace.join("read")).unwrap(),
            expected
        );
    }
}

#[test]
fn fifty_commands_leave_nothing() {
    let lab = Lab::new();
    let mark = format!("fifty-{}", std::process::id());
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    for _ in 0..50 {
        lab.confined(&format!("(sleep 1000; : {mark}) & exit 3"));
    }
    assert_eq!(marked(&mark), 0);
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(&lab.workspace).unwrap().count(), 0);
}

/// What [`a_killed_runner_takes_its_command_with_it`] starts in a process of its own.
#[test]
fn runner_to_be_killed() {
    let Some((_, workspace)) = std::env::vars().find(|(name, _)| name == "SANDBOX_TEST_RUNNER")
    else {
        return;
    };
    let lab = Lab {
        base: "/nonexistent".into(),
        workspace: workspace.into(),
    };
    let command =
        lab.command("echo started > started; (sleep 1000 &) ; sleep 1000; : killed-runner");
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    Sandbox::start(&plan, command).unwrap().wait().unwrap();
}

#[test]
fn a_killed_runner_takes_its_command_with_it() {
    let lab = Lab::new();
    let mut runner = Bare::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifetime::runner_to_be_killed", "--nocapture"])
        .env("SANDBOX_TEST_RUNNER", &lab.workspace)
        .spawn()
        .unwrap();
    assert!(until(|| lab.workspace.join("started").exists()));
    assert!(lab.workspace.join(".git").exists());
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert!(
        until(|| marked("killed-runner") == 0),
        "the command outlived its runner"
    );
    assert!(
        until(|| fs::read_dir(&lab.workspace).unwrap().count() == 1),
        "a name is left"
    );
}

#[test]
fn an_inherited_terminal_is_left_as_it_was() {
    let (master, slave) = crate::harness::terminal();
    let lab = Lab::new();
    let before = rustix::termios::tcgetattr(&slave).unwrap().local_modes;
    let mut runner = Bare::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifetime::runner_with_a_terminal", "--nocapture"])
        .env("SANDBOX_TEST_TERMINAL", &lab.workspace)
        .stdin(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    runner.wait().unwrap();
    assert_eq!(
        fs::read_to_string(lab.workspace.join("done")).unwrap(),
        "raw\n"
    );
    assert_eq!(
        rustix::termios::tcgetattr(&slave).unwrap().local_modes,
        before
    );
    fs::File::from(master).write_all(b"x").unwrap();
}

#[test]
fn runner_with_a_terminal() {
    let Some((_, workspace)) = std::env::vars().find(|(name, _)| name == "SANDBOX_TEST_TERMINAL")
    else {
        return;
    };
    let lab = Lab {
        base: "/nonexistent".into(),
        workspace: workspace.into(),
    };
    let command = lab
        .command("stty raw -echo && echo raw > done")
        .with_stdin(Stdin::Inherit);
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    Sandbox::start(&plan, command).unwrap().wait().unwrap();
}
