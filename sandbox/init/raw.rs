//! The one instruction that enters the kernel, for the two processors this project knows.
//!
//! Shared by the init (which has no library at all) and by the set-up between clone and exec (which may not touch the
//! C library's thread-local errno, because it shares memory with a running thread).

use core::arch::asm;

/// Enters the kernel. A result in `-4095..0` is a negated errno.
///
/// # Safety
/// What the call does must be sound for the caller: every pointer in `args` valid for what the call reads or writes.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 system call convention; the kernel clobbers rcx and r11 alone. The rest is the caller's word.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Enters the kernel. A result in `-4095..0` is a negated errno.
///
/// # Safety
/// What the call does must be sound for the caller: every pointer in `args` valid for what the call reads or writes.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the AArch64 system call convention; the kernel keeps every register but x0. The rest is the caller's word.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    result
}
