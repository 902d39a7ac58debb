//! From settings to the sandbox's policy: which walls stand around a command, and what it may never touch.

use std::path::{Path, PathBuf};

use sandbox::{InvalidPolicy, Network, PrivateTmp, SandboxPolicy};
use thiserror::Error;

use crate::config::{Environment, SandboxMode, Settings};

/// Why no walls can be built around this workspace.
#[derive(Debug, Error)]
pub(crate) enum WallsError {
    /// The workspace is too much to hand out.
    #[error("`{}` cannot be a workspace: it is {what}\nhint: start in a project's own folder, or name one with --cd", path.display())]
    Workspace {
        /// The folder.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The sandbox refuses the policy.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
}

/// The folders that a command may write under `settings`: the workspace first.
pub(crate) fn writable_roots(settings: &Settings, cwd: &Path) -> Vec<PathBuf> {
    match settings.sandbox {
        SandboxMode::WorkspaceWrite => {
            let named = settings.workspace_write.writable_roots.iter();
            let resolved = named.map(|root| root.canonicalize().unwrap_or_else(|_| root.clone()));
            std::iter::once(cwd.to_owned()).chain(resolved).collect()
        }
        SandboxMode::ReadOnly | SandboxMode::DangerFullAccess => Vec::new(),
    }
}

/// The policy under which a command in `cwd` runs without anybody's leave.
///
/// # Errors
/// The workspace is `/` or the home folder, or the sandbox refuses it.
pub(crate) fn policy(
    settings: &Settings,
    environment: &Environment,
    cwd: &Path,
    never_touch: &[PathBuf],
) -> Result<SandboxPolicy, WallsError> {
    refuse_workspace(environment, cwd)?;
    let mut builder = match settings.sandbox {
        SandboxMode::ReadOnly | SandboxMode::DangerFullAccess => {
            SandboxPolicy::read_only().readable(cwd)
        }
        SandboxMode::WorkspaceWrite => {
            let writable = &settings.workspace_write;
            let network = if writable.network_access {
                Network::Full
            } else {
                Network::Off
            };
            let tmp = if writable.exclude_slash_tmp {
                PrivateTmp::Excluded
            } else {
                PrivateTmp::Fresh
            };
            let builder = SandboxPolicy::workspace_write(cwd)
                .network(network)
                .private_tmp(tmp);
            writable
                .writable_roots
                .iter()
                .fold(builder, |builder, root| builder.root(root))
        }
    };
    for path in never_touch {
        builder = builder.hide(path);
    }
    for path in never_change(environment) {
        builder = builder.keep(path);
    }
    Ok(builder.build()?)
}

fn refuse_workspace(environment: &Environment, cwd: &Path) -> Result<(), WallsError> {
    let home = environment
        .home
        .canonicalize()
        .unwrap_or_else(|_| environment.home.clone());
    let what = if cwd == Path::new("/") {
        "the root of the file system"
    } else if cwd == home {
        "your home folder"
    } else if home.starts_with(cwd) {
        "a folder around your home folder"
    } else if holds_settings(&home, cwd) {
        "a hidden folder of your home folder, which holds settings or programs"
    } else {
        return Ok(());
    };
    Err(WallsError::Workspace {
        path: cwd.to_owned(),
        what,
    })
}

/// What a command may see and never change, an approved escalation included (design D16): this program and what steers it.
fn never_change(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let program = std::env::current_exe().ok();
    let settings =
        ["config.toml", "agent-runner.toml", "rules"].map(|name| environment.codex_home.join(name));
    program
        .into_iter()
        .chain(settings)
        .filter(|path| path.exists())
}

/// Whether `cwd` lies where settings, credentials and programs of the person's own lie. Work trees that tools keep there
/// are work.
fn holds_settings(home: &Path, cwd: &Path) -> bool {
    let Ok(below) = cwd.strip_prefix(home) else {
        return false;
    };
    let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
    let hidden = names
        .first()
        .is_some_and(|name| name.starts_with('.') || name == "bin");
    let work = names.iter().any(|name| name == "worktrees")
        || names.first().is_some_and(|name| name == ".cache");
    hidden && !work
}

/// What no command may touch in any plan that has walls (design D16).
pub(crate) fn never_touch(
    settings: &Settings,
    environment: &Environment,
    state: &Path,
) -> Vec<PathBuf> {
    let mut paths = vec![
        state.to_owned(),
        // Where a server of this user keeps its record and key, whatever the runner's own folder is.
        environment.state_dir.clone(),
        environment.codex_home.join("auth.json"),
    ];
    if let Some(server) = &settings.runner.server {
        paths.push(server.token_file.clone());
    }
    #[cfg(feature = "embedded")]
    paths.extend(
        settings
            .runner
            .reviewer
            .model
            .iter()
            .filter_map(|model| model.api_key_file.clone()),
    );
    paths
}
