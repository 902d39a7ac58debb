//! The system calls that no safe library offers: the only module tree of the crate with `unsafe`.
//!
//! [`clone`] starts a process that shares this process's memory until it executes something; [`child`] holds what such
//! a process may call; here is what an ordinary thread calls. Invariant: nothing outside this tree is `unsafe`, and
//! every function here is sound for every argument its types allow.
#![expect(
    unsafe_code,
    reason = "raw system calls; each block says what makes it sound"
)]

pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod notify;
#[path = "../init/raw.rs"]
mod raw;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// What a call that is only a number and plain words answered.
fn answer(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| {
        let code = i32::try_from(-result).unwrap_or(libc::EINVAL);
        Errno::from_raw_os_error(code)
    })
}

fn number(call: libc::c_long) -> usize {
    usize::try_from(call).unwrap_or(usize::MAX)
}

fn word(descriptor: BorrowedFd<'_>) -> usize {
    // The working directory stands for itself by a negative number.
    usize::from_ne_bytes(i64::from(descriptor.as_raw_fd()).to_ne_bytes())
}

/// Attributes of a mount to set; the layout of `struct mount_attr` (`mount_setattr(2)`, kernel 5.12).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) user_namespace: u64,
}

/// Changes the attributes of the mount at `path` below `directory`; with `AT_RECURSIVE` of all mounts below it too.
pub(crate) fn mount_setattr(
    directory: BorrowedFd<'_>,
    path: &CStr,
    attributes: MountAttributes,
    flags: libc::c_int,
) -> Result<(), Errno> {
    let flags = usize::try_from(flags | libc::AT_EMPTY_PATH).unwrap_or(0);
    let arguments = [
        word(directory),
        path.as_ptr() as usize,
        flags,
        &raw const attributes as usize,
        size_of::<MountAttributes>(),
        0,
    ];
    // SAFETY: the path is NUL-terminated and the attributes live until the call returns; the kernel only reads both.
    answer(unsafe { raw::syscall(number(libc::SYS_mount_setattr), arguments) }).map(drop)
}

/// The newest Landlock interface this kernel speaks; an error says that it has none (`ENOSYS`) or keeps it switched off
/// (`EOPNOTSUPP`).
pub(crate) fn landlock_abi() -> Result<u32, Errno> {
    let arguments = [0, 0, 1, 0, 0, 0];
    // SAFETY: asking for the version passes no pointer.
    let abi = answer(unsafe { raw::syscall(number(libc::SYS_landlock_create_ruleset), arguments) });
    abi.map(|abi| u32::try_from(abi).unwrap_or(0))
}

/// Whether this kernel can filter system calls and answer a filtered one with an errno.
pub(crate) fn seccomp_filters() -> Result<(), Errno> {
    let action = libc::SECCOMP_RET_ERRNO;
    let arguments = [2, 0, &raw const action as usize, 0, 0, 0];
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads four bytes, which live until the call returns.
    answer(unsafe { raw::syscall(number(libc::SYS_seccomp), arguments) }).map(drop)
}

/// What the kernel counted for a process that has ended, its reaped children included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) user_micros: u64,
    pub(crate) system_micros: u64,
    pub(crate) largest_kib: u64,
}

/// How a waited-for process came to its end, with what it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    pub(crate) signal: Option<i32>,
    pub(crate) counted: Counted,
}

/// Waits for the child behind `pidfd` to end and reaps it. `ECHILD` where it was reaped elsewhere.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Waited> {
    // SAFETY: both are plain numbers, for which all zero bytes are a value.
    let mut report: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let which = usize::try_from(libc::P_PIDFD).unwrap_or(0);
    let options = usize::try_from(libc::WEXITED | libc::__WALL).unwrap_or(0);
    let arguments = [
        which,
        word(pidfd.as_fd()),
        &raw mut report as usize,
        options,
        &raw mut usage as usize,
        0,
    ];
    loop {
        // SAFETY: the kernel writes one siginfo and one rusage, which live here.
        match answer(unsafe { raw::syscall(number(libc::SYS_waitid), arguments) }) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // SAFETY: waitid filled in the fields of SIGCHLD.
    let status = unsafe { report.si_status() };
    let micros = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Ok(Waited {
        signal: (report.si_code != libc::CLD_EXITED).then_some(status),
        counted: Counted {
            user_micros: micros(usage.ru_utime),
            system_micros: micros(usage.ru_stime),
            largest_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        },
    })
}
