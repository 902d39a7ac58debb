//! The command lines of what is about the walls alone: `sandbox` and `doctor`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::SettingsArgs;
use super::spelling::Platform;
use crate::config::Overrides;

/// `agent-runner sandbox`.
#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
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
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
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
