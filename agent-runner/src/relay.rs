//! What a command prints on its way to whoever captures it: [`Relay`], only where a bound or a filter was asked for, or where
//! the walls stand and a stream is a regular file: whoever has that open may change its mode and times (fchmod(2)).
//!
//! Without one the command has the caller's own descriptors and nothing here runs (design D27); a stream that is a terminal is
//! left alone as well. Invariant: never more than the bound is passed on, what is thrown away is counted, and a command
//! never waits for nobody: what it prints is read to its end or refused to it.

mod plain;

use std::fs::File;
use std::io::{self, IsTerminal as _, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sandbox::{Output, Walls};
use tokio::task::JoinHandle;

use crate::config::{Escapes, OutputLimits};
use plain::Plain;

/// What is still read after the command's end, in bytes: what fits into its pipe and a little more.
const LEFT_BEHIND: u64 = 2 << 20;
const PIECE: usize = 64 * 1024;

/// One of the runner's own streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

/// Takes what a command prints to where the runner's own output goes.
#[derive(Debug)]
pub(crate) struct Relay {
    pumps: Vec<JoinHandle<()>>,
    /// Closed at the command's end.
    running: PipeWriter,
    counted: Arc<Counted>,
}

/// What may still be passed on, and what was not.
#[derive(Debug)]
struct Counted {
    left: AtomicU64,
    thrown_away: AtomicU64,
}

impl Counted {
    /// How many of `bytes` may be passed on.
    fn take(&self, bytes: usize) -> usize {
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| Some(left.saturating_sub(wanted));
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .unwrap_or_default();
        let passed = wanted.min(left);
        self.thrown_away
            .fetch_add(wanted - passed, Ordering::Relaxed);
        usize::try_from(passed).unwrap_or(bytes)
    }
}

impl Relay {
    /// Begins to relay as `limits` say, and answers where the command is to print. `None` where there is nothing to do.
    ///
    /// # Errors
    /// No pipes can be made.
    pub(crate) fn begin(limits: OutputLimits, walls: Walls) -> io::Result<Option<(Self, Output)>> {
        let asked = limits.most.is_some() || limits.escapes != Escapes::Passed;
        let captured = |stream: BorrowedFd<'_>| {
            let kept = matches!(walls, Walls::Confined | Walls::Widened) && is_file(stream);
            (kept || (asked && !stream.is_terminal())).then_some(())
        };
        let output = captured(io::stdout().as_fd());
        let error = captured(io::stderr().as_fd());
        if (output, error) == (None, None) {
            return Ok(None);
        }
        let (end, running) = io::pipe()?;
        let end: Arc<OwnedFd> = Arc::new(end.into());
        let counted = Arc::new(Counted {
            left: AtomicU64::new(limits.most.unwrap_or(u64::MAX)),
            thrown_away: AtomicU64::new(0),
        });
        let mut pumps = Vec::new();
        let mut pump = |stream| -> io::Result<PipeWriter> {
            let (from, to) = io::pipe()?;
            let pump = Pump {
                from,
                stream,
                end: Arc::clone(&end),
                counted: Arc::clone(&counted),
                plain: (limits.escapes == Escapes::SpelledOut).then(Plain::default),
            };
            pumps.push(tokio::task::spawn_blocking(move || pump.run()));
            Ok(to)
        };
        let (output, error) = if output.is_some() && error.is_some() && lead_to_the_same() {
            // One pipe, so that lines keep their order.
            let both = pump(Stream::Output)?;
            (Some(both.try_clone()?), Some(both))
        } else {
            let output = output.map(|()| pump(Stream::Output)).transpose()?;
            (output, error.map(|()| pump(Stream::Error)).transpose()?)
        };
        let to = Output::To {
            output: output.map(OwnedFd::from),
            error: error.map(OwnedFd::from),
        };
        let relay = Self {
            pumps,
            running,
            counted,
        };
        Ok(Some((relay, to)))
    }

    /// Passes on what is still on its way; to be called when the command is gone. How many bytes were thrown away.
    ///
    /// # Errors
    /// A thread of the relay broke.
    pub(crate) async fn finish(self) -> io::Result<u64> {
        drop(self.running);
        for pump in self.pumps {
            pump.await.map_err(io::Error::other)?;
        }
        Ok(self.counted.thrown_away.load(Ordering::Relaxed))
    }
}

fn is_file(stream: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::RegularFile
    })
}

/// Whether standard output and error are the same file, as behind `2>&1`.
fn lead_to_the_same() -> bool {
    let identity = |stream: BorrowedFd<'_>| {
        let file = File::from(stream.try_clone_to_owned()?);
        file.metadata().map(|found| (found.dev(), found.ino()))
    };
    let [output, error] = [
        identity(io::stdout().as_fd()),
        identity(io::stderr().as_fd()),
    ];
    matches!((output, error), (Ok(output), Ok(error)) if output == error)
}

/// One stream's way.
struct Pump {
    from: PipeReader,
    stream: Stream,
    end: Arc<OwnedFd>,
    counted: Arc<Counted>,
    plain: Option<Plain>,
}

impl Pump {
    /// Until the command's side is closed, the command is gone, or nobody reads any more: then the command's next word finds
    /// a closed pipe.
    fn run(mut self) {
        let mut piece = vec![0; PIECE];
        let mut left_behind = LEFT_BEHIND;
        while left_behind > 0 {
            let Some(ended) = self.wait() else { break };
            let Ok(read @ 1..) = self.from.read(&mut piece) else {
                break;
            };
            if ended {
                left_behind = left_behind.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
            }
            if self.pass(piece.get(..read).unwrap_or_default()).is_err() {
                return;
            }
        }
        if let Some(plain) = self.plain.take() {
            let mut rest = Vec::new();
            plain.finish(&mut rest);
            // Nobody reads any more: there is nothing left to pass on.
            self.write(&rest).unwrap_or_default();
        }
    }

    /// Waits for something to read: whether the command has ended. `None` where nothing will come any more.
    fn wait(&self) -> Option<bool> {
        loop {
            let mut watched = [
                PollFd::new(&self.from, PollFlags::IN),
                PollFd::new(&*self.end, PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return None,
            }
            let [readable, ended] = watched.map(|watched| !watched.revents().is_empty());
            return readable.then_some(ended);
        }
    }

    fn pass(&mut self, piece: &[u8]) -> Result<(), Errno> {
        match &mut self.plain {
            None => self.write(piece),
            Some(plain) => {
                let mut out = Vec::with_capacity(piece.len());
                plain.pass(piece, &mut out);
                self.write(&out)
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        let passed = self.counted.take(bytes.len());
        let mut left = bytes.get(..passed).unwrap_or_default();
        let (output, error) = (io::stdout(), io::stderr());
        let to = match self.stream {
            Stream::Output => output.as_fd(),
            Stream::Error => error.as_fd(),
        };
        while !left.is_empty() {
            match rustix::io::write(to, left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
