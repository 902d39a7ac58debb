//! The Landlock wall: which rights are taken, and where each is given back. Pure data.
//!
//! A second, independent check of writes, which also forbids every change of what is mounted where. Rights are named by
//! bit (`linux/landlock.h`), because the ruleset is filled in after the mounts stand, in a process that shares its memory
//! and may not allocate: there no library may be called, the `landlock` crate neither.

use std::path::PathBuf;

use serde::Serialize;

use crate::seccomp::Filter;

pub(crate) const EXECUTE: u64 = 1;
pub(crate) const WRITE_FILE: u64 = 1 << 1;
pub(crate) const READ_FILE: u64 = 1 << 2;
pub(crate) const READ_DIR: u64 = 1 << 3;
pub(crate) const REFER: u64 = 1 << 13;
pub(crate) const TRUNCATE: u64 = 1 << 14;
pub(crate) const IOCTL_DEV: u64 = 1 << 15;

/// The oldest interface accepted: kernel 5.19, the first under which files move between folders at all.
pub const OLDEST_LANDLOCK_ABI: u32 = 2;

/// What has to stand beside the rights that a kernel has, so that files outside are not changed: before interface 3 (kernel
/// 6.2) one that may be read could be emptied.
pub(crate) fn beside(abi: u32) -> Option<Filter> {
    (abi < 3).then_some(Filter::Truncation)
}

/// Rights on files by the interface that brought them.
fn file_rights(abi: u32) -> u64 {
    let first = (1 << 13) - 1;
    let refer = if abi >= 2 { REFER } else { 0 };
    let truncate = if abi >= 3 { TRUNCATE } else { 0 };
    let ioctl = if abi >= 5 { IOCTL_DEV } else { 0 };
    let resolve_unix = if abi >= 9 { 1 << 16 } else { 0 };
    first | refer | truncate | ioctl | resolve_unix
}

/// What may be read and executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readable {
    /// Everything that is to be seen.
    Everything,
    /// These directories, with what is beneath them, and these files.
    Listed {
        folders: Vec<PathBuf>,
        files: Vec<PathBuf>,
    },
}

/// What the ruleset is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Domain {
    /// Reads what is listed, writes beneath these paths alone, signals and abstract sockets within the sandbox.
    Writes {
        /// Directories with every right.
        beneath: Vec<PathBuf>,
        /// Files with every right that a file has.
        files: Vec<PathBuf>,
        /// What may be read.
        reads: Readable,
        /// Devices that may be written and controlled.
        devices: Vec<PathBuf>,
    },
    /// No right is missing; what is mounted where stays as it is.
    Frozen,
}

/// The words of a ruleset for one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) handled: u64,
    pub(crate) scoped: u64,
    pub(crate) rules: Vec<(PathBuf, u64)>,
}

impl Readable {
    fn rules(&self) -> Vec<(PathBuf, u64)> {
        match self {
            Self::Everything => vec![(PathBuf::from("/"), EXECUTE | READ_FILE | READ_DIR)],
            Self::Listed { folders, files } => {
                let folders = folders
                    .iter()
                    .map(|path| (path, EXECUTE | READ_FILE | READ_DIR));
                let files = files.iter().map(|path| (path, EXECUTE | READ_FILE));
                let both = folders.chain(files);
                both.map(|(path, rights)| (path.clone(), rights)).collect()
            }
        }
    }
}

impl Domain {
    pub(crate) fn words(&self, abi: u32) -> Words {
        let all = file_rights(abi);
        match self {
            Self::Frozen => Words {
                handled: REFER,
                scoped: 0,
                rules: vec![(PathBuf::from("/"), REFER)],
            },
            Self::Writes {
                beneath,
                files,
                reads,
                devices,
            } => {
                let mut rules = reads.rules();
                // The kernel refuses a right of directories on a file (landlock_add_rule(2)).
                let of_files = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
                rules.extend(files.iter().map(|path| (path.clone(), all & of_files)));
                rules.extend(beneath.iter().map(|path| (path.clone(), all)));
                let device = all & (READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV);
                rules.extend(devices.iter().map(|path| (path.clone(), device)));
                // Abstract sockets and signals, since interface 6.
                let scoped = if abi >= 6 { 0b11 } else { 0 };
                Words {
                    handled: all,
                    scoped,
                    rules,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_is_given_back_beneath_the_roots_alone() {
        let domain = Domain::Writes {
            beneath: vec!["/srv/a".into()],
            files: Vec::new(),
            reads: Readable::Everything,
            devices: vec!["/dev".into()],
        };
        let words = domain.words(7);
        let everywhere = words
            .rules
            .iter()
            .find(|(path, _)| path.as_os_str() == "/")
            .unwrap()
            .1;
        assert_eq!(everywhere & !(EXECUTE | READ_FILE | READ_DIR), 0);
        assert_eq!(words.handled, (1 << 16) - 1);
    }

    #[test]
    fn truncation_is_always_judged_by_somebody() {
        for abi in OLDEST_LANDLOCK_ABI..=9 {
            let judged = file_rights(abi) & TRUNCATE != 0;
            assert_eq!(beside(abi).is_none(), judged, "{abi}");
        }
    }

    #[test]
    fn rights_that_a_kernel_lacks_are_not_asked_for() {
        assert_eq!(file_rights(2), (1 << 14) - 1);
        assert_eq!(file_rights(3), (1 << 15) - 1);
        assert_eq!(file_rights(9) >> 16, 1);
    }
}
