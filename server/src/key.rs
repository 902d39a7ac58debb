//! The key that signs decisions.
//!
//! Apart, so that its bytes are in one place. Invariant (P9): they are never shown, logged or sent; the file that holds
//! them is 0600 beside the database.

use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use protocol::{Canonical, ServerKey, Statement};
use thiserror::Error;

use crate::private_files::{NotPrivate, create_private_file, open_private_file, private_folder};

/// The first line of a key file, which says what it is.
const HEADING: &str = "auto-review signing key, ed25519, keep secret";

/// The key that signs decisions.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Why there is no signing key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The system gave no random bytes.
    #[error("no random bytes for a key")]
    Random(#[source] getrandom::Error),
    /// The file or its folder is not private.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// The file could not be read or written.
    #[error("cannot read or write the key file `{}`", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("`{}` does not hold a signing key", .0.display())]
    Content(PathBuf),
}

impl SigningKey {
    /// A key that lives as long as this process.
    ///
    /// # Errors
    /// The system gave no random bytes.
    pub fn ephemeral() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// The key in the file `path`; makes both at first need.
    ///
    /// # Errors
    /// The file is not private, cannot be read or written, or holds something else.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        match create_private_file(path) {
            Ok(_empty) => {}
            Err(NotPrivate::Unusable { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = open_private_file(path)?;
        // Two processes may start at once; the second one finds what the first one wrote.
        file.lock().map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        if !text.is_empty() {
            return Self::read(&text).ok_or_else(|| KeyError::Content(path.to_owned()));
        }
        let key = Self::ephemeral()?;
        file.rewind().map_err(failed)?;
        file.write_all(key.spell().as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(key)
    }

    /// What runners pin.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        ServerKey::new(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, statement: &Statement) -> String {
        statement.sign(&self.0)
    }

    /// Signs what only this server reads again.
    pub(crate) fn sign_canonical(&self, value: &Canonical) -> String {
        use ed25519_dalek::Signer as _;
        use fmt::Write as _;
        let mut text = "ed25519:".to_owned();
        for byte in self.0.sign(value.as_bytes()).to_bytes() {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text
    }

    /// A key for another purpose, named by `label` and `parts`: who has it learns nothing of this one, nor of others.
    pub(crate) fn derive(&self, label: &str, parts: &[&str]) -> [u8; 32] {
        let mut bytes = Canonical::new(label);
        let seed = self.0.to_bytes();
        bytes.bytes(&seed);
        for part in parts {
            bytes.text(part);
        }
        bytes.sha256()
    }

    fn spell(&self) -> String {
        use fmt::Write as _;
        let mut text = format!("{HEADING}\n");
        for byte in self.0.to_bytes() {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text.push('\n');
        text
    }

    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HEADING)?.trim().as_bytes();
        let mut seed = [0_u8; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(for {})", self.server_key())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::{KeyError, SigningKey};
    use crate::private_files::NotPrivate;
    use crate::test_folder::TestFolder;

    #[test]
    fn the_key_is_made_once_closed_to_others_and_never_shown() {
        let folder = TestFolder::new();
        let path = folder.path("key");
        let made = SigningKey::load_or_make(&path).expect("a key");
        let found = SigningKey::load_or_make(&path).expect("a key");
        assert_eq!(made.server_key(), found.server_key());
        assert_eq!(
            std::fs::metadata(&path).expect("a file").mode() & 0o777,
            0o600
        );
        let secret = made.spell().lines().nth(1).expect("a line").to_owned();
        assert!(!format!("{made:?}").contains(&secret));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_a_link_is_refused() {
        let folder = TestFolder::new();
        let path = folder.path("key");
        SigningKey::load_or_make(&path).expect("a key");
        let link = folder.path("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(matches!(
            SigningKey::load_or_make(&link),
            Err(KeyError::NotPrivate(NotPrivate::Kind { .. }))
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(
            SigningKey::load_or_make(&path),
            Err(KeyError::NotPrivate(NotPrivate::Mode { mode: 0o640, .. }))
        ));
    }

    #[test]
    fn a_file_that_holds_something_else_is_no_key() {
        let folder = TestFolder::new();
        let path = folder.path("key");
        SigningKey::load_or_make(&path).expect("a key");
        std::fs::write(&path, "0".repeat(64)).expect("written");
        assert!(matches!(
            SigningKey::load_or_make(&path),
            Err(KeyError::Content(_))
        ));
    }
}
