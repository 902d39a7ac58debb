//! Starting a planned command and waiting for it: signals handed on, the terminal relayed, the end read.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use sandbox::{Ahead, Command, Plan, Run, Running, Sandbox, SandboxError, Terminal, Walls};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::OutputLimits;
use crate::door::{DoorEnd, OpenDoor};
use crate::failure::{Failure, NOT_FOUND, NOT_PERMITTED};
use crate::pty::{self, Pty};
use crate::relay::Relay;
use crate::request::{RunRequest, TerminalWish};
use crate::signals::{EndSignal, Signals};

/// How long a command may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);
/// How many interrupts in a row are taken to mean it.
const INTERRUPTS: u32 = 3;

/// What the command has for a screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    terminal: TerminalWish,
    output: OutputLimits,
}

/// What a command starts with, beside its plan.
#[derive(Debug)]
pub(crate) struct Stage {
    /// What was begun before the plan was known.
    pub(crate) ahead: Option<Ahead>,
    /// What it has for a screen.
    pub(crate) screen: Screen,
    /// What serves its network, where that has a door.
    pub(crate) door: Option<OpenDoor>,
}

impl Stage {
    /// Of a command that needs neither a beginning nor a network.
    pub(crate) fn bare(request: &RunRequest) -> Self {
        Self {
            ahead: None,
            screen: Screen::of(request, OutputLimits::default()),
            door: None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// What the sandbox says of it.
    pub(crate) run: Run,
    /// What its network was, where it had a door.
    pub(crate) network: Option<DoorEnd>,
    /// Bytes that it printed beyond what is passed on.
    pub(crate) thrown_away: u64,
    /// The signal after which the runner had to end it.
    ended_after: Option<EndSignal>,
    /// Whether a signal was handed on to it.
    call: Call,
}

/// Whether somebody wanted a command to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Nobody did.
    None,
    /// A signal was handed on.
    Signalled,
}

impl Screen {
    /// What `request` asks for, of which no more is passed on than `usual` says.
    pub(crate) fn of(request: &RunRequest, usual: OutputLimits) -> Self {
        Self {
            terminal: request.terminal,
            output: usual.over(request.max_output, request.escapes),
        }
    }
}

impl Ending {
    /// The exit status that passes the command's end on: its own, or 128 and the signal's number.
    pub(crate) fn exit_code(&self) -> u8 {
        match (self.ended_after, self.run.ending) {
            (Some(signal), _) => signal.exit_code(),
            (None, sandbox::Ending::Exited(code)) => code,
            (None, sandbox::Ending::Signalled(signal)) => {
                u8::try_from(signal).unwrap_or(127).saturating_add(128)
            }
        }
    }

    /// Whether somebody wanted it to end.
    pub(crate) fn call(&self) -> Call {
        self.call
    }

    /// The signal that ended the command.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self.run.ending {
            sandbox::Ending::Exited(_) => None,
            sandbox::Ending::Signalled(signal) => Some(signal),
        }
    }
}

/// Runs `command` by `plan` to its end, in what was begun `ahead` where it fits.
///
/// # Errors
/// It could not be started: nothing of it ran.
pub(crate) async fn launch(
    plan: &Plan,
    command: Command,
    stage: Stage,
    signals: &mut Signals,
) -> Result<Ending, Failure> {
    let (command, pty, output) = with_screen(command, stage.screen, plan.walls())?;
    let running = match stage.ahead {
        Some(ahead) => Sandbox::start_in(ahead, plan, command),
        None => Sandbox::start(plan, command),
    };
    let mut running = running.map_err(start_failure)?;
    let relay = pty.map(|pty| tokio::task::spawn_blocking(move || pty.relay()));
    let ((ended_after, call), network) = match (stage.door, running.take_door()) {
        (Some(mut door), Some(sockets)) => {
            let served = Box::pin(door.serve_while(sockets, wait(&running, signals))).await;
            // Dropped with the command still running, where the door could not be served: that ends it.
            (served?, Some(Box::pin(door.close()).await))
        }
        // Sockets that nobody serves are closed here, and whatever wants out is refused.
        (_, _unserved) => (wait(&running, signals).await?, None),
    };
    let run = running.wait()?;
    if let Some(relay) = relay {
        relay.await.map_err(io::Error::other)??;
    }
    let thrown_away = match output {
        Some(output) => output.finish().await?,
        None => 0,
    };
    Ok(Ending {
        run,
        network,
        thrown_away,
        ended_after,
        call,
    })
}

fn with_screen(
    command: Command,
    screen: Screen,
    walls: Walls,
) -> io::Result<(Command, Option<Pty>, Option<Relay>)> {
    match screen.terminal {
        TerminalWish::Inherit => Ok(match Relay::begin(screen.output, walls)? {
            Some((relay, to)) => (command.with_output(to), None, Some(relay)),
            None => (command, None, None),
        }),
        TerminalWish::Own => {
            let (pty, slave): (Pty, OwnedFd) = pty::open()?;
            Ok((command.with_terminal(Terminal::Pty(slave)), Some(pty), None))
        }
    }
}

/// Waits for the end, handing signals on. A command that was told to end and does not is ended.
async fn wait(running: &Running, signals: &mut Signals) -> io::Result<(Option<EndSignal>, Call)> {
    let mut call = Call::None;
    let ended = watched(running.as_fd().try_clone_to_owned()?)?;
    let mut interrupts = 0;
    let mut told: Option<(EndSignal, tokio::time::Instant)> = None;
    loop {
        let patience = told.map(|(_, deadline)| deadline);
        tokio::select! {
            ready = ended.readable() => {
                ready?.retain_ready();
                return Ok((None, call));
            }
            signal = signals.next() => {
                call = Call::Signalled;
                // A command that has just ended takes no signal any more; its end is read next.
                running.signal(signal.number()).unwrap_or_default();
                interrupts += u32::from(signal == EndSignal::Interrupt);
                if signal != EndSignal::Interrupt || interrupts >= INTERRUPTS {
                    told.get_or_insert_with(|| (signal, tokio::time::Instant::now() + GRACE));
                }
            }
            () = sleep_until(patience) => {
                running.kill().unwrap_or_default();
                return Ok((told.map(|(signal, _)| signal), call));
            }
        }
    }
}

/// A descriptor as the runtime watches it.
#[expect(
    deprecated,
    reason = "the successor is unsafe and wants what an OwnedFd is: a descriptor that nobody else closes"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn start_failure(error: SandboxError) -> Failure {
    let failure = Failure::runner(&error);
    if matches!(error, SandboxError::NotFound { .. }) {
        Failure {
            code: NOT_FOUND,
            ..failure
        }
    } else if matches!(error, SandboxError::NotExecutable { .. }) {
        Failure {
            code: NOT_PERMITTED,
            ..failure
        }
    } else {
        failure
    }
}
