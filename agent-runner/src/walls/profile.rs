//! From a permission profile's grants to the sandbox's builder.
//!
//! Apart from the modes, because a profile says everything itself. Invariant: what the builder cannot express refuses.

use std::path::{Path, PathBuf};

use sandbox::{Network, PolicyBuilder, PrivateTmp, SandboxPolicy};

use super::WallsError;
use crate::config::{
    Access, Environment, Grants, Places, Profile, ProfileNetwork, Reads, Settings, Tmp,
};

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
pub(super) fn builder(grants: &Grants, cwd: &Path) -> Result<PolicyBuilder, WallsError> {
    if grants.reads != Reads::Everything {
        return Err(WallsError::Inexpressible("reads of listed paths alone"));
    }
    if !grants.globs.is_empty() {
        return Err(WallsError::Inexpressible(
            "patterns of paths that may not be read",
        ));
    }
    let network = match grants.network {
        ProfileNetwork::Off => Network::Off,
        ProfileNetwork::Full => Network::Full,
    };
    let tmp = match grants.tmp {
        Tmp::Private => PrivateTmp::Fresh,
        Tmp::Closed => PrivateTmp::Excluded,
    };
    let base = SandboxPolicy::read_only()
        .readable(cwd)
        .network(network)
        .private_tmp(tmp);
    Ok(grants
        .paths
        .iter()
        .fold(base, |builder, (path, access)| match access {
            Access::Write => builder.root(path),
            Access::Read => builder.keep(path),
            Access::Deny => builder.deny_read(path),
        }))
}
