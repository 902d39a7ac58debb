//! A model endpoint on loopback that misbehaves as it is told: one behaviour a connection, in order, the last for all
//! that follow.
//!
//! Plain sockets, because a proper HTTP server would not let it cut an answer short.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the endpoint does with one connection.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Answers with a status, header lines and a body.
    Answer(u16, &'static str, String),
    /// Promises a body of this many bytes and closes after these.
    Cut(usize, &'static str),
    /// Sends exactly these bytes and closes.
    Raw(Vec<u8>),
    /// Sends the head and then one blank every 20 ms.
    Drip,
    /// Reads and never answers.
    Hang,
    /// Closes at once.
    Close,
    /// Answers with a body of this many bytes and no length.
    Endless(usize),
}

/// The endpoint; ends with its value.
pub(crate) struct Scripted {
    pub(crate) base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const JSON: &str = "content-type: application/json\r\n";

impl Behaviour {
    /// A proper answer of Chat Completions with this text.
    pub(crate) fn chat(text: &str) -> Self {
        let body = serde_json::json!({
            "id": "1",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
            "usage": { "prompt_tokens": 7, "completion_tokens": 3 },
        });
        Self::json(200, &body.to_string())
    }

    /// A proper answer of Responses with this text.
    pub(crate) fn response(text: &str) -> Self {
        let body = serde_json::json!({
            "id": "1",
            "status": "completed",
            "output": [
                { "type": "reasoning", "summary": [] },
                { "type": "message", "content": [{ "type": "output_text", "text": text }] },
            ],
            "usage": { "input_tokens": 7, "output_tokens": 3 },
        });
        Self::json(200, &body.to_string())
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Answer(status, JSON, body.to_owned())
    }
}

impl Scripted {
    pub(crate) fn start(behaviours: Vec<Behaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut at = 0;
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let behaviour = behaviours
                            .get(at)
                            .or_else(|| behaviours.last())
                            .expect("a behaviour");
                        at += 1;
                        serve(stream, behaviour, &seen, &ended);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self {
            base_url,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// What was asked, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("the requests").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the endpoint ends");
        }
    }
}

fn serve(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    seen: &Mutex<Vec<String>>,
    ended: &AtomicBool,
) {
    stream.set_nonblocking(false).expect("blocking");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a limit");
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("a limit");
    if matches!(behaviour, Behaviour::Close) {
        seen.lock().expect("the requests").push(String::new());
        return;
    }
    let request = read_request(&mut stream);
    seen.lock().expect("the requests").push(request);
    let head = |status: u16, headers: &str, length: usize| {
        format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    // The other side may go away at any time; that is its right.
    let _gone = match behaviour {
        Behaviour::Answer(status, headers, body) => {
            stream.write_all(format!("{}{body}", head(*status, headers, body.len())).as_bytes())
        }
        Behaviour::Raw(bytes) => stream.write_all(bytes),
        Behaviour::Cut(length, body) => {
            stream.write_all(format!("{}{body}", head(200, JSON, *length)).as_bytes())
        }
        Behaviour::Endless(length) => stream
            .write_all(format!("HTTP/1.1 200 x\r\n{JSON}connection: close\r\n\r\n").as_bytes())
            .and_then(|()| stream.write_all(&vec![b' '; *length])),
        Behaviour::Drip => drip(&mut stream, &head(200, JSON, 100_000), ended),
        Behaviour::Hang => {
            while !ended.load(Ordering::SeqCst) && still_there(&mut stream) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        Behaviour::Close => Ok(()),
    };
}

fn drip(stream: &mut TcpStream, head: &str, ended: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    while !ended.load(Ordering::SeqCst) {
        stream.write_all(b" ")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn still_there(stream: &mut TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .expect("a limit");
    !matches!(stream.read(&mut [0; 1]), Ok(0))
}

pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .and_then(|n| n.parse::<usize>().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}
