//! Denials and floors of what is no command: patches, hosts, tools, grants.
//!
//! Apart from commands because nothing has to be read here but paths and names. Invariant: a file that a patch names in
//! its text counts like one that its sender lists.

use protocol::{AdditionalPermissions, FileChange, NetworkAccess};

use super::super::Rule;
use super::super::scene::Scene;
use super::super::{fetch, places};
use super::{Found, METADATA_HOSTS, add, is_root_like, write};

/// Denials in a patch: by the files that it says it changes and by those that its text names.
pub(in crate::builtin) fn patch(change: &FileChange, scene: &Scene, found: &mut Found) {
    for path in patched_files(change) {
        let location = scene.locate_text(path);
        write(&location, scene, found);
        if places::holds_credentials(&location, scene) {
            add(found, Rule::NearCredentials, path);
        } else if places::is_settings(&location, scene) {
            add(found, Rule::WritesSettings, path);
        } else if places::is_system(&location, scene) {
            add(found, Rule::WritesSystem, path);
        } else if !scene.in_workspace(&location) {
            add(found, Rule::WritesOutside, path);
        }
    }
}

/// The files that a patch lists and those that its text names.
pub(in crate::builtin) fn patched_files(change: &FileChange) -> Vec<&str> {
    let listed = change.files.iter().map(|file| file.as_str());
    listed
        .chain(change.patch.lines().filter_map(patched))
        .collect()
}

/// The file that a header line of a patch names, in the agent's format or the unified one.
fn patched(line: &str) -> Option<&str> {
    let agent = [
        "*** Add File: ",
        "*** Update File: ",
        "*** Delete File: ",
        "*** Move to: ",
    ];
    if let Some(path) = agent.iter().find_map(|mark| line.strip_prefix(mark)) {
        return Some(path.trim());
    }
    let unified = line
        .strip_prefix("+++ ")
        .or_else(|| line.strip_prefix("--- "))?;
    let path = unified.split('\t').next().unwrap_or(unified).trim();
    let path = path
        .strip_prefix("a/")
        .or_else(|| path.strip_prefix("b/"))
        .unwrap_or(path);
    (path != "/dev/null").then_some(path)
}

/// Denials and floors of a host.
pub(in crate::builtin) fn network(access: &NetworkAccess, found: &mut Found) {
    let host = access
        .host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
        .to_ascii_lowercase();
    if METADATA_HOSTS.contains(&host.as_str()) {
        add(found, Rule::MetadataService, &host);
    } else if fetch::collects(&host) {
        add(found, Rule::SendsToCollector, &host);
    } else if is_private(&host) {
        add(found, Rule::PrivateNetwork, &host);
    } else {
        add(found, Rule::ReachesNetwork, &host);
    }
}

fn is_private(host: &str) -> bool {
    use std::net::IpAddr;
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.to_ipv4_mapped().is_some()
        }
        Err(_) => {
            !host.contains('.')
                || [
                    ".local",
                    ".internal",
                    ".lan",
                    ".localhost",
                    ".intranet",
                    ".corp",
                ]
                .iter()
                .any(|end| host.ends_with(end))
        }
    }
}

/// Denials and floors of a grant.
pub(in crate::builtin) fn permissions(
    wanted: &AdditionalPermissions,
    scene: &Scene,
    found: &mut Found,
) {
    for path in &wanted.write {
        let location = scene.locate_text(path.as_str());
        write(&location, scene, found);
        let whole = location.depth() <= 1 && places::is_system(&location, scene);
        if whole || location.depth() == 0 {
            add(found, Rule::WeakensProtection, path);
        }
        if is_root_like(&location, scene) && !scene.roots.iter().any(|root| root == path.as_str()) {
            add(found, Rule::WritesSystem, path);
        } else if places::is_settings(&location, scene) {
            add(found, Rule::WritesSettings, path);
        } else {
            add(found, Rule::WritesOutside, path);
        }
    }
    for path in &wanted.read {
        let location = scene.locate_text(path.as_str());
        if places::is_reviewers(&location, scene) {
            add(found, Rule::TampersReviewer, path);
        } else if places::holds_credentials(&location, scene)
            || places::holds_a_home(&location, scene)
        {
            add(found, Rule::NearCredentials, path);
        }
    }
    if wanted.network {
        add(found, Rule::WantsNetwork, "network");
    }
}
