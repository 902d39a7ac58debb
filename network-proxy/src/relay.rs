//! UDP over SOCKS5: the sockets that clients send to ([`Relays`]) and an association.
//!
//! Apart because a relay socket has to be made where the client is: inside the sandbox's network namespace.
//! INVARIANT: each datagram's destination is decided like a connection's; a refused one is dropped and recorded, and the
//! association goes on. A client is known by its address and, once it has spoken, its port. Answers come from vetted addresses
//! alone: each destination has a connected socket of its own.
//! Source: RFC 1928 §7.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::event::Protocol;
use crate::host::Destination;
use crate::policy::BodyKind;
use crate::refusal::Reason;
use crate::shared::{Ask, Shared};
use crate::socks5::codec::{datagram, datagram_head, reply};
use crate::wire::{Buffered, linger};

/// The largest datagram, in bytes.
const LARGEST: usize = 64 * 1024;
/// Datagrams that wait for their destination's verdict.
const MOST_WAITING: usize = 32;
/// How long a destination may be silent.
const LONGEST_SILENCE: Duration = Duration::from_mins(2);
/// How long a refused destination stays refused without being asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Relay sockets that are free: one for each association.
#[derive(Debug, Default)]
pub(crate) struct Relays(Mutex<Vec<UdpSocket>>);

impl Relays {
    pub(crate) fn new(sockets: Vec<UdpSocket>) -> Self {
        Self(Mutex::new(sockets))
    }

    fn take(&self) -> Option<UdpSocket> {
        let socket = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()?;
        // What an earlier client left is not this one's.
        let mut left = [0; 1];
        for _ in 0..1024 {
            if socket.try_recv_from(&mut left).is_err() {
                break;
            }
        }
        Some(socket)
    }

    fn give(&self, socket: UdpSocket) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(socket);
    }
}

/// A relay socket that goes back when the association ends, in whatever way.
struct Lent<'relays> {
    relays: &'relays Relays,
    socket: Option<Arc<UdpSocket>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take().and_then(Arc::into_inner) {
            self.relays.give(socket);
        }
    }
}

/// Serves an association until its TCP connection ends.
pub(crate) async fn associate(
    door: &Arc<Shared>,
    relays: &Relays,
    mut client: Buffered<TcpStream>,
    port: u16,
) {
    let lent = relays
        .take()
        .and_then(|socket| Some((socket.local_addr().ok()?, socket)));
    let (Some((bound, socket)), Ok(peer)) = (lent, client.stream.peer_addr()) else {
        if client
            .stream
            .write_all(&reply(Reason::TunnelLimit.socks_reply(), None))
            .await
            .is_ok()
        {
            linger(&mut client).await;
        }
        return;
    };
    let socket = Arc::new(socket);
    let lent = Lent {
        relays,
        socket: Some(Arc::clone(&socket)),
    };
    if client
        .stream
        .write_all(&reply(0, Some(bound)))
        .await
        .is_ok()
    {
        let association = Association {
            door: Arc::clone(door),
            socket,
            client: Known::new(peer.ip(), port),
        };
        let mut ignored = [0; 64];
        tokio::select! {
            () = association.run() => {}
            // The association lives as long as its TCP connection; nothing that comes by it means anything.
            () = async { while matches!(client.stream.read(&mut ignored).await, Ok(1..)) {} } => {}
        }
    }
    drop(lent);
}

/// Who sends: the address of the TCP connection, and the port it named or first used.
#[derive(Debug, Clone, Copy)]
struct Known {
    address: IpAddr,
    port: Option<u16>,
}

impl Known {
    fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port: (port != 0).then_some(port),
        }
    }

    /// Whether a datagram is the client's; its first one fixes the port.
    fn is(&mut self, from: SocketAddr) -> bool {
        from.ip().to_canonical() == self.address.to_canonical()
            && *self.port.get_or_insert_with(|| from.port()) == from.port()
    }
}

struct Association {
    door: Arc<Shared>,
    socket: Arc<UdpSocket>,
    client: Known,
}

/// The way to one destination's task, and since when.
type Lane = (mpsc::Sender<Bytes>, Instant);

impl Association {
    async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut lanes: HashMap<Destination, Lane> = HashMap::new();
        let mut buffer = vec![0; LARGEST];
        loop {
            let (length, from) = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // A destination's refusal may surface here; the socket itself is well.
                    Err(_) => continue,
                },
                Some(_ended) = tasks.join_next() => continue,
            };
            if !self.client.is(from) {
                continue;
            }
            let Some((to, content)) = buffer.get(..length).and_then(datagram) else {
                continue;
            };
            let content = Bytes::copy_from_slice(content);
            lanes.retain(|known, (lane, since)| {
                known == &to || !lane.is_closed() || since.elapsed() < REFUSED_FOR
            });
            let fresh = lanes
                .get(&to)
                .is_none_or(|(lane, since)| lane.is_closed() && since.elapsed() >= REFUSED_FOR);
            if fresh && lanes.len() < self.door.limits.udp_destinations {
                let (lane, datagrams) = mpsc::channel(MOST_WAITING);
                let _ended = lanes.insert(to.clone(), (lane, Instant::now()));
                let task = Destined {
                    door: Arc::clone(&self.door),
                    to: to.clone(),
                    relay: Arc::clone(&self.socket),
                    client: from,
                };
                let _handle = tasks.spawn(task.run(datagrams));
            }
            if let Some((lane, _)) = lanes.get(&to) {
                // A full or closed lane drops the datagram, as networks do.
                let _dropped = lane.try_send(content);
            }
        }
    }
}

/// One destination of an association.
struct Destined {
    door: Arc<Shared>,
    to: Destination,
    relay: Arc<UdpSocket>,
    client: SocketAddr,
}

impl Destined {
    async fn run(self, mut datagrams: mpsc::Receiver<Bytes>) {
        let Some(origin) = self.open().await else {
            return;
        };
        let Ok(from) = origin.peer_addr() else { return };
        let (mut sent, mut received) = (0, 0);
        let mut answer = datagram_head(from);
        let head = answer.len();
        let mut buffer = vec![0; LARGEST];
        loop {
            let step = async {
                tokio::select! {
                    content = datagrams.recv() => content.map(Step::Up),
                    length = origin.recv(&mut buffer) => Some(Step::Down(length.ok())),
                }
            };
            match timeout(LONGEST_SILENCE, step).await {
                Ok(Some(Step::Up(content))) => {
                    sent += u64::try_from(content.len()).unwrap_or_default();
                    let _lost = origin.send(&content).await;
                }
                Ok(Some(Step::Down(Some(length)))) => {
                    received += u64::try_from(length).unwrap_or_default();
                    answer.truncate(head);
                    answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    let _lost = self.relay.send_to(&answer, self.client).await;
                }
                // An ICMP refusal of an earlier datagram: the next may fare better.
                Ok(Some(Step::Down(None))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.door
            .record_closed((Protocol::Socks5Udp, &self.to), (sent, received), None);
    }

    async fn open(&self) -> Option<UdpSocket> {
        let ask = Ask {
            to: &self.to,
            protocol: Protocol::Socks5Udp,
            method: None,
            body: BodyKind::None,
            client: None,
        };
        let permit = self.door.permit(ask).await.ok()?;
        let route = self.door.reach(&permit).await.ok()?;
        for target in route.targets.iter().take(self.door.limits.dial_attempts) {
            if let Ok(socket) = self.door.dialer.udp(*target).await {
                return Some(socket);
            }
        }
        self.door.record_closed(
            (Protocol::Socks5Udp, &self.to),
            (0, 0),
            Some(Reason::UpstreamRefused),
        );
        None
    }
}

enum Step {
    Up(Bytes),
    Down(Option<usize>),
}
