//! The runner's own folders: what no command may touch (design D16), and the checks that make that true.
//!
//! Invariant: nothing starts while the state folder or `CODEX_HOME` lies inside a folder that a command may write,
//! belongs to somebody else, or can be written by others.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::Sha256Hex;
use sha2::Sha256;
use thiserror::Error;

/// The state folder, made and checked.
#[derive(Debug, Clone)]
pub(crate) struct State {
    dir: PathBuf,
}

/// Why the runner's own folders cannot be trusted.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    /// A folder or file cannot be made, read or checked.
    #[error("cannot use `{}`", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder belongs to somebody else.
    #[error("`{}` belongs to user {owner}, not to user {me}\nhint: the runner trusts what lies there; take it over with chown, or name another folder", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs this.
        me: u32,
    },
    /// A folder can be written by others.
    #[error("`{}` can be written by others (mode {mode:03o})\nhint: chmod go-w {}", path.display(), path.display())]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A folder lies where commands may write.
    #[error("`{}` lies inside `{}`, which commands may write\nhint: a command could change what the runner believes; run in another folder, or set {variable} to one outside", path.display(), root.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// The writable root.
        root: PathBuf,
        /// What moves it.
        variable: &'static str,
    },
}

impl State {
    /// Makes the state folder where it is missing (mode 0700), and checks it and `codex_home`.
    ///
    /// # Errors
    /// See [`StateError`]; nothing may start then.
    pub(crate) fn open(
        dir: &Path,
        codex_home: &Path,
        writable_roots: &[PathBuf],
    ) -> Result<Self, StateError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Unusable { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(unusable(dir))?;
        let dir = dir.canonicalize().map_err(unusable(dir))?;
        check(&dir, "`[state] dir` or XDG_STATE_HOME", writable_roots)?;
        if codex_home.exists() {
            let codex_home = codex_home.canonicalize().map_err(unusable(codex_home))?;
            check(&codex_home, "CODEX_HOME", writable_roots)?;
        }
        Ok(Self { dir })
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The embedded server's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("reviews.sqlite")
    }

    /// The journal of what no server could record.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal.jsonl")
    }

    /// Which door was tried and held.
    pub(crate) fn door_proof(&self) -> PathBuf {
        self.dir.join("door-proof")
    }

    /// Where leave that lasts is kept.
    pub(crate) fn leaves(&self) -> PathBuf {
        self.dir.join("leaves")
    }

    /// Where the temporary folders of sessions lie.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The key under which secrets are replaced by a keyed hash; made at first need, never sent anywhere.
    ///
    /// # Errors
    /// The key file cannot be made or read.
    pub(crate) fn mask_key(&self) -> Result<MaskKey, StateError> {
        let path = self.dir.join("mask.key");
        let unusable = |source| StateError::Unusable {
            path: path.clone(),
            source,
        };
        match read_key(&path) {
            Ok(key) => return Ok(key),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        make_key(&self.dir, &path).map_err(unusable)?;
        read_key(&path).map_err(unusable)
    }
}

/// As long as a block of SHA-256 (RFC 2104, section 3).
const KEY_BYTES: usize = 64;

/// The key under which secrets are replaced.
#[derive(Clone)]
pub(crate) struct MaskKey([u8; KEY_BYTES]);

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey(…)")
    }
}

impl MaskKey {
    /// A key that everybody knows.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self([7; KEY_BYTES])
    }

    /// HMAC-SHA256 (RFC 2104) of `secret`.
    pub(crate) fn hash(&self, secret: &[u8]) -> Sha256Hex {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        mac.update(secret);
        Sha256Hex::of(&mac.finalize().into_bytes().into())
    }
}

fn read_key(path: &Path) -> io::Result<MaskKey> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it must belong to you and be readable by nobody else (chmod 600)",
        ));
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(MaskKey(key))
}

/// Written whole under another name, then linked: a second runner sees all of it or none.
fn make_key(dir: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let draft = dir.join(format!("mask.key.{}", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn check(
    path: &Path,
    variable: &'static str,
    writable_roots: &[PathBuf],
) -> Result<(), StateError> {
    let metadata = path.metadata().map_err(|source| StateError::Unusable {
        path: path.to_owned(),
        source,
    })?;
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(StateError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            me,
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(StateError::Writable {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    match writable_roots.iter().find(|root| path.starts_with(root)) {
        Some(root) => Err(StateError::Exposed {
            path: path.to_owned(),
            root: root.clone(),
            variable,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{State, StateError};

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("auto-review-state-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&path).expect("a folder");
            Self(path.canonicalize().expect("a path"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("the folder is removed");
        }
    }

    #[test]
    fn state_inside_a_writable_root_is_refused() {
        let scratch = Scratch::new();
        let error = State::open(
            &scratch.0.join("state"),
            &scratch.0.join("codex"),
            std::slice::from_ref(&scratch.0),
        );
        assert!(
            matches!(error, Err(StateError::Exposed { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn settings_inside_a_writable_root_are_refused_even_through_a_symbolic_link() {
        let scratch = Scratch::new();
        let root = scratch.0.join("workspace");
        std::fs::create_dir_all(root.join("codex")).expect("a folder");
        std::os::unix::fs::symlink(root.join("codex"), scratch.0.join("link")).expect("a link");
        let error = State::open(&scratch.0.join("state"), &scratch.0.join("link"), &[root]);
        assert!(
            matches!(error, Err(StateError::Exposed { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let scratch = Scratch::new();
        let state = scratch.0.join("state");
        std::fs::create_dir(&state).expect("a folder");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o770)).expect("a mode");
        let error = State::open(&state, &scratch.0.join("codex"), &[]);
        assert!(
            matches!(error, Err(StateError::Writable { mode: 0o770, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn the_mask_key_is_made_once_and_hides_what_it_hashes() {
        let scratch = Scratch::new();
        let state =
            State::open(&scratch.0.join("state"), &scratch.0.join("codex"), &[]).expect("a state");
        let first = state.mask_key().expect("a key").hash(b"secret");
        assert_eq!(first, state.mask_key().expect("a key").hash(b"secret"));
        let other = Scratch::new();
        let other =
            State::open(&other.0.join("state"), &other.0.join("codex"), &[]).expect("a state");
        assert_ne!(first, other.mask_key().expect("a key").hash(b"secret"));
    }
}
