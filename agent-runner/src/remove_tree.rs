//! Removes a folder with whatever a hostile command left in it: [`remove_tree`].
//!
//! It may be nested deeper than a path is long or than this process may open files, closed to its own owner, or of millions of
//! files. So each folder is moved up to the top before it is emptied: no path is longer than one name, two folders are open at
//! a time, and what was left half-way is taken up again. Invariant: no link is followed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use uuid::Uuid;

/// How many names are known at a time.
const BATCH: usize = 1_000;

/// Removes `path`, in which nobody is at work, or at most so many `entries` in it. Whether it is gone.
///
/// # Errors
/// Something in it cannot be removed.
pub(crate) fn remove_tree(path: &Path, entries: usize) -> io::Result<bool> {
    let mut removal = Removal {
        top: open(CWD, path)?,
        left: Vec::new(),
        mark: Uuid::new_v4(),
        moved: 0,
        entries,
    };
    let gone = removal.empty_all()?;
    if gone {
        std::fs::remove_dir(path)?;
    }
    Ok(gone)
}

struct Removal {
    top: OwnedFd,
    /// Folders in the top that may hold something.
    left: Vec<CString>,
    /// What the names of those begin with that were moved there, as no others do, and their number.
    mark: Uuid,
    moved: u64,
    /// How many may still be removed.
    entries: usize,
}

impl Removal {
    fn empty_all(&mut self) -> io::Result<bool> {
        let top = self.top.try_clone()?;
        while self.entries > 0 {
            let entries = some_of(top.as_fd())?;
            if entries.is_empty() {
                return Ok(true);
            }
            for (name, kind) in entries {
                if self.entries == 0 {
                    return Ok(false);
                }
                if kind == FileType::Directory {
                    self.left.push(name);
                } else {
                    self.remove(top.as_fd(), &name, AtFlags::empty())?;
                }
            }
            self.empty_folders()?;
        }
        Ok(false)
    }

    fn empty_folders(&mut self) -> io::Result<()> {
        let top = self.top.try_clone()?;
        while let Some(name) = self.left.pop() {
            rustix::fs::chmodat(&top, &name, Mode::RWXU, AtFlags::empty())?;
            let folder = open(top.as_fd(), &name)?;
            while !self.empty_some(folder.as_fd())? {}
            if self.entries == 0 {
                return Ok(());
            }
            self.remove(top.as_fd(), &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Whether nothing is left in `folder`, or no more may be removed.
    fn empty_some(&mut self, folder: BorrowedFd<'_>) -> io::Result<bool> {
        let entries = some_of(folder)?;
        let none = entries.is_empty();
        for (name, kind) in entries {
            if self.entries == 0 {
                return Ok(true);
            }
            if kind == FileType::Directory {
                self.move_up(folder, &name)?;
            } else {
                self.remove(folder, &name, AtFlags::empty())?;
            }
        }
        Ok(none)
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        // Moving a folder writes into it as well.
        rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
        let new = CString::new(format!("{}-{}", self.mark, self.moved))?;
        self.moved += 1;
        rustix::fs::renameat(folder, name, &self.top, &new)?;
        self.left.push(new);
        Ok(())
    }

    fn remove(&mut self, folder: BorrowedFd<'_>, name: &CStr, how: AtFlags) -> io::Result<()> {
        rustix::fs::unlinkat(folder, name, how)?;
        self.entries = self.entries.saturating_sub(1);
        Ok(())
    }
}

fn open(folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

/// Some of the names in `folder`; none where it is empty.
fn some_of(folder: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut some = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            // Not every file system says it in its lists.
            let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(found.st_mode);
        }
        some.push((name.to_owned(), kind));
        if some.len() == BATCH {
            break;
        }
    }
    Ok(some)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, write};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    const ALL: usize = usize::MAX;

    fn folder() -> PathBuf {
        let name = format!("auto-review-tree-{}", Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        create_dir(&path).expect("a folder");
        path
    }

    /// Deeper than a path is long, and than a process may have files open.
    fn nest(top: &Path, depth: usize) {
        let mut folder = open(CWD, top).expect("a folder");
        for _ in 0..depth {
            rustix::fs::mkdirat(&folder, "deep", Mode::RWXU).expect("a folder");
            folder = open(folder.as_fd(), "deep").expect("a folder");
        }
        rustix::fs::symlinkat("/", &folder, "link").expect("a link");
    }

    #[test]
    fn depth_is_no_hindrance() {
        let top = folder();
        nest(&top, 5_000);
        assert!(remove_tree(&top, ALL).expect("removed"));
        assert!(!top.exists());
    }

    #[test]
    fn closed_folders_go_and_what_links_lead_to_stays() {
        let (top, other) = (folder(), folder());
        write(other.join("kept"), "text").expect("a file");
        for at in ["a", "a/b", "a/b/c", "0"] {
            create_dir(top.join(at)).expect("a folder");
        }
        write(top.join("a/b/c/file"), "text").expect("a file");
        symlink(&other, top.join("a/link")).expect("a link");
        symlink(&other, top.join("1")).expect("a link");
        for at in ["a/b/c", "a/b", "a"] {
            std::fs::set_permissions(top.join(at), Permissions::from_mode(0o0)).expect("a mode");
        }
        assert!(remove_tree(&top, ALL).expect("removed"));
        assert!(!top.exists());
        assert_eq!(std::fs::read(other.join("kept")).expect("a file"), b"text");
        assert_eq!(
            other.metadata().expect("a folder").permissions().mode() & 0o777,
            0o755
        );
        assert!(remove_tree(&other, ALL).expect("removed"));
    }

    #[test]
    fn it_stops_after_so_many_and_is_taken_up_again() {
        let top = folder();
        nest(&top, 20);
        for name in 0..2_500 {
            write(top.join(format!("f{name}")), "").expect("a file");
        }
        let rounds = (0..10).take_while(|_| !remove_tree(&top, 700).expect("removed"));
        assert_eq!(rounds.count(), 3);
        assert!(!top.exists());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let (top, other) = (folder(), folder());
        let link = top.join("link");
        symlink(&other, &link).expect("a link");
        assert!(remove_tree(&link, ALL).is_err());
        assert!(other.exists());
        for folder in [top, other] {
            assert!(remove_tree(&folder, ALL).expect("removed"));
        }
    }
}
