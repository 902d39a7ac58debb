//! The command line: what was typed. What it means is [`crate::request`]'s business.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::SandboxPermissions;

use crate::config::{ApprovalPolicy, ApprovalsReviewer, Overrides, SandboxMode, WebSearch};
use crate::walls::Effort;

mod parse;
mod permissions;
mod proxy;
mod spelling;
mod walls;

pub(crate) use parse::{parse, starts_inside};
pub(crate) use permissions::RequestPermissions;
pub(crate) use proxy::{ProxyArgs, ProxyCommand};
pub(crate) use spelling::{Platform, spelled};
pub(crate) use walls::{Doctor, OutputArgs, Sandbox, TryFromInside, TryTheDoor};

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
    /// Try what the network's door must refuse.
    #[command(hide = true)]
    TryTheDoor(TryTheDoor),
    /// Say what `exec` would do with a command, by which rule, and in which walls. Nothing runs.
    Explain(Explain),
    /// Change files by a patch in the agents' format, inside the walls; outside the workspace it is asked.
    ApplyPatch(ApplyPatch),
    /// Ask for more permissions for the rest of a turn or session.
    RequestPermissions(RequestPermissions),
    /// Say that a folder is trusted, or not.
    Trust(TrustArgs),
    /// Say what stands in this folder: trust, walls, workspace, who is asked, and why.
    Status(Status),
    /// Show or check the settings.
    Config(ConfigArgs),
    /// Hold a command against the command rules.
    Rules(RulesArgs),
    /// Hold a host against the rules of the network's door.
    Proxy(ProxyArgs),
    /// Show what was reviewed, newest first.
    History(History),
    #[cfg(feature = "embedded")]
    /// Watch it work: twelve real actions in a throw-away workspace, and the record of them.
    Demo(Demo),
}

/// The settings that every command that runs something takes.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Which walls stand.
    #[arg(short = 's', long, value_enum, value_name = "MODE")]
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
    #[command(flatten)]
    pub(crate) presets: PresetArgs,
}

/// Settings under a name, and what goes with them.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags as they are typed; `overrides` makes values of them"
)]
pub(crate) struct PresetArgs {
    /// The profile: `NAME.config.toml` in `CODEX_HOME`, or `[profiles.NAME]` in `config.toml`.
    #[arg(short = 'p', long, value_name = "NAME")]
    profile: Option<String>,
    /// One more folder that may be written, where the workspace may.
    #[arg(long, value_name = "DIR")]
    add_dir: Vec<PathBuf>,
    /// Live web search for the agent: `web_search = "live"`.
    #[arg(long)]
    search: bool,
    /// Turn a feature on: `-c features.NAME=true`.
    #[arg(long, value_name = "NAME")]
    enable: Vec<String>,
    /// Turn a feature off: `-c features.NAME=false`.
    #[arg(long, value_name = "NAME")]
    disable: Vec<String>,
    /// The reviewer decides: `workspace-write`, `on-request`, `auto_review`.
    #[arg(long, conflicts_with_all = ["sandbox", "ask_for_approval"])]
    approve_for_me: bool,
    /// No walls and nobody is asked: `danger-full-access` and `never`.
    #[arg(
        long,
        alias = "yolo",
        conflicts_with_all = ["sandbox", "ask_for_approval", "approve_for_me"]
    )]
    dangerously_bypass_approvals_and_sandbox: bool,
    /// An older name for `--sandbox workspace-write --ask-for-approval on-request`.
    #[arg(
        long,
        hide = true,
        conflicts_with = "dangerously_bypass_approvals_and_sandbox"
    )]
    full_auto: bool,
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
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Write a report of the run as JSON: to a file, or to an inherited descriptor by number.
    #[arg(long, value_name = "FILE|FD")]
    pub(crate) report: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Which walls the command wants moved.
#[derive(Debug, Clone, Args)]
pub(crate) struct WishArgs {
    /// Ask to leave the walls: the whole host as this user.
    #[arg(long, conflicts_with_all = ["unconfined", "additional_permissions"])]
    escalate: bool,
    /// Ask for no walls at all, for programs that namespaces break, such as sudo.
    #[arg(long, conflicts_with = "additional_permissions")]
    unconfined: bool,
    /// Ask for exactly these paths and this network beside what the walls allow, as JSON:
    /// `{"file_system":{"read":[…],"write":[…]},"network":{"enabled":true}}`.
    #[arg(long, value_name = "JSON")]
    pub(crate) additional_permissions: Option<String>,
}

impl WishArgs {
    /// The permissions that the flags ask for.
    pub(crate) fn permissions(&self) -> SandboxPermissions {
        match (self.unconfined, self.escalate, &self.additional_permissions) {
            (true, _, _) => SandboxPermissions::RequireUnconfined,
            (false, true, _) => SandboxPermissions::RequireEscalated,
            (false, false, Some(_)) => SandboxPermissions::WithAdditionalPermissions,
            (false, false, None) => SandboxPermissions::UseDefault,
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
    /// Explain every row of a table instead: `[[row]]` with `config` (TOML text) and `command` (words, or a script).
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["command", "tool"])]
    pub(crate) matrix: Option<PathBuf>,
    /// Explain the call of a tool instead: `SERVER/TOOL`, `app:ID/TOOL`, or `web_search`.
    #[arg(long, value_name = "TOOL", conflicts_with = "command")]
    pub(crate) tool: Option<String>,
    /// The tool's annotations, as JSON: `{"readOnlyHint":true,"destructiveHint":false,"openWorldHint":false}`.
    #[arg(long, value_name = "JSON", requires = "tool", default_value = "{}")]
    pub(crate) annotations: String,
    /// The command and its arguments.
    #[arg(required_unless_present_any = ["matrix", "tool"], last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `agent-runner apply-patch`.
#[derive(Debug, Args)]
pub(crate) struct ApplyPatch {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    /// Apply it here and now, without a question: what the runner does inside the walls.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    /// Say what would happen; nothing is changed and nobody is asked.
    #[arg(long)]
    pub(crate) explain: bool,
    /// The patch; without it, standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// `agent-runner trust`.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// It is not trusted.
    #[arg(long)]
    pub(crate) untrusted: bool,
    /// The folder [default: the project around the current one].
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// `agent-runner status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agent-runner config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show what is in force.
    Show(ConfigShow),
    /// Read every layer and say what is wrong.
    Check(ConfigCheck),
}

/// `agent-runner config show`.
#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// With the layer that each value came from.
    #[arg(long)]
    pub(crate) origin: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agent-runner config check`.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// `agent-runner rules`.
#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: RulesCommand,
}

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Show which rules a command hits, with file and line.
    Check(RulesCheck),
    /// Show the rules that would let a command run without asking, narrowest first.
    Propose(RulesPropose),
    /// Write one of these into your own rules: `rules/default.rules` in `CODEX_HOME`.
    Allow(RulesAllow),
}

/// `agent-runner rules propose`.
#[derive(Debug, Args)]
pub(crate) struct RulesPropose {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `agent-runner rules allow`.
#[derive(Debug, Args)]
pub(crate) struct RulesAllow {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Which of the rules that `rules propose` shows, from 1.
    #[arg(long, value_name = "N")]
    pub(crate) choice: usize,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `agent-runner rules check`.
#[derive(Debug, Args)]
pub(crate) struct RulesCheck {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Only these files, instead of the rules in force.
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Vec<PathBuf>,
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
        let flags = Overrides {
            sandbox: self.sandbox.map(SandboxModeArg::mode),
            approval: self.ask_for_approval.map(ApprovalPolicyArg::policy),
            effort: if self.best_effort {
                Effort::Best
            } else {
                Effort::All
            },
            permissions_profile: None,
            values: self.config.clone(),
            ..Overrides::default()
        };
        self.presets.over(flags)
    }
}

impl PresetArgs {
    /// `flags`, with what these flags stand for.
    fn over(&self, mut flags: Overrides) -> Overrides {
        flags.profile.clone_from(&self.profile);
        flags.add_dirs.clone_from(&self.add_dir);
        flags.web_search = self.search.then_some(WebSearch::Live);
        for (names, on) in [(&self.enable, true), (&self.disable, false)] {
            let values = names.iter().map(|name| format!("features.{name}={on}"));
            flags.values.extend(values);
        }
        if self.approve_for_me || self.full_auto {
            flags.sandbox = flags.sandbox.or(Some(SandboxMode::WorkspaceWrite));
            flags.approval = flags.approval.or(Some(ApprovalPolicy::OnRequest));
        }
        if self.approve_for_me {
            flags.reviewer = Some(ApprovalsReviewer::AutoReview);
        }
        if self.full_auto {
            flags.notes.push(
                "`--full-auto` is an older name; say `--sandbox workspace-write --ask-for-approval on-request`".to_owned(),
            );
        }
        if self.dangerously_bypass_approvals_and_sandbox {
            flags.sandbox = Some(SandboxMode::DangerFullAccess);
            flags.approval = Some(ApprovalPolicy::Never);
        }
        if flags.approval == Some(ApprovalPolicy::OnFailure) {
            flags
                .notes
                .push("`on-failure` is an older name of `on-request`".to_owned());
        }
        flags
    }
}

impl SandboxModeArg {
    fn mode(self) -> SandboxMode {
        match self {
            Self::ReadOnly => SandboxMode::ReadOnly,
            Self::WorkspaceWrite => SandboxMode::WorkspaceWrite,
            Self::DangerFullAccess => SandboxMode::DangerFullAccess,
        }
    }
}

impl ApprovalPolicyArg {
    fn policy(self) -> ApprovalPolicy {
        match self {
            Self::Untrusted => ApprovalPolicy::Untrusted,
            Self::OnRequest => ApprovalPolicy::OnRequest,
            Self::Never => ApprovalPolicy::Never,
            Self::OnFailure => ApprovalPolicy::OnFailure,
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
