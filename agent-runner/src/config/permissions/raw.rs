//! One profile's table as one layer writes it, and how a stronger one lies over a weaker one.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use toml::{Table, Value};

use super::entry::{Access, Key, Target};
use super::error::{Fault, PermissionsError};
use crate::config::shared_file::merge;

/// The keys of a profile.
const KEYS: [&str; 5] = [
    "description",
    "extends",
    "workspace_roots",
    "filesystem",
    "network",
];

/// A profile as written: by one layer, by several, or with what it extends below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RawProfile {
    /// The strongest file that speaks of it.
    pub(super) file: String,
    pub(super) extends: Option<String>,
    /// Folders beside the workspace, and whether they count.
    pub(super) roots: BTreeMap<String, bool>,
    pub(super) filesystem: BTreeMap<Target, Access>,
    pub(super) glob_depth: Option<NonZeroU32>,
    pub(super) network: RawNetwork,
    /// Tokens that mean nothing to this version.
    pub(super) unknown: BTreeSet<String>,
}

/// `[permissions.NAME.network]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RawNetwork {
    pub(super) enabled: Option<bool>,
    /// The keys that the door enforces.
    pub(super) rules: Table,
    /// Whether some of them are more than what stands without a door.
    pub(super) wants_door: bool,
}

impl RawProfile {
    /// Reads the table `value` of the profile `name`.
    pub(super) fn read(name: &str, value: &Value, file: &str) -> Result<Self, PermissionsError> {
        let reader = Reader { name, file };
        let table = reader.table(value, &[])?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let reason = format!("is no key of a profile\nhint: known: {}", KEYS.join(", "));
            return Err(reader.fault(&[key], reason).into());
        }
        if let Some(description) = table.get("description") {
            reader.text(description, &["description"])?;
        }
        let mut profile = Self {
            file: file.to_owned(),
            extends: table
                .get("extends")
                .map(|value| reader.text(value, &["extends"]).map(str::to_owned))
                .transpose()?,
            ..Self::default()
        };
        if let Some(value) = table.get("workspace_roots") {
            reader.roots(value, &mut profile)?;
        }
        if let Some(value) = table.get("filesystem") {
            reader.filesystem(value, &mut profile)?;
        }
        if let Some(value) = table.get("network") {
            profile.network = reader.network(value)?;
        }
        Ok(profile)
    }

    /// `over` lying over this one: by key, and the upper one wins.
    pub(super) fn under(mut self, over: Self) -> Self {
        self.file = over.file;
        self.extends = over.extends.or(self.extends);
        self.roots.extend(over.roots);
        self.filesystem.extend(over.filesystem);
        self.glob_depth = over.glob_depth.or(self.glob_depth);
        self.network.enabled = over.network.enabled.or(self.network.enabled);
        for (key, value) in &over.network.rules {
            merge(&mut self.network.rules, key, value);
        }
        self.network.wants_door |= over.network.wants_door;
        self.unknown.extend(over.unknown);
        self
    }
}

/// Where a table is read, for what is said of it.
#[derive(Clone, Copy)]
struct Reader<'a> {
    name: &'a str,
    file: &'a str,
}

impl Reader<'_> {
    fn fault(self, keys: &[&str], reason: String) -> Fault {
        let path: Vec<&str> = ["permissions", self.name]
            .into_iter()
            .chain(keys.iter().copied())
            .collect();
        Fault::new(self.file, &path, reason)
    }

    fn wanted(self, keys: &[&str], what: &str, value: &Value) -> Fault {
        self.fault(keys, format!("{what} is wanted, not {}", value.type_str()))
    }

    fn table<'v>(self, value: &'v Value, keys: &[&str]) -> Result<&'v Table, Fault> {
        value
            .as_table()
            .ok_or_else(|| self.wanted(keys, "a table", value))
    }

    fn text<'v>(self, value: &'v Value, keys: &[&str]) -> Result<&'v str, Fault> {
        value
            .as_str()
            .ok_or_else(|| self.wanted(keys, "a text", value))
    }

    fn switch(self, value: &Value, keys: &[&str]) -> Result<bool, Fault> {
        value
            .as_bool()
            .ok_or_else(|| self.wanted(keys, "true or false", value))
    }

    fn roots(self, value: &Value, profile: &mut RawProfile) -> Result<(), PermissionsError> {
        for (path, active) in self.table(value, &["workspace_roots"])? {
            let keys = ["workspace_roots", path.as_str()];
            if !path.starts_with('/') && !path.starts_with("~/") {
                let reason =
                    "is relative\nhint: name an absolute path, or one that begins with `~/`";
                return Err(self.fault(&keys, reason.to_owned()).into());
            }
            profile
                .roots
                .insert(path.clone(), self.switch(active, &keys)?);
        }
        Ok(())
    }

    fn filesystem(self, value: &Value, profile: &mut RawProfile) -> Result<(), PermissionsError> {
        for (key, value) in self.table(value, &["filesystem"])? {
            if key == "glob_scan_max_depth" {
                profile.glob_depth = Some(self.depth(value)?);
                continue;
            }
            let keys = ["filesystem", key.as_str()];
            let named = Key::parse(key).map_err(|reason| self.fault(&keys, reason))?;
            let Key::Target(target) = named else {
                self.unknown_token(key, value)?;
                profile.unknown.insert(key.clone());
                continue;
            };
            let Some(nested) = value.as_table() else {
                self.entry(profile, target, value, &keys)?;
                continue;
            };
            for (below, value) in nested {
                let keys = ["filesystem", key.as_str(), below.as_str()];
                if below != "." && !target.takes_subpaths() {
                    let reason = format!("`{key}` takes no path below it but \".\"");
                    return Err(self.fault(&keys, reason).into());
                }
                let target = target
                    .below(below)
                    .map_err(|reason| self.fault(&keys, reason))?;
                self.entry(profile, target, value, &keys)?;
            }
        }
        Ok(())
    }

    fn entry(
        self,
        profile: &mut RawProfile,
        target: Target,
        value: &Value,
        keys: &[&str],
    ) -> Result<(), PermissionsError> {
        let text = self.text(value, keys)?;
        let access = Access::parse(text).ok_or_else(|| {
            let reason = format!("`{text}` is no access\nhint: known: read, write, deny (or none)");
            self.fault(keys, reason)
        })?;
        if target.pattern().is_some() && access != Access::Deny {
            let reason = "a pattern can only deny\nhint: name the path, or end it with `/**` for all below it";
            return Err(self.fault(keys, reason.to_owned()).into());
        }
        if let Target::FixedGlob { base, .. } = &target
            && base.as_os_str() == "/"
        {
            let reason = "a pattern that begins at `/` would have to look at the whole disk\nhint: begin it with a folder";
            return Err(self.fault(keys, reason.to_owned()).into());
        }
        if target == Target::Root && access == Access::Write {
            let reason =
                "writing everywhere is no wall\nhint: choose it by its name: `:danger-full-access`";
            return Err(self.fault(keys, reason.to_owned()).into());
        }
        let strictest = profile.filesystem.entry(target).or_insert(access);
        // One layer may name the same path twice, as `/tmp` and `:slash_tmp`.
        *strictest = access.max(*strictest);
        Ok(())
    }

    /// A token of a later version may be skipped where skipping gives less; never where it takes something away.
    fn unknown_token(self, key: &str, value: &Value) -> Result<(), PermissionsError> {
        let denies = |value: &Value| {
            value
                .as_str()
                .is_none_or(|text| !matches!(text, "read" | "write"))
        };
        let takes_away = match value.as_table() {
            Some(nested) => nested.values().any(denies),
            None => denies(value),
        };
        if takes_away {
            let reason =
                "means nothing to this version, and skipping it would leave open what it closes";
            return Err(self.fault(&["filesystem", key], reason.to_owned()).into());
        }
        Ok(())
    }

    fn depth(self, value: &Value) -> Result<NonZeroU32, PermissionsError> {
        let keys = ["filesystem", "glob_scan_max_depth"];
        let number = value
            .as_integer()
            .ok_or_else(|| self.wanted(&keys, "a number", value))?;
        let depth = u32::try_from(number).ok().and_then(NonZeroU32::new);
        Ok(depth.ok_or_else(|| self.fault(&keys, format!("{number} is not at least 1")))?)
    }

    fn network(self, value: &Value) -> Result<RawNetwork, PermissionsError> {
        let mut network = RawNetwork::default();
        for (key, value) in self.table(value, &["network"])? {
            let keys = ["network", key.as_str()];
            let needs_door = match key.as_str() {
                "enabled" => {
                    network.enabled = Some(self.switch(value, &keys)?);
                    false
                }
                "domains" => self.decisions(value, key)?,
                "unix_sockets" => self.decisions(value, key)?,
                "mode" => match self.text(value, &keys)? {
                    "full" => false,
                    "limited" => true,
                    other => {
                        let reason = format!("`{other}` is no mode\nhint: known: full, limited");
                        return Err(self.fault(&keys, reason).into());
                    }
                },
                "proxy_url" | "socks_url" => {
                    self.text(value, &keys)?;
                    true
                }
                "enable_socks5" | "enable_socks5_udp" | "allow_upstream_proxy" => {
                    self.switch(value, &keys)?;
                    false
                }
                "allow_local_binding"
                | "dangerously_allow_non_loopback_proxy"
                | "dangerously_allow_all_unix_sockets" => self.switch(value, &keys)?,
                "mitm" => self.switch(value, &keys)?,
                _ => {
                    return Err(self
                        .fault(&keys, "is no key of a profile's network".to_owned())
                        .into());
                }
            };
            network.wants_door |= needs_door;
            if key != "enabled" {
                network.rules.insert(key.clone(), value.clone());
            }
        }
        Ok(network)
    }

    /// A table of names, each allowed or denied; whether there is any.
    fn decisions(self, value: &Value, key: &str) -> Result<bool, PermissionsError> {
        let table = self.table(value, &["network", key])?;
        for (name, value) in table {
            let keys = ["network", key, name.as_str()];
            let text = self.text(value, &keys)?;
            if !matches!(text, "allow" | "deny") {
                let reason = format!("`{text}` is neither `allow` nor `deny`");
                return Err(self.fault(&keys, reason).into());
            }
        }
        Ok(!table.is_empty())
    }
}
