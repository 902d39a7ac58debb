//! Starts a command by its plan and waits for it: [`Sandbox`], [`Running`], [`Run`].
//!
//! The one place where a plan becomes a process. From any thread, blocking for about a millisecond; the command is taken
//! down when the [`Running`] is dropped or this process dies, because both close the pipe that its init reads.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal};

use crate::command::Command;
use crate::confinement::Confinement;
use crate::denial::SandboxDenial;
use crate::error::SandboxError;
use crate::keeper::Keeper;
use crate::limits::{LimitReached, Warden};
use crate::plan::{Identity, Namespace, Plan};
use crate::prepare::{self, Act, Ends, Prepared};
use crate::record::{self, Record, Started};
use crate::sys::clone::Sharing;
use crate::terminal::SavedTerminals;
use crate::watch::Watcher;
use crate::{probe, stage, sys, user_namespace};

/// Starts commands.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sandbox;

/// A command that has been executed. Dropping it ends the command and everything it started.
#[derive(Debug)]
pub struct Running {
    pidfd: OwnedFd,
    control: File,
    orders: Arc<PipeWriter>,
    keeper: Option<Keeper>,
    watcher: Option<Watcher>,
    warden: Option<Warden>,
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
        let terminals = SavedTerminals::save();
        let (watcher, listener) = Watcher::start(plan)?.unzip();
        let mut keeper = Keeper::start(plan.placeholders())?;
        let result = launch(plan, command, listener, keeper.as_mut());
        match result {
            Ok((pidfd, ours)) => Running {
                pidfd,
                control: File::from(OwnedFd::from(ours.control)),
                orders: Arc::new(ours.orders),
                keeper,
                watcher,
                warden: None,
                confinement: Confinement::of(plan),
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
struct Ours {
    control: PipeReader,
    orders: PipeWriter,
    go: PipeWriter,
}

fn pipes(watcher: Option<OwnedFd>) -> io::Result<(Ours, Ends)> {
    let (control, control_end) = io::pipe()?;
    let (orders_end, orders) = io::pipe()?;
    let (go_end, go) = io::pipe()?;
    let ends = Ends {
        control: control_end.into(),
        orders: orders_end.into(),
        go: go_end.into(),
        watcher,
    };
    Ok((
        Ours {
            control,
            orders,
            go,
        },
        ends,
    ))
}

/// Where root starts commands, one at a time between clone and exec: see [`restore_dumpable`].
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn launch(
    plan: &Plan,
    command: Command,
    listener: Option<OwnedFd>,
    keeper: Option<&mut Keeper>,
) -> Result<(OwnedFd, Ours), SandboxError> {
    let set_up = |step, source| SandboxError::SetUp {
        step,
        object: PathBuf::from("the command"),
        source,
    };
    let program = command.program.path().to_path_buf();
    let (mut ours, ends) = pipes(listener).map_err(|source| set_up("make pipes for", source))?;
    let (prepared, held) = prepare::prepare(plan, command, ends)?;
    let as_another = matches!(plan.identity(), Identity::Unprivileged { .. });
    let _turn = as_another.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let dumpable = rustix::process::dumpable_behavior()
        .ok()
        .filter(|_| as_another);
    let process = Sharing::start(namespaces(plan), Box::new(prepared), stage::run)
        .map_err(probe::no_namespace)?;
    drop(held);
    let outcome = admit(plan, &process, &mut ours, keeper).and_then(|()| {
        let failure = |step: usize, errno| {
            let Some(step) = process.task().steps.get(step) else {
                return set_up_error(Kind::Other, "execute the init of", program.clone(), errno);
            };
            set_up_error(kind(&step.act), step.what, step.object.clone(), errno)
        };
        started(&mut ours, &program, failure)
    });
    let finished = match outcome {
        Ok(proof) => process.executed(proof).ok_or(SandboxError::Lost),
        Err(error) => {
            drop(process);
            Err(error)
        }
    };
    restore_dumpable(dumpable);
    finished.map(|pidfd| (pidfd, ours))
}

fn namespaces(plan: &Plan) -> libc::c_int {
    let flag = |namespace: &Namespace| match namespace {
        Namespace::User => libc::CLONE_NEWUSER,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Process => libc::CLONE_NEWPID,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::HostName => libc::CLONE_NEWUTS,
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
    };
    plan.namespaces()
        .iter()
        .map(flag)
        .fold(0, |flags, flag| flags | flag)
}

/// Tells the new process who it is and the keeper whom to watch, then lets it go on.
fn admit(
    plan: &Plan,
    process: &Sharing<Prepared>,
    ours: &mut Ours,
    keeper: Option<&mut Keeper>,
) -> Result<(), SandboxError> {
    let pid = process.pid();
    if plan.namespaces().contains(&Namespace::User) {
        user_namespace::write_maps(pid, plan.identity()).map_err(probe::no_user_map)?;
    }
    let set_up = |step, source| SandboxError::SetUp {
        step,
        object: PathBuf::from("the command"),
        source,
    };
    if let Some(keeper) = keeper {
        keeper.ready()?;
        let watched = process.descriptor().ok_or(SandboxError::Lost)?;
        keeper
            .watch(watched)
            .map_err(|source| set_up("keep the protected names from", source))?;
    }
    // A process that has already failed has closed its end; what it has to say is read next.
    match ours.go.write_all(&[1]) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(set_up("let go on", error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads what the set-up and the init have to say until the command is executed.
fn started(
    ours: &mut Ours,
    program: &std::path::Path,
    failure: impl Fn(usize, i32) -> SandboxError,
) -> Result<Started, SandboxError> {
    match record::read(&mut ours.control) {
        Some(Record::Started(proof)) => Ok(proof),
        Some(Record::ExecFailed(errno)) => Err(exec_error(program.to_path_buf(), errno)),
        Some(Record::SetUpFailed { step, errno }) => Err(failure(step, errno)),
        Some(Record::Ended(_)) | None => Err(SandboxError::Lost),
    }
}

fn exec_error(program: PathBuf, errno: i32) -> SandboxError {
    let source = io::Error::from_raw_os_error(errno);
    match errno {
        libc::ENOENT | libc::ENOTDIR => SandboxError::NotFound { program, source },
        _ => SandboxError::NotExecutable { program, source },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Wall(crate::Wall),
    Other,
}

fn kind(act: &Act) -> Kind {
    if matches!(act, Act::OpenProgram { .. }) {
        return Kind::Program;
    }
    prepare::wall(act).map_or(Kind::Other, Kind::Wall)
}

fn set_up_error(kind: Kind, step: &'static str, object: PathBuf, errno: i32) -> SandboxError {
    let source = io::Error::from_raw_os_error(errno);
    match (kind, errno) {
        (_, libc::ESTALE) => SandboxError::Replaced(object),
        (Kind::Program, _) => exec_error(object, errno),
        (Kind::Wall(wall), libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP) => {
            probe::no_wall(wall, step, &object, source)
        }
        _ => SandboxError::SetUp {
            step,
            object,
            source,
        },
    }
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
        self.warden = Warden::start(plan.limits(), self.pidfd.as_fd()).map_err(failed)?;
        Ok(self)
    }

    /// Which walls stand.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
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
        Ok(pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }

    /// Waits until the command has ended and nothing of it is left: no process, no mount, no name.
    ///
    /// # Errors
    /// The system cannot say how it ended.
    pub fn wait(mut self) -> io::Result<Run> {
        let last = record::read(&mut self.control);
        let waited = self.reap();
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
        let limit = self.warden.take().and_then(Warden::finish);
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
