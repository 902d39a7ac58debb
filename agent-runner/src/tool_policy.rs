//! Whether a call of a tool needs approval: its annotations, the modes that are configured for it, and the approval
//! policy. Pure.
//!
//! Apart, because tools are not commands: their servers run outside the walls, so nothing but this stands before a call.
//! Invariant: a tool that says it destroys needs approval under every mode but `approve`, whatever else it says; a tool
//! that says nothing needs it too.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::{ApprovalPolicy, SandboxMode};
use crate::route::{Category, Refusal, may_ask};

/// What a tool says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the protocol's own names")]
pub(crate) struct Annotations {
    /// It changes nothing.
    pub(crate) read_only_hint: Option<bool>,
    /// It may destroy.
    pub(crate) destructive_hint: Option<bool>,
    /// It reaches what lies outside.
    pub(crate) open_world_hint: Option<bool>,
    /// Doing it twice does it once. Decides nothing.
    #[serde(rename = "idempotentHint")]
    pub(crate) idempotent_hint: Option<bool>,
}

/// When calls of a tool are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToolMode {
    /// By its annotations.
    #[default]
    Auto,
    /// Always.
    Prompt,
    /// Unless it says that it only reads.
    Writes,
    /// Never.
    Approve,
}

/// Which tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolName {
    /// `mcp_servers` or `apps`.
    table: &'static str,
    /// The server or app.
    pub(crate) server: String,
    /// The tool.
    pub(crate) tool: String,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolRoute {
    /// It is made.
    Call,
    /// It is asked about.
    Ask,
    /// It is not made.
    Refused(ToolRefusal),
}

/// Why a call is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolRefusal {
    /// The settings switch the tool off.
    Disabled,
    /// It would have to be asked.
    NotAskable(Refusal),
}

impl ToolName {
    /// `SERVER/TOOL`, or `app:ID/TOOL`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (server, tool) = text.split_once('/')?;
        let (table, server) = match server.strip_prefix("app:") {
            Some(app) => ("apps", app),
            None => ("mcp_servers", server),
        };
        (!server.is_empty() && !tool.is_empty()).then(|| Self {
            table,
            server: server.to_owned(),
            tool: tool.to_owned(),
        })
    }

    /// The mode that is configured for it: the most specific one, with the key it stands at.
    ///
    /// # Errors
    /// A mode is none.
    pub(crate) fn mode(&self, tools: &Table) -> Result<(ToolMode, String), String> {
        let (table, server, tool) = (self.table, &self.server, &self.tool);
        let places: [&[&str]; 3] = [
            &[table, server, "tools", tool, "approval_mode"],
            &[table, server, "default_tools_approval_mode"],
            &["apps", "_default", "default_tools_approval_mode"],
        ];
        let count = if table == "apps" { 3 } else { 2 };
        for place in places.iter().take(count) {
            if let Some(value) = at(tools, place) {
                let key = place.join(".");
                let mode = value.clone().try_into().map_err(|_| {
                    format!(
                        "`{key}` is {value}, which is none of `auto`, `prompt`, `writes`, `approve`"
                    )
                })?;
                return Ok((mode, key));
            }
        }
        Ok((ToolMode::Auto, "default".to_owned()))
    }

    /// Whether the settings switch it off, by name or by what it says of itself.
    pub(crate) fn is_off(&self, tools: &Table, says: Annotations) -> bool {
        let is = |place: &[&str], wanted: bool| {
            at(tools, place).and_then(Value::as_bool) == Some(wanted)
        };
        let (table, server, tool) = (self.table, self.server.as_str(), self.tool.as_str());
        let listed = |key: &str| {
            let list = at(tools, &[table, server, key])?.as_array()?;
            Some(list.iter().any(|name| name.as_str() == Some(tool)))
        };
        let own = at(tools, &[table, server, "tools", tool, "enabled"]).and_then(Value::as_bool);
        let by_default = is(&[table, server, "default_tools_enabled"], false) && own != Some(true);
        is(&[table, server, "enabled"], false)
            || own == Some(false)
            || by_default
            || listed("enabled_tools") == Some(false)
            || listed("disabled_tools") == Some(true)
            || (is(&[table, server, "destructive_enabled"], false)
                && says.destructive_hint != Some(false))
            || (is(&[table, server, "open_world_enabled"], false)
                && says.open_world_hint != Some(false))
    }
}

fn at<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        at(value.as_table()?, rest)
    }
}

/// Whether a call needs approval.
pub(crate) fn needs_approval(mode: ToolMode, says: Annotations) -> bool {
    match mode {
        ToolMode::Approve => false,
        ToolMode::Prompt => true,
        // What says both that it reads and that it destroys is taken at the worse word.
        ToolMode::Writes => {
            says.read_only_hint != Some(true) || says.destructive_hint == Some(true)
        }
        ToolMode::Auto => {
            if says.destructive_hint == Some(true) {
                true
            } else if says.read_only_hint == Some(true) {
                false
            } else {
                says.destructive_hint.is_none() || says.open_world_hint != Some(false)
            }
        }
    }
}

/// What becomes of a call.
pub(crate) fn decide(
    policy: ApprovalPolicy,
    sandbox: SandboxMode,
    mode: ToolMode,
    says: Annotations,
) -> ToolRoute {
    let bypassed = policy == ApprovalPolicy::Never && sandbox == SandboxMode::DangerFullAccess;
    if bypassed || !needs_approval(mode, says) {
        return ToolRoute::Call;
    }
    match may_ask(policy, Category::ToolCall) {
        Ok(()) => ToolRoute::Ask,
        Err(refusal) => ToolRoute::Refused(ToolRefusal::NotAskable(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Annotations, ToolMode, ToolName, ToolRoute, decide, needs_approval};
    use crate::config::{ApprovalPolicy, SandboxMode};

    fn says(read_only: Option<bool>, destructive: Option<bool>, open: Option<bool>) -> Annotations {
        Annotations {
            read_only_hint: read_only,
            destructive_hint: destructive,
            open_world_hint: open,
            idempotent_hint: None,
        }
    }

    #[test]
    fn every_annotation_is_judged_as_the_page_says() {
        let (yes, no, none) = (Some(true), Some(false), None);
        for (annotations, asks) in [
            (says(none, none, none), true),
            (says(none, yes, none), true),
            (says(yes, yes, none), true),
            (says(yes, none, none), false),
            (says(yes, no, yes), false),
            (says(yes, none, yes), false),
            (says(no, none, none), true),
            (says(no, no, none), true),
            (says(no, no, yes), true),
            (says(none, no, no), false),
            (says(none, none, no), true),
            (says(none, no, none), true),
        ] {
            assert_eq!(
                needs_approval(ToolMode::Auto, annotations),
                asks,
                "{annotations:?}"
            );
            assert!(needs_approval(ToolMode::Prompt, annotations));
            assert!(!needs_approval(ToolMode::Approve, annotations));
        }
        assert!(needs_approval(ToolMode::Writes, says(none, no, no)));
        assert!(!needs_approval(ToolMode::Writes, says(yes, none, none)));
        assert!(needs_approval(ToolMode::Writes, says(yes, yes, none)));
    }

    #[test]
    fn never_refuses_what_needs_approval_and_full_access_with_it_calls_everything() {
        let silent = Annotations::default();
        let of = |policy, sandbox| decide(policy, sandbox, ToolMode::Prompt, silent);
        assert!(matches!(
            of(ApprovalPolicy::Never, SandboxMode::ReadOnly),
            ToolRoute::Refused(_)
        ));
        assert_eq!(
            of(ApprovalPolicy::Never, SandboxMode::DangerFullAccess),
            ToolRoute::Call
        );
        assert_eq!(
            of(ApprovalPolicy::OnRequest, SandboxMode::DangerFullAccess),
            ToolRoute::Ask
        );
    }

    #[test]
    fn the_most_specific_mode_wins_and_a_wrong_one_is_an_error() {
        let tools = "[apps._default]\ndefault_tools_approval_mode = \"prompt\"\n[apps.a]\ndefault_tools_approval_mode = \"writes\"\n[apps.a.tools.t]\napproval_mode = \"approve\"\n[mcp_servers.s]\ndisabled_tools = [\"x\"]\ndefault_tools_approval_mode = \"sometimes\""
            .parse()
            .expect("TOML");
        let mode = |name: &str| {
            ToolName::parse(name)
                .expect("a name")
                .mode(&tools)
                .map(|(mode, _)| mode)
        };
        assert_eq!(mode("app:a/t"), Ok(ToolMode::Approve));
        assert_eq!(mode("app:a/u"), Ok(ToolMode::Writes));
        assert_eq!(mode("app:b/t"), Ok(ToolMode::Prompt));
        assert_eq!(mode("other/t"), Ok(ToolMode::Auto));
        assert!(mode("s/t").is_err());
        let off = |name: &str| {
            ToolName::parse(name)
                .expect("a name")
                .is_off(&tools, Annotations::default())
        };
        assert!(off("s/x") && !off("s/y"));
        assert!(ToolName::parse("x").is_none() && ToolName::parse("/x").is_none());
    }
}
