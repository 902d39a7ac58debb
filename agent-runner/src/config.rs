//! What the runner is set to: the one reader of the environment and of the settings files.
//!
//! Raw text becomes valid values here and nowhere else (design D2). Invariant: what would widen trust comes from the
//! user's own files, the managed file or the command line; a project's file only narrows; a key that asks for a wall
//! which does not stand refuses instead of being skipped.

mod codex;
mod environment;
mod error;
mod layers;
mod profile;
mod requirements;
mod rules;
mod runner;
mod shared_file;
mod show;
mod trust;

#[cfg(test)]
pub(crate) use codex::Granular;
pub(crate) use codex::{ApprovalPolicy, ApprovalsReviewer, SandboxMode, WebSearch, WorkspaceWrite};
pub(crate) use environment::Environment;
pub(crate) use layers::{Overrides, Settings};
pub(crate) use runner::{Fallback, OnEnd, RemoteServer};
pub(crate) use show::ShownSetting;
pub(crate) use trust::{Trust, project_root, with_trust};
