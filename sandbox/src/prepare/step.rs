//! The steps of a start, each a system call or two that needs nothing more: [`Act`].
//!
//! Made in [`super`], done in `stage`, which may not allocate. What is here owns its strings and knows descriptors by
//! place.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit};

use crate::command::Identity as FileIdentity;
use crate::door::inside;
use crate::error::Wall;
use crate::seccomp;
use crate::sys::child::Ruleset;

/// One thing to do in the new process.
#[derive(Debug)]
pub(crate) struct Step {
    /// For the error: what was being done.
    pub(crate) what: &'static str,
    /// For the error: to what.
    pub(crate) object: PathBuf,
    pub(crate) act: Act,
}

/// A place that a taken tree waits in; the value is its descriptor in the new process.
pub(crate) type Slot = usize;

#[derive(Debug)]
pub(crate) enum Act {
    Mount(Mount),
    Door {
        act: inside::Act,
        /// Where sockets are handed out.
        channel: RawFd,
    },
    Make(Make),
    Confine(Confine),
    /// Waits until the protected names stand and the keeper knows this process.
    AwaitGo,
    /// Enters the working directory, where it is still the same.
    WorkIn {
        path: CString,
        identity: FileIdentity,
    },
    /// Opens the program, where it is still the same.
    OpenProgram {
        path: CString,
        identity: FileIdentity,
        slot: Slot,
    },
}

/// What stands where.
#[derive(Debug)]
pub(crate) enum Mount {
    /// Takes a copy of the tree at a path.
    Take { path: CString, slot: Slot, set: u64 },
    /// Puts a taken tree at a path.
    Place { slot: Slot, at: CString },
    /// Puts a taken tree over a path, unless whoever acts cannot get there at all. For another user than the owner of
    /// what bars the way, who therefore cannot open it either.
    Cover { slot: Slot, at: CString, gone: Gone },
    /// Takes what is at a path and puts it there again, read-only.
    Guard { path: CString },
    /// Puts what is at one path at another, without a descriptor in between.
    Bind { from: CString, at: CString },
    /// Sets and clears attributes of a tree in place and makes it this namespace's own.
    Attributes {
        path: CString,
        set: u64,
        clear: u64,
        reach: Reach,
    },
    /// Changes how much a file system in memory holds.
    Resize { at: CString, options: CString },
    /// A new file system; source and kind have the same name.
    New {
        kind: CString,
        at: CString,
        options: CString,
        flags: MountFlags,
    },
}

/// What is made in folders of the command's own.
#[derive(Debug)]
pub(crate) enum Make {
    /// From here on as the command's user.
    As {
        user: u32,
        group: u32,
    },
    Directory {
        path: CString,
        mode: u32,
    },
    File {
        path: CString,
        content: Vec<u8>,
        mode: u32,
    },
    Link {
        target: CString,
        path: CString,
    },
}

/// What is taken from the process itself.
#[derive(Debug)]
pub(crate) enum Confine {
    NewKeyring,
    Limit {
        resource: Resource,
        limit: Rlimit,
    },
    /// Lets the command's user namespace have half of what the host lets the user have.
    Half {
        settings: RawFd,
        host: CString,
        own: CString,
    },
    NoPrivilegesByExec,
    /// Another user, without any further group.
    User {
        user: u32,
        group: u32,
    },
    Capabilities {
        kept: u64,
    },
    /// Gives up what there is, where no user namespace gives power over the bounding set.
    NoCapabilities,
    Landlock {
        ruleset: Ruleset,
        rules: Vec<(CString, u64)>,
    },
    Filter(seccomp::Program),
    /// The same with a watcher, who gets the listener over the channel; where one watches already, `alone` stands.
    WatchedFilter {
        program: seccomp::Program,
        channel: RawFd,
        alone: seccomp::Program,
    },
}

/// What becomes of a cover whose path is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The start fails.
    Refused,
    /// There is nothing to cover.
    Passed,
}

/// How far attributes reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount at the path and every one below it.
    Tree,
    /// That mount alone.
    Mount,
}

/// The wall that a step belongs to, for a host that cannot put it up at all.
pub(crate) fn wall(act: &Act) -> Option<Wall> {
    match act {
        Act::Mount(_) => Some(Wall::Mounts),
        Act::Confine(Confine::Landlock { .. }) => Some(Wall::Landlock),
        Act::Confine(Confine::Filter(_) | Confine::WatchedFilter { .. }) => Some(Wall::Seccomp),
        Act::Confine(Confine::User { .. }) => Some(Wall::UserMapping),
        Act::Confine(
            Confine::NewKeyring
            | Confine::Limit { .. }
            | Confine::NoPrivilegesByExec
            | Confine::Capabilities { .. }
            | Confine::NoCapabilities,
        ) => Some(Wall::Namespaces),
        Act::Door { .. }
        | Act::Make(_)
        | Act::AwaitGo
        | Act::WorkIn { .. }
        | Act::OpenProgram { .. }
        | Act::Confine(Confine::Half { .. }) => None,
    }
}
