//! x86-64: the numbers of the system calls that the init uses, and the one call that comes back on another stack.

use core::arch::asm;

#[rustfmt::skip]
mod number {
    pub const READ: usize = 0; pub const WRITE: usize = 1; pub const OPENAT: usize = 257; pub const CLOSE: usize = 3;
    pub const PPOLL: usize = 271; pub const MMAP: usize = 9; pub const IOCTL: usize = 16; pub const CLONE: usize = 56;
    pub const SIGPROCMASK: usize = 14; pub const WAIT4: usize = 61; pub const KILL: usize = 62; pub const FCNTL: usize = 72;
    pub const SETSID: usize = 112; pub const PRCTL: usize = 157; pub const EXIT_GROUP: usize = 231;
    pub const SIGNALFD4: usize = 289; pub const EXECVEAT: usize = 322;
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
        asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r9", "call r12", "ud2", "2:",
            inlateout("rax") CLONE => result, in("rdi") flags, in("rsi") stack, in("rdx") 0usize, in("r10") 0usize,
            in("r8") 0usize, in("r9") argument, in("r12") function, lateout("rcx") _, lateout("r11") _);
    }
    result
}
