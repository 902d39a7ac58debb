//! Where a process works that helps this one: [`Beside`] it, on another processor.
//!
//! The kernel starts a process where its parent is, which then waits for it or makes it wait, though another processor is idle
//! (`sched(7)`).

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The other processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    processor: usize,
    all: CpuSet,
    others: CpuSet,
}

impl Beside {
    /// Beside the calling thread; `None` where it has one processor alone.
    pub(crate) fn this_thread() -> Option<Self> {
        let processor = sched_getcpu();
        let all = sched_getaffinity(None).ok()?;
        let mut others = all;
        others.unset(processor);
        (all.is_set(processor) && others.count() > 0).then_some(Self {
            processor,
            all,
            others,
        })
    }

    /// Sends a process there that has not run yet. Where it stays is a matter of time alone.
    pub(crate) fn send(&self, process: libc::pid_t) {
        sched_setaffinity(Pid::from_raw(process), &self.others).ok();
    }

    /// Goes there, where the new process runs before its parent goes on. Allocates nothing.
    pub(crate) fn go(&self) {
        if sched_getcpu() == self.processor {
            sched_setaffinity(None, &self.others).ok();
        }
    }

    /// The command may run wherever this program may. Allocates nothing.
    pub(crate) fn anywhere(&self) {
        sched_setaffinity(None, &self.all).ok();
    }
}
