//! One execution's door: [`Door`], its listeners and its end.
//!
//! Apart because it owns every task. INVARIANT: a listener belongs to one execution, so whoever connects to it is known; when
//! `serve` ends, every connection, tunnel and question of the execution ends with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::budget::NameBudget;
use crate::dial::{Dialer, unpaced};
use crate::event::{Blocked, BlockedRing, Events};
use crate::gate::{Approvals, Gate, Questions};
use crate::intercept::Interceptor;
use crate::limits::Limits;
use crate::names::NameTable;
use crate::policy::NetworkPolicy;
use crate::pool::Pool;
use crate::refusal::{Reason, Refusal};
use crate::relay::Relays;
use crate::resolve::Resolver;
use crate::shared::{Epoch, Shared};
use crate::wire::{Buffered, answer_and_close};
use crate::{http, socks5, transparent};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How many connections beyond the limit are told so at the same time; more are closed without a word.
const MOST_TURNED_AWAY: usize = 4096;
/// How long accepting rests where the process has no descriptor left.
const REST: Duration = Duration::from_millis(50);

/// How far away the nearest deadline may be: below every bound of a connection but a lookup's.
const TICK: Duration = Duration::from_secs(5);

/// What a door needs from outside.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Looks names up.
    pub resolver: Arc<dyn Resolver>,
    /// Opens connections.
    pub dialer: Arc<dyn Dialer>,
    /// Is asked about hosts that no rule names.
    pub gate: Arc<dyn Gate>,
    /// Takes events.
    pub events: Arc<dyn Events>,
}

/// Sockets that are bound already; for a sandbox they are made inside and passed out.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP and SOCKS5, told apart by the first byte.
    pub proxy: Vec<StdListener>,
    /// Free UDP sockets on the same loopback, one for each association that may be open.
    pub relays: Vec<StdUdp>,
    /// Answers DNS queries over UDP, where programs that know of no proxy are covered.
    pub names: Option<StdUdp>,
    /// The same over TCP.
    pub names_by_stream: Option<StdListener>,
    /// Listeners on usual ports of every address, for the connections of such programs.
    pub transparent: Vec<StdListener>,
}

impl Listeners {
    /// Binds on this network's loopback: one listener, `relays` UDP sockets, nothing transparent.
    ///
    /// # Errors
    /// Where a socket cannot be bound.
    pub fn bind(at: SocketAddr, relays: usize) -> io::Result<Self> {
        // Not the runtime's own way: listeners are also made where no runtime is.
        let family = if at.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &at)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let proxy = StdListener::from(socket);
        let relays = (0..relays)
            .map(|_| StdUdp::bind(SocketAddr::new(at.ip(), 0)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            proxy: vec![proxy],
            relays,
            names: None,
            names_by_stream: None,
            transparent: Vec::new(),
        })
    }

    /// Binds on `127.0.0.1` with a free port and four relays.
    ///
    /// # Errors
    /// Where a socket cannot be bound.
    pub fn on_loopback() -> io::Result<Self> {
        Self::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), 4)
    }

    /// Where the first proxy listener is.
    ///
    /// # Errors
    /// Where there is none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let first = self.proxy.first().ok_or(io::ErrorKind::NotFound)?;
        first.local_addr()
    }
}

/// The door of one execution.
#[derive(Debug, Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

/// What a door is made of, beside its policy and ports.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The execution's id, which every event and question carries.
    pub execution: Arc<str>,
    /// Its bounds.
    pub limits: Limits,
    /// Destinations that were approved for the session; shared by its doors.
    pub session: Arc<Approvals>,
    /// The authority for tunnels that are looked into; without one such tunnels are refused.
    pub interceptor: Option<Arc<Interceptor>>,
}

impl Door {
    /// A door that serves nothing yet.
    #[must_use]
    pub fn new(policy: NetworkPolicy, ports: Ports, setup: Setup) -> Self {
        let limits = setup.limits;
        let shared = Shared {
            execution: setup.execution,
            epoch: RwLock::new(Arc::new(Epoch { number: 0, policy })),
            resolver: ports.resolver,
            dialer: ports.dialer,
            events: ports.events,
            questions: Questions::new(ports.gate, setup.session, limits.pending),
            limits,
            tunnels: Arc::new(Semaphore::new(limits.tunnels)),
            pool: Pool::default(),
            blocked: BlockedRing::default(),
            names: NameTable::new(limits.names),
            budget: NameBudget::new(&limits, Instant::now()),
            interceptor: setup.interceptor,
            own: RwLock::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Puts another policy in place, at once, for every request that comes now. Open tunnels stay.
    pub fn replace_policy(&self, policy: NetworkPolicy) {
        let mut epoch = self
            .shared
            .epoch
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *epoch = Arc::new(Epoch {
            number: epoch.number + 1,
            policy,
        });
        drop(epoch);
        self.shared.pool.clear();
    }

    /// What was blocked so far.
    #[must_use]
    pub fn blocked(&self) -> Blocked {
        self.shared.blocked.summary()
    }

    /// Serves until `ended` is ready; then, or when this future is dropped, everything that was opened is closed.
    ///
    /// # Errors
    /// Where a listener cannot be used.
    pub async fn serve(
        &self,
        listeners: Listeners,
        ended: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let opened = Opened::new(listeners)?;
        // Inside a sandbox's network, too: what a command means by this address is the listener and nothing else.
        let own = opened
            .proxy
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        *self
            .shared
            .own
            .write()
            .unwrap_or_else(PoisonError::into_inner) = own;
        let serving = Arc::new(Serving {
            door: Arc::clone(&self.shared),
            relays: Relays::new(opened.relays),
            places: Arc::new(Semaphore::new(self.shared.limits.connections)),
            turned_away: Arc::new(Semaphore::new(MOST_TURNED_AWAY)),
        });
        let mut tasks = JoinSet::new();
        for listener in opened.proxy {
            let _handle = tasks.spawn(accept(Arc::clone(&serving), listener, Dialect::Proxy));
        }
        for listener in opened.transparent {
            let _handle = tasks.spawn(accept(Arc::clone(&serving), listener, Dialect::Transparent));
        }
        if let Some(names) = opened.names_by_stream {
            let _handle = tasks.spawn(accept(Arc::clone(&serving), names, Dialect::Names));
        }
        if let Some(names) = opened.names {
            let _handle = tasks.spawn(transparent::serve_names(Arc::clone(&self.shared), names));
        }
        tokio::select! {
            () = ended => {}
            never = tick() => match never {},
        }
        tasks.shutdown().await;
        Ok(())
    }
}

/// Never ends, and keeps one deadline near: the runtime wakes itself, by a system call, for each deadline that is set while no
/// nearer one is known, and every connection sets some.
async fn tick() -> std::convert::Infallible {
    loop {
        sleep(TICK).await;
    }
}

/// The listeners, as the runtime knows them.
struct Opened {
    proxy: Vec<TcpListener>,
    relays: Vec<UdpSocket>,
    names: Option<UdpSocket>,
    names_by_stream: Option<TcpListener>,
    transparent: Vec<TcpListener>,
}

impl Opened {
    fn new(listeners: Listeners) -> io::Result<Self> {
        let tcp = |listener: StdListener| {
            listener.set_nonblocking(true)?;
            // Answers and handshakes are small, and waited for. On Linux what is accepted inherits it.
            rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
            unpaced(&listener);
            TcpListener::from_std(listener)
        };
        let udp = |socket: StdUdp| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        Ok(Self {
            proxy: listeners
                .proxy
                .into_iter()
                .map(tcp)
                .collect::<io::Result<_>>()?,
            relays: listeners
                .relays
                .into_iter()
                .map(udp)
                .collect::<io::Result<_>>()?,
            names: listeners.names.map(udp).transpose()?,
            names_by_stream: listeners.names_by_stream.map(tcp).transpose()?,
            transparent: listeners
                .transparent
                .into_iter()
                .map(tcp)
                .collect::<io::Result<_>>()?,
        })
    }
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy)]
enum Dialect {
    Proxy,
    Transparent,
    Names,
}

struct Serving {
    door: Arc<Shared>,
    relays: Relays,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

/// Accepts connections and owns their tasks.
async fn accept(serving: Arc<Serving>, listener: TcpListener, dialect: Dialect) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let _handle = tasks.spawn(serve(Arc::clone(&serving), client, dialect));
                }
                Err(_) => sleep(REST).await,
            },
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

async fn serve(serving: Arc<Serving>, client: TcpStream, dialect: Dialect) {
    let Ok(_place) = Arc::clone(&serving.places).try_acquire_owned() else {
        return turn_away(&serving, client, dialect).await;
    };
    let door = Arc::clone(&serving.door);
    match dialect {
        Dialect::Transparent => transparent::serve(door, client).await,
        Dialect::Names => transparent::serve_names_by_stream(&door, client).await,
        Dialect::Proxy => proxy(&serving, door, client).await,
    }
}

async fn proxy(serving: &Serving, door: Arc<Shared>, client: TcpStream) {
    let deadline = Instant::now() + door.limits.head;
    let mut client = Buffered::new(client);
    match timeout_at(deadline, client.peek()).await {
        // SOCKS4 and TLS to the proxy itself are not served.
        Ok(Some(4 | 22) | None) | Err(_) => {}
        Ok(Some(5)) => socks5::serve(door, &serving.relays, client, deadline).await,
        Ok(Some(_)) => http::serve(door, client, deadline).await,
    }
}

/// Tells a connection beyond the limit why it is closed.
async fn turn_away(serving: &Serving, client: TcpStream, dialect: Dialect) {
    let (Ok(_place), Dialect::Proxy) = (
        Arc::clone(&serving.turned_away).try_acquire_owned(),
        dialect,
    ) else {
        return;
    };
    let refusal = Refusal {
        reason: Reason::TunnelLimit,
        to: None,
        rule: None,
        class: None,
        detail: None,
    };
    answer_and_close(
        &mut Buffered::new(client),
        &refusal,
        refusal.reason.status(),
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_neither_held_back_nor_paced() {
        let listeners = Listeners::on_loopback().expect("loopback");
        let at = listeners.address().expect("an address");
        let opened = Opened::new(listeners).expect("a listener");
        let _client = TcpStream::connect(at).await.expect("a connection");
        let listener = opened.proxy.first().expect("a listener");
        let (accepted, _) = listener.accept().await.expect("accepted");
        assert!(accepted.nodelay().expect("an option"));
        let congestion = rustix::net::sockopt::tcp_congestion(&accepted).expect("an option");
        assert_eq!(congestion, "reno", "and bulk as fast as it is taken");
    }
}
