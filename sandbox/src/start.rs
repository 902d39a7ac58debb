//! Starts a command by its plan and waits for it: [`Sandbox`], [`Running`], [`Run`].
//!
//! The one place where a plan becomes a process. From any thread, blocking for about a millisecond; the command is taken
//! down when the [`Running`] is dropped or this process dies, because both close the pipe that its init reads.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal};

use crate::ahead::Ahead;
use crate::bubblewrap::{self, Bubblewrap};
use crate::cgroup::Leaf;
use crate::command::Command;
use crate::confinement::Confinement;
use crate::denial::SandboxDenial;
use crate::door::{DoorSockets, Receiver};
use crate::error::SandboxError;
use crate::keeper::Keeper;
use crate::limits::{LimitReached, Warden, Watched};
use crate::plan::{Identity, Plan};
use crate::policy::Limits;
use crate::prepare::{self, Ends};
use crate::record::{self, Record, Started};
use crate::terminal::SavedTerminals;
use crate::watch::{self, Watcher};
use crate::{keeper, limits, sys, user_namespace};

/// Waits until the mounts and helping processes of commands that have ended are gone, too.
///
/// There is nothing left to do when a command has ended but for the kernel to take them away (some tenths of a millisecond), and
/// each new start waits for that first; so only who starts no further command has to call this: before it ends, or before it
/// unmounts a file system that a command saw.
pub fn settle() {
    keeper::settle();
    user_namespace::settle();
    limits::settle();
}

/// Starts commands.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sandbox;

/// A command that has been executed. Dropping it ends the command and everything it started.
#[derive(Debug)]
pub struct Running {
    pidfd: OwnedFd,
    /// The init, where it is not our child.
    init: Option<OwnedFd>,
    control: File,
    orders: Arc<PipeWriter>,
    keeper: Option<Keeper>,
    watcher: Option<Watcher>,
    warden: Option<Warden>,
    watched: Option<Watched>,
    door: Option<DoorSockets>,
    limits: Limits,
    /// The control group that it is in, where it has one of its own.
    group: Option<Leaf>,
    confinement: Confinement,
    terminals: SavedTerminals,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Reaped,
}

/// Passes signals to a running command from any thread.
#[derive(Debug, Clone)]
pub struct Signaller(Arc<PipeWriter>);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It ended by itself with this code (0 to 255).
    Exited(u8),
    /// A signal ended it.
    Signalled(i32),
}

/// What a command and everything it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Time in its own code.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
    /// The largest resident set of one process, in KiB.
    pub largest_kib: u64,
}

/// A command that has ended, with everything it started.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// The limit that ended it, where one did.
    pub limit: Option<LimitReached>,
    /// The path that was replaced or moved on the host, where that ended it ([`LimitReached::GuardLost`]).
    pub lost_guard: Option<String>,
    /// Which walls stood.
    pub confinement: Confinement,
    /// Refusals seen, each once; which calls are observed is [`crate::Plan::observing`]'s to say. `None` where nothing was
    /// observed.
    pub denials: Option<Vec<SandboxDenial>>,
    /// How many more there were that are not listed.
    pub unlisted_denials: u64,
    /// What it used.
    pub usage: Usage,
}

impl Sandbox {
    /// Starts `command` by `plan`. Answers when the program has been executed.
    ///
    /// # Errors
    /// See [`SandboxError`]: whichever it is, nothing of the command has run and nothing is left behind.
    pub fn start(plan: &Plan, command: Command) -> Result<Running, SandboxError> {
        if !plan.is_for(&command) {
            return Err(SandboxError::OtherCommand);
        }
        if bubblewrap::carries(plan)
            && bubblewrap::powerless_here()
            && let Some(bubblewrap) = Bubblewrap::find()
        {
            return Self::carried(&bubblewrap, plan, command);
        }
        match (Ahead::of(plan), bubblewrap::carries(plan)) {
            (Ok(ahead), _) => Self::start_in(ahead, plan, command),
            (Err(error), true) if bubblewrap::may_cure(&error) => match Bubblewrap::find() {
                Some(bubblewrap) => {
                    Self::carried(&bubblewrap, plan, command).map_err(|other| error.beside(other))
                }
                None => Err(error),
            },
            (Err(error), _) => Err(error),
        }
    }

    /// By bubblewrap's hand, where this program is refused its namespaces.
    fn carried(
        bubblewrap: &Bubblewrap,
        plan: &Plan,
        command: Command,
    ) -> Result<Running, SandboxError> {
        let terminals = SavedTerminals::save();
        let mut keeper = Keeper::start(plan.placeholders())?;
        match bubblewrap::launch(bubblewrap, plan, command, keeper.as_mut()) {
            Ok(carried) => Running {
                pidfd: carried.pidfd,
                init: Some(carried.init),
                control: File::from(OwnedFd::from(carried.ours.control)),
                orders: Arc::new(carried.ours.orders),
                keeper,
                watcher: carried.watcher,
                warden: None,
                watched: None,
                // A plan with a door is not carried.
                door: None,
                group: None,
                limits: *plan.limits(),
                confinement: Confinement::of(plan).carried(),
                terminals,
                state: State::Running,
            }
            .limited(plan),
            Err(error) => {
                if let Some(keeper) = keeper {
                    keeper.finish();
                }
                Err(error)
            }
        }
    }

    /// The same in a process that was begun before the plan was made, where it is what the plan needs.
    ///
    /// # Errors
    /// As for [`Sandbox::start`].
    pub fn start_in(ahead: Ahead, plan: &Plan, command: Command) -> Result<Running, SandboxError> {
        if !plan.is_for(&command) {
            return Err(SandboxError::OtherCommand);
        }
        if bubblewrap::carries(plan) && bubblewrap::powerless_here() {
            drop(ahead);
            return Self::start(plan, command);
        }
        let ahead = if ahead.serves(plan) {
            ahead
        } else {
            Ahead::of(plan)?
        };
        let terminals = SavedTerminals::save();
        let watcher = Watcher::prepare(plan)?;
        let mut keeper = Keeper::start(plan.placeholders())?;
        let result = launch(ahead, plan, command, watcher, keeper.as_mut());
        match result {
            Ok(Launched {
                pidfd,
                ours,
                watcher,
                door,
                group,
            }) => Running {
                pidfd,
                init: None,
                control: File::from(OwnedFd::from(ours.control)),
                orders: Arc::new(ours.orders),
                keeper,
                watcher,
                warden: None,
                watched: None,
                door,
                limits: *plan.limits(),
                confinement: Confinement::of(plan).in_a_group(group.as_ref()),
                group,
                terminals,
                state: State::Running,
            }
            .limited(plan),
            Err(error) => {
                if let Some(keeper) = keeper {
                    keeper.finish();
                }
                Err(error)
            }
        }
    }
}

/// This side's ends of the pipes.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) control: PipeReader,
    pub(crate) orders: PipeWriter,
}

/// What the new process hands out descriptors by.
struct Channels {
    watcher: Option<OwnedFd>,
    door: Option<OwnedFd>,
}

fn pipes(told_by: [RawFd; 2], channels: Channels) -> io::Result<(Ours, Ends)> {
    let (control, control_end) = io::pipe()?;
    let (orders_end, orders) = io::pipe()?;
    let ends = Ends {
        control: control_end.into(),
        orders: orders_end.into(),
        told_by,
        watcher: channels.watcher,
        door: channels.door,
    };
    Ok((Ours { control, orders }, ends))
}

/// What a start leaves with this process.
struct Launched {
    pidfd: OwnedFd,
    ours: Ours,
    watcher: Option<Watcher>,
    door: Option<DoorSockets>,
    group: Option<Leaf>,
}

/// Where root starts commands, one at a time between its first step and exec: see [`restore_dumpable`].
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn launch(
    mut ahead: Ahead,
    plan: &Plan,
    command: Command,
    watcher: Option<(watch::Prepared, OwnedFd)>,
    keeper: Option<&mut Keeper>,
) -> Result<Launched, SandboxError> {
    let (watcher, listener) = watcher.unzip();
    let program = command.program.path().to_path_buf();
    let (receiver, door) = Receiver::prepare(plan)?.unzip();
    let channels = Channels {
        watcher: listener,
        door,
    };
    let (mut ours, ends) = pipes(ahead.told_by(), channels)
        .map_err(|source| for_the_command("make pipes for", source))?;
    let (prepared, held) = prepare::prepare(plan, command, ends)?;
    let as_another = matches!(plan.identity(), Identity::Unprivileged { .. });
    let _turn = as_another.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let dumpable = rustix::process::dumpable_behavior()
        .ok()
        .filter(|_| as_another);
    // Before it starts anything; where it cannot be moved, it is held as where there is no group.
    let group = Leaf::under(plan.limits());
    let process = ahead.process()?.pid();
    let group = group.filter(|group| group.take(process).is_ok());
    let outcome = ahead
        .give(prepared)
        .and_then(|()| admit(&mut ahead, keeper))
        .and_then(|()| watcher.map(watch::Prepared::start).transpose())
        .and_then(|watcher| {
            let proof = started(&ahead, &mut ours, &program)?;
            let door = receiver.map(Receiver::receive).transpose()?;
            Ok((proof, watcher, door))
        });
    let finished = match outcome {
        Ok((proof, watcher, door)) => {
            let pidfd = ahead.executed(proof).ok_or(SandboxError::Lost);
            pidfd.map(|pidfd| Launched {
                pidfd,
                ours,
                watcher,
                door,
                group,
            })
        }
        Err(error) => {
            let cause = ahead.failure();
            drop(ahead);
            Err(cause.unwrap_or(error))
        }
    };
    // Until here the new process may not have had a table of its own.
    drop(held);
    restore_dumpable(dumpable);
    finished
}

pub(crate) fn for_the_command(step: &'static str, source: io::Error) -> SandboxError {
    SandboxError::SetUp {
        step,
        object: PathBuf::from("the command"),
        source,
    }
}

/// Tells the keeper whom to watch, then lets the new process go on.
fn admit(ahead: &mut Ahead, keeper: Option<&mut Keeper>) -> Result<(), SandboxError> {
    let process = ahead.process()?;
    if let Some(keeper) = keeper {
        keeper.ready()?;
        let watched = process.descriptor().ok_or(SandboxError::Lost)?;
        keeper
            .watch(watched)
            .map_err(|source| for_the_command("keep the protected names from", source))?;
    }
    ahead.go()
}

/// Reads what the set-up and the init have to say until the command is executed.
fn started(ahead: &Ahead, ours: &mut Ours, program: &Path) -> Result<Started, SandboxError> {
    let process = ahead.process()?;
    let ended = process.descriptor().ok_or(SandboxError::Lost)?;
    // This process, too, holds the end that is written to, so the pipe does not end with the other one.
    let mut watched = [
        PollFd::new(&ours.control, PollFlags::IN),
        PollFd::from_borrowed_fd(ended, PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, None))
        .map_err(|error| for_the_command("wait for", error.into()))?;
    let [said, _] = watched.map(|watched| watched.revents().contains(PollFlags::IN));
    if !said && !has_said(&ours.control) {
        return Err(SandboxError::Lost);
    }
    match record::read(&mut ours.control) {
        Some(Record::Started(proof)) => Ok(proof),
        Some(Record::ExecFailed(errno)) => Err(prepare::exec_failed(program.to_path_buf(), errno)),
        Some(Record::SetUpFailed { step, errno }) => {
            let steps = ahead.prepared().map(|prepared| &prepared.steps);
            Err(match steps.and_then(|steps| steps.get(step)) {
                Some(step) => prepare::step_failed(step, errno),
                None => {
                    let source = io::Error::from_raw_os_error(errno);
                    for_the_command("execute the init of", source)
                }
            })
        }
        Some(Record::Ended(_)) | None => Err(SandboxError::Lost),
    }
}

/// Whether something is in the pipe that was not there a moment ago: its writer has ended since.
fn has_said(control: &PipeReader) -> bool {
    let mut watched = [PollFd::new(control, PollFlags::IN)];
    let now = Timespec::default();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, Some(&now))) == Ok(1)
}

/// A change of user makes the kernel mark the memory as nobody's to look into, and the new process shared ours. While it
/// did, the mark kept the other user's processes out; now ours is as it was.
fn restore_dumpable(before: Option<DumpableBehavior>) {
    if let Some(before) = before {
        // Left as it is where this fails: stricter than before.
        rustix::process::set_dumpable_behavior(before).ok();
    }
}

impl Running {
    /// With a warden, where the plan wants one. Without it the command is ended: it would run without its limits.
    fn limited(mut self, plan: &Plan) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::SetUp {
            step: "watch over the limits of",
            object: PathBuf::from("the command"),
            source,
        };
        self.warden = Warden::start(plan, self.init().as_fd()).map_err(failed)?;
        Ok(self)
    }

    /// The process whose end ends all others.
    fn init(&self) -> &OwnedFd {
        self.init.as_ref().unwrap_or(&self.pidfd)
    }

    /// Which walls stand.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// The sockets of the command's door, once, where its network has one. Until somebody serves them, connections wait.
    pub fn take_door(&mut self) -> Option<DoorSockets> {
        self.door.take()
    }

    /// A handle to pass signals on, usable while another thread waits.
    #[must_use]
    pub fn signaller(&self) -> Signaller {
        Signaller(Arc::clone(&self.orders))
    }

    /// Passes a signal to the command's process group.
    ///
    /// # Errors
    /// The command has already ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.signaller().signal(signal)
    }

    /// Ends the command and everything it started, at once.
    ///
    /// # Errors
    /// The command has already ended.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self.init(), Signal::KILL)?)
    }

    /// Waits until the command has ended and no process and no name of it is left. Its mounts, which are in a namespace of
    /// their own, are going; [`settle`] waits for them.
    ///
    /// # Errors
    /// The system cannot say how it ended.
    pub fn wait(mut self) -> io::Result<Run> {
        // The last word is in the pipe before the init ends, so one wait is enough.
        let waited = self.reap();
        let last = record::read(&mut self.control);
        let ending = match last {
            Some(Record::Ended(status)) => ending(status),
            // The init was ended from outside, and with it the command.
            _ => Ending::Signalled(
                waited
                    .as_ref()
                    .ok()
                    .and_then(|waited| waited.signal)
                    .unwrap_or(libc::SIGKILL),
            ),
        };
        let signal = match ending {
            Ending::Exited(_) => None,
            Ending::Signalled(signal) => Some(signal),
        };
        let watched = self.watched.take().unwrap_or_default();
        // A guard that was lost comes first; the machine's own count of such ends has the group's in it.
        let group = self.group.take().filter(|_| watched.lost.is_none());
        let killed =
            ending != Ending::Exited(0) && group.is_some_and(|group| group.ran_out_of_memory());
        let limit = if killed {
            Some(LimitReached::Memory)
        } else {
            watched.limit(signal)
        };
        let lost_guard = watched
            .lost
            .filter(|_| limit == Some(LimitReached::GuardLost));
        let lost_guard = lost_guard.map(|path| path.to_string_lossy().into_owned());
        let limit = limit.or_else(|| LimitReached::by_signal(signal?, &self.limits));
        let seen = self.watcher.take().and_then(Watcher::finish);
        if seen.is_none() {
            self.confinement.unobserved();
        }
        let (denials, unlisted_denials) = seen.map(|seen| (seen.listed, seen.unlisted)).unzip();
        let counted = waited.map(|waited| waited.counted).unwrap_or_default();
        Ok(Run {
            ending,
            confinement: self.confinement.clone(),
            limit,
            lost_guard,
            denials,
            unlisted_denials: unlisted_denials.unwrap_or_default(),
            usage: Usage {
                user: Duration::from_micros(counted.user_micros),
                system: Duration::from_micros(counted.system_micros),
                largest_kib: counted.largest_kib,
            },
        })
    }

    fn reap(&mut self) -> io::Result<sys::Waited> {
        let waited = sys::wait(self.pidfd.as_fd());
        self.state = State::Reaped;
        // It holds the mounts, and no name that is a mount point can be removed cheaply; it is letting them go now.
        self.watched = self.warden.take().map(Warden::finish);
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
        self.terminals.restore();
        waited
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.state == State::Running {
            // Already ended: then there is nothing to end, only to reap.
            self.kill().ok();
            self.reap().ok();
        }
    }
}

impl AsFd for Running {
    /// Readable when the command has ended, for `poll` and event loops.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Signaller {
    /// Passes a signal to the command's process group.
    ///
    /// # Errors
    /// The command has already ended, or the number is no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let number = u8::try_from(signal)
            .ok()
            .filter(|number| (1..=64).contains(number));
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        (&*self.0).write_all(&[number])
    }
}

/// Reads a status as of `wait(2)`.
fn ending(status: i32) -> Ending {
    let signal = status & 0x7f;
    if signal == 0 {
        Ending::Exited(u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX))
    } else {
        Ending::Signalled(signal)
    }
}
