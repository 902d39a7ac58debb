//! Being told of another process's system calls (`seccomp_unotify(2)`): what an ordinary thread of this program calls.
//!
//! Invariant: what is read of another process is bytes, which it may change while they are read; nothing of ours is
//! written there.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{answer, number, raw, word};

/// `SECCOMP_IOCTL_NOTIF_…` (`linux/seccomp.h`): direction, size of what is passed, `!`, number.
const RECEIVE: usize = 0xc050_2100;
const SEND: usize = 0xc018_2101;
const ID_VALID: usize = 0x4008_2102;
const SET_FLAGS: usize = 0x4008_2104;
/// Wakes watcher and watched on one processor, one after the other (kernel 6.6).
const SYNC_WAKE_UP: usize = 1;
/// Lets the call go on.
const CONTINUE: u32 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Notice {
    id: u64,
    pid: u32,
    flags: u32,
    call: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    id: u64,
    /// The thread, as this process sees it.
    pub(crate) thread: u32,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

fn ioctl(descriptor: BorrowedFd<'_>, request: usize, argument: usize) -> Result<usize, Errno> {
    let arguments = [word(descriptor), request, argument, 0, 0, 0];
    // SAFETY: callers in this file pass what the request takes, alive until the call returns.
    answer(unsafe { raw::syscall(number(libc::SYS_ioctl), arguments) })
}

/// Asks for the cheaper way of waking up, where the kernel has it.
pub(crate) fn prefer_one_processor(listener: BorrowedFd<'_>) {
    // An older kernel wakes up the dearer way.
    ioctl(listener, SET_FLAGS, SYNC_WAKE_UP).ok();
}

/// The next call; blocks where there is none. `ENOENT` where its caller has been ended meanwhile.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Call, Errno> {
    let mut notice = Notice::default();
    ioctl(listener, RECEIVE, &raw mut notice as usize)?;
    Ok(Call {
        id: notice.id,
        thread: notice.pid,
        number: u32::try_from(notice.call).unwrap_or(u32::MAX),
        arguments: notice.arguments,
    })
}

/// Whether the caller still waits: only then was what was read of it the caller's.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, call: &Call) -> bool {
    ioctl(listener, ID_VALID, &raw const call.id as usize).is_ok()
}

/// Lets the call go on to whatever else decides about it.
pub(crate) fn let_go_on(listener: BorrowedFd<'_>, call: &Call) -> Result<(), Errno> {
    respond(listener, call, 0, CONTINUE)
}

/// Answers the call with `errno`.
pub(crate) fn refuse(listener: BorrowedFd<'_>, call: &Call, errno: i32) -> Result<(), Errno> {
    respond(listener, call, -errno.abs().max(1), 0)
}

fn respond(listener: BorrowedFd<'_>, call: &Call, error: i32, flags: u32) -> Result<(), Errno> {
    let response = Response {
        id: call.id,
        value: 0,
        error,
        flags,
    };
    ioctl(listener, SEND, &raw const response as usize).map(drop)
}

/// Reads up to `into.len()` bytes at `address` of the process that `thread` belongs to. Answers how many there were.
pub(crate) fn read_memory(thread: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    let length = into.len();
    let local = [into.as_mut_ptr() as usize, length];
    let remote = [address, length];
    let thread = usize::try_from(thread).map_err(|_| Errno::SRCH)?;
    let [local, remote] = [&raw const local as usize, &raw const remote as usize];
    let arguments = [thread, local, 1, remote, 1, 0];
    // SAFETY: the kernel writes at most `length` bytes into `into`, which nobody else uses meanwhile; it only reads the
    // two descriptions, each one `struct iovec`, which live here.
    answer(unsafe { raw::syscall(number(libc::SYS_process_vm_readv), arguments) })
}

/// Room for a path (`PATH_MAX`).
const LONGEST_TEXT: usize = 4096;
/// The smallest page; a read that ends at a page's end does not fail for what lies behind it.
const PAGE: u64 = 4096;

/// The text at `address` up to its NUL.
pub(crate) fn read_text(thread: u32, address: u64) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    let mut at = address;
    while text.len() < LONGEST_TEXT {
        let mut bytes = [0_u8; 4096];
        let to_the_page = usize::try_from(PAGE - at % PAGE).unwrap_or(1);
        let part = bytes.get_mut(..to_the_page).ok_or(Errno::FAULT)?;
        let read = read_memory(thread, at, part)?;
        let part = part.get(..read).unwrap_or_default();
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            text.extend(part.get(..end).unwrap_or_default());
            return Ok(text);
        }
        if read == 0 {
            return Err(Errno::FAULT);
        }
        text.extend(part);
        at = at.saturating_add(u64::try_from(read).unwrap_or(0));
    }
    Err(Errno::NAMETOOLONG)
}
