//! How much a command may use, and what is said when it used more.

use std::sync::PoisonError;
use std::time::Duration;

use sandbox::{Ending, LimitReached, Limits};

use crate::harness::{HOST_SOCKETS, Lab, find};

#[test]
fn a_command_may_not_run_longer_than_it_may() {
    let lab = Lab::new();
    let limits = Limits {
        wall_time: Some(Duration::from_millis(300)),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let seen = lab.under(&policy, "echo begun; (sleep 60 &) ; sleep 60; echo late");
    assert_eq!(seen.output, "begun\n");
    assert_eq!(seen.run.limit, Some(LimitReached::WallTime));
    assert_eq!(seen.run.ending, Ending::Signalled(9));
    assert_eq!(lab.under(&policy, "true").run.limit, None);
}

#[test]
fn what_a_command_and_its_children_hold_together_is_limited() {
    let _as_they_are = HOST_SOCKETS.read().unwrap_or_else(PoisonError::into_inner);
    find("perl");
    let lab = Lab::new();
    let limits = Limits {
        memory_bytes: Some(96 << 20),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let holds = |mebibytes: u32, seconds: u32| {
        format!("perl -e '$x = \"x\" x ({mebibytes} << 20); sleep {seconds}; print \"held \"'")
    };
    let small = lab.under(&policy, &holds(24, 1));
    assert_eq!((small.output.as_str(), small.run.limit), ("held ", None));
    let line = format!("{0} & {0} & {0} & {0} & wait", holds(24, 20));
    let seen = lab.under(&policy, &line);
    assert_eq!(
        seen.run.limit,
        Some(LimitReached::Memory),
        "{} {:?}",
        seen.output,
        seen.run.lost_guard
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn memory_that_no_process_maps_is_limited_too() {
    find("perl");
    let lab = Lab::new();
    let limits = Limits {
        memory_bytes: Some(96 << 20),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let sealed = "perl -e 'my $n = \"x\"; exit(syscall(319, $n, 8) < 0)'";
    if lab.under(&policy, sealed).run.ending != Ending::Exited(0) {
        eprintln!(
            "SKIPPED: this kernel (before 6.3) seals no file against execution, and so inside none is made"
        );
        return;
    }
    // A file without a name (sealed against execution, as the filters demand), written and never mapped; the same as many small ones.
    for (files, mebibytes) in [(1, 320), (64, 5)] {
        let line = format!(
            "perl -e 'for (1..{files}) {{ my $n = \"x\"; my $f = syscall 319, $n, 8; open my $o, \">&=\", $f or die; push @o, $o; \
             for (1..{mebibytes}) {{ syswrite($o, \"x\" x (1 << 20)) == 1 << 20 or die }} }} print \"filled\"; sleep 30'"
        );
        let seen = lab.under(&policy, &line);
        assert_eq!(
            seen.run.limit,
            Some(LimitReached::Memory),
            "{}",
            seen.output
        );
    }
    // One that is large and empty holds nothing.
    let line = "perl -e 'my $n = \"x\"; my $f = syscall 319, $n, 8; syscall(77, $f, 1 << 36) == 0 or die; sleep 1; print \"whole\"'";
    let seen = lab.under(&policy, line);
    assert_eq!((seen.output.as_str(), seen.run.limit), ("whole", None));
}

#[test]
fn memory_folders_hold_no_more_than_they_may() {
    let lab = Lab::new();
    let limits = Limits {
        temporary_mebibytes: 8,
        shared_mebibytes: 4,
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let line = "for f in /tmp /var/tmp /dev/shm; do head -c 16777216 /dev/zero > $f/x 2>/dev/null; wc -c < $f/x; rm $f/x; done";
    let seen = lab.under(&policy, line);
    let sizes: Vec<u32> = seen
        .output
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(sizes.len(), 3);
    assert!(
        sizes[0] <= 8 << 20 && sizes[1] <= 8 << 20 && sizes[2] <= 4 << 20,
        "{sizes:?}"
    );
}

#[test]
fn processes_and_descriptors_are_limited_by_default() {
    let lab = Lab::new();
    let seen =
        lab.confined("ulimit -Hn; ulimit -Sn; ulimit -c; ulimit -u 2>/dev/null || ulimit -p");
    let numbers: Vec<u64> = seen
        .output
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert!(
        numbers[0] <= 4096 && numbers[1] <= 1024 && numbers[2] == 0 && numbers[3] <= 4096,
        "{numbers:?}"
    );
}

#[test]
fn a_command_may_use_the_processors_that_its_caller_may() {
    let allowed = |status: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed:"));
        line.expect("a line").to_owned()
    };
    let ours = allowed(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    let lab = Lab::new();
    for _ in 0..20 {
        let seen = lab.confined("cat /proc/self/status");
        assert_eq!(allowed(&seen.output), ours);
    }
}

#[test]
fn a_fork_bomb_ends_with_its_command() {
    find("perl");
    let lab = Lab::new();
    let limits = Limits {
        processes: Some(64),
        wall_time: Some(Duration::from_secs(10)),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let line = "perl -e '$n = 0; while ($n < 500) { my $p = fork; last unless defined $p; if ($p) { $n++ } else { sleep 60; exit } } print \"$n\"'";
    let seen = lab.under(&policy, line);
    let made: u32 = seen.output.trim().parse().unwrap();
    assert!((1..64).contains(&made), "{made}");
}

#[test]
fn a_bomb_that_forks_without_end_is_held_and_taken_down() {
    let lab = Lab::new();
    let limits = Limits {
        processes: Some(48),
        wall_time: Some(Duration::from_secs(2)),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let seen = lab.under(&policy, "b() { b | b & }; b 2> errors; exec sleep 60");
    assert_eq!(seen.run.limit, Some(LimitReached::WallTime));
    // It met its bound. When the run is over its processes are, too: nobody is left who works in the folder.
    let errors = std::fs::metadata(lab.workspace.join("errors")).unwrap();
    assert!(errors.len() > 0, "{}", seen.output);
    let left = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let place = std::fs::read_link(entry.path().join("cwd"));
            place.is_ok_and(|place| place == lab.workspace)
        });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_file_may_not_grow_beyond_its_limit() {
    let lab = Lab::new();
    let limits = Limits {
        file_bytes: Some(1 << 16),
        ..Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    lab.under(&policy, "head -c 1000000 /dev/zero > big; true");
    assert!(std::fs::metadata(lab.workspace.join("big")).unwrap().len() <= 1 << 16);
}
