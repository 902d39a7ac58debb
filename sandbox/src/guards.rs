//! Whether what guards single paths still stands while a command runs: [`Guards`].
//!
//! The kernel takes a mount away where its file is replaced or removed *in another mount namespace* (`rename(2)`, since
//! Linux 3.18), and lets it move with its file: a program on the host that saves by renaming, or a second command in the
//! same workspace, takes a cover, a read-only guard or a sealed script from a command that runs. Nothing prevents that
//! from inside, so it is watched for: the list of mounts says when it changed (`proc_pid_mountinfo(5)`, `poll(2)`), and a
//! command whose guards are not all where they were is ended. What moved with its file is seen at the next look, at once
//! where the file is sealed. What the command does in the instant before is not undone.
//!
//! A service that removes its own socket takes its cover away as well, and leaves nothing to cover: the command goes on,
//! until something stands in that place again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::iter;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::mounts::{Operation, Owner};
use crate::plan::{Identity, Plan};
use crate::surroundings::Kind;

/// Bytes of a list of mounts that is read at once.
const LIST: usize = 16 << 10;

/// The paths of a plan that are to stay mount points.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guarded {
    /// Copies of what was reviewed. A second command of the workspace may move the file beneath, which no list of mounts
    /// says at once.
    sealed: BTreeSet<PathBuf>,
    kept: BTreeSet<PathBuf>,
    /// Covered where the command's user, who is not the caller, can reach them at all.
    covered: BTreeSet<PathBuf>,
    /// Sockets of the host, which may be gone by the time they would be covered.
    sockets: BTreeSet<PathBuf>,
    /// Whether the command's user is not the caller.
    as_another: bool,
    /// Trees whose owner the command's user is.
    trees: Vec<PathBuf>,
}

impl Guarded {
    pub(crate) fn of(plan: &Plan) -> Self {
        let as_another = matches!(plan.identity(), Identity::Unprivileged { .. });
        let mut guarded = Self {
            as_another,
            ..Self::default()
        };
        for operation in plan.operations() {
            match operation {
                Operation::Seal { path, .. } => guarded.sealed.insert(path.clone()),
                Operation::Protect { path } => guarded.kept.insert(path.clone()),
                Operation::Hide {
                    path,
                    kind: Kind::Socket,
                } => guarded.sockets.insert(path.clone()),
                Operation::Hide { path, .. } if as_another => guarded.covered.insert(path.clone()),
                Operation::Hide { path, .. } => guarded.kept.insert(path.clone()),
                Operation::Attach {
                    at,
                    owner: Owner::Command,
                    ..
                } => {
                    guarded.trees.push(at.clone());
                    false
                }
                Operation::ReadOnlyTree
                | Operation::OwnTree
                | Operation::Pin { .. }
                | Operation::Memory { .. }
                | Operation::Devices
                | Operation::Processes { .. }
                | Operation::Attach { .. }
                | Operation::Resolver { .. } => false,
            };
        }
        guarded
    }

    pub(crate) fn is_empty(&self) -> bool {
        let sets = [&self.sealed, &self.kept, &self.covered, &self.sockets];
        sets.iter().all(|set| set.is_empty())
    }

    /// Whether the command's user can reach a covered path: through folders that everybody may pass, or that are its own.
    fn is_reachable(&self, path: &Path) -> bool {
        let passable = |folder: &Path| {
            let found = folder.metadata().ok()?;
            let own = || {
                let mut trees = self.trees.iter().filter(|tree| folder.starts_with(tree));
                trees.any(|tree| tree.metadata().is_ok_and(|tree| tree.uid() == found.uid()))
            };
            let mode = found.mode();
            Some(mode & 0o001 != 0 || (mode & 0o100 != 0 && own()))
        };
        let mut folders = path.ancestors().skip(1);
        folders.all(|folder| passable(folder).unwrap_or(false))
    }
}

/// The guards of a running command. Holds its mount namespace: to be dropped when the command has ended.
#[derive(Debug)]
pub(crate) struct Guards {
    /// What is to be guarded, until the first look.
    wanted: Option<Guarded>,
    paths: BTreeSet<PathBuf>,
    /// Those of them that cover a socket.
    sockets: BTreeSet<PathBuf>,
    /// Where a covered socket stood and nothing does now.
    empty: BTreeSet<PathBuf>,
    list: File,
    /// Tells of sealed files that are moved, and of what comes into an empty place (`inotify(7)`). Only where there are
    /// some: giving one back takes milliseconds.
    moved: Option<OwnedFd>,
}

impl Guards {
    /// Those of the command below the process `init`. The first look is still to come; what changes before it is told by
    /// [`Guards::watched`].
    ///
    /// # Errors
    /// The process is gone, or they cannot be watched.
    pub(crate) fn open(guarded: Guarded, init: i32) -> io::Result<Self> {
        let moved = (!guarded.sealed.is_empty()).then(|| watched(&guarded.sealed));
        Ok(Self {
            paths: BTreeSet::new(),
            sockets: BTreeSet::new(),
            empty: BTreeSet::new(),
            list: File::open(format!("/proc/{init}/mountinfo"))?,
            moved: moved.transpose()?,
            wanted: Some(guarded),
        })
    }

    /// Finds out which of the paths that are to be guarded can be.
    fn begin(&mut self, guarded: &Guarded, mounted: &BTreeSet<PathBuf>) {
        self.paths.clone_from(&guarded.sealed);
        self.paths.extend(guarded.kept.iter().cloned());
        let (stand, gone): (Vec<_>, Vec<_>) = guarded
            .sockets
            .iter()
            .partition(|path| mounted.contains(*path));
        self.sockets.extend(stand.into_iter().cloned());
        self.paths.extend(self.sockets.iter().cloned());
        self.without_cover(guarded, gone);
        let wanted = guarded.covered.iter();
        let wanted = wanted.filter(|path| mounted.contains(*path) || guarded.is_reachable(path));
        self.paths.extend(wanted.cloned());
    }

    /// Takes in sockets that have no cover: gone before they got one, or out of the command's reach.
    fn without_cover(&mut self, guarded: &Guarded, sockets: Vec<&PathBuf>) {
        for path in sockets {
            if is_empty(path) {
                self.empty.insert(path.clone());
            } else if !guarded.as_another || guarded.is_reachable(path) {
                self.paths.insert(path.clone());
            }
        }
    }

    /// The path of one that does not stand any more. Where that cannot be told, none does.
    pub(crate) fn lost(&mut self) -> Option<PathBuf> {
        if let Some(moved) = &self.moved {
            let mut told = [0; 4096];
            // What was moved does not matter; the list says what it did.
            while rustix::io::read(moved, &mut told).is_ok_and(|bytes| bytes > 0) {}
        }
        let mounted = self.mounted().unwrap_or_default();
        if let Some(guarded) = self.wanted.take() {
            self.begin(&guarded, &mounted);
        }
        let missing: Vec<PathBuf> = self.paths.difference(&mounted).cloned().collect();
        for path in missing {
            if !self.sockets.contains(&path) {
                return Some(path);
            }
            self.paths.remove(&path);
            self.empty.insert(path);
        }
        let watched = self.watch_empty_places();
        // Looked at when they are watched already, so that nothing comes in between.
        let mut empty = self.empty.iter();
        let found = empty.find(|path| watched.is_err() || !is_empty(path));
        found.cloned()
    }

    /// Waits for whatever comes to stand in an empty place, or to the folder nearest to it; and for that to go.
    fn watch_empty_places(&mut self) -> io::Result<()> {
        if self.empty.is_empty() {
            return Ok(());
        }
        let watch = match self.moved.take() {
            Some(watch) => watch,
            None => new_watch()?,
        };
        let comes = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let goes = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        for path in &self.empty {
            for folder in path.ancestors().skip(1) {
                match inotify::add_watch(&watch, folder, comes | goes) {
                    Ok(_) => break,
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.moved = Some(watch);
        Ok(())
    }

    fn mounted(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut list = Vec::with_capacity(LIST);
        self.list.rewind()?;
        self.list.read_to_end(&mut list)?;
        let lines = list.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(mount_point).collect())
    }

    /// What to wait for: readable or urgent when something has changed.
    pub(crate) fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let list = PollFd::new(&self.list, PollFlags::PRI);
        let moved = self.moved.as_ref();
        iter::once(list).chain(moved.map(|moved| PollFd::new(moved, PollFlags::IN)))
    }
}

/// Whether nothing at all stands at `path`. A place that cannot be looked at is none.
fn is_empty(path: &Path) -> bool {
    // The kernel takes a mount away a moment before the name of its file. Listing waits for whoever removes a name there.
    if let Some(Ok(mut names)) = path.parent().map(fs::read_dir) {
        names.next();
    }
    let found = path.symlink_metadata();
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn new_watch() -> io::Result<OwnedFd> {
    Ok(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?)
}

fn watched(files: &BTreeSet<PathBuf>) -> io::Result<OwnedFd> {
    let watch = new_watch()?;
    for file in files {
        let gone = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ATTRIB;
        inotify::add_watch(&watch, file, gone)?;
    }
    Ok(watch)
}

/// The fifth column, where blank, tab, line end and backslash are written as three octal digits.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let written = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_mount_point_is_read_as_the_kernel_writes_it() {
        let line =
            |path: &str| format!("36 35 98:0 /a {path} rw,noatime master:1 - ext4 /dev/x rw");
        for (written, path) in [
            ("/home/u/code/.git", "/home/u/code/.git"),
            (r"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
            (r"/a\04", r"/a\04"),
            (r"/a\999", r"/a\999"),
            ("/", "/"),
        ] {
            let read = mount_point(line(written).as_bytes());
            assert_eq!(read.as_deref(), Some(Path::new(path)), "{written}");
        }
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn a_path_that_is_no_mount_point_does_not_stand() {
        let own = std::process::id().cast_signed();
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        let opened = |kept: &[&str], sockets: &[&str]| {
            let guarded = Guarded {
                kept: paths(kept),
                sockets: paths(sockets),
                ..Guarded::default()
            };
            Guards::open(guarded, own).unwrap().lost()
        };
        assert_eq!(opened(&[], &[]), None);
        assert_eq!(opened(&["/", "/proc"], &["/"]), None);
        let none = PathBuf::from("/no/such/mount");
        assert_eq!(opened(&["/", "/no/such/mount"], &[]), Some(none));
        assert_eq!(opened(&["/"], &["/no/such/mount"]), None, "a socket");
        let covered = std::env::current_exe().unwrap();
        let of = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let lost = opened(&[], &[&of(&covered)]);
        assert_eq!(lost, Some(covered), "what stands there has no cover");
    }
}
