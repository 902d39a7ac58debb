//! Connections: how many, how long each may keep us waiting, and how they end.
//!
//! Apart from the signals, because everything here is said by strangers before any token is read. Invariants: the number
//! of connections is bounded; a head that does not arrive in time, or grows past its bounds, ends the connection; memory
//! for one connection's head is bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::Patient;

/// The pause after an accept that failed: most often no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);

/// What strangers are allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many connections at once; who comes later waits in the kernel's queue.
    pub(super) connections: usize,
    /// How long a request's head may take, and how long a connection may be idle.
    pub(super) head: Duration,
    /// How long an answer may lie unread before its connection is ended.
    pub(super) unread: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // Each waiting runner holds one.
            connections: 16_384,
            head: Duration::from_secs(15),
            unread: Duration::from_secs(30),
        }
    }
}

/// The largest head, in bytes, and the most fields in it. What is larger is answered with 431.
const HEAD_BYTES: usize = 32 * 1024;
const HEAD_FIELDS: usize = 64;

/// Accepts until `stop`, then lets what is under way finish.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let tasks = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((connection, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                drop(tasks.spawn(async move {
                    carry(connection, router, bounds, stop).await;
                    drop(permit);
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn carry(connection: TcpStream, router: Router, bounds: Bounds, stop: CancellationToken) {
    // Answers are small and waited for; a connection that refuses this works all the same.
    connection.set_nodelay(true).unwrap_or_default();
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(
            TokioIo::new(Patient::new(connection, bounds.unread)),
            TowerToHyperService::new(router),
        );
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::{Bounds, serve};

    const HEAD: &str = "GET / HTTP/1.1\r\nhost: h\r\n";

    async fn started(
        tasks: &mut JoinSet<()>,
        connections: usize,
    ) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let bounds = Bounds {
            connections,
            head: Duration::from_millis(300),
            unread: Duration::from_secs(30),
        };
        let router = Router::new().route("/", get(async || "here"));
        tasks.spawn(serve(listener, router, bounds, stop.clone()));
        (address, stop)
    }

    /// What is answered to `sent`, up to the end of the connection or of patience.
    async fn answer(connection: &mut TcpStream, sent: &[u8]) -> Option<String> {
        // A server that has closed already is an answer too.
        connection.write_all(sent).await.unwrap_or_default();
        let mut text = vec![0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut text)).await;
        let length = read.ok()?.unwrap_or(0);
        text.truncate(length);
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    #[tokio::test]
    async fn who_never_ends_a_head_keeps_nobody_else_out() {
        let mut tasks = JoinSet::new();
        let (address, stop) = started(&mut tasks, 4).await;
        let mut slow = Vec::new();
        for _ in 0..4 {
            let mut connection = TcpStream::connect(address).await.expect("connected");
            connection.write_all(HEAD.as_bytes()).await.expect("sent");
            slow.push(connection);
        }
        // All four places are taken; the fifth is served when the time of the four is over.
        let mut fifth = TcpStream::connect(address).await.expect("connected");
        let told = answer(&mut fifth, format!("{HEAD}\r\n").as_bytes()).await;
        assert!(told.expect("an answer").starts_with("HTTP/1.1 200"));
        for mut connection in slow {
            // 408 or nothing, and then the end.
            let told = answer(&mut connection, b"x: y\r\n").await.expect("an end");
            assert!(
                told.is_empty() || told.starts_with("HTTP/1.1 408"),
                "{told}"
            );
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_head_without_measure_is_refused_and_held_by_nobody() {
        let mut tasks = JoinSet::new();
        let (address, stop) = started(&mut tasks, 8).await;
        let many = "x: y\r\n".repeat(100_000);
        let long = format!("x: {}\r\n", "y".repeat(1 << 20));
        for head in [many, long] {
            let mut connection = TcpStream::connect(address).await.expect("connected");
            let told = answer(&mut connection, format!("{HEAD}{head}\r\n").as_bytes()).await;
            let told = told.expect("an end");
            assert!(
                told.is_empty() || told.starts_with("HTTP/1.1 431"),
                "{told}"
            );
        }
        let mut next = TcpStream::connect(address).await.expect("connected");
        let told = answer(&mut next, format!("{HEAD}\r\n").as_bytes()).await;
        assert!(told.expect("an answer").ends_with("here"));
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
