//! The managed files: what administrators allow at all. They bind everybody and cannot be named away.
//!
//! Apart from the layers because they come last and only narrow. Invariant: a managed file that cannot be read whole, or
//! that asks for what is not known here, stops everything; a value that is not allowed becomes the strictest that is.

mod hosts;
mod profiles;
mod tools;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::error::{ConfigError, read_text, syntax, unsupported};
use super::layers::Settings;
use super::rules::RulesTable;
use super::{ApprovalPolicy, ApprovalsReviewer, SandboxMode};

/// Where administrators put what binds everybody.
const REQUIREMENTS: &str = "/etc/codex/requirements.toml";
/// The older form: settings that bind. What it says replaces the same in the newer one.
const LEGACY: &str = "/etc/codex/managed_config.toml";

/// Keys that bind the agent and not what a command may do: they mean nothing here. Hooks are programs that the agent
/// runs around its tools, this one among them.
const NOT_OURS: &str = "\
    allow_appshots allow_managed_hooks_only allow_remote_control allowed_login_methods \
    additional_developer_instructions browser_use check_for_update_on_startup computer_use enforce_residency \
    feedback hooks in_app_browser log_dir marketplaces model_catalog_json model_provider model_providers \
    models otel plugins sqlite_home windows";

/// Keys that ask for something that does not stand yet.
const REFUSED: &[(&str, &str)] = &[
    (
        "guardian_extra_policy",
        "a second policy section; say all of it in `guardian_policy_config`",
    ),
    ("auto_review", "reviews by the agent's model"),
];

/// What the files may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requirements {
    allowed_approval_policies: Option<Vec<ApprovalPolicy>>,
    allowed_sandbox_modes: Option<Vec<AllowedMode>>,
    allowed_approvals_reviewers: Option<Vec<ApprovalsReviewer>>,
    allowed_web_search_modes: Option<Vec<super::WebSearch>>,
    allow_login_shell: Option<bool>,
    guardian_policy_config: Option<String>,
    #[serde(alias = "feature_requirements")]
    features: Option<BTreeMap<String, bool>>,
    permissions: Option<ManagedPermissions>,
    allowed_permission_profiles: Option<BTreeMap<String, bool>>,
    default_permissions: Option<String>,
    remote_sandbox_config: Vec<hosts::ByHost>,
    apps: Table,
    mcp_servers: Option<BTreeMap<String, tools::ManagedServer>>,
    rules: Option<RulesTable>,
    experimental_network: Option<Table>,
    #[serde(flatten)]
    rest: Table,
}

/// A sandbox mode that may be allowed; the last is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AllowedMode {
    ReadOnly,
    WorkspaceWrite,
    DangerFullAccess,
    ExternalSandbox,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ManagedPermissions {
    filesystem: ManagedFilesystem,
    #[serde(flatten)]
    profiles: Table,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ManagedFilesystem {
    deny_read: Vec<String>,
}

/// The managed files, read, each with its name.
pub(super) type Required = Vec<(Requirements, &'static str)>;

/// Reads the managed files, weakest first.
pub(super) fn read_required() -> Result<Required, ConfigError> {
    let mut required = Vec::new();
    if let Some(text) = read_text(Path::new(REQUIREMENTS))? {
        required.push((Requirements::parse(REQUIREMENTS, &text)?, REQUIREMENTS));
    }
    if let Some(text) = read_text(Path::new(LEGACY))? {
        required.push((Requirements::from_legacy(LEGACY, &text)?, LEGACY));
    }
    Ok(required)
}

impl Settings {
    /// Holds the settings to the managed files.
    pub(super) fn hold_requirements(&mut self, required: Required) -> Result<(), ConfigError> {
        for (wanted, file) in required {
            self.hold(wanted, file)?;
        }
        Ok(())
    }

    /// Holds the settings to `wanted`, which stands in `file`.
    pub(super) fn hold(&mut self, wanted: Requirements, file: &str) -> Result<(), ConfigError> {
        self.hold_modes(&wanted, file)?;
        self.hold_profiles(&wanted, file)?;
        self.hold_tools(&wanted, file);
        self.hold_policies(&wanted, file)?;
        self.hold_reviewers(&wanted, file)?;
        if let Some(allowed) = &wanted.allowed_web_search_modes
            && !allowed.contains(&self.web_search())
            && self.web_search() != super::WebSearch::Disabled
        {
            self.note_clamped("web_search", self.web_search().as_str(), "disabled", file);
            self.set_web_search(super::WebSearch::Disabled, file);
        }
        if let Some(allowed) = wanted.allow_login_shell
            && allowed != self.allow_login_shell
        {
            self.allow_login_shell = allowed;
            self.origins.insert("allow_login_shell", file.to_owned());
        }
        if let Some(text) = wanted
            .guardian_policy_config
            .filter(|text| !text.trim().is_empty())
        {
            self.policy_section = Some(text);
            self.origins.insert("auto_review.policy", file.to_owned());
        }
        let mut not_ours = Vec::new();
        for (name, on) in wanted.features.unwrap_or_default() {
            if !self.pin_switch(&name, on, file) && !self.pin_feature(&name, on, file) {
                not_ours.push(name);
            }
        }
        if !not_ours.is_empty() {
            let names = not_ours.join(", ");
            self.notes.push(format!(
                "`{file}` pins features that mean nothing here: {names}"
            ));
        }
        if let Some(rules) = wanted.rules {
            rules.add_to(&mut self.managed_rules, file)?;
        }
        if let Some(network) = wanted.experimental_network {
            self.network.manage(network.clone(), file)?;
            let key = "experimental_network".to_owned();
            self.note_shown(&Table::from_iter([(key, Value::Table(network))]), file);
        }
        let denied = wanted.permissions.unwrap_or_default().filesystem.deny_read;
        if let Some(path) = denied.iter().find(|path| !is_place(path)) {
            let reason = format!("`{path}` is neither absolute, nor below `~/`, nor a pattern");
            return Err(invalid(file, "permissions.filesystem.deny_read", &reason));
        }
        if !denied.is_empty() && self.sandbox == SandboxMode::DangerFullAccess {
            self.note_clamped("sandbox_mode", self.sandbox.as_str(), "read-only", file);
            self.set_sandbox(SandboxMode::ReadOnly, file);
        }
        self.denied_reads.extend(denied);
        Ok(())
    }

    fn hold_modes(&mut self, wanted: &Requirements, file: &str) -> Result<(), ConfigError> {
        let by_host = hosts::modes(&wanted.remote_sandbox_config, &hosts::name())
            .map_err(|reason| invalid(file, "remote_sandbox_config", &reason))?;
        let Some(allowed) = by_host.or(wanted.allowed_sandbox_modes.as_deref()) else {
            return Ok(());
        };
        let modes: Vec<SandboxMode> = allowed.iter().filter_map(|mode| mode.ours()).collect();
        if !modes.contains(&SandboxMode::ReadOnly) {
            return Err(invalid(
                file,
                "allowed_sandbox_modes",
                "it must contain `read-only`",
            ));
        }
        if !modes.contains(&self.sandbox) {
            let strictest = SandboxMode::ReadOnly;
            let names: Vec<_> = modes.iter().map(|mode| mode.as_str()).collect();
            self.note_not_allowed("sandbox_mode", self.sandbox.as_str(), &names, file);
            self.set_sandbox(strictest, file);
            if let Some(profile) = &mut self.profile {
                profile.narrowed_to_reading();
            }
        }
        Ok(())
    }

    fn hold_policies(&mut self, wanted: &Requirements, file: &str) -> Result<(), ConfigError> {
        let Some(allowed) = &wanted.allowed_approval_policies else {
            return Ok(());
        };
        let strictest = allowed
            .iter()
            .copied()
            .reduce(ApprovalPolicy::stricter)
            .ok_or_else(|| invalid(file, "allowed_approval_policies", "it is empty"))?;
        if !allowed
            .iter()
            .any(|policy| self.approval.is_within(*policy))
        {
            let names: Vec<_> = allowed.iter().map(|policy| policy.as_str()).collect();
            self.note_not_allowed("approval_policy", self.approval.as_str(), &names, file);
            self.set_approval(strictest, file);
        }
        Ok(())
    }

    fn hold_reviewers(&mut self, wanted: &Requirements, file: &str) -> Result<(), ConfigError> {
        let Some(allowed) = &wanted.allowed_approvals_reviewers else {
            return Ok(());
        };
        let strictest = allowed
            .iter()
            .min()
            .ok_or_else(|| invalid(file, "allowed_approvals_reviewers", "it is empty"))?;
        if !allowed.contains(&self.reviewer) {
            let names: Vec<_> = allowed.iter().map(|reviewer| reviewer.as_str()).collect();
            self.note_not_allowed("approvals_reviewer", self.reviewer.as_str(), &names, file);
            self.reviewer = *strictest;
            self.origins.insert("approvals_reviewer", file.to_owned());
        }
        Ok(())
    }

    fn note_not_allowed(&mut self, key: &str, value: &str, allowed: &[&str], file: &str) {
        self.notes.push(format!(
            "`{key} = \"{value}\"` is not allowed by `{file}` (allowed: {}); the strictest of these holds",
            allowed.join(", ")
        ));
    }

    fn note_clamped(&mut self, key: &str, value: &str, instead: &str, file: &str) {
        self.notes.push(format!(
            "`{key} = \"{value}\"` is not allowed by `{file}`; `{instead}` holds"
        ));
    }
}

impl Requirements {
    /// Reads the newer form.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let wanted: Self = toml::from_str(text).map_err(|error| syntax(file, text, &error))?;
        for key in wanted.rest.keys() {
            if let Some((key, what)) = REFUSED.iter().find(|(refused, _)| refused == key) {
                return Err(unsupported(file, key, what));
            }
            if !NOT_OURS.split_whitespace().any(|name| name == key) {
                let line = text.lines().position(|line| line.contains(key.as_str()));
                return Err(ConfigError::Syntax {
                    file: format!("{file}:{}", line.map_or(1, |line| line + 1)),
                    reason: format!("`{key}` is not a key of this file"),
                });
            }
        }
        Ok(wanted)
    }

    /// Reads the older form, in which each value is the only one allowed.
    pub(super) fn from_legacy(file: &str, text: &str) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Legacy {
            approval_policy: Option<ApprovalPolicy>,
            approvals_reviewer: Option<ApprovalsReviewer>,
            sandbox_mode: Option<AllowedMode>,
        }
        let legacy: Legacy = toml::from_str(text).map_err(|error| syntax(file, text, &error))?;
        Ok(Self {
            allowed_approval_policies: legacy.approval_policy.map(|policy| vec![policy]),
            allowed_approvals_reviewers: legacy.approvals_reviewer.map(|who| match who {
                ApprovalsReviewer::User => vec![who],
                ApprovalsReviewer::AutoReview => vec![who, ApprovalsReviewer::User],
            }),
            allowed_sandbox_modes: legacy
                .sandbox_mode
                .map(|mode| vec![AllowedMode::ReadOnly, mode]),
            ..Self::default()
        })
    }
}

impl AllowedMode {
    fn ours(self) -> Option<SandboxMode> {
        match self {
            Self::ReadOnly => Some(SandboxMode::ReadOnly),
            Self::WorkspaceWrite => Some(SandboxMode::WorkspaceWrite),
            Self::DangerFullAccess => Some(SandboxMode::DangerFullAccess),
            Self::ExternalSandbox => None,
        }
    }
}

/// Whether a path or pattern says where it begins; a pattern may begin in the workspace.
fn is_place(path: &str) -> bool {
    path.starts_with('/') || path.starts_with("~/") || path.contains(['*', '?', '['])
}

fn invalid(file: &str, key: &'static str, reason: &str) -> ConfigError {
    ConfigError::Value {
        file: file.to_owned(),
        key,
        reason: reason.to_owned(),
    }
}
