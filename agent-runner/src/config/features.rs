//! The features of this program that settings switch: which wishes for more permissions there are at all.
//!
//! Apart from the network's, which is a policy and no switch. Invariant: a pin of the administrator's is the last word.

use toml::{Table, Value};

use super::error::{ConfigError, read_value};
use super::layers::Settings;

/// A feature that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// A command may ask for more permissions of its own.
    AdditionalPermissions,
    /// A turn or session may be given more permissions.
    RequestPermissions,
}

const ALL: [Feature; 2] = [Feature::AdditionalPermissions, Feature::RequestPermissions];

impl Feature {
    /// The name in `[features]`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AdditionalPermissions => "exec_permission_approvals",
            Self::RequestPermissions => "request_permissions_tool",
        }
    }

    /// That it is off, in words.
    pub(crate) fn off(self) -> String {
        format!("`features.{}` is off", self.name())
    }
}

impl Settings {
    /// Whether `feature` is on; all are unless something says otherwise.
    pub(crate) fn is_on(&self, feature: Feature) -> bool {
        !self.features_off.contains(&feature)
    }

    /// What one layer's `[features]` says of them.
    pub(super) fn apply_switches(
        &mut self,
        features: &Table,
        file: &str,
    ) -> Result<(), ConfigError> {
        for feature in ALL {
            if let Some(value) = features.get(feature.name()) {
                let on = read_value(value, file, "features")?;
                self.switch(feature, on);
            }
        }
        Ok(())
    }

    /// Pins `name`, where it is one of them; the answer is whether it is.
    pub(super) fn pin_switch(&mut self, name: &str, on: bool, file: &str) -> bool {
        let Some(feature) = ALL.into_iter().find(|feature| feature.name() == name) else {
            return false;
        };
        if self.is_on(feature) != on {
            let value = Value::Boolean(!on);
            self.notes.push(format!(
                "`features.{name} = {value}` is not allowed by `{file}`; `{on}` holds"
            ));
        }
        self.switch(feature, on);
        true
    }

    fn switch(&mut self, feature: Feature, on: bool) {
        if on {
            self.features_off.remove(&feature);
        } else {
            self.features_off.insert(feature);
        }
    }
}
