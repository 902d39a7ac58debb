//! What a command may touch: [`SandboxPolicy`], valid by construction.
//!
//! The builder is the door: it looks at the disk once, so that every path inside is absolute, canonical and there. What
//! a policy means for one command is [`crate::Plan`]'s to say. Nothing here widens anything: a policy is what holds
//! *without* anybody's leave.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;
use thiserror::Error;

/// Names in every writable root that only a person may write: what they hold decides what runs later.
pub const PROTECTED_NAMES: [&str; 3] = [".git", ".agents", ".codex"];

/// Directories that are no workspace, whoever asks.
const NO_WORKSPACE: [&str; 20] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];
/// Trees of the kernel, no part of which is a workspace.
const KERNEL_TREES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What the command may reach by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A network of its own with nothing but loopback.
    #[default]
    Off,
    /// The host's.
    Full,
}

/// What the command sees at `/tmp` and `/var/tmp`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivateTmp {
    /// An empty folder in memory, of limited size, gone with the command.
    #[default]
    Fresh,
    /// This folder, which outlives the command: the session's. Owner-only, made by the caller.
    Session(PathBuf),
    /// An empty folder that cannot be written.
    Excluded,
}

/// Why a policy cannot be.
#[derive(Debug, Error)]
pub enum InvalidPolicy {
    /// A path that depends on where one stands.
    #[error("`{}` is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// A path that cannot be resolved.
    #[error("cannot resolve `{}`", .path.display())]
    Unresolved {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file where a directory must be.
    #[error("`{}` is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A directory that is too much to hand out.
    #[error("`{}` cannot be a workspace: {reason}\nhint: start in a project's own directory", .path.display())]
    NotAWorkspace {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// What must stay hidden lies where the command may write.
    #[error("`{}`, which commands may never touch, lies inside the writable `{}`", .hidden.display(), .root.display())]
    HiddenInsideRoot {
        /// What is to be hidden.
        hidden: PathBuf,
        /// The root around it.
        root: PathBuf,
    },
    /// A writable root lies inside what must stay hidden.
    #[error("the writable `{}` lies inside `{}`, which commands may never touch", .root.display(), .hidden.display())]
    RootInsideHidden {
        /// The root.
        root: PathBuf,
        /// What is to be hidden.
        hidden: PathBuf,
    },
    /// A writable root lies inside what nobody may change.
    #[error("the writable `{}` lies inside `{}`, which no command may change", .root.display(), .kept.display())]
    RootInsideKept {
        /// The root.
        root: PathBuf,
        /// What is to be kept.
        kept: PathBuf,
    },
    /// The session's folder could be written by others.
    #[error("the session folder `{}` is not this user's alone", .0.display())]
    SharedSessionFolder(PathBuf),
}

/// What a command may touch without anybody's leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxPolicy {
    roots: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    network: Network,
    private_tmp: PrivateTmp,
    hidden: Vec<PathBuf>,
    denied_reads: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

/// Gathers a policy; [`PolicyBuilder::build`] checks it.
#[derive(Debug, Clone, Default)]
pub struct PolicyBuilder {
    roots: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    network: Network,
    private_tmp: PrivateTmp,
    hidden: Vec<PathBuf>,
    denied_reads: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

impl SandboxPolicy {
    /// Nothing writable but the private `/tmp`, no network.
    #[must_use]
    pub fn read_only() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// The directory `root` writable beside the private `/tmp`, no network.
    #[must_use]
    pub fn workspace_write(root: impl Into<PathBuf>) -> PolicyBuilder {
        PolicyBuilder::default().root(root)
    }

    /// The writable roots, outermost first.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// What the command may reach by network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// What stands at `/tmp`.
    #[must_use]
    pub fn private_tmp(&self) -> &PrivateTmp {
        &self.private_tmp
    }

    /// What no command may ever touch.
    #[must_use]
    pub fn hidden(&self) -> &[PathBuf] {
        &self.hidden
    }

    /// What the command may not read.
    #[must_use]
    pub fn denied_reads(&self) -> &[PathBuf] {
        &self.denied_reads
    }

    /// What no command may change.
    #[must_use]
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    pub(crate) fn readable(&self) -> &[PathBuf] {
        &self.readable
    }

    /// This policy and exactly `additional`; only a permitted action leads here.
    pub(crate) fn widened(
        &self,
        additional: &protocol::AdditionalPermissions,
    ) -> Result<Self, InvalidPolicy> {
        let readable: Vec<_> = additional
            .read
            .iter()
            .map(|path| PathBuf::from(path.as_str()))
            .collect();
        let readable = canonical_all(&readable, Missing::Refuse)?;
        let kept = |denied: &&PathBuf| !readable.iter().any(|path| denied.starts_with(path));
        let mut builder = PolicyBuilder {
            roots: self.roots.clone(),
            readable: [self.readable.clone(), readable.clone()].concat(),
            network: if additional.network {
                Network::Full
            } else {
                self.network
            },
            private_tmp: self.private_tmp.clone(),
            hidden: self.hidden.clone(),
            denied_reads: self.denied_reads.iter().filter(kept).cloned().collect(),
            kept: self.kept.clone(),
        };
        builder.roots.extend(
            additional
                .write
                .iter()
                .map(|path| PathBuf::from(path.as_str())),
        );
        builder.build()
    }
}

impl PolicyBuilder {
    /// One more writable directory.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.roots.push(root.into());
        self
    }

    /// A tree the command must be able to read even where the caller alone may (it matters when started as root, where
    /// the command runs as another user): the workspace of a read-only policy.
    #[must_use]
    pub fn readable(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }

    /// What the command may reach by network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// What stands at `/tmp`.
    #[must_use]
    pub fn private_tmp(mut self, private_tmp: PrivateTmp) -> Self {
        self.private_tmp = private_tmp;
        self
    }

    /// A path that no command may touch in any plan that has walls: the runner's state, tokens, keys. What does not
    /// exist when a command starts is not covered: make it first.
    #[must_use]
    pub fn hide(mut self, path: impl Into<PathBuf>) -> Self {
        self.hidden.push(path.into());
        self
    }

    /// A path the command may not read, though it may lie inside a writable root.
    #[must_use]
    pub fn deny_read(mut self, path: impl Into<PathBuf>) -> Self {
        self.denied_reads.push(path.into());
        self
    }

    /// A file or directory that no command may write, remove or rename in any plan that has walls, escalated included,
    /// though all may read it: the runner's own binary. It must exist. What the same file is called elsewhere (a hard link
    /// made before) is not covered.
    #[must_use]
    pub fn keep(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept.push(path.into());
        self
    }

    /// Checks all of it against the disk.
    ///
    /// # Errors
    /// See [`InvalidPolicy`].
    pub fn build(self) -> Result<SandboxPolicy, InvalidPolicy> {
        let homes = homes_of_this_user();
        let mut roots = canonical_all(&self.roots, Missing::Refuse)?;
        for root in &roots {
            check_root(root, homes)?;
        }
        roots.sort();
        roots.dedup();
        let hidden = canonical_all(&self.hidden, Missing::Skip)?;
        for path in &hidden {
            if let Some(root) = roots.iter().find(|root| path.starts_with(root)) {
                return Err(InvalidPolicy::HiddenInsideRoot {
                    hidden: path.clone(),
                    root: root.clone(),
                });
            }
            if let Some(root) = roots.iter().find(|root| root.starts_with(path)) {
                return Err(InvalidPolicy::RootInsideHidden {
                    root: root.clone(),
                    hidden: path.clone(),
                });
            }
        }
        let denied_reads = canonical_all(&self.denied_reads, Missing::Skip)?;
        for path in &denied_reads {
            if let Some(root) = roots.iter().find(|root| root.starts_with(path)) {
                return Err(InvalidPolicy::RootInsideHidden {
                    root: root.clone(),
                    hidden: path.clone(),
                });
            }
        }
        let kept = canonical_all(&self.kept, Missing::Refuse)?;
        for path in &kept {
            if let Some(root) = roots.iter().find(|root| root.starts_with(path)) {
                return Err(InvalidPolicy::RootInsideKept {
                    root: root.clone(),
                    kept: path.clone(),
                });
            }
        }
        let private_tmp = match self.private_tmp {
            PrivateTmp::Session(folder) => PrivateTmp::Session(session_folder(&folder)?),
            other @ (PrivateTmp::Fresh | PrivateTmp::Excluded) => other,
        };
        Ok(SandboxPolicy {
            roots,
            readable: canonical_all(&self.readable, Missing::Refuse)?,
            network: self.network,
            private_tmp,
            hidden,
            denied_reads,
            kept,
        })
    }
}

#[derive(Clone, Copy)]
enum Missing {
    Refuse,
    Skip,
}

fn canonical_all(paths: &[PathBuf], missing: Missing) -> Result<Vec<PathBuf>, InvalidPolicy> {
    let mut canonical = Vec::with_capacity(paths.len());
    for path in paths {
        if !path.is_absolute() {
            return Err(InvalidPolicy::Relative(path.clone()));
        }
        match (path.canonicalize(), missing) {
            (Ok(path), _) => canonical.push(path),
            (Err(error), Missing::Skip) if error.kind() == std::io::ErrorKind::NotFound => {}
            (Err(source), _) => {
                return Err(InvalidPolicy::Unresolved {
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    Ok(canonical)
}

fn check_root(root: &Path, homes: &[PathBuf]) -> Result<(), InvalidPolicy> {
    let refuse = |reason| {
        Err(InvalidPolicy::NotAWorkspace {
            path: root.to_path_buf(),
            reason,
        })
    };
    if !root.is_dir() {
        return Err(InvalidPolicy::NotADirectory(root.to_path_buf()));
    }
    if NO_WORKSPACE.iter().any(|path| root == Path::new(path)) || root == Path::new("/var/tmp") {
        return refuse("it belongs to the whole system");
    }
    if KERNEL_TREES.iter().any(|tree| root.starts_with(tree)) {
        return refuse("it belongs to the kernel");
    }
    if homes.iter().any(|home| home == root) {
        return refuse("it is the home folder");
    }
    if homes.iter().any(|home| home.starts_with(root)) {
        return refuse("the home folder lies inside it");
    }
    Ok(())
}

fn session_folder(folder: &Path) -> Result<PathBuf, InvalidPolicy> {
    use std::os::unix::fs::MetadataExt as _;
    let unresolved = |source| InvalidPolicy::Unresolved {
        path: folder.to_path_buf(),
        source,
    };
    if !folder.is_absolute() {
        return Err(InvalidPolicy::Relative(folder.to_path_buf()));
    }
    let path = folder.canonicalize().map_err(unresolved)?;
    let found = path.symlink_metadata().map_err(unresolved)?;
    if !found.is_dir() {
        return Err(InvalidPolicy::NotADirectory(path));
    }
    let own = found.uid() == rustix::process::geteuid().as_raw();
    if !own || found.mode() & 0o077 != 0 {
        return Err(InvalidPolicy::SharedSessionFolder(path));
    }
    Ok(path)
}

/// The home folder of this user as the user database has it. The environment's `HOME` is the caller's to add
/// ([`crate::Command`] carries it).
pub(crate) fn homes_of_this_user() -> &'static [PathBuf] {
    static HOMES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    HOMES.get_or_init(read_homes)
}

fn read_homes() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let database = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries = database
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let own = entries.filter(|fields| fields.get(2) == Some(&user.as_str()));
    let homes = own.filter_map(|fields| fields.get(5).map(PathBuf::from));
    homes
        .filter(|home| home.is_absolute() && home != Path::new("/"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_system_is_no_workspace() {
        for path in ["/", "/etc", "/usr", "/proc", "/proc/self", "/tmp", "/home"] {
            let refused = SandboxPolicy::workspace_write(path).build();
            assert!(refused.is_err(), "{path}");
        }
    }

    #[test]
    fn the_home_folder_is_no_workspace() {
        for home in homes_of_this_user() {
            if home.exists() {
                let refused = SandboxPolicy::workspace_write(home).build();
                assert!(matches!(refused, Err(InvalidPolicy::NotAWorkspace { .. })));
            }
        }
    }

    #[test]
    fn a_relative_or_missing_root_is_refused() {
        let relative = SandboxPolicy::workspace_write("src").build();
        assert!(matches!(relative, Err(InvalidPolicy::Relative(_))));
        let missing = SandboxPolicy::workspace_write("/srv/there/is/no/such").build();
        assert!(matches!(missing, Err(InvalidPolicy::Unresolved { .. })));
    }

    #[test]
    fn what_is_hidden_cannot_lie_inside_a_root() {
        let folder = std::env::temp_dir().join(format!("sandbox-policy-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("state")).unwrap();
        let refused = SandboxPolicy::workspace_write(&folder)
            .hide(folder.join("state"))
            .build();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(
            refused,
            Err(InvalidPolicy::HiddenInsideRoot { .. })
        ));
    }
}
