//! Who holds an open review: a process, known by a lock that the kernel releases however the process ends (flock(2)).
//!
//! Apart, because recovery hangs on it: a review is closed for its owner only where the owner's lock can be taken.
//! Invariant: an id is used by one process, once, and that process holds its lock before it opens a review.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use uuid::Uuid;

use crate::private_files::{NotPrivate, create_private_file, private_folder};

/// Names one process among all that share a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId(Uuid);

/// Why an owner's lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// The folder or file of the lock cannot be used.
    #[error("the lock of this process cannot be made")]
    Files(#[from] NotPrivate),
    /// The lock itself failed.
    #[error("the lock of this process cannot be taken")]
    Lock(#[source] io::Error),
}

impl OwnerId {
    /// Reads the stored form. Anything but a UUID is refused, since the text becomes a file's name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text)
            .ok()
            .filter(|uuid| uuid.to_string() == text)
            .map(Self)
    }

    pub(crate) fn to_stored(&self) -> String {
        self.0.to_string()
    }
}

/// The folder in which the processes that share one database keep their locks.
#[derive(Debug, Clone)]
pub(crate) struct OwnerLocks(PathBuf);

/// The lock of this process. Dropping it, or dying, releases it.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    id: OwnerId,
    path: PathBuf,
    _file: File,
}

/// The lock of an owner that is gone, held while its reviews are closed. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct GoneOwner {
    lock: Option<(PathBuf, File)>,
}

impl OwnerLocks {
    /// The locks beside `database`.
    pub(crate) fn beside(database: &Path) -> Result<Self, LockError> {
        let mut name = database.as_os_str().to_owned();
        name.push(".owners");
        Ok(Self(private_folder(Path::new(&name))?))
    }

    /// Takes a lock under a new id.
    pub(crate) fn take(&self) -> Result<OwnerLock, LockError> {
        loop {
            let id = OwnerId(Uuid::new_v4());
            let path = self.path(&id);
            let file = create_private_file(&path)?;
            // Between making and locking it, a sweep may have taken the file for a dead process's and removed it.
            if locked(&file)? && still_there(&file, &path) {
                return Ok(OwnerLock {
                    id,
                    path,
                    _file: file,
                });
            }
        }
    }

    /// Whether `id` is gone. `None`: it lives.
    pub(crate) fn gone(&self, id: &OwnerId) -> Result<Option<GoneOwner>, LockError> {
        let path = self.path(id);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Some(GoneOwner { lock: None }))
            }
            Err(error) => Err(LockError::Lock(error)),
            Ok(file) if locked(&file)? => Ok(Some(GoneOwner {
                lock: Some((path, file)),
            })),
            Ok(_lives) => Ok(None),
        }
    }

    /// Removes the locks of processes that are gone. `still_open` are owners that recovery has yet to see to.
    pub(crate) fn sweep(&self, still_open: &[OwnerId]) -> Result<(), LockError> {
        for entry in fs::read_dir(&self.0).map_err(LockError::Lock)? {
            let entry = entry.map_err(LockError::Lock)?;
            let id = entry.file_name().to_str().and_then(OwnerId::parse);
            if let Some(id) = id.filter(|id| !still_open.contains(id)) {
                drop(self.gone(&id)?);
            }
        }
        Ok(())
    }

    fn path(&self, id: &OwnerId) -> PathBuf {
        self.0.join(id.to_stored())
    }
}

impl OwnerLock {
    pub(crate) fn id(&self) -> &OwnerId {
        &self.id
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // A file that stays is removed by the next sweep.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

impl Drop for GoneOwner {
    fn drop(&mut self) {
        if let Some((path, _held)) = &self.lock {
            fs::remove_file(path).unwrap_or_default();
        }
    }
}

fn locked(file: &File) -> Result<bool, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(LockError::Lock(error)),
    }
}

fn still_there(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => held.dev() == named.dev() && held.ino() == named.ino(),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnerId, OwnerLocks};
    use crate::test_folder::TestFolder;

    #[test]
    fn an_owner_is_gone_only_when_its_lock_is_free() {
        let folder = TestFolder::new();
        let locks = OwnerLocks::beside(&folder.path("db")).expect("locks");
        let mine = locks.take().expect("a lock");
        let id = mine.id().clone();
        assert!(locks.gone(&id).expect("an answer").is_none());
        locks.sweep(&[]).expect("a sweep");
        assert!(locks.gone(&id).expect("an answer").is_none());
        drop(mine);
        assert!(locks.gone(&id).expect("an answer").is_some());
    }

    #[test]
    fn an_owner_s_name_cannot_lead_out_of_the_folder() {
        assert!(OwnerId::parse("../../etc/passwd").is_none());
        assert!(OwnerId::parse("").is_none());
    }
}
