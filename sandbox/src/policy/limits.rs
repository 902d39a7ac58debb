//! How much a command may use: [`Limits`].
//!
//! Plain numbers with their units. What each is enforced by, and what cannot be enforced on a host, is `limits.rs`'s.

use std::sync::OnceLock;
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
    /// Bytes of memory of everything together, watched by the runner, which ends the command within a fraction of a second
    /// of its going beyond.
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
            memory_bytes: None,
            ..Self::default()
        }
    }
}

/// What a build takes at most for each processor it uses, and what is left for everything else.
const MEMORY_BY_PROCESSOR: u64 = 1 << 30;
const MEMORY_BESIDE: u64 = 512 << 20;

/// The memory that a command may hold where nobody says otherwise, in bytes: work is done side by side on as many
/// processors as there are, so what it takes grows with them; a quarter of the machine stays for others.
fn usual_memory(processors: u64, machine: u64) -> u64 {
    let work = processors.saturating_mul(MEMORY_BY_PROCESSOR);
    let most = machine.saturating_sub(machine / 4);
    work.saturating_add(MEMORY_BESIDE).min(most)
}

/// The same for this machine, which does not change.
fn usual_memory_here() -> u64 {
    static HERE: OnceLock<u64> = OnceLock::new();
    *HERE.get_or_init(|| usual_memory(processors(), machine()))
}

/// The processors that this process may use; one where that cannot be told.
fn processors() -> u64 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| u64::from(set.count()))
}

/// The memory of the machine, in bytes.
pub(crate) fn machine() -> u64 {
    let host = rustix::system::sysinfo();
    host.totalram.saturating_mul(u64::from(host.mem_unit))
}

impl Default for Limits {
    /// What no build, test or tool comes near, and what keeps a machine usable.
    fn default() -> Self {
        Self {
            processes: Some(4096),
            descriptors: Some(4096),
            file_bytes: None,
            cpu_seconds: None,
            memory_bytes: Some(usual_memory_here()),
            temporary_mebibytes: 1024,
            shared_mebibytes: 256,
            wall_time: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_memory_grows_with_the_processors_and_leaves_the_machine_a_quarter() {
        const GIB: u64 = 1 << 30;
        for (processors, machine, most) in [
            (2, 24 * GIB, 2 * GIB + GIB / 2),
            (16, 64 * GIB, 16 * GIB + GIB / 2),
            (8, 4 * GIB, 3 * GIB),
            (0, 0, 0),
        ] {
            assert_eq!(usual_memory(processors, machine), most, "{processors}");
        }
        let here = Limits::default().memory_bytes.unwrap();
        assert!(here > 0 && here < machine());
        assert_eq!(Limits::none().memory_bytes, None);
    }
}
