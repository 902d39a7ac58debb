//! The door's sockets in a command's own network: which are made ([`Doorway`]), and the runner's ends ([`DoorSockets`]).
//!
//! Apart because whoever listens is outside, while the sockets are inside: they are made in the command's network namespace
//! before its first instruction and handed out by descriptor. INVARIANT: nothing but this namespace's own loopback is ever
//! reached from it; the one way out is what accepts on these sockets, and nobody else can connect to them.

mod every_port;
pub(crate) mod inside;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;

use crate::error::SandboxError;
use crate::plan::Plan;
use crate::watch;
use inside::{Act, Kind};

/// Where the proxy listens inside, unless another port was chosen: the documented one.
const USUAL_PROXY_PORT: u16 = 3128;
/// How many UDP associations a command may have at the same time.
const RELAYS: usize = 4;
/// Names are asked for here.
const NAMES_PORT: u16 = 53;
/// The ports on which connections of programs that know of no proxy are taken where not every port is: ssh, mail, web, rsync and git. But for the
/// last no command could listen on them by itself.
const TAKEN_PORTS: [u16; 9] = [22, 80, 443, 465, 587, 873, 993, 995, 9418];

/// The files by which the C library finds names, and what stands there instead: every name but this machine's own is asked
/// of the door, which decides by it. Whatever the host's files say, the door's holder reads them outside.
pub(crate) fn name_files() -> [(&'static str, String); 2] {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    let own = if name.chars().all(plain) { &*name } else { "" };
    [
        ("/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        (
            "/etc/hosts",
            format!("127.0.0.1 localhost {own}\n::1 localhost\n"),
        ),
    ]
}

/// Which sockets are made in the command's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doorway {
    proxy: Vec<u16>,
    relays: usize,
}

impl Default for Doorway {
    /// One proxy listener on `127.0.0.1:3128`, four relays.
    fn default() -> Self {
        Self::on([USUAL_PROXY_PORT])
    }
}

impl Doorway {
    /// Proxy listeners on these ports of `127.0.0.1`; 0 stands for 3128, and a port that is named twice counts once.
    #[must_use]
    pub fn on(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut proxy: Vec<u16> = Vec::new();
        for port in ports {
            let port = if port == 0 { USUAL_PROXY_PORT } else { port };
            if !proxy.contains(&port) {
                proxy.push(port);
            }
        }
        Self {
            proxy,
            relays: RELAYS,
        }
    }

    /// Where commands find the first proxy listener.
    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        let port = self.proxy.first().copied().unwrap_or(USUAL_PROXY_PORT);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Whether a connection to this port of any address outside comes to the door.
    pub(crate) fn takes(&self, port: u16) -> bool {
        port == NAMES_PORT || TAKEN_PORTS.contains(&port) || every_port::is_taken()
    }

    /// What is done for it, in order. Every socket is handed out under its place among the sockets.
    pub(crate) fn acts(&self) -> Vec<Act> {
        let routes = [
            Act::Route(inside::Family::V4),
            Act::Route(inside::Family::V6),
            Act::EveryPort(every_port::request()),
        ];
        let sockets = self
            .sockets()
            .into_iter()
            .map(|(_, kind, address)| Act::Socket { kind, address });
        routes.into_iter().chain(sockets).collect()
    }

    /// Every socket: what it is for, its kind and where it is bound.
    fn sockets(&self) -> Vec<(Use, Kind, SocketAddr)> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let everywhere = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let proxy = self.proxy.iter();
        let proxy = proxy.map(|port| (Use::Proxy, Kind::Listener, loopback(*port)));
        let relays = (0..self.relays).map(|_| (Use::Relay, Kind::Datagrams, loopback(0)));
        let names = [
            (Use::Names, Kind::Datagrams, everywhere(NAMES_PORT)),
            (Use::NamesByStream, Kind::Listener, everywhere(NAMES_PORT)),
        ];
        let taken = TAKEN_PORTS
            .iter()
            .map(|port| (Use::Taken, Kind::Listener, everywhere(*port)));
        let every = (Use::Taken, Kind::EveryPort, everywhere(every_port::PORT));
        let taken = taken.chain([every]);
        proxy.chain(relays).chain(names).chain(taken).collect()
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Proxy,
    Relay,
    Names,
    NamesByStream,
    Taken,
}

/// The sockets of a started command's door, for whoever serves it. When all are dropped nothing of the command gets out.
#[derive(Debug, Default)]
pub struct DoorSockets {
    /// Where commands are told that the proxy is, on the loopback of their own.
    pub proxy: Vec<TcpListener>,
    /// Free UDP sockets on the same loopback.
    pub relays: Vec<UdpSocket>,
    /// Takes DNS queries, whatever address they go to.
    pub names: Option<UdpSocket>,
    /// The same by TCP.
    pub names_by_stream: Option<TcpListener>,
    /// Take connections to every address, at usual ports or at all of them: the address that was meant is the local one.
    pub taken: Vec<TcpListener>,
}

/// Takes the sockets over when the command has been executed.
pub(crate) struct Receiver<'plan> {
    doorway: &'plan Doorway,
    channel: UnixStream,
}

impl<'plan> Receiver<'plan> {
    /// For `plan`, with the end of the channel that the sockets come over; nothing where it has no door.
    pub(crate) fn prepare(plan: &'plan Plan) -> Result<Option<(Self, OwnedFd)>, SandboxError> {
        let Some(doorway) = plan.doorway() else {
            return Ok(None);
        };
        let (channel, theirs) = UnixStream::pair().map_err(failed)?;
        // What has not been handed out by then never will be.
        channel.set_nonblocking(true).map_err(failed)?;
        Ok(Some((Self { doorway, channel }, theirs.into())))
    }

    /// All of them.
    pub(crate) fn receive(self) -> Result<DoorSockets, SandboxError> {
        let mut sockets = DoorSockets::default();
        for (used, ..) in self.doorway.sockets() {
            let socket = watch::receive(&self.channel)
                .ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
            match used {
                Use::Proxy => sockets.proxy.push(socket.into()),
                Use::Relay => sockets.relays.push(socket.into()),
                Use::Names => sockets.names = Some(socket.into()),
                Use::NamesByStream => sockets.names_by_stream = Some(socket.into()),
                Use::Taken => sockets.taken.push(socket.into()),
            }
        }
        Ok(sockets)
    }
}

fn failed(source: io::Error) -> SandboxError {
    SandboxError::SetUp {
        step: "take over the door of",
        object: Path::new("the command").to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::Doorway;

    #[test]
    fn a_port_that_is_not_chosen_is_the_documented_one_and_none_is_taken_twice() {
        assert_eq!(Doorway::default().proxy().to_string(), "127.0.0.1:3128");
        assert_eq!(Doorway::on([0, 3128, 8081]), Doorway::on([3128, 8081]));
        assert_eq!(Doorway::on([]).proxy().port(), 3128);
    }

    #[test]
    fn few_descriptors_are_on_their_way_at_the_same_time() {
        // A user's descriptors on their way are bounded together (unix(7)), and many commands start side by side.
        assert!(Doorway::default().acts().len() < 24);
    }
}
