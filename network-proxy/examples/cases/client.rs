//! The client's side of a case: bytes as they are given, answers as they come.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::drive::{Observed, Stage};
use crate::ports::read_head;
use crate::wire::Wire;

/// How long an answer may take: longer than every deadline of the door.
const LONGEST_ANSWER: Duration = Duration::from_secs(35);

/// One character is one byte; what is beyond is UTF-8.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match u8::try_from(u32::from(letter)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// An HTTP answer, as far as cases ask about it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
}

/// Reads one answer with its body; no status where the connection ended.
pub(crate) async fn read_answer<Stream: AsyncRead + Unpin>(
    stream: &mut Stream,
) -> io::Result<Answer> {
    let Ok(head) = timeout(LONGEST_ANSWER, read_head(stream)).await else {
        return Ok(Answer::default());
    };
    let Some(head) = head else {
        return Ok(Answer::default());
    };
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let length = field("content-length")
        .and_then(|length| length.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = vec![0; length.min(1 << 20)];
    let _cut = timeout(LONGEST_ANSWER, stream.read_exact(&mut body)).await;
    Ok(Answer {
        status,
        reason: field("x-proxy-reason"),
    })
}

/// Whether the stream ends within that time.
pub(crate) async fn ends<Stream: AsyncRead + Unpin>(stream: &mut Stream, within: Duration) -> bool {
    let drain = async {
        let mut buffer = vec![0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    };
    timeout(within, drain).await.is_ok()
}

#[expect(
    clippy::cognitive_complexity,
    reason = "one branch for each thing a case may do"
)]
/// What a case does inside an open tunnel.
pub(crate) async fn inside_tunnel(
    stage: &Stage,
    request: &Value,
    mut stream: TcpStream,
    observed: &mut Observed,
) -> io::Result<()> {
    if request["client_hello"].is_object() {
        let hello = client_hello(
            request["client_hello"]["sni"].as_str(),
            request["client_hello"]["ech"] == true,
        );
        stream.write_all(&hello).await?;
        let ended = ends(&mut stream, Duration::from_millis(500)).await;
        observed.closed = ended.then_some(Duration::ZERO);
    } else if let Some(first) = request["first_bytes_latin1"].as_str() {
        stream.write_all(&latin1(first)).await?;
        let ended = ends(&mut stream, Duration::from_millis(300)).await;
        observed.closed = ended.then_some(Duration::ZERO);
        let arrived = stage
            .log
            .with(|seen| seen.origin.starts_with(&latin1(first)));
        if !arrived {
            return Err(io::Error::other("the first bytes did not reach the origin"));
        }
    } else if let Some(inner) = request["inner"].as_str() {
        observed.inner = through_tls(stage, request, stream, latin1(inner)).await?;
    } else if request["inner_h2"].is_object() {
        // The door offers HTTP/1.1 alone; a client that speaks HTTP/2 all the same gets an answer in HTTP/1.1.
        let headers: &[u8] =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        observed.inner = through_tls(stage, request, stream, headers.to_vec()).await?;
    } else if request["half_close"].is_string() {
        stream.write_all(b"ping").await?;
        stream.shutdown().await?;
        timeout(LONGEST_ANSWER, stream.read_to_end(&mut observed.answer)).await??;
    } else if let Some(count) = request["transfer_bytes"].as_u64() {
        observed.grown_kib = read_slowly(stream, count).await?;
    }
    Ok(())
}

async fn through_tls(
    stage: &Stage,
    request: &Value,
    stream: TcpStream,
    bytes: Vec<u8>,
) -> io::Result<Option<u16>> {
    let host = request["authority"]
        .as_str()
        .unwrap_or_default()
        .split(':')
        .next()
        .unwrap_or_default();
    let mut secured = stage.tls.connect(host, stream).await?;
    secured.write_all(&bytes).await?;
    Ok(read_answer(&mut secured).await?.status)
}

/// Reads a little for two seconds, then all of it; how much the process grew meanwhile.
async fn read_slowly(mut stream: TcpStream, count: u64) -> io::Result<u64> {
    let before = resident_kib();
    let mut buffer = vec![0; 64 * 1024];
    let (mut largest, mut read) = (before, 0_u64);
    for _ in 0..20 {
        let piece = buffer.get_mut(..4096).unwrap_or_default();
        read += u64::try_from(stream.read(piece).await?).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(100)).await;
        largest = largest.max(resident_kib());
    }
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            more => read += u64::try_from(more).unwrap_or_default(),
        }
    }
    if read != count {
        return Err(io::Error::other(format!("{read} of {count} bytes came")));
    }
    Ok(largest.max(resident_kib()).saturating_sub(before))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Sends on while the answer is read.
pub(crate) async fn stream_on(stream: TcpStream, mut observed: Observed) -> io::Result<Observed> {
    let begun = std::time::Instant::now();
    let (mut read, mut write) = stream.into_split();
    let send = async {
        let piece = vec![b'x'; 64 * 1024];
        while write.write_all(&piece).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let receive = async {
        let answer = read_answer(&mut read).await?;
        observed.statuses.extend(answer.status);
        observed.reason = answer.reason;
        let ended = ends(&mut read, Duration::from_secs(5)).await;
        observed.closed = ended.then(|| begun.elapsed());
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        () = send => {}
        received = receive => received?,
    }
    Ok(observed)
}

/// A greeting and a request with what follows them; the reply and its address.
pub(crate) async fn socks(
    stream: &mut TcpStream,
    request: &Value,
    early: &[u8],
) -> io::Result<Option<(u8, SocketAddr)>> {
    let method = if request["token"].is_string() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).await?;
    let mut chosen = [0; 2];
    if stream.read_exact(&mut chosen).await.is_err() || chosen[1] == 0xff {
        return Ok(None);
    }
    if let Some(token) = request["token"].as_str() {
        let length = u8::try_from(token.len()).unwrap_or(u8::MAX);
        stream
            .write_all(&[&[1, 1, b'x', length], token.as_bytes()].concat())
            .await?;
        stream.read_exact(&mut chosen).await?;
    }
    let mut bytes = vec![
        5,
        u8::try_from(request["cmd"].as_u64().unwrap_or(1)).unwrap_or(1),
        0,
    ];
    write_target(&mut bytes, request, "addr_latin1");
    bytes.extend_from_slice(early);
    stream.write_all(&bytes).await?;
    read_reply(stream).await
}

fn write_target(bytes: &mut Vec<u8>, request: &Value, field: &str) {
    let text = request[field].as_str().unwrap_or_default();
    match (request["atyp"].as_str(), text.parse::<IpAddr>()) {
        (Some("ipv4"), Ok(IpAddr::V4(address))) => {
            bytes.push(1);
            bytes.extend_from_slice(&address.octets());
        }
        (Some("ipv6"), Ok(IpAddr::V6(address))) => {
            bytes.push(4);
            bytes.extend_from_slice(&address.octets());
        }
        _ => {
            let name = latin1(text);
            bytes.push(3);
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(&name);
        }
    }
    let port = u16::try_from(request["port"].as_u64().unwrap_or(0)).unwrap_or(0);
    bytes.extend_from_slice(&port.to_be_bytes());
}

async fn read_reply(stream: &mut TcpStream) -> io::Result<Option<(u8, SocketAddr)>> {
    let read = async {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let address = if head[3] == 4 {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            IpAddr::from(octets)
        } else {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            IpAddr::from(octets)
        };
        let port = stream.read_u16().await?;
        Ok::<_, io::Error>((head[1], SocketAddr::new(address, port)))
    };
    match timeout(LONGEST_ANSWER, read).await {
        Ok(Ok(reply)) => Ok(Some(reply)),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// An association and its datagrams, from the associated socket or from another one.
pub(crate) async fn udp(wire: &Wire, request: &Value) -> io::Result<Observed> {
    let own = wire.datagrams("127.0.0.1:0").await?;
    let other = wire.datagrams("127.0.0.2:0").await?;
    let mut stream = wire.connect().await?;
    let associate = serde_json::json!({"cmd": 3, "atyp": "ipv4", "addr_latin1": "0.0.0.0", "port": own.local_addr()?.port()});
    let reply = socks(&mut stream, &associate, &[]).await?;
    let observed = Observed {
        socks: reply.map(|(code, _)| code),
        bound: reply.map(|(_, bound)| bound),
        ..Observed::default()
    };
    let Some((0, relay)) = reply else {
        return Ok(observed);
    };
    for datagram in request["datagrams"].as_array().into_iter().flatten() {
        let mut bytes = vec![
            0,
            0,
            u8::try_from(datagram["frag"].as_u64().unwrap_or(0)).unwrap_or(0),
        ];
        write_target(&mut bytes, datagram, "addr");
        bytes.extend_from_slice(&latin1(datagram["data"].as_str().unwrap_or_default()));
        let from = if request["from_other_source"] == true {
            &other
        } else {
            &own
        };
        let _sent = from.send_to(&bytes, relay).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(observed)
}

/// A handshake's first message.
fn client_hello(name: Option<&str>, hidden: bool) -> Vec<u8> {
    let vector = |width: usize, content: &[u8]| {
        let length = u32::try_from(content.len())
            .unwrap_or_default()
            .to_be_bytes();
        [length.get(4 - width..).unwrap_or_default(), content].concat()
    };
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let list = vector(2, &[&[0][..], &vector(2, name.as_bytes())].concat());
        extensions.extend([&[0, 0][..], &vector(2, &list)].concat());
    }
    if hidden {
        extensions.extend([&[0xfe, 0x0d][..], &vector(2, &[0; 32])].concat());
    }
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[]),
        &vector(2, &[0x13, 1]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &vector(3, &body)].concat();
    [&[22, 3, 1][..], &vector(2, &message)].concat()
}
