//! Connecting: the port [`Dialer`], the system's ([`SystemDialer`]), and the race between several addresses.
//!
//! Apart because this is the only place where a connection begins.
//! INVARIANT: what is dialled is a [`Vetted`] address, or the upstream proxy that the user configured. A [`DialTarget`] cannot
//! be made from anything else.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};
use tokio::time::{sleep, timeout};

use crate::limits::Limits;
use crate::policy::Vetted;
use crate::refusal::Reason;

/// An address that may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialTarget(SocketAddr);

impl DialTarget {
    /// Where to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0
    }

    /// The upstream proxy's own address, which no domain rule has to allow.
    pub(crate) const fn upstream(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl From<Vetted> for DialTarget {
    fn from(vetted: Vetted) -> Self {
        Self(vetted.address())
    }
}

/// Opens connections.
pub trait Dialer: fmt::Debug + Send + Sync + 'static {
    /// Opens a TCP connection.
    fn tcp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<TcpStream>>;
    /// Opens a UDP socket that is connected, so that it takes datagrams from nobody else.
    fn udp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<UdpSocket>>;
    /// Opens a Unix socket.
    fn unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<UnixStream>>;
}

/// This process's own network.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDialer;

impl Dialer for SystemDialer {
    fn tcp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let socket = match to.address() {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Small messages go out at once: a tunnel carries handshakes before anything else.
            socket.set_nodelay(true)?;
            if to.address().ip().is_loopback() {
                unpaced(&socket);
            }
            socket.connect(to.address()).await
        })
    }

    fn udp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(async move {
            let any: SocketAddr = match to.address() {
                SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(to.address()).await?;
            Ok(socket)
        })
    }

    fn unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<UnixStream>> {
        Box::pin(crate::unix::connect(path))
    }
}

/// Has what goes over loopback, where nothing is congested, wait for nothing: pacing (BBR's, where that is the system's
/// choice) halves what passes for three times the processor time. Everybody may choose Reno (tcp(7)); without it the
/// system's choice will do.
pub(crate) fn unpaced(socket: impl AsFd) {
    let _kept = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
}

/// Dials the addresses in their order, a new one beside the old after a while or as soon as one fails; the first that answers
/// wins (RFC 8305).
pub(crate) async fn race(
    dialer: &dyn Dialer,
    targets: &[DialTarget],
    limits: &Limits,
) -> Result<TcpStream, Reason> {
    // Most destinations have one address: no race, and one bound in place of two.
    if let [only] = targets {
        let within = limits.dial_one.min(limits.dial_all);
        return one(dialer, *only, within).await;
    }
    let raced = timeout(limits.dial_all, race_untimed(dialer, targets, limits)).await;
    raced.unwrap_or(Err(Reason::UpstreamTimeout))
}

async fn race_untimed(
    dialer: &dyn Dialer,
    targets: &[DialTarget],
    limits: &Limits,
) -> Result<TcpStream, Reason> {
    let mut left = targets.iter().take(limits.dial_attempts);
    let mut running = FuturesUnordered::new();
    let mut failure = Reason::UpstreamRefused;
    loop {
        if let Some(next) = left.next() {
            running.push(one(dialer, *next, limits.dial_one));
        } else if running.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            done = running.next(), if !running.is_empty() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(reason)) => failure = reason,
                None => {}
            },
            () = sleep(limits.stagger), if left.len() > 0 => {}
        }
    }
}

async fn one(dialer: &dyn Dialer, to: DialTarget, within: Duration) -> Result<TcpStream, Reason> {
    match timeout(within, dialer.tcp(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(Reason::UpstreamTimeout),
        Ok(Err(_)) => Err(Reason::UpstreamRefused),
        Err(_elapsed) => Err(Reason::UpstreamTimeout),
    }
}
