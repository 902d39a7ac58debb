//! The looks at the disk that a policy's paths have to pass: absolute, resolved, and nothing that belongs to the system.
//!
//! Apart from the policy because this is all of it that reads anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::InvalidPolicy;

/// Directories that are no workspace, whoever asks.
const NO_WORKSPACE: [&str; 20] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];
/// Trees of the kernel, no part of which is a workspace.
const KERNEL_TREES: [&str; 3] = ["/dev", "/proc", "/sys"];

#[derive(Clone, Copy)]
pub(super) enum Missing {
    Refuse,
    Skip,
}

pub(super) fn canonical_all(
    paths: &[PathBuf],
    missing: Missing,
) -> Result<Vec<PathBuf>, InvalidPolicy> {
    let resolved = paths.iter().map(|path| canonical(path, missing));
    resolved.filter_map(Result::transpose).collect()
}

/// The path without links; nothing where it is missing and may be.
pub(super) fn canonical(path: &Path, missing: Missing) -> Result<Option<PathBuf>, InvalidPolicy> {
    if !path.is_absolute() {
        return Err(InvalidPolicy::Relative(path.to_path_buf()));
    }
    match (path.canonicalize(), missing) {
        (Ok(path), _) => Ok(Some(path)),
        (Err(error), Missing::Skip) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        (Err(source), _) => Err(InvalidPolicy::Unresolved {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// How many links one path may lead through (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// The first symbolic link on the way to `path` that lies in a writable root, where a command could replace it.
pub(super) fn writable_link(path: &Path, roots: &[PathBuf]) -> Option<PathBuf> {
    let mut left: Vec<OsString> = path.iter().rev().map(OsString::from).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        // A name of `/` starts over.
        let next = here.join(&name);
        let Ok(target) = next.read_link() else {
            here = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS || roots.iter().any(|root| next.starts_with(root)) {
            return Some(next);
        }
        left.extend(target.iter().rev().map(OsString::from));
    }
    None
}

pub(super) fn check_root(root: &Path) -> Result<(), InvalidPolicy> {
    let refuse = |reason| {
        Err(InvalidPolicy::NotAWorkspace {
            path: root.to_path_buf(),
            reason,
        })
    };
    if !root.is_dir() && !root.is_file() {
        return Err(InvalidPolicy::NeitherFileNorDirectory(root.to_path_buf()));
    }
    let homes = homes_of_this_user();
    if NO_WORKSPACE.iter().any(|path| root == Path::new(path)) || root == Path::new("/var/tmp") {
        return refuse("it belongs to the whole system");
    }
    if KERNEL_TREES.iter().any(|tree| root.starts_with(tree)) {
        return refuse("it belongs to the kernel");
    }
    if homes.iter().any(|home| home == root) {
        return refuse("it is the home folder");
    }
    if homes.iter().any(|home| home.starts_with(root)) {
        return refuse("the home folder lies inside it");
    }
    Ok(())
}

pub(super) fn session_folder(folder: &Path) -> Result<PathBuf, InvalidPolicy> {
    use std::os::unix::fs::MetadataExt as _;
    let unresolved = |source| InvalidPolicy::Unresolved {
        path: folder.to_path_buf(),
        source,
    };
    if !folder.is_absolute() {
        return Err(InvalidPolicy::Relative(folder.to_path_buf()));
    }
    let path = folder.canonicalize().map_err(unresolved)?;
    let found = path.symlink_metadata().map_err(unresolved)?;
    if !found.is_dir() {
        return Err(InvalidPolicy::NotADirectory(path));
    }
    let own = found.uid() == rustix::process::geteuid().as_raw();
    if !own || found.mode() & 0o077 != 0 {
        return Err(InvalidPolicy::SharedSessionFolder(path));
    }
    Ok(path)
}

/// The home folder of this user as the user database has it. The environment's `HOME` is the caller's to add
/// ([`crate::Command`] carries it).
pub(crate) fn homes_of_this_user() -> &'static [PathBuf] {
    static HOMES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    HOMES.get_or_init(read_homes)
}

fn read_homes() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let database = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries = database
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let own = entries.filter(|fields| fields.get(2) == Some(&user.as_str()));
    let homes = own.filter_map(|fields| fields.get(5).map(PathBuf::from));
    homes
        .filter(|home| home.is_absolute() && home != Path::new("/"))
        .collect()
}
