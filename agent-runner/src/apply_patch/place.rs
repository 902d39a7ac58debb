//! The files of a patch by what holds them: the folder that was there when the patch was read, and the way down from it.
//!
//! Apart from the edits because this is where a link could lead astray. Invariant: after a place is held, no path is
//! looked up from the root again: everything happens beneath the held folder, and no link is followed (openat2(2),
//! `RESOLVE_BENEATH`), so that what was reviewed is what is changed (design D21).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2, statat, unlinkat};
use rustix::io::Errno;

/// The largest file that is changed, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Where one file of a patch is, or will be.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// The deepest folder of its path that was there, and that folder's own path.
    folder: OwnedFd,
    folder_path: PathBuf,
    /// The folders beneath it that were not.
    missing: Vec<OsString>,
    name: OsString,
}

impl Place {
    /// Holds the place of `path`, whose folder is resolved.
    ///
    /// # Errors
    /// A link stands in its way, or a folder cannot be opened.
    pub(super) fn hold(path: PathBuf) -> io::Result<Self> {
        let nowhere = || io::Error::from(io::ErrorKind::InvalidInput);
        let name = path.file_name().ok_or_else(nowhere)?.to_owned();
        let mut folder_path = path.parent().ok_or_else(nowhere)?.to_owned();
        let mut missing = Vec::new();
        let folder = loop {
            match open_folder(CWD, folder_path.as_os_str(), ResolveFlags::NO_SYMLINKS) {
                Ok(folder) => break folder,
                Err(Errno::NOENT) => {
                    missing.push(folder_path.file_name().ok_or_else(nowhere)?.to_owned());
                    folder_path = folder_path.parent().ok_or_else(nowhere)?.to_owned();
                }
                Err(error) => return Err(error.into()),
            }
        };
        missing.reverse();
        Ok(Self {
            path,
            folder,
            folder_path,
            missing,
            name,
        })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the folder that is held.
    pub(super) fn is_still_there(&self) -> bool {
        let now = open_folder(CWD, self.folder_path.as_os_str(), ResolveFlags::NO_SYMLINKS);
        let identity = |folder: &OwnedFd| {
            let found = rustix::fs::fstat(folder).ok()?;
            Some((found.st_dev, found.st_ino))
        };
        let held = identity(&self.folder);
        held.is_some() && now.is_ok_and(|now| identity(&now) == held)
    }

    /// Whether something has its name.
    pub(super) fn is_taken(&self) -> bool {
        self.folder()
            .is_ok_and(|folder| statat(folder, &self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// The text of the file and its mode.
    ///
    /// # Errors
    /// It is not there, no regular file, too long, or not text.
    pub(super) fn read(&self) -> io::Result<(String, Mode)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let folder = self.folder()?;
        let file = openat2(folder, &self.name, flags, Mode::empty(), BENEATH)?;
        let file = File::from(file);
        let found = file.metadata()?;
        if !found.is_file() || found.len() > MAX_FILE {
            return Err(io::Error::other(
                "it is not a regular file of at most 64 MiB",
            ));
        }
        let mode = Mode::from_raw_mode(found.permissions().mode() & 0o777);
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        Ok((text, mode))
    }

    /// Puts a new file with `content` in its place, whole; missing folders are made.
    ///
    /// # Errors
    /// It cannot be written; the old one stands then.
    pub(super) fn write(&self, content: &str, mode: Mode) -> io::Result<()> {
        let folder = self.made_folder()?;
        let beside = format!(".{}.patch", uuid::Uuid::new_v4());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat2(&folder, beside.as_str(), flags, mode, BENEATH)?;
        let put = || -> io::Result<()> {
            let mut made = File::from(made);
            made.write_all(content.as_bytes())?;
            rustix::fs::renameat(&folder, beside.as_str(), &folder, &self.name)?;
            Ok(())
        };
        put().inspect_err(|_| {
            unlinkat(&folder, beside.as_str(), AtFlags::empty()).unwrap_or_default();
        })
    }

    /// Removes the file.
    ///
    /// # Errors
    /// It is not there, or is a folder.
    pub(super) fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(self.folder()?, &self.name, AtFlags::empty())?)
    }

    /// Its folder, which must be there.
    fn folder(&self) -> io::Result<OwnedFd> {
        let mut at = self.folder.try_clone()?;
        for name in &self.missing {
            at = open_folder(&at, name, BENEATH)?;
        }
        Ok(at)
    }

    /// Its folder, made where it is missing, one step at a time.
    fn made_folder(&self) -> io::Result<OwnedFd> {
        let mut at = self.folder.try_clone()?;
        for name in &self.missing {
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = open_folder(&at, name, BENEATH)?;
        }
        Ok(at)
    }
}

/// Nothing that leads out, and no link at all.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn open_folder(at: impl AsFd, path: &OsStr, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(at, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use rustix::fs::Mode;

    use super::Place;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("auto-review-place-{}", uuid::Uuid::new_v4()));
            fs::create_dir_all(path.join("app")).expect("a folder");
            fs::create_dir(path.join("elsewhere")).expect("a folder");
            Self(path.canonicalize().expect("a path"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    const MODE: Mode = Mode::from_raw_mode(0o644);

    #[test]
    fn missing_folders_are_made_and_the_file_is_whole() {
        let scratch = Scratch::new();
        let place = Place::hold(scratch.0.join("app/new/deep/a")).expect("a place");
        assert!(!place.is_taken());
        place.write("text", MODE).expect("written");
        assert_eq!(place.read().expect("text").0, "text");
        assert!(place.is_taken() && place.is_still_there());
        place.remove().expect("removed");
        assert!(!scratch.0.join("app/new/deep/a").exists());
    }

    #[test]
    fn a_link_put_in_the_way_leads_nowhere() {
        let scratch = Scratch::new();
        let app = scratch.0.join("app");
        let missing = Place::hold(app.join("new/a")).expect("a place");
        symlink(scratch.0.join("elsewhere"), app.join("new")).expect("a link");
        assert!(missing.write("text", MODE).is_err());
        assert!(!scratch.0.join("elsewhere/a").exists());
        assert!(Place::hold(app.join("new/a")).is_err(), "a link on the way");

        fs::write(scratch.0.join("elsewhere/secret"), "secret").expect("written");
        symlink(scratch.0.join("elsewhere/secret"), app.join("link")).expect("a link");
        let link = Place::hold(app.join("link")).expect("a place");
        assert!(link.read().is_err());
        link.write("text", MODE)
            .expect("the link itself is replaced");
        let secret = fs::read_to_string(scratch.0.join("elsewhere/secret")).expect("text");
        assert_eq!(secret, "secret");
    }

    #[test]
    fn a_folder_that_was_swapped_is_seen_and_gets_nothing() {
        let scratch = Scratch::new();
        let place = Place::hold(scratch.0.join("app/a")).expect("a place");
        fs::rename(scratch.0.join("app"), scratch.0.join("was")).expect("moved");
        fs::create_dir(scratch.0.join("app")).expect("a folder");
        assert!(!place.is_still_there());
        place.write("text", MODE).expect("written");
        assert!(
            !scratch.0.join("app/a").exists(),
            "the held folder is another one"
        );
        fs::remove_dir(scratch.0.join("app")).expect("removed");
        symlink(scratch.0.join("elsewhere"), scratch.0.join("app")).expect("a link");
        assert!(!place.is_still_there());
    }
}
