//! Which files a repository has stored: [`tracked`].
//!
//! A secret that was committed can be read from the repository, whatever is covered; that is said, not prevented. Reads
//! git's index (`gitformat-index(5)`, versions 2 and 3) and nothing else; what cannot be read is not said.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The largest index that is read, in bytes: some hundred thousand files.
const LONGEST: u64 = 32 << 20;
/// The part of an entry before its name, in bytes.
const FIXED: usize = 62;

/// Those of `paths`, all beneath `root`, that the repository at `root` has in its index.
pub(crate) fn tracked(root: &Path, paths: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let index = root.join(".git/index");
    let small =
        fs::symlink_metadata(&index).is_ok_and(|found| found.is_file() && found.len() <= LONGEST);
    if !small || paths.is_empty() {
        return Vec::new();
    }
    let bytes = fs::read(&index).unwrap_or_default();
    let stored = names(&bytes).unwrap_or_default().into_iter();
    let stored = stored.map(|name| root.join(OsStr::from_bytes(name)));
    stored.filter(|path| paths.contains(path)).collect()
}

/// The names in an index; nothing where it is cut, or of a version that shortens names.
fn names(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let left = bytes.strip_prefix(b"DIRC")?;
    let (version, left) = left.split_at_checked(4)?;
    let (count, mut left) = left.split_at_checked(4)?;
    let count = usize::try_from(u32::from_be_bytes(count.try_into().ok()?)).ok()?;
    if !matches!(version, [0, 0, 0, 2 | 3]) {
        return None;
    }
    let mut names = Vec::with_capacity(count.min(bytes.len() / FIXED));
    for _ in 0..count {
        // The second byte from the end of the fixed part says whether two more follow.
        let extended = left.get(FIXED - 2)? & 0x40 != 0;
        let before = if extended { FIXED + 2 } else { FIXED };
        let name = left.get(before..)?.split(|byte| *byte == 0).next()?;
        names.push(name);
        // At least one NUL, then up to a multiple of eight.
        let whole = (before + name.len()) / 8 * 8 + 8;
        left = left.get(whole..)?;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_index_names_nothing() {
        for bytes in [
            &b""[..],
            b"DIRC",
            b"DIRC\0\0\0\x02\0\0\0\x09short",
            b"DIRC\0\0\0\x04\0\0\0\0",
        ] {
            assert_eq!(names(bytes), None);
        }
        assert_eq!(names(b"DIRC\0\0\0\x02\0\0\0\0"), Some(Vec::new()));
    }
}
