//! Keeps names that must not come into being, while a command runs: [`Keeper`].
//!
//! Nothing can be mounted where no name is, so a missing protected name is made as an empty directory for the command's
//! time and removed at its end, however that comes. A process of its own makes them while the command's is made: it
//! shares this program's memory (see `sys::clone`), so it costs no exec, and it outlives a runner that is killed. In the
//! ordinary case the runner removes the names itself, without waiting for anybody. Whoever does it does it only when the
//! whole process namespace is gone, and not while another run holds the name (a shared `flock` on the directory, which
//! runner and keeper have in common). A mode that nobody uses marks the directory as ours, so that the next run adopts
//! what a power cut left.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::error::SandboxError;
use crate::sys::child;
use crate::sys::clone::{Descriptors, Ended, Sharing};

/// The mark: nothing may be made inside, and the sticky bit on a directory that nobody can write.
pub(crate) const MARK: u32 = 0o1555;
/// How often a name may vanish between being made and being held.
const TRIES: usize = 16;
const HIGH: RawFd = 256;

/// Descriptors in one message; the kernel takes at most 253 (`unix(7)`).
const TOGETHER: usize = 64;
/// What the runner tells the keeper: whom to watch, with its descriptor; that nothing is left to do.
const WATCH: u8 = 1;
const DONE: u8 = 2;

/// Guards names until the command's namespace is gone.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: UnixStream,
    process: Sharing<Task>,
    names: Vec<Name>,
}

/// A name as the runner has it.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    parent: OwnedFd,
    /// The directory made there, with the lock that the keeper took; since [`Keeper::ready`].
    held: Option<OwnedFd>,
}

/// What the keeping process needs; numbers, because it has its own table of descriptors.
#[derive(Debug)]
struct Task {
    channel: RawFd,
    names: Vec<(RawFd, CString)>,
}

impl Keeper {
    /// Begins to make `paths`; [`Keeper::ready`] waits until they stand. Nothing to keep is no keeper.
    pub(crate) fn start(paths: &[PathBuf]) -> Result<Option<Self>, SandboxError> {
        let Some(first) = paths.first() else {
            return Ok(None);
        };
        let mut known = Vec::with_capacity(paths.len());
        let mut names = Vec::with_capacity(paths.len());
        for path in paths {
            let (parent, name) = parent_of(path).map_err(|source| failed(path, source))?;
            known.push((parent.as_raw_fd(), name));
            names.push(Name {
                path: path.clone(),
                parent,
                held: None,
            });
        }
        let prepared = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            let theirs = fcntl_dupfd_cloexec(&theirs, HIGH)?;
            let task = Task {
                channel: theirs.as_raw_fd(),
                names: known,
            };
            let process = Sharing::start(0, Descriptors::Copied, Box::new(task), keep)?;
            Ok(Self {
                channel: ours,
                process,
                names,
            })
        };
        prepared().map(Some).map_err(|source| failed(first, source))
    }

    /// Waits until every name stands and is held.
    pub(crate) fn ready(&mut self) -> Result<(), SandboxError> {
        let mut place = 0;
        while place < self.names.len() {
            let (answer, descriptors) = receive(self.channel.as_fd())
                .map_err(|error| self.failed_at(place, error.into()))?;
            let [errno, at] = answer;
            if errno != 0 {
                let at = usize::try_from(at).unwrap_or_default();
                let error = io::Error::from_raw_os_error(errno.cast_signed());
                return Err(self.failed_at(at, error));
            }
            if descriptors.is_empty() {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(self.failed_at(place, error));
            }
            for descriptor in descriptors {
                if let Some(name) = self.names.get_mut(place) {
                    name.held = Some(descriptor);
                }
                place += 1;
            }
        }
        Ok(())
    }

    fn failed_at(&self, place: usize, source: io::Error) -> SandboxError {
        let name = self.names.get(place);
        failed(
            name.map_or_else(|| Path::new(""), |name| name.path.as_path()),
            source,
        )
    }

    /// Names the process whose namespace the names are kept for.
    pub(crate) fn watch(&self, process: BorrowedFd<'_>) -> io::Result<()> {
        Ok(send(self.channel.as_fd(), &[WATCH], &[process])?)
    }

    /// Removes the names and lets the keeper go; to be called when the watched process is gone.
    ///
    /// The keeper closes the removed directories last and nobody waits for that here: a file system may take its time to
    /// free them. [`settle`] does.
    pub(crate) fn finish(self) {
        let mut left = false;
        for (name, (_, word)) in self.names.iter().zip(&self.process.task().names) {
            match &name.held {
                // Held by another run, or replaced by somebody: then it is not ours to remove.
                Some(held) => drop(remove(held.as_fd(), name.parent.as_fd(), word)),
                None => left = true,
            }
        }
        drop(self.names);
        if !left {
            // Where it cannot be told, it looks itself and finds nothing to do.
            send(self.channel.as_fd(), &[DONE], &[]).ok();
        }
        drop(self.channel);
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        ending.push(self.process);
    }
}

/// Keepers that have been told to go.
static ENDING: Mutex<Vec<Sharing<Task>>> = Mutex::new(Vec::new());

/// Waits until every keeper that was told to go is gone.
pub(crate) fn settle() {
    let ending = std::mem::take(&mut *ENDING.lock().unwrap_or_else(PoisonError::into_inner));
    ending.into_iter().for_each(Sharing::wait);
}

fn failed(path: &Path, source: io::Error) -> SandboxError {
    SandboxError::Placeholder {
        path: path.to_path_buf(),
        source,
    }
}

fn parent_of(path: &Path) -> io::Result<(OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = fcntl_dupfd_cloexec(File::open(parent)?, HIGH)?;
    Ok((parent, CString::new(name.as_bytes())?))
}

/// The keeping process. Its descriptors: 0 the channel, then the directories, then what it holds.
fn keep(task: &Task) -> Ended {
    // A session of its own, so that the terminal's signals do not reach it; the others are blocked.
    rustix::process::setsid().ok();
    rustix::process::umask(Mode::empty());
    let made = lay_out(task).and_then(|()| make_all(task));
    let outcome = made.and_then(|()| hand_over(task).map_err(|error| (error, 0)));
    let told = match outcome {
        Ok(()) => child::with_descriptor(0, wait_for_the_end),
        Err((error, place)) => {
            let code = error.raw_os_error().cast_unsigned();
            let answer = [code, u32::try_from(place).unwrap_or(u32::MAX)];
            child::with_descriptor(0, |channel| send(channel, &bytes(answer), &[])).ok();
            Ok(Left::Names)
        }
    };
    if told != Ok(Left::Nothing) {
        for (place, (_, name)) in task.names.iter().enumerate() {
            // Held by another run, or replaced by somebody: then it is not ours to remove.
            child::with_descriptor(held(task, place), |held| {
                child::with_descriptor(directory(place), |parent| remove(held, parent, name))
            })
            .ok();
        }
    }
    child::end()
}

/// What is left for the keeper to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Names,
    Nothing,
}

fn bytes(answer: [u32; 2]) -> [u8; 8] {
    let [one, two] = answer.map(u32::to_ne_bytes);
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(one.into_iter().chain(two)) {
        *place = byte;
    }
    bytes
}

/// Gives the runner what is held.
fn hand_over(task: &Task) -> Result<(), Errno> {
    let mut place = 0;
    while place < task.names.len() {
        let count = TOGETHER.min(task.names.len() - place);
        child::with_descriptors(held(task, place), count, |descriptors| {
            child::with_descriptor(0, |channel| send(channel, &bytes([0; 2]), descriptors))
        })?;
        place += count;
    }
    Ok(())
}

/// Sends `text` and `descriptors`, at most [`TOGETHER`]. Allocates nothing.
fn send(channel: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let text = [IoSlice::new(text)];
    rustix::net::sendmsg(channel, &text, &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// The keeper's next answer, and what came with it.
fn receive(channel: BorrowedFd<'_>) -> Result<([u32; 2], Vec<OwnedFd>), Errno> {
    let mut answer = [[0; 4]; 2];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let mut into = [IoSliceMut::new(answer.as_flattened_mut())];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(channel, &mut into, &mut control, flags)
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes != size_of_val(&answer) {
        return Err(Errno::PIPE);
    }
    Ok((answer.map(u32::from_ne_bytes), descriptors))
}

fn number(place: usize) -> RawFd {
    RawFd::try_from(place).unwrap_or(RawFd::MAX)
}

fn directory(place: usize) -> RawFd {
    number(place + 1)
}

fn held(task: &Task, place: usize) -> RawFd {
    number(task.names.len() + 1 + place)
}

fn lay_out(task: &Task) -> Result<(), (Errno, usize)> {
    child::dup_to(task.channel, 0).map_err(|error| (error, 0))?;
    for (place, (parent, _)) in task.names.iter().enumerate() {
        child::dup_to(*parent, directory(place)).map_err(|error| (error, place))?;
    }
    // Whatever else this program has open is not to be held by a process of its own.
    child::close_all_but(held(task, 0), RawFd::MAX).map_err(|error| (error, 0))
}

fn make_all(task: &Task) -> Result<(), (Errno, usize)> {
    for (place, (_, name)) in task.names.iter().enumerate() {
        let made = child::with_descriptor(directory(place), |parent| make(parent, name));
        let descriptor = made.map_err(|error| (error, place))?;
        child::dup_to(descriptor.as_raw_fd(), held(task, place)).map_err(|error| (error, place))?;
        if descriptor.as_raw_fd() == held(task, place) {
            std::mem::forget(descriptor);
        }
    }
    Ok(())
}

/// Makes or adopts the name and holds it.
fn make(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    for _ in 0..TRIES {
        let made = rustix::fs::mkdirat(parent, name.as_c_str(), Mode::from_raw_mode(MARK));
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let found = match rustix::fs::openat(parent, name.as_c_str(), flags, Mode::empty()) {
            // Another run removed it in this moment.
            Err(Errno::NOENT) => continue,
            // Something else took the name since the plan was made.
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::EXIST),
            other => other?,
        };
        if rustix::fs::fstat(&found)?.st_mode & 0o7777 != MARK {
            return Err(Errno::EXIST);
        }
        rustix::fs::flock(&found, FlockOperation::LockShared)?;
        if rustix::fs::fstat(&found)?.st_nlink > 0 {
            return Ok(found);
        }
    }
    Err(Errno::AGAIN)
}

/// Reads whom to watch until the runner says that nothing is left to do, or is gone: then waits until the watched process
/// is gone too.
fn wait_for_the_end(channel: BorrowedFd<'_>) -> Result<Left, Errno> {
    let mut watched = None;
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = match rustix::net::recvmsg(channel, &mut into, &mut control, flags) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut rights) = message {
                watched = rights.next();
            }
        }
        match (received.bytes, byte) {
            (1, [DONE]) => return Ok(Left::Nothing),
            (0, _) => break,
            _ => {}
        }
    }
    // Readable when the process and with it its whole namespace has ended. No process was named: no command ran.
    while let Some(process) = &watched {
        match rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    Ok(Left::Names)
}

/// Removes the name where it is still what is held and no other run holds it. Allocates nothing.
fn remove(held: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    rustix::fs::flock(held, FlockOperation::NonBlockingLockExclusive)?;
    // While the lock is held only this one removes it; gone already means that the name may be another's by now.
    if rustix::fs::fstat(held)?.st_nlink == 0 {
        return Ok(());
    }
    rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::REMOVEDIR)
}
