//! HTTP/1.1 by hand over loopback, both ends.
//!
//! By hand, because the tests need what no library offers: a byte a second, a connection that ends in the middle, an
//! answer played again word for word. One request a connection.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// No peer keeps a test waiting longer for a byte.
const SILENCE: Duration = Duration::from_secs(100);

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, upper case.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers, names lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a [`Loopback`] does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answers.
    Reply(Reply),
    /// Sends the head at once and the body a byte a second.
    Drip(Reply),
    /// Says how long the reply is, sends half of it and closes the connection.
    Cut(Reply),
    /// Never answers, and keeps the connection until the caller goes.
    Hang,
    /// Closes the connection without a word.
    Close,
}

/// An answer as it came back, or is to be sent.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers beside `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the header `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Reply {
    /// An answer of JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::typed(status, "application/json", body.to_string().into_bytes())
    }

    /// An answer of some type.
    #[must_use]
    pub fn typed(status: u16, kind: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body,
        }
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn head(&self) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes everything");
        }
        write!(
            head,
            "content-length: {}\r\nconnection: close\r\n\r\n",
            self.body.len()
        )
        .expect("a string takes everything");
        head.into_bytes()
    }
}

/// A listener on loopback that answers each request as it is told. Gone when dropped.
#[derive(Debug)]
pub struct Loopback {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Loopback {
    /// Listens on a free port; each connection is served on a thread of its own.
    ///
    /// # Panics
    /// No port is free.
    pub fn start(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, stopped) = (Arc::clone(&answer), Arc::clone(&stopped));
                if let Ok(connection) = connection {
                    // A caller that goes away in the middle ends its own connection and nothing else.
                    std::thread::spawn(move || {
                        serve(connection, &*answer, &stopped).unwrap_or_default()
                    });
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees that it should stop.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

fn serve(
    mut connection: TcpStream,
    answer: &dyn Fn(Request) -> Answer,
    stop: &AtomicBool,
) -> io::Result<()> {
    connection.set_read_timeout(Some(SILENCE))?;
    let Some(request) = read_request(&mut connection)? else {
        return Ok(());
    };
    match answer(request) {
        Answer::Reply(reply) => {
            connection.write_all(&reply.head())?;
            connection.write_all(&reply.body)?;
        }
        Answer::Drip(reply) => {
            connection.write_all(&reply.head())?;
            for byte in &reply.body {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                connection.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Answer::Cut(reply) => {
            connection.write_all(&reply.head())?;
            connection.write_all(reply.body.get(..reply.body.len() / 2).unwrap_or_default())?;
        }
        Answer::Hang => {
            // Ends when the other side does, or never within a test.
            let mut byte = [0];
            while connection.read(&mut byte)? != 0 {}
        }
        Answer::Close => {}
    }
    connection.shutdown(Shutdown::Both)
}

fn read_request(connection: &mut TcpStream) -> io::Result<Option<Request>> {
    let Some((head, body)) = read_message(connection)? else {
        return Ok(None);
    };
    let mut first = head.0.split(' ').map(str::to_owned);
    let (method, target) = (
        first.next().unwrap_or_default(),
        first.next().unwrap_or_default(),
    );
    Ok(Some(Request {
        method,
        target,
        headers: head.1,
        body,
    }))
}

type Head = (String, Vec<(String, String)>);

/// One message: its first line, its headers, its body by `Content-Length`, or to the end where there is none.
fn read_message(connection: &mut TcpStream) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if !read_more(connection, &mut bytes)? {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let first = lines.next().unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse().ok());
    let is_request = !first.starts_with("HTTP/");
    let mut body = bytes.split_off(end + 4);
    let wanted: usize = length.unwrap_or(if is_request { 0 } else { usize::MAX });
    while body.len() < wanted && read_more(connection, &mut body)? {}
    Ok(Some(((first, headers), body)))
}

fn read_more(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    // With a time limit the kernel does not go on by itself after a signal or a stop (`signal(7)`).
    let read = loop {
        match connection.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
    Ok(read > 0)
}

/// Sends `request` to `address` and reads the answer.
///
/// # Errors
/// Nobody answers there.
pub fn call(address: SocketAddr, request: &Request) -> io::Result<Reply> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    connection.set_read_timeout(Some(SILENCE))?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n",
        request.method, request.target
    );
    for (name, value) in &request.headers {
        if !["host", "connection", "content-length"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", request.body.len()));
    connection.write_all(head.as_bytes())?;
    connection.write_all(&request.body)?;
    let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off");
    let ((first, headers), body) = read_message(&mut connection)?.ok_or_else(broken)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(broken)?;
    Ok(Reply {
        status,
        headers,
        body,
    })
}
