//! The door of one command: its policy, who is asked about unknown hosts, and what is told of it at the end.
//!
//! The sandbox makes the sockets inside the command's own network; here they are served for as long as the command lives, on
//! the runner's own runtime. A command without a door pays nothing for it. Invariant: without this, or after it has ended,
//! nothing of the command gets out.

mod asker;
mod gate;
mod intercepted;
mod log;
mod proof;
mod record;

use std::io;
use std::sync::Arc;

use network_proxy::{
    Blocked, CompiledPolicy, Fault, Listeners, Misses, Ports, Setup, Surroundings, SystemDialer,
    SystemResolver, UnawarePrograms, own_addresses,
};
use protocol::{AdditionalPermissions, Printable, SandboxPermissions};
use sandbox::{DoorSockets, Doorway, Network, Sealed};

use crate::config::{Environment, SandboxMode, Settings};
use crate::failure::Failure;
use crate::leaves::StandingHosts;
use crate::prepare::{Prepared, UnknownHosts};
use crate::request::RunRequest;
pub(crate) use asker::{Asker, TerminalIs};
pub(crate) use gate::HostReview;
use gate::Reviews;
use log::NetworkLog;
pub(crate) use log::{NetworkEntry, NetworkReport};
pub(crate) use record::NetworkRecord;

/// How many lines about refused hosts follow a command, at most.
const MOST_LINES: usize = 12;

/// The policy of a command's door, and where commands find it.
#[derive(Debug, Clone)]
pub(crate) struct DoorPolicy {
    compiled: CompiledPolicy,
    doorway: Doorway,
}

/// A door that is served while its command runs.
#[derive(Debug)]
pub(crate) struct OpenDoor {
    door: network_proxy::Door,
    reviews: Box<Reviews>,
    log: Arc<NetworkLog>,
    doorway: Doorway,
    /// Which run of which command it is, in events.
    execution: String,
    /// What the command's tools are told to trust, where some of its connections are opened.
    sealed: Vec<Sealed>,
    notes: Vec<String>,
}

/// What the command's network was, at its end.
#[derive(Debug)]
pub(crate) struct DoorEnd {
    /// For the report.
    pub(crate) report: NetworkReport,
    /// For a person.
    pub(crate) lines: Vec<String>,
}

impl DoorPolicy {
    /// What the settings say, on this host.
    ///
    /// # Errors
    /// The upstream proxy that the environment names is none.
    pub(crate) fn of(
        settings: &Settings,
        unknown_hosts: UnknownHosts,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let misses = match unknown_hosts {
            UnknownHosts::AsSet => settings.network_policy().misses,
            UnknownHosts::Closed => Misses::Refuse,
        };
        Self::with_misses(settings, misses, environment)
    }

    /// The same, with the word on hosts that no rule names.
    fn with_misses(
        settings: &Settings,
        misses: Misses,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let compiled = parts(settings, misses, environment)
            .policy()
            .map_err(|faults| refused(&faults))?;
        let doorway = Doorway::on([compiled.listen.http.port(), compiled.listen.socks.port()]);
        Ok(Self { compiled, doorway })
    }

    /// The policy.
    pub(crate) fn policy(&self) -> &network_proxy::NetworkPolicy {
        &self.compiled.policy
    }

    /// The variables by which tools find it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let authorities = intercepted::place(&self.compiled.policy);
        let surroundings = Surroundings {
            proxy: self.doorway.proxy(),
            unaware: UnawarePrograms::Covered,
            authorities: authorities.as_deref(),
        };
        network_proxy::environment(&self.compiled.policy, surroundings)
    }
}

impl OpenDoor {
    /// The door for the command that `request` is.
    ///
    /// # Errors
    /// Its policy cannot be made here, what the session has leave for cannot be read, or what is put to a reviewer about it
    /// cannot be said.
    pub(crate) fn of(
        prepared: &Prepared,
        environment: &Environment,
        request: &RunRequest,
    ) -> Result<Self, Failure> {
        let (settings, unknown) = (&prepared.settings, prepared.unknown_hosts);
        let mut hosts = StandingHosts::of(prepared, &request.session)?;
        let notes = std::mem::take(&mut hosts.notes);
        let terminal = TerminalIs::now(request.terminal);
        let asker = Asker::of(settings, unknown, terminal);
        let misses = asker.misses(settings, unknown, &hosts);
        let DoorPolicy { compiled, doorway } =
            DoorPolicy::with_misses(settings, misses, environment)?;
        let trusted = intercepted::trusted(&compiled.policy, prepared)?;
        let (interceptor, sealed) = trusted
            .map(|trusted| (trusted.interceptor, trusted.sealed))
            .unzip();
        let (gate, reviews) =
            Reviews::of(prepared, environment, request, (asker, terminal, hosts))?;
        let log = Arc::new(NetworkLog::default());
        let ports = Ports {
            resolver: Arc::new(SystemResolver::default()),
            dialer: Arc::new(SystemDialer),
            gate: Arc::new(gate),
            events: Arc::<NetworkLog>::clone(&log),
        };
        let execution = uuid::Uuid::new_v4().to_string();
        let setup = Setup {
            execution: execution.as_str().into(),
            interceptor,
            ..Setup::default()
        };
        let door = network_proxy::Door::new(compiled.policy, ports, setup);
        Ok(Self {
            door,
            reviews: Box::new(reviews),
            log,
            doorway,
            execution,
            sealed: sealed.unwrap_or_default(),
            notes,
        })
    }

    /// Makes sure that a denied host is denied from inside, where that is not known.
    ///
    /// # Errors
    /// It is not, or nobody can tell: nothing may run behind it (125).
    pub(crate) async fn prove(
        &self,
        prepared: &Prepared,
        environment: &Environment,
    ) -> Result<(), Failure> {
        let parts = parts(&prepared.settings, Misses::Refuse, environment);
        proof::prove(parts, &prepared.state).await
    }

    /// What the user should know of it, a line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files that stand in place of this machine's own lists of authorities, where the command's connections are opened;
    /// handed out once.
    pub(crate) fn take_sealed(&mut self) -> Vec<Sealed> {
        std::mem::take(&mut self.sealed)
    }

    /// Which sockets the sandbox makes for it.
    pub(crate) fn doorway(&self) -> &Doorway {
        &self.doorway
    }

    /// Serves `sockets` until `command` has ended, and answers what it did.
    ///
    /// # Errors
    /// The door cannot be served; whoever calls ends the command then.
    pub(crate) async fn serve_while<T>(
        &mut self,
        sockets: DoorSockets,
        command: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let until = async {
            // Dropped is ended, too.
            ended.await.unwrap_or_default();
        };
        let serving = self.door.serve(listeners(sockets), until);
        tokio::pin!(serving);
        tokio::pin!(command);
        tokio::select! {
            never = self.reviews.serve() => match never {},
            done = &mut command => {
                drop(end);
                serving.await?;
                done
            }
            served = &mut serving => {
                served?;
                Err(io::Error::other("the door closed while its command ran"))
            }
        }
    }

    /// Takes back what is still asked, and says what the network was.
    pub(crate) async fn close(self) -> DoorEnd {
        let Self {
            door,
            reviews,
            log,
            execution,
            ..
        } = self;
        let blocked = door.blocked();
        let reviews = reviews.close().await;
        DoorEnd {
            lines: lines(&blocked),
            report: log.report(execution, &blocked, reviews),
        }
    }
}

/// What `request` may reach: the policy's, or what its grant gives.
pub(crate) fn network_of(
    prepared: &Prepared,
    permissions: SandboxPermissions,
    additional: Option<&AdditionalPermissions>,
) -> Network {
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess {
        return Network::Full;
    }
    let asked_for = permissions == SandboxPermissions::WithAdditionalPermissions
        && additional.is_some_and(|additional| additional.network);
    let granted = asked_for || prepared.network_opened;
    match permissions {
        SandboxPermissions::RequireEscalated | SandboxPermissions::RequireUnconfined => {
            Network::Full
        }
        SandboxPermissions::UseDefault | SandboxPermissions::WithAdditionalPermissions => {
            if granted {
                prepared.policy.network_by_grant()
            } else {
                prepared.policy.network()
            }
        }
    }
}

/// What a door serves.
pub(crate) fn listeners(sockets: DoorSockets) -> Listeners {
    Listeners {
        proxy: sockets.proxy,
        relays: sockets.relays,
        names: sockets.names,
        names_by_stream: sockets.names_by_stream,
        transparent: sockets.taken,
    }
}

/// What a door's policy is made of, on this host.
fn parts(
    settings: &Settings,
    misses: Misses,
    environment: &Environment,
) -> network_proxy::Settings {
    let mut parts = network_proxy::Settings {
        own_addresses: own_addresses(),
        upstream: environment.upstream_proxy(),
        misses,
        ..settings.network_policy()
    };
    if let Some(managed) = &mut parts.managed
        && (misses == Misses::Refuse || managed.managed_allowed_domains_only == Some(true))
    {
        // What is put to a reviewer by name is put to nobody where nobody may be asked.
        managed.review_domains = None;
    }
    parts
}

fn lines(blocked: &Blocked) -> Vec<String> {
    let mut lines: Vec<String> = blocked
        .lines()
        .iter()
        .map(|line| Printable(line).to_string())
        .collect();
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("and {more} more lines; --report has them"));
    }
    lines
}

fn refused(faults: &[Fault]) -> Failure {
    faults.first().map_or_else(
        || Failure::because("the network policy cannot be used"),
        |fault| Failure::runner(fault),
    )
}
