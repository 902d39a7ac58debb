//! The caller's terminal as it was: a command that inherits it must not leave it raw (P8).

use std::os::fd::BorrowedFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The modes of the terminals among standard input, output and error.
#[derive(Debug)]
pub(crate) struct SavedTerminals([Option<Termios>; 3]);

fn standard() -> [BorrowedFd<'static>; 3] {
    [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
}

impl SavedTerminals {
    pub(crate) fn save() -> Self {
        // What is no terminal has no modes to save.
        Self(standard().map(|descriptor| tcgetattr(descriptor).ok()))
    }

    /// Puts back what has changed.
    pub(crate) fn restore(&self) {
        for (descriptor, saved) in standard().into_iter().zip(&self.0) {
            let Some(saved) = saved else { continue };
            if tcgetattr(descriptor).is_ok_and(|now| !same(&now, saved)) {
                // A terminal that has gone away has nothing to put back.
                tcsetattr(descriptor, OptionalActions::Drain, saved).ok();
            }
        }
    }
}

fn same(one: &Termios, other: &Termios) -> bool {
    one.input_modes == other.input_modes
        && one.output_modes == other.output_modes
        && one.control_modes == other.control_modes
        && one.local_modes == other.local_modes
}
