//! One request and its answer, between a client and an origin ([`exchange`]).
//!
//! Apart because plain HTTP, Unix sockets and opened tunnels do the same over different streams.
//! INVARIANT: the request's body goes up while the answer comes down, so neither side can hold the other. Framing is made anew on
//! both sides. After an answer that came early, or a body that broke, neither connection is used again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::body::{BodyReader, Step};
use crate::head::{After, Framing, RequestHead, Version, parse_response};
use crate::wire::{Buffered, NoHead};

/// How much is gathered before it is written.
const PIECE: usize = 32 * 1024;
/// How many interim answers (1xx) one request may have.
const MOST_INTERIM: usize = 16;

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// How the client's connection goes on.
    pub(crate) client: After,
    /// How the origin's does.
    pub(crate) origin: After,
    /// Bytes of the request's body.
    pub(crate) sent: u64,
    /// Bytes of the answer's body.
    pub(crate) received: u64,
}

/// Why an exchange broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client's connection.
    Client,
    /// The client's body is not what its framing says.
    Request(&'static str),
    /// The origin closed before the first byte of an answer.
    Unanswered,
    /// The origin's answer is not HTTP, or was cut.
    Answer(&'static str),
    /// The origin took too long.
    TimedOut,
}

/// What went wrong, and whether the client has seen a byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) why: Broken,
    pub(crate) begun: bool,
}

/// Sends `head` and the request's body to the origin, and the origin's answer to the client.
pub(crate) async fn exchange<Client, Origin>(
    client: &mut Buffered<Client>,
    origin: &mut Buffered<Origin>,
    request: &RequestHead<'_>,
    head: &[u8],
    longest_answer: Duration,
) -> Result<Exchanged, Failure>
where
    Client: AsyncRead + AsyncWrite + Unpin + Send,
    Origin: AsyncRead + AsyncWrite + Unpin + Send,
{
    let begun = AtomicBool::new(false);
    let fail = |why| Failure {
        why,
        begun: begun.load(Ordering::Relaxed),
    };
    if origin.stream.write_all(head).await.is_err() {
        return Err(fail(Broken::Unanswered));
    }
    let (client_read, client_write) = tokio::io::split(&mut client.stream);
    let (origin_read, origin_write) = tokio::io::split(&mut origin.stream);
    let up = upload(
        Side {
            read: client_read,
            bytes: &mut client.bytes,
        },
        origin_write,
        request.framing,
    );
    let answering = Answering {
        request,
        begun: &begun,
        deadline: Instant::now() + longest_answer,
    };
    let down = answering.download(
        Side {
            read: origin_read,
            bytes: &mut origin.bytes,
        },
        client_write,
    );
    tokio::pin!(up, down);
    let mut sent = None;
    let (received, client_after, origin_after) = loop {
        tokio::select! {
            uploaded = &mut up, if sent.is_none() => match uploaded {
                Ok(count) => sent = Some(count),
                Err(why) => return Err(fail(why)),
            },
            downloaded = &mut down => break downloaded.map_err(fail)?,
        }
    };
    match sent {
        Some(sent) => Ok(Exchanged {
            client: client_after,
            origin: origin_after,
            sent,
            received,
        }),
        None => Ok(Exchanged {
            client: After::Close,
            origin: After::Close,
            sent: 0,
            received,
        }),
    }
}

/// One side that is read from.
struct Side<'bytes, Read> {
    read: Read,
    bytes: &'bytes mut BytesMut,
}

impl<Read: AsyncRead + Unpin> Side<'_, Read> {
    async fn fill(&mut self) -> io::Result<usize> {
        self.bytes.reserve(PIECE);
        self.read.read_buf(self.bytes).await
    }
}

/// Passes the request's body on; the number of its bytes.
async fn upload<Read: AsyncRead + Unpin, Write: AsyncWrite + Unpin>(
    mut client: Side<'_, Read>,
    mut origin: Write,
    framing: Framing,
) -> Result<u64, Broken> {
    let mut body = Copied::new(framing, framing == Framing::Chunked);
    loop {
        match body.take(client.bytes).map_err(Broken::Request)? {
            Progress::More => {}
            Progress::Full => {
                // An origin that closes early may still have answered: the answer is what counts.
                if origin.write_all(&body.out).await.is_err() {
                    return std::future::pending().await;
                }
                body.out.clear();
                continue;
            }
            Progress::Done => {
                if !body.out.is_empty() && origin.write_all(&body.out).await.is_err() {
                    return std::future::pending().await;
                }
                return Ok(body.count);
            }
        }
        if !body.out.is_empty() {
            if origin.write_all(&body.out).await.is_err() {
                return std::future::pending().await;
            }
            body.out.clear();
        }
        if !matches!(client.fill().await, Ok(1..)) {
            return Err(Broken::Client);
        }
    }
}

/// What an answer depends on.
struct Answering<'ask> {
    request: &'ask RequestHead<'ask>,
    begun: &'ask AtomicBool,
    deadline: Instant,
}

impl Answering<'_> {
    /// Passes the answer on: its length, and how both connections go on.
    async fn download<Read: AsyncRead + Unpin, Write: AsyncWrite + Unpin>(
        &self,
        mut origin: Side<'_, Read>,
        mut client: Write,
    ) -> Result<(u64, After, After), Broken> {
        for _ in 0..MOST_INTERIM {
            let head = self.head(&mut origin).await?;
            let answer = parse_response(&head, &self.request.method)
                .map_err(|bad| Broken::Answer(bad.detail))?;
            let upgrade = answer.status == 101;
            if upgrade
                && !(self.request.upgrades_to_websocket()
                    && answer.fields.holds("upgrade", "websocket"))
            {
                return Err(Broken::Answer(
                    "the origin switched to a protocol that was not asked for",
                ));
            }
            if answer.status < 200 && !upgrade {
                if self.request.version == Version::Http11 {
                    self.write(
                        &mut client,
                        &answer.forwarded(Version::Http11, After::KeepAlive),
                    )
                    .await?;
                }
                continue;
            }
            let origin_after = if answer.keeps_alive() {
                After::KeepAlive
            } else {
                After::Close
            };
            let chunked = matches!(answer.framing, Framing::Chunked | Framing::UntilClose)
                && self.request.version == Version::Http11;
            let ends_by_itself =
                chunked || matches!(answer.framing, Framing::Empty | Framing::Length(_));
            let client_after = match (upgrade, self.request.keeps_alive() && ends_by_itself) {
                (true, _) => After::Upgrade,
                (false, true) => After::KeepAlive,
                (false, false) => After::Close,
            };
            let mut body = Copied::new(answer.framing, chunked);
            body.out = answer.forwarded(self.request.version, client_after);
            let origin_after = if upgrade {
                After::Upgrade
            } else {
                origin_after
            };
            let received = self.body(origin, client, body, answer.framing).await?;
            return Ok((received, client_after, origin_after));
        }
        Err(Broken::Answer("the origin sent too many interim answers"))
    }

    async fn head<Read: AsyncRead + Unpin>(
        &self,
        origin: &mut Side<'_, Read>,
    ) -> Result<bytes::Bytes, Broken> {
        let mut buffered = Buffered {
            stream: &mut origin.read,
            bytes: std::mem::take(origin.bytes),
        };
        let head = buffered.head_by(self.deadline).await;
        *origin.bytes = buffered.bytes;
        head.map_err(|why| match why {
            NoHead::Silence => Broken::Unanswered,
            NoHead::Cut => Broken::Answer("the origin's answer was cut"),
            NoHead::TimedOut => Broken::TimedOut,
            NoHead::Bad(bad) => Broken::Answer(bad.detail),
        })
    }

    async fn body<Read: AsyncRead + Unpin, Write: AsyncWrite + Unpin>(
        &self,
        mut origin: Side<'_, Read>,
        mut client: Write,
        mut body: Copied,
        framing: Framing,
    ) -> Result<u64, Broken> {
        loop {
            let progress = body.take(origin.bytes).map_err(Broken::Answer)?;
            if !body.out.is_empty() {
                self.write(&mut client, &body.out).await?;
                body.out.clear();
            }
            match progress {
                Progress::Done => return Ok(body.count),
                Progress::Full => continue,
                Progress::More => {}
            }
            match origin.fill().await {
                Ok(1..) => {}
                // The end of the connection is the end of the body, where nothing else says where it ends.
                Ok(0) if framing == Framing::UntilClose => {
                    if body.chunked {
                        self.write(&mut client, b"0\r\n\r\n").await?;
                    }
                    return Ok(body.count);
                }
                Ok(_) | Err(_) => return Err(Broken::Answer("the origin's answer was cut")),
            }
        }
    }

    async fn write<Write: AsyncWrite + Unpin>(
        &self,
        client: &mut Write,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        self.begun.store(true, Ordering::Relaxed);
        client.write_all(bytes).await.map_err(|_| Broken::Client)
    }
}

/// A body on its way: read by one framing, written by another.
struct Copied {
    reader: BodyReader,
    chunked: bool,
    out: Vec<u8>,
    count: u64,
}

enum Progress {
    /// `out` is full.
    Full,
    /// All that came is taken.
    More,
    /// The body is over, and `out` holds the rest of it.
    Done,
}

impl Copied {
    const fn new(framing: Framing, chunked: bool) -> Self {
        Self {
            reader: BodyReader::new(framing),
            chunked,
            out: Vec::new(),
            count: 0,
        }
    }

    /// Takes what belongs to the body out of `bytes`.
    fn take(&mut self, bytes: &mut BytesMut) -> Result<Progress, &'static str> {
        loop {
            if self.out.len() >= PIECE {
                return Ok(Progress::Full);
            }
            match self.reader.step(bytes).map_err(|bad| bad.detail)? {
                Step::More => return Ok(Progress::More),
                Step::Skip(count) => bytes.advance(count),
                Step::Content(count) => {
                    let content = bytes.split_to(count);
                    self.write(&content);
                }
                Step::End => {
                    if self.chunked {
                        self.out.extend_from_slice(b"0\r\n\r\n");
                        self.chunked = false;
                    }
                    return Ok(Progress::Done);
                }
            }
        }
    }

    fn write(&mut self, content: &[u8]) {
        self.count += u64::try_from(content.len()).unwrap_or(u64::MAX);
        if self.chunked {
            self.out
                .extend_from_slice(format!("{:x}\r\n", content.len()).as_bytes());
        }
        self.out.extend_from_slice(content);
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }
}
