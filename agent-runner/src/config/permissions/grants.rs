//! What a profile means for one run: paths with their access, patterns, and the rest as plain values.
//!
//! Pure: (profile, roots, home) to [`Grants`]. The disk is looked at by the sandbox's builder, which also decides that
//! the deeper path wins.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::entry::{Access, Target};
use super::resolve::{Profile, ProfileNetwork};

/// The places that a profile's words stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The workspace.
    pub(crate) workspace: &'a Path,
    /// Folders that the command line added to it.
    pub(crate) added: &'a [PathBuf],
    /// The user's home folder.
    pub(crate) home: &'a Path,
}

/// What may be read where nothing more is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The whole disk.
    Everything,
    /// What any program needs to start.
    Minimal,
    /// Nothing: only what is named.
    Nothing,
}

/// What stands at `/tmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tmp {
    /// A private one, to write.
    Private,
    /// An empty one, not to be written.
    Closed,
}

/// A pattern whose matches may not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DenyGlob {
    /// The folder in which it is looked for.
    pub(crate) base: PathBuf,
    /// The pattern, relative to it.
    pub(crate) pattern: String,
}

/// What a profile gives to one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Which path has which access, shallow paths first: the deeper one wins.
    pub(crate) paths: Vec<(PathBuf, Access)>,
    /// What may not be read wherever it lies.
    pub(crate) globs: Vec<DenyGlob>,
    /// How deep patterns are looked for; `None`: at any depth.
    pub(crate) glob_depth: Option<NonZeroU32>,
    /// What may be read beside.
    pub(crate) reads: Reads,
    /// What stands at `/tmp`.
    pub(crate) tmp: Tmp,
    /// What may be reached.
    pub(crate) network: ProfileNetwork,
}

impl Profile {
    /// The workspace's folders in `places`: the workspace itself first.
    pub(crate) fn workspace_roots(&self, places: Places<'_>) -> Vec<PathBuf> {
        let own = self.roots.iter().map(|root| at_home(root, places.home));
        let mut roots = vec![places.workspace.to_owned()];
        roots.extend(places.added.iter().cloned().chain(own));
        roots
    }

    /// What it gives in `places`.
    pub(crate) fn grants(&self, places: Places<'_>) -> Grants {
        let roots = self.workspace_roots(places);
        let mut paths: BTreeMap<PathBuf, Access> = BTreeMap::new();
        let mut globs = Vec::new();
        let mut give = |path: PathBuf, access: Access| {
            let given = paths.entry(path).or_insert(access);
            *given = access.max(*given);
        };
        for (target, access) in &self.filesystem {
            match target {
                Target::Root | Target::Minimal | Target::Tmpdir | Target::SlashTmp => {}
                Target::Roots(below) => {
                    for root in &roots {
                        give(
                            root.components().chain(below.components()).collect(),
                            *access,
                        );
                    }
                }
                Target::Fixed(path) => give(at_home(path, places.home), *access),
                Target::RootsGlob(pattern) => globs.extend(roots.iter().map(|root| DenyGlob {
                    base: root.clone(),
                    pattern: pattern.clone(),
                })),
                Target::FixedGlob { base, pattern } => globs.push(DenyGlob {
                    base: at_home(base, places.home),
                    pattern: pattern.clone(),
                }),
            }
        }
        let mut paths: Vec<_> = paths.into_iter().collect();
        // Stable: paths of one depth stay in their own order.
        paths.sort_by_key(|(path, _)| path.components().count());
        globs.sort();
        globs.dedup();
        Grants {
            paths,
            globs,
            glob_depth: self.glob_depth,
            reads: self.reads(),
            tmp: self.tmp(),
            network: self.network,
        }
    }

    /// Nothing starts without its loader and libraries: what a profile does not say about them stays readable.
    fn reads(&self) -> Reads {
        let said = |target| self.filesystem.get(&target).copied();
        match (said(Target::Root), said(Target::Minimal)) {
            (Some(Access::Read | Access::Write), _) => Reads::Everything,
            (Some(Access::Deny) | None, Some(Access::Deny)) => Reads::Nothing,
            (Some(Access::Deny) | None, Some(Access::Read | Access::Write) | None) => {
                Reads::Minimal
            }
        }
    }

    /// `TMPDIR` is `/tmp` inside, whatever it is outside: one private folder serves both names. It holds nothing of
    /// anybody's, so that it is there unless it is denied or may only be read.
    fn tmp(&self) -> Tmp {
        let said = [Target::SlashTmp, Target::Tmpdir].map(|target| self.filesystem.get(&target));
        let written = said.contains(&Some(&Access::Write));
        let denied = said.contains(&Some(&Access::Deny));
        if denied || (said.contains(&Some(&Access::Read)) && !written) {
            Tmp::Closed
        } else {
            Tmp::Private
        }
    }
}

fn at_home(path: &Path, home: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(
        |_| path.to_owned(),
        |below| home.components().chain(below.components()).collect(),
    )
}
