//! What comes back over the control descriptor: twelve bytes a record, from the set-up and then from the init.

use std::io::{ErrorKind, Read};

/// Kinds 1 to 3 are `init/main.rs`'s, 4 is the set-up's.
pub(crate) const STARTED: u32 = 1;
pub(crate) const EXEC_FAILED: u32 = 2;
pub(crate) const ENDED: u32 = 3;
pub(crate) const SET_UP_FAILED: u32 = 4;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// The command has been executed.
    Started(Started),
    /// The command could not be executed; an errno.
    ExecFailed(i32),
    /// The command has ended; a status as of `wait(2)`.
    Ended(i32),
    /// A step of the set-up failed: its place and an errno.
    SetUpFailed { step: usize, errno: i32 },
}

/// Proof that the other process stands on its own memory: the init, another image, has spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started(());

pub(crate) fn bytes(kind: u32, first: u32, second: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    let words = [kind, first, second].map(u32::to_ne_bytes);
    for (place, byte) in bytes.iter_mut().zip(words.as_flattened()) {
        *place = *byte;
    }
    bytes
}

/// The next record; `None` at the end, or where what came is no record.
pub(crate) fn read(control: &mut impl Read) -> Option<Record> {
    let mut words = [[0; 4]; 3];
    loop {
        match control.read_exact(words.as_flattened_mut()) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    let [kind, first, second] = words.map(u32::from_ne_bytes);
    match kind {
        STARTED => Some(Record::Started(Started(()))),
        EXEC_FAILED => Some(Record::ExecFailed(first.cast_signed())),
        ENDED => Some(Record::Ended(first.cast_signed())),
        SET_UP_FAILED => {
            let step = usize::try_from(first).ok()?;
            Some(Record::SetUpFailed {
                step,
                errno: second.cast_signed(),
            })
        }
        _ => None,
    }
}
