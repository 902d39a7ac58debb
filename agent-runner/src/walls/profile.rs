//! From a permission profile's grants to the sandbox's builder.
//!
//! Apart from the modes, because a profile says everything itself. Invariant: nothing is given here that the grants do
//! not name, but what any program needs to start.

use std::path::{Path, PathBuf};

use sandbox::{PolicyBuilder, PrivateTmp, SandboxPolicy};

use super::WallsError;
use crate::config::{Access, Environment, Grants, Places, Profile, Reads, Settings, Tmp};

/// What any program needs to start: `:minimal`. A distribution has some of them.
const MINIMAL: [&str; 10] = [
    "/bin",
    "/sbin",
    "/usr",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/run/current-system/sw",
];

/// What `profile` gives to a command in `cwd`.
pub(super) fn grants(
    profile: &Profile,
    settings: &Settings,
    environment: &Environment,
    cwd: &Path,
) -> Grants {
    profile.grants(Places {
        workspace: cwd,
        added: &settings.workspace_write.writable_roots,
        home: &environment.home,
    })
}

/// The folders that may be written under `grants`, resolved.
pub(super) fn writable_roots(grants: &Grants) -> Vec<PathBuf> {
    let written = grants
        .paths
        .iter()
        .filter(|(_, access)| *access == Access::Write);
    written
        .map(|(path, _)| path.canonicalize().unwrap_or_else(|_| path.clone()))
        .collect()
}

/// The builder that `grants` lead to.
///
/// # Errors
/// The command would have no folder to stand in.
pub(super) fn builder(grants: &Grants, cwd: &Path) -> Result<PolicyBuilder, WallsError> {
    let tmp = match grants.tmp {
        Tmp::Private => PrivateTmp::Fresh,
        Tmp::Closed => PrivateTmp::Excluded,
    };
    let base = SandboxPolicy::read_only().private_tmp(tmp);
    let base = match grants.reads {
        Reads::Everything => base.reads(sandbox::Reads::Everything),
        Reads::Minimal => MINIMAL
            .iter()
            .fold(base.reads(sandbox::Reads::Listed), |builder, path| {
                builder.access(path, sandbox::Access::Read)
            }),
        Reads::Nothing => base.reads(sandbox::Reads::Listed),
    };
    if !opens(grants, cwd) {
        return Err(WallsError::Shut(cwd.to_owned()));
    }
    let base = grants
        .paths
        .iter()
        .fold(base.readable(cwd), |builder, (path, access)| {
            let access = match access {
                Access::Deny => sandbox::Access::Deny,
                Access::Read => sandbox::Access::Read,
                Access::Write => sandbox::Access::Write,
            };
            builder.access(path, access)
        });
    let base = grants.globs.iter().fold(base, |builder, glob| {
        builder.deny_matching(&glob.base, &glob.pattern)
    });
    let depth = grants
        .glob_depth
        .and_then(|depth| usize::try_from(depth.get()).ok());
    Ok(match depth {
        Some(depth) => base.scan_depth(depth),
        None => base,
    })
}

/// Whether the deepest entry around `cwd` opens it.
fn opens(grants: &Grants, cwd: &Path) -> bool {
    let around = grants
        .paths
        .iter()
        .filter(|(path, _)| cwd.starts_with(path));
    let nearest = around.max_by_key(|(path, _)| path.components().count());
    match nearest {
        Some((_, access)) => *access != Access::Deny,
        None => grants.reads == Reads::Everything,
    }
}
