//! A connection whose reader may not let us wait for ever.
//!
//! Apart from the accepting, because it is one wrapper around the socket. Invariant: a write that makes no progress for
//! the patience it is given is an error, so that whoever stops reading keeps no buffer, no task and no place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A socket that gives up on who does not read.
#[derive(Debug)]
pub(super) struct Patient {
    socket: TcpStream,
    patience: Duration,
    /// When the write that waits is given up; moved on whenever one is done.
    alarm: Pin<Box<Sleep>>,
    waits: Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

impl Patient {
    pub(super) fn new(socket: TcpStream, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            alarm: Box::pin(tokio::time::sleep(patience)),
            waits: Waits::No,
        }
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = Waits::No;
            return written;
        }
        if self.waits == Waits::No {
            self.waits = Waits::Yes;
            let until = Instant::now() + self.patience;
            self.alarm.as_mut().reset(until);
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "nobody reads what is sent",
        )))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::Patient;

    async fn pair(patience: Duration) -> (Patient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let reader = TcpStream::connect(address).await.expect("connected");
        let (writer, _) = listener.accept().await.expect("accepted");
        (Patient::new(writer, patience), reader)
    }

    #[tokio::test]
    async fn who_does_not_read_is_given_up_and_who_reads_slowly_is_not() {
        let (mut writer, reader) = pair(Duration::from_millis(200)).await;
        let much = vec![0_u8; 64 << 20];
        let given_up = writer.write_all(&much).await.expect_err("given up");
        assert_eq!(given_up.kind(), std::io::ErrorKind::TimedOut);
        drop(reader);

        let (mut writer, mut reader) = pair(Duration::from_secs(20)).await;
        let some = vec![0_u8; 8 << 20];
        let reading = async {
            let mut buffer = vec![0_u8; 1 << 20];
            let mut read = 0;
            while read < 8 << 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                read += reader.read(&mut buffer).await.expect("read");
            }
        };
        let (written, ()) = tokio::join!(writer.write_all(&some), reading);
        written.expect("written");
    }
}
