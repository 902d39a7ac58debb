//! The load: what a client does, and how fast it was. One line of numbers for the parent.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use network_proxy::Listeners;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::roles::{BULK, SMALL};
use crate::{Anyhow, address};

/// How long a rate is measured.
const TIME: Duration = Duration::from_secs(3);
/// How many tunnels are measured one after the other.
const ALONE: usize = 2000;

/// The way to the origin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Via {
    /// None between.
    Direct,
    /// A proxy.
    Proxy(SocketAddr),
}

impl Via {
    pub(crate) fn parse(text: &str) -> Self {
        address(text).map_or(Self::Direct, Self::Proxy)
    }
}

/// Makes the listener in this process's own network, passes it to the door, and puts load on it.
pub(crate) fn inside(kind: &str, socket: &str, origin: &str) -> Anyhow<()> {
    let listeners = Listeners::on_loopback()?;
    let at = listeners.address()?;
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    let listener = listeners.proxy.first().ok_or("no listener")?;
    let descriptors = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let _fits = control.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors));
    let _sent = rustix::net::sendmsg(
        &stream,
        &[IoSlice::new(&[1])],
        &mut control,
        rustix::net::SendFlags::empty(),
    )?;
    run(kind, Via::Proxy(at), origin)
}

/// Does one kind of load; prints the kind's numbers.
pub(crate) fn run(kind: &str, via: Via, origin: &str) -> Anyhow<()> {
    let origin = address(origin)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Until the other side is there.
        for _ in 0..200 {
            if tunnelled(via, origin).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match kind {
            "alone" => alone(via, origin).await,
            "new" => new(via, origin).await,
            "keep" => keep(via, origin).await,
            "bulk" => bulk(via, origin).await,
            other => Err(format!("no load `{other}`").into()),
        }
    })
}

async fn open(via: Via, origin: SocketAddr) -> std::io::Result<TcpStream> {
    let Via::Proxy(proxy) = via else {
        return TcpStream::connect(origin).await;
    };
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").as_bytes())
        .await?;
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    if head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200") {
        Ok(stream)
    } else {
        Err(std::io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        ))
    }
}

/// A tunnel and one small request through it: how long until the tunnel stood, and until the answer was whole.
async fn tunnelled(via: Via, origin: SocketAddr) -> std::io::Result<(Duration, Duration)> {
    let begun = Instant::now();
    let mut stream = open(via, origin).await?;
    let stood = begun.elapsed();
    request(
        &mut stream,
        &format!("GET / HTTP/1.1\r\nHost: {origin}\r\n\r\n"),
    )
    .await?;
    Ok((stood, begun.elapsed()))
}

/// Sends one small request and reads its answer.
async fn request(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if end.is_some_and(|end| answer.len() >= end + 4 + SMALL) {
            return Ok(());
        }
    }
}

/// One after the other: median and 99th percentile of standing and of the whole, in nanoseconds; how many.
async fn alone(via: Via, origin: SocketAddr) -> Anyhow<()> {
    let (mut stood, mut whole) = (Vec::with_capacity(ALONE), Vec::with_capacity(ALONE));
    for _ in 0..ALONE {
        let (one, all) = tunnelled(via, origin).await?;
        stood.push(one);
        whole.push(all);
    }
    stood.sort_unstable();
    whole.sort_unstable();
    let at = |sorted: &[Duration], percent: usize| {
        sorted
            .get(sorted.len() * percent / 100)
            .map_or(0, Duration::as_nanos)
    };
    println!(
        "{} {} {} {ALONE}",
        at(&stood, 50),
        at(&whole, 50),
        at(&whole, 99)
    );
    Ok(())
}

/// Sixteen workers that open tunnels: how many a second; how many in all.
async fn new(via: Via, origin: SocketAddr) -> Anyhow<()> {
    rate(move |count| async move {
        tunnelled(via, origin).await?;
        let _before = count.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    })
    .await
}

/// Sixteen connections with one plain request after the other: how many a second; how many in all.
async fn keep(via: Via, origin: SocketAddr) -> Anyhow<()> {
    let (at, text) = match via {
        Via::Direct => (origin, format!("GET / HTTP/1.1\r\nHost: {origin}\r\n\r\n")),
        Via::Proxy(proxy) => (
            proxy,
            format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n"),
        ),
    };
    let kept: Arc<tokio::sync::Mutex<Vec<TcpStream>>> = Arc::default();
    rate(move |count| {
        let (kept, text) = (Arc::clone(&kept), text.clone());
        async move {
            let waiting = kept.lock().await.pop();
            let mut stream = match waiting {
                Some(stream) => stream,
                None => TcpStream::connect(at).await?,
            };
            stream.set_nodelay(true)?;
            if request(&mut stream, &text).await.is_ok() {
                let _before = count.fetch_add(1, Ordering::Relaxed);
                kept.lock().await.push(stream);
            }
            Ok(None)
        }
    })
    .await
}

async fn rate<Step, Done>(step: Step) -> Anyhow<()>
where
    Step: Fn(Arc<AtomicU64>) -> Done + Clone + Send + 'static,
    Done: Future<Output = std::io::Result<Option<()>>> + Send,
{
    let count = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..16 {
        let (step, count) = (step.clone(), Arc::clone(&count));
        let _handle = workers.spawn(async move {
            while begun.elapsed() < TIME {
                let _one = step(Arc::clone(&count)).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let count = count.load(Ordering::Relaxed);
    println!(
        "{} {count}",
        u128::from(count) * 1_000_000_000 / begun.elapsed().as_nanos()
    );
    Ok(())
}

/// One large download: mebibytes a second; bytes.
async fn bulk(via: Via, origin: SocketAddr) -> Anyhow<()> {
    let mut stream = open(via, origin).await?;
    stream
        .write_all(format!("GET /bulk HTTP/1.1\r\nHost: {origin}\r\n\r\n").as_bytes())
        .await?;
    let mut buffer = vec![0; 256 * 1024];
    let begun = Instant::now();
    let mut read = 0_u64;
    while read < BULK {
        match stream.read(&mut buffer).await? {
            0 => return Err("the download was cut".into()),
            count => read += u64::try_from(count)?,
        }
    }
    println!(
        "{} {read}",
        u128::from(read) * 1_000_000_000 / begun.elapsed().as_nanos() / (1024 * 1024)
    );
    Ok(())
}
