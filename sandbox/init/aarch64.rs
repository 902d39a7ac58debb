//! AArch64: the numbers of the system calls that the init uses, and the one call that comes back on another stack.

use core::arch::asm;

#[rustfmt::skip]
mod number {
    pub const READ: usize = 63; pub const WRITE: usize = 64; pub const OPENAT: usize = 56; pub const CLOSE: usize = 57;
    pub const PPOLL: usize = 73; pub const MMAP: usize = 222; pub const IOCTL: usize = 29; pub const CLONE: usize = 220;
    pub const SIGPROCMASK: usize = 135; pub const WAIT4: usize = 260; pub const KILL: usize = 129; pub const FCNTL: usize = 25;
    pub const SETSID: usize = 157; pub const PRCTL: usize = 167; pub const EXIT_GROUP: usize = 94;
    pub const SIGNALFD4: usize = 74; pub const EXECVEAT: usize = 281;
}
pub use number::*;

/// Starts a process as of `clone(2)` with `flags`, which hold `CLONE_VM`, that runs `function` on `argument` on the stack
/// that ends at `stack`. Answers its number, or a negated errno.
///
/// # Safety
/// Nobody else uses the stack, its end is aligned to 16, and whatever `function` uses of this memory outlives its use.
pub unsafe fn clone_onto(flags: usize, stack: usize, function: extern "C" fn(usize) -> !, argument: usize) -> isize {
    let result: isize;
    // SAFETY: the caller's word; only the new process takes the call, on its own stack, and it never comes back.
    unsafe {
        asm!("svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x5", "blr x6", "brk #1", "2:",
            in("x8") CLONE, inlateout("x0") flags => result, in("x1") stack, in("x2") 0usize, in("x3") 0usize,
            in("x4") 0usize, in("x5") argument, in("x6") function);
    }
    result
}
