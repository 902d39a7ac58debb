//! What a process may call that still stands on its parent's memory: raw system calls, without the C library.
//!
//! The C library keeps errno, locks and caches in memory that such a process shares with running threads; the kernel
//! does not. Invariant: nothing here allocates, locks, panics or touches thread-local state.

use std::ffi::{CString, OsString};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use rustix::io::Errno;

use super::clone::Ended;
use super::{answer, number, raw, word};

/// A NULL-terminated list of C strings that owns its strings.
#[derive(Debug)]
pub(crate) struct Words {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Words {
    /// Fails on a word with a NUL byte.
    pub(crate) fn new(words: Vec<OsString>) -> Result<Self, std::ffi::NulError> {
        let strings = words
            .into_iter()
            .map(|word| CString::new(word.into_vec()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(Self {
            pointers,
            _strings: strings,
        })
    }
}

fn call(name: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: callers in this file pass numbers, or pointers to values that live until the call returns.
    answer(unsafe { raw::syscall(number(name), arguments) })
}

fn signed(value: i64) -> usize {
    usize::from_ne_bytes(value.to_ne_bytes())
}

/// Ends this process at once.
pub(crate) fn end() -> Ended {
    loop {
        // Never returns; the loop says so to the compiler.
        call(libc::SYS_exit_group, [125, 0, 0, 0, 0, 0]).ok();
    }
}

/// Executes the image behind `image`.
pub(crate) fn execute(image: RawFd, arguments: &Words, environment: &Words) -> Errno {
    let path = c"".as_ptr() as usize;
    let empty_path = usize::try_from(libc::AT_EMPTY_PATH).unwrap_or(0);
    let lists = [arguments, environment].map(|words| words.pointers.as_ptr() as usize);
    let result = call(
        libc::SYS_execveat,
        [
            signed(image.into()),
            path,
            lists[0],
            lists[1],
            empty_path,
            0,
        ],
    );
    result.err().unwrap_or(Errno::INVAL)
}

/// Makes `descriptor` known as `target`, kept over an exec.
pub(crate) fn dup_to(descriptor: RawFd, target: RawFd) -> Result<(), Errno> {
    let [from, to] = [descriptor, target].map(|fd| signed(fd.into()));
    if from == to {
        // dup3 refuses this; clearing close-on-exec is all there is to do.
        return call(libc::SYS_fcntl, [from, 2, 0, 0, 0, 0]).map(drop);
    }
    call(libc::SYS_dup3, [from, to, 0, 0, 0, 0]).map(drop)
}

/// Closes every descriptor from `first` on but `kept`, which closes on exec.
pub(crate) fn close_all_but(first: RawFd, kept: RawFd) -> Result<(), Errno> {
    let close = |from: u32, to: u32| {
        let [from, to] = [from, to].map(|number| signed(number.into()));
        if from > to {
            Ok(0)
        } else {
            call(libc::SYS_close_range, [from, to, 0, 0, 0, 0])
        }
    };
    let [first, kept] = [first, kept].map(|fd| u32::try_from(fd).map_err(|_| Errno::BADF));
    let (first, kept) = (first?, kept?);
    close(first, kept.saturating_sub(1))?;
    close(kept.saturating_add(1).max(first), u32::MAX).map(drop)
}

/// Runs `using` on a descriptor that an earlier step opened, known by its number alone.
pub(crate) fn with_descriptor<T>(
    descriptor: RawFd,
    using: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if descriptor < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number came from a step of this process that keeps the descriptor open until the exec.
    using(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// Leaves what the flags (`CLONE_…`) name for its own (`unshare(2)`).
pub(crate) fn unshare(flags: libc::c_int) -> Result<(), Errno> {
    call(libc::SYS_unshare, [signed(flags.into()), 0, 0, 0, 0, 0]).map(drop)
}

/// Every signal back to its default: what the parent ignores or handles is not the command's business.
pub(crate) fn reset_signals() {
    // The kernel's sigaction: handler, flags, restorer, mask; all zero is the default action.
    let default = [0u64; 4];
    for signal in 1..=64 {
        let at = &raw const default as usize;
        // KILL and STOP cannot be set, and need not be.
        call(libc::SYS_rt_sigaction, [signal, at, 0, 8, 0, 0]).ok();
    }
}

/// Makes files from now on as `user` and `group`.
pub(crate) fn act_as(user: u32, group: u32) {
    // These calls answer with the former id and never fail; what comes of them shows at the next file.
    call(libc::SYS_setfsgid, [signed(group.into()), 0, 0, 0, 0, 0]).ok();
    call(libc::SYS_setfsuid, [signed(user.into()), 0, 0, 0, 0, 0]).ok();
}

/// Takes every capability but `kept` from the bounding set, so that no exec can bring one back.
pub(crate) fn bound_capabilities(kept: u64) -> Result<(), Errno> {
    for capability in 0..64_usize {
        if kept >> capability & 1 == 1 {
            continue;
        }
        let drop_one = signed(libc::PR_CAPBSET_DROP.into());
        match call(libc::SYS_prctl, [drop_one, capability, 0, 0, 0, 0]) {
            Ok(_) => {}
            Err(Errno::INVAL) if capability > 30 => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves the session keyring of the caller for an empty one of its own.
pub(crate) fn new_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: usize = 1;
    match call(libc::SYS_keyctl, [JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) {
        // A kernel without keyrings has none to leave.
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let [family, kind] = [libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC];
    let socket = call(
        libc::SYS_socket,
        [signed(family.into()), signed(kind.into()), 0, 0, 0, 0],
    )?;
    // struct ifreq: 16 bytes of name, then the flags; 40 bytes in all.
    let mut request = [0u8; 40];
    for (place, byte) in request.iter_mut().zip(b"lo") {
        *place = *byte;
    }
    let up = u8::try_from(libc::IFF_UP | libc::IFF_RUNNING)
        .unwrap_or(0)
        .to_ne_bytes();
    for (place, byte) in request.iter_mut().skip(16).zip(up) {
        *place = byte;
    }
    let set_flags = usize::try_from(libc::SIOCSIFFLAGS).unwrap_or(0);
    let result = call(
        libc::SYS_ioctl,
        [socket, set_flags, request.as_mut_ptr() as usize, 0, 0, 0],
    );
    call(libc::SYS_close, [socket, 0, 0, 0, 0, 0]).ok();
    result.map(drop)
}

/// Which protocol an option is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// IPv4.
    V4,
    /// IPv6, and IPv4 by it.
    V6,
}

/// Lets a socket of this network namespace stand for addresses that are not its own (`IP_TRANSPARENT`, ip(7)).
pub(crate) fn set_transparent(socket: RawFd, level: Level) -> Result<(), Errno> {
    let (level, option) = match level {
        Level::V4 => (libc::SOL_IP, libc::IP_TRANSPARENT),
        Level::V6 => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    };
    let on: libc::c_int = 1;
    let [socket, level, option] = [socket, level, option].map(|number| signed(number.into()));
    let at = std::ptr::from_ref(&on) as usize;
    let arguments = [socket, level, option, at, size_of_val(&on), 0];
    call(libc::SYS_setsockopt, arguments).map(drop)
}

/// `struct landlock_ruleset_attr`, newest form; older kernels accept it while the fields they lack are zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruleset {
    pub(crate) handled_files: u64,
    pub(crate) handled_network: u64,
    pub(crate) scoped: u64,
}

/// Makes an empty Landlock ruleset and answers its descriptor.
pub(crate) fn landlock_ruleset(ruleset: &Ruleset) -> Result<RawFd, Errno> {
    let at = std::ptr::from_ref(ruleset) as usize;
    let made = call(
        libc::SYS_landlock_create_ruleset,
        [at, size_of::<Ruleset>(), 0, 0, 0, 0],
    )?;
    RawFd::try_from(made).map_err(|_| Errno::BADF)
}

/// Allows `allowed` on everything beneath `beneath`.
pub(crate) fn landlock_allow(
    ruleset: RawFd,
    allowed: u64,
    beneath: BorrowedFd<'_>,
) -> Result<(), Errno> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: i32,
    }
    const PATH_BENEATH: usize = 1;
    let rule = PathBeneath {
        allowed,
        parent: i32::try_from(word(beneath)).unwrap_or(-1),
    };
    let at = &raw const rule as usize;
    call(
        libc::SYS_landlock_add_rule,
        [signed(ruleset.into()), PATH_BENEATH, at, 0, 0, 0],
    )
    .map(drop)
}

/// Puts this process under `ruleset`, for good, and closes it.
pub(crate) fn landlock_restrict(ruleset: RawFd) -> Result<(), Errno> {
    let ruleset = signed(ruleset.into());
    call(libc::SYS_landlock_restrict_self, [ruleset, 0, 0, 0, 0, 0])?;
    call(libc::SYS_close, [ruleset, 0, 0, 0, 0, 0]).map(drop)
}

/// Puts this process under a system call filter, for good.
pub(crate) fn seccomp_install(program: &[libc::sock_filter]) -> Result<(), Errno> {
    install(program, 0).map(drop)
}

/// The same, and answers the descriptor on which calls are told. A kernel before 5.19 lets a signal interrupt a call that
/// waits for its answer; one that has a watcher already answers `EBUSY`.
pub(crate) fn seccomp_install_watched(program: &[libc::sock_filter]) -> Result<RawFd, Errno> {
    const NEW_LISTENER: usize = 1 << 3;
    const WAIT_KILLABLE: usize = 1 << 5;
    let listener = match install(program, NEW_LISTENER | WAIT_KILLABLE) {
        Err(Errno::INVAL) => install(program, NEW_LISTENER),
        other => other,
    };
    RawFd::try_from(listener?).map_err(|_| Errno::BADF)
}

fn install(program: &[libc::sock_filter], flags: usize) -> Result<usize, Errno> {
    const SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let description = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let at = &raw const description as usize;
    call(libc::SYS_seccomp, [SET_MODE_FILTER, flags, at, 0, 0, 0])
}
