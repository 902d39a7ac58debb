//! `agent-runner rules propose` and `rules allow`: "do not ask again", as a choice among rules that match the next time.
//!
//! Invariant: what is written down is, line for line, what was proposed for exactly this command, under the rules that
//! are in force now.

use std::io::Write;
use std::path::PathBuf;

use exec_policy::{Proposal, Reading, RuleSet};
use protocol::Printable;
use serde_json::json;

use crate::cli;
use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::replace_file::replace_file;
use crate::request;
use crate::rules_file::load_rules;

/// Shows the choices.
///
/// # Errors
/// The settings or rules cannot be used.
pub(crate) fn propose(
    args: &cli::RulesPropose,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let proposals = proposals(&args.settings, &args.command, environment)?;
    let text = if args.json {
        let choices: Vec<_> = (1..)
            .zip(&proposals)
            .map(|(choice, proposal)| {
                json!({"choice": choice, "prefixes": proposal.prefixes, "lines": proposal.lines()})
            })
            .collect();
        format!("{:#}", json!({ "choices": choices }))
    } else if proposals.is_empty() {
        "no rule can allow this: it is not plain words, a rule asks or forbids, or only a prefix that allows anything would do"
            .to_owned()
    } else {
        let lines = (1..).zip(&proposals).flat_map(|(choice, proposal)| {
            let lines = proposal.lines().into_iter();
            lines.map(move |line| format!("{choice:<3} {}", Printable(&line)))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

/// Writes a choice into the user's rules.
///
/// # Errors
/// There is no such choice, or the file cannot be changed.
pub(crate) fn allow(
    args: &cli::RulesAllow,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let proposals = proposals(&args.settings, &args.command, environment)?;
    let chosen = args.choice.checked_sub(1).and_then(|at| proposals.get(at));
    let proposal = chosen.ok_or_else(|| {
        Failure::because(format!(
            "there are {} choices for this command\nhint: `agent-runner rules propose -- CMD` shows them",
            proposals.len()
        ))
    })?;
    let file = add(environment, &proposal.lines())?;
    let lines: Vec<String> = proposal
        .lines()
        .iter()
        .map(|line| Printable(line).to_string())
        .collect();
    writeln!(out, "{}\nadded to {}", lines.join("\n"), file.display())
        .map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

/// Writes one line that was proposed into the user's rules.
///
/// # Errors
/// The file cannot be changed, or would not load.
pub(crate) fn add_line(environment: &Environment, line: &str) -> Result<(), Failure> {
    add(environment, &[line.to_owned()]).map(drop)
}

fn add(environment: &Environment, lines: &[String]) -> Result<PathBuf, Failure> {
    let file = environment.codex_home.join("rules/default.rules");
    let home = environment.home.to_string_lossy().into_owned();
    replace_file(&file, |text| with_lines(text, lines, &home))?;
    Ok(file)
}

fn proposals(
    args: &cli::SettingsArgs,
    command: &[std::ffi::OsString],
    environment: &Environment,
) -> Result<Vec<Proposal>, Failure> {
    let cwd = request::working_directory(args.cd.as_deref())?;
    let settings = Settings::load(environment, &args.overrides(), &cwd)?;
    let words: Option<Vec<String>> = command
        .iter()
        .map(|word| word.to_str().map(str::to_owned))
        .collect();
    let words = words.ok_or_else(|| Failure::because("a word of the command is not UTF-8"))?;
    Ok(settings.rules.proposals(&Reading::of_argv(&words)))
}

/// `text` with `lines` behind it, where all of it loads.
fn with_lines(text: &str, lines: &[String], home: &str) -> Result<String, String> {
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let changed = format!("{text}{gap}{}\n", lines.join("\n"));
    let mut rules = RuleSet::default();
    load_rules(&mut rules, "default.rules", &changed, home).map_err(|error| error.to_string())?;
    Ok(changed)
}
