//! `agent-runner explain --matrix`: a table of settings and commands, each row decided as `exec` would.
//!
//! Apart, because nothing of the machine but the row counts: no walls are built and no program is looked up. Invariant:
//! the decision is [`Route::of`] itself.

use std::io::Write;
use std::path::Path;

use exec_policy::{Reading, RuleSet};
use protocol::{Printable, SandboxPermissions};
use serde::Deserialize;

use crate::cli;
use crate::config::{Environment, Overrides, Settings};
use crate::failure::Failure;
use crate::request;
use crate::route::Route;
use crate::ruled::Ruled;
use crate::rules_file::load_rules;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    row: Vec<Row>,
}

/// One row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Names the row.
    id: Option<String>,
    /// Keys of `config.toml`, as its text; over the settings in force.
    #[serde(default)]
    config: String,
    /// Command rules, as the text of a rules file; beside those in force.
    #[serde(default)]
    rules: String,
    /// Words, or a script for `bash -lc`.
    command: RowCommand,
    #[serde(default)]
    sandbox_permissions: SandboxPermissions,
    /// The route that is wanted; a row that goes another fails the run.
    expect: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RowCommand {
    Words(Vec<String>),
    Script(String),
}

/// Explains every row of `file`. Exit status 0 where every `expect` held, else 1.
///
/// # Errors
/// The file, or a row's settings, are not as they must be.
pub(super) fn explain(
    file: &Path,
    args: &cli::Explain,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::because(format!("cannot read `{shown}`: {error}")))?;
    let matrix: Matrix = toml::from_str(&text).map_err(|error| {
        Failure::because(format!("`{shown}` is not a matrix: {}", error.message()))
    })?;
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let flags = args.settings.overrides();
    let mut missed = 0_u32;
    for (number, row) in matrix.row.into_iter().enumerate() {
        let id = row.id.clone().unwrap_or_else(|| (number + 1).to_string());
        let failed = |failure: Failure| Failure {
            message: format!("row {id} of `{shown}`: {}", failure.message),
            ..failure
        };
        let wanted = row.expect.clone();
        let (route, ruled) = decide(row, &flags, environment, &cwd).map_err(failed)?;
        let held = wanted
            .as_deref()
            .is_none_or(|wanted| wanted == route.name());
        missed += u32::from(!held);
        print(
            out,
            args,
            &Decided {
                id,
                route,
                ruled,
                wanted,
                held,
            },
        )
        .map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    }
    Ok(u8::from(missed > 0))
}

struct Decided {
    id: String,
    route: Route,
    ruled: Ruled,
    wanted: Option<String>,
    held: bool,
}

fn decide(
    row: Row,
    flags: &Overrides,
    environment: &Environment,
    cwd: &Path,
) -> Result<(Route, Ruled), Failure> {
    let mut settings = Settings::load_with(environment, flags, cwd, &row.config)?;
    if !row.rules.is_empty() {
        let mut rules = RuleSet::clone(&settings.rules);
        load_rules(
            &mut rules,
            "row.rules",
            &row.rules,
            &environment.home.to_string_lossy(),
        )?;
        settings.rules = rules.into();
    }
    let words = match row.command {
        RowCommand::Words(words) => words,
        RowCommand::Script(script) => vec!["bash".to_owned(), "-lc".to_owned(), script],
    };
    let ruled = Ruled::of(&settings.rules, &Reading::of_argv(&words));
    Ok((Route::of(&settings, row.sandbox_permissions, &ruled), ruled))
}

fn print(out: &mut dyn Write, args: &cli::Explain, row: &Decided) -> std::io::Result<()> {
    let asked = match row.route {
        Route::Ask(question) => Some(question),
        Route::Inside | Route::ByRule | Route::FullAccess(_) | Route::Refused(_) => None,
    };
    let because = row.route.because(&row.ruled);
    if args.json {
        let line = serde_json::json!({
            "id": row.id, "route": row.route.name(), "asked": asked, "because": because,
            "rules": row.ruled.hits, "expect": row.wanted, "held": row.held,
        });
        return writeln!(out, "{line}");
    }
    let mark = if row.held { "" } else { "  MISSED" };
    let of = asked.map_or("", |question| question.of.as_str());
    writeln!(
        out,
        "{}\t{}\t{of}\t{}{mark}",
        Printable(&row.id),
        row.route.name(),
        Printable(&because)
    )
}
