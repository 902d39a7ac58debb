//! `agent-runner proxy`: what was typed.

use clap::{Args, Subcommand};

use super::SettingsArgs;

/// `agent-runner proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ProxyCommand,
}

/// What to do about the network's door.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Say what the door would do with a host, by which rule. Nothing is connected to; only an allowed name is looked up.
    Check(ProxyCheck),
}

/// `agent-runner proxy check`.
#[derive(Debug, Args)]
pub(crate) struct ProxyCheck {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// A name or an address; without a port, 443.
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) host: String,
}
