//! What a command may touch: [`SandboxPolicy`], valid by construction.
//!
//! The builder is the door: it looks at the disk once, so that every path inside is absolute, canonical and there. What
//! a policy means for one command is [`crate::Plan`]'s to say. Nothing here widens anything: a policy is what holds
//! *without* anybody's leave.

mod builder;
mod checks;
mod limits;
mod names;
mod rules;

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

pub use builder::PolicyBuilder;
pub(crate) use checks::homes_of_this_user;
use checks::session_folder;
pub use limits::Limits;
pub(crate) use limits::machine;
pub use names::PROTECTED_NAMES;
pub(crate) use names::{REPOSITORY, protected_in};
pub use rules::{Access, Reads, Reason, Rule, Ruling};
pub(crate) use rules::{Rules, depth};

use crate::glob::{DeniedPattern, InvalidPattern};

/// What the command may reach by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A network of its own with nothing but loopback.
    #[default]
    Off,
    /// The same, and in it the door's sockets ([`crate::Doorway`]): what their holder lets through is all that is reached.
    Door,
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
    #[error("cannot resolve `{}`\nhint: make it, or take it out of what names it: `--add-dir`, `writable_roots` or a permission profile", .path.display())]
    Unresolved {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Neither a file nor a directory.
    #[error("`{}` is neither a file nor a directory", .0.display())]
    NeitherFileNorDirectory(PathBuf),
    /// What is to be denied is reached through a link that a command may turn elsewhere.
    #[error("cannot deny `{}`: it leads through `{}`, a symbolic link that commands may replace\nhint: name what the link points to", .path.display(), .link.display())]
    ThroughWritableLink {
        /// What was to be denied.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// A pattern of denied reads that cannot be read.
    #[error("`{pattern}` is not a pattern of paths")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: InvalidPattern,
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
    rules: Rules,
    reads: Reads,
    patterns: Vec<DeniedPattern>,
    scan_depth: Option<usize>,
    unprotected: Vec<PathBuf>,
    roots: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    network: Network,
    #[serde(skip)]
    granted_network: Network,
    private_tmp: PrivateTmp,
    hidden: Vec<PathBuf>,
    denied_reads: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    limits: Limits,
    #[serde(skip)]
    memory: Option<PathBuf>,
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

    /// What this policy says of `path`, which must be absolute and resolved, and which part of it says so. For the
    /// runner's own file writes, and for telling what a refusal was.
    ///
    /// Answers from the policy alone, without a look at the disk: what the start of a command finds there besides (other
    /// names of a denied file, the git directory behind a pointer file) is not in it. A repository's `.git` is protected at
    /// every depth here, whether it exists or not.
    #[must_use]
    pub fn access(&self, path: &Path) -> Ruling {
        let ruling = |access, by| Ruling { access, by };
        let around =
            |paths: &[PathBuf]| paths.iter().find(|known| path.starts_with(known)).cloned();
        if let Some(path) = around(&self.hidden) {
            return ruling(Access::Deny, Reason::NeverTouched { path });
        }
        let nearest = self.rules.nearest(path);
        let ruled = nearest.map_or(0, |rule| depth(&rule.path));
        let matched = self.patterns.iter().find_map(|pattern| {
            let at = path
                .ancestors()
                .find(|ancestor| pattern.matches(ancestor))?;
            (depth(at) > ruled).then(|| pattern.text().to_owned())
        });
        if let Some(pattern) = matched {
            return ruling(Access::Deny, Reason::Pattern { pattern });
        }
        let Some(rule) = nearest else {
            let access = match self.reads {
                Reads::Everything => Access::Read,
                Reads::Listed => Access::Deny,
            };
            return ruling(access, Reason::Default);
        };
        if rule.access == Access::Write {
            if let Some(path) = self.protected_around(&rule.path, path) {
                return ruling(Access::Read, Reason::ProtectedName { path });
            }
            if let Some(path) = around(&self.kept) {
                return ruling(Access::Read, Reason::NeverChanged { path });
            }
        }
        let path = rule.path.clone();
        ruling(rule.access, Reason::Path { path })
    }

    /// The protected path that `path` in the writable `root` is or lies in, where nobody granted it by name.
    fn protected_around(&self, root: &Path, path: &Path) -> Option<PathBuf> {
        let protected = protected_in(root, path)?;
        (!self.is_unprotected(&protected)).then_some(protected)
    }

    /// Whether a protected path was given up by name.
    pub(crate) fn is_unprotected(&self, protected: &Path) -> bool {
        let by_name = self
            .unprotected
            .iter()
            .any(|path| protected.starts_with(path));
        by_name
            || self.rules.paths(Access::Write).any(|root| {
                // A repository granted by name holds the git directories of its work trees and submodules.
                root == protected || root.ends_with(REPOSITORY) && protected.starts_with(root)
            })
    }

    /// What a person should know of this policy before it is used, a line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let roots = || self.rules.paths(Access::Write);
        let inside = |path: &PathBuf| {
            let outer = roots().find(|root| *root != path && path.starts_with(root))?;
            protected_in(outer, path)
        };
        let granted = roots().filter(|path| inside(path).is_some());
        let given_up = self.unprotected.iter();
        let mut paths: Vec<_> = granted.chain(given_up).collect();
        paths.sort();
        paths.dedup();
        let line = |path: &PathBuf| {
            format!(
                "`{}` may be written though it decides what runs later: it was granted by name",
                path.display()
            )
        };
        paths.into_iter().map(line).collect()
    }

    /// The writable paths, outermost first.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Every rule, by path.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.rules.all()
    }

    /// What may be read where no rule speaks.
    #[must_use]
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// What the command may reach by network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// What the command may reach by network where somebody grants it a network: never less than it has.
    #[must_use]
    pub fn network_by_grant(&self) -> Network {
        if self.network == Network::Off {
            self.granted_network
        } else {
            self.network
        }
    }

    /// What stands at `/tmp`.
    #[must_use]
    pub fn private_tmp(&self) -> &PrivateTmp {
        &self.private_tmp
    }

    /// The same for a run of a session: `folder`, which outlives the command, in place of an empty `/tmp`. One that is excluded
    /// stays so.
    ///
    /// # Errors
    /// The folder is not there, or others than its owner may enter it.
    pub fn in_session(mut self, folder: &Path) -> Result<Self, InvalidPolicy> {
        if self.private_tmp == PrivateTmp::Fresh {
            self.private_tmp = PrivateTmp::Session(session_folder(folder)?);
        }
        Ok(self)
    }

    /// What no command may ever touch.
    #[must_use]
    pub fn hidden(&self) -> &[PathBuf] {
        &self.hidden
    }

    /// What the command may not read, by path.
    #[must_use]
    pub fn denied_reads(&self) -> &[PathBuf] {
        &self.denied_reads
    }

    /// What the command may not read, by pattern.
    #[must_use]
    pub fn denied_patterns(&self) -> &[DeniedPattern] {
        &self.patterns
    }

    /// What no command may change.
    #[must_use]
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// How much a command may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn ruled(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn readable(&self) -> &[PathBuf] {
        &self.readable
    }

    pub(crate) fn scan_depth(&self) -> Option<usize> {
        self.scan_depth
    }

    pub(crate) fn memory(&self) -> Option<&Path> {
        self.memory.as_deref()
    }
}

#[cfg(test)]
mod tests;
