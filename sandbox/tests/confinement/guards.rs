//! What guards a path and is taken away on the host, by a program that saves by renaming or by another command.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use sandbox::{Ending, LimitReached, Plan, Running, Sandbox, Sealed};

use crate::harness::{HOST_SOCKETS, Lab, Output, captured, finish};

/// A command that would look at what it may not, had it the time.
const LINE: &str = "echo begun; sleep 10; cat secret .envrc; sh deploy; echo late";

type Taken = fn(&Path);

const WAYS: [(&str, Taken); 3] = [
    ("replaced", |path| {
        let new = path.with_extension("new");
        fs::write(&new, "echo swapped\n").unwrap();
        fs::rename(new, path).unwrap();
    }),
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("moved", |path| {
        fs::rename(path, path.with_extension("old")).unwrap()
    }),
];

fn started(lab: &Lab) -> (Running, Output) {
    for name in ["secret", ".envrc", "deploy"] {
        fs::write(lab.workspace.join(name), "echo first\n").unwrap();
    }
    let deploy = lab.workspace.join("deploy");
    let sealed = Sealed::new(&deploy, b"echo reviewed\n".to_vec()).unwrap();
    let policy = lab.policy().deny_read(lab.workspace.join("secret"));
    let (command, output) = captured(lab.command(LINE).with_sealed(sealed));
    let plan = Plan::confined(&policy.build().unwrap(), &command).unwrap();
    (Sandbox::start(&plan, command).unwrap(), output)
}

#[test]
fn a_command_whose_guard_is_taken_away_on_the_host_is_ended() {
    for name in ["secret", ".envrc", "deploy"] {
        for (way, taken) in WAYS {
            let lab = Lab::new();
            let (running, output) = started(&lab);
            taken(&lab.workspace.join(name));
            let seen = finish(running, output);
            assert_eq!(
                seen.run.limit,
                Some(LimitReached::GuardLost),
                "{name} {way}"
            );
            assert_eq!(seen.run.ending, Ending::Signalled(9), "{name} {way}");
            assert!(
                !seen.output.contains("late"),
                "{name} {way}: {}",
                seen.output
            );
        }
    }
}

#[test]
fn a_service_may_take_its_socket_away_and_not_bring_it_back() {
    const GOES_ON: &str = "echo begun; sleep 1; echo late";
    let _held = HOST_SOCKETS.write();
    for back in [false, true] {
        let lab = Lab::new();
        let path = lab.base.join("service.sock");
        let service = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let (command, output) = captured(lab.command(GOES_ON));
        let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
        let running = Sandbox::start(&plan, command).unwrap();
        drop(service);
        fs::remove_file(&path).unwrap();
        // Otherwise it would be seen as replaced.
        std::thread::sleep(Duration::from_millis(100));
        let other = back.then(|| UnixListener::bind(&path).unwrap());
        let seen = finish(running, output);
        assert_eq!(
            seen.run.limit,
            back.then_some(LimitReached::GuardLost),
            "{seen:?}",
        );
        assert_eq!(seen.output.ends_with("late\n"), !back, "{}", seen.output);
        drop(other);
    }
}

#[test]
fn another_command_of_the_same_workspace_cannot_swap_a_sealed_script_in_silence() {
    let lab = Lab::new();
    let (running, output) = started(&lab);
    let other = lab.confined("echo 'echo swapped' > evil && mv evil deploy && echo swapped");
    assert_eq!(other.output, "swapped\n");
    let seen = finish(running, output);
    assert_eq!(seen.run.limit, Some(LimitReached::GuardLost));
}

#[test]
fn what_changes_elsewhere_ends_nothing() {
    let lab = Lab::new();
    for name in ["secret", ".envrc"] {
        fs::write(lab.workspace.join(name), "echo first\n").unwrap();
    }
    let policy = lab.policy().deny_read(lab.workspace.join("secret"));
    let line = "echo begun; sleep 0.3; echo x > other; mv other third; rm third; echo late";
    let (command, output) = captured(lab.command(line));
    let plan = Plan::confined(&policy.build().unwrap(), &command).unwrap();
    let running = Sandbox::start(&plan, command).unwrap();
    // Written in place: the guards stay where they are.
    fs::write(lab.workspace.join("secret"), "second\n").unwrap();
    fs::write(lab.workspace.join(".envrc"), "second\n").unwrap();
    fs::write(lab.workspace.join("beside"), "new\n").unwrap();
    fs::rename(lab.workspace.join("beside"), lab.workspace.join("beside.2")).unwrap();
    let seen = finish(running, output);
    assert_eq!(
        (seen.output.as_str(), seen.run.limit),
        ("begun\nlate\n", None)
    );
}
