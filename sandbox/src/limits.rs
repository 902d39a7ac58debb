//! What keeps a command to its [`Limits`]: resource limits of the kernel, and a warden for what the kernel has none for.
//!
//! The warden is a thread that exists only where time or memory is limited. Memory is counted as the kernel counts it for
//! each process (`proc_pid_smaps(5)`, `Pss`), so that what processes share counts once; between two looks, a twentieth of
//! a second apart, a command may go beyond its limit by what it can touch in that time.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::policy::Limits;

/// A limit that ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReached {
    /// It ran for as long as it may.
    WallTime,
    /// It and what it started held more memory than they may.
    Memory,
}

/// Programs that count on few descriptors start with no more than this, as everywhere.
const DESCRIPTORS_AT_FIRST: u64 = 1024;
/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(50);
/// Processes that are looked at; a command that has more is over whatever limit there is for them.
const MOST_PROCESSES: usize = 65_536;

/// What the kernel is asked to hold the command to. Never more than this process itself may.
pub(crate) fn of_the_kernel(limits: &Limits) -> Vec<(Resource, Rlimit)> {
    let asked = [
        (Resource::Core, Some(0), None),
        (Resource::Nproc, limits.processes, None),
        (
            Resource::Nofile,
            limits.descriptors,
            Some(DESCRIPTORS_AT_FIRST),
        ),
        (Resource::Fsize, limits.file_bytes, None),
        (Resource::Cpu, limits.cpu_seconds, None),
    ];
    let within =
        |limit: u64, known: Option<u64>| Some(known.map_or(limit, |known| known.min(limit)));
    let asked = asked.into_iter().filter_map(|(resource, most, at_first)| {
        let (most, known) = (most?, getrlimit(resource));
        let at_first = at_first.map_or(most, |at_first| at_first.min(most));
        let limit = Rlimit {
            current: within(at_first, known.maximum),
            maximum: within(most, known.maximum),
        };
        Some((resource, limit))
    });
    asked.collect()
}

/// Ends a command that goes beyond its time or its memory.
#[derive(Debug)]
pub(crate) struct Warden(JoinHandle<Option<LimitReached>>);

impl Warden {
    /// Watches over the process namespace whose init is behind `pidfd`. Nothing to watch is no warden.
    pub(crate) fn start(limits: &Limits, pidfd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let (time, memory) = (limits.wall_time, limits.memory_bytes);
        if time.is_none() && memory.is_none() {
            return Ok(None);
        }
        let init = process_behind(pidfd)?;
        let pidfd = pidfd.try_clone_to_owned()?;
        let begin = now();
        let watch = Watch {
            pidfd,
            init,
            until: time.map(|time| begin.saturating_add(time)),
            memory,
        };
        let thread = std::thread::Builder::new().name("warden".to_owned());
        let thread = thread.stack_size(128 * 1024).spawn(move || watch.run())?;
        Ok(Some(Self(thread)))
    }

    /// The limit that ended the command; to be called when it is gone.
    pub(crate) fn finish(self) -> Option<LimitReached> {
        self.0.join().unwrap_or_default()
    }
}

struct Watch {
    pidfd: OwnedFd,
    init: i32,
    until: Option<Duration>,
    memory: Option<u64>,
}

impl Watch {
    fn run(self) -> Option<LimitReached> {
        loop {
            let left = self.until.map(|until| until.saturating_sub(now()));
            let reached = if left == Some(Duration::ZERO) {
                Some(LimitReached::WallTime)
            } else {
                let over = self.memory.is_some_and(|most| is_over(self.init, most));
                over.then_some(LimitReached::Memory)
            };
            if reached.is_some() {
                // Already gone, it ended by itself.
                return pidfd_send_signal(&self.pidfd, Signal::KILL)
                    .ok()
                    .and(reached);
            }
            let look = self.memory.map(|_| LOOK);
            let wait = left.into_iter().chain(look).min().unwrap_or(LOOK);
            if self.has_ended(wait) {
                return None;
            }
        }
    }

    /// Waits for the end, no longer than `wait`.
    fn has_ended(&self, wait: Duration) -> bool {
        let wait = Timespec::try_from(wait).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&wait)) {
            Ok(ended) => ended > 0,
            Err(Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

/// The number of the process behind a descriptor (`pidfd_open(2)`).
fn process_behind(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let number = number.and_then(|number| number.trim().parse().ok());
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Whether the processes below `init` hold more than `most` bytes together.
fn is_over(init: i32, most: u64) -> bool {
    let processes = family(init);
    // A sum that counts shared memory more than once is quick to have, and never too small.
    let quick = processes.iter().filter_map(|process| resident(*process));
    if quick.fold(0, u64::saturating_add) <= most {
        return false;
    }
    let exact = processes
        .iter()
        .filter_map(|process| proportional(*process));
    exact.fold(0, u64::saturating_add) > most
}

/// The process and everything it or its children started.
fn family(init: i32) -> BTreeSet<i32> {
    let mut known = BTreeSet::new();
    let mut left = vec![init];
    while let Some(process) = left.pop() {
        if known.len() >= MOST_PROCESSES || !known.insert(process) {
            continue;
        }
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(
                children
                    .split_whitespace()
                    .filter_map(|word| word.parse::<i32>().ok()),
            );
        }
    }
    known
}

/// Bytes of a process that are in memory.
fn resident(process: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    bytes_of("VmRSS:", &text)
}

/// The same, where a page that several processes have counts once altogether.
fn proportional(process: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    let Ok(text) = text else {
        // One that cannot be looked into counts whole.
        return resident(process);
    };
    bytes_of("Pss:", &text)
}

/// The bytes on the line that begins with `name`, which counts in `kB`.
fn bytes_of(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_raised_above_what_this_process_may() {
        let limits = Limits {
            descriptors: Some(u64::MAX),
            file_bytes: Some(1 << 20),
            ..Limits::default()
        };
        let asked = of_the_kernel(&limits);
        for (resource, limit) in &asked {
            let known = getrlimit(*resource).maximum;
            assert!(limit.current <= limit.maximum, "{resource:?}");
            assert!(
                known.is_none_or(|known| limit.maximum <= Some(known)),
                "{resource:?}"
            );
        }
        assert!(
            asked
                .iter()
                .any(|(resource, limit)| *resource == Resource::Core && limit.maximum == Some(0))
        );
    }

    #[test]
    fn this_process_is_in_its_family_and_holds_something() {
        let own = std::process::id().cast_signed();
        assert!(family(own).contains(&own));
        assert!(proportional(own).unwrap() > 4096);
        assert!(is_over(own, 4096) && !is_over(own, u64::MAX));
    }
}
