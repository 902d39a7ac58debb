//! The case's own world: names, dialling, the gate and the origin. No packet leaves loopback.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use network_proxy::{
    Answer, DialTarget, Dialer, Event, Events, Gate, HostName, Question, ResolveError, Resolver,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What was seen, by everybody.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) dials: Vec<String>,
    pub(crate) lookups: Vec<String>,
    pub(crate) questions: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) origin: Vec<u8>,
    pub(crate) upstream: Vec<String>,
    pub(crate) datagrams: Vec<String>,
}

/// Shared between the ports and the driver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

impl Log {
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers from the case, and counts.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) log: Log,
    pub(crate) table: Value,
    pub(crate) turns: Mutex<HashMap<String, usize>>,
}

impl Names {
    fn entry(&self, name: &str) -> Option<Value> {
        let entry = self
            .table
            .as_object()?
            .iter()
            .find(|(own, _)| own.trim_end_matches('.').eq_ignore_ascii_case(name))?
            .1;
        let Some(sequence) = entry["sequence"].as_array() else {
            return Some(entry.clone());
        };
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(name.to_owned()).or_default();
        let answer = sequence.get(*turn).or_else(|| sequence.last()).cloned();
        *turn += 1;
        answer
    }

    async fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut entry = self.entry(name)?;
        for _ in 0..8 {
            let Some(alias) = entry["CNAME"].as_str() else {
                break;
            };
            entry = self.entry(alias.trim_end_matches('.'))?;
        }
        if let Some(delay) = entry["delay_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if entry["rcode"]
            .as_str()
            .is_some_and(|code| code != "NOERROR")
        {
            return None;
        }
        let listed = ["A", "AAAA"]
            .into_iter()
            .flat_map(|kind| entry[kind].as_array().cloned().unwrap_or_default());
        let mut addresses: Vec<IpAddr> = listed
            .filter_map(|text| text.as_str()?.parse().ok())
            .collect();
        addresses.extend(
            entry["hosts_file"]
                .as_str()
                .and_then(|text| text.parse::<IpAddr>().ok()),
        );
        if let (Some(count), Some(base)) = (entry["A_count"].as_u64(), entry["A_base"].as_str()) {
            let base: std::net::Ipv4Addr = base.parse().ok()?;
            addresses.extend(
                (0..u32::try_from(count).ok()?)
                    .map(|more| IpAddr::V4((base.to_bits() + more).into())),
            );
        }
        Some(addresses)
    }
}

impl Resolver for Names {
    fn resolve<'a>(
        &'a self,
        name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        self.log.with(|seen| seen.lookups.push(name.absolute()));
        Box::pin(async move {
            self.addresses(name.as_str())
                .await
                .ok_or(ResolveError::NoAddress)
        })
    }
}

/// Records what is dialled, and connects to the origin instead.
#[derive(Debug)]
pub(crate) struct Dials {
    pub(crate) log: Log,
    pub(crate) faults: Value,
    pub(crate) origin: SocketAddr,
    pub(crate) datagrams: SocketAddr,
    pub(crate) upstream: Option<(SocketAddr, SocketAddr)>,
    /// The folder that stands for `/` where Unix sockets are concerned.
    pub(crate) root: PathBuf,
}

impl Dialer for Dials {
    fn tcp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let address = to.address();
            let upstream = self.upstream.filter(|(own, _)| *own == address);
            if upstream.is_none() {
                self.log.with(|seen| seen.dials.push(address.to_string()));
            }
            let fault = self
                .faults
                .as_str()
                .or_else(|| self.faults[address.to_string()].as_str());
            match (fault, upstream) {
                (Some("refuse"), _) => Err(io::ErrorKind::ConnectionRefused.into()),
                (Some(_), _) => std::future::pending().await,
                (None, Some((_, instead))) => TcpStream::connect(instead).await,
                (None, None) => TcpStream::connect(self.origin).await,
            }
        })
    }

    fn udp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(async move {
            self.log
                .with(|seen| seen.dials.push(to.address().to_string()));
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(self.datagrams).await?;
            Ok(socket)
        })
    }

    fn unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<UnixStream>> {
        Box::pin(async move {
            // The door's own way of opening: no symbolic link is followed.
            let stream = network_proxy::SystemDialer.unix(path).await?;
            let shown = path.strip_prefix(&self.root).unwrap_or(path);
            self.log
                .with(|seen| seen.dials.push(format!("unix:/{}", shown.display())));
            Ok(stream)
        })
    }
}

/// What the gate says, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) says: Option<String>,
    pub(crate) delay: Duration,
}

/// A gate that follows the case.
#[derive(Debug)]
pub(crate) struct Decider {
    pub(crate) log: Log,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Gate for Decider {
    fn ask(self: Arc<Self>, question: Question) -> BoxFuture<'static, Answer> {
        self.log.with(|seen| seen.questions.push(question.text()));
        let script = self
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            tokio::time::sleep(script.delay).await;
            match script.says.as_deref() {
                Some("allow" | "allow_once") => Answer::Once,
                Some("allow_execution" | "allow_command") => Answer::Execution,
                Some("allow_session") => Answer::Session,
                Some("deny") => Answer::Denied(Some("not part of the task".to_owned())),
                Some("timeout") => Answer::TimedOut,
                Some("record" | "hang" | "pending") => std::future::pending().await,
                Some(_) | None => Answer::Failed,
            }
        })
    }
}

impl Events for Log {
    fn record(&self, event: Event) {
        self.with(|seen| seen.events.push(event));
    }
}

/// How the origin behaves.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Answers each HTTP head; what is not HTTP it keeps.
    Http(Vec<u8>),
    /// Waits for the end, then answers.
    AfterEnd(Vec<u8>),
    /// Sends that many bytes.
    Sends(u64),
}

/// The origin's listeners; its tasks end with it.
pub(crate) struct Origin {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) upstream: SocketAddr,
    tasks: JoinSet<()>,
}

impl Origin {
    pub(crate) async fn start(
        log: &Log,
        manner: Manner,
        tls: Option<TlsAcceptor>,
        upstream_status: u64,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let datagrams = UdpSocket::bind("127.0.0.1:0").await?;
        let upstream = TcpListener::bind("127.0.0.1:0").await?;
        let (tcp, udp, proxy) = (
            listener.local_addr()?,
            datagrams.local_addr()?,
            upstream.local_addr()?,
        );
        let mut tasks = JoinSet::new();
        let _handle = tasks.spawn(accept(log.clone(), manner.clone(), tls, listener));
        let _handle = tasks.spawn(keep_datagrams(log.clone(), datagrams));
        let _handle = tasks.spawn(accept_proxied(
            log.clone(),
            manner,
            upstream,
            upstream_status,
        ));
        Ok(Self {
            tcp,
            udp,
            upstream: proxy,
            tasks,
        })
    }

    /// Serves HTTP on a Unix socket too.
    pub(crate) fn add_unix(&mut self, log: &Log, manner: Manner, path: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(path)?;
        let log = log.clone();
        let _handle = self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _handle = connections.spawn(behave(log.clone(), manner.clone(), stream));
            }
        });
        Ok(())
    }
}

async fn keep_datagrams(log: Log, socket: UdpSocket) {
    let mut buffer = vec![0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let content = buffer.get(..length).unwrap_or_default();
        log.with(|seen| {
            seen.datagrams
                .push(String::from_utf8_lossy(content).into_owned())
        });
        let _lost = socket.send_to(content, from).await;
    }
}

async fn accept(log: Log, manner: Manner, tls: Option<TlsAcceptor>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (log, manner, tls) = (log.clone(), manner.clone(), tls.clone());
        let _handle = connections.spawn(async move {
            match tls {
                None => behave(log, manner, stream).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        behave(log, manner, stream).await;
                    }
                }
            }
        });
    }
}

async fn accept_proxied(log: Log, manner: Manner, listener: TcpListener, status: u64) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (log, manner) = (log.clone(), manner.clone());
        let _handle = connections.spawn(async move {
            let Some(head) = read_head(&mut stream).await else { return };
            log.with(|seen| {
                seen.upstream.push(head.lines().next().unwrap_or_default().to_owned());
                seen.origin.extend_from_slice(head.as_bytes());
            });
            let answer = match (head.starts_with("CONNECT "), status) {
                (true, 200) => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
                (false, 200) => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
                (_, status) => format!("HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"),
            };
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                behave(log, manner, stream).await;
            }
        });
    }
}

/// A head, byte by byte, so that nothing behind it is taken.
pub(crate) async fn read_head<Stream: AsyncRead + Unpin>(stream: &mut Stream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn behave<Stream: AsyncRead + AsyncWrite + Unpin>(
    log: Log,
    manner: Manner,
    mut stream: Stream,
) {
    match manner {
        Manner::Http(answer) => answer_heads(log, &answer, stream).await,
        Manner::AfterEnd(answer) => {
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).await.is_ok() {
                log.with(|seen| seen.origin.extend_from_slice(&all));
                let _lost = stream.write_all(&answer).await;
                let _lost = stream.shutdown().await;
            }
        }
        Manner::Sends(mut left) => {
            let piece = vec![b'x'; 64 * 1024];
            while left > 0 {
                let here = usize::try_from(left.min(64 * 1024)).unwrap_or_default();
                if stream
                    .write_all(piece.get(..here).unwrap_or_default())
                    .await
                    .is_err()
                {
                    return;
                }
                left -= u64::try_from(here).unwrap_or_default();
            }
            let _lost = stream.shutdown().await;
        }
    }
}

async fn answer_heads<Stream: AsyncRead + AsyncWrite + Unpin>(
    log: Log,
    answer: &[u8],
    mut stream: Stream,
) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let content = buffer.get(..length).unwrap_or_default();
        log.with(|seen| seen.origin.extend_from_slice(content));
        pending.extend_from_slice(content);
        while let Some(end) = pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let upgrade: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let answer = if text.contains("upgrade: websocket") {
                upgrade
            } else {
                answer
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}
