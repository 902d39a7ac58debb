//! Files that this program keeps for itself between two runs, read only where nobody else can have written them.
//!
//! Apart, so that every kind of them is held to the same. Invariant: what comes back is the content of a regular file of the
//! user's own that nobody else can read or write; no link was followed and no pipe waited for.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// The content of the file at `path`, of `longest` bytes at most.
///
/// # Errors
/// It cannot be read, is not the user's alone (mode 600), or is longer.
pub(crate) fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    let me = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.uid() != me || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it must be a regular file of your own that nobody else can read (mode 600)",
        ));
    }
    let mut content = Vec::new();
    if file.take(longest + 1).read_to_end(&mut content)? as u64 > longest {
        return Err(io::Error::other("it is too long"));
    }
    Ok(content)
}
