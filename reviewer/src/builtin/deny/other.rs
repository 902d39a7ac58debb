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
    carried_script(change, scene, found);
}

/// What a patch adds to a script, read like one: where it is run by itself, what would be denied is denied.
fn carried_script(change: &FileChange, scene: &Scene, found: &mut Found) {
    let mut path = "";
    let mut text = String::new();
    let finish = |path: &str, text: &str, found: &mut Found| {
        let place = scene.locate_text(path);
        let runs_by_itself =
            places::is_settings(&place, scene) || places::is_start_up(&place, scene);
        if text.is_empty() || !(runs_by_itself || is_script(path, text)) {
            return;
        }
        let words = ["bash".to_owned(), "-c".to_owned(), text.to_owned()];
        let mut inside = Vec::new();
        super::command(&scene.within(&words), &mut inside);
        if inside.iter().any(|finding| finding.rule.denies()) {
            let rule = if runs_by_itself {
                Rule::Persistence
            } else {
                Rule::ScriptHarms
            };
            add(found, rule, path);
        }
    };
    for line in change.patch.lines() {
        if let Some(next) = patched(line) {
            finish(path, &text, found);
            path = next;
            text.clear();
        } else if let Some(added) = line.strip_prefix('+') {
            text.push_str(added);
            text.push('\n');
        }
    }
    finish(path, &text, found);
}

/// A shell script by its name, or by its first line where the patch adds that.
fn is_script(path: &str, text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    [".sh", ".bash", ".zsh", ".ksh"]
        .iter()
        .any(|end| path.ends_with(end))
        || (first.starts_with("#!") && first.contains("sh"))
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
        } else if wanted.network && places::holds_keys(&location) {
            add(found, Rule::ReadsCredentials, path);
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
