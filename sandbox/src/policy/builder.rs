//! Gathers a policy and checks it against the disk: [`PolicyBuilder`], the only door to a [`SandboxPolicy`].
//!
//! What comes out has absolute, resolved paths that are there. Widening is here too: it goes through the same door.

use std::path::{Path, PathBuf};

use super::checks::{Missing, canonical, canonical_all, check_root, session_folder, writable_link};
use super::rules::{Access, Reads, Rule, Rules};
use super::{InvalidPolicy, Limits, Network, PrivateTmp, SandboxPolicy};
use crate::glob::DeniedPattern;

/// Gathers a policy; [`PolicyBuilder::build`] checks it.
#[derive(Debug, Clone, Default)]
pub struct PolicyBuilder {
    rules: Vec<Rule>,
    reads: Reads,
    patterns: Vec<(PathBuf, String)>,
    scan_depth: Option<usize>,
    unprotected: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    network: Network,
    granted_network: Option<Network>,
    private_tmp: PrivateTmp,
    hidden: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    limits: Limits,
    memory: Option<PathBuf>,
}

impl PolicyBuilder {
    /// Access to `path` and everything beneath it, until a deeper rule says otherwise. Of two rules for one path the
    /// stricter holds. What may be written must exist; a missing path of another rule is no rule. To deny `/` is to read
    /// only what is listed.
    #[must_use]
    pub fn access(mut self, path: impl Into<PathBuf>, access: Access) -> Self {
        let path = path.into();
        self.rules.push(Rule { path, access });
        self
    }

    /// One more writable directory or file.
    #[must_use]
    pub fn root(self, root: impl Into<PathBuf>) -> Self {
        self.access(root, Access::Write)
    }

    /// A path the command may not read, though it may lie inside a writable root.
    #[must_use]
    pub fn deny_read(self, path: impl Into<PathBuf>) -> Self {
        self.access(path, Access::Deny)
    }

    /// What may be read where no rule speaks; everything unless said.
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// Paths beneath `base` that match `pattern` may not be read. `*` and `?` stop at a `/`, `**` does not; hidden files
    /// count, ignore files do not. Expanded when a command starts: a file made later is not covered until the next start.
    #[must_use]
    pub fn deny_matching(mut self, base: impl Into<PathBuf>, pattern: impl Into<String>) -> Self {
        self.patterns.push((base.into(), pattern.into()));
        self
    }

    /// How many folders deep below their base patterns are looked for; as deep as it goes unless said.
    #[must_use]
    pub fn scan_depth(mut self, folders: usize) -> Self {
        self.scan_depth = Some(folders);
        self
    }

    /// Gives a protected name up: what a person granted by name beats the default. A writable root that is itself a
    /// protected name needs no second word. [`SandboxPolicy::notes`] says so.
    #[must_use]
    pub fn unprotect(mut self, path: impl Into<PathBuf>) -> Self {
        self.unprotected.push(path.into());
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

    /// What a grant of network gives where the command has none; the host's unless said.
    #[must_use]
    pub fn granted_network(mut self, network: Network) -> Self {
        self.granted_network = Some(network);
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

    /// A file or directory that no command may write, remove or rename in any plan that has walls, escalated included,
    /// though all may read it: the runner's own binary. It must exist. What the same file is called elsewhere (a hard link
    /// made before) is not covered.
    #[must_use]
    pub fn keep(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept.push(path.into());
        self
    }

    /// How much a command may use; [`Limits::default`] unless said.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A folder of the runner's own where what was found in large trees is kept from one process to the next. It is
    /// checked against the disk at each use. Without it each process looks for itself.
    #[must_use]
    pub fn remember_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.memory = Some(folder.into());
        self
    }

    /// Checks all of it against the disk.
    ///
    /// # Errors
    /// See [`InvalidPolicy`].
    pub fn build(self) -> Result<SandboxPolicy, InvalidPolicy> {
        let (rules, roots) = resolved_rules(&self.rules)?;
        let hidden = canonical_all(&self.hidden, Missing::Skip)?;
        keep_apart(&hidden, &roots)?;
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
        let patterns = self
            .patterns
            .iter()
            .map(|(base, pattern)| DeniedPattern::parse(base, pattern))
            .collect::<Result<_, _>>()?;
        // A rule that denies the whole disk is what `Listed` means.
        let whole = |rule: &Rule| rule.access == Access::Deny && rule.path == Path::new("/");
        let reads = if rules.iter().any(whole) {
            Reads::Listed
        } else {
            self.reads
        };
        let rules = Rules::new(rules.into_iter().filter(|rule| !whole(rule)).collect());
        Ok(SandboxPolicy {
            denied_reads: rules.paths(Access::Deny).cloned().collect(),
            rules,
            reads,
            patterns,
            scan_depth: self.scan_depth,
            unprotected: resolved_or_as_is(&self.unprotected)?,
            roots,
            readable: canonical_all(&self.readable, Missing::Refuse)?,
            network: self.network,
            granted_network: self.granted_network.unwrap_or(Network::Full),
            private_tmp,
            hidden,
            kept,
            limits: self.limits,
            memory: self.memory,
        })
    }
}

/// The rules with resolved paths, and the writable ones among those paths.
fn resolved_rules(rules: &[Rule]) -> Result<(Vec<Rule>, Vec<PathBuf>), InvalidPolicy> {
    let (writable, others): (Vec<_>, Vec<_>) =
        rules.iter().partition(|rule| rule.access == Access::Write);
    let named: Vec<_> = writable.iter().map(|rule| rule.path.clone()).collect();
    let mut roots = canonical_all(&named, Missing::Refuse)?;
    for root in &roots {
        check_root(root)?;
    }
    roots.sort();
    roots.dedup();
    let write = roots.iter().map(|root| Rule {
        path: root.clone(),
        access: Access::Write,
    });
    let mut resolved: Vec<_> = write.collect();
    for Rule { path, access } in others {
        let link = writable_link(path, &roots);
        match (link, access) {
            (Some(link), Access::Deny) => {
                return Err(InvalidPolicy::ThroughWritableLink {
                    path: path.clone(),
                    link,
                });
            }
            _ => resolved.extend(canonical(path, Missing::Skip)?.map(|path| Rule {
                path,
                access: *access,
            })),
        }
    }
    // A path that is both writable and denied is denied.
    let denied = |root: &PathBuf| {
        let stricter = |rule: &Rule| rule.path == *root && rule.access < Access::Write;
        resolved.iter().any(stricter)
    };
    roots.retain(|root| !denied(root));
    Ok((resolved, roots))
}

fn keep_apart(hidden: &[PathBuf], roots: &[PathBuf]) -> Result<(), InvalidPolicy> {
    for path in hidden {
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
    Ok(())
}

/// A name given up need not exist.
fn resolved_or_as_is(paths: &[PathBuf]) -> Result<Vec<PathBuf>, InvalidPolicy> {
    let one = |path: &PathBuf| Ok(canonical(path, Missing::Skip)?.unwrap_or_else(|| path.clone()));
    paths.iter().map(one).collect()
}

impl SandboxPolicy {
    /// This policy and exactly what `leave` permits.
    ///
    /// # Errors
    /// A path is not there, or is one that no command may have.
    pub fn with_leave(&self, leave: &protocol::StandingLeave) -> Result<Self, InvalidPolicy> {
        self.widened(leave.permissions())
    }

    /// Whether this policy could be widened by `additional`: the same checks, and nothing is widened.
    ///
    /// # Errors
    /// A path is not there, or is one that no command may have.
    pub fn could_grant(
        &self,
        additional: &protocol::AdditionalPermissions,
    ) -> Result<(), InvalidPolicy> {
        self.widened(additional).map(|_| ())
    }

    /// This policy and exactly `additional`; only what was permitted leads here.
    pub(crate) fn widened(
        &self,
        additional: &protocol::AdditionalPermissions,
    ) -> Result<Self, InvalidPolicy> {
        let granted = |paths: &[protocol::AbsolutePath]| -> Vec<PathBuf> {
            paths
                .iter()
                .map(|path| PathBuf::from(path.as_str()))
                .collect()
        };
        let readable = canonical_all(&granted(&additional.read), Missing::Refuse)?;
        let writable = canonical_all(&granted(&additional.write), Missing::Refuse)?;
        let lifted = |path: &Path| {
            let mut paths = readable.iter().chain(&writable);
            paths.any(|granted| path.starts_with(granted))
        };
        let stays = |rule: &&Rule| rule.access != Access::Deny || !lifted(&rule.path);
        let mut rules: Vec<Rule> = self.rules.all().iter().filter(stays).cloned().collect();
        let denied = |path: &&PathBuf| self.access(path).access == Access::Deny;
        rules.extend(readable.iter().filter(denied).map(|path| Rule {
            path: path.clone(),
            access: Access::Read,
        }));
        rules.extend(writable.into_iter().map(|path| Rule {
            path,
            access: Access::Write,
        }));
        let patterns = self.patterns.iter();
        let builder = PolicyBuilder {
            rules,
            reads: self.reads,
            patterns: patterns
                .map(|pattern| (pattern.base().to_path_buf(), pattern.text().to_owned()))
                .collect(),
            scan_depth: self.scan_depth,
            unprotected: self.unprotected.clone(),
            readable: [self.readable.clone(), readable].concat(),
            network: if additional.network {
                self.network_by_grant()
            } else {
                self.network
            },
            granted_network: Some(self.granted_network),
            private_tmp: self.private_tmp.clone(),
            hidden: self.hidden.clone(),
            kept: self.kept.clone(),
            limits: self.limits,
            memory: self.memory.clone(),
        };
        builder.build()
    }
}
