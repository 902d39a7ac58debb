//! Keeps names that must not come into being, while a command runs: [`Keeper`].
//!
//! Nothing can be mounted where no name is, so a missing protected name is made for the command's time and removed at its
//! end, however that comes. It is made as a socket that nobody listens on: a tenth of the price of a folder, and nothing
//! that git lists; all of one folder are names of one socket. A process of its own makes them while the command's is made, on another processor: it shares this program's memory (see
//! `sys::clone`), so it costs no exec, and it outlives a runner that is killed. In the ordinary case the runner removes the
//! names itself, without waiting for anybody. Whoever does it does it only when the whole process namespace is gone, and
//! not while another run keeps names in the same folder (a shared `flock` on the folder, by one open file that runner and
//! keeper have in common; the last to leave gets it alone). A mode that nobody uses marks the names as ours, so that the
//! next run adopts what a power cut left.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::beside::Beside;
use crate::error::SandboxError;
use crate::sys::child;
use crate::sys::clone::{Descriptors, Ended, Sharing};

/// The mark: a mode with the sticky bit and without a right to write.
const MARK: u32 = 0o1555;
/// How often, and how long apart, a folder is asked for that another run is just leaving or another program holds alone.
const TRIES: usize = 200;
const APART: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
const HIGH: RawFd = 256;

/// What the runner tells the keeper: whom to watch, with its descriptor; that nothing is left to do.
const WATCH: u8 = 1;
const DONE: u8 = 2;

/// Guards names until the command's namespace is gone.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: UnixStream,
    process: Sharing<Task>,
    folders: Vec<OwnedFd>,
    paths: Vec<PathBuf>,
}

/// What the keeping process needs; numbers, because it has its own table of descriptors.
#[derive(Debug)]
struct Task {
    channel: RawFd,
    folders: Vec<RawFd>,
    /// Each name with the place of its folder.
    names: Names,
    /// Whether every name stands.
    ready: AtomicBool,
}

impl Keeper {
    /// Begins to make `paths`; [`Keeper::ready`] waits until they stand. Nothing to keep is no keeper.
    pub(crate) fn start(paths: &[PathBuf]) -> Result<Option<Self>, SandboxError> {
        let Some(first) = paths.first() else {
            return Ok(None);
        };
        let (folders, names) = folders_of(paths)?;
        let prepared = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            let theirs = fcntl_dupfd_cloexec(&theirs, HIGH)?;
            let task = Task {
                channel: theirs.as_raw_fd(),
                folders: folders.iter().map(AsRawFd::as_raw_fd).collect(),
                names,
                ready: AtomicBool::new(false),
            };
            let process = Sharing::start(0, Descriptors::Copied, Box::new(task), keep)?;
            if let Some(beside) = Beside::this_thread() {
                beside.send(process.pid());
            }
            Ok(Self {
                channel: ours,
                process,
                folders,
                paths: paths.to_vec(),
            })
        };
        prepared().map(Some).map_err(|source| failed(first, source))
    }

    /// Waits until every name stands.
    pub(crate) fn ready(&mut self) -> Result<(), SandboxError> {
        let answer = receive(self.channel.as_fd());
        let [errno, at] = answer.map_err(|error| self.failed_at(0, error.into()))?;
        if errno == 0 {
            return Ok(());
        }
        let at = usize::try_from(at).unwrap_or_default();
        let error = io::Error::from_raw_os_error(errno.cast_signed());
        Err(self.failed_at(at, error))
    }

    fn failed_at(&self, place: usize, source: io::Error) -> SandboxError {
        let path = self.paths.get(place);
        failed(path.map_or_else(|| Path::new(""), PathBuf::as_path), source)
    }

    /// Names the process whose namespace the names are kept for.
    pub(crate) fn watch(&self, process: BorrowedFd<'_>) -> io::Result<()> {
        Ok(send(self.channel.as_fd(), &[WATCH], &[process])?)
    }

    /// Removes the names and lets the keeper go; to be called when the watched process is gone.
    ///
    /// Nobody waits here for the keeper to end when there is nothing left for it to do; [`settle`] does.
    pub(crate) fn finish(self) {
        // Whatever it still makes it removes by itself, when it finds nobody at the other end.
        if !self.process.task().ready.load(Ordering::Acquire) {
            drop(self.channel);
            return self.process.wait();
        }
        let task = self.process.task();
        for (place, folder) in self.folders.iter().enumerate() {
            remove_all(folder.as_fd(), task, place);
        }
        // Where it cannot be told, it looks itself and finds nothing to do.
        send(self.channel.as_fd(), &[DONE], &[]).ok();
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

/// Names with the place of their folder.
type Names = Vec<(usize, CString)>;

/// The folders of `paths`, each opened once, and each name with the place of its folder.
fn folders_of(paths: &[PathBuf]) -> Result<(Vec<OwnedFd>, Names), SandboxError> {
    let mut known: Vec<&Path> = Vec::new();
    let mut folders = Vec::new();
    let mut names = Vec::with_capacity(paths.len());
    for path in paths {
        let open = |parent: &Path| -> io::Result<OwnedFd> {
            Ok(fcntl_dupfd_cloexec(File::open(parent)?, HIGH)?)
        };
        let name = |name: &OsStr| CString::new(name.as_bytes()).ok();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(name)) else {
            return Err(failed(path, io::ErrorKind::InvalidInput.into()));
        };
        let place = known.iter().position(|folder| *folder == parent);
        if place.is_none() {
            folders.push(open(parent).map_err(|source| failed(path, source))?);
            known.push(parent);
        }
        names.push((place.unwrap_or(known.len() - 1), name));
    }
    Ok((folders, names))
}

/// Whether what was found under a protected name was made by a run that is still going on, or was cut off.
pub(crate) fn is_kept_free(found: &Metadata) -> bool {
    let kind = found.file_type();
    (kind.is_socket() || kind.is_dir()) && found.mode() & 0o7777 == MARK
}

/// The keeping process. Its descriptors: 0 the channel, then the folders.
fn keep(task: &Task) -> Ended {
    // A session of its own, so that the terminal's signals do not reach it; the others are blocked.
    rustix::process::setsid().ok();
    rustix::process::umask(Mode::empty());
    let made = lay_out(task).and_then(|()| make_all(task));
    let (answer, outcome) = match made {
        Ok(()) => ([0; 2], Ok(())),
        Err((error, place)) => {
            let code = error.raw_os_error().cast_unsigned();
            ([code, u32::try_from(place).unwrap_or(u32::MAX)], Err(error))
        }
    };
    task.ready.store(outcome.is_ok(), Ordering::Release);
    let told = child::with_descriptor(0, |channel| {
        send(channel, &bytes(answer), &[])?;
        outcome?;
        wait_for_the_end(channel)
    });
    if told != Ok(Left::Nothing) {
        for place in 0..task.folders.len() {
            child::with_descriptor(folder(place), |folder| {
                remove_all(folder, task, place);
                Ok(())
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

/// Sends `text` and at most one descriptor. Allocates nothing.
fn send(channel: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let text = [IoSlice::new(text)];
    rustix::net::sendmsg(channel, &text, &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// The keeper's answer.
fn receive(channel: BorrowedFd<'_>) -> Result<[u32; 2], Errno> {
    let mut answer = [[0; 4]; 2];
    let (_, received) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(channel, answer.as_flattened_mut(), RecvFlags::WAITALL)
    })?;
    if received != size_of_val(&answer) {
        return Err(Errno::PIPE);
    }
    Ok(answer.map(u32::from_ne_bytes))
}

fn folder(place: usize) -> RawFd {
    RawFd::try_from(place + 1).unwrap_or(RawFd::MAX)
}

fn lay_out(task: &Task) -> Result<(), (Errno, usize)> {
    child::dup_to(task.channel, 0).map_err(|error| (error, 0))?;
    for (place, number) in task.folders.iter().enumerate() {
        child::dup_to(*number, folder(place)).map_err(|error| (error, 0))?;
    }
    // Whatever else this program has open is not to be held by a process of its own.
    child::close_all_but(folder(task.folders.len()), RawFd::MAX).map_err(|error| (error, 0))
}

/// Holds every folder, then makes the names: a run that leaves has either removed them before or leaves them.
fn make_all(task: &Task) -> Result<(), (Errno, usize)> {
    for place in 0..task.folders.len() {
        child::with_descriptor(folder(place), hold).map_err(|error| (error, 0))?;
    }
    let mut before: Option<(usize, &CString)> = None;
    for (at, (place, name)) in task.names.iter().enumerate() {
        let known = before.filter(|(folder, _)| folder == place);
        let known = known.map(|(_, name)| name.as_c_str());
        child::with_descriptor(folder(*place), |folder| make(folder, name, known))
            .map_err(|error| (error, at))?;
        before = Some((*place, name));
    }
    Ok(())
}

fn hold(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    for _ in 0..TRIES {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => continue,
            other => return other,
        }
        // Woken up early it asks early.
        drop(rustix::thread::nanosleep(&APART));
    }
    Err(Errno::AGAIN)
}

/// Makes or adopts the name, by preference as one more name of what is `known` to stand in the same folder: a file system
/// that has just had files removed looks long for the number of a new one (ext4 leaves theirs alone for half a minute).
fn make(folder: BorrowedFd<'_>, name: &CStr, known: Option<&CStr>) -> Result<(), Errno> {
    if known.is_some_and(|known| link(folder, known, name).is_ok()) {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(MARK);
    match rustix::fs::mknodat(folder, name, FileType::Socket, mode, 0) {
        // Something else took the name since the plan was made, or another run made it.
        Err(Errno::EXIST) if made_by_a_run(folder, name)?.is_some() => Ok(()),
        other => other,
    }
}

/// One more name of what a run made. Whatever else has come to stand under `known` gets none.
fn link(folder: BorrowedFd<'_>, known: &CStr, name: &CStr) -> Result<(), Errno> {
    rustix::fs::linkat(folder, known, folder, name, AtFlags::empty())?;
    if made_by_a_run(folder, name)?.is_some() {
        return Ok(());
    }
    rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
    Err(Errno::EXIST)
}

/// What kind of thing a run made under this name; nothing where it is somebody else's.
fn made_by_a_run(folder: BorrowedFd<'_>, name: &CStr) -> Result<Option<FileType>, Errno> {
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let ours =
        matches!(kind, FileType::Socket | FileType::Directory) && found.st_mode & 0o7777 == MARK;
    Ok(ours.then_some(kind))
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

/// Removes the names of one folder, where no other run keeps names in it. Allocates nothing.
fn remove_all(folder: BorrowedFd<'_>, task: &Task, place: usize) {
    // While it is held alone nobody adopts a name in it.
    if rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    for (_, name) in task.names.iter().filter(|(at, _)| *at == place) {
        // Gone, or somebody else's: then it is not ours to remove.
        let Ok(Some(kind)) = made_by_a_run(folder, name) else {
            continue;
        };
        let flags = if kind == FileType::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(folder, name.as_c_str(), flags).ok();
    }
    rustix::fs::flock(folder, FlockOperation::Unlock).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            use std::sync::atomic::AtomicU32;
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("sandbox-keeper-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn folder(&self) -> File {
            File::open(&self.0).unwrap()
        }

        fn inode(&self, name: &str) -> Option<u64> {
            let found = self.0.join(name).symlink_metadata();
            found.ok().map(|found| found.ino())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn names_of_a_folder_are_names_of_one_socket() {
        let scratch = Scratch::new();
        let folder = scratch.folder();
        make(folder.as_fd(), c".git", None).unwrap();
        make(folder.as_fd(), c".agents", Some(c".git")).unwrap();
        // Made by a run before, and still there.
        make(folder.as_fd(), c".agents", Some(c".git")).unwrap();
        assert!(scratch.inode(".git").is_some());
        assert_eq!(scratch.inode(".git"), scratch.inode(".agents"));
    }

    /// Another program may put its own file in the place of one that a name is to be added to.
    #[test]
    fn no_file_of_others_gets_a_protected_name() {
        let scratch = Scratch::new();
        let folder = scratch.folder();
        std::fs::write(scratch.0.join(".git"), "somebody's").unwrap();
        make(folder.as_fd(), c".agents", Some(c".git")).unwrap();
        assert_ne!(scratch.inode(".git"), scratch.inode(".agents"));
        let found = made_by_a_run(folder.as_fd(), c".agents").unwrap();
        assert_eq!(found, Some(FileType::Socket));
        let written = std::fs::read_to_string(scratch.0.join(".git"));
        assert_eq!(written.unwrap(), "somebody's");
        // What is somebody's under the name itself stays, and stops the start.
        std::fs::write(scratch.0.join(".codex"), "theirs").unwrap();
        let made = make(folder.as_fd(), c".codex", Some(c".agents"));
        assert_eq!(made, Err(Errno::EXIST));
    }
}
