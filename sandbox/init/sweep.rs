//! What the init does where no process namespace ends what is left: it ends it itself.

use core::mem::MaybeUninit;
use core::ptr::null_mut;

use crate::call;
use crate::processor::*;

/// Outside a process namespace: ends what the command left behind, generation by generation, as far as the user may.
pub fn sweep(command: usize) {
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
