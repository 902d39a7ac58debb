//! A throw-away folder: made empty, removed whole.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::programs::target_folder;

/// Folders from the root that the walls cover, that others may not enter, or that the built-in reviewer takes for the
/// machine's own: beside them its verdicts are other ones than beside a person's work.
const NOT_PLAIN: [&str; 9] = [
    "/dev", "/opt", "/root", "/run", "/srv", "/sys", "/tmp", "/usr", "/var",
];

/// Where throw-away folders are made: beside the programs under test, or in a home folder where those lie in no plain
/// place.
fn plain_parent() -> PathBuf {
    let beside = target_folder();
    if !NOT_PLAIN.iter().any(|folder| beside.starts_with(folder)) {
        return beside.join("end-to-end");
    }
    let home = std::env::home_dir().filter(|home| home.starts_with("/home"));
    home.unwrap_or_else(|| PathBuf::from("/home"))
        .join("auto-review-end-to-end")
}

/// A folder of this test's own, removed when it is dropped.
///
/// It lies beside the programs under test (or in a home folder) and not in `/tmp`, because the walls put another folder there: what a
/// command cannot see in `/tmp` would prove nothing.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    ///
    /// # Panics
    /// The target folder cannot be written.
    #[must_use]
    pub fn new() -> Self {
        Self::inside(&plain_parent())
    }

    /// Makes one in the shared `/tmp`.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn in_tmp() -> Self {
        Self::inside(Path::new("/tmp"))
    }

    fn inside(parent: &Path) -> Self {
        fs::create_dir_all(parent).expect("the folder of all throw-away folders can be made");
        let name = format!("e2e-{}", uuid::Uuid::new_v4().simple());
        let path = parent.join(name);
        // Others may pass, as in any project's folder: what keeps them from a secret is its own folder's mode, and
        // what keeps a command from it must be the walls.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .expect("a throw-away folder can be made");
        Self(
            path.canonicalize()
                .expect("a folder that was just made is there"),
        )
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder `name` in it with `mode`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a folder can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
        path
    }

    /// Writes the file `name` in it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test may have taken its own rights away.
        open_up(&self.0);
        let removed = fs::remove_dir_all(&self.0);
        if !std::thread::panicking() {
            removed.expect("the throw-away folder is removed");
        }
    }
}

fn open_up(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap_or_default();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
