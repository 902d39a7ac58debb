//! The layers of settings, and what is in force after all of them.
//!
//! From weakest to strongest: defaults, the system's `config.toml`, the user's, the chosen profile, a trusted project's
//! `.codex/config.toml` (which narrows), `-c key=value`, the flags; then the managed files, which narrow. Where each value
//! came from is kept for `explain` and `config show`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::telemetry::OtelTable;
use exec_policy::RuleSet;
use protocol::TriggerKind;
use toml::{Table, Value};

use super::error::{ConfigError, read_project_table, read_table, read_text, read_value, syntax};
use super::network::NetworkSettings;
use super::permissions::{Access, BY_TRUST, PermissionTables, Places, Profile, Reads};
use super::requirements::{Required, read_required};
use super::runner::{RawRunner, RunnerSettings};
use super::shared_file::is_known;
use super::{
    ApprovalPolicy, ApprovalsReviewer, Environment, Feature, SandboxMode, ShellEnvironment,
    ShownSetting, Trust, WebSearch, WorkspaceWrite, profile, rules, trust,
};
use crate::walls::Effort;

/// Where administrators put settings that users may change.
const SYSTEM: &str = "/etc/codex/config.toml";

/// What the command line says, strongest of the user's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--sandbox`, and what the older flags mean by it.
    pub(crate) sandbox: Option<SandboxMode>,
    /// `--ask-for-approval`, likewise.
    pub(crate) approval: Option<ApprovalPolicy>,
    /// `--approve-for-me`.
    pub(crate) reviewer: Option<ApprovalsReviewer>,
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// `--add-dir`, in order.
    pub(crate) add_dirs: Vec<PathBuf>,
    /// `--search`.
    pub(crate) web_search: Option<WebSearch>,
    /// `--best-effort`.
    pub(crate) effort: Effort,
    /// `--permissions-profile`.
    pub(crate) permissions_profile: Option<String>,
    /// `-c key=value`, in order.
    pub(crate) values: Vec<String>,
    /// What the user should know about the flags.
    pub(crate) notes: Vec<String>,
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
    /// Whether commands may start login shells.
    pub(crate) allow_login_shell: bool,
    /// The permission profile in force; `None`: the walls are those of `sandbox`.
    pub(crate) profile: Option<Profile>,
    /// The profiles that are written down.
    pub(super) permissions: PermissionTables,
    /// Which variables commands get.
    pub(crate) shell_environment: ShellEnvironment,
    /// The policy section for the embedded reviewer, and which layer it came from.
    pub(crate) policy_section: Option<String>,
    /// The command rules of all layers.
    pub(crate) rules: Arc<RuleSet>,
    /// Paths and patterns that the managed file lets no command read.
    pub(crate) denied_reads: Vec<String>,
    /// What the user says of the folder.
    pub(crate) trust: Trust,
    /// The runner's own settings.
    pub(crate) runner: RunnerSettings,
    /// Which layer each value came from.
    pub(crate) origins: BTreeMap<&'static str, String>,
    /// Each key that something set.
    pub(crate) shown: Vec<ShownSetting>,
    /// What the user should know, a line each.
    pub(crate) notes: Vec<String>,
    /// Where tool calls are configured: `mcp_servers` and `apps` as they came.
    pub(crate) tools: Table,
    pub(super) managed_rules: RuleSet,
    pub(super) features_off: BTreeSet<Feature>,
    /// What is said of the network beside the switch that turns it on.
    pub(super) network: NetworkSettings,
    pub(super) web_search: Option<WebSearch>,
    /// `[otel]` of the strongest of the user's layers that has it.
    pub(crate) otel: Option<Box<OtelTable>>,
    /// The folders that relative paths of `-c` and `~` stand for.
    pub(super) bases: Bases,
}

/// What relative paths are relative to.
#[derive(Debug, Clone, Default)]
pub(super) struct Bases {
    pub(super) cwd: PathBuf,
    pub(super) home: PathBuf,
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
        Self::load_with(environment, overrides, cwd, "")
    }

    /// Reads every layer, with `more` as the text of one more file over the profile.
    ///
    /// # Errors
    /// Any fault in any layer: see [`ConfigError`].
    pub(crate) fn load_with(
        environment: &Environment,
        overrides: &Overrides,
        cwd: &Path,
        more: &str,
    ) -> Result<Self, ConfigError> {
        Self::load_under(environment, overrides, cwd, more, read_required()?)
    }

    /// The same under what is `required`.
    fn load_under(
        environment: &Environment,
        overrides: &Overrides,
        cwd: &Path,
        more: &str,
        required: Required,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults(environment)?;
        settings.bases = Bases {
            cwd: cwd.to_owned(),
            home: environment.home.clone(),
        };
        let user_file = environment.codex_home.join("config.toml");
        let user = read_table(&user_file)?.unwrap_or_default();
        let user_name = user_file.display().to_string();
        if let Some(system) = read_table(Path::new(SYSTEM))? {
            settings.layer(&system, SYSTEM)?;
        }
        settings.layer(&user, &user_name)?;
        let wanted = overrides.profile.as_deref();
        if let Some((table, file)) = profile::chosen(wanted, &user, &environment.codex_home)? {
            settings.layer(&table, &file)?;
        }
        let table: Table = more
            .parse()
            .map_err(|error| syntax("config", more, &error))?;
        settings.layer(&table, "config")?;
        settings.trust = trust::trust(&user, &user_name, cwd)?;
        settings.default_by_trust();
        for value in &overrides.values {
            settings.layer(&parse_override(value)?, "-c")?;
        }
        settings.apply_flags(overrides);
        let managed = settings.take_managed_profiles(&required)?;
        settings.settle_permissions(overrides.permissions_profile.as_deref(), &managed)?;
        // It lies under `-c` and the flags: what these say, it does not narrow.
        let project = settings.trust.root().map(Path::to_owned);
        if let Some(root) = &project {
            settings.narrow_by_project(&root.join(".codex/config.toml"))?;
        }
        settings.hold_requirements(required)?;
        settings.read_rules(environment, project.as_deref())?;
        settings.settle_network()?;
        Ok(settings)
    }

    fn defaults(environment: &Environment) -> Result<Self, ConfigError> {
        let home = &environment.codex_home;
        let named = environment.lookup("CODEX_HOME");
        if named.is_some_and(|text| !text.is_empty()) && !home.is_dir() {
            return Err(ConfigError::NoHome(home.clone()));
        }
        let file = home.join("agent-runner.toml");
        let name = file.display().to_string();
        let text = read_text(&file)?;
        let raw: RawRunner = match &text {
            Some(text) => toml::from_str(text).map_err(|error| syntax(&name, text, &error))?,
            None => RawRunner::default(),
        };
        let mut settings = Self {
            sandbox: SandboxMode::ReadOnly,
            approval: ApprovalPolicy::OnRequest,
            reviewer: ApprovalsReviewer::User,
            workspace_write: WorkspaceWrite::default(),
            allow_login_shell: true,
            profile: None,
            permissions: PermissionTables::default(),
            shell_environment: ShellEnvironment::default(),
            policy_section: None,
            rules: Arc::default(),
            denied_reads: Vec::new(),
            trust: Trust::Unknown,
            runner: RunnerSettings::from_raw(raw, &name, environment)?,
            origins: BTreeMap::new(),
            shown: Vec::new(),
            notes: Vec::new(),
            tools: Table::new(),
            managed_rules: RuleSet::default(),
            features_off: BTreeSet::new(),
            network: NetworkSettings::default(),
            web_search: None,
            otel: None,
            bases: Bases::default(),
        };
        settings.note_own(text.as_deref().unwrap_or_default(), &name);
        Ok(settings)
    }

    /// One layer of the shared file's keys.
    fn layer(&mut self, table: &Table, file: &str) -> Result<(), ConfigError> {
        self.note_shown(table, file);
        self.apply(table, file)
    }

    /// What holds where nothing was set: it hangs on the user's trust in the folder.
    fn default_by_trust(&mut self) {
        let [trusted, untrusted] = BY_TRUST;
        let (mode, origin) = match &self.trust {
            Trust::Unknown => return,
            Trust::Trusted(_) => (SandboxMode::WorkspaceWrite, trusted),
            Trust::Untrusted(_) => (SandboxMode::WorkspaceWrite, untrusted),
        };
        if matches!(self.trust, Trust::Untrusted(_))
            && !self.origins.contains_key("approval_policy")
        {
            self.set_approval(ApprovalPolicy::Untrusted, origin);
        }
        if !self.origins.contains_key("sandbox_mode") {
            self.set_sandbox(mode, origin);
        }
    }

    fn apply_flags(&mut self, flags: &Overrides) {
        if let Some(mode) = flags.sandbox {
            self.set_sandbox(mode, "--sandbox");
        }
        if let Some(policy) = flags.approval {
            self.set_approval(policy, "--ask-for-approval");
        }
        if let Some(reviewer) = flags.reviewer {
            self.reviewer = reviewer;
            self.origins
                .insert("approvals_reviewer", "--approve-for-me".to_owned());
        }
        if let Some(web_search) = flags.web_search {
            self.set_web_search(web_search, "--search");
        }
        self.notes.extend(flags.notes.iter().cloned());
        if flags.add_dirs.is_empty() {
            return;
        }
        let roots = flags.add_dirs.iter().map(|dir| self.bases.cwd.join(dir));
        self.workspace_write.writable_roots.extend(roots);
        if self.sandbox == SandboxMode::ReadOnly {
            self.notes.push(
                "`--add-dir` changes nothing under `read-only`: nothing may be written".to_owned(),
            );
        }
    }

    fn read_rules(
        &mut self,
        environment: &Environment,
        project: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let state = &self.runner.state_dir;
        let mut all = rules::read_rules(environment, state, project, &mut self.notes)?;
        all.add(self.managed_rules.rules().iter().cloned());
        let own = environment.codex_home.join("agent-runner.toml");
        self.runner
            .rules
            .clone()
            .add_to(&mut all, &own.display().to_string())?;
        if self.denies_reads()
            && all
                .rules()
                .iter()
                .any(|rule| rule.verdict() == exec_policy::Verdict::Allow)
        {
            self.notes.push(
                "paths are denied to be read, so allow rules run their commands inside the walls"
                    .to_owned(),
            );
        }
        self.rules = Arc::new(all);
        Ok(())
    }

    /// Whether some path may not be read by any command.
    pub(crate) fn denies_reads(&self) -> bool {
        let profile = self.profile.as_ref().map(|profile| {
            profile.grants(Places {
                workspace: &self.bases.cwd,
                added: &[],
                home: &self.bases.home,
            })
        });
        let by_profile = profile.is_some_and(|grants| {
            grants.reads != Reads::Everything
                || !grants.globs.is_empty()
                || grants
                    .paths
                    .iter()
                    .any(|(_, access)| *access == Access::Deny)
        });
        by_profile || !self.denied_reads.is_empty()
    }

    /// Who is asked about `trigger`: the reviewer in force, or a person where the user's own file says so of this kind.
    pub(crate) fn asks(&self, trigger: TriggerKind) -> ApprovalsReviewer {
        if self.runner.ask_person.contains(&trigger) {
            ApprovalsReviewer::User
        } else {
            self.reviewer
        }
    }

    /// Where web searches go: what was set, else live under full access and cached within walls.
    pub(crate) fn web_search(&self) -> WebSearch {
        match (self.web_search, self.sandbox) {
            (Some(set), _) => set,
            (None, SandboxMode::DangerFullAccess) => WebSearch::Live,
            (None, SandboxMode::ReadOnly | SandboxMode::WorkspaceWrite) => WebSearch::Cached,
        }
    }

    pub(super) fn set_web_search(&mut self, web_search: WebSearch, origin: &str) {
        self.web_search = Some(web_search);
        self.origins.insert("web_search", origin.to_owned());
    }

    /// A managed pin of a feature; the answer is whether it is known. What pins the network's guard on is as if it was
    /// configured.
    pub(super) fn pin_feature(&mut self, name: &str, on: bool, file: &str) -> bool {
        let known = name == "network_proxy";
        if known {
            self.network.pin(on, file);
        }
        known
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
        let by_hand = |settings: &Self, key: &str| {
            settings
                .origins
                .get(key)
                .is_some_and(|origin| origin.starts_with('-'))
        };
        if let Some(value) = table.get("sandbox_mode")
            && !by_hand(self, "sandbox_mode")
        {
            let mode: SandboxMode = read_value(value, &file, "sandbox_mode")?;
            if mode < self.sandbox {
                self.set_sandbox(mode, &file);
            } else if mode > self.sandbox {
                self.notes.push(format!(
                    "`{file}` may only narrow; `sandbox_mode` stays `{}`",
                    self.sandbox.as_str()
                ));
            }
            if let (SandboxMode::ReadOnly, Some(profile)) = (mode, &mut self.profile) {
                profile.narrowed_to_reading();
            }
        }
        if let Some(value) = table.get("approval_policy")
            && !by_hand(self, "approval_policy")
        {
            let policy: ApprovalPolicy = read_value(value, &file, "approval_policy")?;
            let narrowed = self.approval.stricter(policy);
            if narrowed != self.approval {
                self.set_approval(narrowed, &file);
            }
        }
        if let Some(value) = table.get("approvals_reviewer")
            && !by_hand(self, "approvals_reviewer")
        {
            let reviewer: ApprovalsReviewer = read_value(value, &file, "approvals_reviewer")?;
            self.reviewer = self.reviewer.min(reviewer);
        }
        self.note_unused(&table, &file);
        Ok(())
    }

    /// Says which keys of a project's own `file` are not used.
    fn note_unused(&mut self, table: &Table, file: &str) {
        let unknown = table.keys().map(String::as_str);
        let unknown: Vec<_> = unknown.filter(|key| !is_known(key)).collect();
        if !unknown.is_empty() {
            self.notes.push(format!(
                "`{file}` has keys that mean nothing here: {}",
                unknown.join(", ")
            ));
        }
        let wider: Vec<_> = [
            "sandbox_workspace_write",
            "auto_review",
            "features",
            "permissions",
            "default_permissions",
            "allow_login_shell",
            "web_search",
            "shell_environment_policy",
            "otel",
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
    }
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
    if key.split('.').any(|part| part.trim().is_empty()) {
        return Err(invalid("a part of the key is empty".to_owned()));
    }
    let mut parts = key.trim().split('.').rev();
    let mut table = Table::new();
    let last = parts.next().unwrap_or_default();
    table.insert(last.to_owned(), value);
    for part in parts {
        table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
