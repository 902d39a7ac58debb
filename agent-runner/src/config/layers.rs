//! The layers of settings, and what is in force after all of them.
//!
//! From weakest to strongest: defaults, the user's `config.toml`, `-c key=value`, the flags; then a trusted project's
//! `.codex/config.toml` and the managed `requirements.toml`, which narrow. Where each value came from is kept for
//! `explain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

use super::runner::{RawRunner, RunnerSettings};
use super::{ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode, WorkspaceWrite};

/// Where administrators put what binds everybody.
const REQUIREMENTS: &str = "/etc/codex/requirements.toml";

/// Top-level keys of the shared file that concern the agent and not what a command may do.
const NOT_OURS: &[&str] = &[
    "analytics",
    "agents",
    "apps",
    "chatgpt_base_url",
    "check_for_update_on_startup",
    "cli_auth_credentials_store",
    "compact_prompt",
    "developer_instructions",
    "disable_paste_burst",
    "disable_response_storage",
    "allow_login_shell",
    "experimental_compact_prompt_file",
    "feedback",
    "file_opener",
    "forced_chatgpt_workspace_id",
    "forced_login_method",
    "hide_agent_reasoning",
    "history",
    "instructions",
    "log_dir",
    "mcp_servers",
    "mcp_oauth_callback_port",
    "mcp_oauth_credentials_store",
    "memories",
    "model",
    "model_auto_compact_token_limit",
    "model_catalog_json",
    "model_context_window",
    "model_instructions_file",
    "model_max_output_tokens",
    "model_provider",
    "model_providers",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_supports_reasoning_summaries",
    "model_verbosity",
    "notice",
    "notify",
    "oss_provider",
    "otel",
    "personality",
    "plan_mode_reasoning_effort",
    "plugins",
    "preferred_auth_method",
    "profiles",
    "project_doc_fallback_filenames",
    "project_doc_max_bytes",
    "project_root_markers",
    "review_model",
    "service_tier",
    "show_raw_agent_reasoning",
    "skills",
    "sqlite_home",
    "suppress_unstable_features_warning",
    "tool_output_token_limit",
    "tools",
    "tui",
    "tui_app_server",
    "web_search",
    "windows",
    "zsh_path",
];

/// Keys that ask for something that does not stand yet: skipping them would be less strict than what was asked.
const REFUSED: &[(&str, &str)] = &[
    ("permissions", "named permission profiles"),
    ("default_permissions", "named permission profiles"),
    ("profile", "a default profile"),
    ("shell_environment_policy", "a policy for the environment"),
    ("experimental_network", "managed networking"),
    ("hooks", "hooks"),
];

/// Why the settings cannot be used. Nothing runs then.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or a `-c` value is not TOML, or not what the key takes.
    #[error("`{file}` is not valid: {reason}")]
    Syntax {
        /// The file or `-c`.
        file: String,
        /// What and where.
        reason: String,
    },
    /// A key's value is not one it takes.
    #[error("`{key}` in `{file}`: {reason}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key asks for a wall that this version cannot build.
    #[error(
        "`{key}` in `{file}` asks for {what}, which this version cannot enforce\nhint: nothing runs with less than what was asked; remove the key, or set CODEX_HOME to a folder without it"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it asks for.
        what: String,
    },
    /// The managed requirements forbid a value.
    #[error("`{key} = \"{value}\"` is not allowed by `{REQUIREMENTS}`\nhint: allowed: {allowed}")]
    Forbidden {
        /// The key.
        key: &'static str,
        /// The value in force.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// What the command line says, strongest of the user's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--sandbox`.
    pub(crate) sandbox: Option<SandboxMode>,
    /// `--ask-for-approval`.
    pub(crate) approval: Option<ApprovalPolicy>,
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
    /// The policy section for the embedded reviewer, and which layer it came from.
    pub(crate) policy_section: Option<String>,
    /// The runner's own settings.
    pub(crate) runner: RunnerSettings,
    /// Which layer each value came from.
    pub(crate) origins: BTreeMap<&'static str, String>,
    /// What the user should know, a line each.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Requirements {
    allowed_approval_policies: Option<Vec<String>>,
    allowed_sandbox_modes: Option<Vec<SandboxMode>>,
    allowed_approvals_reviewers: Option<Vec<ApprovalsReviewer>>,
    guardian_policy_config: Option<String>,
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
            Some(text) => toml::from_str(&text).map_err(|error| syntax(&name, &error))?,
            None => RawRunner::default(),
        };
        Ok(Self {
            sandbox: SandboxMode::ReadOnly,
            approval: ApprovalPolicy::OnRequest,
            reviewer: ApprovalsReviewer::User,
            workspace_write: WorkspaceWrite::default(),
            policy_section: None,
            runner: RunnerSettings::from_raw(raw, &name, environment)?,
            origins: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    fn set_sandbox(&mut self, mode: SandboxMode, origin: &str) {
        self.sandbox = mode;
        self.origins.insert("sandbox_mode", origin.to_owned());
    }

    fn set_approval(&mut self, policy: ApprovalPolicy, origin: &str) {
        self.approval = policy;
        self.origins.insert("approval_policy", origin.to_owned());
    }

    /// Applies one layer of the shared file's keys.
    fn apply(&mut self, table: &Table, file: &str) -> Result<(), ConfigError> {
        let mut unknown = Vec::new();
        for (key, value) in table {
            match key.as_str() {
                "sandbox_mode" => self.set_sandbox(read_value(value, file, "sandbox_mode")?, file),
                "approval_policy" => {
                    self.set_approval(read_value(value, file, "approval_policy")?, file)
                }
                "approvals_reviewer" => {
                    self.reviewer = read_value(value, file, "approvals_reviewer")?;
                    self.origins.insert("approvals_reviewer", file.to_owned());
                }
                "sandbox_workspace_write" => self.apply_workspace_write(value, file)?,
                "auto_review" => self.apply_auto_review(value, file)?,
                "features" => refuse_features(value, file)?,
                "projects" => {}
                other if NOT_OURS.contains(&other) => {}
                other => match REFUSED.iter().find(|(refused, _)| *refused == other) {
                    Some((key, what)) => return Err(unsupported(file, key, what)),
                    None => unknown.push(other.to_owned()),
                },
            }
        }
        if !unknown.is_empty() {
            self.notes.push(format!(
                "`{file}` has keys that mean nothing here: {}",
                unknown.join(", ")
            ));
        }
        Ok(())
    }

    fn apply_workspace_write(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        let wanted: WorkspaceWrite = read_value(value, file, "sandbox_workspace_write")?;
        // A later layer replaces only the keys that it names.
        let names = value.as_table().cloned().unwrap_or_default();
        if names.contains_key("writable_roots") {
            self.workspace_write.writable_roots = wanted.writable_roots;
        }
        if names.contains_key("network_access") {
            self.workspace_write.network_access = wanted.network_access;
        }
        if names.contains_key("exclude_tmpdir_env_var") {
            self.workspace_write.exclude_tmpdir_env_var = wanted.exclude_tmpdir_env_var;
        }
        if names.contains_key("exclude_slash_tmp") {
            self.workspace_write.exclude_slash_tmp = wanted.exclude_slash_tmp;
        }
        self.origins
            .insert("sandbox_workspace_write", file.to_owned());
        Ok(())
    }

    fn apply_auto_review(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct AutoReview {
            policy: Option<String>,
        }
        let table: AutoReview = read_value(value, file, "auto_review")?;
        if table.policy.is_some() {
            self.policy_section = table.policy;
            self.origins.insert("auto_review.policy", file.to_owned());
        }
        Ok(())
    }

    /// A project's file may only make things stricter.
    fn narrow_by_project(&mut self, path: &Path) -> Result<(), ConfigError> {
        let Some(table) = read_table(path)? else {
            return Ok(());
        };
        let file = path.display().to_string();
        if let Some(value) = table.get("sandbox_mode") {
            let mode: SandboxMode = read_value(value, &file, "sandbox_mode")?;
            if mode < self.sandbox {
                self.set_sandbox(mode, &file);
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

    fn hold_requirements(&mut self) -> Result<(), ConfigError> {
        let Some(text) = read_text(Path::new(REQUIREMENTS))? else {
            return Ok(());
        };
        let wanted: Requirements =
            toml::from_str(&text).map_err(|error| syntax(REQUIREMENTS, &error))?;
        self.hold(wanted)
    }

    fn hold(&mut self, wanted: Requirements) -> Result<(), ConfigError> {
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
    cwd.ancestors().find_map(|folder| {
        let level = projects
            .get(folder.to_str()?)?
            .as_table()?
            .get("trust_level")?
            .as_str()?;
        (level == "trusted").then(|| folder.to_owned())
    })
}

fn refuse_features(value: &Value, file: &str) -> Result<(), ConfigError> {
    let proxy = value
        .as_table()
        .and_then(|features| features.get("network_proxy"));
    let wanted = match proxy {
        None | Some(Value::Boolean(false)) => false,
        Some(Value::Table(table)) => table
            .get("enabled")
            .is_none_or(|enabled| enabled.as_bool() != Some(false)),
        Some(_) => true,
    };
    if wanted {
        return Err(unsupported(
            file,
            "features.network_proxy",
            "a network policy",
        ));
    }
    Ok(())
}

fn unsupported(file: &str, key: &str, what: &str) -> ConfigError {
    ConfigError::Unsupported {
        file: file.to_owned(),
        key: key.to_owned(),
        what: what.to_owned(),
    }
}

fn syntax(file: &str, error: &toml::de::Error) -> ConfigError {
    let reason = error.to_string().trim().replace('\n', "\n  ");
    ConfigError::Syntax {
        file: file.to_owned(),
        reason,
    }
}

fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_table(path: &Path) -> Result<Option<Table>, ConfigError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error| syntax(&path.display().to_string(), &error))
}

fn read_value<T: DeserializeOwned>(
    value: &Value,
    file: &str,
    key: &'static str,
) -> Result<T, ConfigError> {
    value
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Value {
            file: file.to_owned(),
            key,
            reason: error.message().to_owned(),
        })
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
