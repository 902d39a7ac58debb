//! `agent-runner`: the hand of Auto-review. This file reads the command line, picks the mode and sets the exit status;
//! nothing else.
#![forbid(unsafe_code)]

mod answer;
mod apply_patch;
mod ask;
mod cli;
mod config;
mod config_command;
#[cfg(feature = "embedded")]
mod demo;
mod denials;
mod doctor;
mod door;
#[cfg(feature = "embedded")]
mod embedded;
mod evidence;
mod exec;
mod explain;
mod failure;
mod history;
mod hold;
mod journal;
mod launch;
mod leaves;
mod own_file;
mod passed_env;
mod pending;
mod permit;
mod prepare;
mod printed;
mod proxy_check;
mod pty;
mod ran;
mod relay;
mod remove_tree;
mod replace_file;
mod report;
mod request;
mod request_permissions;
mod review_client;
mod reviewers;
mod route;
mod ruled;
mod rules_allow;
mod rules_check;
mod rules_file;
mod session_tmp;
mod shown;
mod signals;
mod state;
mod status;
mod telemetry;
mod tool_policy;
mod try_walls;
mod walls;

use std::io::Write as _;
use std::process::ExitCode;

use cli::{Cli, Command};
use config::Environment;
use failure::{Failure, RUNNER_FAILED};
use printed::Printed;
use protocol::Printable;
use report::{Report, ReportFile};
use sandbox::Ahead;

fn main() -> ExitCode {
    ::telemetry::tell_panics_without_their_text("agent-runner");
    let words = cli::spelled(std::env::args_os());
    let inside = cli::starts_inside(&words);
    let cli = match cli::parse(words) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Failure::runner(&error)),
    };
    // What most commands need is made on another processor while this one finds out what is wanted. Not before: as long as
    // both are at work, a page of this program that is first written to is a message between processors.
    let ahead = if inside { exec::begin_ahead() } else { None };
    let ended = match Environment::read() {
        Ok(environment) => runtime.block_on(run(cli, &environment, ahead)),
        Err(error) => Err(Failure::runner(&error)),
    };
    // A question that nobody answers any more may still be waiting on a thread of its own.
    runtime.shutdown_background();
    sandbox::settle();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => tell(&failure),
    }
}

async fn run(cli: Cli, environment: &Environment, ahead: Option<Ahead>) -> Result<u8, Failure> {
    match cli.command {
        Command::Exec(args) => {
            let target = args.report.as_deref().map(ReportFile::open).transpose()?;
            let mut report = Report {
                version: 1,
                ..Report::default()
            };
            let ended = Box::pin(exec::exec(&args, environment, ahead, &mut report)).await;
            report.said_at_the_end().iter().for_each(|line| say(line));
            reported(ended, report, target)
        }
        Command::Sandbox(args) => Box::pin(try_walls::sandbox(&args, environment, ahead)).await,
        Command::Doctor(args) => {
            Box::pin(doctor::doctor(&args, environment, &mut Printed::new())).await
        }
        Command::TryFromInside(args) => Ok(doctor::from_inside(&args)),
        Command::TryTheDoor(args) => Ok(doctor::from_behind_the_door(&args)),
        Command::Explain(args) => explain::explain(&args, environment, &mut Printed::new()).await,
        Command::ApplyPatch(args) => Box::pin(apply_patch::apply_patch(&args, environment)).await,
        Command::RequestPermissions(args) => {
            let mut out = Printed::new();
            Box::pin(request_permissions::request_permissions(
                &args,
                environment,
                &mut out,
            ))
            .await
        }
        Command::Trust(args) => status::trust(&args, environment, &mut Printed::new()),
        Command::Status(args) => status::status(&args, environment, &mut Printed::new()),
        Command::Config(args) => config_command::config(&args, environment, &mut Printed::new()),
        Command::Rules(args) => rules_check::rules(&args, environment, &mut Printed::new()),
        Command::Proxy(args) => proxy_check::proxy(&args, environment, &mut Printed::new()).await,
        Command::History(args) => history::history(&args, environment, &mut Printed::new()).await,
        #[cfg(feature = "embedded")]
        Command::Demo(args) => demo::demo(&args, environment, &mut Printed::new()).await,
    }
}

fn reported(
    ended: Result<u8, Failure>,
    mut report: Report,
    target: Option<ReportFile>,
) -> Result<u8, Failure> {
    let Some(target) = target else { return ended };
    match &ended {
        Ok(code) => report.exit_code = *code,
        Err(failure) => {
            report.exit_code = failure.code;
            report.message = Some(failure.message.clone());
        }
    }
    // A command that ran has ended as it did; a report that cannot be written does not undo it.
    if let Err(error) = target.write(&report) {
        tell(&Failure::runner(&error));
    }
    ended
}

fn tell(failure: &Failure) -> ExitCode {
    say(&failure.message);
    ExitCode::from(failure.code)
}

/// Says it on standard error: nothing in it steers a terminal, and only our own lines begin a line.
fn say(message: &str) {
    const OWN: [&str; 4] = ["hint: ", "why: ", "next: ", "note: "];
    let mark = if message.starts_with("agent-runner: ") {
        ""
    } else {
        "agent-runner: "
    };
    let mut text = String::from(mark);
    for (place, line) in message.lines().enumerate() {
        match place {
            0 => {}
            _ if OWN.iter().any(|own| line.starts_with(own)) => text.push('\n'),
            _ => text.push_str("\\n"),
        }
        text.push_str(&Printable(line).to_string());
    }
    // A standard error that is gone leaves the exit status to say it.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// Help and version end well; a wrong command line is the runner's failure, not a command's status.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.print().unwrap_or_default();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.print().unwrap_or_default();
        return ExitCode::from(RUNNER_FAILED);
    }
    let text = error.to_string();
    let paragraphs = text
        .trim_start_matches("error: ")
        .split("\n\n")
        .filter(|text| !text.trim().is_empty());
    let lines = paragraphs.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    say(&lines.collect::<Vec<_>>().join("\nhint: "));
    ExitCode::from(RUNNER_FAILED)
}
