//! Namespaces that are made while their command is still being planned: [`Ahead`].
//!
//! Making a user and a network namespace is the largest part of a start and needs to know nothing of the command. So the
//! process that is to become the command is made first, and it makes the other namespaces by itself, on another
//! processor, while this one plans and prepares. Until it has the steps it shares this process's table of descriptors, so
//! that whatever is opened for it is there under the same number; then it takes a copy of its own. It ends by itself
//! when this process is gone, or when it is kept waiting for too long. Invariant: what runs before the steps are given
//! opens, closes and changes nothing of this process.

use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::error::SandboxError;
use crate::plan::{self, Namespace};
use crate::policy::Network;
use crate::prepare::Prepared;
use crate::record::Started;
use crate::sys::child;
use crate::sys::clone::{Descriptors, Ended, Sharing};
use crate::{probe, stage};

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
    go: PipeWriter,
    go_end: OwnedFd,
    runner: OwnedFd,
}

/// What the waiting process knows.
#[derive(Debug)]
pub(crate) struct Crib {
    namespaces: libc::c_int,
    runner: RawFd,
    go: RawFd,
    prepared: OnceLock<Prepared>,
    /// Why it ended before it had steps: an errno, and at what.
    failed: AtomicI32,
    failed_at: AtomicI32,
}

/// What a waiting process is told.
const GO: u8 = 1;
const LEAVE: u8 = 0;

const AT_NAMESPACES: i32 = 1;
const AT_LOOPBACK: i32 = 2;
const AT_DESCRIPTORS: i32 = 3;

impl Ahead {
    /// Begins for a confined command with `network`. A plan that turns out to need other namespaces gets a new process.
    ///
    /// # Errors
    /// The host makes no user namespace for this user: [`SandboxError::Unsupported`] says why.
    pub fn begin(network: Network) -> Result<Self, SandboxError> {
        Self::within(&plan::confined_namespaces(network))
    }

    pub(crate) fn within(namespaces: &[Namespace]) -> Result<Self, SandboxError> {
        let set_up = |source| SandboxError::SetUp {
            step: "make pipes for",
            object: "the command".into(),
            source,
        };
        let (go_end, go) = io::pipe().map_err(set_up)?;
        // A shared table grows slowly (the kernel waits for every reader), so it grows before it is shared.
        let go_end = fcntl_dupfd_cloexec(&go_end, HIGH).map_err(|error| set_up(error.into()))?;
        let runner = this_process().map_err(set_up)?;
        let namespaces = namespaces.iter().map(flag).fold(0, |all, one| all | one);
        let crib = Crib {
            namespaces,
            runner: runner.as_raw_fd(),
            go: go_end.as_raw_fd(),
            prepared: OnceLock::new(),
            failed: AtomicI32::new(0),
            failed_at: AtomicI32::new(0),
        };
        // The new process makes the others itself: it may, as soon as it has a user namespace of its own.
        let first = namespaces & (libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
        let process = Sharing::start(first, Descriptors::Shared, Box::new(crib), live)
            .map_err(probe::no_namespace)?;
        Ok(Self {
            process: Some(process),
            go,
            go_end,
            runner,
        })
    }

    /// Whether it is in exactly these namespaces, and still there.
    pub(crate) fn serves(&self, namespaces: &[Namespace]) -> bool {
        let wanted = namespaces.iter().map(flag).fold(0, |all, one| all | one);
        let serves =
            |process: &Sharing<Crib>| process.task().namespaces == wanted && !process.has_ended();
        self.process.as_ref().is_some_and(serves)
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
        let step = match crib.failed_at.load(Ordering::Acquire) {
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

fn ready(crib: &Crib) -> Result<&Prepared, (i32, Errno)> {
    child::reset_signals();
    let rest = crib.namespaces & !(libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
    child::unshare(rest).map_err(|error| (AT_NAMESPACES, error))?;
    if rest & libc::CLONE_NEWNET != 0 {
        child::loopback_up().map_err(|error| (AT_LOOPBACK, error))?;
    }
    let told = child::with_descriptor(crib.go, |go| {
        child::with_descriptor(crib.runner, |runner| await_go(go, runner))
    });
    told.map_err(|error| (AT_DESCRIPTORS, error))?;
    let prepared = crib
        .prepared
        .get()
        .ok_or((AT_DESCRIPTORS, Errno::CANCELED))?;
    child::unshare(libc::CLONE_FILES).map_err(|error| (AT_DESCRIPTORS, error))?;
    Ok(prepared)
}

/// Waits until `runner` says to go on; an error where it is gone.
pub(crate) fn await_go(go: BorrowedFd<'_>, runner: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut watched = [
        PollFd::from_borrowed_fd(go, PollFlags::IN),
        PollFd::from_borrowed_fd(runner, PollFlags::IN),
    ];
    rustix::event::poll(&mut watched, None)?;
    let [said, gone] = watched.map(|watched| !watched.revents().is_empty());
    if gone || !said {
        return Err(Errno::CANCELED);
    }
    let mut byte = [0];
    match rustix::io::read(go, &mut byte)? {
        1 if byte == [GO] => Ok(()),
        _ => Err(Errno::CANCELED),
    }
}
