//! Sees what the walls refuse while a command runs: [`Watcher`].
//!
//! A thread of its own is told by the kernel of the calls that change something or reach out (`seccomp_unotify(2)`), and of
//! those that the filters refuse. It answers the refused ones with their errno and lets every other go on to the walls,
//! which decide: nothing rests on what it reads, since the caller may change its memory at any moment. Where it cannot go
//! on the kernel answers all of them as missing. Invariant: a call that the filters refuse never goes on.

mod calls;
mod judge;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::denial::{Denials, SandboxDenial};
use crate::error::SandboxError;
use crate::plan::Plan;
use crate::seccomp::{self, Observing, Reading, Told};
use crate::sys::child;
use crate::sys::notify::{self, Call};
use calls::{Does, Start};
use judge::Judge;

/// Watches one command.
#[derive(Debug)]
pub(crate) struct Watcher(JoinHandle<Option<Denials>>);

/// A watcher that is not started yet: making its thread is left for when this process has nothing else to do.
pub(crate) struct Prepared {
    channel: UnixStream,
    judge: Judge,
    reading: Arc<Reading>,
}

impl Prepared {
    /// Starts it.
    pub(crate) fn start(self) -> Result<Watcher, SandboxError> {
        let watch = move || {
            let listener = receive(&self.channel)?;
            drop(self.channel);
            Some(
                Watch {
                    listener,
                    judge: self.judge,
                    reading: self.reading,
                    denials: Denials::default(),
                }
                .run(),
            )
        };
        let thread = std::thread::Builder::new()
            .name("walls".to_owned())
            .stack_size(128 * 1024);
        thread.spawn(watch).map(Watcher).map_err(failed)
    }
}

fn failed(source: io::Error) -> SandboxError {
    SandboxError::SetUp {
        step: "watch",
        object: PathBuf::from("the command"),
        source,
    }
}

impl Watcher {
    /// Prepares a watcher for `plan`, and answers the end of the channel that the listener comes over. No watcher where
    /// nothing is to be observed.
    pub(crate) fn prepare(plan: &Plan) -> Result<Option<(Prepared, OwnedFd)>, SandboxError> {
        if plan.observed() == Observing::Nothing || plan.filters().is_empty() {
            return Ok(None);
        }
        let (_, reading) = seccomp::compile(plan.filters(), plan.observed())?;
        let judge = Judge::of(plan);
        let (channel, theirs) = UnixStream::pair().map_err(failed)?;
        let prepared = Prepared {
            channel,
            judge,
            reading,
        };
        Ok(Some((prepared, theirs.into())))
    }

    /// What was seen; to be called when the command is gone. Nothing where another program watches already.
    pub(crate) fn finish(self) -> Option<Denials> {
        self.0.join().unwrap_or_default()
    }
}

/// Gives a descriptor, the watcher's listener for one, to the parent. In the new process: allocates nothing.
pub(crate) fn hand_over(listener: RawFd, channel: RawFd) -> Result<(), Errno> {
    child::with_descriptor(listener, |listener| {
        child::with_descriptor(channel, |channel| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [listener];
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(Errno::NOBUFS);
            }
            let text = [io::IoSlice::new(&[1])];
            // Never waits: the parent may read only after the last step.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            rustix::net::sendmsg(channel, &text, &mut control, flags).map(drop)
        })
    })
}

/// What was given so; nothing where none comes.
pub(crate) fn receive(channel: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        let mut into = [io::IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(channel, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .ok()?;
    control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            rights.next()
        } else {
            None
        }
    })
}

struct Watch {
    listener: OwnedFd,
    judge: Judge,
    reading: Arc<Reading>,
    denials: Denials,
}

/// What was read of a caller before it went on.
enum Seen {
    Path {
        base: PathBuf,
        text: PathBuf,
        does: Does,
    },
    Address {
        base: PathBuf,
        bytes: Vec<u8>,
    },
}

impl Watch {
    fn run(mut self) -> Denials {
        notify::prefer_one_processor(self.listener.as_fd());
        while self.wait() {
            match notify::receive(self.listener.as_fd()) {
                Ok(call) => self.take(&call),
                // Its caller was ended, or a signal came.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.denials
    }

    /// Waits for the next call; false when nobody is left who could make one.
    fn wait(&self) -> bool {
        let mut watched = [PollFd::new(&self.listener, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut watched, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        let [watched] = watched;
        watched.revents().contains(PollFlags::IN)
    }

    fn take(&mut self, call: &Call) {
        let listener = self.listener.as_fd();
        // The filters test the lower half of each argument, and so does their reading.
        let arguments = call.arguments.map(|argument| {
            let [a, b, c, d, ..] = argument.to_le_bytes();
            u32::from_le_bytes([a, b, c, d])
        });
        match self.reading.of(call.number, arguments) {
            Told::Refused { name, errno } => {
                let seen = self.look(call, name);
                // Where its caller is gone there is nobody to answer.
                notify::refuse(listener, call, errno).ok();
                let [family, ..] = arguments;
                if !self.judge(name, seen) {
                    self.denials.note(refused(name, family));
                }
            }
            Told::Watched { name } => {
                let seen = self.look(call, name);
                notify::let_go_on(listener, call).ok();
                self.judge(name, seen);
            }
        }
    }

    /// What `call` is about; nothing where its caller waits no longer, whose memory may be another's by then.
    fn look(&self, call: &Call, name: &str) -> Vec<Seen> {
        let seen = look(call, name);
        let true_to_it = notify::still_waits(self.listener.as_fd(), call);
        if true_to_it { seen } else { Vec::new() }
    }

    /// Notes what of it the plan does not open, and answers whether there was anything.
    fn judge(&mut self, name: &str, seen: Vec<Seen>) -> bool {
        let judged = seen
            .into_iter()
            .filter_map(|seen| judge(&self.judge, name, seen));
        let judged: Vec<_> = judged.collect();
        let any = !judged.is_empty();
        judged
            .into_iter()
            .for_each(|denial| self.denials.note(denial));
        any
    }
}

/// A call that is refused whatever it is about.
fn refused(name: &str, family: u32) -> SandboxDenial {
    match name {
        "socket" | "socketpair" => SandboxDenial::Socket {
            family: family_name(family),
        },
        name => SandboxDenial::SystemCall {
            name: name.to_owned(),
        },
    }
}

/// Reads what `call` is about. What cannot be read is left out: the walls decide without it.
fn look(call: &Call, name: &str) -> Vec<Seen> {
    if name == "connect" {
        return address(call).into_iter().collect();
    }
    let wants = calls::wants(name, call.arguments);
    let seen = wants.into_iter().filter_map(|(start, at, does)| {
        let text = notify::read_text(call.thread, at).ok()?;
        let text = PathBuf::from(std::ffi::OsString::from_vec(text));
        let base = if text.is_absolute() {
            PathBuf::new()
        } else {
            base(call.thread, start)?
        };
        let does = if let Does::OpenBy(at) = does {
            Does::Open(word(call.thread, at)?)
        } else {
            does
        };
        (!text.as_os_str().is_empty()).then_some(Seen::Path { base, text, does })
    });
    seen.collect()
}

fn word(thread: u32, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let read = notify::read_memory(thread, at, &mut bytes).ok()?;
    (read == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

fn address(call: &Call) -> Option<Seen> {
    let [_, at, length, ..] = call.arguments;
    let mut bytes = [0; 128];
    let length = usize::try_from(length).ok()?.min(bytes.len());
    let read = notify::read_memory(call.thread, at, bytes.get_mut(..length)?).ok()?;
    let bytes = bytes.get(..read)?.to_vec();
    let base = base(call.thread, Start::Here)?;
    Some(Seen::Address { base, bytes })
}

fn base(thread: u32, start: Start) -> Option<PathBuf> {
    let link = match start {
        Start::Here => format!("/proc/{thread}/cwd"),
        Start::Descriptor(number) => format!("/proc/{thread}/fd/{number}"),
    };
    let base = std::fs::read_link(link).ok()?;
    base.is_absolute().then_some(base)
}

fn judge(judge: &Judge, name: &str, seen: Seen) -> Option<SandboxDenial> {
    match seen {
        Seen::Path { base, text, does } => judge.path(name, &base, &text, does),
        Seen::Address { base, bytes } => judge.address(&base, &bytes),
    }
}

fn family_name(family: u32) -> String {
    let name = match i32::try_from(family).unwrap_or(-1) {
        libc::AF_UNIX => "AF_UNIX",
        libc::AF_INET => "AF_INET",
        libc::AF_INET6 => "AF_INET6",
        libc::AF_NETLINK => "AF_NETLINK",
        libc::AF_PACKET => "AF_PACKET",
        libc::AF_VSOCK => "AF_VSOCK",
        libc::AF_ALG => "AF_ALG",
        libc::AF_BLUETOOTH => "AF_BLUETOOTH",
        libc::AF_CAN => "AF_CAN",
        libc::AF_XDP => "AF_XDP",
        libc::AF_TIPC => "AF_TIPC",
        _ => return format!("address family {family}"),
    };
    name.to_owned()
}
