//! Looks through trees for what must be guarded inside them: nested repositories, and what denied patterns match.
//!
//! Reads the disk, never writes it (what was found is remembered by [`memory`]). A tree is walked once; after that each
//! folder is only asked whether it changed since, by identity, modification and change time. Nothing is followed that is
//! a symbolic link, ignore files do not count, hidden files do. What cannot be looked into is said, never passed over.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat};
use rustix::time::ClockId;

use crate::glob::DeniedPattern;
use crate::plan::PlanError;
use crate::policy::REPOSITORY;

mod memory;
mod place;

/// Folders of one tree; beyond it the start is refused, because looking through them at each start would take seconds.
const MOST_FOLDERS: usize = 500_000;
/// Things found in one tree; each becomes a mount.
pub(crate) const MOST_FOUND: usize = 5000;
/// A folder that changed this short a time before it was read may have changed again within the same tick of its clock,
/// in nanoseconds: it is read again the next time.
const TICK: i128 = 50_000_000;

/// What is looked for in a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) patterns: &'a [DeniedPattern],
    /// How many folders below its base a pattern is looked for.
    pub(crate) depth: Option<usize>,
    /// Files, by device and inode, whose other names are looked for. Sorted.
    pub(crate) aliases: &'a [(u64, u64)],
    /// Where things are remembered from one process to the next.
    pub(crate) memory: Option<&'a Path>,
}

/// Why something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It has the name of a repository.
    Repository,
    /// A denied pattern matches it.
    Denied,
    /// It is another name of a file that was asked for.
    Alias,
    /// It is a folder that cannot be looked into.
    Closed,
}

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) why: Why,
}

/// Which folder it was and when it last changed. All zero: not to be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: i64,
    changed: i64,
}

impl Stamp {
    fn of(found: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: u64| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(nanos).unwrap_or(0))
        };
        #[expect(
            clippy::useless_conversion,
            reason = "the fields' types differ by processor"
        )]
        Self {
            device: found.st_dev.into(),
            inode: found.st_ino.into(),
            modified: nanos(found.st_mtime.into(), found.st_mtime_nsec.into()),
            changed: nanos(found.st_ctime.into(), found.st_ctime_nsec.into()),
        }
    }

    /// The stamp as it may be relied on later, if the folder was read at `now`.
    fn settled(self, now: i128) -> Self {
        let latest = i128::from(self.modified.max(self.changed));
        if latest + TICK < now {
            self
        } else {
            Self::default()
        }
    }
}

/// A folder of a walked tree. Parents come before what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    parent: u32,
    name: OsString,
    stamp: Stamp,
    hits: Vec<(Why, OsString)>,
}

/// A tree that was walked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    root: PathBuf,
    /// What was looked for, as bytes.
    key: Vec<u8>,
    folders: Vec<Folder>,
}

/// Looks through the tree at `root`.
///
/// # Errors
/// The tree has too many folders, or too much is found in it.
pub(crate) fn walk(root: &Path, wanted: Wanted<'_>) -> Result<Vec<Found>, PlanError> {
    let key = key(wanted);
    let known = memory::recall(root, &key, wanted.memory);
    let fresh = Walker::new(root, wanted).run(known.as_deref())?;
    let found = fresh.found()?;
    let as_before = known.is_some_and(|known| known.folders.len() == fresh.folders.len());
    if fresh.news == News::Some || !as_before {
        memory::remember(fresh.into_tree(root, key), wanted.memory);
    }
    Ok(found)
}

fn key(wanted: Wanted<'_>) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut key = format!("{:?}\n", wanted.depth).into_bytes();
    for pattern in wanted.patterns {
        for part in [
            pattern.base().as_os_str().as_bytes(),
            pattern.text().as_bytes(),
        ] {
            key.extend(part.len().to_le_bytes());
            key.extend(part);
        }
    }
    for (device, inode) in wanted.aliases {
        key.extend(device.to_le_bytes());
        key.extend(inode.to_le_bytes());
    }
    key
}

/// Whether a walk found what was not known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Some,
}

struct Walker<'a> {
    root: &'a Path,
    wanted: Wanted<'a>,
    now: i128,
    news: News,
    folders: Vec<Folder>,
    paths: Vec<PathBuf>,
    /// Of each device, whether the times of its folders tell of every change.
    telling: BTreeMap<u64, bool>,
}

impl<'a> Walker<'a> {
    fn new(root: &'a Path, wanted: Wanted<'a>) -> Self {
        let now = rustix::time::clock_gettime(ClockId::Realtime);
        Self {
            root,
            wanted,
            now: i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec),
            news: News::None,
            folders: Vec::new(),
            paths: Vec::new(),
            telling: BTreeMap::new(),
        }
    }

    /// Walks the tree; of what is `known`, folders that did not change are taken as they were.
    fn run(mut self, known: Option<&Tree>) -> Result<Self, PlanError> {
        let children = known.map(Tree::children);
        let known = known.zip(children.as_deref());
        self.add(0, self.root.as_os_str(), self.root.to_path_buf());
        // For each folder here, its place in the known tree.
        let mut places = vec![known.map(|_| 0_usize)];
        let mut at = 0;
        while at < self.folders.len() {
            let place = places.get(at).copied().flatten();
            let old = known.zip(place).and_then(|((tree, children), place)| {
                Some((tree, tree.folders.get(place)?, children.get(place)?))
            });
            let stamp = self.stamp_of(at);
            match (stamp, old) {
                (Some(stamp), Some((tree, folder, inside))) if folder.stamp == stamp => {
                    self.settle(at, stamp, folder.hits.clone());
                    for child in inside {
                        if let Some(folder) = tree.folders.get(*child) {
                            self.enter(at, &folder.name);
                            places.push(Some(*child));
                        }
                    }
                }
                (stamp, old) => {
                    let inside = self.read(at, stamp)?;
                    let same = |folder: &Folder| {
                        let fresh = self.folders.get(at);
                        fresh.is_some_and(|fresh| {
                            fresh.stamp == folder.stamp && fresh.hits == folder.hits
                        })
                    };
                    if !old.is_some_and(|(_, folder, _)| same(folder)) {
                        self.news = News::Some;
                    }
                    for name in inside {
                        let same = |(tree, _, inside): (&Tree, _, &Vec<usize>)| {
                            let named = |child: &&usize| {
                                tree.folders
                                    .get(**child)
                                    .is_some_and(|known| known.name == name)
                            };
                            inside.iter().find(named).copied()
                        };
                        self.enter(at, &name);
                        places.push(old.and_then(same));
                    }
                }
            }
            at += 1;
            if self.folders.len() > MOST_FOLDERS {
                return Err(PlanError::TooManyFolders {
                    root: self.root.to_path_buf(),
                    most: MOST_FOLDERS,
                });
            }
        }
        Ok(self)
    }

    fn add(&mut self, parent: usize, name: &OsStr, path: PathBuf) {
        self.folders.push(Folder {
            parent: u32::try_from(parent).unwrap_or(u32::MAX),
            name: name.to_os_string(),
            stamp: Stamp::default(),
            hits: Vec::new(),
        });
        self.paths.push(path);
    }

    fn enter(&mut self, parent: usize, name: &OsStr) {
        let path = self.path(parent).join(name);
        self.add(parent, name, path);
    }

    fn path(&self, at: usize) -> &Path {
        self.paths.get(at).map_or(self.root, PathBuf::as_path)
    }

    fn stamp_of(&self, at: usize) -> Option<Stamp> {
        let found = rustix::fs::statat(CWD, self.path(at), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        FileType::from_raw_mode(found.st_mode)
            .is_dir()
            .then(|| Stamp::of(&found))
    }

    fn settle(&mut self, at: usize, stamp: Stamp, hits: Vec<(Why, OsString)>) {
        let path = self.paths.get(at).map_or(self.root, PathBuf::as_path);
        let look = || place::tells_changes(path);
        let tells = *self.telling.entry(stamp.device).or_insert_with(look);
        let stamp = if tells { stamp } else { Stamp::default() };
        if let Some(folder) = self.folders.get_mut(at) {
            folder.stamp = stamp;
            folder.hits = hits;
        }
    }

    /// Reads a folder: keeps what it holds of what is wanted, answers the folders to go on with.
    fn read(&mut self, at: usize, stamp: Option<Stamp>) -> Result<Vec<OsString>, PlanError> {
        let path = self.path(at).to_path_buf();
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // Gone, or no folder any more, since its parent was read.
            Err(_) if stamp.is_none() => return Ok(Vec::new()),
            Err(_) => {
                self.settle(at, Stamp::default(), vec![(Why::Closed, OsString::new())]);
                return Ok(Vec::new());
            }
        };
        let device = stamp.map_or(0, |stamp| stamp.device);
        let (mut hits, mut inside) = (Vec::new(), Vec::new());
        for entry in entries {
            let unreadable = |source| PlanError::Unreadable {
                path: path.clone(),
                source,
            };
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(unreadable)?;
            let why = self.why(&path, &name, (device, entry.ino()));
            hits.extend(why.map(|why| (why, name.clone())));
            if kind.is_dir() && self.goes_into(&path, &name, why) {
                inside.push(name);
            }
        }
        // A walk finds the same in the same order.
        hits.sort();
        inside.sort();
        let settled = stamp.unwrap_or_default().settled(self.now);
        self.settle(at, settled, hits);
        Ok(inside)
    }

    fn why(&self, folder: &Path, name: &OsStr, identity: (u64, u64)) -> Option<Why> {
        let path = || folder.join(name);
        if !self.wanted.patterns.is_empty() {
            let path = path();
            let matching = |pattern: &DeniedPattern| {
                self.within_depth(pattern, folder) && pattern.matches(&path)
            };
            if self.wanted.patterns.iter().any(matching) {
                return Some(Why::Denied);
            }
        }
        if self.wanted.aliases.binary_search(&identity).is_ok() {
            return Some(Why::Alias);
        }
        // Spelled in any case: on some file systems that is the same name.
        name.eq_ignore_ascii_case(REPOSITORY)
            .then_some(Why::Repository)
    }

    fn within_depth(&self, pattern: &DeniedPattern, folder: &Path) -> bool {
        let below = folder.strip_prefix(pattern.base());
        below.is_ok_and(|below| {
            self.wanted
                .depth
                .is_none_or(|most| below.components().count() <= most)
        })
    }

    fn goes_into(&self, folder: &Path, name: &OsStr, why: Option<Why>) -> bool {
        // What is denied is covered whole. What git stores is named by its hash, in a folder for each two letters.
        let objects =
            name == "objects" && folder.file_name().is_some_and(|above| above == REPOSITORY);
        let looked_for = !self.wanted.patterns.is_empty() || !self.wanted.aliases.is_empty();
        match why {
            Some(Why::Denied) => false,
            Some(Why::Repository) => looked_for,
            Some(Why::Alias | Why::Closed) | None => !objects,
        }
    }

    fn found(&self) -> Result<Vec<Found>, PlanError> {
        let mut found = Vec::new();
        for (folder, path) in self.folders.iter().zip(&self.paths) {
            for (why, name) in &folder.hits {
                let path = if name.is_empty() {
                    path.clone()
                } else {
                    path.join(name)
                };
                found.push(Found { path, why: *why });
            }
        }
        if found.len() > MOST_FOUND {
            return Err(PlanError::TooManyFound {
                root: self.root.to_path_buf(),
                found: found.len(),
                most: MOST_FOUND,
            });
        }
        Ok(found)
    }

    fn into_tree(self, root: &Path, key: Vec<u8>) -> Tree {
        Tree {
            root: root.to_path_buf(),
            key,
            folders: self.folders,
        }
    }
}

impl Tree {
    /// For each folder the places of those in it.
    fn children(&self) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); self.folders.len()];
        for (at, folder) in self.folders.iter().enumerate().skip(1) {
            let parent = usize::try_from(folder.parent).ok();
            if let Some(inside) = parent.and_then(|parent| children.get_mut(parent)) {
                inside.push(at);
            }
        }
        children
    }
}

#[cfg(test)]
mod tests;
