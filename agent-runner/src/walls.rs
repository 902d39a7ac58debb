//! From settings to the sandbox's policy: which walls stand around a command, and what it may never touch.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use network_proxy::Routing;
use protocol::AbsolutePath;
use sandbox::{InvalidPolicy, Network, PolicyBuilder, PrivateTmp, SandboxPolicy};
use thiserror::Error;

use crate::config::{Environment, SandboxMode, Settings};

mod effort;
mod profile;

pub(crate) use effort::{Effort, Standing};

/// The settings in `$CODEX_HOME`.
const STEERING_FILES: [&str; 2] = ["config.toml", "agent-runner.toml"];
/// The folder of rules beside them.
const RULES: &str = "rules";

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
    /// The profile leaves the command no folder to stand in.
    #[error("the permission profile does not open the working directory `{}`\nhint: give it access: `\":workspace_roots\" = {{ \".\" = \"write\" }}`", .0.display())]
    Shut(PathBuf),
    /// The sandbox refuses the policy.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
}

/// The folders that a command may write under `settings`: the workspace first.
pub(crate) fn writable_roots(
    settings: &Settings,
    environment: &Environment,
    cwd: &Path,
) -> Vec<PathBuf> {
    if let Some(profile) = &settings.profile {
        return profile::writable_roots(&profile::grants(profile, settings, environment, cwd));
    }
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
    standing: &Standing,
) -> Result<SandboxPolicy, WallsError> {
    refuse_workspace(environment, cwd)?;
    let mut builder = match &settings.profile {
        Some(profile) => {
            profile::builder(&profile::grants(profile, settings, environment, cwd), cwd)?
        }
        None => by_mode(settings, cwd),
    };
    builder = builder
        .limits(settings.runner.limits.used)
        .network(network(settings.routing()))
        .granted_network(network(settings.routing_by_grant()));
    if let Standing::Reduced(tmp) = standing {
        builder = builder.private_tmp(PrivateTmp::Session(tmp.path().to_owned()));
    }
    // The runner's own folder comes first of what no command may touch.
    if let Some(state) = never_touch.first() {
        builder = builder.remember_in(state);
    }
    for path in never_touch {
        builder = builder.hide(path);
    }
    builder = settings
        .denied_reads
        .iter()
        .fold(builder, |builder, denied| {
            deny(builder, denied, environment, cwd)
        });
    for path in never_change(environment) {
        builder = builder.keep(path);
    }
    Ok(builder.build()?)
}

/// What a way out is to the sandbox.
fn network(routing: Routing) -> Network {
    match routing {
        Routing::Off => Network::Off,
        Routing::Door => Network::Door,
        Routing::Direct => Network::Full,
    }
}

/// What the administrator lets no command read: a path, or a pattern below its first folders, below the workspace where it
/// names none.
fn deny(
    builder: PolicyBuilder,
    denied: &str,
    environment: &Environment,
    cwd: &Path,
) -> PolicyBuilder {
    let whole = cwd.join(environment.expand_home(Path::new(denied)));
    let is_pattern = |part: &std::path::Component<'_>| {
        part.as_os_str()
            .to_string_lossy()
            .contains(['*', '?', '[', '{'])
    };
    let base: PathBuf = whole
        .components()
        .take_while(|part| !is_pattern(part))
        .collect();
    match whole.strip_prefix(&base) {
        Ok(pattern) if !pattern.as_os_str().is_empty() => {
            builder.deny_matching(base, pattern.to_string_lossy())
        }
        Ok(_) | Err(_) => builder.deny_read(whole),
    }
}

/// What the administrator denies and `wanted` would open: the first path of it.
///
/// Apart from the builder's rules, by which a grant by name opens what a profile denies: a profile is the user's own.
pub(crate) fn managed_denial<'w>(
    settings: &Settings,
    environment: &Environment,
    policy: &SandboxPolicy,
    wanted: impl IntoIterator<Item = &'w AbsolutePath>,
) -> Option<&'w AbsolutePath> {
    if settings.denied_reads.is_empty() {
        return None;
    }
    let denied: Vec<PathBuf> = settings
        .denied_reads
        .iter()
        .map(|denied| environment.expand_home(Path::new(denied)))
        .map(|path| path.canonicalize().unwrap_or(path))
        .collect();
    wanted.into_iter().find(|wanted| {
        let path = wanted.as_path();
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // A pattern is no path; what it denies, the policy says.
        matches!(policy.access(&resolved).by, sandbox::Reason::Pattern { .. })
            || denied
                .iter()
                .any(|denied| denied.starts_with(&resolved) || resolved.starts_with(denied))
    })
}

/// What a sandbox mode gives.
fn by_mode(settings: &Settings, cwd: &Path) -> PolicyBuilder {
    match settings.sandbox {
        SandboxMode::ReadOnly | SandboxMode::DangerFullAccess => {
            SandboxPolicy::read_only().readable(cwd)
        }
        SandboxMode::WorkspaceWrite => {
            let writable = &settings.workspace_write;
            let tmp = if writable.exclude_slash_tmp {
                PrivateTmp::Excluded
            } else {
                PrivateTmp::Fresh
            };
            let builder = SandboxPolicy::workspace_write(cwd).private_tmp(tmp);
            writable
                .writable_roots
                .iter()
                .fold(builder, |builder, root| builder.root(root))
        }
    }
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

/// The user's own files that steer this program, there or not. The one list: for the walls, and for patches.
pub(crate) fn steering(environment: &Environment) -> Vec<PathBuf> {
    let home = &environment.codex_home;
    let mut paths: Vec<_> = STEERING_FILES.iter().map(|name| home.join(name)).collect();
    paths.push(home.join(RULES));
    // The files of named profiles, as many as there are.
    let listed = std::fs::read_dir(home).into_iter().flatten().flatten();
    let named = listed.map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(".config.toml"))
    });
    paths.extend(named);
    paths
}

/// Makes what [`steering`] names by fixed names where it is missing, empty and the user's alone: no mount stands on a name
/// that is not there, so an escalated command could make it. Where it cannot be made now, no command can either.
pub(crate) fn make_steering(environment: &Environment) {
    let home = &environment.codex_home;
    let mut folder = DirBuilder::new();
    folder.mode(0o700);
    folder.create(home).unwrap_or_default();
    folder.create(home.join(RULES)).unwrap_or_default();
    for name in STEERING_FILES {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(home.join(name))
            .map(drop)
            .unwrap_or_default();
    }
}

/// What a command may see and never change, an approved escalation included (design D16): this program and what steers it.
fn never_change(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let program = std::env::current_exe().ok();
    program
        .into_iter()
        .chain(steering(environment))
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
