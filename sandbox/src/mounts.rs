//! The mount wall as data: which trees stand where, in the order they are put there.
//!
//! Pure: policy and surroundings in, operations out. The order is the meaning: the whole tree becomes read-only, private
//! folders are put over it, writable trees (copied before) over those, then what must stay read-only inside them, then
//! what must not be seen at all. A later operation never lies under an earlier one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::command::Command;
use crate::policy::{self, PrivateTmp, Reads, SandboxPolicy, depth};
use crate::surroundings::{Kind, Protected, Surroundings};

/// Whether a tree may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// How the owner's files appear to the command: as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Owner {
    /// As on disk.
    AsIs,
    /// The owner of the tree's top appears as the command's user.
    Command,
}

/// One step of building what the command sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Operation {
    /// The whole tree becomes read-only, without set-user-id programs and devices.
    ReadOnlyTree,
    /// The whole tree stays writable; what is mounted in it is this namespace's own.
    OwnTree,
    /// A directory is made a mount point below the tree that will cover it, so that it cannot be renamed.
    Pin { path: PathBuf },
    /// An empty folder in memory.
    Memory {
        at: PathBuf,
        mode: u32,
        access: Access,
    },
    /// A `/dev` with the devices that every program expects.
    Devices,
    /// A `/proc` that shows this namespace's processes.
    Processes { access: Access },
    /// A tree, taken before anything changed, put at `at`.
    Attach {
        from: PathBuf,
        at: PathBuf,
        access: Access,
        owner: Owner,
    },
    /// What is there becomes read-only.
    Protect { path: PathBuf },
    /// An empty, unreadable cover.
    Hide { path: PathBuf, kind: Kind },
    /// A copy of a reviewed file over its path.
    Seal { path: PathBuf, bytes: usize },
    /// A file that says how names are found, over the host's: by the door. What the path is a link to stays.
    Resolver { at: PathBuf, text: String },
}

const TMP: &str = "/tmp";

impl Operation {
    /// Where something comes to stand, if it does.
    fn at(&self) -> Option<&Path> {
        match self {
            Self::Memory { at, .. } | Self::Attach { at, .. } | Self::Resolver { at, .. } => {
                Some(at)
            }
            Self::Pin { path }
            | Self::Protect { path }
            | Self::Hide { path, .. }
            | Self::Seal { path, .. } => Some(path),
            Self::ReadOnlyTree | Self::OwnTree | Self::Devices | Self::Processes { .. } => None,
        }
    }
}

/// The operations of a confined command.
pub(crate) fn confined(
    policy: &SandboxPolicy,
    command: &Command,
    around: &Surroundings,
) -> Vec<Operation> {
    let operations = around_tmp(policy.private_tmp(), policy, command, around);
    let lies_in_tmp = |operation: &Operation| {
        operation
            .at()
            .is_some_and(|at| at.starts_with(TMP) && at != Path::new(TMP))
    };
    let in_session = matches!(policy.private_tmp(), PrivateTmp::Session(_));
    // Nothing is mounted in what commands before this one wrote: one could have left a link there that leads elsewhere.
    if in_session && operations.iter().any(lies_in_tmp) {
        return around_tmp(&PrivateTmp::Fresh, policy, command, around);
    }
    operations
}

fn around_tmp(
    tmp: &PrivateTmp,
    policy: &SandboxPolicy,
    command: &Command,
    around: &Surroundings,
) -> Vec<Operation> {
    let mut layout = Layout {
        operations: vec![Operation::ReadOnlyTree],
        around,
    };
    layout.pins(policy);
    layout.operations.push(Operation::Devices);
    layout.operations.push(Operation::Processes {
        access: Access::ReadOnly,
    });
    let unlisted = layout.top_of_the_disk(policy);
    layout.private_folders(tmp, &unlisted);
    layout.veils();
    layout.trees(policy);
    layout.kept(policy, Within::Roots);
    layout.sealed(command);
    layout.resolver();
    layout.covers(unlisted.into_iter());
    layout.covers(
        around
            .sockets
            .located
            .iter()
            .map(|path| (path.clone(), Kind::Socket)),
    );
    layout.covers(around.covered.iter().cloned());
    layout.operations
}

/// The operations of an escalated command: the host as it is, without what no command may touch.
pub(crate) fn escalated(
    policy: &SandboxPolicy,
    command: &Command,
    around: &Surroundings,
) -> Vec<Operation> {
    let mut layout = Layout {
        operations: vec![Operation::OwnTree],
        around,
    };
    layout.pins_around(policy);
    layout.operations.push(Operation::Processes {
        access: Access::ReadWrite,
    });
    layout.kept(policy, Within::Host);
    layout.sealed(command);
    layout.covers(
        around
            .raw_devices
            .iter()
            .map(|path| (path.clone(), Kind::File)),
    );
    layout.covers(around.covered.iter().cloned());
    layout.operations
}

/// What comes to stand at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// What is there, so accessible.
    Tree(Access),
    /// An empty folder, in which deeper rules open something.
    Nothing,
    /// What is there, read-only.
    Guard,
}

/// Where a command may write at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Roots,
    Host,
}

struct Layout<'a> {
    operations: Vec<Operation>,
    around: &'a Surroundings,
}

impl Layout<'_> {
    fn owner(&self) -> Owner {
        if self.around.started_as_root() {
            Owner::Command
        } else {
            Owner::AsIs
        }
    }

    fn attach(&mut self, from: &Path, at: &Path, access: Access, owner: Owner) {
        self.operations.push(Operation::Attach {
            from: from.to_path_buf(),
            at: at.to_path_buf(),
            access,
            owner,
        });
    }

    fn memory(&mut self, at: &Path, access: Access) {
        // A folder that anybody may write to keeps what others put there (the sticky bit).
        let mode = if access == Access::ReadWrite {
            0o1777
        } else {
            0o755
        };
        self.operations.push(Operation::Memory {
            at: at.to_path_buf(),
            mode,
            access,
        });
    }

    /// Every directory between a writable root and something guarded inside it, so that none can be renamed away and
    /// the guarded path made anew.
    fn pins(&mut self, policy: &SandboxPolicy) {
        let protected = self
            .around
            .protected
            .iter()
            .map(|protected| match protected {
                Protected::Present(path) | Protected::Missing(path) => path,
            });
        let covered = self.around.covered.iter().map(|(path, _)| path);
        let guarded = protected
            .chain(covered)
            .chain(policy.rules().iter().map(|rule| &rule.path))
            .chain(policy.kept())
            .chain(&self.around.sockets.located);
        let mut pins = BTreeSet::new();
        for path in guarded {
            for root in policy.roots().iter().filter(|root| path.starts_with(root)) {
                let between = path
                    .ancestors()
                    .skip(1)
                    .take_while(|ancestor| ancestor != root);
                pins.extend(
                    between
                        .filter(|ancestor| ancestor.starts_with(root))
                        .map(Path::to_path_buf),
                );
            }
        }
        self.operations
            .extend(pins.into_iter().map(|path| Operation::Pin { path }));
    }

    /// Every directory on the way to what no command may touch or change, where all of the host may be written: else one
    /// could be renamed away and the way made anew for the next run.
    fn pins_around(&mut self, policy: &SandboxPolicy) {
        let guarded = policy.hidden().iter().chain(policy.kept());
        let way = guarded.flat_map(|path| path.ancestors().skip(1));
        let pins: BTreeSet<_> = way.filter(|folder| *folder != Path::new("/")).collect();
        let pin = |folder: &Path| Operation::Pin {
            path: folder.to_path_buf(),
        };
        self.operations.extend(pins.into_iter().map(pin));
    }

    /// What no command may change, where it could.
    fn kept(&mut self, policy: &SandboxPolicy, within: Within) {
        for path in policy.kept() {
            let in_a_root = policy.roots().iter().any(|root| path.starts_with(root));
            if (in_a_root || within == Within::Host) && self.is_visible(path) {
                self.operations
                    .push(Operation::Protect { path: path.clone() });
            }
        }
    }

    /// The folders that everybody has. One that lies in an unlisted folder is gone with it.
    fn private_folders(&mut self, private: &PrivateTmp, unlisted: &[(PathBuf, Kind)]) {
        let tmp = Path::new(TMP);
        let access = match private {
            PrivateTmp::Fresh => {
                self.memory(tmp, Access::ReadWrite);
                Access::ReadWrite
            }
            PrivateTmp::Session(folder) => {
                self.attach(folder, tmp, Access::ReadWrite, self.owner());
                Access::ReadWrite
            }
            PrivateTmp::Excluded => {
                self.memory(tmp, Access::ReadOnly);
                Access::ReadOnly
            }
        };
        for path in self.around.standing.clone() {
            if unlisted.iter().any(|(gone, _)| path.starts_with(gone)) {
                continue;
            }
            if path == Path::new("/var/tmp") {
                self.memory(&path, access);
            } else {
                self.memory(&path, Access::ReadOnly);
            }
        }
    }

    /// Started as root: the command is another user, for whom the home is a private one and a closed folder an empty one.
    fn veils(&mut self) {
        for veil in self.around.veils.clone() {
            let is_home = self
                .around
                .home
                .as_ref()
                .is_some_and(|home| home.starts_with(&veil));
            let access = if is_home {
                Access::ReadWrite
            } else {
                Access::ReadOnly
            };
            self.operations.push(Operation::Memory {
                at: veil,
                mode: 0o755,
                access,
            });
        }
    }

    /// Where only what is listed may be read: empties the folders at the top of the disk in which something listed lies,
    /// and answers those in which nothing does.
    fn top_of_the_disk(&mut self, policy: &SandboxPolicy) -> Vec<(PathBuf, Kind)> {
        if policy.reads() == Reads::Everything {
            return Vec::new();
        }
        let around = self.around;
        let rules = policy.rules().iter();
        let allowed = rules.filter(|rule| rule.access > policy::Access::Deny);
        let listed: Vec<&Path> = allowed
            .map(|rule| rule.path.as_path())
            .chain(around.shown.iter().map(PathBuf::as_path))
            .chain(around.veils.iter().map(PathBuf::as_path))
            .collect();
        let mut unlisted = Vec::new();
        for (entry, kind) in &around.top {
            let own = ["/dev", "/proc", "/tmp"]
                .iter()
                .any(|own| entry == Path::new(own));
            if own || listed.iter().any(|path| entry.starts_with(path)) {
                continue;
            }
            if listed.iter().any(|path| path.starts_with(entry)) {
                self.memory(entry, Access::ReadOnly);
            } else {
                unlisted.push((entry.clone(), *kind));
            }
        }
        unlisted
    }

    /// What the rules say of trees, and what is protected in them: outer ones before inner ones, so that the deeper word
    /// is the last.
    fn trees(&mut self, policy: &SandboxPolicy) {
        let (owner, around) = (self.owner(), self.around);
        let rules = policy.rules().iter().filter_map(|rule| {
            let enclosed = policy.ruled().enclosing(&rule.path).is_some();
            let put = match rule.access {
                policy::Access::Write => Put::Tree(Access::ReadWrite),
                policy::Access::Read if enclosed => Put::Tree(Access::ReadOnly),
                // Its folder was emptied; what stands at the top of the disk was left.
                policy::Access::Read
                    if policy.reads() == Reads::Listed && depth(&rule.path) > 2 =>
                {
                    Put::Tree(Access::ReadOnly)
                }
                policy::Access::Deny if policy.ruled().opens_beneath(&rule.path) => Put::Nothing,
                policy::Access::Read | policy::Access::Deny => return None,
            };
            Some((rule.path.as_path(), put))
        });
        let ruled = |path: &&PathBuf| !policy.rules().iter().any(|rule| rule.path == **path);
        let shown = around.shown.iter().filter(ruled);
        let shown = shown.map(|path| (path.as_path(), Put::Tree(Access::ReadOnly)));
        let protected = around.protected.iter().map(|protected| {
            let (Protected::Present(path) | Protected::Missing(path)) = protected;
            (path.as_path(), Put::Guard)
        });
        let mut trees: Vec<_> = rules.chain(shown).chain(protected).collect();
        trees.sort_by_key(|(path, _)| depth(path));
        for (path, put) in trees {
            match put {
                Put::Tree(access) => self.attach(path, path, access, owner),
                Put::Nothing if self.is_visible(path) => self.operations.push(Operation::Memory {
                    at: path.to_path_buf(),
                    // What may be reached in it can be, by name; nothing is listed.
                    mode: 0o111,
                    access: Access::ReadOnly,
                }),
                Put::Guard if self.is_visible(path) => self.operations.push(Operation::Protect {
                    path: path.to_path_buf(),
                }),
                Put::Nothing | Put::Guard => {}
            }
        }
    }

    fn sealed(&mut self, command: &Command) {
        for (path, content) in command.copies() {
            if self.is_visible(path) {
                self.operations.push(Operation::Seal {
                    path: path.to_path_buf(),
                    bytes: content.len(),
                });
            }
        }
    }

    fn resolver(&mut self) {
        for (at, text) in self.around.name_files.clone() {
            if self.is_visible(&at) {
                self.operations.push(Operation::Resolver { at, text });
            }
        }
    }

    fn covers(&mut self, paths: impl Iterator<Item = (PathBuf, Kind)>) {
        for (path, kind) in paths {
            let covered = |operation: &Operation| matches!(operation, Operation::Hide { path: hidden, .. } if path.starts_with(hidden));
            if self.is_visible(&path) && !self.operations.iter().any(covered) {
                self.operations.push(Operation::Hide { path, kind });
            }
        }
    }

    /// Whether something of the host shows at `path` after the operations so far.
    fn is_visible(&self, path: &Path) -> bool {
        let shows = |operation: &Operation| match operation {
            Operation::Memory { at, .. } => path.starts_with(at).then_some(false),
            Operation::Devices => path.starts_with("/dev").then_some(false),
            Operation::Processes { .. } => path.starts_with("/proc").then_some(false),
            Operation::Attach { from, at, .. } => path.starts_with(at).then_some(from == at),
            Operation::ReadOnlyTree
            | Operation::OwnTree
            | Operation::Pin { .. }
            | Operation::Protect { .. }
            | Operation::Hide { .. }
            | Operation::Resolver { .. }
            | Operation::Seal { .. } => None,
        };
        self.operations.iter().rev().find_map(shows).unwrap_or(true)
    }
}

/// The paths the command may write after `operations`, for the second wall.
pub(crate) fn writable(operations: &[Operation]) -> Vec<PathBuf> {
    let path = |operation: &Operation| {
        if let Operation::Memory {
            at,
            access: Access::ReadWrite,
            ..
        }
        | Operation::Attach {
            at,
            access: Access::ReadWrite,
            ..
        } = operation
        {
            return Some(at.clone());
        }
        (*operation == Operation::Devices).then(|| PathBuf::from("/dev/shm"))
    };
    let covered = |path: &PathBuf| {
        operations.iter().any(
            |operation| matches!(operation, Operation::Hide { path: hidden, .. } if path.starts_with(hidden)),
        )
    };
    let paths = operations.iter().filter_map(path);
    paths.filter(|path| !covered(path)).collect()
}

#[cfg(test)]
mod tests;
