//! Sockets of the host that a command could reach by a name in the file system: [`host_sockets`].
//!
//! Before Landlock's ninth interface no wall tells such sockets by path, and their names cross network namespaces, so each has to
//! be covered or lie where a command finds nothing. Invariant: whatever the kernel lists and this cannot place is counted,
//! and one that is counted takes Unix sockets from the command.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Sockets of the host that have a name in the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostSockets {
    pub(crate) located: Vec<PathBuf>,
    pub(crate) unlocated: usize,
}

/// Folders that every confined command finds empty, so that no socket in them can be reached.
pub(super) const EMPTIED: [&str; 6] = [
    "/run/",
    "/var/run/",
    "/tmp/",
    "/var/tmp/",
    "/dev/",
    "/proc/",
];

/// The host's listening places with a path, by the kernel's own list (`unix(7)`, `/proc/net/unix`).
pub(super) fn host_sockets() -> HostSockets {
    let is_socket = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|found| found.file_type().is_socket())
    };
    match fs::read("/proc/net/unix") {
        Ok(list) => listed(&String::from_utf8_lossy(&list), is_socket),
        Err(_) => HostSockets {
            located: Vec::new(),
            unlocated: 1,
        },
    }
}

/// What stands on one line of the list.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// A socket without a name, or with one that is in no file system.
    Elsewhere,
    Path(&'a Path),
    /// A name that starts nowhere, or what follows a line end inside a name.
    Unplaced,
}

fn listed(list: &str, is_socket: impl Fn(&Path) -> bool) -> HostSockets {
    let mut sockets = HostSockets::default();
    for line in list.lines().skip(1) {
        match line_of(line) {
            Line::Elsewhere => {}
            Line::Unplaced => sockets.unlocated += 1,
            // By way of a descriptor: the path says nothing of the place.
            Line::Path(path) if path.starts_with("/proc") => sockets.unlocated += 1,
            Line::Path(path) => {
                let emptied = EMPTIED.iter().any(|folder| path.starts_with(folder));
                // One whose name is gone can be reached by none.
                if !emptied && is_socket(path) {
                    sockets.located.push(path.to_path_buf());
                }
            }
        }
    }
    sockets.located.sort();
    sockets.located.dedup();
    sockets
}

/// Seven columns, then one blank and the name, which may itself hold blanks.
fn line_of(line: &str) -> Line<'_> {
    let mut rest = line;
    for column in 0..7 {
        let begun = rest.trim_start_matches(' ');
        let end = begun.find(' ').unwrap_or(begun.len());
        let (word, after) = begun.split_at(end);
        let digits = if column == 0 {
            word.strip_suffix(':').unwrap_or_default()
        } else {
            word
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Line::Unplaced;
        }
        rest = after;
    }
    match rest.strip_prefix(' ') {
        None | Some("") => Line::Elsewhere,
        Some(name) if name.starts_with('@') => Line::Elsewhere,
        Some(name) if name.starts_with('/') => Line::Path(Path::new(name)),
        Some(_) => Line::Unplaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(names: &[&str]) -> HostSockets {
        let mut list = "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned();
        for name in names {
            list += &format!("00000000a299485a: 00000002 00000000 00010000 0001 01  4711{name}\n");
        }
        listed(&list, |path| !path.ends_with("gone"))
    }

    #[test]
    fn what_the_kernel_lists_is_placed_or_counted() {
        for (name, located, unlocated) in [
            ("", &[][..], 0),
            (" @abstract name", &[], 0),
            (" /home/u/a b/x.sock", &["/home/u/a b/x.sock"], 0),
            (" /run/user/1000/bus", &[], 0),
            (" /home/u/gone", &[], 0),
            (" rel.sock", &[], 1),
            (" dir/rel.sock", &[], 1),
            ("  leading", &[], 1),
            (" /proc/self/fd/7/x.sock", &[], 1),
            // A line end in a name, and what follows it.
            (" /home/u/one\ntwo", &["/home/u/one"], 1),
        ] {
            let found = sockets(&[name]);
            let located: Vec<PathBuf> = located.iter().map(PathBuf::from).collect();
            assert_eq!(
                (found.located, found.unlocated),
                (located, unlocated),
                "{name:?}"
            );
        }
    }
}
