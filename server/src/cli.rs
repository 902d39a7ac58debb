//! The command line of `auto-review-server`.
//!
//! Exit codes: 0 done; 1 it did not work; 2 the call or the settings are wrong. Results go to stdout, everything else to
//! stderr. A token is printed once, here, and nowhere else.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use protocol::{InvalidTenantId, ReviewId, TenantId};
use reviewer::{InvalidSettings, Reviewer};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use thiserror::Error;

use crate::auth::AuthError;
use crate::config::{Config, InvalidConfig, environment, key_file, log_filter};
use crate::eval::{EvalArguments, EvalError};
use crate::key::{KeyError, SigningKey};
use crate::policies::PolicyError;
use crate::serve::{ServeError, serve};
use crate::service::{OpenError, ServiceSettings};
use crate::show_prompt::PromptArguments;
use crate::store::StoreError;
use crate::store::sqlite::OpenStoreError;

mod api_client;
mod audit;
mod existing;
mod keeping;
mod network;
mod people;
mod policy;
mod policy_change;
mod tenant;
mod token;
mod webhook;

use audit::{Shape, Shown, Which};
use keeping::{KeepingCommand, keeping};
use network::{WhichNetwork, network};
use people::{PeopleCommand, people};
use policy::{PolicyCommand, policy};
use tenant::{TenantCommand, tenant};
use token::{TokenCommand, token};
use webhook::{WebhookCommand, webhook};

/// Reviews what coding agents want to do outside their sandbox, and keeps the record.
#[derive(Debug, Parser)]
#[command(name = "auto-review-server", version, after_help = AFTER_HELP)]
struct Arguments {
    /// The settings file. Without it: the built-in reviewer, a database under `$XDG_STATE_HOME/auto-review`.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
First start:
  auto-review-server token create --name laptop    prints a token, once
  auto-review-server key show                      prints the key that runners pin
  auto-review-server serve                         prints `listening on http://…` when it is ready

Settings (auto-review-server.toml):
  listen = \"127.0.0.1:8790\"
  database_url = \"sqlite:/var/lib/auto-review/reviews.db\"
  assert_user = []                                 channels that may mark text as the user's
  [reviewer]  deadline_secs, built_in_allow, [[reviewer.model]]
  [policy]    section_file, mode
  [shadow]    at_once, [shadow.reviewer]
  [tenants.NAME.reviewer], [tenants.NAME.policy]   the same for one tenant
  [limits]    in_flight_mib, models_at_once, reviews_per_minute_per_token, reviews_per_minute_per_tenant
  [retention] payload_days, verdict_days
  [people]    approvals, deadline_secs
  [webhooks]  allowed_hosts, ca_file, attempts, first_pause_ms
  [otel]      environment, exporter, trace_exporter, metrics_exporter, log_guardian_assessments

Environment: AUTO_REVIEW_LOG (for example `info`), and the variables that `api_key_env` names.
Exit codes: 0 done, 1 it did not work, 2 the call or the settings are wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the API until SIGTERM or SIGINT, then ends what is open and stops.
    Serve {
        /// Where to listen; port 0 takes a free one. Wins over the settings file.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Makes, lists, replaces and revokes the tokens that callers need.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Makes and lists tenants: teams whose reviews, tokens and policies are kept apart.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Shows the key that runners pin.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Judges labelled actions and prints how often it is right. Records nothing.
    Eval(EvalArguments),
    /// Prints the OpenAPI document of the API.
    Openapi,
    /// Prints the exact model request for one escalation. Sends nothing.
    Prompt(PromptArguments),
    /// Lists reviews, newest first.
    History {
        #[command(flatten)]
        which: Which,
        /// How many at most, 1 to 10,000.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists what the network doors of runners decided while commands ran, newest first.
    Network(WhichNetwork),
    /// Shows everything on record about one review, as JSON.
    Show {
        /// Its id.
        id: ReviewId,
        /// Whose it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Writes reviews to standard output, newest first, for other programs.
    Export {
        #[command(flatten)]
        which: Which,
        /// The shape of a line.
        #[arg(long, value_enum, default_value_t = Shape::Jsonl)]
        format: Shape,
    },
    /// Sums up the reviews that ended, by whole hours.
    Stats {
        #[command(flatten)]
        which: Which,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keeps, compares and tries policies, and says which one judges.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Says who is told what happens, at a running server.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    #[command(flatten)]
    Keeping(KeepingCommand),
    #[command(flatten)]
    People(PeopleCommand),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Prints the public key, and makes the pair where there is none yet.
    Show,
}

/// Why the program did not do it.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("the reviewer's settings are not valid")]
    Reviewer(#[from] InvalidSettings),
    #[error("there is no token, so nobody could call\nhint: `auto-review-server token create`")]
    NoToken,
    #[error("there is no token `{0}`\nhint: `auto-review-server token list`")]
    UnknownToken(String),
    #[error("there is no tenant `{}`\nhint: `auto-review-server tenant create {}`", .0.as_str(), .0.as_str())]
    UnknownTenant(TenantId),
    #[error("there is a tenant `{}` already", .0.as_str())]
    KnownTenant(TenantId),
    #[error(transparent)]
    Tenant(#[from] InvalidTenantId),
    #[error("{0} must have at most 64 characters, all visible")]
    Name(&'static str),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    OpenStore(#[from] OpenStoreError),
    #[error("there is no database `{}`\nhint: say which with `--config FILE`; `auto-review-server token create` begins a new one", .0.display())]
    NoDatabase(PathBuf),
    #[error("the signing key `{}` is missing, so that nothing signed can be checked\nhint: put it back from where the backup is; where none was ever made, `auto-review-server key show` makes one", .0.display())]
    NoKey(PathBuf),
    #[error(transparent)]
    Token(#[from] AuthError),
    #[error("otel: {0}")]
    Otel(#[from] telemetry::InvalidOtel),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("sums are kept by hours: only --since and --until narrow them")]
    OnlyTimes,
    #[error("there is no review `{0}`")]
    UnknownReview(ReviewId),
    #[error("the record of `{}` does not hold: line {seq}: {what}", .tenant.as_str())]
    Broken {
        tenant: TenantId,
        seq: i64,
        what: String,
    },
    #[error("`{}`{}: {problem}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Heads {
        path: PathBuf,
        line: Option<usize>,
        problem: String,
    },
    #[error("`{}`: {problem}", path.display())]
    Candidate { path: PathBuf, problem: String },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("`{}` sets `[reviewer]`, and only a policy can be put in force here\nhint: models and limits are the server's settings", .0.display())]
    OnlyPolicy(PathBuf),
    #[error("`{0}` does not wait for a person\nhint: `auto-review-server queue`")]
    NotWaiting(ReviewId),
    #[error(
        "`--digest` is not what waits: it is `{0}`\nhint: look at the action again before you answer"
    )]
    OtherDigest(String),
    #[error(
        "`--digest` must be `sha256:` and 12 digits at least, as `auto-review-server queue` shows it"
    )]
    ShortDigest,
    #[error("cannot read the token")]
    TokenFile(#[source] crate::private_files::NotPrivate),
    #[error("the token file holds no token")]
    NoTokenInFile,
    #[error(
        "the server at `{0}` could not be asked: {1}\nhint: is it running? `--server URL` names another"
    )]
    Unreachable(String, String),
    #[error("`--reason` must have 1 to 1000 characters")]
    Reason,
    #[error("a webhook is named by letters and digits\nhint: `auto-review-server webhook list`")]
    NoWebhook,
    #[error("no denied review is named\nhint: `auto-review-server leave --help`")]
    NothingSaid,
    #[error("no policy is named\nhint: `--revision REVISION` or `--with FILE`")]
    NothingNamed,
    #[error("the server refused: {detail} (`{code}`)")]
    RefusedByServer { code: String, detail: String },
    #[error("`--before` must lie in the past")]
    NotPast,
    #[error("the store failed: {0}")]
    Store(String),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error("`{}` is no request: {problem}", path.display())]
    Request { path: PathBuf, problem: String },
    #[error("the action cannot be shown to a model")]
    Prompt(#[source] reviewer::PromptError),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Reviewer(_)
            | Self::Otel(_)
            | Self::NoToken
            | Self::UnknownToken(_)
            | Self::Eval(_)
            | Self::Request { .. }
            | Self::UnknownTenant(_)
            | Self::NoDatabase(_)
            | Self::NoKey(_)
            | Self::KnownTenant(_)
            | Self::Tenant(_)
            | Self::OnlyTimes
            | Self::NotPast
            | Self::Candidate { .. }
            | Self::OnlyPolicy(_)
            | Self::Reason
            | Self::NothingNamed
            | Self::NothingSaid
            | Self::NoWebhook
            | Self::Policy(
                PolicyError::Unknown(_)
                | PolicyError::Invalid(_)
                | PolicyError::WithoutBody(_)
                | PolicyError::NotChanged(_),
            )
            | Self::NoTokenInFile
            | Self::OtherDigest(_)
            | Self::ShortDigest
            | Self::Heads { .. }
            | Self::Name(_) => ExitCode::from(2),
            Self::Key(_)
            | Self::Open(_)
            | Self::OpenStore(_)
            | Self::Token(_)
            | Self::Serve(_)
            | Self::UnknownReview(_)
            | Self::NotWaiting(_)
            | Self::TokenFile(_)
            | Self::Unreachable(..)
            | Self::RefusedByServer { .. }
            | Self::Broken { .. }
            | Self::Store(_)
            | Self::Policy(PolicyError::Store(_) | PolicyError::NotBelieved(_))
            | Self::Runtime(_)
            | Self::Prompt(_)
            | Self::Output(_) => ExitCode::from(1),
        }
    }
}

/// Runs the program with this process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let printed = error.print();
            let usage = u8::try_from(error.exit_code()).unwrap_or(2);
            return match printed {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(1),
                Ok(()) | Err(_) => ExitCode::from(usage),
            };
        }
    };
    start_logging();
    stay_out_of_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(execute(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has read enough: `… | head`.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&error);
            error.exit_code()
        }
    }
}

/// Keeps this program's memory, which holds the signing key and the models' keys, out of core files, and from being traced by
/// other programs of the same user: `PR_SET_DUMPABLE`, prctl(2).
fn stay_out_of_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this program's memory, keys and all, may stand in a core file if it crashes");
    }
}

impl Command {
    /// The address that stands on the command line.
    fn listen(&self) -> Option<SocketAddr> {
        if let Self::Serve { listen } = self {
            *listen
        } else {
            None
        }
    }
}

async fn execute(arguments: Arguments) -> Result<(), CommandError> {
    let config = Config::read(arguments.config.as_deref(), arguments.command.listen())?;
    match arguments.command {
        Command::Serve { .. } => serve(service_settings(&config)?, &config).await,
        Command::Token(command) => token(&config, command).await,
        Command::Tenant(command) => tenant(&config, command).await,
        Command::Key(KeyCommand::Show) => {
            let key = SigningKey::load_or_make(&key_file(&config.database))?;
            print_line(&key.server_key().to_string())
        }
        Command::Eval(arguments) => {
            let reviewer = |cassette: Option<&reviewer::Cassette>| {
                Ok(Reviewer::with_cassette(
                    &config.reviewer,
                    &environment,
                    cassette,
                )?)
            };
            print_line(&crate::eval::run(&arguments, reviewer).await?)
        }
        Command::Openapi => print_line(&described()?),
        Command::Prompt(arguments) => {
            let reviewer = Reviewer::new(&config.reviewer, &environment)?;
            print_line(&crate::show_prompt::show(&arguments, &reviewer)?)
        }
        Command::History { which, limit, json } => {
            audit::history(&config, which, limit, Shown::of(json)).await
        }
        Command::Network(which) => network(&config, which).await,
        Command::Show { id, tenant } => audit::show(&config, &tenant, id).await,
        Command::Export { which, format } => audit::export(&config, which, format).await,
        Command::Stats { which, json } => audit::stats(&config, which, Shown::of(json)).await,
        Command::Policy(command) => policy(&config, command).await,
        Command::Webhook(command) => webhook(&config, command).await,
        Command::Keeping(command) => keeping(&config, command).await,
        Command::People(command) => people(&config, command).await,
    }
}

fn described() -> Result<String, CommandError> {
    serde_json::to_string_pretty(&crate::router::described())
        .map_err(|error| CommandError::Output(error.into()))
}

fn service_settings(config: &Config) -> Result<ServiceSettings, CommandError> {
    let reviewer = Reviewer::new(&config.reviewer, &environment)?;
    let mut tenants = BTreeMap::new();
    for (tenant, settings) in &config.tenants {
        let reviewer = Reviewer::new(settings, &environment)?;
        tenants.insert(tenant.clone(), Arc::new(reviewer));
    }
    Ok(ServiceSettings {
        database: config.database.clone(),
        signing_key: SigningKey::load_or_make(&key_file(&config.database))?,
        reviewer: Arc::new(reviewer),
        tenants,
        speaks_for_user: config.speaks_for_user.clone(),
        limits: config.limits,
    })
}

pub(crate) fn print_line(line: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(CommandError::Output)
}

/// Tells the whole chain of causes. Where stderr is gone there is nobody to tell.
fn report(error: &CommandError) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncaused by: {error}"));
        cause = error.source();
    }
    writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter())
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .finish();
    // A subscriber that is set already belongs to a host program and stays.
    tracing::subscriber::set_global_default(logger).unwrap_or_default();
}
