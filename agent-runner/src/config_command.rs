//! `agent-runner config show` and `config check`: the settings in force, and whether every layer can be read.

use std::io::Write;

use network_proxy::Routing;
use protocol::Printable;
use serde_json::json;

use crate::cli::{self, ConfigCommand};
use crate::config::{Environment, SandboxMode, Settings, ShownSetting};
use crate::failure::Failure;
use crate::prepare::Prepared;
use crate::{request, reviewers};

/// Does what `args` says.
///
/// # Errors
/// A layer cannot be used: the message names file, key and line.
pub(crate) fn config(
    args: &cli::ConfigArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let text = match &args.command {
        ConfigCommand::Show(show) => {
            let settings = load(&show.settings, environment)?;
            if show.json {
                format!("{:#}", as_json(&settings))
            } else {
                as_text(&settings, show.origin)
            }
        }
        ConfigCommand::Check(check) => {
            // As a command would find them: folders, files with keys and tokens, and the reviewer's own tables.
            let cwd = request::working_directory(check.settings.cd.as_deref())?;
            let overrides = check.settings.overrides();
            let prepared = Prepared::new(&overrides, environment, &["true".into()], &cwd)?;
            let settings = prepared.settings;
            reviewers::check(&settings, environment)?;
            let mut lines: Vec<String> = settings
                .notes
                .iter()
                .map(|note| format!("note: {}", Printable(note)))
                .collect();
            lines.push(format!(
                "the settings can be used; rules: {}",
                settings.rules.rules().len() + settings.rules.network().len()
            ));
            lines.join("\n")
        }
    };
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

fn load(args: &cli::SettingsArgs, environment: &Environment) -> Result<Settings, Failure> {
    let cwd = request::working_directory(args.cd.as_deref())?;
    Ok(Settings::load(environment, &args.overrides(), &cwd)?)
}

/// What is in force after all layers, by the keys that decide most.
fn in_force(settings: &Settings) -> Vec<(&'static str, String)> {
    vec![
        ("sandbox_mode", settings.sandbox.as_str().to_owned()),
        ("approval_policy", settings.approval.as_str().to_owned()),
        ("approvals_reviewer", settings.reviewer.as_str().to_owned()),
        ("allow_login_shell", settings.allow_login_shell.to_string()),
        ("web_search", settings.web_search().as_str().to_owned()),
        ("network", network(settings).to_owned()),
        (
            "host_approvals",
            settings.runner.host_approvals.as_str().to_owned(),
        ),
    ]
}

/// Which way commands get out: not at all, by the machine's own network, or through the door.
fn network(settings: &Settings) -> &'static str {
    match (settings.sandbox, settings.routing()) {
        (SandboxMode::DangerFullAccess, _) | (_, Routing::Direct) => "direct",
        (_, Routing::Door) => "door",
        (_, Routing::Off) => "off",
    }
}

fn origin_of(settings: &Settings, key: &str) -> String {
    let set = || settings.shown.iter().find(|setting| setting.key == key);
    let origin = match key {
        "network" => settings.network_set_by().map(|it| it.origin.clone()),
        "host_approvals" => set().map(|it| it.origin.clone()),
        _ => settings.origins.get(key).cloned(),
    };
    origin.unwrap_or_else(|| "default".to_owned())
}

fn as_json(settings: &Settings) -> serde_json::Value {
    let force: serde_json::Map<String, serde_json::Value> = in_force(settings)
        .into_iter()
        .map(|(key, value)| {
            let value = json!({"value": value, "origin": origin_of(settings, key)});
            (key.to_owned(), value)
        })
        .collect();
    let rules: Vec<_> = settings
        .rules
        .rules()
        .iter()
        .map(|rule| {
            json!({"pattern": rule.pattern(), "decision": rule.verdict().as_str(), "origin": rule.origin().to_string()})
        })
        .collect();
    json!({
        "in_force": force,
        "trust": settings.trust.name(),
        "set": settings.shown,
        "rules": rules,
        "notes": settings.notes,
    })
}

fn as_text(settings: &Settings, origin: bool) -> String {
    let with = |line: String, from: &str| {
        if origin {
            format!("{line}  # {}", Printable(from))
        } else {
            line
        }
    };
    let mut lines = vec!["# in force".to_owned()];
    lines.extend(
        in_force(settings)
            .into_iter()
            .map(|(key, value)| with(format!("{key} = {value}"), &origin_of(settings, key))),
    );
    lines.push(format!("trust = {}", settings.trust.name()));
    lines.push("# set by files and flags".to_owned());
    lines.extend(
        settings
            .shown
            .iter()
            .map(|setting| with(shown(setting), &setting.origin)),
    );
    if !settings.rules.rules().is_empty() {
        lines.push("# rules".to_owned());
    }
    lines.extend(settings.rules.rules().iter().map(|rule| {
        let line = format!("{} {}", rule.verdict().as_str(), Printable(&rule.pattern()));
        with(line, &rule.origin().to_string())
    }));
    lines.extend(
        settings
            .notes
            .iter()
            .map(|note| format!("# note: {}", Printable(note))),
    );
    lines.join("\n")
}

fn shown(setting: &ShownSetting) -> String {
    let key = Printable(&setting.key);
    let here = setting
        .here
        .map_or_else(String::new, |what| format!(" ({what})"));
    match &setting.value {
        Some(value) => format!("{key} = {}{here}", Printable(value)),
        None if setting.here.is_some() => format!("{key}{here}"),
        None => format!("{key} (the agent's own)"),
    }
}
