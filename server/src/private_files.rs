//! Files and folders that nobody else may touch: the database, the signing key, the locks.
//!
//! Apart, because every one of them is checked in the same way. Invariant: what is opened here belongs to the user
//! that runs this process and is closed to group and others (modes 0700 and 0600), or it is refused.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a path is not private.
#[derive(Debug, Error)]
pub enum NotPrivate {
    /// It could not be made, opened or looked at.
    #[error("cannot use `{}`", .path.display())]
    Unusable {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is neither a folder nor a regular file, as wanted; a symbolic link is neither.
    #[error("`{}` is not {wanted}", .path.display())]
    Kind {
        /// Which path.
        path: PathBuf,
        /// What was wanted.
        wanted: &'static str,
    },
    /// It belongs to another user.
    #[error("`{}` belongs to user {uid}, not to the user that runs this process", .path.display())]
    Owner {
        /// Which path.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Group or others have access.
    #[error("`{}` is open to group or others (mode {mode:04o})\nhint: {}", .path.display(), way_out(.path, *.wanted))]
    Mode {
        /// Which path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
}

/// What to do about a path that others can reach. A folder may be one that the whole system needs as it is, so that nobody is
/// told to close it.
fn way_out(path: &Path, wanted: u32) -> String {
    let path = path.display();
    if wanted == 0o700 {
        format!("use a folder of its own, which `mkdir -m 0700 {path}/auto-review` makes")
    } else {
        format!("chmod {wanted:04o} `{path}`")
    }
}

/// Makes the folder `path` where it is missing (0700, its parents too) and checks it. Returns it with every symbolic
/// link resolved.
pub(crate) fn private_folder(path: &Path) -> Result<PathBuf, NotPrivate> {
    let unusable = |source| NotPrivate::Unusable {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(unusable)?;
    let resolved = fs::canonicalize(path).map_err(unusable)?;
    let metadata = fs::symlink_metadata(&resolved).map_err(unusable)?;
    if !metadata.is_dir() {
        return Err(NotPrivate::Kind {
            path: resolved,
            wanted: "a folder",
        });
    }
    check(&resolved, &metadata, 0o700)?;
    Ok(resolved)
}

/// Opens the file `path` for reading and writing, makes it (0600) where it is missing, and checks it.
pub(crate) fn private_file(path: &Path) -> Result<File, NotPrivate> {
    match create_private_file(path) {
        Err(NotPrivate::Unusable { source, .. })
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            open_private_file(path)
        }
        made => made,
    }
}

/// Makes the file `path` (0600). It must not exist.
pub(crate) fn create_private_file(path: &Path) -> Result<File, NotPrivate> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| NotPrivate::Unusable {
            path: path.to_owned(),
            source,
        })
}

/// Opens the file `path` for reading and writing and checks it. A symbolic link is refused.
pub(crate) fn open_private_file(path: &Path) -> Result<File, NotPrivate> {
    check_private_file(path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| NotPrivate::Unusable {
            path: path.to_owned(),
            source,
        })
}

/// Checks the file `path`, which must exist.
pub(crate) fn check_private_file(path: &Path) -> Result<(), NotPrivate> {
    let metadata = fs::symlink_metadata(path).map_err(|source| NotPrivate::Unusable {
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(NotPrivate::Kind {
            path: path.to_owned(),
            wanted: "a regular file",
        });
    }
    check(path, &metadata, 0o600)
}

fn check(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), NotPrivate> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(NotPrivate::Owner {
            path: path.to_owned(),
            uid: metadata.uid(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(NotPrivate::Mode {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
            wanted,
        });
    }
    Ok(())
}
