//! The steps of a start, each a system call or two that needs nothing more: [`Act`].
//!
//! Made in [`super`], done in `stage`, which may not allocate. What is here owns its strings and knows descriptors by
//! place.

use std::ffi::CString;
use std::path::PathBuf;

use rustix::mount::MountFlags;

use crate::command::Identity as FileIdentity;
use crate::error::Wall;
use crate::seccomp;
use crate::sys::child::Ruleset;

/// One thing to do in the new process.
#[derive(Debug)]
pub(crate) struct Step {
    /// For the error: what was being done, to what.
    pub(crate) what: &'static str,
    pub(crate) object: PathBuf,
    pub(crate) act: Act,
}

/// A place that a taken tree waits in; the value is its descriptor in the new process.
pub(crate) type Slot = usize;

#[derive(Debug)]
pub(crate) enum Act {
    /// Takes a copy of the tree at a path.
    Take {
        path: CString,
        slot: Slot,
        set: u64,
    },
    /// Puts a taken tree at a path.
    Place {
        slot: Slot,
        at: CString,
    },
    /// As both, for what is there. Where nothing can be reached, the command cannot either.
    Guard {
        path: CString,
    },
    /// Sets attributes of a tree in place and makes it this namespace's own.
    Attributes {
        path: CString,
        set: u64,
        reach: Reach,
    },
    /// Waits until the parent has written the user map and the keeper knows this process.
    AwaitGo,
    /// Makes files as the command's user from here on.
    MakeFilesAs {
        user: u32,
        group: u32,
    },
    Memory {
        at: CString,
        options: CString,
        flags: MountFlags,
    },
    Processes {
        at: CString,
        flags: MountFlags,
    },
    Terminals {
        at: CString,
        options: CString,
    },
    MakeDirectory {
        path: CString,
        mode: u32,
    },
    MakeFile {
        path: CString,
        content: Vec<u8>,
        mode: u32,
    },
    MakeLink {
        target: CString,
        path: CString,
    },
    NewKeyring,
    LoopbackUp,
    NoCoreFiles,
    NoPrivilegesByExec,
    Become {
        user: u32,
        group: u32,
        groups: Groups,
    },
    Capabilities {
        kept: u64,
    },
    Landlock {
        ruleset: Ruleset,
        rules: Vec<(CString, u64)>,
    },
    Filter(seccomp::Program),
    WorkIn {
        path: CString,
        identity: FileIdentity,
    },
    OpenProgram {
        path: CString,
        identity: FileIdentity,
        slot: Slot,
    },
}

/// How far attributes reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount at the path and every one below it.
    Tree,
    /// That mount alone.
    Mount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    Keep,
    Drop,
}

/// The wall that a failed step belongs to, for a host that cannot put it up at all.
pub(crate) fn wall(act: &Act) -> Option<Wall> {
    match act {
        Act::Attributes { .. } | Act::Processes { .. } | Act::Memory { .. } | Act::Take { .. } => {
            Some(Wall::Mounts)
        }
        Act::Landlock { .. } => Some(Wall::Landlock),
        Act::Filter(_) => Some(Wall::Seccomp),
        Act::LoopbackUp | Act::Capabilities { .. } => Some(Wall::Namespaces),
        _ => None,
    }
}
