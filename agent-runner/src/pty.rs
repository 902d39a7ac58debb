//! The pseudo-terminal of `--tty`: the command's own, relayed to the person's.
//!
//! Invariant (P8): the person's terminal is as it was, whatever way the command ends: the guard that made it raw puts
//! it back when it is dropped.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// How often a change of the window's size is looked for, and the end of the relay.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The person's side of a pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Pty {
    master: File,
}

/// Opens a pseudo-terminal: our side, and the side that becomes the command's terminal.
///
/// # Errors
/// The system has none to give.
pub(crate) fn open() -> io::Result<(Pty, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    if let Ok(size) = tcgetwinsize(io::stdin()) {
        tcsetwinsize(&slave, size)?;
    }
    Ok((
        Pty {
            master: File::from(master),
        },
        slave,
    ))
}

impl Pty {
    /// Relays until the command's side is closed. Blocking: for a thread of its own.
    ///
    /// # Errors
    /// Either side breaks in a way that is not its end.
    pub(crate) fn relay(mut self) -> io::Result<()> {
        let _raw = RawTerminal::enter()?;
        let stdin = io::stdin();
        let mut stdin_open = true;
        let mut size = tcgetwinsize(&stdin).ok();
        loop {
            let mut fds = vec![PollFd::new(&self.master, PollFlags::IN)];
            if stdin_open {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let now = tcgetwinsize(&stdin).ok();
            if let Some(changed) = now.filter(|now| Some(*now) != size) {
                tcsetwinsize(&self.master, changed)?;
            }
            size = now.or(size);
            if ready.first() == Some(&true) && !self.pass_output()? {
                return Ok(());
            }
            if ready.get(1) == Some(&true) {
                stdin_open = self.pass_input()?;
            }
        }
    }

    /// From the command to the person; `false` at its end, which a pseudo-terminal tells as EIO.
    fn pass_output(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match self.master.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(read) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(buffer.get(..read).unwrap_or_default())?;
                stdout.flush()?;
                Ok(true)
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// From the person to the command; `false` when the person's side has ended.
    fn pass_input(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4 * 1024];
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => {
                // The end of a pipe is told to the command as a terminal tells it: end of transmission.
                self.master.write_all(&[4])?;
                Ok(false)
            }
            Ok(read) => self
                .master
                .write_all(buffer.get(..read).unwrap_or_default())
                .map(|()| true),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// The person's terminal in raw mode, until this is dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no restoring.
            tcsetattr(io::stdin(), OptionalActions::Flush, before).unwrap_or_default();
        }
    }
}
