//! Many connections at once: what a waiting one costs, and that new ones are served beside them.
//!
//! A process of its own, because memory is counted for the whole process.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use network_proxy::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "support/start.rs"]
mod start;

const TUNNELS: usize = 2000;
const STALLED: usize = 200;
/// The most that one idle tunnel may cost, in KiB, the test's own ends of it included.
const MOST_KIB: u64 = 16;

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
    let limits = Limits {
        connections: 4096,
        tunnels: 4000,
        ..Limits::default()
    };
    let (at, _events) = start::start(
        tasks,
        origin.local_addr().expect("an address"),
        start::usual(limits),
    );
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
