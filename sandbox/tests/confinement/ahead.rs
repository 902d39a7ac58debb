//! Processes begun before their command is known: used, refused where they do not fit, and never left.

use std::fs;
use std::process::{Command as Bare, Stdio};
use std::time::{Duration, Instant};

use sandbox::{Ahead, Network, Plan, Sandbox};

use crate::harness::{Lab, captured, finish};

/// Set in processes that run one of these tests for another.
const IN_ITS_OWN: &str = "SANDBOX_TEST_AHEAD";

#[test]
fn a_command_runs_in_what_was_begun_before() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    for network in [Network::Off, Network::Full] {
        // The second does not fit a plan without network, and another takes its place.
        let ahead = Ahead::begin(network).unwrap();
        let (command, output) =
            captured(lab.command("echo in; cat /proc/net/dev | wc -l; : > made"));
        let plan = Plan::confined(&policy, &command).unwrap();
        let seen = finish(Sandbox::start_in(ahead, &plan, command).unwrap(), output);
        // Two lines of head and loopback.
        assert_eq!(seen.output, "in\n3\n", "{network:?}");
        assert_eq!(seen.code(), Some(0));
        assert!(lab.workspace.join("made").exists());
    }
}

#[test]
fn programs_that_start_beside_it_do_not_keep_a_command_from_starting() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                Bare::new("/bin/true").status().unwrap();
            }
        });
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..150 {
                let seen = lab.under(&policy, "echo in");
                assert_eq!(seen.output, "in\n");
            }
        }));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        busy.join().unwrap();
        ran.unwrap();
    });
}

#[test]
fn what_is_begun_and_not_used_leaves_neither_process_nor_descriptor() {
    // In a process of its own, where no other test opens anything.
    let this = std::env::current_exe().unwrap();
    let status = Bare::new(this)
        .args(["--exact", "ahead::begins_and_drops"])
        .env(IN_ITS_OWN, "1")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn begins_and_drops() {
    if !in_its_own_process() {
        return;
    }
    drop(Ahead::begin(Network::Off).unwrap());
    let before = open_descriptors();
    for round in 0..20 {
        let ahead = Ahead::begin(Network::Off).unwrap();
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(ahead);
    }
    assert_eq!(open_descriptors(), before);
    assert_eq!(children_of(std::process::id()), "");
}

#[test]
fn what_is_begun_ends_with_a_runner_that_is_killed() {
    let this = std::env::current_exe().unwrap();
    let mut runner = Bare::new(this)
        .args(["--exact", "ahead::begins_and_waits"])
        .env(IN_ITS_OWN, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = within_ten_seconds(|| {
        let children = children_of(runner.id());
        children.trim().parse::<u32>().ok()
    });
    let begun = begun.expect("the runner begins one");
    runner.kill().unwrap();
    runner.wait().unwrap();
    let gone = within_ten_seconds(|| {
        let stat = fs::read_to_string(format!("/proc/{begun}/stat"));
        // A zombie waits for whoever adopted it; it runs no more.
        stat.map_or(Some(()), |stat| stat.contains(") Z ").then_some(()))
    });
    assert_eq!(gone, Some(()));
}

#[test]
fn begins_and_waits() {
    if !in_its_own_process() {
        return;
    }
    let _ahead = Ahead::begin(Network::Off).unwrap();
    std::thread::sleep(Duration::from_secs(30));
}

fn in_its_own_process() -> bool {
    std::env::vars().any(|(name, _)| name == IN_ITS_OWN)
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Of all threads of the process.
fn children_of(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .collect()
}

fn within_ten_seconds<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
