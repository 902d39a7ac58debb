//! Namespaces that are made while their command is still being planned: [`Ahead`].
//!
//! Making a user and a network namespace is the largest part of a start and needs to know nothing of the command. So the
//! process that is to become the command is made first, and it makes the other namespaces by itself, on another
//! processor, while this one plans and prepares. Until it has the steps it shares this process's table of descriptors, so
//! that whatever is opened for it is there under the same number; then it takes a copy of its own. It ends by itself
//! when this process is gone, or when it is kept waiting for too long. Invariant: what runs before the steps are given
//! closes and changes nothing of this process, and leaves nothing open in it.

use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::beside::Beside;
use crate::error::SandboxError;
use crate::mounts::Operation;
use crate::plan::{self, Identity, Namespace, Plan};
use crate::policy::Network;
use crate::prepare::{Prepared, Step, early, step_failed};
use crate::record::Started;
use crate::start::settle;
use crate::sys::child;
use crate::sys::clone::{Descriptors, Ended, Sharing};
use crate::{probe, stage, user_namespace};

/// A number above all that a start uses.
const HIGH: RawFd = 320;

/// How long a process that is told to leave may take: making namespaces is the longest thing it can be at.
const PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// A process in namespaces of its own that waits for its command.
///
/// Optional: [`crate::Sandbox::start`] makes one where it is given none. Beginning before the plan is made hides about
/// half a millisecond behind it on a machine with a second processor. Dropping it ends the process.
#[derive(Debug)]
pub struct Ahead {
    /// `None` once it has become a command's init.
    process: Option<Sharing<Crib>>,
    identity: Identity,
    staged: Staged,
    go: PipeWriter,
    go_end: OwnedFd,
    runner: OwnedFd,
    /// Kept for the new process, which has it by its number.
    _settings: Option<OwnedFd>,
}

/// What the waiting process knows.
#[derive(Debug)]
pub(crate) struct Crib {
    namespaces: libc::c_int,
    early: Vec<Step>,
    /// The ends by which it is told to go on and by which the end of this process shows.
    told_by: [RawFd; 2],
    prepared: OnceLock<Prepared>,
    beside: Option<Beside>,
    /// Why it ended before it had its command's steps: an errno, and at what.
    failed: AtomicI32,
    failed_at: AtomicUsize,
}

/// Whether what every confined command has is made early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Staged {
    Yes,
    No,
}

impl Staged {
    fn of(plan: &Plan) -> Self {
        if plan.operations().contains(&Operation::Devices) {
            Self::Yes
        } else {
            Self::No
        }
    }
}

/// What a waiting process is told.
const GO: u8 = 1;
const LEAVE: u8 = 0;

const AT_NAMESPACES: usize = 1;
const AT_LOOPBACK: usize = 2;
const AT_DESCRIPTORS: usize = 3;
/// And from here on at an early step.
const AT_STEPS: usize = 4;

impl Ahead {
    /// Begins for a confined command with `network`. A plan that turns out to need other namespaces gets a new process.
    ///
    /// # Errors
    /// The host makes no user namespace for this user: [`SandboxError::Unsupported`] says why.
    pub fn begin(network: Network) -> Result<Self, SandboxError> {
        let namespaces = plan::confined_namespaces(network);
        Self::within(&namespaces, Identity::of_a_confined_command(), Staged::Yes)
    }

    /// What `plan` needs.
    pub(crate) fn of(plan: &Plan) -> Result<Self, SandboxError> {
        Self::within(plan.namespaces(), plan.identity(), Staged::of(plan))
    }

    fn within(
        namespaces: &[Namespace],
        identity: Identity,
        staged: Staged,
    ) -> Result<Self, SandboxError> {
        settle();
        let set_up = |source| SandboxError::SetUp {
            step: "make pipes for",
            object: "the command".into(),
            source,
        };
        let (go_end, go) = io::pipe().map_err(set_up)?;
        // A shared table grows slowly (the kernel waits for every reader), so it grows before it is shared.
        let go_end = fcntl_dupfd_cloexec(&go_end, HIGH).map_err(|error| set_up(error.into()))?;
        let runner = this_process().map_err(set_up)?;
        let namespaces = flags(namespaces);
        let settings = settings(namespaces);
        let mut early = Vec::new();
        if let Some(settings) = &settings {
            early.extend(early::leave_half(settings.as_raw_fd()));
        }
        if staged == Staged::Yes {
            early.extend(early::steps(identity));
        }
        let beside = Beside::this_thread();
        let crib = Crib {
            namespaces,
            early,
            beside,
            told_by: [go_end.as_raw_fd(), runner.as_raw_fd()],
            prepared: OnceLock::new(),
            failed: AtomicI32::new(0),
            failed_at: AtomicUsize::new(0),
        };
        // The new process makes the others itself: it may, as soon as it has a user namespace of its own.
        let first = namespaces & (libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
        let process = Sharing::start(first, Descriptors::Shared, Box::new(crib), live)
            .map_err(probe::no_namespace)?;
        if let Some(beside) = beside {
            beside.send(process.pid());
        }
        let mut ahead = Self {
            process: Some(process),
            identity,
            staged,
            go,
            go_end,
            runner,
            _settings: settings,
        };
        if namespaces & libc::CLONE_NEWUSER != 0 {
            let pid = ahead.process()?.pid();
            user_namespace::write_maps(pid, identity).map_err(probe::no_user_map)?;
        }
        ahead.go()?;
        Ok(ahead)
    }

    /// Whether it is what `plan` needs, and still there.
    pub(crate) fn serves(&self, plan: &Plan) -> bool {
        let wanted = flags(plan.namespaces());
        let serves =
            |process: &Sharing<Crib>| process.task().namespaces == wanted && !process.has_ended();
        self.identity == plan.identity()
            && self.staged == Staged::of(plan)
            && self.process.as_ref().is_some_and(serves)
    }

    /// Gives it what to do; it begins at once.
    pub(crate) fn give(&mut self, prepared: Prepared) -> Result<(), SandboxError> {
        let process = self.process.as_ref().ok_or(SandboxError::Lost)?;
        if process.task().prepared.set(prepared).is_err() {
            return Err(SandboxError::Lost);
        }
        self.go()
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) -> Result<(), SandboxError> {
        self.go
            .write_all(&[GO])
            .map_err(|source| SandboxError::SetUp {
                step: "let go on",
                object: "the command".into(),
                source,
            })
    }

    /// The numbers, in its table, of the ends by which it is told to go on and learns that this process is gone.
    pub(crate) fn told_by(&self) -> [RawFd; 2] {
        [self.go_end.as_raw_fd(), self.runner.as_raw_fd()]
    }

    pub(crate) fn process(&self) -> Result<&Sharing<Crib>, SandboxError> {
        self.process.as_ref().ok_or(SandboxError::Lost)
    }

    /// What it was given.
    pub(crate) fn prepared(&self) -> Option<&Prepared> {
        self.process.as_ref()?.task().prepared.get()
    }

    /// Why it ended before it had any step to report by.
    pub(crate) fn failure(&self) -> Option<SandboxError> {
        let crib = self.process.as_ref()?.task();
        let errno = crib.failed.load(Ordering::Acquire);
        let source = io::Error::from_raw_os_error(errno);
        let at = crib.failed_at.load(Ordering::Acquire);
        let early = at.checked_sub(AT_STEPS).and_then(|at| crib.early.get(at));
        if let Some(step) = early {
            return Some(step_failed(step, errno));
        }
        let step = match at {
            0 => return None,
            AT_NAMESPACES => return Some(probe::no_namespace(source)),
            AT_LOOPBACK => "bring up loopback for",
            _ => "copy the descriptors of",
        };
        Some(SandboxError::SetUp {
            step,
            object: "the command".into(),
            source,
        })
    }

    /// Lets go of a process that has become the command's init; its descriptor.
    pub(crate) fn executed(mut self, proof: Started) -> Option<OwnedFd> {
        self.process.take()?.executed(proof)
    }
}

impl Drop for Ahead {
    /// Asks it to leave, so that it leaves nothing open in the table it shares; it is ended where it does not.
    fn drop(&mut self) {
        if let Some(process) = &self.process
            && self.go.write_all(&[LEAVE]).is_ok()
        {
            process.wait_for(PATIENCE);
        }
    }
}

/// This process, by a descriptor that becomes readable when it has ended (`pidfd_open(2)`, kernel 5.3).
fn this_process() -> io::Result<OwnedFd> {
    let flags = rustix::process::PidfdFlags::empty();
    Ok(rustix::process::pidfd_open(
        rustix::process::getpid(),
        flags,
    )?)
}

fn flags(namespaces: &[Namespace]) -> libc::c_int {
    namespaces.iter().map(flag).fold(0, |all, one| all | one)
}

fn flag(namespace: &Namespace) -> libc::c_int {
    match namespace {
        Namespace::User => libc::CLONE_NEWUSER,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Process => libc::CLONE_NEWPID,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::HostName => libc::CLONE_NEWUTS,
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
    }
}

/// The waiting process. Shares this program's memory: nothing here allocates, locks or panics.
fn live(crib: &Crib) -> Ended {
    match ready(crib) {
        Ok(prepared) => stage::run(prepared),
        Err((at, error)) => {
            crib.failed.store(error.raw_os_error(), Ordering::Release);
            crib.failed_at.store(at, Ordering::Release);
            child::end()
        }
    }
}

/// The kernel's numbers, for a process that gets a user namespace with numbers of its own.
fn settings(namespaces: libc::c_int) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::open(early::SETTINGS, flags, Mode::empty()).ok();
    (namespaces & libc::CLONE_NEWUSER != 0).then(open).flatten()
}

fn ready(crib: &Crib) -> Result<&Prepared, (usize, Errno)> {
    if let Some(beside) = &crib.beside {
        beside.go();
    }
    child::reset_signals();
    let rest = crib.namespaces & !(libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
    child::unshare(rest).map_err(|error| (AT_NAMESPACES, error))?;
    if rest & libc::CLONE_NEWNET != 0 {
        child::loopback_up().map_err(|error| (AT_LOOPBACK, error))?;
    }
    let told = || await_go(crib.told_by).map_err(|error| (AT_DESCRIPTORS, error));
    // The user map stands, and the parent has long sent this process away.
    told()?;
    if let Some(beside) = &crib.beside {
        beside.anywhere();
    }
    let context = stage::Context {
        slots: &[],
        told_by: crib.told_by,
    };
    stage::take(&crib.early, context).map_err(|(place, error)| (AT_STEPS + place, error))?;
    told()?;
    let prepared = crib
        .prepared
        .get()
        .ok_or((AT_DESCRIPTORS, Errno::CANCELED))?;
    child::unshare(libc::CLONE_FILES).map_err(|error| (AT_DESCRIPTORS, error))?;
    Ok(prepared)
}

/// Waits until the parent says to go on; an error where it is gone or says to leave.
pub(crate) fn await_go([go, runner]: [RawFd; 2]) -> Result<(), Errno> {
    child::with_descriptor(go, |go| {
        child::with_descriptor(runner, |runner| {
            let mut watched = [go, runner].map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN));
            rustix::event::poll(&mut watched, None)?;
            let [said, gone] = watched.map(|watched| !watched.revents().is_empty());
            let mut byte = [LEAVE];
            if said && !gone {
                rustix::io::read(go, &mut byte)?;
            }
            if byte == [GO] {
                Ok(())
            } else {
                Err(Errno::CANCELED)
            }
        })
    })
}
