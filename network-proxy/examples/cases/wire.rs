//! The way from a case's client to the door's listener: here this process's own loopback.
//!
//! Apart because the same cases are also driven from inside a sandbox's network, by another file with this name.

use std::io;
use std::net::SocketAddr;

use network_proxy::Listeners;
use tokio::net::{TcpStream, UdpSocket};

/// The client's side of a door's listener.
pub(crate) struct Wire(SocketAddr);

impl Wire {
    /// Opens a listener.
    pub(crate) fn open() -> Result<(Self, Listeners), String> {
        let opened = Listeners::on_loopback().and_then(|listeners| {
            let at = listeners.address()?;
            Ok((Self(at), listeners))
        });
        opened.map_err(|error| error.to_string())
    }

    /// Where the listener is, as the client sees it.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.0
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }

    /// A UDP socket on the client's side.
    pub(crate) async fn datagrams(&self, address: &str) -> io::Result<UdpSocket> {
        UdpSocket::bind(address).await
    }
}
