//! Why a command did not start. Nothing of it ran, whichever error this is.

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use crate::seccomp::FilterError;

/// One of the walls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wall {
    /// Namespaces of its own: user, mount, process, and by plan network, IPC, host name, cgroup.
    Namespaces,
    /// What stands where.
    Mounts,
    /// Landlock.
    Landlock,
    /// System call filters.
    Seccomp,
    /// Another user of the host with the files of this one, where root starts the command.
    UserMapping,
}

impl SandboxError {
    /// This, with why the way round it did not come off either. What went wrong behind the namespaces is told for itself.
    pub(crate) fn beside(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Unsupported {
                    wall,
                    cause,
                    hint,
                    source,
                },
                Self::Bubblewrap(said),
            ) => Self::Unsupported {
                wall,
                cause: format!("{cause} (and `/usr/bin/bwrap`, tried instead: {said})"),
                hint,
                source,
            },
            (_, other) => other,
        }
    }
}

impl Wall {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::UserMapping => "user mapping",
        }
    }
}

/// Why a command did not start.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The plan was made for another command.
    #[error("the plan was made for another command")]
    OtherCommand,
    /// A wall the plan asks for cannot be put up here.
    #[error("this host cannot put up a wall ({}): {cause}\nhint: {hint}", .wall.as_str())]
    Unsupported {
        /// The wall.
        wall: Wall,
        /// Why not.
        cause: String,
        /// What would help.
        hint: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step of the set-up failed.
    #[error("cannot {step} `{}`", .object.display())]
    SetUp {
        /// What was being done.
        step: &'static str,
        /// To what.
        object: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What stands at a path is not what was there when the command was put together.
    #[error("`{}` was replaced since it was looked up", .0.display())]
    Replaced(PathBuf),
    /// A protected name cannot be kept from being made.
    #[error("cannot guard the missing `{}`{}", .path.display(), hint_of_a_lock(.source))]
    Placeholder {
        /// The name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no such program where the command runs.
    #[error("`{}` was not found", .program.display())]
    NotFound {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("`{}` cannot be executed", .program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A filter of this crate cannot be built.
    #[error("the system call filters cannot be built")]
    Filters(#[from] FilterError),
    /// Bubblewrap, which was to make the namespaces, refused: in its words.
    #[error("`/usr/bin/bwrap` could not make the namespaces: {0}")]
    Bubblewrap(String),
    /// The process that was to become the command ended without a word.
    #[error("the command's init ended before the command started")]
    Lost,
}

/// What keeps runs from folders that they share is a lock (flock(2)) that every program which can read the folder can take.
fn hint_of_a_lock(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::WouldBlock {
        "\nhint: another program holds a lock on its folder (`lslocks` names it): wait for it, or end it"
    } else {
        ""
    }
}
