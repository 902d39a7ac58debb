//! Each key that a file or flag set, its value and where it came from: what `config show` prints.
//!
//! Invariant: values are kept of the keys that this program honours, and of no other: the rest of the shared file may hold
//! other programs' secrets (P9).

use network_proxy::Routing;
use serde::Serialize;
use toml::{Table, Value};

use super::SandboxMode;
use super::layers::Settings;

/// One key that something set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShownSetting {
    /// The key, dotted.
    pub(crate) key: String,
    /// The value as TOML; `None` for a key that means nothing here.
    pub(crate) value: Option<String>,
    /// The file or flag it came from.
    pub(crate) origin: String,
    /// What it does here, where that is not what its name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) here: Option<&'static str>,
}

/// Keys whose values are shown.
const HONOURED: &[&str] = &[
    "sandbox_mode",
    "approval_policy",
    "approvals_reviewer",
    "sandbox_workspace_write",
    "default_permissions",
    "permissions",
    "allow_login_shell",
    "web_search",
    "features",
    "projects",
    "profile",
    "project_root_markers",
    "experimental_network",
    "host_approvals",
    "network",
];

/// Keys of the runner's own file that are shown with the shared ones: what it adds to the network.
const OWN: &[&str] = &["host_approvals", "network"];

/// What keys do here that are loaded and not obeyed by commands.
const HERE: &[(&str, &str)] = &[
    (
        "windows",
        "nothing here: native Windows is not supported, WSL2 is Linux",
    ),
    (
        "history",
        "nothing here: the agent's own transcripts; reviews are kept by `[state] dir`",
    ),
    (
        "web_search",
        "a decision for the agent: `explain --tool web_search`; no command's network hangs on it",
    ),
    (
        "hooks",
        "nothing here: the agent runs them around its tools, this program among these",
    ),
    ("otel", "what a run tells a collector; by `otlp-http`"),
    ("profiles", "chosen by `--profile` or `profile`"),
    ("auto_review", "the reviewer's policy section"),
    (
        "mcp_servers",
        "`explain --tool` reads approval modes from it",
    ),
    ("apps", "`explain --tool` reads approval modes from it"),
];

impl Settings {
    /// The same of the runner's own file, whose `text` was read before.
    pub(super) fn note_own(&mut self, text: &str, origin: &str) {
        let mut table: Table = toml::from_str(text).unwrap_or_default();
        table.retain(|key, _| OWN.contains(&key));
        self.note_shown(&table, origin);
    }

    /// What decided which way commands get out: the key that a file or flag set, and where. `None`: nothing did.
    pub(crate) fn network_set_by(&self) -> Option<&ShownSetting> {
        let keys: &[&str] = match (self.sandbox, self.routing()) {
            (SandboxMode::DangerFullAccess, _) => &["sandbox_mode"],
            (_, Routing::Door) => &[
                "experimental_network.enabled",
                "features.network_proxy.enabled",
                "features.network_proxy",
                "default_permissions",
            ],
            (_, Routing::Direct | Routing::Off) if self.profile.is_some() => {
                &["default_permissions"]
            }
            (_, Routing::Direct | Routing::Off) => &["sandbox_workspace_write.network_access"],
        };
        keys.iter()
            .find_map(|key| self.shown.iter().find(|setting| setting.key == *key))
    }

    /// Notes what `table`, which stands in `origin`, sets: later layers replace the same keys.
    pub(super) fn note_shown(&mut self, table: &Table, origin: &str) {
        let mut found = Vec::new();
        for (key, value) in table {
            let honoured = HONOURED.contains(&key.as_str());
            leaves(key, value, honoured, &mut found);
        }
        for (key, value) in found {
            let top = key.split('.').next().unwrap_or_default();
            let here = HERE.iter().find(|(name, _)| *name == top);
            let here = here.map(|(_, what)| *what);
            let setting = ShownSetting {
                key,
                value,
                origin: origin.to_owned(),
                here,
            };
            match self.shown.iter_mut().find(|known| known.key == setting.key) {
                Some(known) => *known = setting,
                None => self.shown.push(setting),
            }
        }
    }
}

/// The keys under `key`. Of what is not honoured only the first two levels are named.
fn leaves(key: &str, value: &Value, honoured: bool, out: &mut Vec<(String, Option<String>)>) {
    match value {
        Value::Table(table) if !table.is_empty() && (honoured || !key.contains('.')) => {
            for (name, value) in table {
                let plain = name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
                let name = if plain {
                    name.clone()
                } else {
                    Value::String(name.clone()).to_string()
                };
                leaves(&format!("{key}.{name}"), value, honoured, out);
            }
        }
        Value::Table(_)
        | Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => out.push((key.to_owned(), honoured.then(|| value.to_string()))),
    }
}
