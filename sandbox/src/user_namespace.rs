//! User maps: whom a new process is, and, where root starts commands, trees whose files are the command's own.
//!
//! An attached tree with a map (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`, kernel 5.12) shows the files of one owner as
//! another's and writes them as the first's again. That is how a command that is nobody on the host works on root's files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

use crate::error::{SandboxError, Wall};
use crate::plan::Identity;
use crate::probe;
use crate::surroundings::UNPRIVILEGED;
use crate::sys::clone::{Descriptors, Ended, Sharing};
use crate::sys::{self, MountAttributes, child};

/// Writes the user and group maps of the process `pid`.
pub(crate) fn write_maps(pid: i32, identity: Identity) -> io::Result<()> {
    let (users, groups) = match identity {
        Identity::Caller { user, group } | Identity::Unprivileged { user, group } => {
            (format!("{user} {user} 1\n"), format!("{group} {group} 1\n"))
        }
        Identity::ConfinedRoot => (
            every_id("/proc/self/uid_map")?,
            every_id("/proc/self/gid_map")?,
        ),
    };
    if matches!(identity, Identity::Caller { .. }) {
        // Without privilege the kernel wants this first (user_namespaces(7)).
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), users)?;
    fs::write(format!("/proc/{pid}/gid_map"), groups)
}

/// A map of every id this process knows to itself.
fn every_id(map: &str) -> io::Result<String> {
    let text = fs::read_to_string(map)?;
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("0");
        let count = words.nth(1).unwrap_or("1");
        format!("{first} {first} {count}\n")
    });
    Ok(lines.collect())
}

/// A copy of the tree at `path` in which what belongs to its owner belongs to the command.
pub(crate) fn tree_of_the_commands_own(path: &Path, set: u64) -> Result<OwnedFd, SandboxError> {
    let failed = |step, source: io::Error| SandboxError::SetUp {
        step,
        object: path.to_path_buf(),
        source,
    };
    let found = fs::metadata(path).map_err(|source| failed("look at", source))?;
    let map = ownership(found.uid(), found.gid())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags)
        .map_err(|error| unsupported(path, error.into()))?;
    let wanted = MountAttributes {
        set: set | libc::MOUNT_ATTR_IDMAP,
        // A copy takes part in what is mounted on its original, and the host's are shared as a rule (systemd): what is put
        // on this one would be put on the host's.
        propagation: libc::MS_PRIVATE,
        user_namespace: u64::try_from(map.as_raw_fd()).unwrap_or(u64::MAX),
        ..MountAttributes::default()
    };
    sys::mount_setattr(tree.as_fd(), c"", wanted, libc::AT_RECURSIVE)
        .map_err(|error| unsupported(path, error.into()))?;
    Ok(tree)
}

fn unsupported(path: &Path, source: io::Error) -> SandboxError {
    let cause = format!(
        "the file system of `{}` cannot be attached for another user",
        path.display()
    );
    let hint =
        "start as an ordinary user, or put the workspace on ext4, xfs, btrfs or tmpfs".to_owned();
    SandboxError::Unsupported {
        wall: Wall::UserMapping,
        cause,
        hint,
        source,
    }
}

/// Maps by the owner on disk; a process needs few, and each costs a process to make.
static MAPS: Mutex<BTreeMap<(u32, u32), Arc<OwnedFd>>> = Mutex::new(BTreeMap::new());

/// A user namespace in which `user` and `group` are the command's on the host.
fn ownership(user: u32, group: u32) -> Result<Arc<OwnedFd>, SandboxError> {
    let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(map) = maps.get(&(user, group)) {
        return Ok(Arc::clone(map));
    }
    let (wait, done) = io::pipe().map_err(probe::no_user_map)?;
    let holder = Sharing::start(
        libc::CLONE_NEWUSER,
        Descriptors::Copied,
        Box::new(OwnedFd::from(wait)),
        hold,
    )
    .map_err(probe::no_namespace)?;
    let map = mapped(holder.pid(), user, group).map_err(probe::no_user_map)?;
    let map = Arc::new(map);
    drop(done);
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    ending.push(holder);
    maps.insert((user, group), Arc::clone(&map));
    Ok(map)
}

/// Holders that have been told to end. Nothing waits for them while a command is being started.
static ENDING: Mutex<Vec<Sharing<OwnedFd>>> = Mutex::new(Vec::new());

/// Waits for what was needed to start a command and is not any more.
pub(crate) fn settle() {
    let ended = std::mem::take(&mut *ENDING.lock().unwrap_or_else(PoisonError::into_inner));
    drop(ended);
}

/// Writes the maps of the process `pid` and holds its user namespace.
fn mapped(pid: i32, user: u32, group: u32) -> io::Result<OwnedFd> {
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    fs::write(of("uid_map"), format!("{user} {UNPRIVILEGED} 1\n"))?;
    fs::write(of("gid_map"), format!("{group} {UNPRIVILEGED} 1\n"))?;
    Ok(File::open(of("ns/user"))?.into())
}

/// Keeps a namespace alive until killed.
fn hold(wait: &OwnedFd) -> Ended {
    let mut byte = [0];
    // The parent kills this process when the namespace is held by descriptor; its death would end the read, since no
    // other end of the pipe is kept open here.
    if child::close_all_but(0, wait.as_raw_fd()).is_ok() {
        rustix::io::read(wait, &mut byte).ok();
    }
    child::end()
}
