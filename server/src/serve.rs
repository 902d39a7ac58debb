//! `serve`: a listener in front of the service, until a signal.
//!
//! Apart, because it alone touches sockets and signals. Invariant: no port is opened before at least one token exists.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use telemetry::{Carrier, HttpOrGrpc, Telemetry, Value};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{CommandError, print_line};
use crate::config::{Config, environment};
use crate::desk::now;
use crate::service::{OpenError, Service, ServiceSettings};

mod connections;
mod patience;

use connections::Bounds;

/// How long calls that are under way may take to finish after a signal.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last of the telemetry may take.
const LAST: Duration = Duration::from_secs(2);
/// SIGXFSZ (signal(7)). Caught, a write past the file size limit is an error like any other; uncaught, it kills.
const FILE_SIZE_SIGNAL: i32 = 25;

/// Why serving did not start or did not go on.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The service could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address could not be listened on.
    #[error("cannot listen on `{address}`: {source}\nhint: `--listen ADDRESS:PORT` names another")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Signals could not be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT, then ends what is open and stops.
pub(crate) async fn serve(settings: ServiceSettings, config: &Config) -> Result<(), CommandError> {
    let mut signals = Signals::catch().map_err(ServeError::Signals)?;
    let otel = config.otel.clone().read(&environment)?;
    let service = Service::open(settings).await?;
    let telling = tell(&service, otel);
    let served = serve_on(&service, config, &mut signals).await;
    // Reviews that the drain ends are told as well.
    service.close().await;
    if let Some((over, telling)) = telling {
        over.cancel();
        telling.wait().await;
    }
    served
}

/// Begins to tell a collector, where the settings name one; how that is ended, and waited for.
fn tell(
    service: &Service,
    settings: telemetry::Settings,
) -> Option<(CancellationToken, TaskTracker)> {
    let common = vec![("originator", Value::from("auto-review-server"))];
    let (telemetry, carrier): (_, Carrier<HttpOrGrpc>) =
        Telemetry::new(settings, "auto-review-server", common, now())?;
    service.observe(telemetry);
    let (over, telling) = (CancellationToken::new(), TaskTracker::new());
    let stop = over.clone();
    drop(telling.spawn(async move { Box::pin(carrier.run(stop.cancelled(), LAST)).await }));
    telling.close();
    Some((over, telling))
}

/// Begins what a server does beside answering. Which policy judges is known when it returns.
async fn keep_all(service: &Service, config: &Config) -> Result<(), CommandError> {
    service
        .follow_policies(config.policy_sources(), config.shadow.at_once)
        .await?;
    let address = config.listen;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "other machines reach this port, and tokens travel in the clear");
    }
    warn_of_strangers(service, config).await?;
    service.keep_indexing();
    service.keep_the_record(config.retention);
    service.keep_probing();
    service.keep_measures();
    service.tell_of_recovered().await;
    service.keep_webhooks(config.webhooks.clone());
    Ok(())
}

/// Says which settings are for tenants that nobody made: a misspelt name leaves its tenant to the settings of all.
async fn warn_of_strangers(service: &Service, config: &Config) -> Result<(), CommandError> {
    let known = service.desk().store.tenants().await?;
    let strangers = config
        .tenants
        .keys()
        .filter(|tenant| !known.iter().any(|it| it.id == **tenant));
    for tenant in strangers {
        tracing::warn!(
            "`[tenants.{0}]`: there is no such tenant\nhint: `auto-review-server tenant create {0}`",
            tenant.as_str()
        );
    }
    Ok(())
}

async fn serve_on(
    service: &Service,
    config: &Config,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    let address = config.listen;
    let store = &service.desk().store;
    let tokens = store.tokens().await?;
    if !tokens.iter().any(|token| token.counts_at(now())) {
        return Err(CommandError::NoToken);
    }
    raise_file_limit();
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    keep_all(service, config).await?;
    let stop = CancellationToken::new();
    let serving = connections::serve(listener, service.router(), Bounds::default(), stop.clone());
    print_line(&format!("listening on http://{bound}"))?;
    let stopped = async {
        tokio::select! {
            () = signals.ask_to_stop() => {}
            () = store.lost() => {}
        }
        service.drain();
        stop.cancel();
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = serving => {}
        () = stopped => {}
    }
    Ok(store.check()?)
}

/// As many files as the system allows: every connection is one. Where it does not, fewer are served at once.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    _file_size: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE_SIGNAL))?,
        })
    }

    async fn ask_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
