//! Everything that is known about a command before anybody decides: settings, walls, the program as it was found.
//!
//! `exec` and `explain` share it, so that what is explained is what would happen.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use exec_policy::Reading;
use protocol::{
    AbsolutePath, Action, AdditionalPermissions, CommandAction, ContentIdentity,
    EnvironmentDescription, Printable, SandboxPermissions, StandingLeave, SubmitReview,
    TriggerKind,
};
use sandbox::{Network, Observing, Program, SandboxPolicy, WorkingDirectory};

use crate::config::{Environment, Overrides, SandboxMode, Settings};
use crate::door::{self, DoorPolicy};
use crate::failure::{Failure, NOT_FOUND, NOT_PERMITTED};
use crate::hold::{HeldFiles, HoldError, find_program};
use crate::passed_env::PassedEnv;
use crate::request::{self, RunRequest, TerminalWish};
use crate::route::Route;
use crate::ruled::Ruled;
use crate::shown::Shown;
use crate::state::State;
use crate::walls::{self, Standing};

/// A command and where it would run, before anybody decides.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What is in force.
    pub(crate) settings: Settings,
    /// The runner's own folder.
    pub(crate) state: State,
    /// The walls without anybody's leave.
    pub(crate) policy: SandboxPolicy,
    /// How much of the walls can stand.
    pub(crate) standing: Standing,
    /// How much of what the command does is observed.
    pub(crate) observing: Observing,
    /// Whether anybody is asked about hosts that no rule names.
    pub(crate) unknown_hosts: UnknownHosts,
    /// The folders that commands may write.
    pub(crate) writable_roots: Vec<PathBuf>,
    /// What a turn or session has leave to write beside them.
    opened: Vec<PathBuf>,
    /// Whether a turn or session has leave to reach the network.
    pub(crate) network_opened: bool,
    /// The working directory, held.
    pub(crate) directory: WorkingDirectory,
    /// What the command is.
    pub(crate) reading: Reading,
    /// What the rules say of it.
    pub(crate) ruled: Ruled,
    env: PassedEnv,
}

/// What becomes of hosts that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownHosts {
    /// As the settings say.
    AsSet,
    /// They stay closed: there is nobody to ask.
    Closed,
}

impl Prepared {
    /// Loads the settings, checks the runner's folders and builds the walls for `argv` in `cwd`.
    ///
    /// # Errors
    /// Anything is not as it must be; nothing may start then.
    pub(crate) fn new(
        overrides: &Overrides,
        environment: &Environment,
        argv: &[OsString],
        cwd: &Path,
    ) -> Result<Self, Failure> {
        let mut settings = Settings::load(environment, overrides, cwd)?;
        let writable_roots = walls::writable_roots(&settings, environment, cwd);
        walls::make_steering(environment);
        let state = State::open(
            &settings.runner.state_dir,
            &environment.codex_home,
            &writable_roots,
        )?;
        let never_touch = walls::never_touch(&settings, environment, state.dir());
        let standing = Standing::here(overrides.effort)?;
        let policy = walls::policy(&settings, environment, cwd, &never_touch, &standing)?;
        settings.notes.extend(policy.notes());
        let words: Vec<String> = argv
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let reading = Reading::of_argv(&words);
        let mut keys = settings.runner.key_variables();
        keys.extend(settings.otel.iter().flat_map(|table| table.variables()));
        Ok(Self {
            ruled: Ruled::of(&settings.rules, &reading),
            reading,
            directory: WorkingDirectory::open(cwd)?,
            env: PassedEnv::of(environment, &settings.shell_environment, &keys),
            settings,
            state,
            observing: observing(&policy),
            unknown_hosts: UnknownHosts::AsSet,
            policy,
            standing,
            writable_roots,
            opened: Vec::new(),
            network_opened: false,
        })
    }

    /// The door's policy for this command.
    ///
    /// # Errors
    /// It cannot be made here.
    pub(crate) fn door(&self, environment: &Environment) -> Result<DoorPolicy, Failure> {
        DoorPolicy::of(&self.settings, self.unknown_hosts, environment)
    }

    /// Counts what `leave` lets commands write among what may have changed by the time another one runs.
    pub(crate) fn opened_by(&mut self, leave: Option<&StandingLeave>) {
        self.network_opened |= leave.is_some_and(|leave| leave.permissions().network);
        let paths = leave
            .into_iter()
            .flat_map(|leave| &leave.permissions().write);
        self.opened
            .extend(paths.map(|path| path.as_path().to_owned()));
    }

    /// Holds a wish for more permissions to what the administrator denies.
    ///
    /// # Errors
    /// It would open what is denied, which nobody can allow (126).
    pub(crate) fn keep_managed_denials(
        &self,
        environment: &Environment,
        wanted: Option<&AdditionalPermissions>,
    ) -> Result<(), Failure> {
        let paths = wanted
            .into_iter()
            .flat_map(|wanted| wanted.read.iter().chain(&wanted.write));
        self.keep_managed_denials_of(environment, paths)
    }

    /// Holds what is to be opened, whatever by, to what the administrator denies.
    ///
    /// # Errors
    /// It is denied, which nobody can allow (126).
    pub(crate) fn keep_managed_denials_of<'w>(
        &self,
        environment: &Environment,
        paths: impl Iterator<Item = &'w AbsolutePath>,
    ) -> Result<(), Failure> {
        match walls::managed_denial(&self.settings, environment, &self.policy, paths) {
            None => Ok(()),
            Some(path) => Err(Failure {
                code: NOT_PERMITTED,
                message: format!(
                    "`{}` is denied to be read by the administrator, whoever allows it; nothing ran",
                    Printable(path.as_str())
                ),
            }),
        }
    }

    /// Which way the command goes.
    pub(crate) fn route(&self, permissions: SandboxPermissions) -> Route {
        Route::of(&self.settings, permissions, &self.ruled)
    }

    /// The folders whose files may be other ones by the time a command runs: what commands may write, and the workspace
    /// even where nothing may be written now.
    pub(crate) fn changeable(&self) -> Vec<PathBuf> {
        let workspace = std::iter::once(self.directory.path().to_owned());
        workspace
            .chain(self.writable_roots.iter().cloned())
            .chain(self.opened.iter().cloned())
            .collect()
    }

    /// The program, for a run inside the walls.
    ///
    /// # Errors
    /// It was not found (127), or cannot be executed (126).
    pub(crate) fn program(
        &self,
        environment: &Environment,
        argv: &[OsString],
    ) -> Result<Program, Failure> {
        self.find(argv, environment.path.iter())
    }

    /// The program, for a run that crosses the walls: never one that a command could have put on the path.
    ///
    /// # Errors
    /// It was not found (127), or cannot be executed (126).
    pub(crate) fn trusted_program(
        &self,
        environment: &Environment,
        argv: &[OsString],
    ) -> Result<Program, Failure> {
        self.find(argv, self.trusted_path(environment))
    }

    /// The folders in which programs are looked up, without those that commands may write.
    pub(crate) fn trusted_path<'a>(
        &'a self,
        environment: &'a Environment,
    ) -> impl Iterator<Item = &'a PathBuf> {
        environment.path.iter().filter(|folder| {
            let resolved = folder.canonicalize().unwrap_or_else(|_| (*folder).clone());
            !self
                .changeable()
                .iter()
                .any(|root| resolved.starts_with(root))
        })
    }

    fn find<'a>(
        &self,
        argv: &[OsString],
        path: impl Iterator<Item = &'a PathBuf>,
    ) -> Result<Program, Failure> {
        let word = argv.first().map(OsString::as_os_str).unwrap_or_default();
        find_program(word, self.directory.path(), path).map_err(hold_failure)
    }

    /// The environment of a command with these permissions.
    ///
    /// # Errors
    /// The door's policy cannot be made here.
    pub(crate) fn env(
        &self,
        environment: &Environment,
        request: &RunRequest,
    ) -> Result<PassedEnv, Failure> {
        let permissions = request.permissions;
        let mut env = self.env.clone();
        let inside = matches!(
            permissions,
            SandboxPermissions::UseDefault | SandboxPermissions::WithAdditionalPermissions
        );
        if inside && self.settings.sandbox != SandboxMode::DangerFullAccess {
            let tmp = match &self.standing {
                Standing::All => Path::new("/tmp"),
                Standing::Reduced(tmp) => tmp.path(),
            };
            env.set("TMPDIR", tmp);
            env.set("AUTO_REVIEW_SANDBOX", self.settings.sandbox.as_str());
            match door::network_of(self, permissions, request.additional.as_ref()) {
                // The name that tools of this field look for.
                Network::Off => env.set("CODEX_SANDBOX_NETWORK_DISABLED", "1"),
                Network::Door => {
                    for (name, value) in self.door(environment)?.variables() {
                        env.set(&name, value);
                    }
                }
                Network::Full => {}
            }
        } else {
            // What a command put on the path, or in a folder that a variable names, must not run outside the walls by
            // any program's hand.
            env.without_steering();
            if let Ok(path) = std::env::join_paths(self.trusted_path(environment)) {
                env.set("PATH", path);
            }
        }
        Ok(env)
    }
}

/// Reads are observed where some are denied: each costs some microseconds, and elsewhere none is refused.
fn observing(policy: &SandboxPolicy) -> Observing {
    let all_may_be_read = policy.reads() == sandbox::Reads::Everything
        && policy.denied_reads().is_empty()
        && policy.denied_patterns().is_empty();
    if all_may_be_read {
        Observing::Changes
    } else {
        Observing::Everything
    }
}

/// A file that cannot be found or held, as the end of a run.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
pub(crate) fn hold_failure(error: HoldError) -> Failure {
    let code = match &error {
        HoldError::NotFound(_) => NOT_FOUND,
        HoldError::NotExecutable { .. }
        | HoldError::Unreadable { .. }
        | HoldError::Turnable(_)
        | HoldError::Absent(_)
        | HoldError::TooDeep(_)
        | HoldError::Changed(_) => NOT_PERMITTED,
    };
    Failure {
        code,
        ..Failure::runner(&error)
    }
}

/// The exact action that `request` is, for a reviewer and for the digest (design D20); without `files` only for the record.
///
/// # Errors
/// A word or variable is not UTF-8, or a value breaks a rule of the wire: what cannot be shown whole is not asked.
pub(crate) fn action(
    prepared: &Prepared,
    environment: &Environment,
    request: &RunRequest,
    files: Option<&HeldFiles>,
    stdin: Option<&[u8]>,
) -> Result<Action, Failure> {
    let key = prepared.state.mask_key()?;
    let shown = Shown::by(key.clone());
    let not_shown = |what: &str| {
        Failure::because(format!(
            "{what} is not UTF-8, so it cannot be shown to a reviewer whole; nothing ran"
        ))
    };
    let command = request
        .argv
        .iter()
        .map(|word| {
            word.to_str()
                .map(str::to_owned)
                .ok_or_else(|| not_shown("a word of the command"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let env = prepared
        .env(environment, request)?
        .shown(&key)
        .map_err(|name| not_shown(&format!("the variable `{name}`")))?;
    let action = Action::Command(CommandAction {
        command: shown.words(&command),
        cwd: absolute(&request.cwd)?,
        sandbox_permissions: request.permissions,
        additional_permissions: request.additional.clone(),
        justification: request
            .justification
            .as_deref()
            .map(|text| shown.prose(text)),
        tty: request.terminal == TerminalWish::Own,
        program: files.map(|files| files.program.clone()),
        scripts: files.map_or_else(Vec::new, |files| files.scripts.clone()),
        env: Some(env),
        stdin: stdin.map(|bytes| ContentIdentity {
            bytes: bytes.len() as u64,
            sha256: crate::hold::hash(bytes),
        }),
    });
    Ok(action.checked()?)
}

/// The body that asks for a review of `action`.
///
/// # Errors
/// A path is not UTF-8.
pub(crate) fn submission(
    prepared: &Prepared,
    environment: &Environment,
    request: &RunRequest,
    action: Action,
    trigger: TriggerKind,
) -> Result<SubmitReview, Failure> {
    let workspace_roots = if prepared.settings.sandbox == SandboxMode::WorkspaceWrite {
        prepared
            .writable_roots
            .iter()
            .map(|root| absolute(root))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        Vec::new()
    };
    Ok(SubmitReview {
        version: 1,
        client: protocol::ClientDescription {
            name: "agent-runner".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            channel: "runner".to_owned(),
        },
        session: request.session.clone(),
        environment: EnvironmentDescription {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            user: environment.user.clone(),
            cwd: absolute(&request.cwd)?,
            workspace_roots,
            sandbox_mode: prepared.settings.sandbox.as_str().to_owned(),
            approval_policy: prepared.settings.approval.as_str().to_owned(),
            denied_reads: denied_reads(&prepared.policy),
        },
        action_digest: action.digest(),
        action,
        trigger: protocol::Trigger {
            kind: trigger,
            detail: None,
        },
        retry_reason: None,
        transcript: Shown::by(prepared.state.mask_key()?).transcript(&request.transcript),
        evidence: Vec::new(),
        must_be_human: false,
        deadline_ms: None,
        extra: serde_json::Map::new(),
    })
}

/// What commands may not read, as a reviewer sees it.
fn denied_reads(policy: &SandboxPolicy) -> Vec<String> {
    let paths = policy.denied_reads().iter().cloned();
    let patterns = policy.denied_patterns().iter();
    let patterns = patterns.map(|pattern| pattern.base().join(pattern.text()));
    let all = paths.chain(patterns);
    all.map(|path| path.to_string_lossy().into_owned())
        .collect()
}

fn absolute(path: &Path) -> Result<AbsolutePath, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::because("a path is not UTF-8, so it cannot be shown to a reviewer")
    })?;
    AbsolutePath::try_from(text.to_owned()).map_err(Failure::because)
}

/// What was typed for `exec`, as what was meant.
///
/// # Errors
/// The working directory or the transcript cannot be used.
pub(crate) fn run_request(
    args: &crate::cli::Exec,
    environment: &Environment,
) -> Result<RunRequest, Failure> {
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    Ok(RunRequest {
        argv: args.command.clone(),
        additional: request::additional_permissions(&args.wish, &cwd)?,
        cwd,
        permissions: args.wish.permissions(),
        justification: args.justification.clone(),
        session: request::session(&args.context, environment),
        transcript: request::transcript(&args.context)?,
        terminal: if args.tty {
            TerminalWish::Own
        } else {
            TerminalWish::Inherit
        },
        max_output: args.output.max_output,
        escapes: args.output.escapes(),
    })
}
