//! A tunnel between a client and an origin: [`Tunnel`].
//!
//! Apart because most bytes pass here, and because a tunnel that waits should cost next to nothing.
//! INVARIANT: each side's end is passed on as an end, and the other direction goes on. Bytes that came early are sent first. Of a
//! TLS handshake on a named tunnel to port 443 no byte reaches the origin before its server name is known to be the tunnel's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rustix::buffer::spare_capacity;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::event::Protocol;
use crate::hook::Hook;
use crate::host::{Destination, Host};
use crate::intercept;
use crate::policy::SniCheck;
use crate::refusal::{Reason, Refusal};
use crate::shared::{Epoch, Shared};
use crate::sni::{self, Hello, Hidden};
use crate::wire::Buffered;

/// How much is copied at once, in bytes, until a direction has filled as much: enough for handshakes and requests.
const FIRST_PIECE: usize = 16 * 1024;
/// How much is copied at once after that, in bytes.
const PIECE: usize = 64 * 1024;
/// After how many bytes in one direction the kernel moves the rest: a pipe costs more than it saves for less.
const SPLICE_AFTER: u64 = 256 * 1024;
/// How large a pipe is asked for; the default (64 KiB) will do where a user's share is used up.
const PIPE: usize = 512 * 1024;
/// How long a handshake may take from its first byte to its whole first message.
const LONGEST_HELLO: Duration = Duration::from_secs(10);

/// What is done with a tunnel's bytes.
#[derive(Debug)]
pub(crate) enum TunnelKind {
    /// They pass; the server name of a handshake is checked.
    Blind(SniCheck),
    /// They pass: a WebSocket.
    Upgraded,
    /// TLS is opened, and each request judged.
    LookedInto(Vec<Hook>),
}

/// An open tunnel: the origin's side of it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) to: Destination,
    pub(crate) protocol: Protocol,
    pub(crate) origin: Buffered<TcpStream>,
    pub(crate) kind: TunnelKind,
    /// Its place among the tunnels that may be open.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    pub(crate) policy: Arc<Epoch>,
}

/// How a tunnel ended before its time.
enum Cut {
    Io,
    Sni,
}

impl From<io::Error> for Cut {
    fn from(_error: io::Error) -> Self {
        Self::Io
    }
}

impl Tunnel {
    /// Moves bytes until both sides have ended, or one has broken.
    pub(crate) async fn run(mut self: Box<Self>, door: &Arc<Shared>, client: Buffered<TcpStream>) {
        let kind = std::mem::replace(&mut self.kind, TunnelKind::Upgraded);
        let check = match kind {
            TunnelKind::LookedInto(hooks) => {
                return Box::pin(intercept::serve(door, *self, hooks, client)).await;
            }
            TunnelKind::Blind(check) => check,
            TunnelKind::Upgraded => SniCheck::Off,
        };
        let Self {
            to,
            protocol,
            origin,
            place,
            policy,
            ..
        } = *self;
        drop(policy);
        let counts = [AtomicU64::new(0), AtomicU64::new(0)];
        let ended = AtomicBool::new(false);
        let [up_way, down_way] = counts.each_ref().map(|count| Way {
            count,
            ended: &ended,
        });
        let cut = {
            let up = upward(
                (&client.stream, client.bytes),
                &origin.stream,
                Checked {
                    check,
                    to: &to,
                    door,
                    protocol,
                },
                up_way,
            );
            let down = downward((&origin.stream, origin.bytes), &client.stream, down_way);
            match door.limits.idle_tunnel {
                None => tokio::try_join!(up, down).err(),
                Some(longest) => tokio::select! {
                    joined = async { tokio::try_join!(up, down) } => joined.err(),
                    () = silent(&counts, longest) => None,
                },
            }
        };
        drop(place);
        let failure = match cut {
            Some(Cut::Sni) => Some(Reason::SniMismatch),
            Some(Cut::Io) | None => None,
        };
        let [sent, received] = counts.map(AtomicU64::into_inner);
        door.record_closed((protocol, &to), (sent, received), failure);
    }
}

/// Ends when no byte has passed for that long.
async fn silent(counts: &[AtomicU64; 2], longest: Duration) {
    let total = || {
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    };
    let mut before = total();
    loop {
        tokio::time::sleep(longest).await;
        let now = total();
        if now == before {
            return;
        }
        before = now;
    }
}

/// One direction of a tunnel.
#[derive(Clone, Copy)]
struct Way<'tunnel> {
    /// The bytes that have passed.
    count: &'tunnel AtomicU64,
    /// Whether one of the two directions has ended; shared by both.
    ended: &'tunnel AtomicBool,
}

impl Way<'_> {
    fn add(self, bytes: usize) -> u64 {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let _before = self.count.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// Passes an end on. The second one needs no word of its own: both connections are closed right after it.
    fn end(self, to: &TcpStream) -> io::Result<()> {
        if self.ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match rustix::net::shutdown(to, Shutdown::Write) {
            // The other side may have gone already.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a client's first bytes are held against.
struct Checked<'tunnel> {
    check: SniCheck,
    to: &'tunnel Destination,
    door: &'tunnel Shared,
    protocol: Protocol,
}

async fn upward(
    (client, mut early): (&TcpStream, BytesMut),
    origin: &TcpStream,
    checked: Checked<'_>,
    way: Way<'_>,
) -> Result<(), Cut> {
    let named = matches!(checked.to.host, Host::Name(_)) && checked.to.port == 443;
    if named && checked.check != SniCheck::Off {
        checked.hold(client, &mut early).await?;
    }
    write_all(origin, &early).await?;
    way.add(early.len());
    drop(early);
    pump(client, origin, way).await.map_err(Cut::from)
}

async fn downward(
    (origin, early): (&TcpStream, BytesMut),
    client: &TcpStream,
    way: Way<'_>,
) -> Result<(), Cut> {
    write_all(client, &early).await?;
    way.add(early.len());
    drop(early);
    pump(origin, client, way).await.map_err(Cut::from)
}

impl Checked<'_> {
    /// Holds the client's bytes back until its server name is known. What is not TLS passes: there is no name in it to lie about.
    async fn hold(&self, client: &TcpStream, early: &mut BytesMut) -> Result<(), Cut> {
        let mut deadline = None;
        loop {
            let agrees = match sni::read(early) {
                Hello::Incomplete => {
                    if !early.is_empty() && deadline.is_none() {
                        deadline = Some(Instant::now() + LONGEST_HELLO);
                    }
                    match self.more(client, early, deadline).await? {
                        0 => return Ok(()),
                        _ => continue,
                    }
                }
                Hello::Other => return Ok(()),
                Hello::Tls { name, hidden } => {
                    name.as_ref() == Some(&self.to.host)
                        && !(self.check == SniCheck::Strict && hidden == Hidden::Perhaps)
                }
                Hello::Broken => false,
            };
            if agrees {
                return Ok(());
            }
            let refusal = Refusal::of(Reason::SniMismatch, self.to);
            self.door
                .record_blocked(self.protocol, None, &refusal, crate::event::Source::Policy);
            return Err(Cut::Sni);
        }
    }

    /// Reads on; 0 where the client ended before it said anything, an error where it stopped in the middle.
    async fn more(
        &self,
        client: &TcpStream,
        early: &mut BytesMut,
        deadline: Option<Instant>,
    ) -> Result<usize, Cut> {
        let read = async {
            loop {
                client.readable().await?;
                match client.try_read_buf(early) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        };
        let count = match deadline {
            None => read.await?,
            Some(deadline) => timeout_at(deadline, read).await.map_err(|_| Cut::Io)??,
        };
        if count == 0 && !early.is_empty() {
            Err(Cut::Sni)
        } else {
            Ok(count)
        }
    }
}

/// Moves bytes one way until the end, and passes the end on.
async fn pump(from: &TcpStream, to: &TcpStream, way: Way<'_>) -> io::Result<()> {
    let mut moved = 0;
    let mut piece = FIRST_PIECE;
    loop {
        from.readable().await?;
        // The buffer lives only while there is something to move: a tunnel that waits holds none.
        let mut buffer = Vec::with_capacity(piece);
        loop {
            buffer.clear();
            let read = match read_some(from, &mut buffer) {
                Ok(0) => return way.end(to),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            write_all(to, &buffer).await?;
            moved += way.add(read);
            if read < piece {
                break;
            }
            if piece < PIECE {
                // More is coming than handshakes and requests.
                piece = PIECE;
                buffer = Vec::with_capacity(piece);
            }
        }
        if moved >= SPLICE_AFTER {
            drop(buffer);
            if let Some(ended) = splice_pump(from, to, way).await {
                return ended;
            }
            moved = 0;
        }
    }
}

/// Lets the kernel move the rest; none where it gives no pipe, or will not.
async fn splice_pump(from: &TcpStream, to: &TcpStream, way: Way<'_>) -> Option<io::Result<()>> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    let _larger = fcntl_setpipe_size(&write, PIPE);
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        if let Err(error) = from.readable().await {
            return Some(Err(error));
        }
        let taken = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &write, None, PIPE, flags)?)
        });
        let mut left = match taken {
            Ok(0) => return Some(way.end(to)),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Some(Err(error)),
        };
        way.add(left);
        while left > 0 {
            if let Err(error) = to.writable().await {
                return Some(Err(error));
            }
            match to.try_io(Interest::WRITABLE, || {
                Ok(splice(&read, None, to, None, left, flags)?)
            }) {
                Ok(0) => return Some(Err(io::ErrorKind::WriteZero.into())),
                Ok(given) => left = left.saturating_sub(given),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Reads what is there into an empty buffer.
///
/// A buffer that is not filled has taken all there was: the runtime is told so, which spares the read that would say it again
/// (epoll(7), edge-triggered; an end that is known stays known).
fn read_some(from: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let space = buffer.capacity();
    let mut taken = None;
    let tried = from.try_io(Interest::READABLE, || {
        let read = rustix::io::read(from, spare_capacity(buffer))?;
        taken = Some(read);
        if (1..space).contains(&read) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    taken.map_or(tried, Ok)
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
