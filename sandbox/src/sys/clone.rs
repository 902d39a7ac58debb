//! Starts a process that runs a function of this program in this program's memory, on a stack of its own.
//!
//! `clone(2)` with `CLONE_VM` copies no page table, so the size of the caller does not matter. The price: until that
//! process executes something or ends, its stack and its task must stay where they are. [`Sharing`] owns both and its
//! drop ends the process first.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, pidfd_send_signal};

/// Stack bytes of the process. Its functions keep records of at most some hundred bytes.
const STACK_BYTES: usize = 256 * 1024;
const GUARD_BYTES: usize = 64 * 1024;

/// A mapping with a guard below it.
#[derive(Debug)]
struct Stack(NonNull<libc::c_void>);

// SAFETY: the mapping belongs to whoever holds the value, on any thread.
unsafe impl Send for Stack {}

/// Stacks that are free again: making and unmaking mappings costs every thread of the program.
static FREE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());
const KEPT_FREE: usize = 4;

impl Stack {
    fn obtain() -> io::Result<Self> {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.map_or_else(Self::new, Ok)
    }

    fn give_back(self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_FREE {
            free.push(self);
        }
    }

    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), STACK_BYTES, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = NonNull::new(base)
            .ok_or_else(io::Error::last_os_error)
            .map(Self)?;
        // SAFETY: the guard is the lower end of the mapping just made, which nobody uses yet.
        if unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// The upper end, 256 bytes below which the entry is kept.
    fn entry<T>(&self) -> *mut Entry<T> {
        // SAFETY: 256 bytes below the end is inside the mapping and aligned to 256.
        unsafe { self.0.as_ptr().cast::<u8>().add(STACK_BYTES - 256).cast() }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and `Sharing` makes sure that no process stands on it any more.
        unsafe { libc::munmap(self.0.as_ptr(), STACK_BYTES) };
    }
}

struct Entry<T> {
    function: fn(&T) -> Ended,
    task: *const T,
}

/// Whose table of descriptors a new process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// A copy of ours as it is now.
    Copied,
    /// Ours, until it copies it (`unshare(2)`, `CLONE_FILES`).
    Shared,
}

/// Proof that a task came to its end by its own call: only [`super::child::end`] makes one, and it never returns.
#[derive(Debug)]
pub(crate) struct Ended(());

/// A process on our memory. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Sharing<T> {
    pidfd: Option<OwnedFd>,
    pid: libc::pid_t,
    task: Box<T>,
    stack: Option<Stack>,
}

extern "C" fn enter<T>(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` put an entry there, on the stack that this process alone uses.
    let entry = unsafe { argument.cast::<Entry<T>>().read() };
    // SAFETY: the task is boxed and owned by the `Sharing`, which outlives this process or its use of it.
    let task = unsafe { &*entry.task };
    // Answers nothing: it ends the process itself.
    let Ended(()) = (entry.function)(task);
    125
}

impl<T> Sharing<T> {
    /// Starts `function` on `task` in a process with the given `namespaces` (`CLONE_NEW…`), all signals blocked.
    ///
    /// `function` may only call [`super::child`] and the raw calls of `rustix`: nothing that allocates, locks or panics,
    /// because another thread may hold the lock at this moment.
    pub(crate) fn start(
        namespaces: libc::c_int,
        descriptors: Descriptors,
        task: Box<T>,
        function: fn(&T) -> Ended,
    ) -> io::Result<Self> {
        let stack = Stack::obtain()?;
        let entry = stack.entry::<T>();
        let task_at: *const T = &raw const *task;
        // SAFETY: the place is inside the mapping, aligned and unused.
        unsafe {
            entry.write(Entry {
                function,
                task: task_at,
            })
        };
        let mut descriptor: libc::c_int = -1;
        let shared = match descriptors {
            Descriptors::Copied => 0,
            Descriptors::Shared => libc::CLONE_FILES,
        };
        let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD | shared | namespaces;
        let blocked = BlockedSignals::all();
        // SAFETY: the stack is fresh and grows down from the entry; the child runs `enter`, which uses only what
        // `Sharing` keeps alive; the descriptor is written before this returns.
        let pid = unsafe {
            libc::clone(
                enter::<T>,
                entry.cast(),
                flags,
                entry.cast(),
                &raw mut descriptor,
            )
        };
        let error = io::Error::last_os_error();
        drop(blocked);
        if pid < 0 {
            return Err(error);
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self {
            pidfd: Some(pidfd),
            pid,
            task,
            stack: Some(stack),
        })
    }

    /// The process's number as this process sees it.
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// The process, by descriptor.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(OwnedFd::as_fd)
    }

    /// What it works on. Both read it.
    pub(crate) fn task(&self) -> &T {
        &self.task
    }

    /// Whether it has ended. Where that cannot be told it has.
    pub(crate) fn has_ended(&self) -> bool {
        self.wait_for(Timespec::default())
    }

    /// Waits until it has ended, but not longer than `time`; whether it has.
    pub(crate) fn wait_for(&self, time: Timespec) -> bool {
        let Some(pidfd) = &self.pidfd else {
            return true;
        };
        let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
        let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, Some(&time)));
        polled != Ok(0)
    }

    /// Waits for the process to end of itself.
    pub(crate) fn wait(mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            drop(super::wait(pidfd.as_fd()));
        }
    }

    /// Lets go of a process that has executed another image and so stands on its own memory. `proof` is the first
    /// record that image sent.
    pub(crate) fn executed(mut self, _proof: crate::record::Started) -> Option<OwnedFd> {
        self.pidfd.take()
    }
}

impl<T> Drop for Sharing<T> {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            // It may have ended already; then there is nothing to kill.
            pidfd_send_signal(&pidfd, Signal::KILL).ok();
            drop(super::wait(pidfd.as_fd()));
        }
        if let Some(stack) = self.stack.take() {
            stack.give_back();
        }
    }
}

/// All signals blocked on this thread until dropped, so that no handler ever runs in the other process.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> Self {
        // SAFETY: a signal set is plain words.
        let mut every: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives here.
        unsafe { libc::sigfillset(&raw mut every) };
        // SAFETY: both sets live here.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const every, &raw mut before) };
        Self(before)
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one this thread had.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
    }
}
