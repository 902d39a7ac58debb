//! How much a command may use: [`Limits`].
//!
//! Plain numbers with their units. What each is enforced by, and what cannot be enforced on a host, is `limits.rs`'s.

use std::time::Duration;

use serde::Serialize;

/// How much a command and everything it starts may use. `None` sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Processes and threads of the command at one time (`RLIMIT_NPROC`, which counts by user namespace since Linux 5.14).
    pub processes: Option<u64>,
    /// Open descriptors of one process (`RLIMIT_NOFILE`). Programs start with at most 1024 and may raise that to this.
    pub descriptors: Option<u64>,
    /// Bytes of one file (`RLIMIT_FSIZE`).
    pub file_bytes: Option<u64>,
    /// Seconds of processor time of one process (`RLIMIT_CPU`).
    pub cpu_seconds: Option<u64>,
    /// Bytes of memory of everything together: by a control group where one is delegated, else watched by the runner,
    /// which ends the command within a fraction of a second of its going beyond.
    pub memory_bytes: Option<u64>,
    /// Mebibytes of `/tmp`, `/var/tmp` and the private home together, where they lie in memory.
    pub temporary_mebibytes: u32,
    /// Mebibytes of `/dev/shm`.
    pub shared_mebibytes: u32,
    /// How long the command may run.
    pub wall_time: Option<Duration>,
}

impl Limits {
    /// No limit but the size of what lies in memory.
    #[must_use]
    pub fn none() -> Self {
        Self {
            processes: None,
            descriptors: None,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    /// What no build, test or tool comes near, and what keeps a machine usable.
    fn default() -> Self {
        Self {
            processes: Some(4096),
            descriptors: Some(4096),
            file_bytes: None,
            cpu_seconds: None,
            memory_bytes: None,
            temporary_mebibytes: 1024,
            shared_mebibytes: 256,
            wall_time: None,
        }
    }
}
