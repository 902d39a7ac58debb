//! What a refusal at a wall looked like: [`SandboxDenial`].
//!
//! Only what is known goes into one, never a guess from what a program wrote.

use std::path::PathBuf;

use serde::Serialize;

/// A refusal that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refused", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SandboxDenial {
    /// A path, by the mounts or Landlock.
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A system call, by the filters.
    SystemCall {
        /// Its name.
        name: String,
    },
}
