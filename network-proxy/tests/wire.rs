//! Bytes through the door as a client and an origin see them: tunnels, kept connections, upgrades, bodies, endings.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use network_proxy::{Event, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;

const SOON: Duration = Duration::from_secs(10);

/// A door in front of an origin that the test plays itself.
struct Scene {
    tasks: JoinSet<io::Result<()>>,
    at: SocketAddr,
    origin: TcpListener,
    events: start::Kept,
}

impl Scene {
    async fn new() -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut tasks = JoinSet::new();
        let (at, events) = start::start(
            &mut tasks,
            origin.local_addr().expect("an address"),
            start::usual(Limits::default()),
        );
        Self {
            tasks,
            at,
            origin,
            events,
        }
    }

    async fn client(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.expect("the door");
        stream.write_all(bytes.as_bytes()).await.expect("sent");
        stream
    }

    async fn origin(&self) -> TcpStream {
        timeout(SOON, self.origin.accept())
            .await
            .expect("the door dials")
            .expect("accepted")
            .0
    }

    /// A tunnel: both ends of it.
    async fn tunnel(&self, port: u16) -> (TcpStream, TcpStream) {
        let mut client = self
            .client(&format!(
                "CONNECT site.test:{port} HTTP/1.1\r\nHost: site.test\r\n\r\n"
            ))
            .await;
        let origin = self.origin().await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        (client, origin)
    }
}

/// Reads a head and nothing behind it.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(
            timeout(SOON, stream.read_u8())
                .await
                .expect("in time")
                .expect("a byte"),
        );
    }
    String::from_utf8(bytes).expect("text")
}

async fn exactly(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    timeout(SOON, stream.read_exact(&mut bytes))
        .await
        .expect("in time")
        .expect("all of it");
    String::from_utf8(bytes).expect("text")
}

async fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes))
        .await
        .expect("in time")
        .expect("in order");
    bytes
}

/// Bytes without a period that a buffer's size could hide.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn a_tunnel_carries_every_byte_both_ways_and_each_end_by_itself() {
    let scene = Scene::new().await;
    let (mut client, mut origin) = scene.tunnel(8443).await;
    let (up, down) = (noise(5_000_001, 1), noise(7_000_003, 2));
    let sending = async {
        client.write_all(&up).await.expect("sent");
        client.shutdown().await.expect("ended");
        to_end(&mut client).await
    };
    let answering = async {
        let got = to_end(&mut origin).await;
        // The client has ended; the answer still goes through.
        origin.write_all(&down).await.expect("sent");
        origin.shutdown().await.expect("ended");
        got
    };
    let (answer, got) = tokio::join!(sending, answering);
    assert!(got == up && answer == down);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let events = scene.events.0.lock().expect("nobody panicked");
    let [
        Event::Decided(decided),
        Event::Closed {
            sent,
            received,
            failure,
            ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(decided.verdict, Ok(()));
    assert_eq!((*sent, *received, *failure), (5_000_001, 7_000_003, None));
}

#[tokio::test]
async fn bytes_sent_with_the_request_come_first() {
    let scene = Scene::new().await;
    let mut client = scene
        .client("CONNECT site.test:22 HTTP/1.1\r\nHost: site.test\r\n\r\nearly")
        .await;
    let mut origin = scene.origin().await;
    let _answer = head(&mut client).await;
    client.write_all(b" and late").await.expect("sent");
    assert_eq!(exactly(&mut origin, 14).await, "early and late");
}

#[tokio::test]
async fn plain_requests_share_a_connection_and_survive_its_end() {
    let scene = Scene::new().await;
    let request = "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let mut client = scene.client(request).await;
    let mut origin = scene.origin().await;
    for _ in 0..3 {
        assert!(
            head(&mut origin)
                .await
                .starts_with("GET / HTTP/1.1\r\nHost: site.test\r\n")
        );
        origin
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .expect("sent");
        let _head = head(&mut client).await;
        assert_eq!(exactly(&mut client, 2).await, "ok");
        client.write_all(request.as_bytes()).await.expect("sent");
    }
    // The third answer is given; the fourth request meets a connection that closes.
    let _fourth = head(&mut origin).await;
    drop(origin);
    let mut fresh = scene.origin().await;
    let _again = head(&mut fresh).await;
    fresh
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn a_request_with_a_body_is_never_sent_twice() {
    let scene = Scene::new().await;
    let mut client = scene
        .client("POST http://site.test/ HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let mut origin = scene.origin().await;
    let _head = head(&mut origin).await;
    assert_eq!(exactly(&mut origin, 2).await, "hi");
    drop(origin);
    assert!(head(&mut client).await.starts_with("HTTP/1.1 502 "));
    assert!(
        timeout(Duration::from_millis(200), scene.origin.accept())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_after_its_handshake() {
    let scene = Scene::new().await;
    let mut client = scene
        .client("GET http://site.test/ws HTTP/1.1\r\nHost: site.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n")
        .await;
    let mut origin = scene.origin().await;
    let asked = head(&mut origin).await;
    assert!(
        asked.contains("\r\nUpgrade: websocket\r\n")
            && asked.contains("\r\nSec-WebSocket-Key: eA==\r\n"),
        "{asked}"
    );
    origin.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello").await.expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(exactly(&mut client, 5).await, "hello");
    client.write_all(b"world").await.expect("sent");
    assert_eq!(exactly(&mut origin, 5).await, "world");
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let scene = Scene::new().await;
    let mut client = scene.client("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    let mut origin = scene.origin().await;
    assert!(
        !head(&mut origin)
            .await
            .to_ascii_lowercase()
            .contains("upgrade")
    );
    origin
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        )
        .await
        .expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn chunks_are_made_anew_and_interim_answers_pass() {
    let scene = Scene::new().await;
    let mut client = scene
        .client("PUT http://site.test/ HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let mut origin = scene.origin().await;
    assert!(
        head(&mut origin)
            .await
            .contains("\r\nExpect: 100-continue\r\n")
    );
    origin
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 100 "));
    client
        .write_all(b"3;note=1\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n")
        .await
        .expect("sent");
    assert_eq!(exactly(&mut origin, 13).await, "3\r\nabc\r\n0\r\n\r\n");
    origin
        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
        .await
        .expect("sent");
    drop(origin);
    assert!(
        head(&mut client)
            .await
            .contains("\r\nTransfer-Encoding: chunked\r\n")
    );
    assert_eq!(
        exactly(&mut client, 23).await,
        "d\r\nuntil the end\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_look_whole() {
    let scene = Scene::new().await;
    let mut client = scene
        .client("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
        .await;
    let mut origin = scene.origin().await;
    let _head = head(&mut origin).await;
    origin
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        .await
        .expect("sent");
    drop(origin);
    let all = String::from_utf8(to_end(&mut client).await).expect("text");
    assert!(all.contains("hel") && !all.ends_with("0\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn an_early_answer_ends_both_connections() {
    let scene = Scene::new().await;
    let mut client = scene.client("POST http://site.test/ HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1000000\r\n\r\nbegin").await;
    let mut origin = scene.origin().await;
    let _head = head(&mut origin).await;
    origin
        .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(to_end(&mut client).await, b"");
}

#[tokio::test]
async fn when_the_execution_ends_its_tunnels_end() {
    let mut scene = Scene::new().await;
    let (mut client, mut origin) = scene.tunnel(8443).await;
    scene.tasks.shutdown().await;
    assert_eq!(to_end(&mut client).await, b"");
    assert_eq!(to_end(&mut origin).await, b"");
    assert!(TcpStream::connect(scene.at).await.is_err());
}
