//! The flags of `request-permissions`.

use clap::{Args, ValueEnum};
use protocol::PermissionScope;

use super::{ContextArgs, SettingsArgs};

/// `agent-runner request-permissions`.
#[derive(Debug, Args)]
pub(crate) struct RequestPermissions {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    /// What is asked for, as JSON: `{"file_system":{"read":[…],"write":[…]},"network":{"enabled":true}}`.
    #[arg(long, value_name = "JSON", required_unless_present = "end")]
    pub(crate) permissions: Option<String>,
    /// How long it is to last.
    #[arg(long, value_enum, default_value = "turn")]
    pub(crate) scope: ScopeArg,
    /// Why, for the reviewer.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// End what was given to this session in this workspace.
    #[arg(long, conflicts_with_all = ["permissions", "reason"])]
    pub(crate) end: bool,
}

/// The names of the scopes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ScopeArg {
    /// Until the turn ends.
    Turn,
    /// Until the session ends.
    Session,
}

impl ScopeArg {
    /// The scope it names.
    pub(crate) fn scope(self) -> PermissionScope {
        match self {
            Self::Turn => PermissionScope::Turn,
            Self::Session => PermissionScope::Session,
        }
    }
}
