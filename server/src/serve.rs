//! `serve`: a listener in front of the service, until a signal.
//!
//! Apart, because it alone touches sockets and signals. Invariant: no port is opened before at least one token exists.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{CommandError, print_line};
use crate::config::Config;
use crate::desk::now;
use crate::service::{OpenError, Service, ServiceSettings};

mod connections;

use connections::Bounds;

/// How long calls that are under way may take to finish after a signal.
const PATIENCE: Duration = Duration::from_secs(5);
/// SIGXFSZ (signal(7)). Caught, a write past the file size limit is an error like any other; uncaught, it kills.
const FILE_SIZE_SIGNAL: i32 = 25;

/// Why serving did not start or did not go on.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The service could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address could not be listened on.
    #[error("cannot listen on `{address}`")]
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
    let service = Service::open(settings).await?;
    let served = serve_on(&service, config, &mut signals).await;
    service.close().await;
    served
}

async fn serve_on(
    service: &Service,
    config: &Config,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    let address = config.listen;
    let tokens = service.desk().store.tokens().await?;
    if !tokens.iter().any(|token| token.counts_at(now())) {
        return Err(CommandError::NoToken);
    }
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "other machines reach this port, and tokens travel in the clear");
    }
    raise_file_limit();
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    service.keep_indexing();
    service.keep_the_record(config.payload_days);
    service.keep_probing();
    let stop = CancellationToken::new();
    let serving = connections::serve(listener, service.router(), Bounds::default(), stop.clone());
    print_line(&format!("listening on http://{bound}"))?;
    let stopped = async {
        signals.ask_to_stop().await;
        service.drain();
        stop.cancel();
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = serving => {}
        () = stopped => {}
    }
    Ok(())
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
