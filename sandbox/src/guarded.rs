//! What must be guarded around and inside the writable trees: protected names, and paths that must not be read.
//!
//! Reads the disk by way of [`walk`], never writes it. What cannot be guarded refuses the start, or, where the command
//! gains nothing by it that it did not have, is said in a note.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::keeper;
use crate::plan::PlanError;
use crate::policy::{Access, PROTECTED_NAMES, REPOSITORY, SandboxPolicy};
use crate::surroundings::{Kind, Protected, kind_of};
use crate::walk::{self, Found, Wanted, Why};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Guarded {
    pub(crate) protected: Vec<Protected>,
    pub(crate) covered: Vec<(PathBuf, Kind)>,
    pub(crate) notes: Vec<String>,
}

/// Looks at everything that `policy` wants guarded.
pub(crate) fn look(policy: &SandboxPolicy) -> Result<Guarded, PlanError> {
    let mut looking = Looking {
        policy,
        covered: BTreeMap::new(),
        protected: BTreeSet::new(),
        guarded: Guarded::default(),
    };
    looking.named();
    looking.names_at_the_top()?;
    looking.trees()?;
    let mut guarded = looking.guarded;
    guarded.covered = looking.covered.into_iter().collect();
    Ok(guarded)
}

struct Looking<'a> {
    policy: &'a SandboxPolicy,
    covered: BTreeMap<PathBuf, Kind>,
    /// Which protected paths are known already.
    protected: BTreeSet<PathBuf>,
    guarded: Guarded,
}

impl Looking<'_> {
    fn note(&mut self, line: String) {
        if !self.guarded.notes.contains(&line) {
            self.guarded.notes.push(line);
        }
    }

    fn protect(&mut self, protected: Protected) {
        let (Protected::Present(path) | Protected::Missing(path)) = &protected;
        if self.protected.insert(path.clone()) {
            self.guarded.protected.push(protected);
        }
    }

    /// What the policy covers by path.
    fn named(&mut self) {
        let policy = self.policy;
        let paths = policy.hidden().iter().chain(policy.denied_reads());
        self.covered.extend(paths.filter_map(|path| kind_of(path)));
    }

    fn names_at_the_top(&mut self) -> Result<(), PlanError> {
        let roots = self.policy.roots();
        for root in roots.iter().filter(|root| root.is_dir()) {
            let closed = nothing_can_be_made_in(root);
            for name in PROTECTED_NAMES {
                let path = root.join(name);
                if self.policy.is_unprotected(&path) {
                    continue;
                }
                match path.symlink_metadata() {
                    Ok(found) if found.is_symlink() => {
                        return Err(PlanError::ProtectedSymlink(path));
                    }
                    // Made by a run that is still going on or was cut off: held like one of this run's own.
                    Ok(found) if keeper::is_kept_free(&found) => {
                        self.protect(Protected::Missing(path));
                    }
                    Ok(found) => {
                        if found.is_file() && name == REPOSITORY {
                            self.behind_pointer(&path, Missing::Refuse)?;
                        }
                        self.protect(Protected::Present(path));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        if !closed {
                            self.protect(Protected::Missing(path));
                        }
                    }
                    Err(source) => return Err(PlanError::Unreadable { path, source }),
                }
            }
        }
        Ok(())
    }

    /// Looks through the writable trees and those that patterns hold in.
    fn trees(&mut self) -> Result<(), PlanError> {
        let roots = trees_of(self.policy);
        let mut aliases = self.names_of_more_than_one();
        loop {
            let wanted = Wanted {
                patterns: self.policy.denied_patterns(),
                depth: self.policy.scan_depth(),
                aliases: &aliases,
                memory: self.policy.memory(),
            };
            let mut found = Vec::new();
            for root in &roots {
                found.extend(walk::walk(root, wanted)?);
            }
            for found in found {
                self.take(found)?;
            }
            let known = self.names_of_more_than_one();
            if known == aliases {
                break;
            }
            // A match has other names: they are looked for in a second walk.
            aliases = known;
        }
        self.names_outside(&aliases);
        Ok(())
    }

    fn take(&mut self, Found { path, why }: Found) -> Result<(), PlanError> {
        match why {
            Why::Repository => self.repository(&path),
            Why::Denied => {
                self.denied(&path);
                Ok(())
            }
            Why::Alias => {
                self.covered.entry(path).or_insert(Kind::File);
                Ok(())
            }
            Why::Closed => {
                // Read-only, its mode cannot be changed, and so nothing in it be reached.
                if self.is_writable(&path) && !self.policy.roots().contains(&path) {
                    self.protect(Protected::Present(path));
                }
                Ok(())
            }
        }
    }

    fn is_writable(&self, path: &Path) -> bool {
        let nearest = self.policy.ruled().nearest(path);
        nearest.is_some_and(|rule| rule.access == Access::Write)
    }

    fn repository(&mut self, path: &Path) -> Result<(), PlanError> {
        if !self.is_writable(path) || self.policy.is_unprotected(path) {
            return Ok(());
        }
        let Ok(found) = path.symlink_metadata() else {
            // Gone since its folder was read.
            return Ok(());
        };
        let made_by_a_run = keeper::is_kept_free(&found);
        if found.is_symlink() {
            if let Ok(target) = path.canonicalize()
                && self.is_writable(&target)
                && !self.policy.roots().contains(&target)
            {
                self.protect(Protected::Present(target));
            }
            self.note(format!(
                "`{}` is a symbolic link, which the walls cannot keep from being replaced",
                path.display()
            ));
        } else if !made_by_a_run {
            if found.is_file() {
                self.behind_pointer(path, Missing::Note)?;
            }
            self.protect(Protected::Present(path.to_path_buf()));
        }
        Ok(())
    }

    fn denied(&mut self, path: &Path) {
        let exact = self.policy.ruled().nearest(path);
        if exact.is_some_and(|rule| rule.path == path && rule.access > Access::Deny) {
            return;
        }
        let Some((path, kind)) = kind_of(path) else {
            return;
        };
        if !path.is_symlink() {
            self.covered.insert(path, kind);
            return;
        }
        // What the link leads to is denied by this name too. A whole tree elsewhere is not: a link is made by anybody.
        let Some((target, kind)) = path.canonicalize().ok().and_then(|target| kind_of(&target))
        else {
            return;
        };
        let around = self
            .policy
            .roots()
            .iter()
            .any(|root| root.starts_with(&target));
        if !around && (kind == Kind::File || self.is_writable(&target)) {
            self.covered.insert(target, kind);
        } else {
            self.note(format!(
                "`{}` is denied, but the folder that it is a link to is not",
                path.display()
            ));
        }
    }

    /// Covered files that have more names than one, by device and inode.
    fn names_of_more_than_one(&self) -> Vec<(u64, u64)> {
        let files = self.covered.iter().filter(|(_, kind)| **kind == Kind::File);
        let found = files.filter_map(|(path, _)| path.symlink_metadata().ok());
        let several = found.filter(|found| found.is_file() && found.nlink() > 1);
        let known: BTreeSet<_> = several.map(|found| (found.dev(), found.ino())).collect();
        known.into_iter().collect()
    }

    /// Says which covered files have names that no walk met.
    fn names_outside(&mut self, aliases: &[(u64, u64)]) {
        if aliases.is_empty() {
            return;
        }
        let mut names: BTreeMap<(u64, u64), (u64, u64, &Path)> = BTreeMap::new();
        for path in self.covered.keys() {
            if let Ok(found) = path.symlink_metadata() {
                let identity = (found.dev(), found.ino());
                let entry = names
                    .entry(identity)
                    .or_insert_with(|| (0, found.nlink(), path));
                entry.0 += 1;
            }
        }
        let unmet = names.into_iter().filter(|(identity, (met, all, _))| {
            aliases.binary_search(identity).is_ok() && met < all
        });
        let lines: Vec<_> = unmet
            .map(|(_, (met, all, path))| {
                let more = all - met;
                format!(
                    "`{}` is denied, but the file has {more} more name{} elsewhere",
                    path.display(),
                    if more == 1 { "" } else { "s" }
                )
            })
            .collect();
        for line in lines {
            self.note(line);
        }
    }

    /// The git directory behind the pointer file `pointer` and the common one behind that, where a root holds them.
    fn behind_pointer(&mut self, pointer: &Path, missing: Missing) -> Result<(), PlanError> {
        let base = pointer.parent().unwrap_or(pointer);
        let text = fs::read(pointer).map_err(|source| PlanError::Unreadable {
            path: pointer.to_path_buf(),
            source,
        })?;
        let text = String::from_utf8_lossy(&text);
        let first = text.lines().next().unwrap_or_default();
        let Some(target) = first.strip_prefix("gitdir:") else {
            return Ok(());
        };
        let target = base.join(target.trim());
        let Ok(directory) = target.canonicalize() else {
            return match missing {
                Missing::Refuse if self.is_writable(&target) => {
                    Err(PlanError::DanglingGitDirectory(target))
                }
                Missing::Refuse => Ok(()),
                Missing::Note => {
                    self.note(format!(
                        "the git directory `{}` is pointed at but missing",
                        target.display()
                    ));
                    Ok(())
                }
            };
        };
        let mut found = vec![directory.clone()];
        if let Ok(common) = fs::read_to_string(directory.join("commondir")) {
            found.extend(directory.join(common.trim()).canonicalize().ok());
        }
        for path in found {
            let root = self.policy.roots().contains(&path);
            if self.is_writable(&path) && !root && !self.policy.is_unprotected(&path) {
                self.protect(Protected::Present(path));
            }
        }
        Ok(())
    }
}

/// What to do about a git directory that is pointed at and not there.
#[derive(Clone, Copy)]
enum Missing {
    Refuse,
    Note,
}

/// The outermost trees to look through.
fn trees_of(policy: &SandboxPolicy) -> Vec<PathBuf> {
    let roots = policy.roots().iter().filter(|root| root.is_dir());
    let bases = policy
        .denied_patterns()
        .iter()
        .map(|pattern| pattern.base());
    let bases = bases.filter(|base| base.is_dir());
    let mut trees: Vec<PathBuf> = roots.cloned().chain(bases.map(Path::to_path_buf)).collect();
    trees.sort();
    // Sorted, what lies inside another comes after it.
    trees.dedup_by(|inner, outer| inner.starts_with(outer));
    trees
}

/// Whether no command can make a name in `root`, whatever it does to the folder's mode.
fn nothing_can_be_made_in(root: &Path) -> bool {
    let read_only = rustix::fs::statvfs(root)
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    let user = rustix::process::geteuid();
    let anothers = !user.is_root()
        && rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_err()
        && root
            .metadata()
            .is_ok_and(|found| found.uid() != user.as_raw());
    read_only || anothers
}
