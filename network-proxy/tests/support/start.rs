//! A door whose names are all one public address, and whose dials all end at an origin of the test's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use network_proxy::{
    DialTarget, Dialer, Door, Event, Events, HostName, Limits, Listeners, NoGate, Ports,
    RawNetworkProxy, ResolveError, Resolver, Settings, Setup,
};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::task::JoinSet;

/// Every name is one public address.
#[derive(Debug)]
struct OneAddress;

impl Resolver for OneAddress {
    fn resolve<'a>(
        &'a self,
        _name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(std::future::ready(Ok(vec![IpAddr::from([198, 41, 0, 4])])))
    }
}

/// Every address is the test's origin.
#[derive(Debug)]
struct ToOrigin(SocketAddr);

impl Dialer for ToOrigin {
    fn tcp(&self, _to: DialTarget) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }

    fn udp(&self, _to: DialTarget) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn unix<'a>(&'a self, _path: &'a Path) -> BoxFuture<'a, io::Result<UnixStream>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

/// Keeps every event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Event>>>);

impl Events for Kept {
    fn record(&self, event: Event) {
        self.0.lock().expect("nobody panicked").push(event);
    }
}

/// Settings that allow `site.test` and nothing else, and a set-up with these bounds.
pub(crate) fn usual(limits: Limits) -> (Settings, Setup) {
    let user: RawNetworkProxy =
        toml::from_str("domains = { \"site.test\" = \"allow\" }").expect("a table");
    let settings = Settings {
        user,
        ..Settings::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    (settings, setup)
}

/// Starts a door; its task ends with `tasks`.
pub(crate) fn start(
    tasks: &mut JoinSet<io::Result<()>>,
    origin: SocketAddr,
    parts: (Settings, Setup),
) -> (SocketAddr, Kept) {
    serve(
        tasks,
        origin,
        parts,
        Listeners::on_loopback().expect("loopback"),
    )
}

/// The same on these listeners.
pub(crate) fn serve(
    tasks: &mut JoinSet<io::Result<()>>,
    origin: SocketAddr,
    (settings, setup): (Settings, Setup),
    listeners: Listeners,
) -> (SocketAddr, Kept) {
    let kept = Kept::default();
    let ports = Ports {
        resolver: Arc::new(OneAddress),
        dialer: Arc::new(ToOrigin(origin)),
        gate: Arc::new(NoGate),
        events: Arc::new(kept.clone()),
    };
    let policy = settings.policy().expect("valid").policy;
    let door = Door::new(policy, ports, setup);
    let at = listeners.address().expect("an address");
    let _handle = tasks.spawn(async move { door.serve(listeners, std::future::pending()).await });
    (at, kept)
}
