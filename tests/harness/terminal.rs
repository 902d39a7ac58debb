//! A terminal with a person at it: a pseudo-terminal that is the controlling one of what runs at it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::capability::works;
use crate::runner::Run;
use crate::wait::{LIMIT, eventually};

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
}

/// What runs at a terminal. Killed when dropped.
#[derive(Debug)]
pub struct TerminalRun(Child);

impl Terminal {
    /// Opens one of `rows` and `columns`; `None` where nothing can be given a controlling terminal.
    ///
    /// # Panics
    /// The system has no terminal to give.
    #[must_use]
    pub fn open(rows: u16, columns: u16) -> Option<Self> {
        if !works(&["setsid", "--wait"]) {
            return None;
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal can be opened");
        grantpt(&master).expect("it can be granted");
        unlockpt(&master).expect("it can be unlocked");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("its other side opens");
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).expect("it takes a size");
        let terminal = Self {
            master: File::from(master),
            slave,
            shown: Arc::default(),
            stop: Arc::default(),
        };
        terminal.watch();
        Some(terminal)
    }

    fn watch(&self) {
        let master = self
            .master
            .try_clone()
            .expect("a descriptor can be doubled");
        let (shown, stop) = (Arc::clone(&self.shown), Arc::clone(&self.stop));
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::SeqCst) {
                let ready = poll(&mut [PollFd::new(&master, PollFlags::IN)], Some(&tick));
                if !matches!(ready, Ok(1..)) {
                    continue;
                }
                let Ok(read) = rustix::io::read(&master, &mut buffer) else {
                    return;
                };
                let bytes = buffer.get(..read).unwrap_or_default();
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(bytes);
            }
        });
    }

    /// Runs `run` at it: its three descriptors, and its controlling terminal.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn run(&self, run: Run) -> TerminalRun {
        let side = || Stdio::from(self.slave.try_clone().expect("a descriptor can be doubled"));
        let mut command = run.launched_by(["setsid", "--ctty"]).command();
        TerminalRun(
            command
                .stdin(side())
                .stdout(side())
                .stderr(side())
                .spawn()
                .expect("it starts"),
        )
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn types(&self, keys: &str) {
        (&self.master)
            .write_all(keys.as_bytes())
            .expect("a terminal takes keys");
    }

    /// What was shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    /// Waits until `text` is shown.
    pub fn shows(&self, text: &str) {
        let mut last = String::new();
        let what = format!("`{text}` on the terminal");
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, || {
                last = self.shown();
                last.contains(text).then_some(())
            });
        }));
        assert!(seen.is_ok(), "`{text}` was never shown; there is: {last}");
    }

    /// Its settings, in words: equal where they are.
    ///
    /// # Panics
    /// The terminal is gone.
    #[must_use]
    pub fn modes(&self) -> String {
        let modes = tcgetattr(&self.slave).expect("a terminal has settings");
        format!(
            "{:?} {:?} {:?} {:?}",
            modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl TerminalRun {
    /// Its number.
    ///
    /// # Panics
    /// Never: the kernel's numbers fit.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process number fits")
    }

    /// Waits for its exit status.
    ///
    /// # Panics
    /// It does not end in time.
    #[must_use]
    pub fn code(mut self) -> Option<i32> {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            assert!(
                Instant::now() < until,
                "what runs at the terminal did not end within {} s",
                LIMIT.as_secs()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TerminalRun {
    fn drop(&mut self) {
        // One that has ended needs neither.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}
