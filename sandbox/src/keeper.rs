//! Keeps names that must not come into being, while a command runs: [`Keeper`].
//!
//! Nothing can be mounted where no name is, so a missing protected name is made as an empty directory for the command's
//! time and removed at its end, however that comes. A process of its own does it: it shares this program's memory (see
//! `sys::clone`), so it costs no exec, and it outlives a runner that is killed. It removes a name only when the whole
//! process namespace is gone, and not while another run holds it (a shared `flock` on the directory). A mode that nobody
//! uses marks the directory as ours, so that the next run adopts what a power cut left.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::error::SandboxError;
use crate::sys::child;
use crate::sys::clone::{self, Ended, Sharing};

/// The mark: nothing may be made inside, and the sticky bit on a directory that nobody can write.
pub(crate) const MARK: u32 = 0o1555;
/// How often a name may vanish between being made and being held.
const TRIES: usize = 16;
const HIGH: RawFd = 256;

/// Guards names until the command's namespace is gone.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: UnixStream,
    process: Sharing<Task>,
    paths: Vec<PathBuf>,
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
        let mut names = Vec::with_capacity(paths.len());
        let mut held = Vec::with_capacity(paths.len());
        for path in paths {
            let (parent, name) = parent_of(path).map_err(|source| failed(path, source))?;
            names.push((parent.as_raw_fd(), name));
            held.push(parent);
        }
        let prepared = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            let theirs = fcntl_dupfd_cloexec(&theirs, HIGH)?;
            let task = Task {
                channel: theirs.as_raw_fd(),
                names,
            };
            let process = Sharing::start(0, Box::new(task), keep)?;
            Ok(Self {
                channel: ours,
                process,
                paths: paths.to_vec(),
            })
        };
        prepared().map(Some).map_err(|source| failed(first, source))
    }

    /// Waits until every name stands and is held.
    pub(crate) fn ready(&mut self) -> Result<(), SandboxError> {
        let mut answer = [[0; 4]; 2];
        let read = self.channel.read_exact(answer.as_flattened_mut());
        let [errno, place] = answer.map(u32::from_ne_bytes);
        let place = usize::try_from(place).unwrap_or_default();
        let path = self
            .paths
            .get(place)
            .map_or_else(|| Path::new(""), PathBuf::as_path);
        read.map_err(|source| failed(path, source))?;
        if errno == 0 {
            return Ok(());
        }
        Err(failed(
            path,
            io::Error::from_raw_os_error(errno.cast_signed()),
        ))
    }

    /// Names the process whose namespace the names are kept for, and waits until it is held.
    pub(crate) fn watch(&mut self, pid: i32) -> io::Result<()> {
        self.channel.write_all(&pid.to_ne_bytes())?;
        self.channel.read_exact(&mut [0])
    }

    /// Waits until the names are gone; to be called when the watched process is.
    pub(crate) fn finish(self) {
        drop(self.channel);
        self.process.wait();
    }
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
    let (errno, place) = match made {
        Ok(()) => (0, 0),
        Err((error, place)) => (error.raw_os_error().cast_unsigned(), place),
    };
    let place = u32::try_from(place).unwrap_or(0);
    let answer = [errno, place].map(u32::to_ne_bytes);
    let told = child::with_descriptor(0, |channel| {
        rustix::io::write(channel, answer.as_flattened())
    });
    if told.is_ok() && errno == 0 {
        child::with_descriptor(0, wait_for_the_end).ok();
    }
    for (place, (_, name)) in task.names.iter().enumerate() {
        // Held by another run, or replaced by somebody: then it is not ours to remove.
        remove(task, place, name).ok();
    }
    child::end()
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

/// Reads which process to watch and waits until it is gone. The end of the channel before that says that none came.
fn wait_for_the_end(channel: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut bytes = [0; 4];
    if rustix::io::read(channel, &mut bytes)? != bytes.len() {
        return Ok(());
    }
    let process = clone::open(i32::from_ne_bytes(bytes))?;
    rustix::io::write(channel, &[1])?;
    loop {
        // Readable when the process and with it its whole namespace has ended.
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove(task: &Task, place: usize, name: &CString) -> Result<(), Errno> {
    child::with_descriptor(held(task, place), |descriptor| {
        rustix::fs::flock(descriptor.as_fd(), FlockOperation::NonBlockingLockExclusive)
    })?;
    child::with_descriptor(directory(place), |parent| {
        rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::REMOVEDIR)
    })
}
