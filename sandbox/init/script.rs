//! What the init does first where another program made its namespaces: the system calls that are left of the set-up.
//!
//! They lie, with all they point at, in the file behind descriptor 7, which is made for the address it is put at
//! (`sandbox/src/bubblewrap/script.rs`). The first that fails is reported by its place, and everything ends.

use crate::processor::MMAP;
use crate::{call, end, raw, report_step};

/// Where the file stands in memory, and at most how much of it.
const AT: usize = 0x10_0000_0000;
const MOST: usize = 1 << 28;
const SCRIPT: usize = 7;

/// In place of a number: the next entries are passed over where a descriptor is held, or where none is; the two regions must
/// hold the same words; the end, with the arguments and the environment.
const PASS: usize = usize::MAX - 2;
const SAME: usize = usize::MAX - 1;
const END: usize = usize::MAX;
const ESTALE: usize = 116;

/// A number, six arguments, which of them are read from memory, where the result goes, and an errno that is none.
type Entry = [usize; 10];

/// Does all of it; answers the arguments, the init's own first, and the environment.
pub fn follow() -> (*const usize, *const usize) {
    // Read-write, private, at exactly this place.
    if call(MMAP, AT, MOST, 3, 0x10_0002, SCRIPT) != AT as isize {
        end(125);
    }
    let mut place = 0;
    loop {
        // SAFETY: the runner wrote entries from the beginning of the file to one that is the end.
        let [number, a, b, c, d, e, f, read, store, spared] = unsafe { *(AT as *const Entry).add(place) };
        let mut arguments = [a, b, c, d, e, f];
        if number == END {
            return (a as *const usize, b as *const usize);
        }
        if number == PASS {
            // SAFETY: the first is the address of a number in the file.
            let held = unsafe { *(a as *const i32) } >= 0;
            place += if held == (b == 1) { c + 1 } else { 1 };
            continue;
        }
        let result = if number == SAME {
            // SAFETY: both regions are in the file and as long as it says.
            let differs = (0..c).any(|word| unsafe { *(a as *const u64).add(word) != *(b as *const u64).add(word) });
            if differs { -(ESTALE as isize) } else { 0 }
        } else {
            for (bit, argument) in arguments.iter_mut().enumerate() {
                if read >> bit & 1 == 1 {
                    // SAFETY: such an argument is the address of a number in the file.
                    *argument = unsafe { *(*argument as *const i32) } as usize;
                }
            }
            // SAFETY: every pointer among the arguments is to something in the file, as long as the call needs it.
            unsafe { raw::syscall(number, arguments) }
        };
        if result < 0 && result.unsigned_abs() != spared {
            report_step(place as u32, result.unsigned_abs() as u32);
            end(125);
        }
        if store != 0 && result >= 0 {
            // SAFETY: the address of a number in the file.
            unsafe { *(store as *mut i32) = result as i32 };
        }
        place += 1;
    }
}
