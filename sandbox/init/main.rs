//! The command's init: a static image without any library, process 1 of the command's process namespace.
//!
//! It starts the command, reaps whatever is orphaned, passes signals on, reports over descriptor 3 and ends, taking the
//! namespace with it, when the command ends or descriptor 4 reaches end of file (its runner is gone). It runs inside
//! every wall the command runs in. Its first argument is for itself: how to execute (`d`: descriptor 5, `f`: descriptor 5
//! left open for an interpreter, `p`: the path that follows), terminal (`t`), outside a process namespace (`s`); the rest and the environment are the command's.
#![no_std]
#![no_main]

mod raw;

use core::mem::MaybeUninit;
use core::ptr::{null, null_mut, read_volatile, write_volatile};

/// Numbers of the system calls used here.
#[rustfmt::skip]
#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0; pub const WRITE: usize = 1; pub const OPENAT: usize = 257; pub const CLOSE: usize = 3;
    pub const PPOLL: usize = 271; pub const MMAP: usize = 9; pub const IOCTL: usize = 16; pub const CLONE: usize = 56;
    pub const SIGPROCMASK: usize = 14; pub const WAIT4: usize = 61; pub const KILL: usize = 62; pub const FCNTL: usize = 72;
    pub const SETSID: usize = 112; pub const PRCTL: usize = 157; pub const EXIT_GROUP: usize = 231;
    pub const SIGNALFD4: usize = 289; pub const EXECVEAT: usize = 322;
}
/// Numbers of the system calls used here.
#[rustfmt::skip]
#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63; pub const WRITE: usize = 64; pub const OPENAT: usize = 56; pub const CLOSE: usize = 57;
    pub const PPOLL: usize = 73; pub const MMAP: usize = 222; pub const IOCTL: usize = 29; pub const CLONE: usize = 220;
    pub const SIGPROCMASK: usize = 135; pub const WAIT4: usize = 260; pub const KILL: usize = 129; pub const FCNTL: usize = 25;
    pub const SETSID: usize = 157; pub const PRCTL: usize = 167; pub const EXIT_GROUP: usize = 94;
    pub const SIGNALFD4: usize = 74; pub const EXECVEAT: usize = 281;
}
use number::*;

const CONTROL: usize = 3;
const ORDERS: usize = 4;
const PROGRAM: usize = 5;

/// Kinds of record on the control descriptor; `sandbox/src/record.rs` reads them.
const STARTED: u32 = 1;
const EXEC_FAILED: u32 = 2;
const ENDED: u32 = 3;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym run);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {}", "brk #1", sym run);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(125)
}

fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    // SAFETY: every pointer given below is to a live local, to the initial stack, or to the page mapped in `run`.
    unsafe { raw::syscall(number, [a, b, c, d, e, 0]) }
}

fn end(code: usize) -> ! {
    call(EXIT_GROUP, code, 0, 0, 0, 0);
    loop {}
}

fn report(kind: u32, value: u32) {
    let record = [kind, value, 0];
    call(WRITE, CONTROL, record.as_ptr() as usize, 12, 0, 0);
}

/// Entered with the initial stack: argument count, arguments, null, environment, null (System V ABI).
extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the kernel laid the stack out like this, and the runner always gives the init's own argument first.
    let (count, argv) = unsafe { (*stack, stack.add(1)) };
    // SAFETY: the environment starts behind the null that ends the arguments.
    let (own, envp) = unsafe { (*argv as *const u8, argv.add(count + 1)) };
    // SAFETY: the own argument is at least three characters and a NUL.
    let (how, terminal, outside) = unsafe { (*own, *own.add(1) == b't', *own.add(2) == b's') };
    call(PRCTL, 4, 0, 0, 0, 0); // PR_SET_DUMPABLE: the command may not look into its init
    if outside {
        call(PRCTL, 36, 1, 0, 0, 0); // PR_SET_CHILD_SUBREAPER
    }
    // One shared page carries the errno of a failed exec back: read-write, shared, anonymous.
    let page = call(MMAP, 0, 4096, 3, 0x21, usize::MAX);
    if page < 0 {
        end(125);
    }
    let errno = page as *mut u32;
    let child = call(CLONE, 0x4000 | 17, 0, 0, 0, 0); // CLONE_VFORK | SIGCHLD: resumes when the command is executed
    if child == 0 {
        // SAFETY: path mode has the path behind the three flags.
        let failed = become_command(how, unsafe { own.add(3) }, terminal, [argv as usize + 8, envp as usize]);
        // SAFETY: the page is mapped above and shared with the parent, which waits.
        unsafe { write_volatile(errno, failed) };
        end(127);
    }
    for descriptor in [0, 1, 2, PROGRAM] {
        call(CLOSE, descriptor, 0, 0, 0, 0);
    }
    // SAFETY: the page is mapped above, and the child has executed or ended.
    let failed = if child < 0 { -child as u32 } else { unsafe { read_volatile(errno) } };
    if failed != 0 {
        report(EXEC_FAILED, failed);
        end(125);
    }
    report(STARTED, child as u32);
    serve(child as usize, outside)
}

fn become_command(how: u8, path: *const u8, terminal: bool, [argv, envp]: [usize; 2]) -> u32 {
    call(SETSID, 0, 0, 0, 0, 0);
    if terminal {
        call(IOCTL, 0, 0x540e, 0, 0, 0); // TIOCSCTTY
    }
    call(CLOSE, CONTROL, 0, 0, 0, 0);
    call(CLOSE, ORDERS, 0, 0, 0, 0);
    if how == b'd' {
        call(FCNTL, PROGRAM, 2, 1, 0, 0); // F_SETFD, FD_CLOEXEC
    }
    let none = 0u64;
    call(SIGPROCMASK, 2, &raw const none as usize, 0, 8, 0); // SIG_SETMASK: nothing blocked
    let empty = c"".as_ptr() as usize;
    let failed = match how {
        b'd' | b'f' => call(EXECVEAT, PROGRAM, empty, argv, envp, 0x1000), // AT_EMPTY_PATH
        _ => call(EXECVEAT, usize::MAX - 99, path as usize, argv, envp, 0), // AT_FDCWD
    };
    -failed as u32
}

/// Reaps and passes signals on until the command has ended or the runner is gone.
fn serve(command: usize, outside: bool) -> ! {
    let child_ended = 1u64 << 16; // SIGCHLD
    let signals = call(SIGNALFD4, usize::MAX, &raw const child_ended as usize, 8, 0, 0) as usize;
    loop {
        let mut watched = [[signals as u32, 1], [ORDERS as u32, 1]]; // POLLIN
        call(PPOLL, watched.as_mut_ptr() as usize, 2, 0, 0, 0);
        if watched[1][1] >> 16 != 0 {
            let mut order = 0u8;
            if call(READ, ORDERS, &raw mut order as usize, 1, 0, 0) != 1 {
                break;
            }
            call(KILL, command.wrapping_neg(), order as usize, 0, 0, 0);
        }
        if watched[0][1] >> 16 != 0 {
            let mut notice = MaybeUninit::<[u64; 16]>::uninit();
            call(READ, signals, notice.as_mut_ptr() as usize, 128, 0, 0);
            if let Some(status) = reap(command) {
                report(ENDED, status);
                break;
            }
        }
    }
    if outside {
        sweep(command);
    }
    end(0)
}

fn reap(command: usize) -> Option<u32> {
    loop {
        let mut status = 0u32;
        let ended = call(WAIT4, usize::MAX, &raw mut status as usize, 1, null::<u8>() as usize, 0); // WNOHANG
        match ended {
            ended if ended == command as isize => return Some(status),
            1.. => {}
            _ => return None,
        }
    }
}

/// Outside a process namespace: ends what the command left behind, generation by generation, as far as the user may.
fn sweep(command: usize) {
    call(KILL, command.wrapping_neg(), 9, 0, 0, 0);
    for _ in 0..256 {
        let path = c"/proc/thread-self/children".as_ptr() as usize;
        let list = call(OPENAT, usize::MAX - 99, path, 0, 0, 0);
        let mut text = MaybeUninit::<[u64; 64]>::uninit();
        let read = call(READ, list as usize, text.as_mut_ptr() as usize, 512, 0, 0);
        call(CLOSE, list as usize, 0, 0, 0, 0);
        let (mut pid, mut at) = (0usize, 0);
        while list >= 0 && at < read {
            // SAFETY: `at` is below the number of bytes read into the buffer.
            match unsafe { *text.as_ptr().cast::<u8>().offset(at) } {
                digit @ b'0'..=b'9' => pid = pid * 10 + (digit - b'0') as usize,
                _ if pid > 1 => {
                    call(KILL, pid, 9, 0, 0, 0);
                    call(WAIT4, pid, null_mut::<u8>() as usize, 0, 0, 0);
                    pid = 0;
                }
                _ => {}
            }
            at += 1;
        }
        if read <= 0 {
            return;
        }
    }
}
