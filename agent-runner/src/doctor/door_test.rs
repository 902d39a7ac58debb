//! The network's door put to the test: this program starts itself behind one that lets a single name through, and tries to get
//! past it.
//!
//! Nothing leaves the machine: the name is answered by the door, and nothing is connected to under it. Invariant: an attempt
//! counts as refused only where whoever tried was answered by the door, so that a door that is not there holds nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use network_proxy::{
    Door, NoEvents, NoGate, Permission, Ports, RawNetworkProxy, RuleTable, Setup, SystemDialer,
    SystemResolver,
};
use sandbox::{Command, Ending, Network, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};

use super::self_test::Attempt;
use crate::cli;
use crate::door::listeners;
use crate::failure::Failure;

/// The one name that the door lets through, which nobody has (RFC 2606 §2).
const ALLOWED: &str = "doctor.test";
/// A name that no rule allows.
pub(crate) const DENIED: &str = "denied.test";
/// An address of nobody's (RFC 5737).
const OUTSIDE: &str = "192.0.2.1:443";
/// The block of addresses that stand for names (RFC 2544).
const STANDS_FOR_A_NAME: [u8; 2] = [198, 18];
const PATIENCE: Duration = Duration::from_secs(3);

/// The bits of the inner exit status: what came off that must not, and what did not that must.
const BY_PROXY: u8 = 1;
const PAST_PROXY: u8 = 2;
const HOST_LOOPBACK: u8 = 4;
const NO_ANSWER: u8 = 8;
const NO_NAMES: u8 = 16;
const NOT_EVERY_PORT: u8 = 32;
/// One that no list of usual ports has.
const UNUSUAL_PORT: u16 = 49_151;

/// What came of it: the attempts, and whether programs with and without a proxy are served.
pub(crate) struct DoorTested {
    pub(super) attempts: Vec<Attempt>,
    pub(super) answers: bool,
    pub(super) unaware: Unaware,
}

/// What there is for programs that know of no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unaware {
    /// Nothing: their names are not answered.
    Cut,
    /// Connections to the usual ports are taken.
    UsualPorts,
    /// All connections are.
    EveryPort,
}

impl DoorTested {
    /// What did not hold, if anything.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        let broken = self.attempts.iter().find(|attempt| !attempt.held);
        match broken {
            Some(attempt) => Some(attempt.what),
            None if !self.answers => Some("a denied host was not refused by the door"),
            None => None,
        }
    }
}

/// Starts this program behind a door that lets one name through, and looks what it could do.
///
/// # Errors
/// The test could not be set up; that says nothing of the door.
pub(super) async fn door_test() -> Result<DoorTested, Failure> {
    try_door(one_name()?).await
}

/// The same behind `door`, which has to deny [`DENIED`].
///
/// # Errors
/// The test could not be set up; that says nothing of the door.
pub(crate) async fn try_door(door: Door) -> Result<DoorTested, Failure> {
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    host.set_nonblocking(true)?;
    let own = std::env::current_exe()?;
    let policy = SandboxPolicy::read_only()
        .readable(&own)
        .network(Network::Door)
        .build()?;
    let program = Program::open(&own)?;
    let place = host.local_addr()?.to_string();
    let words = ["agent-runner", "try-the-door", place.as_str()];
    let command = Command::new(words, program, WorkingDirectory::open("/")?)?
        .with_environment([("HOME", "/")])?;
    let plan = Plan::confined(&policy, &command)?;
    let mut running = Sandbox::start(&plan, command).map_err(|error| Failure::runner(&error))?;
    let sockets = running
        .take_door()
        .ok_or_else(|| Failure::because("the walls have no door"))?;
    let waiting = tokio::task::spawn_blocking(move || running.wait());
    let run = tokio::select! {
        run = waiting => run.map_err(io::Error::other)??,
        served = door.serve(listeners(sockets), std::future::pending()) => {
            served?;
            return Err(Failure::because("the door closed during its test"));
        }
    };
    let Ending::Exited(said) = run.ending else {
        return Err(Failure::because("the door's test did not come to its end"));
    };
    if said > BY_PROXY | PAST_PROXY | HOST_LOOPBACK | NO_ANSWER | NO_NAMES | NOT_EVERY_PORT {
        return Err(Failure::because("the door's test could not try anything"));
    }
    let answers = said & NO_ANSWER == 0;
    let attempt = |what, bit, unseen: bool| Attempt {
        what,
        held: said & bit == 0 && unseen && answers,
    };
    Ok(DoorTested {
        attempts: vec![
            attempt("a host that no rule allows, by the proxy", BY_PROXY, true),
            attempt("an address outside, past the proxy", PAST_PROXY, true),
            attempt(
                "the host's loopback, past the door",
                HOST_LOOPBACK,
                host.accept().is_err(),
            ),
        ],
        answers,
        unaware: match (said & NO_NAMES, said & NOT_EVERY_PORT) {
            (0, 0) => Unaware::EveryPort,
            (0, _) => Unaware::UsualPorts,
            (_, _) => Unaware::Cut,
        },
    })
}

/// A door that lets one name through.
fn one_name() -> Result<Door, Failure> {
    let settings = network_proxy::Settings {
        user: RawNetworkProxy {
            domains: Some(RuleTable(vec![(ALLOWED.to_owned(), Permission::Allow)])),
            ..RawNetworkProxy::default()
        },
        ..network_proxy::Settings::default()
    };
    let compiled = settings
        .policy()
        .map_err(|_| Failure::because("the door's test has no policy"))?;
    let ports = Ports {
        resolver: Arc::new(SystemResolver::default()),
        dialer: Arc::new(SystemDialer),
        gate: Arc::new(NoGate),
        events: Arc::new(NoEvents),
    };
    Ok(Door::new(compiled.policy, ports, Setup::default()))
}

/// What is tried from inside: the answer says what came off that must not, and what did not that must.
pub(crate) fn from_behind_the_door(args: &cli::TryTheDoor) -> u8 {
    let bit = |said: bool, bit| if said { bit } else { 0 };
    let proxy = sandbox::Doorway::default().proxy();
    let status = by_proxy(proxy).unwrap_or(0);
    let names = (ALLOWED, 80_u16).to_socket_addrs();
    let covered = names.is_ok_and(|mut found| {
        found.any(|address| match address {
            SocketAddr::V4(address) => address.ip().octets().starts_with(&STANDS_FOR_A_NAME),
            SocketAddr::V6(_) => false,
        })
    });
    bit((200..300).contains(&status), BY_PROXY)
        | bit(status != 403, NO_ANSWER)
        | bit(says_something(OUTSIDE), PAST_PROXY)
        | bit(
            TcpStream::connect_timeout(&args.connect, PATIENCE).is_ok(),
            HOST_LOOPBACK,
        )
        | bit(!covered, NO_NAMES)
        | bit(!is_taken(UNUSUAL_PORT), NOT_EVERY_PORT)
}

/// Whether a connection to this port of the one name is taken by anybody.
fn is_taken(port: u16) -> bool {
    let mut found = (ALLOWED, port).to_socket_addrs().into_iter().flatten();
    found.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

/// The status of a CONNECT to a host that no rule allows.
fn by_proxy(proxy: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("CONNECT {DENIED}:443 HTTP/1.1\r\nHost: {DENIED}:443\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    let status = answer.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// Whether anybody answers there.
fn says_something(address: &str) -> bool {
    let said = || {
        let address = address.to_socket_addrs().ok()?.next()?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        stream.read(&mut [0; 1]).ok().filter(|read| *read > 0)
    };
    said().is_some()
}

#[cfg(test)]
mod tests {
    use super::{Attempt, DoorTested, Unaware};

    #[test]
    fn whatever_did_not_hold_is_named_and_so_is_a_door_that_did_not_answer() {
        let tested = |held, answers| DoorTested {
            attempts: vec![
                Attempt {
                    what: "one",
                    held: true,
                },
                Attempt { what: "two", held },
            ],
            answers,
            unaware: Unaware::EveryPort,
        };
        assert_eq!(tested(true, true).broken(), None);
        assert_eq!(tested(false, true).broken(), Some("two"));
        assert!(tested(true, false).broken().is_some());
    }
}
