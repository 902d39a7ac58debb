//! The command lines of what is about the walls alone: `sandbox` and `doctor`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::SettingsArgs;
use super::spelling::Platform;
use crate::config::{Escapes, Overrides};

/// `agent-runner sandbox`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags as they are typed; each is read once"
)]
pub(crate) struct Sandbox {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// The permission profile whose walls stand, whatever `sandbox_mode` says.
    #[arg(
        short = 'P',
        long,
        alias = "permission-profile",
        value_name = "NAME",
        conflicts_with = "sandbox"
    )]
    permissions_profile: Option<String>,
    /// Say on standard error, after the command's end, what the walls refused.
    #[arg(long)]
    pub(crate) log_denials: bool,
    /// Say it as JSON: one line on standard error with how the command ended, which walls stood and what they refused.
    #[arg(long)]
    pub(crate) json: bool,
    /// Whose walls: what `sandbox linux` and its like stand for.
    #[arg(long, hide = true, value_enum)]
    pub(crate) platform: Option<Platform>,
    /// Print the Seatbelt profile that says what the walls here say, for `sandbox macos`; nothing runs.
    #[arg(long, conflicts_with_all = ["log_denials", "json", "command"])]
    pub(crate) print_profile: bool,
    /// The command and its arguments.
    #[arg(
        required_unless_present = "print_profile",
        trailing_var_arg = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<OsString>,
}

impl Sandbox {
    /// The layer that the command line is.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            permissions_profile: self.permissions_profile.clone(),
            ..self.settings.overrides()
        }
    }
}

/// What is done with what a command prints, where no terminal is attached.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Pass no more than this on of what the command prints, standard output and error together; the rest is thrown away
    /// and counted. A stream that is a terminal is left alone.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_output: Option<u64>,
    /// Spell characters out that steer a terminal, and take colours out. A stream that is a terminal is left alone.
    #[arg(long)]
    filter_escapes: bool,
}

impl OutputArgs {
    /// What was said of escapes.
    pub(crate) fn escapes(&self) -> Option<Escapes> {
        self.filter_escapes.then_some(Escapes::SpelledOut)
    }
}

/// `agent-runner doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `doctor` starts of this program behind a door.
#[derive(Debug, Args)]
pub(crate) struct TryTheDoor {
    /// A listener of the host, to be reached.
    pub(crate) connect: SocketAddr,
}

/// What `doctor` starts of this program inside the walls.
#[derive(Debug, Args)]
pub(crate) struct TryFromInside {
    /// A file outside, to be written.
    pub(crate) write: PathBuf,
    /// A denied file, to be read.
    pub(crate) read: PathBuf,
    /// A listener of the host, to be reached.
    pub(crate) connect: SocketAddr,
}
