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

/// Starts a door that allows `site.test`; its task ends with `tasks`.
pub(crate) fn start(
    tasks: &mut JoinSet<io::Result<()>>,
    origin: SocketAddr,
    limits: Limits,
) -> (SocketAddr, Kept) {
    let user: RawNetworkProxy =
        toml::from_str("domains = { \"site.test\" = \"allow\" }").expect("a table");
    let kept = Kept::default();
    let ports = Ports {
        resolver: Arc::new(OneAddress),
        dialer: Arc::new(ToOrigin(origin)),
        gate: Arc::new(NoGate),
        events: Arc::new(kept.clone()),
    };
    let policy = Settings {
        user,
        ..Settings::default()
    }
    .policy()
    .expect("valid")
    .policy;
    let door = Door::new(
        policy,
        ports,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    let listeners = Listeners::on_loopback().expect("loopback");
    let at = listeners.address().expect("an address");
    let _handle = tasks.spawn(async move { door.serve(listeners, std::future::pending()).await });
    (at, kept)
}
