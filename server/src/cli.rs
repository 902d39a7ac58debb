//! The command line of `auto-review-server`.
//!
//! Exit codes: 0 done; 1 it did not work; 2 the call or the settings are wrong. Results go to stdout, everything else to
//! stderr. A token is printed once, here, and nowhere else.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use protocol::{Printable, TenantId};
use reviewer::{InvalidSettings, Reviewer};
use thiserror::Error;

use crate::auth::{AuthError, make_token};
use crate::config::{Config, InvalidConfig, environment, key_file, log_filter};
use crate::desk::now;
use crate::eval::{EvalArguments, EvalError};
use crate::key::{KeyError, SigningKey};
use crate::serve::{ServeError, serve};
use crate::service::{OpenError, ServiceSettings};
use crate::show_prompt::PromptArguments;
use crate::store::StoreError;
use crate::store::sqlite::{OpenStoreError, SqliteStore};

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
  [limits]    in_flight_mib

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
    /// Makes, lists and revokes the tokens that callers need.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Shows the key that runners pin.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Judges labelled actions and prints how often it is right. Records nothing.
    Eval(EvalArguments),
    /// Prints the exact model request for one escalation. Sends nothing.
    Prompt(PromptArguments),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it. It is stored nowhere: only its SHA-256 is.
    Create {
        /// What it is for.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Lists the tokens, without what would let anybody in.
    List,
    /// Revokes a token. A running server refuses it within a second.
    Revoke {
        /// Its id, as `token list` shows it.
        id: String,
    },
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
    #[error("a token's name must have at most 64 characters, all visible")]
    TokenName,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    OpenStore(#[from] OpenStoreError),
    #[error(transparent)]
    Token(#[from] AuthError),
    #[error(transparent)]
    Serve(#[from] ServeError),
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
            | Self::NoToken
            | Self::UnknownToken(_)
            | Self::Eval(_)
            | Self::Request { .. }
            | Self::TokenName => ExitCode::from(2),
            Self::Key(_)
            | Self::Open(_)
            | Self::OpenStore(_)
            | Self::Token(_)
            | Self::Serve(_)
            | Self::Store(_)
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
            return ExitCode::from(printed.map_or(1, |()| usage));
        }
    };
    start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(execute(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            error.exit_code()
        }
    }
}

async fn execute(arguments: Arguments) -> Result<(), CommandError> {
    let listen = match &arguments.command {
        Command::Serve { listen } => *listen,
        Command::Token(_) | Command::Key(_) | Command::Eval(_) | Command::Prompt(_) => None,
    };
    let config = Config::read(arguments.config.as_deref(), listen)?;
    match arguments.command {
        Command::Serve { .. } => Ok(serve(service_settings(&config)?, config.listen).await?),
        Command::Token(command) => token(&config, command).await,
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
        Command::Prompt(arguments) => {
            let reviewer = Reviewer::new(&config.reviewer, &environment)?;
            print_line(&crate::show_prompt::show(&arguments, &reviewer)?)
        }
    }
}

fn service_settings(config: &Config) -> Result<ServiceSettings, CommandError> {
    let reviewer = Reviewer::new(&config.reviewer, &environment)?;
    Ok(ServiceSettings {
        database: config.database.clone(),
        signing_key: SigningKey::load_or_make(&key_file(&config.database))?,
        reviewer: Arc::new(reviewer),
        speaks_for_user: config.speaks_for_user.clone(),
        limits: config.limits,
    })
}

async fn token(config: &Config, command: TokenCommand) -> Result<(), CommandError> {
    let store = SqliteStore::open(&config.database).await?;
    let done = match command {
        TokenCommand::Create { name } => create_token(&store, name).await,
        TokenCommand::List => list_tokens(&store).await,
        TokenCommand::Revoke { id } => revoke_token(&store, &id).await,
    };
    store.close().await;
    done
}

async fn create_token(store: &SqliteStore, name: String) -> Result<(), CommandError> {
    if name.chars().count() > 64 || Printable(&name).to_string() != name {
        return Err(CommandError::TokenName);
    }
    let (text, token) = make_token(name)?;
    store.add_token(token).await?;
    print_line(text.reveal())
}

async fn list_tokens(store: &SqliteStore) -> Result<(), CommandError> {
    print_line("ID                                CREATED               STATE    NAME")?;
    for token in store.tokens(&TenantId::default()).await? {
        let state = if token.revoked_at.is_some() {
            "revoked"
        } else {
            "valid"
        };
        let created = token.created_at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let (id, name) = (token.id.as_str(), Printable(&token.name));
        print_line(&format!("{id:<32}  {created}  {state:<7}  {name}"))?;
    }
    Ok(())
}

async fn revoke_token(store: &SqliteStore, id: &str) -> Result<(), CommandError> {
    let tokens = store.tokens(&TenantId::default()).await?;
    let token = tokens.into_iter().find(|token| token.id.as_str() == id);
    let token = token.ok_or_else(|| CommandError::UnknownToken(Printable(id).to_string()))?;
    store.revoke_token(token.id, now()).await?;
    Ok(())
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
