//! `agent-runner explain --tool`: what would become of a tool's call, for clients that ask before they call.

use std::io::Write;

use protocol::{Printable, TriggerKind};
use serde_json::json;

use crate::cli;
use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::request;
use crate::route::{Category, may_ask};
use crate::tool_policy::{Annotations, ToolName, ToolRefusal, ToolRoute, decide};

/// Explains the call of `tool`.
///
/// # Errors
/// The settings are not as they must be, or the tool is not named as it must be.
pub(super) fn explain(
    tool: &str,
    args: &cli::Explain,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let settings = Settings::load(environment, &args.settings.overrides(), &cwd)?;
    let answer = if tool == "web_search" {
        let origin = settings.origins.get("web_search").cloned();
        json!({
            "tool": tool,
            "mode": settings.web_search().as_str(),
            "origin": origin.unwrap_or_else(|| "default".to_owned()),
            "route": "call",
            "because": "web search is the agent's own; no command's network hangs on it",
        })
    } else if let Some(category) = kind(tool) {
        asked_kind(tool, category, &settings)
    } else {
        called(tool, &args.annotations, &settings)?
    };
    let text = if args.json {
        format!("{answer:#}")
    } else {
        let of = |key: &str| {
            answer
                .get(key)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let lines = ["tool", "mode", "origin", "route", "because"]
            .map(|key| format!("{key:<10} {}", Printable(of(key))));
        lines.join("\n")
    };
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

/// The questions that are asked by their kind alone.
fn kind(tool: &str) -> Option<Category> {
    match tool {
        "request_permissions" => Some(Category::Permissions),
        "skill" => Some(Category::Skill),
        "elicitation" => Some(Category::ToolServer),
        _ => None,
    }
}

fn asked_kind(tool: &str, category: Category, settings: &Settings) -> serde_json::Value {
    let (route, because) = match may_ask(settings.approval, category) {
        Ok(()) => (
            "ask",
            "the approval policy lets this kind of question be asked",
        ),
        Err(refusal) => ("refused", refusal.because()),
    };
    let trigger = match category {
        Category::Permissions => TriggerKind::PermissionRequested,
        Category::Skill => TriggerKind::SkillApproval,
        Category::Sandbox
        | Category::Rules
        | Category::ToolServer
        | Category::ToolCall
        | Category::Host => TriggerKind::ToolSideEffect,
    };
    json!({
        "tool": tool,
        "mode": settings.approval.as_str(),
        "origin": settings.origins.get("approval_policy").map_or("default", String::as_str),
        "route": route,
        "because": because,
        "asked": (route == "ask").then(|| settings.asks(trigger).as_str()),
    })
}

fn called(
    tool: &str,
    annotations: &str,
    settings: &Settings,
) -> Result<serde_json::Value, Failure> {
    let name = ToolName::parse(tool).ok_or_else(|| {
        Failure::because(format!(
            "`{tool}` is not a tool\nhint: SERVER/TOOL, app:ID/TOOL, web_search, request_permissions, skill, or elicitation"
        ))
    })?;
    let says: Annotations = protocol::parse_strict(annotations.as_bytes())
        .map_err(|error| Failure::because(format!("`--annotations` is not valid: {error}")))?;
    let (mode, origin) = name.mode(&settings.tools).map_err(Failure::because)?;
    let route = if name.is_off(&settings.tools, says) {
        ToolRoute::Refused(ToolRefusal::Disabled)
    } else {
        decide(settings.approval, settings.sandbox, mode, says)
    };
    let (route, because) = match route {
        ToolRoute::Call => (
            "call",
            "it needs no approval under its mode and annotations",
        ),
        ToolRoute::Ask => (
            "ask",
            "its mode or what it says of itself asks for approval",
        ),
        ToolRoute::Refused(ToolRefusal::Disabled) => ("refused", "the settings switch it off"),
        ToolRoute::Refused(ToolRefusal::NotAskable(refusal)) => ("refused", refusal.because()),
    };
    Ok(json!({
        "tool": tool,
        "mode": mode,
        "origin": origin,
        "annotations": says,
        "route": route,
        "because": because,
        "asked": (route == "ask").then(|| settings.asks(TriggerKind::ToolSideEffect).as_str()),
    }))
}
