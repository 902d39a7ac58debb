//! Replacing one of the user's own files whole, so that nobody reads half of it.
//!
//! Apart, because trust and rules are both written so. Invariant: the file is the old one or the new one, and keeps its
//! mode; a link is written where it leads.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::failure::Failure;

/// The text of `path` as `change` makes it of what is there; nothing there is the empty text.
///
/// # Errors
/// The file cannot be read or written, or `change` refuses.
pub(crate) fn replace_file(
    path: &Path,
    change: impl FnOnce(&str) -> Result<String, String>,
) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let failed = |error: io::Error| Failure::because(format!("cannot change `{shown}`: {error}"));
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (text, mode) = match std::fs::read_to_string(&path) {
        Ok(text) => (text, path.metadata().map_err(failed)?.permissions().mode()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(failed(error)),
    };
    let changed = change(&text)
        .map_err(|reason| Failure::because(format!("cannot change `{shown}`: {reason}")))?;
    if let Some(folder) = path.parent() {
        let mut made = std::fs::DirBuilder::new();
        made.recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
    }
    let beside = path.with_extension(format!("new-{}", uuid::Uuid::new_v4()));
    let write = || -> io::Result<()> {
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o777)
            .open(&beside)?;
        new.write_all(changed.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, &path)
    };
    write().map_err(|error| {
        std::fs::remove_file(&beside).unwrap_or_default();
        failed(error)
    })
}
