//! The processes beside the load: an origin, a bare relay, the door.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use network_proxy::{
    Door, Limits, Listeners, NoEvents, NoGate, Ports, RawNetworkProxy, Settings, Setup, SniCheck,
    SystemDialer, SystemResolver,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Anyhow;

/// The small answer's size, in bytes.
pub(crate) const SMALL: usize = 1024;
/// The bulk answer's size, in bytes.
pub(crate) const BULK: u64 = 512 * 1024 * 1024;

fn runtime() -> Anyhow<tokio::runtime::Runtime> {
    // One thread, as the runner has.
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Tells the parent where this process listens.
fn tell(address: impl std::fmt::Display) -> Anyhow<()> {
    println!("{address}");
    std::io::stdout().flush()?;
    Ok(())
}

fn listener() -> Anyhow<StdListener> {
    let listeners = Listeners::on_loopback()?;
    let listener = listeners.proxy.into_iter().next().ok_or("no listener")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers GET with 1 KiB, or with 512 MiB under `/bulk`.
pub(crate) fn origin() -> Anyhow<()> {
    let listener = listener()?;
    tell(listener.local_addr()?)?;
    runtime()?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut tasks = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let _handle = tasks.spawn(answer(stream));
            while tasks.try_join_next().is_some() {}
        }
    })
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let small = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {SMALL}\r\n\r\n").into_bytes(),
        vec![b'x'; SMALL],
    ]
    .concat();
    let mut pending: Vec<u8> = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
        while let Some(end) = pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            if head.starts_with(b"GET /bulk") {
                return bulk(stream).await;
            }
            stream.write_all(&small).await?;
        }
    }
}

async fn bulk(mut stream: TcpStream) -> std::io::Result<()> {
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n").as_bytes())
        .await?;
    let piece = vec![b'x'; 256 * 1024];
    let mut left = BULK;
    while left > 0 {
        stream.write_all(&piece).await?;
        left = left.saturating_sub(256 * 1024);
    }
    Ok(())
}

/// The least that a CONNECT proxy can do: a fixed head, a dial, tokio's own copying.
pub(crate) fn relay() -> Anyhow<()> {
    let listener = listener()?;
    tell(listener.local_addr()?)?;
    runtime()?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut tasks = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let _handle = tasks.spawn(pass(stream));
            while tasks.try_join_next().is_some() {}
        }
    })
}

async fn pass(mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut origin = TcpStream::connect(text.split(' ').nth(1).unwrap_or_default()).await?;
    origin.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let _bytes =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut origin, 16 * 1024, 64 * 1024)
            .await?;
    Ok(())
}

/// The door, on its own loopback or on a listener that somebody inside a namespace passes over `socket`.
pub(crate) fn door(socket: Option<&str>) -> Anyhow<()> {
    let listeners = match socket {
        None => Listeners::on_loopback()?,
        Some(socket) => {
            let gate = std::os::unix::net::UnixListener::bind(socket)?;
            tell("ready")?;
            let listener = StdListener::from(receive(&gate.accept()?.0)?);
            Listeners {
                proxy: vec![listener],
                relays: Vec::new(),
                names: None,
                names_by_stream: None,
                transparent: Vec::new(),
            }
        }
    };
    if socket.is_none() {
        tell(listeners.address()?)?;
    }
    let user: RawNetworkProxy = serde_json::from_str(r#"{"domains": {"127.0.0.1": "allow"}}"#)?;
    let settings = Settings {
        user,
        sni_check: SniCheck::Enforce,
        ..Settings::default()
    };
    let policy = settings
        .policy()
        .map_err(|faults| format!("{faults:?}"))?
        .policy;
    let ports = Ports {
        resolver: Arc::new(SystemResolver::default()),
        dialer: Arc::new(SystemDialer),
        gate: Arc::new(NoGate),
        events: Arc::new(NoEvents),
    };
    let limits = Limits {
        connections: 8192,
        tunnels: 8000,
        ..Limits::default()
    };
    let door = Door::new(
        policy,
        ports,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    runtime()?.block_on(door.serve(listeners, std::future::pending()))?;
    Ok(())
}

/// Takes the one descriptor that comes.
fn receive(stream: &std::os::unix::net::UnixStream) -> Anyhow<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let _received = recvmsg(
        stream,
        &mut [std::io::IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    Err("no descriptor came".into())
}

/// 10,000 rules, and what a question to them costs.
pub(crate) fn decisions() -> Anyhow<(std::time::Duration, usize)> {
    let mut domains = serde_json::Map::new();
    for place in 0..10_000 {
        let pattern = match place % 3 {
            0 => format!("host{place}.example.com"),
            1 => format!("*.zone{place}.example.org"),
            _ => format!("**.tree{place}.example.net"),
        };
        let _new = domains.insert(pattern, "allow".into());
    }
    let user: RawNetworkProxy = serde_json::from_value(serde_json::json!({ "domains": domains }))?;
    let policy = Settings {
        user,
        ..Settings::default()
    }
    .policy()
    .map_err(|faults| format!("{faults:?}"))?
    .policy;
    let asked = [
        "host9000.example.com",
        "a.b.zone9001.example.org",
        "tree9002.example.net",
        "nowhere.example.edu",
    ];
    let asked: Vec<_> = asked
        .iter()
        .filter_map(|name| network_proxy::Destination::parse(name, Some(443)).ok())
        .chain([network_proxy::Destination {
            host: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)).into(),
            port: 80,
        }])
        .collect();
    let rounds = 200_000;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        for to in &asked {
            drop(std::hint::black_box(policy.check(std::hint::black_box(to))));
        }
    }
    Ok((begun.elapsed(), rounds * asked.len()))
}
