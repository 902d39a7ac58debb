//! The managed file: what administrators allow at all. It binds everybody and cannot be named away.

use std::path::Path;

use serde::Deserialize;

use super::error::{ConfigError, read_text, syntax};
use super::layers::Settings;
use super::{ApprovalsReviewer, SandboxMode};

/// Where administrators put what binds everybody.
const REQUIREMENTS: &str = "/etc/codex/requirements.toml";

/// What the file may say; every other key refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Requirements {
    allowed_approval_policies: Option<Vec<String>>,
    allowed_sandbox_modes: Option<Vec<SandboxMode>>,
    allowed_approvals_reviewers: Option<Vec<ApprovalsReviewer>>,
    guardian_policy_config: Option<String>,
}

impl Settings {
    pub(super) fn hold_requirements(&mut self) -> Result<(), ConfigError> {
        let Some(text) = read_text(Path::new(REQUIREMENTS))? else {
            return Ok(());
        };
        let wanted: Requirements =
            toml::from_str(&text).map_err(|error| syntax(REQUIREMENTS, &text, &error))?;
        self.hold(wanted)
    }

    pub(super) fn hold(&mut self, wanted: Requirements) -> Result<(), ConfigError> {
        let forbidden = |key, value: &str, allowed: Vec<&str>| ConfigError::Forbidden {
            key,
            value: value.to_owned(),
            allowed: allowed.join(", "),
        };
        if let Some(allowed) = &wanted.allowed_sandbox_modes
            && !allowed.contains(&self.sandbox)
        {
            let names = allowed.iter().map(|mode| mode.as_str()).collect();
            return Err(forbidden("sandbox_mode", self.sandbox.as_str(), names));
        }
        if let Some(allowed) = &wanted.allowed_approval_policies
            && !allowed.iter().any(|name| name == self.approval.as_str())
        {
            let names = allowed.iter().map(String::as_str).collect();
            return Err(forbidden("approval_policy", self.approval.as_str(), names));
        }
        if let Some(allowed) = &wanted.allowed_approvals_reviewers
            && !allowed.contains(&self.reviewer)
        {
            let names = allowed.iter().map(|reviewer| reviewer.as_str()).collect();
            return Err(forbidden(
                "approvals_reviewer",
                self.reviewer.as_str(),
                names,
            ));
        }
        if wanted.guardian_policy_config.is_some() {
            self.policy_section = wanted.guardian_policy_config;
            self.origins
                .insert("auto_review.policy", REQUIREMENTS.to_owned());
        }
        Ok(())
    }
}
