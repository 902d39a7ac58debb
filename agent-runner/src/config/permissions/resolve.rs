//! A profile with everything that it extends: [`Profile`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;

use toml::Table;

use super::entry::{Access, Target};
use super::error::{Fault, PermissionsError};
use super::raw::RawProfile;
use crate::config::SandboxMode;

/// A profile that is in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// What the user should know about it, a line each.
    pub(crate) notes: Vec<String>,
    /// Folders that are workspace roots beside the workspace, as written.
    pub(super) roots: Vec<PathBuf>,
    pub(super) filesystem: BTreeMap<Target, Access>,
    pub(super) glob_depth: Option<NonZeroU32>,
    pub(super) network: ProfileNetwork,
    /// What the door is to enforce, as written.
    pub(crate) network_rules: Table,
    pub(super) wants_door: bool,
}

/// What a profile lets commands reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProfileNetwork {
    /// Nothing but their own loopback.
    Off,
    /// What the door lets through where there is one, else the host's network.
    On,
}

impl Profile {
    /// The mode that it comes nearest to, for what asks for a mode: wider than it never.
    pub(crate) fn mode(&self) -> SandboxMode {
        let writes = self.filesystem.iter().any(|(target, access)| {
            *access == Access::Write && !matches!(target, Target::Tmpdir | Target::SlashTmp)
        });
        if writes {
            SandboxMode::WorkspaceWrite
        } else {
            SandboxMode::ReadOnly
        }
    }

    /// Whether its network has rules, which only a door can hold commands to.
    pub(crate) fn wants_door(&self) -> bool {
        self.wants_door
    }

    /// The same with nothing to write but the private `/tmp`: what a project that asks for `read-only` gets.
    pub(crate) fn narrowed_to_reading(&mut self) {
        for (target, access) in &mut self.filesystem {
            if !matches!(target, Target::Tmpdir | Target::SlashTmp) && *access == Access::Write {
                *access = Access::Read;
            }
        }
        self.network = ProfileNetwork::Off;
    }
}

/// Puts `name` together.
pub(super) fn resolve(
    profiles: &BTreeMap<String, RawProfile>,
    name: &str,
) -> Result<Profile, PermissionsError> {
    let raw = with_parents(profiles, name)?;
    let network = match raw.network.enabled {
        Some(true) => ProfileNetwork::On,
        Some(false) | None => ProfileNetwork::Off,
    };
    Ok(Profile {
        name: name.to_owned(),
        notes: notes(name, &raw),
        roots: raw
            .roots
            .iter()
            .filter(|(_, active)| **active)
            .map(|(path, _)| PathBuf::from(path))
            .collect(),
        filesystem: raw.filesystem,
        glob_depth: raw.glob_depth,
        network,
        wants_door: raw.network.wants_door,
        network_rules: raw.network.rules,
    })
}

/// The chain of what is extended, weakest first, laid over each other.
fn with_parents(
    profiles: &BTreeMap<String, RawProfile>,
    name: &str,
) -> Result<RawProfile, PermissionsError> {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = name.to_owned();
    let mut base = RawProfile::default();
    while let Some(profile) = profiles.get(&next) {
        seen.insert(next.clone());
        chain.push((next.clone(), profile));
        let Some(parent) = profile.extends.clone() else {
            break;
        };
        let fault =
            |reason: String| Fault::new(&profile.file, &["permissions", &next, "extends"], reason);
        if seen.contains(&parent) {
            let names = chain.iter().map(|(name, _)| name.as_str());
            let names: Vec<_> = names.chain([parent.as_str()]).collect();
            return Err(fault(format!("goes round in a circle: {}", names.join(" -> "))).into());
        }
        if parent.starts_with(':') {
            base = built_in(&parent).map_err(fault)?;
            break;
        }
        if !profiles.contains_key(&parent) {
            return Err(fault(format!("there is no profile `{parent}`")).into());
        }
        next = parent;
    }
    let laid = chain
        .into_iter()
        .rev()
        .fold(base, |below, (_, over)| below.under(over.clone()));
    Ok(laid)
}

/// What a built-in profile gives to those that extend it.
fn built_in(name: &str) -> Result<RawProfile, String> {
    let entries: &[(Target, Access)] = match name {
        ":read-only" => &[],
        ":workspace" => &[(Target::Roots(PathBuf::new()), Access::Write)],
        ":danger-full-access" => {
            return Err("full access has no walls that another profile could change".to_owned());
        }
        other => {
            return Err(format!(
                "there is no built-in profile `{other}`\nhint: known: :read-only, :workspace"
            ));
        }
    };
    let common = [
        (Target::Root, Access::Read),
        (Target::Tmpdir, Access::Write),
        (Target::SlashTmp, Access::Write),
    ];
    Ok(RawProfile {
        filesystem: common.into_iter().chain(entries.iter().cloned()).collect(),
        ..RawProfile::default()
    })
}

fn notes(name: &str, raw: &RawProfile) -> Vec<String> {
    let mut notes = Vec::new();
    if raw.filesystem.is_empty() {
        notes.push(format!(
            "the profile `{name}` opens no path: commands see what programs need to start, and nothing else"
        ));
    }
    let unknown: Vec<_> = raw.unknown.iter().map(String::as_str).collect();
    if !unknown.is_empty() {
        notes.push(format!(
            "the profile `{name}` names places that mean nothing to this version: {}",
            unknown.join(", ")
        ));
    }
    let unbounded = raw
        .filesystem
        .keys()
        .filter_map(Target::pattern)
        .find(|pattern| pattern.split('/').any(|part| part == "**"));
    if let Some(pattern) = unbounded.filter(|_| raw.glob_depth.is_none()) {
        notes.push(format!(
            "the pattern `{pattern}` of the profile `{name}` is looked for at any depth; glob_scan_max_depth would bound the search"
        ));
    }
    notes
}
