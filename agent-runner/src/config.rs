//! What the runner is set to: the one reader of the environment and of the settings files.
//!
//! Raw text becomes valid values here and nowhere else (design D2). Invariant: what would widen trust comes from the
//! user's own files, the managed file or the command line; a project's file only narrows; a key that asks for a wall
//! which does not stand refuses instead of being skipped.

mod codex;
mod environment;
mod error;
mod evidence;
mod features;
mod layers;
mod limits;
mod network;
mod permissions;
mod profile;
mod requirements;
mod rules;
mod runner;
mod shared_file;
mod shell_environment;
mod show;
mod trust;

#[cfg(test)]
pub(crate) use codex::Granular;
pub(crate) use codex::{ApprovalPolicy, ApprovalsReviewer, SandboxMode, WebSearch, WorkspaceWrite};
pub(crate) use environment::Environment;
pub(crate) use evidence::EvidenceLimits;
pub(crate) use features::Feature;
pub(crate) use layers::{Overrides, Settings};
pub(crate) use limits::{Escapes, OutputLimits};
pub(crate) use permissions::{Access, Grants, Places, Profile, Reads, Tmp};
pub(crate) use runner::{Fallback, OnEnd, RemoteServer};
pub(crate) use shell_environment::{Inherit, SecretNames, ShellEnvironment};
pub(crate) use show::ShownSetting;
pub(crate) use trust::{Trust, project_root, with_trust};

/// `[shell_environment_policy]` from its text.
#[cfg(test)]
pub(crate) fn shell_environment(text: &str) -> Result<ShellEnvironment, String> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let mut policy = ShellEnvironment::default();
    policy
        .apply(&table.into(), "f")
        .map_err(|error| error.to_string())?;
    Ok(policy)
}
