//! Many connections at once: what a waiting one costs, and that new ones are served beside them.
//!
//! A process of its own, because memory is counted for the whole process.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use network_proxy::{
    DialTarget, Dialer, Door, HostName, Limits, Listeners, NoEvents, NoGate, Ports,
    RawNetworkProxy, ResolveError, Resolver, Settings, Setup, SniCheck,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};

const TUNNELS: usize = 2000;
const STALLED: usize = 200;
/// The most that one idle tunnel may cost, in KiB, the test's own ends of it included.
const MOST_KIB: u64 = 16;

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

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.split_whitespace()
        .next()
        .and_then(|size| size.parse().ok())
        .expect("a number")
}

async fn tunnel(at: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(at).await?;
    stream
        .write_all(b"CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n")
        .await?;
    let mut answer = [0; 39];
    stream.read_exact(&mut answer).await?;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(stream)
}

/// Lets this process hold that many descriptors.
fn allow_descriptors(wanted: usize) {
    let wanted = u64::try_from(wanted).expect("a number");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "the test needs {wanted} descriptors"
    );
    let raised = rustix::process::Rlimit {
        current: limit.maximum.or(Some(wanted)),
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
        .expect("descriptors up to the hard limit");
}

/// A door and an origin that keeps every connection.
async fn start(tasks: &mut tokio::task::JoinSet<io::Result<()>>) -> SocketAddr {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let user: RawNetworkProxy =
        toml::from_str("domains = { \"site.test\" = \"allow\" }").expect("a table");
    let settings = Settings {
        user,
        sni_check: SniCheck::Enforce,
        ..Settings::default()
    };
    let ports = Ports {
        resolver: Arc::new(OneAddress),
        dialer: Arc::new(ToOrigin(origin.local_addr().expect("an address"))),
        gate: Arc::new(NoGate),
        events: Arc::new(NoEvents),
    };
    let limits = Limits {
        connections: 4096,
        tunnels: 4000,
        ..Limits::default()
    };
    let door = Door::new(
        settings.policy().expect("valid").policy,
        ports,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    let listeners = Listeners::on_loopback().expect("loopback");
    let at = listeners.address().expect("an address");
    let _handle = tasks.spawn(async move { door.serve(listeners, std::future::pending()).await });
    let _handle = tasks.spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(origin.accept().await?);
        }
    });
    at
}

#[tokio::test]
async fn idle_tunnels_are_cheap_and_stalled_heads_keep_nobody_out() {
    allow_descriptors(TUNNELS * 4 + STALLED * 2 + 600);
    let mut tasks = tokio::task::JoinSet::new();
    let at = start(&mut tasks).await;
    // Warm up: buffers, tables and the runtime's own growth are not a tunnel's cost.
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(tunnel(at).await.expect("a tunnel"));
    }
    let before = resident_kib();
    for _ in 0..TUNNELS {
        held.push(tunnel(at).await.expect("a tunnel"));
    }
    let each =
        resident_kib().saturating_sub(before) * 1024 / u64::try_from(TUNNELS).expect("a number");
    println!("{each} bytes for each idle tunnel, all ends in this process");
    assert!(each <= MOST_KIB * 1024, "{each} bytes for each idle tunnel");

    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut stream = TcpStream::connect(at).await.expect("a connection");
        stream
            .write_all(b"GET http://site.test/ HTTP/1.1\r\nHost: si")
            .await
            .expect("sent");
        stalled.push(stream);
    }
    let begun = Instant::now();
    held.push(tunnel(at).await.expect("a tunnel beside the stalled heads"));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    for stream in &mut stalled {
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(12), stream.read_to_end(&mut rest))
            .await
            .expect("closed by the head's deadline")
            .expect("closed in order");
    }
    assert_eq!(held.len(), TUNNELS + 101);
}
