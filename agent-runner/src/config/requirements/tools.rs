//! What administrators require of tools: modes and switches of apps, and which tool servers may be there.
//!
//! Apart, because tools are told by `explain --tool` and run by the agent. Invariant: what is required lies over what the
//! user says, and a server that is not listed as it is configured is off.

use serde::Deserialize;
use toml::{Table, Value};

use super::Requirements;
use crate::config::layers::Settings;
use crate::config::shared_file::merge;

/// A tool server that may be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManagedServer {
    identity: Identity,
}

/// By what it is known: the exact program or address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    command: Option<String>,
    url: Option<String>,
}

impl Settings {
    /// Lays what is required of tools over what the user says.
    pub(super) fn hold_tools(&mut self, wanted: &Requirements, file: &str) {
        if !wanted.apps.is_empty() {
            merge(&mut self.tools, "apps", &Value::Table(wanted.apps.clone()));
        }
        let Some(listed) = &wanted.mcp_servers else {
            return;
        };
        let Some(Value::Table(servers)) = self.tools.get_mut("mcp_servers") else {
            return;
        };
        for (name, server) in servers {
            let Value::Table(server) = server else {
                continue;
            };
            let fits = listed
                .get(name)
                .is_some_and(|managed| managed.identity.fits(server));
            if !fits {
                server.insert("enabled".to_owned(), Value::Boolean(false));
                self.notes.push(format!(
                    "the tool server `{name}` is off: `{file}` does not list it as it is configured"
                ));
            }
        }
    }
}

impl Identity {
    /// Whether `server` is configured so, by the one of the two that is named.
    fn fits(&self, server: &Table) -> bool {
        let is = |key: &str, wanted: &Option<String>| match wanted {
            Some(wanted) => server.get(key).and_then(Value::as_str) == Some(wanted),
            None => !server.contains_key(key),
        };
        (self.command.is_some() || self.url.is_some())
            && is("command", &self.command)
            && is("url", &self.url)
    }
}
