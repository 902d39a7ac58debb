//! Names as a program asks for them that knows of no proxy: how many are answered, and how many are looked up outside.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdp};
use std::time::Duration;

use network_proxy::{Event, Limits, Listeners, RawNetworkProxy, Reason, Settings, Setup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;

const SOON: Duration = Duration::from_secs(10);
const NO_ERROR: u8 = 0;
const REFUSED: u8 = 5;

/// A query for the address of a name.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// An origin that takes connections and says nothing.
async fn origin(tasks: &mut JoinSet<io::Result<()>>) -> SocketAddr {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = origin.local_addr().expect("an address");
    let _origin = tasks.spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(origin.accept().await?);
        }
    });
    address
}

/// What a door is made of that allows everything below `tunnel.test`, within `limits`.
fn parts(limits: Limits) -> (Settings, Setup) {
    let (mut settings, setup) = start::usual(limits);
    let table = "domains = { \"*.tunnel.test\" = \"allow\" }";
    settings.user = toml::from_str::<RawNetworkProxy>(table).expect("a table");
    (settings, setup)
}

/// How the door answers a query for this name.
async fn asked(socket: &UdpSocket, name: &str) -> u8 {
    let mut answer = [0; 512];
    let exchange = async {
        socket.send(&query(name)).await.expect("sent");
        socket.recv(&mut answer).await.expect("answered")
    };
    let _length = timeout(SOON, exchange).await.expect("in time");
    answer[3] & 15
}

fn limited(events: &start::Kept) -> usize {
    let events = events.0.lock().expect("nobody panicked");
    let limited = |event: &&Event| matches!(event, Event::Decided(decided) if decided.verdict == Err(Reason::NameLimit));
    events.iter().filter(limited).count()
}

#[tokio::test]
async fn queries_beyond_the_bound_are_refused_and_put_on_record_once() {
    let mut tasks = JoinSet::new();
    let limits = Limits {
        queries: 8,
        ..Limits::default()
    };
    let names = StdUdp::bind("127.0.0.1:0").expect("loopback");
    let at = names.local_addr().expect("an address");
    let mut listeners = Listeners::on_loopback().expect("loopback");
    listeners.names = Some(names);
    let origin = origin(&mut tasks).await;
    let (_, events) = start::serve(&mut tasks, origin, parts(limits), listeners);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    socket.connect(at).await.expect("connected");
    for number in 0..8 {
        let name = format!("secret{number}.tunnel.test");
        assert_eq!(asked(&socket, &name).await, NO_ERROR, "{name}");
    }
    for number in 8..40 {
        let name = format!("secret{number}.tunnel.test");
        assert_eq!(asked(&socket, &name).await, REFUSED, "{name}");
    }
    assert_eq!(limited(&events), 1);
    // This machine's own name needs nobody's answer.
    assert_eq!(asked(&socket, "localhost").await, NO_ERROR);
}

#[tokio::test]
async fn names_carry_no_more_out_than_a_bounded_number_of_lookups() {
    let mut tasks = JoinSet::new();
    let limits = Limits {
        looked_up: 3,
        ..Limits::default()
    };
    let origin = origin(&mut tasks).await;
    let (at, events) = start::start(&mut tasks, origin, parts(limits));
    let mut statuses = Vec::new();
    for name in ["a", "b", "a", "c", "d", "e", "b"] {
        let mut stream = TcpStream::connect(at).await.expect("the door");
        let request = format!(
            "CONNECT {name}.tunnel.test:443 HTTP/1.1\r\nHost: {name}.tunnel.test:443\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        let read = timeout(SOON, stream.read_exact(&mut answer)).await;
        let _length = read.expect("in time").expect("an answer");
        statuses.push(String::from_utf8_lossy(&answer[9..]).into_owned());
    }
    assert_eq!(
        statuses,
        ["200", "200", "200", "200", "503", "503", "200"],
        "a name that was looked up stays open"
    );
    assert_eq!(limited(&events), 2);
}
