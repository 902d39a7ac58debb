//! What keeps a command to its [`Limits`]: resource limits of the kernel, and a warden for what the kernel has none for.
//!
//! The warden is a thread that exists only where time or memory is limited or paths are guarded (`guards.rs`). Memory is counted as the kernel counts it for
//! each process (`held.rs`), so that what processes share counts once. It looks the more often the closer
//! a command is to its limit: as soon as it could have reached it, touching memory as fast as machines can.
//!
//! Pages that no process maps are counted where a descriptor shows them. What shows nowhere is only in the machine's sum: a
//! command goes when that has grown beyond its limit and the machine is short, so it never takes the machine.

mod held;

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use self::held::{Growth, Held};
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
    /// Not a limit of its own: the machine was out of memory, and the kernel ended processes while it ran; or it was short,
    /// and shared memory had grown by more than the command may hold.
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
/// Signals that wait and timers that run, which the kernel counts for each user across all of its programs (`setrlimit(2)`).
const SIGNALS: u64 = 4096;
/// Bytes that a command is taken to touch in a second at most, with all its processes.
const FASTEST: u64 = 8 << 30;
/// Between two looks at memory: no less, so that looking costs little, and no more, so that nothing hangs on the guess.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_millis(500);
/// Until the first look at what guards paths, unless the list of mounts changes sooner: a command that is over by then is not
/// held up by it, on the processor that it needs itself.
const FIRST: Duration = Duration::from_millis(2);
/// The machine is short when less than this part of its memory is available.
const SHORT: u64 = 8;

/// What the kernel is asked to hold the command to. Never more than this process itself may.
pub(crate) fn of_the_kernel(limits: &Limits) -> Vec<(Resource, Rlimit)> {
    let asked = [
        (Resource::Core, Some(0), None),
        (Resource::Sigpending, Some(SIGNALS), None),
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
pub(crate) struct Warden {
    thread: JoinHandle<()>,
    saw: mpsc::Receiver<Watched>,
}

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
        let guards = guards(&pidfd, guarded)?;
        let begin = now();
        let watch = Watch {
            pidfd,
            until: time.map(|time| begin.saturating_add(time)),
            memory,
            short: crate::policy::machine() / SHORT,
            ended_by_kernel: None,
            guards,
        };
        let (tell, saw) = mpsc::channel();
        let watch = move || {
            let (watched, guards) = watch.run();
            // Whoever waits goes on while the command's mounts go, for which the kernel takes its time.
            tell.send(watched).unwrap_or_default();
            drop(guards);
        };
        let thread = std::thread::Builder::new().name("warden".to_owned());
        let thread = thread.stack_size(128 * 1024).spawn(watch)?;
        Ok(Some(Self { thread, saw }))
    }

    /// What was seen, to be called when the command is gone. Its mounts are going by then; [`settle`] waits for that.
    pub(crate) fn finish(self) -> Watched {
        let watched = self.saw.recv().unwrap_or_default();
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        ending.push(self.thread);
        watched
    }
}

/// Wardens that let the mounts of commands go which have ended.
static ENDING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Waits until the mounts of every command that has ended are gone.
pub(crate) fn settle() {
    let ending = std::mem::take(&mut *ENDING.lock().unwrap_or_else(PoisonError::into_inner));
    // One that panicked has let its mounts go all the same.
    ending
        .into_iter()
        .for_each(|thread| thread.join().unwrap_or_default());
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
    /// The machine is short when fewer bytes than these are available.
    short: u64,
    ended_by_kernel: Option<u64>,
    guards: Option<Guards>,
}

/// What guards the paths of the command whose init is behind `pidfd`. Those of a command that is gone guard nothing.
fn guards(pidfd: &OwnedFd, guarded: Guarded) -> io::Result<Option<Guards>> {
    let Some(init) = process_behind(pidfd.as_fd()).filter(|_| !guarded.is_empty()) else {
        return Ok(None);
    };
    match Guards::open(guarded, init) {
        Ok(guards) => Ok(Some(guards)),
        // It was quicker: a process that is ending has no mounts already (`EINVAL`).
        Err(_) if is_ending(pidfd) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process that seems to be ending does.
fn is_ending(pidfd: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, Some(&patience)));
    polled.is_ok_and(|ended| ended > 0)
}

impl Watch {
    fn run(mut self) -> (Watched, Option<Guards>) {
        let mut guards = self.guards.take();
        (self.watch(guards.as_mut()), guards)
    }

    fn watch(mut self, mut guards: Option<&mut Guards>) -> Watched {
        let mut first = Some(FIRST);
        let mut next = self.memory.map(|most| pause(most, 0));
        let mut growth = self.memory.map(|_| Growth::from_now());
        loop {
            let left = self.until.map(|until| until.saturating_sub(now()));
            let begins = first.take().filter(|_| guards.is_some());
            let look = guards.is_some().then(|| begins.unwrap_or(LATEST));
            let wait = left.into_iter().chain(next).chain(look).min();
            if self.has_ended(guards.as_deref(), wait) {
                return self.saw(None);
            }
            if let Some(lost) = guards.as_deref_mut().and_then(Guards::lost) {
                return self.end_without(lost);
            }
            if self.until.is_some_and(|until| until <= now()) {
                return self.end(LimitReached::WallTime);
            }
            // Too soon for a command to hold anything much.
            if begins.is_some() {
                continue;
            }
            if let (Some(most), Some(growth)) = (self.memory, growth.as_mut()) {
                self.ended_by_kernel = self.ended_by_kernel.or_else(ended_by_kernel);
                let begin = now();
                let Some(init) = process_behind(self.pidfd.as_fd()) else {
                    // Nobody is there any more.
                    continue;
                };
                let free_for = match self.look(most, &Held::by_family(init), growth.now()) {
                    Ok(free_for) => free_for,
                    Err(reached) => return self.end(reached),
                };
                // Where there is much to look at, looking takes no more than half of the time.
                let took = now().saturating_sub(begin);
                next = Some(free_for.max(took));
            }
        }
    }

    /// How long the command cannot reach `most`, or the limit that it reached. `grown` are bytes that it may have put where
    /// no process maps them.
    fn look(&self, most: u64, held: &Held, grown: u64) -> Result<Duration, LimitReached> {
        let quick = held.quick.saturating_add(grown);
        if quick <= most {
            return Ok(pause(most, quick));
        }
        let known = held.known();
        if known > most {
            return Err(LimitReached::Memory);
        }
        if grown <= most {
            return Ok(pause(most, known));
        }
        // Where the kernel does not say it, nothing is available.
        let available = held::available().unwrap_or(0);
        if available < self.short {
            return Err(LimitReached::HostMemory);
        }
        Ok(pause(most, known).min(pause(available, self.short)))
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
    fn the_closer_to_the_limit_the_sooner_the_next_look() {
        assert_eq!(pause(64 << 30, 0), LATEST);
        assert_eq!(pause(2 << 30, 0), Duration::from_millis(250));
        assert_eq!(pause(2 << 30, 2 << 30), SOONEST);
        assert_eq!(pause(1 << 30, 2 << 30), SOONEST);
    }

    /// A watch over a program of this test's own, run until it ends the program or that ends by itself.
    fn ends(script: &str, short: u64) -> Option<LimitReached> {
        let mut child = std::process::Command::new("/usr/bin/perl")
            .args(["-e", script])
            .spawn()
            .expect("the tests need perl");
        let number = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::PidfdFlags::empty();
        let watch = Watch {
            pidfd: rustix::process::pidfd_open(number, flags).unwrap(),
            until: Some(now().saturating_add(Duration::from_secs(60))),
            memory: Some(96 << 20),
            short,
            ended_by_kernel: None,
            guards: None,
        };
        let (watched, _) = watch.run();
        child.wait().unwrap();
        watched.reached
    }

    /// Fills shared pages and gives them up without their memory going: nobody maps them, no descriptor shows them.
    #[cfg(target_arch = "x86_64")]
    const UNSEEN: &str = "open Z, '<', '/dev/zero'; my $n = 256 << 20; my $at = syscall(9, 0, $n, 3, 0x21, -1, 0); \
        for (my $i = 0; $i < $n; $i += 1 << 20) { syscall(0, fileno(Z), $at + $i, 1 << 20) == 1 << 20 or die; \
        syscall(28, $at + $i, 1 << 20, 4) == 0 or die } sleep";

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn memory_that_shows_nowhere_ends_the_command_only_where_the_machine_is_short() {
        let seconds = |time| format!("{UNSEEN} {time}");
        assert_eq!(ends(&seconds(1), 0), None);
        let reached = ends(&seconds(50), u64::MAX);
        assert_eq!(reached, Some(LimitReached::HostMemory));
    }

    #[test]
    fn what_may_be_a_command_s_own_counts_only_where_the_machine_is_short() {
        let own = std::process::id();
        let number = rustix::process::Pid::from_raw(own.cast_signed()).unwrap();
        let flags = rustix::process::PidfdFlags::empty();
        let watch = |short| Watch {
            pidfd: rustix::process::pidfd_open(number, flags).unwrap(),
            until: None,
            memory: None,
            short,
            ended_by_kernel: None,
            guards: None,
        };
        let (held, much) = (Held::by_family(own.cast_signed()), 1 << 40);
        let short = watch(u64::MAX);
        assert_eq!(short.look(1, &held, 0), Err(LimitReached::Memory));
        assert_eq!(short.look(much, &held, 0), Ok(LATEST));
        assert_eq!(short.look(much, &held, much), Ok(LATEST));
        let reached = Err(LimitReached::HostMemory);
        assert_eq!(short.look(much, &held, much + 1), reached);
        assert!(watch(0).look(much, &held, much + 1).is_ok());
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
