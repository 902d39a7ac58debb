//! What lies in a work tree that git would act on, as the disk has it: nested repositories, and attributes that name
//! drivers.
//!
//! Apart from git's own answers, because the index says what was added and not what the next `git add` will find.
//! Invariant: it is all of the tree or nothing; no link is followed, and what the command may not read is not read.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::super::files::Barred;

/// The most names that are looked at; a tree with more is not known.
const MAX_NAMES: u64 = 200_000;
/// How deep a tree may go; each step holds a descriptor.
const MAX_DEPTH: usize = 64;
/// The most bytes of one file of attributes; a longer one is not known.
const MAX_ATTRIBUTES: u64 = 64 * 1024;
/// The most attributes that are told.
const MAX_TOLD: usize = 40;

/// What was found in all of a work tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// How many repositories lie below its root.
    pub(super) nested: u64,
    /// `file: attribute` of each that names a driver, in the order of the names.
    pub(super) drivers: Vec<String>,
    /// Its files of attributes, relative to the root.
    pub(super) attributes: BTreeSet<PathBuf>,
}

/// Looks through the work tree at `root`, until `until`. `None` where not all of it could be seen.
pub(super) fn of(root: &Path, barred: &Barred, until: Instant) -> Option<Tree> {
    let mut looking = Looking {
        tree: Tree::default(),
        names: 0,
        barred,
        root,
        until,
    };
    let top = rustix::fs::openat(CWD, root, FOLDER, Mode::empty()).ok()?;
    looking.folder(&top, Path::new(""), 0)?;
    let own = root.join(".git/info/attributes");
    match own.symlink_metadata() {
        Ok(_) => looking.attributes(CWD, own.as_os_str(), Path::new(".git/info/attributes"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    looking.tree.drivers.sort();
    looking.tree.drivers.truncate(MAX_TOLD);
    Some(looking.tree)
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Looking<'l> {
    tree: Tree,
    names: u64,
    barred: &'l Barred,
    root: &'l Path,
    until: Instant,
}

impl Looking<'_> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH || Instant::now() >= self.until {
            return None;
        }
        for entry in Dir::read_from(folder).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.names += 1;
            if self.names > MAX_NAMES {
                return None;
            }
            self.entry(folder, (name, entry.file_type()), path, depth)?;
        }
        Some(())
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        (name, kind): (&CStr, FileType),
        path: &Path,
        depth: usize,
    ) -> Option<()> {
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        // Some file systems know no case; and some do not tell the kind with the name.
        if name.to_bytes().eq_ignore_ascii_case(b".git") {
            self.tree.nested += u64::from(depth > 0);
            return Some(());
        }
        if name.to_bytes().eq_ignore_ascii_case(b".gitattributes") {
            return self.attributes(folder, OsStr::from_bytes(name.to_bytes()), &path);
        }
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            return Some(());
        }
        let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        // The command cannot look there either, and so git cannot.
        let barred = self
            .barred
            .covers(&self.root.join(&path), (found.st_dev, found.st_ino));
        if !is_folder || barred {
            return Some(());
        }
        let below = rustix::fs::openat(folder, name, FOLDER, Mode::empty()).ok()?;
        self.folder(&below, &path, depth + 1)
    }

    /// Reads one file of attributes.
    fn attributes(
        &mut self,
        folder: impl std::os::fd::AsFd,
        name: &OsStr,
        path: &Path,
    ) -> Option<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
        let found = rustix::fs::fstat(&place).ok()?;
        let barred = self
            .barred
            .covers(&self.root.join(path), (found.st_dev, found.st_ino));
        if barred || FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        let most = File::from(place).take(MAX_ATTRIBUTES + 1);
        let read = { most }.read_to_end(&mut bytes).ok()?;
        if u64::try_from(read).ok()? > MAX_ATTRIBUTES {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        for word in text.split_whitespace().filter(|word| names_a_driver(word)) {
            let told = format!("{}: {word}", path.display());
            self.tree.drivers.push(told.chars().take(200).collect());
        }
        self.tree.attributes.insert(path.to_owned());
        Some(())
    }
}

/// See gitattributes(5): attributes whose value is the name of settings that hold a program.
fn names_a_driver(word: &str) -> bool {
    ["filter=", "diff=", "merge="]
        .iter()
        .any(|start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::super::super::files::Barred;
    use super::{Tree, of};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("auto-review-tree-{}", uuid::Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(path.join(".git/info")).expect("a folder");
            Self(path.canonicalize().expect("a path"))
        }

        fn folder(&self, path: &str) {
            fs::create_dir_all(self.0.join(path)).expect("a folder");
        }

        fn file(&self, path: &str, text: &str) {
            fs::write(self.0.join(path), text).expect("a file");
        }

        fn seen(&self) -> Option<Tree> {
            seen(&self.0)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("the folder is removed");
        }
    }

    fn seen(root: &Path) -> Option<Tree> {
        let until = Instant::now() + Duration::from_secs(20);
        of(root, &Barred::default(), until)
    }

    #[test]
    fn repositories_that_git_does_not_know_of_yet_are_counted() {
        let scratch = Scratch::new();
        scratch.folder("a/b");
        assert_eq!(scratch.seen().expect("seen").nested, 0, "its own is none");
        scratch.folder("a/b/n/.git");
        scratch.folder("m");
        scratch.file("m/.git", "gitdir: ../elsewhere\n");
        std::os::unix::fs::symlink("/nowhere", scratch.0.join("a/.git")).expect("a link");
        assert_eq!(scratch.seen().expect("seen").nested, 3);
    }

    #[test]
    fn attributes_that_name_drivers_are_told_wherever_they_stand() {
        let scratch = Scratch::new();
        scratch.folder("a");
        scratch.file(".gitattributes", "* text=auto eol=lf\n*.bin -diff binary\n");
        assert_eq!(scratch.seen().expect("seen").drivers, [""; 0]);
        scratch.file("a/.gitattributes", "*.t\tdiff=foo\n");
        scratch.file(".git/info/attributes", "[attr]x filter=f\n");
        let seen = scratch.seen().expect("seen");
        assert_eq!(
            seen.drivers,
            [
                ".git/info/attributes: filter=f",
                "a/.gitattributes: diff=foo"
            ]
        );
    }

    #[test]
    fn what_cannot_all_be_seen_is_not_known() {
        let scratch = Scratch::new();
        assert!(seen(&scratch.0.join("none")).is_none(), "nothing there");
        let over = of(&scratch.0, &Barred::default(), Instant::now());
        assert!(over.is_none(), "no time");
        std::os::unix::fs::symlink("x", scratch.0.join(".gitattributes")).expect("a link");
        assert!(scratch.seen().is_none(), "a link to attributes");
        fs::remove_file(scratch.0.join(".gitattributes")).expect("a link");
        scratch.file(".gitattributes", &"#".repeat(70_000));
        assert!(scratch.seen().is_none(), "too long");
        fs::remove_file(scratch.0.join(".gitattributes")).expect("a file");
        scratch.folder(&"d/".repeat(70));
        assert!(scratch.seen().is_none(), "too deep");
    }
}
