//! Paths as the kernel resolves them: absolute, without links, `.`, `..` or doubled separators, so that their bytes say all.
//!
//! The standard library compares paths part by part, whatever they look like: a third of a start's own work, where some dozens of
//! resolved ones are held against each other.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Whether `path` is `folder` or lies in it.
pub(crate) fn within(path: &Path, folder: &Path) -> bool {
    let (path, folder) = (path.as_os_str().as_bytes(), folder.as_os_str().as_bytes());
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
}

/// Puts them in order, each once.
pub(crate) fn each_once(paths: &mut Vec<PathBuf>) {
    paths.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    paths.dedup_by(|one, other| one.as_os_str() == other.as_os_str());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_folder_holds_itself_and_what_is_beneath_it_not_what_begins_like_it() {
        for (path, folder, expected) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/a", "/a/b", false),
            ("/a", "/", true),
            ("/", "/", true),
        ] {
            assert_eq!(within(Path::new(path), Path::new(folder)), expected);
        }
    }

    proptest! {
        #[test]
        fn bytes_say_what_parts_say(path in "(/[ab]{1,2}){0,4}", folder in "(/[ab]{1,2}){0,4}") {
            let [path, folder] = [path, folder].map(|text| PathBuf::from(format!("/{}", text.trim_start_matches('/'))));
            prop_assert_eq!(within(&path, &folder), path.starts_with(&folder));
        }
    }
}
