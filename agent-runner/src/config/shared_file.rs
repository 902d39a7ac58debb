//! The keys of the shared settings file, one layer of them at a time.
//!
//! Apart, because it is the list of what is honoured, what is none of our business, and what refuses.

use std::path::{Path, PathBuf};

use ::telemetry::OtelTable;
use serde::Deserialize;
use toml::{Table, Value};

use super::WorkspaceWrite;
use super::error::{ConfigError, read_value, unsupported};
use super::layers::{Bases, Settings};

/// Top-level keys of the shared file that concern the agent and not what a command may do.
const NOT_OURS: &str = "\
    analytics agents chatgpt_base_url check_for_update_on_startup cli_auth_credentials_store \
    compact_prompt developer_instructions disable_paste_burst disable_response_storage \
    experimental_compact_prompt_file feedback file_opener forced_chatgpt_workspace_id \
    forced_login_method hide_agent_reasoning history hooks instructions log_dir \
    mcp_oauth_callback_port mcp_oauth_credentials_store memories model model_auto_compact_token_limit \
    model_catalog_json model_context_window model_instructions_file model_max_output_tokens \
    model_provider model_providers model_reasoning_effort model_reasoning_summary \
    model_supports_reasoning_summaries model_verbosity notice notify oss_provider personality \
    plan_mode_reasoning_effort plugins preferred_auth_method profiles project_doc_fallback_filenames \
    project_doc_max_bytes project_root_markers review_model service_tier show_raw_agent_reasoning skills \
    sqlite_home suppress_unstable_features_warning tool_output_token_limit tools tui tui_app_server \
    windows zsh_path";

/// Top-level keys that are read here.
const OURS: &[&str] = &[
    "allow_login_shell",
    "approval_policy",
    "approvals_reviewer",
    "apps",
    "auto_review",
    "default_permissions",
    "features",
    "mcp_servers",
    "otel",
    "permissions",
    "profile",
    "projects",
    "sandbox_mode",
    "sandbox_workspace_write",
    "shell_environment_policy",
    "web_search",
];
/// The features that are ours.
const FEATURES: &[&str] = &[
    "exec_permission_approvals",
    "network_proxy",
    "request_permissions_tool",
];

/// Whether a top-level `key` means something, here or to the agent.
pub(super) fn is_known(key: &str) -> bool {
    OURS.contains(&key) || NOT_OURS.split_whitespace().any(|name| name == key)
}

/// What was likely meant by `key`, where one of `known` is near it.
fn meant(key: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(distance, known)| *distance > 0 && *distance <= 2 + known.len() / 12)
        .min();
    near.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}

/// Keys that ask for something that does not stand yet: skipping them would be less strict than what was asked.
const REFUSED: &[(&str, &str)] = &[("experimental_network", "managed networking")];

impl Settings {
    /// Applies one layer of the shared file's keys.
    pub(super) fn apply(&mut self, table: &Table, file: &str) -> Result<(), ConfigError> {
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
                "features" => self.apply_features(value, file)?,
                "allow_login_shell" => {
                    self.allow_login_shell = read_value(value, file, "allow_login_shell")?;
                    self.origins.insert("allow_login_shell", file.to_owned());
                }
                "web_search" => self.set_web_search(read_value(value, file, "web_search")?, file),
                "otel" => {
                    let table: OtelTable = read_value(value, file, "otel")?;
                    let unknown = table.unknown().map(|key| format!("otel.{key}"));
                    self.notes.extend(
                        unknown
                            .map(|key| format!("`{file}` has keys that mean nothing here: {key}")),
                    );
                    self.otel = Some(Box::new(table.of(Path::new(file))));
                    self.origins.insert("otel", file.to_owned());
                }
                "mcp_servers" | "apps" => merge(&mut self.tools, key, value),
                "permissions" => self.permissions.apply(value, file)?,
                "default_permissions" => self.permissions.apply_default(value, file)?,
                "shell_environment_policy" => self.shell_environment.apply(value, file)?,
                // Read before any layer is applied.
                "projects" | "profile" => {}
                other if NOT_OURS.split_whitespace().any(|name| name == other) => {}
                other => match REFUSED.iter().find(|(refused, _)| *refused == other) {
                    Some((key, what)) => return Err(unsupported(file, key, what)),
                    None => unknown.push(other.to_owned()),
                },
            }
        }
        match unknown.first() {
            // Who types a key now means it now.
            Some(key) if file == "-c" => Err(ConfigError::Syntax {
                file: format!("-c {key}"),
                reason: format!("there is no such key{}", meant(key, OURS)),
            }),
            Some(_) => {
                let unknown = unknown
                    .iter()
                    .map(|key| format!("{key}{}", meant(key, OURS)));
                self.notes.push(format!(
                    "`{file}` has keys that mean nothing here: {}",
                    unknown.collect::<Vec<_>>().join(", ")
                ));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn apply_workspace_write(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        let wanted: WorkspaceWrite = read_value(value, file, "sandbox_workspace_write")?;
        // A later layer replaces only the keys that it names.
        let names = value.as_table().cloned().unwrap_or_default();
        if names.contains_key("writable_roots") {
            let roots = wanted.writable_roots.into_iter();
            self.workspace_write.writable_roots =
                roots.map(|root| self.bases.resolve(&root, file)).collect();
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
            #[serde(rename = "timeout_ms")]
            _timeout_ms: Option<u64>,
        }
        let table: AutoReview = read_value(value, file, "auto_review")?;
        if table
            .policy
            .as_ref()
            .is_some_and(|text| !text.trim().is_empty())
        {
            self.policy_section = table.policy;
            self.origins.insert("auto_review.policy", file.to_owned());
        }
        Ok(())
    }

    /// `[features]`: of ours is only the network's door, which narrows an open network and opens none.
    fn apply_features(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        let features: Table = read_value(value, file, "features")?;
        self.apply_switches(&features, file)?;
        // The others are the agent's; one that all but spells one of ours is a slip.
        for key in features
            .keys()
            .filter(|key| !FEATURES.contains(&key.as_str()))
        {
            let meant = meant(key, FEATURES);
            if meant.is_empty() {
                continue;
            }
            let slip = format!("there is no `features.{key}`{meant}");
            if file == "-c" {
                return Err(ConfigError::Syntax {
                    file: format!("-c features.{key}"),
                    reason: slip,
                });
            }
            self.notes.push(format!("`{file}`: {slip}"));
        }
        match features.get("network_proxy") {
            None => Ok(()),
            Some(feature) => self.network.apply(feature, file),
        }
    }
}

impl Bases {
    /// A path of a settings file: `~/…` is the home folder's, a relative one the file's folder's.
    fn resolve(&self, path: &Path, file: &str) -> PathBuf {
        if let Ok(rest) = path.strip_prefix("~") {
            return self.home.join(rest);
        }
        // A profile's table is named with its file.
        let file = file.split(" [").next().unwrap_or(file);
        match Path::new(file).parent().filter(|_| file.starts_with('/')) {
            Some(folder) => folder.join(path),
            None => self.cwd.join(path),
        }
    }
}

/// Merges `value` under `key` into `into`, table by table; the later value wins.
pub(super) fn merge(into: &mut Table, key: &str, value: &Value) {
    match (into.get_mut(key), value) {
        (Some(Value::Table(known)), Value::Table(more)) => {
            for (name, value) in more {
                merge(known, name, value);
            }
        }
        _ => {
            into.insert(key.to_owned(), value.clone());
        }
    }
}
