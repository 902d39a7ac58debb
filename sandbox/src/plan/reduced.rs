//! The plan where the host makes no namespaces: Landlock and system call filters alone, chosen by name.
//!
//! Landlock gives and cannot take back below what it gave. So what must stay closed is carved out of what is given: a
//! folder in which something is closed is not given whole, but entry by entry as they are when the command starts.
//! Invariant: nothing is given that the policy does not give. What cannot be kept closed so refuses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Plan, PlanError, Walls};
use crate::command::Command;
use crate::landlock::{Domain, Readable};
use crate::policy::{Access, Limits, Network, PrivateTmp, Reads, SandboxPolicy};
use crate::seccomp::{Filter, Observing};
use crate::surroundings::{Protected, Surroundings};
use crate::sys;

/// The first Landlock interface that keeps signals and abstract sockets within the sandbox (kernel 6.12).
const SCOPES: u32 = 6;
/// The most entries that are given one by one.
const MOST_ENTRIES: usize = 20_000;
/// The devices every program expects.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

impl Plan {
    /// The plan that `policy` gives `command` where no namespaces can be made. It stands with fewer walls than
    /// [`Plan::confined`], so that it is for those alone who chose it by name.
    ///
    /// # Errors
    /// Root asks, the kernel's Landlock is too old, the policy asks for what two walls cannot keep, or see
    /// [`PlanError`].
    pub fn reduced(policy: &SandboxPolicy, command: &Command) -> Result<Self, PlanError> {
        if policy.access(command.program.path()).access == Access::Deny {
            return Err(PlanError::ProgramDenied(
                command.program.path().to_path_buf(),
            ));
        }
        let around = Surroundings::observe(policy, command)?;
        keepable(policy, &around)?;
        let closed = Closed::of(policy, &around);
        let (beneath, mut files) = parted(closed.writable()?);
        files.extend(
            DEVICES
                .map(PathBuf::from)
                .into_iter()
                .filter(|path| path.exists()),
        );
        let (folders, read_files) = parted(closed.readable()?);
        let mut filters = vec![
            Filter::Terminal,
            Filter::Mounts,
            Filter::Namespaces,
            Filter::Surface,
            Filter::Sockets,
            Filter::UnixSockets,
            Filter::Shared,
        ];
        if policy.network() == Network::Off {
            filters.push(Filter::Internet);
        }
        Ok(Self {
            network: policy.network(),
            landlock: Some(Domain::Writes {
                beneath,
                files,
                reads: Readable::Listed {
                    folders,
                    files: read_files,
                },
                devices: Vec::new(),
            }),
            filters,
            observed: Observing::default(),
            // Processes are counted by user namespace: here that would count all of the user's.
            limits: Limits {
                processes: None,
                ..*policy.limits()
            },
            policy: Some(policy.clone()),
            unlocated_host_sockets: around.sockets.unlocated,
            notes: [policy.notes(), around.notes, vec![LESS.to_owned()]].concat(),
            ..Self::bare(Walls::Reduced, command)
        })
    }
}

/// Whether two walls can keep it at all.
fn keepable(policy: &SandboxPolicy, around: &Surroundings) -> Result<(), PlanError> {
    let why = if around.started_as_root() {
        "root's command would keep root's files"
    } else if sys::landlock_abi().map_or(true, |abi| abi < SCOPES) {
        "this kernel's Landlock does not keep signals inside (Linux 6.12 does)"
    } else if policy.network() == Network::Door {
        "the door stands in a network of the command's own"
    } else {
        return Ok(());
    };
    Err(PlanError::NeedsNamespaces(why))
}

/// What a person should know.
const LESS: &str = "without namespaces: no private /tmp, other processes can be seen, modes and times of files cannot be changed, and no new name can be made in a folder that holds something closed";

/// What the policy closes inside what it opens.
struct Closed<'a> {
    policy: &'a SandboxPolicy,
    /// Not to be read.
    reading: BTreeSet<PathBuf>,
    /// Not to be written, whether it is there or not.
    writing: BTreeSet<PathBuf>,
}

impl<'a> Closed<'a> {
    fn of(policy: &'a SandboxPolicy, around: &Surroundings) -> Self {
        let covered = around.covered.iter().map(|(path, _)| path.clone());
        let reading: BTreeSet<PathBuf> = covered.collect();
        let protected = around.protected.iter().map(|protected| match protected {
            Protected::Present(path) | Protected::Missing(path) => path.clone(),
        });
        let read_only = policy.ruled().paths(Access::Read).cloned();
        let kept = policy.kept().iter().cloned();
        let writing = protected.chain(read_only).chain(kept);
        Self {
            writing: writing.chain(reading.iter().cloned()).collect(),
            reading,
            policy,
        }
    }

    fn writable(&self) -> Result<Vec<PathBuf>, PlanError> {
        let session = match self.policy.private_tmp() {
            PrivateTmp::Session(folder) => Some(folder),
            PrivateTmp::Fresh | PrivateTmp::Excluded => None,
        };
        self.given(self.policy.roots().iter().chain(session), &self.writing)
    }

    fn readable(&self) -> Result<Vec<PathBuf>, PlanError> {
        let rest = match self.policy.reads() {
            Reads::Everything => Path::new("/"),
            Reads::Listed => Path::new("/proc/self"),
        };
        let rest = [rest.to_path_buf()];
        let named = |access| self.policy.ruled().paths(access);
        let trees = rest
            .iter()
            .chain(named(Access::Read))
            .chain(named(Access::Write));
        self.given(trees, &self.reading)
    }

    /// What can be given of `trees` so that nothing `closed` inside them is: whole, or entry by entry. A tree has its own
    /// rule, which beats what closes a folder around it; what no command may touch has no such exception.
    fn given<'p>(
        &self,
        trees: impl Iterator<Item = &'p PathBuf>,
        closed: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, PlanError> {
        let mut given = BTreeSet::new();
        let mut looked_at = 0;
        for tree in trees {
            if self
                .policy
                .hidden()
                .iter()
                .any(|hidden| tree.starts_with(hidden))
            {
                continue;
            }
            let inside: Vec<&PathBuf> = closed
                .iter()
                .filter(|hole| hole.starts_with(tree))
                .collect();
            let mut waiting = vec![tree.clone()];
            while let Some(path) = waiting.pop() {
                looked_at += 1;
                if looked_at > MOST_ENTRIES {
                    let why = "too much lies beside what must stay closed";
                    return Err(PlanError::NeedsNamespaces(why));
                }
                if inside.iter().any(|hole| path.starts_with(hole)) {
                    continue;
                }
                if inside.iter().any(|hole| hole.starts_with(&path)) {
                    waiting.extend(entries(&path)?);
                } else {
                    given.insert(path);
                }
            }
        }
        Ok(given.into_iter().collect())
    }
}

/// What is in a folder, without links: what they lead to is given where it lies.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let unreadable = |source| PlanError::Unreadable {
        path: folder.to_path_buf(),
        source,
    };
    let listed = match fs::read_dir(folder) {
        // Gone since its name was read: nothing of it can be given.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(unreadable)?,
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(unreadable)?;
        let is_link = entry.file_type().map(|kind| kind.is_symlink());
        match is_link {
            Ok(false) => entries.push(entry.path()),
            Ok(true) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(entries)
}

/// Folders, and what is none.
fn parted(paths: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    paths.into_iter().partition(|path| path.is_dir())
}
