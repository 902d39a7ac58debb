//! Standard output that its reader may close: `agent-runner … | head`.
//!
//! Apart, so that every command that prints treats it alike: who has read enough has read enough, and what is left goes
//! nowhere, without an error.

use std::io::{self, ErrorKind, Stdout, Write};

/// Standard output.
pub(crate) struct Printed {
    out: Stdout,
    /// Whether nobody reads any more.
    closed: bool,
}

impl Printed {
    pub(crate) fn new() -> Self {
        Self {
            out: io::stdout(),
            closed: false,
        }
    }

    fn unless_closed<T>(
        &mut self,
        otherwise: T,
        done: impl FnOnce(&mut Stdout) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.closed {
            return Ok(otherwise);
        }
        match done(&mut self.out) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), |out| out.flush())
    }
}
