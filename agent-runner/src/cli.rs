//! The command line: what was typed. What it means is [`crate::request`]'s business.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::SandboxPermissions;

use crate::config::{ApprovalPolicy, Overrides, SandboxMode};
use crate::walls::Effort;

mod spelling;
mod walls;

pub(crate) use spelling::{Platform, spelled};
pub(crate) use walls::{Doctor, Sandbox, TryFromInside};

/// Runs commands inside an operating-system sandbox, and takes what must leave it to a reviewer.
///
/// Exit status: the command's own; 125 the runner failed; 126 the action is not permitted (denied, timed out,
/// aborted, failed) or the program cannot be executed; 127 the program was not found.
#[derive(Debug, Parser)]
#[command(name = "agent-runner", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command inside the walls, or take it to the reviewer first.
    Exec(Exec),
    /// Run a command inside the walls, with nobody to ask: what the walls stop, stays stopped.
    Sandbox(Sandbox),
    /// Say which walls this host can put up, try them out, and say what would cure what is missing.
    Doctor(Doctor),
    /// Try what the walls must refuse.
    #[command(hide = true)]
    TryFromInside(TryFromInside),
    /// Say what `exec` would do with a command, by which rule, and in which walls. Nothing runs.
    Explain(Explain),
    /// Show what was reviewed, newest first.
    History(History),
    #[cfg(feature = "embedded")]
    /// Watch it work: nine real actions in a throw-away workspace, and the record of them.
    Demo(Demo),
}

/// The settings that every command that runs something takes.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Which walls stand.
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) sandbox: Option<SandboxModeArg>,
    /// When somebody is asked.
    #[arg(short = 'a', long, value_enum, value_name = "POLICY")]
    pub(crate) ask_for_approval: Option<ApprovalPolicyArg>,
    /// Set one key of `config.toml` for this run, for example `-c approvals_reviewer=auto_review`.
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
    /// Run with the walls that this host can put up, where it makes no namespaces; the report says which stood.
    #[arg(long)]
    pub(crate) best_effort: bool,
    /// The working directory and workspace, absolute [default: the current one].
    #[arg(long, short = 'C', value_name = "DIR")]
    pub(crate) cd: Option<PathBuf>,
}

/// `agent-runner exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) wish: WishArgs,
    /// Why, for the reviewer.
    #[arg(long, value_name = "TEXT")]
    pub(crate) justification: Option<String>,
    /// Pass standard input to an escalated command: at most 1 MiB, read whole and shown to the reviewer as a digest.
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Give the command a terminal of its own.
    #[arg(long)]
    pub(crate) tty: bool,
    /// Write a report of the run as JSON: to a file, or to an inherited descriptor by number.
    #[arg(long, value_name = "FILE|FD")]
    pub(crate) report: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Which walls the command wants moved.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WishArgs {
    /// Ask to leave the walls: the whole host as this user.
    #[arg(long, conflicts_with = "unconfined")]
    escalate: bool,
    /// Ask for no walls at all, for programs that namespaces break, such as sudo.
    #[arg(long)]
    unconfined: bool,
}

impl WishArgs {
    /// The permissions that the flags ask for.
    pub(crate) fn permissions(self) -> SandboxPermissions {
        match self {
            Self {
                unconfined: true, ..
            } => SandboxPermissions::RequireUnconfined,
            Self { escalate: true, .. } => SandboxPermissions::RequireEscalated,
            Self {
                escalate: false,
                unconfined: false,
            } => SandboxPermissions::UseDefault,
        }
    }
}

/// What the conversation was.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// The session that this run belongs to [env: `AUTO_REVIEW_SESSION`].
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// The turn in the session [env: `AUTO_REVIEW_TURN`].
    #[arg(long, value_name = "ID")]
    pub(crate) turn: Option<String>,
    /// What the user wants, in one text. Evidence: it cannot authorize by itself.
    #[arg(long, value_name = "TEXT", conflicts_with = "transcript")]
    pub(crate) intent: Option<String>,
    /// The conversation so far, one entry a line. Evidence: it cannot authorize by itself.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) transcript: Option<PathBuf>,
}

/// `agent-runner explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(flatten)]
    pub(crate) wish: WishArgs,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `agent-runner history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only reviews that stand so.
    #[arg(long, value_enum)]
    pub(crate) status: Option<StatusArg>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// As JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agent-runner demo`.
#[cfg(feature = "embedded")]
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep the throw-away folder, the database in it included.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// The names of the sandbox modes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SandboxModeArg {
    /// Read everything, write nothing but a private /tmp.
    ReadOnly,
    /// Write inside the workspace.
    WorkspaceWrite,
    /// No walls.
    DangerFullAccess,
}

/// The names of the approval policies that need no table.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ApprovalPolicyArg {
    /// Ask about everything but known-safe reads.
    Untrusted,
    /// Ask about what leaves the walls.
    OnRequest,
    /// Ask nobody.
    Never,
    /// An older name of on-request.
    OnFailure,
}

/// The names of the review statuses.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StatusArg {
    /// Not decided yet.
    Reviewing,
    /// The action could be done, once.
    Approved,
    /// Somebody said no.
    Denied,
    /// The deadline passed first.
    TimedOut,
    /// The question was taken back.
    Aborted,
    /// The review did not come off.
    Failed,
}

impl SettingsArgs {
    /// The layer that the command line is.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            sandbox: self.sandbox.map(|mode| match mode {
                SandboxModeArg::ReadOnly => SandboxMode::ReadOnly,
                SandboxModeArg::WorkspaceWrite => SandboxMode::WorkspaceWrite,
                SandboxModeArg::DangerFullAccess => SandboxMode::DangerFullAccess,
            }),
            approval: self.ask_for_approval.map(|policy| match policy {
                ApprovalPolicyArg::Untrusted => ApprovalPolicy::Untrusted,
                ApprovalPolicyArg::OnRequest => ApprovalPolicy::OnRequest,
                ApprovalPolicyArg::Never => ApprovalPolicy::Never,
                ApprovalPolicyArg::OnFailure => ApprovalPolicy::OnFailure,
            }),
            effort: if self.best_effort {
                Effort::Best
            } else {
                Effort::All
            },
            permissions_profile: None,
            values: self.config.clone(),
        }
    }
}

impl StatusArg {
    /// The status it names.
    pub(crate) fn status(self) -> protocol::ReviewStatus {
        match self {
            Self::Reviewing => protocol::ReviewStatus::Reviewing,
            Self::Approved => protocol::ReviewStatus::Approved,
            Self::Denied => protocol::ReviewStatus::Denied,
            Self::TimedOut => protocol::ReviewStatus::TimedOut,
            Self::Aborted => protocol::ReviewStatus::Aborted,
            Self::Failed => protocol::ReviewStatus::Failed,
        }
    }
}
