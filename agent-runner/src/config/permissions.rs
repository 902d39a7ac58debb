//! Named permission profiles: `[permissions.NAME]`, `default_permissions`, and what is in force of them.
//!
//! Three steps, each pure: a layer's tables are read ([`raw`]), a profile is put together with what it extends
//! ([`resolve`]), and its grants are said for the folders of one run ([`grants`]). Invariant: an entry that cannot be
//! enforced as written stops the run; what is skipped is never a refusal of access.

mod entry;
mod error;
mod grants;
mod raw;
mod resolve;

pub(crate) use entry::Access;
pub(crate) use error::PermissionsError;
pub(crate) use grants::{Grants, Places, Reads, Tmp};
pub(crate) use resolve::{Profile, ProfileNetwork};

use std::collections::BTreeMap;

use toml::Value;

use super::SandboxMode;
use super::layers::Settings;
use error::Fault;
use raw::RawProfile;

/// The names that need no table.
const BUILT_IN: [(&str, SandboxMode); 3] = [
    (":read-only", SandboxMode::ReadOnly),
    (":workspace", SandboxMode::WorkspaceWrite),
    (":danger-full-access", SandboxMode::DangerFullAccess),
];

/// What `sandbox_mode` says comes from when nobody but the folder's trust said it.
pub(super) const BY_TRUST: [&str; 2] = ["trusted folder", "untrusted folder"];

/// The tables of all layers so far, and the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct PermissionTables {
    profiles: BTreeMap<String, RawProfile>,
    default: Option<Chosen>,
}

/// A profile's name and who named it.
#[derive(Debug, Clone)]
struct Chosen {
    name: String,
    file: String,
}

/// What the managed files say of profiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManagedProfiles {
    /// The profile that holds where nobody chose one, and the file that says so.
    pub(super) default: Option<(String, String)>,
    /// Whether there is a list of those that are allowed: then profiles hold, and `sandbox_mode` beside one does not.
    pub(super) listed: bool,
}

/// The profile that `mode` is.
pub(super) fn built_in_name(mode: SandboxMode) -> &'static str {
    match mode {
        SandboxMode::ReadOnly => ":read-only",
        SandboxMode::WorkspaceWrite => ":workspace",
        SandboxMode::DangerFullAccess => ":danger-full-access",
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
enum Named {
    Mode(SandboxMode),
    Profile(Box<Profile>),
}

impl PermissionTables {
    /// Reads one layer's `permissions` table over what the layers below it say.
    pub(super) fn apply(&mut self, value: &Value, file: &str) -> Result<(), PermissionsError> {
        let at = |keys: &[&str], reason: String| Fault::new(file, keys, reason);
        let table = value
            .as_table()
            .ok_or_else(|| at(&["permissions"], "a table of profiles is wanted".to_owned()))?;
        for (name, profile) in table {
            if name.starts_with(':') {
                let reason = "a name of your own cannot begin with `:`".to_owned();
                return Err(at(&["permissions", name], reason).into());
            }
            let profile = RawProfile::read(name, profile, file)?;
            let below = self.profiles.remove(name);
            let merged =
                below.map_or_else(|| profile.clone(), |below| below.under(profile.clone()));
            self.profiles.insert(name.clone(), merged);
        }
        Ok(())
    }

    /// Reads one layer's `default_permissions`.
    pub(super) fn apply_default(
        &mut self,
        value: &Value,
        file: &str,
    ) -> Result<(), PermissionsError> {
        let name = value.as_str().ok_or_else(|| {
            let reason = format!("a profile's name is wanted, not {}", value.type_str());
            Fault::new(file, &["default_permissions"], reason)
        })?;
        self.default = Some(Chosen {
            name: name.to_owned(),
            file: file.to_owned(),
        });
        Ok(())
    }

    /// Whether a layer so far has written a profile of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    /// Whether the name stands for a profile, built in or written.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.has(name) || BUILT_IN.iter().any(|(known, _)| *known == name)
    }

    fn named(&self, chosen: &Chosen) -> Result<Named, PermissionsError> {
        if let Some((_, mode)) = BUILT_IN.iter().find(|(name, _)| *name == chosen.name) {
            return Ok(Named::Mode(*mode));
        }
        if !self.profiles.contains_key(&chosen.name) {
            let known = BUILT_IN.iter().map(|(name, _)| *name);
            let known = known.chain(self.profiles.keys().map(String::as_str));
            let reason = format!(
                "there is no profile `{}`\nhint: known: {}",
                chosen.name,
                known.collect::<Vec<_>>().join(", ")
            );
            return Err(Fault::new(&chosen.file, &["default_permissions"], reason).into());
        }
        resolve::resolve(&self.profiles, &chosen.name)
            .map(|profile| Named::Profile(Box::new(profile)))
    }
}

impl Settings {
    /// Decides which profile is in force, after every layer of the user's own: the one that the command line names; none
    /// where an older sandbox setting stands anywhere (design D28), unless the administrator lists profiles; else the
    /// default; else the administrator's.
    pub(super) fn settle_permissions(
        &mut self,
        from_flag: Option<&str>,
        managed: &ManagedProfiles,
    ) -> Result<(), PermissionsError> {
        let flag = from_flag.map(|name| Chosen {
            name: name.to_owned(),
            file: "--permissions-profile".to_owned(),
        });
        let mode_said = self
            .origins
            .get("sandbox_mode")
            .filter(|origin| !BY_TRUST.contains(&origin.as_str()))
            .cloned();
        let by_managed = managed.default.as_ref().map(|(name, file)| Chosen {
            name: name.clone(),
            file: file.clone(),
        });
        let default = self.permissions.default.clone();
        let chosen = match (flag, mode_said, default) {
            (Some(flag), _, _) => flag,
            (None, Some(origin), Some(default)) if managed.listed => {
                self.notes.push(format!(
                    "`sandbox_mode` from {origin} is not in force: the administrator lists profiles, and `{}` is chosen",
                    default.name
                ));
                default
            }
            (None, Some(origin), default) => {
                if let Some(default) = default {
                    self.notes.push(format!(
                        "`default_permissions = \"{}\"` in `{}` is not in force: `sandbox_mode` from {origin} beats it",
                        default.name, default.file
                    ));
                }
                return Ok(());
            }
            (None, None, Some(default)) => default,
            (None, None, None) => match by_managed {
                Some(chosen) => chosen,
                None => return self.without_default(),
            },
        };
        match self.permissions.named(&chosen)? {
            Named::Mode(mode) => {
                self.profile = None;
                self.sandbox = mode;
            }
            Named::Profile(profile) => {
                self.sandbox = profile.mode();
                self.notes.extend(profile.notes.iter().cloned());
                self.profile = Some(*profile);
            }
        }
        self.origins
            .insert("sandbox_mode", format!("profile `{}`", chosen.name));
        self.origins.insert("default_permissions", chosen.file);
        Ok(())
    }

    /// Profiles of which none is chosen: whoever wrote them meant one to hold.
    fn without_default(&self) -> Result<(), PermissionsError> {
        let Some((name, profile)) = self.permissions.profiles.iter().next() else {
            return Ok(());
        };
        let reason = format!(
            "is there, but nothing says which one holds\nhint: set default_permissions = \"{name}\""
        );
        Err(Fault::new(&profile.file, &["permissions"], reason).into())
    }
}

#[cfg(test)]
mod tests;
