//! How much of the walls can stand here, where less than all was chosen by name (`--best-effort`).
//!
//! Invariant (P7): without that name all walls are asked for, and a missing one stops the command. With it, a host that
//! makes no namespaces gets the plan of Landlock and filters; every other missing wall still stops the command.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sandbox::{
    Command, Plan, PlanError, Program, Sandbox, SandboxError, SandboxPolicy, Wall, WorkingDirectory,
};

use crate::failure::Failure;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Effort {
    /// All walls, or nothing runs.
    #[default]
    All,
    /// What this host can put up, by name.
    Best,
}

/// What will stand.
#[derive(Debug)]
pub(crate) enum Standing {
    /// All walls.
    All,
    /// Landlock and filters alone, with a folder for what is temporary.
    Reduced(OwnTmp),
}

/// A folder in place of the private `/tmp`, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct OwnTmp(PathBuf);

impl OwnTmp {
    fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir().canonicalize()?;
        let folder = parent.join(format!("auto-review-{}", uuid::Uuid::new_v4()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnTmp {
    fn drop(&mut self) {
        // What cannot be removed lies among what is temporary.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

impl Standing {
    /// Tries the walls where less may be chosen.
    ///
    /// # Errors
    /// Nothing could be tried.
    pub(crate) fn here(effort: Effort) -> Result<Self, Failure> {
        match effort {
            Effort::All => Ok(Self::All),
            Effort::Best => match trial()? {
                Some(error) if lacks_namespaces(&error) => Ok(Self::Reduced(OwnTmp::make()?)),
                // Whatever else is missing is told by the start of the command itself.
                Some(_) | None => Ok(Self::All),
            },
        }
    }

    /// The plan of a command inside the walls.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub(crate) fn plan(
        &self,
        policy: &SandboxPolicy,
        command: &Command,
    ) -> Result<Plan, PlanError> {
        match self {
            Self::All => Plan::confined(policy, command),
            Self::Reduced(_) => Plan::reduced(policy, command),
        }
    }
}

/// Whether the host lacks what the reduced plan does without.
fn lacks_namespaces(error: &SandboxError) -> bool {
    matches!(
        error,
        SandboxError::Unsupported {
            wall: Wall::Namespaces | Wall::Mounts | Wall::UserMapping,
            ..
        }
    )
}

/// Puts all walls up around this program, which is ended at once; what was in the way, where something was.
fn trial() -> Result<Option<SandboxError>, Failure> {
    let own = std::env::current_exe()?;
    let policy = SandboxPolicy::read_only().readable(&own).build()?;
    // These words make it try things that come to nothing, should it get that far.
    let words = [
        "agent-runner",
        "try-from-inside",
        "/dev/null/-",
        "/dev/null/-",
        "127.0.0.1:9",
    ];
    let command = Command::new(words, Program::open(&own)?, WorkingDirectory::open("/")?)?;
    let plan = Plan::confined(&policy, &command)?;
    Ok(Sandbox::start(&plan, command).err())
}
