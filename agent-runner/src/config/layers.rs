//! The layers of settings, and what is in force after all of them.
//!
//! From weakest to strongest: defaults, the user's `config.toml`, `-c key=value`, the flags; then a trusted project's
//! `.codex/config.toml` and the managed `requirements.toml`, which narrow. Where each value came from is kept for
//! `explain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{
    ConfigError, read_project_table, read_table, read_text, read_value, syntax, unsupported,
};
use super::permissions::{PermissionTables, Profile};
use super::runner::{RawRunner, RunnerSettings};
use super::{
    ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode, ShellEnvironment, WorkspaceWrite,
};
use crate::walls::Effort;

/// What the command line says, strongest of the user's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--sandbox`.
    pub(crate) sandbox: Option<SandboxMode>,
    /// `--ask-for-approval`.
    pub(crate) approval: Option<ApprovalPolicy>,
    /// `--best-effort`.
    pub(crate) effort: Effort,
    /// `--permissions-profile`.
    pub(crate) permissions_profile: Option<String>,
    /// `-c key=value`, in order.
    pub(crate) values: Vec<String>,
}

/// What is in force.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The walls.
    pub(crate) sandbox: SandboxMode,
    /// When somebody is asked.
    pub(crate) approval: ApprovalPolicy,
    /// Who is asked.
    pub(crate) reviewer: ApprovalsReviewer,
    /// What `workspace-write` means.
    pub(crate) workspace_write: WorkspaceWrite,
    /// The permission profile in force; `None`: the walls are those of `sandbox`.
    pub(crate) profile: Option<Profile>,
    /// The profiles that are written down.
    pub(super) permissions: PermissionTables,
    /// Which variables commands get.
    pub(crate) shell_environment: ShellEnvironment,
    /// The policy section for the embedded reviewer, and which layer it came from.
    pub(crate) policy_section: Option<String>,
    /// The runner's own settings.
    pub(crate) runner: RunnerSettings,
    /// Which layer each value came from.
    pub(crate) origins: BTreeMap<&'static str, String>,
    /// What the user should know, a line each.
    pub(crate) notes: Vec<String>,
}

impl Settings {
    /// Reads every layer for a command that runs in `cwd`.
    ///
    /// # Errors
    /// Any fault in any layer: see [`ConfigError`].
    pub(crate) fn load(
        environment: &Environment,
        overrides: &Overrides,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults(environment)?;
        let user_file = environment.codex_home.join("config.toml");
        let user = read_table(&user_file)?.unwrap_or_default();
        let trusted = is_trusted(&user, cwd);
        settings.apply(&user, &user_file.display().to_string())?;
        for value in &overrides.values {
            settings.apply(&parse_override(value)?, "-c")?;
        }
        if !settings.origins.contains_key("sandbox_mode") && trusted.is_some() {
            settings.set_sandbox(SandboxMode::WorkspaceWrite, "trusted folder");
        }
        if let Some(mode) = overrides.sandbox {
            settings.set_sandbox(mode, "--sandbox");
        }
        if let Some(policy) = overrides.approval {
            settings.set_approval(policy, "--ask-for-approval");
        }
        settings.settle_permissions(overrides.permissions_profile.as_deref())?;
        if let Some(root) = trusted {
            settings.narrow_by_project(&root.join(".codex/config.toml"))?;
        }
        settings.hold_requirements()?;
        settings.refuse_rules(environment)?;
        Ok(settings)
    }

    fn defaults(environment: &Environment) -> Result<Self, ConfigError> {
        let file = environment.codex_home.join("agent-runner.toml");
        let name = file.display().to_string();
        let raw: RawRunner = match read_text(&file)? {
            Some(text) => toml::from_str(&text).map_err(|error| syntax(&name, &text, &error))?,
            None => RawRunner::default(),
        };
        Ok(Self {
            sandbox: SandboxMode::ReadOnly,
            approval: ApprovalPolicy::OnRequest,
            reviewer: ApprovalsReviewer::User,
            workspace_write: WorkspaceWrite::default(),
            profile: None,
            permissions: PermissionTables::default(),
            shell_environment: ShellEnvironment::default(),
            policy_section: None,
            runner: RunnerSettings::from_raw(raw, &name, environment)?,
            origins: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    pub(super) fn set_sandbox(&mut self, mode: SandboxMode, origin: &str) {
        self.sandbox = mode;
        self.origins.insert("sandbox_mode", origin.to_owned());
    }

    pub(super) fn set_approval(&mut self, policy: ApprovalPolicy, origin: &str) {
        self.approval = policy;
        self.origins.insert("approval_policy", origin.to_owned());
    }

    /// A project's file may only make things stricter.
    fn narrow_by_project(&mut self, path: &Path) -> Result<(), ConfigError> {
        let Some(table) = read_project_table(path)? else {
            return Ok(());
        };
        let file = path.display().to_string();
        if let Some(value) = table.get("sandbox_mode") {
            let mode: SandboxMode = read_value(value, &file, "sandbox_mode")?;
            if mode < self.sandbox {
                self.set_sandbox(mode, &file);
            }
            if let (SandboxMode::ReadOnly, Some(profile)) = (mode, &mut self.profile) {
                profile.narrowed_to_reading();
            }
        }
        if let Some(value) = table.get("approval_policy") {
            let policy: ApprovalPolicy = read_value(value, &file, "approval_policy")?;
            let narrowed = self.approval.stricter(policy);
            if narrowed != self.approval {
                self.set_approval(narrowed, &file);
            }
        }
        if let Some(value) = table.get("approvals_reviewer") {
            let reviewer: ApprovalsReviewer = read_value(value, &file, "approvals_reviewer")?;
            self.reviewer = self.reviewer.min(reviewer);
        }
        let wider: Vec<_> = [
            "sandbox_workspace_write",
            "auto_review",
            "features",
            "permissions",
            "default_permissions",
            "shell_environment_policy",
        ]
        .into_iter()
        .filter(|key| table.contains_key(*key))
        .collect();
        if !wider.is_empty() {
            self.notes.push(format!(
                "`{file}` may only narrow; not used from it: {}",
                wider.join(", ")
            ));
        }
        Ok(())
    }

    /// Rules files may forbid things; until they are read, their presence refuses.
    fn refuse_rules(&self, environment: &Environment) -> Result<(), ConfigError> {
        let folder = environment.codex_home.join("rules");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(ConfigError::Read {
                    path: folder,
                    source,
                });
            }
        };
        for entry in entries {
            let entry = entry.map_err(|source| ConfigError::Read {
                path: folder.clone(),
                source,
            })?;
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rules")
            {
                return Err(unsupported(
                    &folder.display().to_string(),
                    "*.rules",
                    "command rules",
                ));
            }
        }
        Ok(())
    }
}

/// The trusted root that `cwd` lies under, by the user's own file.
fn is_trusted(user: &Table, cwd: &Path) -> Option<PathBuf> {
    let projects = user.get("projects")?.as_table()?;
    // The nearest folder that says anything decides.
    let (folder, level) = cwd.ancestors().find_map(|folder| {
        let level = projects
            .get(folder.to_str()?)?
            .as_table()?
            .get("trust_level")?
            .as_str()?;
        Some((folder, level))
    })?;
    (level == "trusted").then(|| folder.to_owned())
}

/// `-c a.b=value`: the value as TOML, or as a plain text where it is not TOML.
fn parse_override(text: &str) -> Result<Table, ConfigError> {
    let invalid = |reason: String| ConfigError::Syntax {
        file: format!("-c {text}"),
        reason,
    };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| invalid("`key=value` is wanted".to_owned()))?;
    let value = value.trim();
    let value = format!("x = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("x"))
        .unwrap_or_else(|| Value::String(value.trim_matches('"').to_owned()));
    let mut parts = key.trim().split('.').rev();
    let mut table = Table::new();
    let last = parts
        .next()
        .filter(|part| !part.is_empty())
        .ok_or_else(|| invalid("the key is empty".to_owned()))?;
    table.insert(last.to_owned(), value);
    for part in parts {
        table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
