//! A stream with the bytes that have come and are not yet used ([`Buffered`]), and how a refusal is written.
//!
//! Apart because heads, bodies and tunnels hand the same bytes on to each other: none is lost between them.
//! INVARIANT: a head is bounded in bytes and in time, by one deadline for the whole of it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::head::{BadHead, MOST_HEAD, Scan, scan};
use crate::refusal::Refusal;

/// How much is read at once outside tunnels.
const PIECE: usize = 8 * 1024;
/// How much of what a refused client still sends is read before the connection is closed, so that it sees the answer.
const MOST_DRAINED: usize = 256 * 1024;
/// For how long.
const LONGEST_DRAIN: Duration = Duration::from_secs(1);

/// A stream and what has been read from it.
#[derive(Debug)]
pub(crate) struct Buffered<Stream> {
    pub(crate) stream: Stream,
    pub(crate) bytes: BytesMut,
}

/// Why no head came.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The stream ended, or was silent for too long, before its first byte.
    Silence,
    /// It ended in the middle.
    Cut,
    /// It took too long.
    TimedOut,
    /// It is refused, with this answer.
    Bad(BadHead),
}

impl<Stream: AsyncRead + Unpin> Buffered<Stream> {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            bytes: BytesMut::new(),
        }
    }

    /// Reads more; 0 at the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.bytes.reserve(PIECE);
        self.stream.read_buf(&mut self.bytes).await
    }

    /// The first byte, left where it is.
    pub(crate) async fn peek(&mut self) -> Option<u8> {
        while self.bytes.is_empty() {
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        }
        self.bytes.first().copied()
    }

    /// A whole head: its first byte within `first`, all of it within `whole` of that.
    pub(crate) async fn head(&mut self, first: Duration, whole: Duration) -> Result<Bytes, NoHead> {
        match timeout(first, self.peek()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(NoHead::Silence),
        }
        self.head_by(Instant::now() + whole).await
    }

    /// A whole head by that time.
    pub(crate) async fn head_by(&mut self, deadline: Instant) -> Result<Bytes, NoHead> {
        let mut seen = 0;
        loop {
            match scan(&self.bytes, seen) {
                Scan::Complete(end) if end <= MOST_HEAD => {
                    return Ok(self.bytes.split_to(end).freeze());
                }
                Scan::Bad => {
                    return Err(NoHead::Bad(BadHead {
                        status: 400,
                        detail: "the head holds a stray line break or control byte",
                    }));
                }
                Scan::Incomplete if self.bytes.len() < MOST_HEAD => seen = self.bytes.len(),
                Scan::Complete(_) | Scan::Incomplete => {
                    return Err(NoHead::Bad(BadHead {
                        status: 431,
                        detail: "the head is larger than 64 KiB",
                    }));
                }
            }
            match timeout_at(deadline, self.fill()).await {
                Err(_elapsed) => return Err(NoHead::TimedOut),
                Ok(Ok(1..)) => {}
                Ok(_) if self.bytes.is_empty() => return Err(NoHead::Silence),
                Ok(_) => return Err(NoHead::Cut),
            }
        }
    }
}

/// Whether the connection goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    KeepAlive,
}

/// The answer that tells a refusal: the code in a field, the sentence in the status line (some tools show nothing else) and
/// both in a JSON body.
pub(crate) fn answer(refusal: &Refusal, status: u16, ending: Ending) -> Vec<u8> {
    let reason = refusal.reason;
    let message = refusal.message();
    let body = serde_json::json!({
        "status": "blocked",
        "reason": reason.code(),
        "host": refusal.to.as_ref().map(|to| to.host.to_string()),
        "port": refusal.to.as_ref().map(|to| to.port),
        "rule": refusal.rule,
        "class": refusal.class,
        "message": message,
        "hint": refusal.hint(),
    });
    let body = format!("{body}\n");
    let challenge = if status == 407 {
        "Proxy-Authenticate: Basic realm=\"network-proxy\"\r\n"
    } else {
        ""
    };
    let ending = match ending {
        Ending::Close => "Connection: close\r\n",
        Ending::KeepAlive => "",
    };
    format!(
        "HTTP/1.1 {status} {message}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nx-proxy-error: {}\r\nx-proxy-reason: {}\r\n{challenge}{ending}\r\n{body}",
        body.len(),
        reason.proxy_error(),
        reason.code(),
    )
    .into_bytes()
}

/// Writes a last answer and closes: what the client still sends is read for a bounded while, because a reset would take the
/// answer away from it.
pub(crate) async fn answer_and_close<Stream: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Buffered<Stream>,
    refusal: &Refusal,
    status: u16,
) {
    let answered = client
        .stream
        .write_all(&answer(refusal, status, Ending::Close))
        .await;
    if answered.is_ok() {
        linger(client).await;
    }
}

/// Ends the sending side, and reads on for a bounded while.
pub(crate) async fn linger<Stream: AsyncRead + AsyncWrite + Unpin>(client: &mut Buffered<Stream>) {
    let drain = async {
        client.stream.shutdown().await?;
        let mut drained = 0;
        while drained < MOST_DRAINED {
            client.bytes.clear();
            match client.fill().await? {
                0 => break,
                count => drained += count,
            }
        }
        Ok::<(), io::Error>(())
    };
    let _ended = timeout(LONGEST_DRAIN, drain).await;
}
