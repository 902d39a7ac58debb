//! Looking at paths without being led: no link followed, nothing but regular files read, nothing read that the command may
//! not read, sizes and times bounded.
//!
//! What stands at a path is opened once as a place (`O_PATH`) and everything is asked of that descriptor, so that a swap in
//! between shows nothing else. See openat2(2), `RESOLVE_NO_SYMLINKS` (Linux 5.6).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use sandbox::{Access, SandboxPolicy};

/// How deep a folder is counted.
const MAX_DEPTH: usize = 64;

/// Why a fact cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The command may not read it either.
    DeniedRead,
    /// The file system refuses.
    NotReadable,
    /// It is no regular file.
    NotARegularFile,
    /// It belongs to the kernel's own file systems.
    KernelFile,
    /// There was no time.
    TimedOut,
}

impl Missing {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::DeniedRead => "denied_read",
            Self::NotReadable => "not_readable",
            Self::NotARegularFile => "not_a_regular_file",
            Self::KernelFile => "kernel_file",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What the command may not read, by path and by identity (a second name of the same file is the same file).
#[derive(Debug, Clone, Default)]
pub(super) struct Barred {
    paths: Vec<PathBuf>,
    identities: Vec<(u64, u64)>,
    policy: Option<SandboxPolicy>,
}

impl Barred {
    /// What a command under `policy` may not read.
    pub(super) fn of(policy: &SandboxPolicy) -> Self {
        let paths = policy.hidden().iter().chain(policy.denied_reads());
        Self {
            policy: Some(policy.clone()),
            ..Self::new(paths.cloned().collect())
        }
    }

    /// Whether files are denied by pattern, so that a list of paths is not all of it.
    pub(super) fn has_patterns(&self) -> bool {
        let policy = self.policy.as_ref();
        policy.is_some_and(|policy| !policy.denied_patterns().is_empty())
    }

    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let identities = paths
            .iter()
            .filter_map(|path| path.symlink_metadata().ok())
            .map(|found| (found.dev(), found.ino()))
            .collect();
        Self {
            paths,
            identities,
            policy: None,
        }
    }

    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    pub(super) fn covers(&self, path: &Path, identity: (u64, u64)) -> bool {
        let denied = |policy: &SandboxPolicy| policy.access(path).access == Access::Deny;
        self.paths.iter().any(|barred| path.starts_with(barred))
            || self.identities.contains(&identity)
            || self.policy.as_ref().is_some_and(denied)
    }
}

/// What stands at a path.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it really is: the folders on the way resolved, the last name not.
    pub(super) path: PathBuf,
    /// What it is, in a word.
    pub(super) kind: &'static str,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// How much of that is on the disk, in bytes.
    pub(super) allocated: u64,
    /// By how many names the file goes.
    pub(super) links: u64,
    /// Where a link points, as written.
    pub(super) points_to: Option<String>,
    place: OwnedFd,
}

/// What lies below a folder, as far as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    /// Names, of folders too.
    pub(super) entries: u64,
    /// The sizes of regular files, in bytes.
    pub(super) bytes: u64,
    /// Folders and files that were not looked into: other file systems, too deep, not readable, not the command's to read.
    pub(super) not_counted: u64,
    /// Whether there is more than was counted.
    pub(super) more: bool,
}

/// What stands at `path`; `None`: nothing.
pub(super) fn look(path: &Path, barred: &Barred) -> Result<Option<Found>, Missing> {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let path = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(error) if missing(&error) => return Ok(None),
            Err(_) => return Err(Missing::NotReadable),
        },
        _ => path.to_owned(),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let place = match rustix::fs::openat2(CWD, &path, flags, Mode::empty(), resolve) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(_) => return Err(Missing::NotReadable),
    };
    let found = rustix::fs::fstat(&place).map_err(|_| Missing::NotReadable)?;
    if barred.covers(&path, (found.st_dev, found.st_ino)) {
        return Err(Missing::DeniedRead);
    }
    let file_type = FileType::from_raw_mode(found.st_mode);
    let points_to = (file_type == FileType::Symlink)
        .then(|| rustix::fs::readlinkat(&place, "", Vec::new()).ok())
        .flatten()
        .map(|target| target.to_string_lossy().into_owned());
    Ok(Some(Found {
        path,
        kind: kind(file_type),
        bytes: u64::try_from(found.st_size).unwrap_or_default(),
        allocated: u64::try_from(found.st_blocks)
            .unwrap_or_default()
            .saturating_mul(512),
        links: found.st_nlink,
        points_to,
        place,
    }))
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "unknown",
    }
}

impl Found {
    /// Up to `most` bytes from the file's beginning.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>, Missing> {
        if self.kind != "file" {
            return Err(Missing::NotARegularFile);
        }
        if is_kernels(&self.place) {
            return Err(Missing::KernelFile);
        }
        // By the descriptor, so that it is this file and no other; what is a regular file opens without waiting.
        let again = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        let file = File::open(again).map_err(|_| Missing::NotReadable)?;
        let mut bytes = Vec::new();
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(|_| Missing::NotReadable)?;
        Ok(bytes)
    }

    /// Counts what lies below, up to `most` entries or `until`.
    pub(super) fn count(
        &self,
        most: u64,
        until: Instant,
        barred: &Barred,
    ) -> Result<Count, Missing> {
        let device = rustix::fs::fstat(&self.place)
            .map_err(|_| Missing::NotReadable)?
            .st_dev;
        let again = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top =
            rustix::fs::open(again, flags, Mode::empty()).map_err(|_| Missing::NotReadable)?;
        let mut counting = Counting {
            count: Count::default(),
            most,
            until,
            device,
            barred,
        };
        counting.folder(&top, &self.path, 0);
        Ok(counting.count)
    }
}

struct Counting<'b> {
    count: Count,
    most: u64,
    until: Instant,
    device: u64,
    barred: &'b Barred,
}

impl Counting<'_> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path, depth: usize) {
        let Ok(entries) = Dir::read_from(folder) else {
            self.count.not_counted += 1;
            return;
        };
        for entry in entries {
            if self.count.entries >= self.most || Instant::now() >= self.until {
                self.count.more = true;
                return;
            }
            let Ok(entry) = entry else {
                self.count.not_counted += 1;
                return;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.count.entries += 1;
            self.entry(folder, name, path, depth);
        }
    }

    fn entry(&mut self, folder: &OwnedFd, name: &std::ffi::CStr, path: &Path, depth: usize) {
        let Ok(found) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            self.count.not_counted += 1;
            return;
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                self.count.bytes = self
                    .count
                    .bytes
                    .saturating_add(u64::try_from(found.st_size).unwrap_or_default());
            }
            FileType::Directory => {
                let path = path.join(std::ffi::OsStr::new(&*name.to_string_lossy()));
                let barred = self.barred.covers(&path, (found.st_dev, found.st_ino));
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(folder, name, flags, Mode::empty());
                match below {
                    Ok(below) if !barred && depth < MAX_DEPTH && found.st_dev == self.device => {
                        self.folder(&below, &path, depth + 1);
                    }
                    _ => self.count.not_counted += 1,
                }
            }
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
}

/// Whether a file lies in a file system of the kernel's own, where reading can wait or do something: see `linux/magic.h`.
fn is_kernels(place: &impl AsFd) -> bool {
    const KERNELS: [i64; 9] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x27_e0eb,   // cgroup
        0x6367_7270, // cgroup2
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x0187,      // autofs
    ];
    rustix::fs::fstatfs(place).map_or(true, |found| KERNELS.contains(&found.f_type))
}

#[cfg(test)]
mod tests;
