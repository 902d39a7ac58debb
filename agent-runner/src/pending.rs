//! The one line that a terminal shows while a review is pending; it is erased before anything else is written.

use std::io::{IsTerminal as _, Write as _};

/// The line, shown until it is dropped. Nothing where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct PendingLine {
    shown: bool,
}

impl PendingLine {
    /// Shows it.
    pub(crate) fn show() -> Self {
        let mut stderr = std::io::stderr();
        let shown = stderr.is_terminal()
            && write!(stderr, "Reviewing… (Ctrl-C takes the question back)").is_ok();
        Self { shown }
    }
}

impl Drop for PendingLine {
    fn drop(&mut self) {
        if self.shown {
            // ECMA-48: carriage return, erase to the end of the line. A terminal that is gone needs no erasing.
            write!(std::io::stderr(), "\r\x1b[K").unwrap_or_default();
        }
    }
}
