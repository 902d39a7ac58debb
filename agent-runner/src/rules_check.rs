//! `agent-runner rules check`: which rules a command hits, with file and line, and what the approval policy makes of it.
//!
//! Apart from `explain` because it needs no walls and no program: rules are checked where they are written. Exit status
//! 0 whatever the verdict.

use std::io::Write;

use exec_policy::{Reading, RuleSet};
use protocol::{Printable, SandboxPermissions};
use serde_json::json;

use crate::cli::{self, RulesCommand};
use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::request;
use crate::route::Route;
use crate::ruled::{Ruled, shown_words};
use crate::rules_allow::{allow, propose};
use crate::rules_file::load_rules;

/// Does what `args` says.
///
/// # Errors
/// The settings or a rules file cannot be used.
pub(crate) fn rules(
    args: &cli::RulesArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    match &args.command {
        RulesCommand::Check(args) => check(args, environment, out),
        RulesCommand::Propose(args) => propose(args, environment, out),
        RulesCommand::Allow(args) => allow(args, environment, out),
    }
}

fn check(
    check: &cli::RulesCheck,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cwd = request::working_directory(check.settings.cd.as_deref())?;
    let mut settings = Settings::load(environment, &check.settings.overrides(), &cwd)?;
    if !check.rules.is_empty() {
        let mut rules = RuleSet::default();
        for file in &check.rules {
            let shown = file.display().to_string();
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::because(format!("cannot read `{shown}`: {error}")))?;
            load_rules(
                &mut rules,
                &shown,
                &text,
                &environment.home.to_string_lossy(),
            )?;
        }
        settings.rules = rules.into();
    }
    let words: Vec<String> = check
        .command
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let reading = Reading::of_argv(&words);
    let ruled = Ruled::of(&settings.rules, &reading);
    let route = Route::of(&settings, SandboxPermissions::UseDefault, &ruled);
    let text = if check.json {
        let lowered: Vec<_> = reading.commands().iter().map(shown_words).collect();
        let unread = reading.unread().map(|unread| unread.to_string());
        let answer = json!({
            "decision": ruled.verdict.map(exec_policy::Verdict::as_str),
            "covered": ruled.coverage_name(),
            "matchedRules": ruled.hits,
            "commands": lowered,
            "unread": unread,
            "route": route.name(),
            "because": route.because(&ruled),
        });
        format!("{answer:#}")
    } else {
        as_text(&reading, &ruled, &route)
    };
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

fn as_text(reading: &Reading, ruled: &Ruled, route: &Route) -> String {
    let mut lines: Vec<String> = reading
        .commands()
        .iter()
        .map(|command| format!("command    {}", Printable(&shown_words(command))))
        .collect();
    if let Some(unread) = reading.unread() {
        lines.push(format!("unread     {unread}"));
    }
    lines.extend(ruled.hits.iter().map(|hit| {
        let doubt = if hit.certain { "" } else { "may become " };
        let line = format!(
            "{doubt}`{}` -> {} ({})",
            hit.pattern, hit.decision, hit.rule
        );
        format!("rule       {}", Printable(&line))
    }));
    let decision = ruled
        .verdict
        .map_or("no rule matches", exec_policy::Verdict::as_str);
    lines.push(format!("decision   {decision}"));
    lines.push(format!(
        "route      {}: {}",
        route.name(),
        Printable(&route.because(ruled))
    ));
    lines.join("\n")
}
