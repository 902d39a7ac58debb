//! What keeps a command to its [`Limits`]: resource limits of the kernel, and a warden for what the kernel has none for.
//!
//! The warden is a thread that exists only where time or memory is limited or paths are guarded (`guards.rs`). Memory is counted as the kernel counts it for
//! each process (`proc_pid_smaps(5)`, `Pss`), so that what processes share counts once. It looks the more often the closer
//! a command is to its limit: as soon as it could have reached it, touching memory as fast as machines can.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::guards::{Guarded, Guards};
use crate::plan::Plan;
use crate::policy::Limits;

/// A limit that ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReached {
    /// It ran for as long as it may.
    WallTime,
    /// It and what it started held more memory than they may.
    Memory,
    /// It used more processor time than one process may.
    CpuTime,
    /// It wrote a file longer than one may be.
    FileSize,
    /// Not a limit of its own: the machine was out of memory, and the kernel ended processes while it ran.
    HostMemory,
    /// Nor this: on the host a path was replaced or moved that was covered, kept read-only or sealed for the command, and
    /// what guarded it went with it.
    GuardLost,
}

impl LimitReached {
    /// What the kernel says by the signal that ended a command under `limits` (`setrlimit(2)`).
    pub(crate) fn by_signal(signal: i32, limits: &Limits) -> Option<Self> {
        match signal {
            libc::SIGXCPU => limits.cpu_seconds.map(|_| Self::CpuTime),
            libc::SIGXFSZ => limits.file_bytes.map(|_| Self::FileSize),
            _ => None,
        }
    }
}

/// Programs that count on few descriptors start with no more than this, as everywhere.
const DESCRIPTORS_AT_FIRST: u64 = 1024;
/// Bytes that a command is taken to touch in a second at most, with all its processes.
const FASTEST: u64 = 8 << 30;
/// Between two looks at memory: no less, so that looking costs little, and no more, so that nothing hangs on the guess.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_millis(500);
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
        // The signal that names the limit comes at the first number, the one that nobody can catch a second later.
        let last = if resource == Resource::Cpu {
            most.saturating_add(1)
        } else {
            most
        };
        let limit = Rlimit {
            current: within(at_first, known.maximum),
            maximum: within(last, known.maximum),
        };
        Some((resource, limit))
    });
    asked.collect()
}

/// Ends a command that goes beyond its time or its memory, or that loses a guard of its paths.
#[derive(Debug)]
pub(crate) struct Warden(JoinHandle<Watched>);

/// What the warden saw.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    reached: Option<LimitReached>,
    /// How many processes the kernel had ended for want of memory by the first look.
    ended_by_kernel: Option<u64>,
    /// Whose guard was lost, where that ended it.
    pub(crate) lost: Option<PathBuf>,
}

impl Warden {
    /// Watches over the process namespace whose init is behind `pidfd`. Nothing to watch is no warden.
    pub(crate) fn start(plan: &Plan, pidfd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let (limits, guarded) = (plan.limits(), Guarded::of(plan));
        let (time, memory) = (limits.wall_time, limits.memory_bytes);
        if time.is_none() && memory.is_none() && guarded.is_empty() {
            return Ok(None);
        }
        let pidfd = pidfd.try_clone_to_owned()?;
        let begin = now();
        let watch = Watch {
            pidfd,
            until: time.map(|time| begin.saturating_add(time)),
            memory,
            ended_by_kernel: None,
        };
        let thread = std::thread::Builder::new().name("warden".to_owned());
        let thread = thread
            .stack_size(128 * 1024)
            .spawn(move || watch.run(&guarded))?;
        Ok(Some(Self(thread)))
    }

    /// Waits until nothing of the command is held any more; to be called when it is gone.
    pub(crate) fn finish(self) -> Watched {
        self.0.join().unwrap_or_default()
    }
}

impl Watched {
    /// What ended the command, which `signal` did.
    pub(crate) fn limit(&self, signal: Option<i32>) -> Option<LimitReached> {
        let starved = || {
            let more = self.ended_by_kernel? < ended_by_kernel()?;
            (more && signal == Some(libc::SIGKILL)).then_some(LimitReached::HostMemory)
        };
        // One that ended by itself at that moment was ended by nobody.
        let reached = self.reached.filter(|_| signal == Some(libc::SIGKILL));
        reached.or_else(starved)
    }
}

struct Watch {
    pidfd: OwnedFd,
    until: Option<Duration>,
    memory: Option<u64>,
    ended_by_kernel: Option<u64>,
}

impl Watch {
    fn run(mut self, guarded: &Guarded) -> Watched {
        let mut guards = match self.guards(guarded) {
            Ok(guards) => guards,
            Err(watched) => return watched,
        };
        let mut next = self.memory.map(|most| pause(most, 0));
        loop {
            let left = self.until.map(|until| until.saturating_sub(now()));
            let look = guards.is_some().then_some(LATEST);
            let wait = left.into_iter().chain(next).chain(look).min();
            if self.has_ended(guards.as_ref(), wait) {
                return self.saw(None);
            }
            if let Some(lost) = guards.as_mut().and_then(Guards::lost) {
                return self.end_without(lost);
            }
            if self.until.is_some_and(|until| until <= now()) {
                return self.end(LimitReached::WallTime);
            }
            if let Some(most) = self.memory {
                self.ended_by_kernel = self.ended_by_kernel.or_else(ended_by_kernel);
                let begin = now();
                let Some(used) = process_behind(self.pidfd.as_fd()).map(held) else {
                    // Nobody is there any more.
                    continue;
                };
                if used.is_over(most) {
                    return self.end(LimitReached::Memory);
                }
                // Where there is much to look at, looking takes no more than half of the time.
                let took = now().saturating_sub(begin);
                next = Some(pause(most, used.quick).max(took));
            }
        }
    }

    /// The guards, which all have to stand now. Those of a command that is gone guard nothing.
    fn guards(&self, guarded: &Guarded) -> Result<Option<Guards>, Watched> {
        let Some(init) = process_behind(self.pidfd.as_fd()).filter(|_| !guarded.is_empty()) else {
            return Ok(None);
        };
        let (guards, lost) = match Guards::open(guarded, init) {
            Ok(opened) => opened,
            // It was quicker than the first look.
            Err(_) if self.has_ended(None, Some(Duration::ZERO)) => return Ok(None),
            Err(_) => return Err(self.end(LimitReached::GuardLost)),
        };
        match lost {
            Some(lost) => Err(self.end_without(lost)),
            None => Ok(Some(guards)),
        }
    }

    /// Ends a command whose guard of a path is lost.
    fn end_without(&self, lost: PathBuf) -> Watched {
        Watched {
            lost: Some(lost),
            ..self.end(LimitReached::GuardLost)
        }
    }

    /// Ends the command. Already gone, it ended by itself.
    fn end(&self, reached: LimitReached) -> Watched {
        let killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.saw(killed.ok().and(Some(reached)))
    }

    fn saw(&self, reached: Option<LimitReached>) -> Watched {
        Watched {
            reached,
            ended_by_kernel: self.ended_by_kernel,
            lost: None,
        }
    }

    /// Waits for the end or a change of the guards, no longer than `wait` where that is said.
    fn has_ended(&self, guards: Option<&Guards>, wait: Option<Duration>) -> bool {
        let wait = wait.map(|wait| {
            Timespec::try_from(wait).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        let mut watched = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        watched.extend(guards.into_iter().flat_map(Guards::watched));
        match rustix::event::poll(&mut watched, wait.as_ref()) {
            Ok(_) => watched
                .first()
                .is_some_and(|command| !command.revents().is_empty()),
            Err(Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

/// How long a command that holds `used` bytes needs at least for `most`.
fn pause(most: u64, used: u64) -> Duration {
    let left = most.saturating_sub(used);
    let micros = left.saturating_mul(1_000_000) / FASTEST;
    Duration::from_micros(micros).clamp(SOONEST, LATEST)
}

/// How many processes the kernel has ended for want of memory (`/proc/vmstat`), on the whole machine.
fn ended_by_kernel() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line?.trim().parse().ok()
}

/// The number of the process behind a descriptor (`pidfd_open(2)`).
fn process_behind(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// What processes hold together.
struct HeldTogether {
    processes: BTreeSet<i32>,
    /// Bytes, where what is shared counts more than once: quick to have, and never too small.
    quick: u64,
}

impl HeldTogether {
    fn is_over(&self, most: u64) -> bool {
        self.quick > most && {
            let exact = self.processes.iter().copied().filter_map(proportional);
            exact.fold(0, u64::saturating_add) > most
        }
    }
}

/// What the processes below `init` hold.
fn held(init: i32) -> HeldTogether {
    let processes = family(init);
    let each = processes.iter().copied().filter_map(resident);
    HeldTogether {
        quick: each.fold(0, u64::saturating_add),
        processes,
    }
}

/// The process and everything it or its children started. A parent that ends leaves its children to the init, so that
/// nothing is lost by asking one after the other.
fn family(init: i32) -> BTreeSet<i32> {
    // Kernels may be built without these lists (`CONFIG_PROC_CHILDREN`); then every process is asked for its parent.
    let listed = Path::new("/proc/thread-self/children").exists();
    let mut by_parent = BTreeMap::new();
    if !listed {
        by_parent = every_process();
    }
    let mut known = BTreeSet::new();
    let mut left = vec![init];
    while let Some(process) = left.pop() {
        if known.len() >= MOST_PROCESSES || !known.insert(process) {
            continue;
        }
        if listed {
            left.extend(children(process));
        } else {
            left.extend(by_parent.remove(&process).unwrap_or_default());
        }
    }
    known
}

/// The processes that one started, as the kernel lists them by thread.
fn children(process: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| numbers(&list).collect::<Vec<_>>())
        .collect()
}

/// All processes there are, by their parents (`proc_pid_stat(5)`: the fourth column, after the name in brackets).
fn every_process() -> BTreeMap<i32, Vec<i32>> {
    let mut by_parent: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        let parent = stat.ok().and_then(|stat| {
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.split(' ').nth(1)?.parse().ok()
        });
        if let (Some(number), Some(parent)) = (number, parent) {
            by_parent.entry(parent).or_default().push(number);
        }
    }
    by_parent
}

fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.split_whitespace()
        .filter_map(|word| word.parse::<i32>().ok())
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
        let parent = std::os::unix::process::parent_id().cast_signed();
        assert!(every_process()[&parent].contains(&own));
        assert!(proportional(own).unwrap() > 4096);
        assert!(held(own).is_over(4096) && !held(own).is_over(u64::MAX));
        assert!(held(own).quick >= proportional(own).unwrap() / 2);
    }

    #[test]
    fn the_closer_to_the_limit_the_sooner_the_next_look() {
        assert_eq!(pause(64 << 30, 0), LATEST);
        assert_eq!(pause(2 << 30, 0), Duration::from_millis(250));
        assert_eq!(pause(2 << 30, 2 << 30), SOONEST);
        assert_eq!(pause(1 << 30, 2 << 30), SOONEST);
    }

    #[test]
    fn a_signal_names_a_limit_only_where_there_is_one() {
        let limits = Limits {
            cpu_seconds: Some(1),
            file_bytes: Some(1),
            ..Limits::none()
        };
        let of = LimitReached::by_signal;
        assert_eq!(of(libc::SIGXCPU, &limits), Some(LimitReached::CpuTime));
        assert_eq!(of(libc::SIGXFSZ, &limits), Some(LimitReached::FileSize));
        assert_eq!(of(libc::SIGKILL, &limits), None);
        assert_eq!(of(libc::SIGXCPU, &Limits::none()), None);
    }
}
