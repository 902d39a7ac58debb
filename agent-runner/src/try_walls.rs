//! `agent-runner sandbox`: one command inside the walls, with nobody to ask, and what the walls refused.
//!
//! The command's own output is untouched; what is asked for with `--log-denials` or `--json` follows its end, on standard
//! error.

use std::io::Write;

use protocol::{SandboxPermissions, SessionReference, Transcript};
use sandbox::{Ahead, Observing, seatbelt_profile};

use crate::cli::{self, Platform};
use crate::config::{Environment, SandboxMode};
use crate::denials;
use crate::exec;
use crate::failure::Failure;
use crate::prepare::{Prepared, UnknownHosts};
use crate::printed::Printed;
use crate::report::Report;
use crate::request::{RunRequest, TerminalWish, working_directory};

/// Runs `args` in what was begun `ahead`; the answer is the exit status.
///
/// # Errors
/// Nothing ran.
pub(crate) async fn sandbox(
    args: &cli::Sandbox,
    environment: &Environment,
    ahead: Option<Ahead>,
) -> Result<u8, Failure> {
    if args.print_profile {
        return print_profile(args, environment, &mut Printed::new());
    }
    right_platform(args.platform)?;
    let request = RunRequest {
        argv: args.command.clone(),
        cwd: working_directory(args.settings.cd.as_deref())?,
        permissions: SandboxPermissions::UseDefault,
        additional: None,
        justification: None,
        session: SessionReference::default(),
        transcript: Transcript::default(),
        terminal: TerminalWish::Inherit,
        max_output: args.output.max_output,
        escapes: args.output.escapes(),
    };
    let mut prepared = Prepared::new(&args.overrides(), environment, &request.argv, &request.cwd)?;
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess {
        return Err(Failure::because(
            "`danger-full-access` has no walls to show\nhint: name another mode with --sandbox",
        ));
    }
    prepared.unknown_hosts = UnknownHosts::Closed;
    if args.log_denials {
        prepared.observing = Observing::Everything;
    }
    let mut report = Report {
        version: 1,
        route: "inside",
        notes: prepared.settings.notes.clone(),
        ..Report::default()
    };
    let inside = exec::inside(request, prepared, ahead, environment, &mut report);
    let code = Box::pin(inside).await?;
    report.exit_code = code;
    report
        .said_at_the_end()
        .iter()
        .for_each(|line| crate::say(line));
    tell(args, &report);
    Ok(code)
}

/// What a Mac would be told, as text that says itself that it was never run.
fn print_profile(
    args: &cli::Sandbox,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    if args.platform != Some(Platform::Macos) {
        return Err(Failure::because(
            "only macOS has such a profile\nhint: agent-runner sandbox macos --print-profile",
        ));
    }
    let cwd = working_directory(args.settings.cd.as_deref())?;
    let prepared = Prepared::new(&args.overrides(), environment, &["true".into()], &cwd)?;
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess {
        return Err(Failure::because(
            "`danger-full-access` has no walls to show\nhint: name another mode with --sandbox",
        ));
    }
    let profile = seatbelt_profile(&prepared.policy)?;
    let printed = write!(out, "{profile}");
    printed.map_err(|error| Failure::because(format!("cannot print the profile: {error}")))?;
    Ok(0)
}

/// What was asked for, behind the command's own output. A standard error that is gone takes it to nobody.
fn tell(args: &cli::Sandbox, report: &Report) {
    let text = if args.json {
        serde_json::to_string(report)
            .map(|line| line + "\n")
            .unwrap_or_default()
    } else if args.log_denials {
        denials::lines(report)
    } else {
        return;
    };
    std::io::stderr()
        .write_all(text.as_bytes())
        .unwrap_or_default();
}

/// A spelling may name walls of another system: those cannot stand here.
fn right_platform(named: Option<Platform>) -> Result<(), Failure> {
    let here = if cfg!(target_os = "macos") {
        Platform::Macos
    } else if cfg!(target_os = "windows") {
        Platform::Windows
    } else {
        Platform::Linux
    };
    let name = |platform| match platform {
        Platform::Linux => "Linux",
        Platform::Macos => "macOS",
        Platform::Windows => "Windows",
    };
    match named {
        Some(other) if other != here => Err(Failure::because(format!(
            "the walls of {} cannot stand on {}",
            name(other),
            name(here)
        ))),
        Some(_) | None => Ok(()),
    }
}
