//! The command's init: a static image without any library, process 1 of the command's process namespace.
//!
//! It starts the command, reaps whatever is orphaned, passes signals on, reports over descriptor 3 and ends, taking the
//! namespace with it, when the command ends or descriptor 4 reaches end of file (its runner is gone). It runs inside
//! every wall the command runs in. Where another program made the namespaces it first does what is left (`script`). Its first argument is for itself: how to execute (`d`: descriptor 5, `f`: descriptor 5
//! left open for an interpreter, `p`: the path that follows), terminal (`t`), outside a process namespace (`s`); the rest and the environment are the command's.
#![no_std]
#![no_main]

mod raw;

use core::mem::MaybeUninit;
use core::ptr::null;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// What differs by processor.
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod processor;
mod script;
mod sweep;

use processor::*;

const CONTROL: usize = 3;
const ORDERS: usize = 4;
const PROGRAM: usize = 5;
/// Bytes of stack until the command is executed.
const STACK: usize = 16 * 1024;

/// Kinds of record on the control descriptor; `sandbox/src/record.rs` reads them.
const STARTED: u32 = 1;
const EXEC_FAILED: u32 = 2;
const ENDED: u32 = 3;
const SET_UP_FAILED: u32 = 4;

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

fn report_step(place: u32, errno: u32) {
    let record = [SET_UP_FAILED, place, errno];
    call(WRITE, CONTROL, record.as_ptr() as usize, 12, 0, 0);
}

/// Entered with the initial stack: argument count, arguments, null, environment, null (System V ABI).
extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the kernel laid the stack out like this, and the runner always gives the init's own argument first.
    let (count, argv) = unsafe { (*stack, stack.add(1)) };
    // SAFETY: the environment starts behind the null that ends the arguments.
    let (own, envp) = unsafe { (*argv as *const u8, argv.add(count + 1)) };
    // SAFETY: an argument is at least its NUL. A path is what another program executed; the own one never begins so.
    let (argv, envp) = if unsafe { *own } == b'/' { script::follow() } else { (argv, envp) };
    // SAFETY: either way the own argument comes first.
    let own = unsafe { *argv as *const u8 };
    // SAFETY: the own argument is at least three characters and a NUL.
    let (how, terminal, outside) = unsafe { (*own, *own.add(1) == b't', *own.add(2) == b's') };
    call(PRCTL, 4, 0, 0, 0, 0); // PR_SET_DUMPABLE: the command may not look into its init
    if outside {
        call(PRCTL, 36, 1, 0, 0, 0); // PR_SET_CHILD_SUBREAPER
    }
    // The command's first moments share this memory, so that nothing is copied; they stand on a stack of their own.
    let stack = call(MMAP, 0, STACK, 3, 0x22, usize::MAX); // read-write, private, anonymous
    if stack < 0 {
        end(125);
    }
    // SAFETY: path mode has the path behind the three flags; the arguments behind the own one are the command's.
    let (path, argv) = unsafe { (own.add(3), argv.add(1)) };
    let start = Start { how, terminal, path, argv, envp, failed: AtomicU32::new(0) };
    let top = stack as usize + STACK;
    // CLONE_VM | CLONE_VFORK | SIGCHLD: resumes when the command is executed or has ended.
    // SAFETY: the stack is new, and `start` outlives the other process's use of it, since this one waits.
    let child = unsafe { clone_onto(0x4100 | 17, top, become_command, &raw const start as usize) };
    for descriptor in [0, 1, 2, PROGRAM] {
        call(CLOSE, descriptor, 0, 0, 0, 0);
    }
    let failed = if child < 0 { -child as u32 } else { start.failed.load(Relaxed) };
    if failed != 0 {
        report(EXEC_FAILED, failed);
        end(125);
    }
    report(STARTED, child as u32);
    serve(child as usize, outside)
}

/// What the command is to become.
struct Start {
    how: u8,
    terminal: bool,
    path: *const u8,
    argv: *const usize,
    envp: *const usize,
    /// The errno of an exec that failed.
    failed: AtomicU32,
}

extern "C" fn become_command(start: usize) -> ! {
    // SAFETY: `run` passes one, which it keeps while it waits.
    let start = unsafe { &*(start as *const Start) };
    call(SETSID, 0, 0, 0, 0, 0);
    if start.terminal {
        call(IOCTL, 0, 0x540e, 0, 0, 0); // TIOCSCTTY
    }
    call(CLOSE, CONTROL, 0, 0, 0, 0);
    call(CLOSE, ORDERS, 0, 0, 0, 0);
    if start.how == b'd' {
        call(FCNTL, PROGRAM, 2, 1, 0, 0); // F_SETFD, FD_CLOEXEC
    }
    let none = 0u64;
    call(SIGPROCMASK, 2, &raw const none as usize, 0, 8, 0); // SIG_SETMASK: nothing blocked
    let (argv, envp) = (start.argv as usize, start.envp as usize);
    let failed = match start.how {
        b'd' | b'f' => call(EXECVEAT, PROGRAM, c"".as_ptr() as usize, argv, envp, 0x1000), // AT_EMPTY_PATH
        _ => call(EXECVEAT, usize::MAX - 99, start.path as usize, argv, envp, 0), // AT_FDCWD
    };
    start.failed.store(-failed as u32, Relaxed);
    end(127)
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
        sweep::sweep(command);
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
