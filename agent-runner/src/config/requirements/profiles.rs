//! Managed permission profiles: the administrator's own, and which profiles may be chosen at all.
//!
//! Apart from the other requirements because profiles are put together before anything is held to what is required.
//! Invariant: a name that is not allowed becomes `:read-only`, whatever else is allowed.

use toml::Value;

use super::{ConfigError, Required, Requirements, invalid};
use crate::config::SandboxMode;
use crate::config::layers::Settings;
use crate::config::permissions::{ManagedProfiles, built_in_name};

impl Settings {
    /// Makes the administrator's profiles known, and answers what these files say of profiles.
    ///
    /// # Errors
    /// A profile is not as it must be, or has the name of one of the user's.
    pub(in crate::config) fn take_managed_profiles(
        &mut self,
        required: &Required,
    ) -> Result<ManagedProfiles, ConfigError> {
        let mut managed = ManagedProfiles::default();
        for (wanted, file) in required {
            let profiles = wanted.permissions.clone().unwrap_or_default().profiles;
            if let Some(name) = profiles.keys().find(|name| self.permissions.has(name)) {
                let reason = format!("the user's settings have a profile `{name}` too");
                return Err(invalid(file, "permissions", &reason));
            }
            self.permissions.apply(&Value::Table(profiles), file)?;
            if let Some(name) = &wanted.default_permissions {
                managed.default = Some((name.clone(), (*file).to_owned()));
            }
            managed.listed |= wanted.allowed_permission_profiles.is_some();
        }
        Ok(managed)
    }

    /// Holds the profile in force to the list of those that are allowed.
    pub(super) fn hold_profiles(
        &mut self,
        wanted: &Requirements,
        file: &str,
    ) -> Result<(), ConfigError> {
        const LIST: &str = "allowed_permission_profiles";
        let Some(allowed) = &wanted.allowed_permission_profiles else {
            return Ok(());
        };
        if let Some(name) = allowed.keys().find(|name| !self.permissions.knows(name)) {
            return Err(invalid(
                file,
                LIST,
                &format!("there is no profile `{name}`"),
            ));
        }
        let is_allowed = |name: &str| allowed.get(name) == Some(&true);
        match &wanted.default_permissions {
            Some(name) if !is_allowed(name) => {
                let reason = format!("`{name}` is not among `{LIST}`");
                return Err(invalid(file, "default_permissions", &reason));
            }
            None if !(is_allowed(":workspace") && is_allowed(":read-only")) => {
                let reason = format!(
                    "it is needed with `{LIST}`, unless `:workspace` and `:read-only` are both allowed"
                );
                return Err(invalid(file, "default_permissions", &reason));
            }
            Some(_) | None => {}
        }
        let in_force = match &self.profile {
            Some(profile) => profile.name.clone(),
            None => built_in_name(self.sandbox).to_owned(),
        };
        // What may nothing but be read is never too wide.
        if is_allowed(&in_force) || in_force == ":read-only" {
            return Ok(());
        }
        let names: Vec<&str> = allowed
            .iter()
            .filter(|(_, allowed)| **allowed)
            .map(|(name, _)| name.as_str())
            .collect();
        self.notes.push(format!(
            "the profile `{in_force}` is not allowed by `{file}` (allowed: {}); `:read-only` holds",
            names.join(", ")
        ));
        self.profile = None;
        self.set_sandbox(SandboxMode::ReadOnly, file);
        Ok(())
    }
}
