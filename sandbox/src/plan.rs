//! What will be done to run one command: [`Plan`], operations as data, printed by `explain` and obeyed by the start.
//!
//! Four doors. [`Plan::confined`] needs nobody's leave. [`Plan::permitted`] and [`Plan::full_access`] take a
//! [`protocol::PermittedAction`], check that the command is exactly the action it covers, and consume it.
//! [`Plan::with_leave`] takes a [`protocol::StandingLeave`], which a review gave for the rest of a turn or session. There
//! is no other way to a plan that is wider than the policy (P1).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use protocol::{
    Action, CommandAction, PermitSource, PermittedAction, SandboxPermissions, StandingLeave,
};
use serde::Serialize;
use thiserror::Error;

use crate::command::{self, Command, Stdin, Terminal};
use crate::door::Doorway;
use crate::landlock::{self, Domain, Readable};
use crate::mounts::{self, Operation};
use crate::policy::{Access, InvalidPolicy, Limits, Network, Reads, SandboxPolicy};
use crate::seccomp::{Filter, Observing};
use crate::surroundings::{Protected, Surroundings, UNPRIVILEGED};

#[cfg(test)]
mod alone;
mod reduced;
mod text;

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A protected name is a link, whose target could be swapped.
    #[error("`{}` is a symbolic link, which the walls cannot keep from being replaced\nhint: replace the link by what it points to", .0.display())]
    ProtectedSymlink(PathBuf),
    /// A `.git` file points at a directory of the workspace that is not there, so that the command could make it.
    #[error("the git directory `{}` is pointed at but missing", .0.display())]
    DanglingGitDirectory(PathBuf),
    /// Something that must be protected cannot be looked at.
    #[error("cannot look at `{}`", .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A tree is too large to be looked through at every start.
    #[error("`{}` has more than {most} folders, too many to look through for what must be guarded\nhint: name a smaller workspace, or a deeper base for the patterns", .root.display())]
    TooManyFolders {
        /// The tree.
        root: PathBuf,
        /// How many are looked through.
        most: usize,
    },
    /// More must be guarded in a tree than can be.
    #[error("{found} paths in `{}` must be guarded, and at most {most} can be\nhint: deny the folder around them instead", .root.display())]
    TooManyFound {
        /// The tree.
        root: PathBuf,
        /// How many were found.
        found: usize,
        /// How many can be guarded.
        most: usize,
    },
    /// The policy does not let the command read its own program.
    #[error("`{}` may not be read under this policy, so that it cannot be run", .0.display())]
    ProgramDenied(PathBuf),
    /// The policy asks for what Landlock and filters alone cannot keep.
    #[error(
        "this cannot be kept without namespaces: {0}\nhint: `agent-runner doctor` says what is in their way"
    )]
    NeedsNamespaces(&'static str),
    /// The permitted action is no command.
    #[error("the permitted action is not a command")]
    NotACommand,
    /// The command is not the permitted one.
    #[error("the command's {0} is not the one that was permitted")]
    Differs(&'static str),
    /// The action asks for no wider walls and its source does not take them down.
    #[error("the permitted action asks for no wider walls")]
    NothingPermitted,
    /// Full access was not chosen by name.
    #[error("full access was not chosen by name")]
    NotFullAccess,
    /// The widened policy cannot be.
    #[error("the permitted paths cannot be granted")]
    Widened(#[source] InvalidPolicy),
}

/// How wide the walls stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Walls {
    /// As the policy says.
    Confined,
    /// As the policy says, and exactly what was granted.
    Widened,
    /// The whole host as this user, but for what no command may touch.
    Escalated,
    /// None.
    Unconfined,
    /// As the policy says, by Landlock and filters alone: no namespaces, chosen by name.
    Reduced,
}

/// Whom the command runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Identity {
    /// The caller.
    Caller { user: u32, group: u32 },
    /// Another user of the host, without any of root's powers. Root started it.
    Unprivileged { user: u32, group: u32 },
    /// Root over files, within a user namespace of all users. Root started it.
    ConfinedRoot,
}

impl Identity {
    /// Whom a confined command of this process runs as.
    pub(crate) fn of_a_confined_command() -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        if user == 0 {
            Self::Unprivileged {
                user: UNPRIVILEGED,
                group: UNPRIVILEGED,
            }
        } else {
            Self::Caller { user, group }
        }
    }
}

/// A kind of namespace of the command's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Namespace {
    User,
    Mount,
    Process,
    Ipc,
    Network,
    HostName,
    Cgroup,
}

/// What will be done to run one command. Made for one command and one start.
#[derive(Debug, Serialize)]
pub struct Plan {
    walls: Walls,
    #[serde(serialize_with = "printed")]
    words: Vec<OsString>,
    directory: PathBuf,
    program: PathBuf,
    #[serde(skip)]
    held: [command::Identity; 2],
    identity: Identity,
    namespaces: Vec<Namespace>,
    network: Network,
    doorway: Option<Doorway>,
    operations: Vec<Operation>,
    /// Names made for the command's time so that something can stand there, and removed at its end.
    placeholders: Vec<PathBuf>,
    landlock: Option<Domain>,
    filters: Vec<Filter>,
    observed: Observing,
    limits: Limits,
    unlocated_host_sockets: usize,
    notes: Vec<String>,
    /// For saying which rule a refusal came from.
    #[serde(skip)]
    policy: Option<SandboxPolicy>,
}

impl Plan {
    /// The plan that `policy` alone gives `command`.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn confined(policy: &SandboxPolicy, command: &Command) -> Result<Self, PlanError> {
        Self::within(policy, command, Walls::Confined)
    }

    /// The plan for what `permitted` allows, which is used up.
    ///
    /// # Errors
    /// The command differs from the permitted action in words, directory or program, or see [`PlanError`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "leave is for one plan: it is used up here"
    )]
    pub fn permitted(
        policy: &SandboxPolicy,
        permitted: PermittedAction,
        command: &Command,
    ) -> Result<Self, PlanError> {
        let action = same_command(&permitted, command)?;
        match action.sandbox_permissions {
            SandboxPermissions::UseDefault => Err(PlanError::NothingPermitted),
            SandboxPermissions::WithAdditionalPermissions => {
                let additional = action
                    .additional_permissions
                    .as_ref()
                    .ok_or(PlanError::NothingPermitted)?;
                let policy = policy.widened(additional).map_err(PlanError::Widened)?;
                Self::within(&policy, command, Walls::Widened)
            }
            SandboxPermissions::RequireEscalated => Self::escalated(policy, command),
            SandboxPermissions::RequireUnconfined => Ok(Self::unconfined(command)),
        }
    }

    /// The plan for a command of a turn or session that has `leave` for more than `policy` allows: exactly that more.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn with_leave(
        policy: &SandboxPolicy,
        leave: &StandingLeave,
        command: &Command,
    ) -> Result<Self, PlanError> {
        let policy = policy.with_leave(leave).map_err(PlanError::Widened)?;
        Self::within(&policy, command, Walls::Widened)
    }

    /// The plan for a command under full access, chosen by name: no walls.
    ///
    /// # Errors
    /// The leave has another source, or the command differs from the permitted action.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "leave is for one plan: it is used up here"
    )]
    pub fn full_access(permitted: PermittedAction, command: &Command) -> Result<Self, PlanError> {
        if *permitted.source() != PermitSource::FullAccess {
            return Err(PlanError::NotFullAccess);
        }
        same_command(&permitted, command)?;
        Ok(Self::unconfined(command))
    }

    /// How wide the walls stand.
    #[must_use]
    pub fn walls(&self) -> Walls {
        self.walls
    }

    /// What a person should know of these walls before the command runs, a line each: what was granted against a default,
    /// and what cannot be guarded.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How much of what the command does is observed, so that a refusal is reported; for plans that confine. Every call that
    /// is observed costs some microseconds. Where another program observes this one already, nothing is.
    #[must_use]
    pub fn observing(mut self, observing: Observing) -> Self {
        if matches!(
            self.walls,
            Walls::Confined | Walls::Widened | Walls::Reduced
        ) {
            self.observed = observing;
        }
        self
    }

    /// With these sockets of the door instead of the usual ones; nothing for a plan whose network has no door.
    #[must_use]
    pub fn with_doorway(mut self, doorway: Doorway) -> Self {
        self.doorway = self.doorway.map(|_| doorway);
        self
    }

    fn within(policy: &SandboxPolicy, command: &Command, walls: Walls) -> Result<Self, PlanError> {
        let program = command.program.path();
        if policy.access(program).access == Access::Deny {
            return Err(PlanError::ProgramDenied(program.to_path_buf()));
        }
        let around = Surroundings::observe(policy, command)?;
        let operations = mounts::confined(policy, command, &around);
        let namespaces = confined_namespaces(policy.network());
        let mut filters = vec![
            Filter::Terminal,
            Filter::Mounts,
            Filter::Namespaces,
            Filter::Surface,
            Filter::Sockets,
        ];
        if around.sockets.unlocated > 0 {
            filters.push(Filter::UnixSockets);
        }
        filters.extend(around.landlock_abi.and_then(landlock::beside));
        let devices = vec![PathBuf::from("/dev")];
        let (files, beneath) = mounts::writable(&operations)
            .into_iter()
            .partition(|path| around.files.contains(path));
        let landlock = Domain::Writes {
            beneath,
            files,
            reads: readable(policy, &around),
            devices,
        };
        let missing = around
            .protected
            .iter()
            .filter_map(|protected| match protected {
                Protected::Missing(path) => Some(path.clone()),
                Protected::Present(_) => None,
            });
        Ok(Self {
            identity: Identity::of_a_confined_command(),
            namespaces,
            network: policy.network(),
            doorway: (policy.network() == Network::Door).then(Doorway::default),
            operations,
            placeholders: missing.collect(),
            landlock: Some(landlock),
            filters,
            observed: Observing::default(),
            limits: *policy.limits(),
            policy: Some(policy.clone()),
            unlocated_host_sockets: around.sockets.unlocated,
            notes: [policy.notes(), around.notes].concat(),
            ..Self::bare(walls, command)
        })
    }

    fn escalated(policy: &SandboxPolicy, command: &Command) -> Result<Self, PlanError> {
        let around = Surroundings::observe(policy, command)?.with_raw_devices();
        let identity = if around.started_as_root() {
            Identity::ConfinedRoot
        } else {
            Identity::of_a_confined_command()
        };
        Ok(Self {
            identity,
            namespaces: vec![Namespace::User, Namespace::Mount, Namespace::Process],
            operations: mounts::escalated(policy, command, &around),
            landlock: Some(Domain::Frozen),
            filters: vec![Filter::Terminal, Filter::Mounts],
            ..Self::bare(Walls::Escalated, command)
        })
    }

    fn unconfined(command: &Command) -> Self {
        Self::bare(Walls::Unconfined, command)
    }

    /// The command without any wall; what has walls adds them.
    fn bare(walls: Walls, command: &Command) -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Self {
            walls,
            words: command.words.clone(),
            directory: command.directory.path().to_path_buf(),
            program: command.program.path().to_path_buf(),
            held: [command.directory.identity(), command.program.identity()],
            identity: Identity::Caller { user, group },
            namespaces: Vec::new(),
            network: Network::Full,
            doorway: None,
            operations: Vec::new(),
            placeholders: Vec::new(),
            landlock: None,
            filters: Vec::new(),
            unlocated_host_sockets: 0,
            notes: Vec::new(),
            observed: Observing::Nothing,
            limits: Limits::none(),
            policy: None,
        }
    }

    /// Whether this plan was made for `command`.
    pub(crate) fn is_for(&self, command: &Command) -> bool {
        command.words == self.words
            && command.directory.identity() == self.held[0]
            && command.program.identity() == self.held[1]
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// What the command may reach by network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The door's sockets, where the command's network has them.
    #[must_use]
    pub fn doorway(&self) -> Option<&Doorway> {
        self.doorway.as_ref()
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(crate) fn placeholders(&self) -> &[PathBuf] {
        &self.placeholders
    }

    pub(crate) fn landlock(&self) -> Option<&Domain> {
        self.landlock.as_ref()
    }

    pub(crate) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn observed(&self) -> Observing {
        self.observed
    }

    pub(crate) fn policy(&self) -> Option<&SandboxPolicy> {
        self.policy.as_ref()
    }

    pub(crate) fn unlocated_host_sockets(&self) -> usize {
        self.unlocated_host_sockets
    }
}

/// What the second wall lets be read: what the rules list, and the command's own `/proc` and `/dev`.
fn readable(policy: &SandboxPolicy, around: &Surroundings) -> Readable {
    if policy.reads() == Reads::Everything {
        return Readable::Everything;
    }
    let rules = policy.ruled().paths(Access::Read);
    let paths = rules.chain(&around.shown).cloned();
    let (mut folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    folders.extend(["/dev", "/proc", "/tmp"].map(PathBuf::from));
    Readable::Listed { folders, files }
}

/// What a confined command has of its own.
pub(crate) fn confined_namespaces(network: Network) -> Vec<Namespace> {
    let mut namespaces = vec![
        Namespace::User,
        Namespace::Mount,
        Namespace::Process,
        Namespace::Ipc,
        Namespace::HostName,
        Namespace::Cgroup,
    ];
    if network != Network::Full {
        namespaces.push(Namespace::Network);
    }
    namespaces
}

/// The permitted command, where `command` is exactly that: words, directory, program, terminal and whether it reads
/// anything.
fn same_command<'a>(
    permitted: &'a PermittedAction,
    command: &Command,
) -> Result<&'a CommandAction, PlanError> {
    let Action::Command(action) = permitted.action() else {
        return Err(PlanError::NotACommand);
    };
    // Secrets are masked in what was reviewed; whoever masked them holds their hashes against the words (design D20).
    let same = command.words.len() == action.command.len();
    let mut words = command.words.iter().zip(&action.command);
    if !same || !words.all(|(word, shown)| protocol::shows(shown, word.as_bytes())) {
        return Err(PlanError::Differs("words"));
    }
    if command.directory.path().as_os_str() != OsStr::new(action.cwd.as_str()) {
        return Err(PlanError::Differs("working directory"));
    }
    let program = action
        .program
        .as_ref()
        .ok_or(PlanError::Differs("program"))?;
    if command.program.path().as_os_str() != OsStr::new(program.path.as_str()) {
        return Err(PlanError::Differs("program"));
    }
    if matches!(command.terminal, Terminal::Pty(_)) && !action.tty {
        return Err(PlanError::Differs("terminal"));
    }
    let unshown = match command.stdin {
        Stdin::Null => action.stdin.is_some(),
        Stdin::Bytes(_) => action.stdin.is_none(),
        // What the caller's input will give was shown to nobody; only full access does not ask anybody.
        Stdin::Inherit => *permitted.source() != PermitSource::FullAccess && !action.tty,
    };
    if unshown {
        return Err(PlanError::Differs("standard input"));
    }
    Ok(action)
}

fn printed<S: serde::Serializer>(words: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words.iter().map(|word| word.to_string_lossy()))
}
