//! Streams of events over real sockets: in order, resumed, ended, apart from each other, and closed to who is too slow.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Builder;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::harness::{Folder, Program, Server, SilentModel, bearer, harmless, submission, unclear};

const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of events.
struct Listening(BufReader<TcpStream>);

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: i64,
    kind: String,
    data: Value,
}

/// The status of the answer to `head`; the stream is not read.
pub(crate) async fn first_status(address: SocketAddr, head: &str) -> u16 {
    Listening::ask(address, head).await.1
}

impl Listening {
    async fn ask(address: SocketAddr, head: &str) -> (Self, u16) {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let request = format!("{head}host: test\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut reader = BufReader::new(socket);
        let mut status = String::new();
        let read = timeout(PATIENCE, reader.read_line(&mut status)).await;
        read.expect("in time").expect("a line");
        let status = status.split(' ').nth(1).and_then(|it| it.parse().ok());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            let read = timeout(PATIENCE, reader.read_line(&mut line)).await;
            assert_ne!(read.expect("in time").expect("a line"), 0);
        }
        (Self(reader), status.expect("a status"))
    }

    async fn to(server: &Server, token: &str, path: &str, last: Option<i64>) -> Self {
        let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\n{}{last}", bearer(token));
        let (listening, status) = Self::ask(server.address, &head).await;
        assert_eq!(status, 200);
        listening
    }

    /// The next event; `None` at the end. Chunks begin and end with lines of their own, which are passed over.
    async fn next(&mut self) -> Option<Event> {
        let (mut id, mut kind) = (None, None);
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.0.read_line(&mut line)).await;
            if read.expect("in time").unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().ok();
            } else if let Some(text) = line.strip_prefix("event: ") {
                kind = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Some(Event {
                    id: id.expect("an id"),
                    kind: kind.expect("a kind"),
                    data: serde_json::from_str(text).expect("JSON"),
                });
            } else if line == "0" {
                // The last chunk.
                return None;
            }
        }
    }

    async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

struct Stage {
    folder: Folder,
    program: Program,
    _model: SilentModel,
}

impl Stage {
    fn new() -> Self {
        let folder = Folder::new();
        let model = SilentModel::new();
        let settings = format!("[reviewer]\ndeadline_secs = 60\n{}", model.settings());
        let program = Program::new(&folder, &settings);
        Self {
            program,
            folder,
            _model: model,
        }
    }

    fn token(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self
            .program
            .output(&[&["token", "create"], arguments].concat());
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_is_streamed_to_its_end_and_then_there_is_nothing_more() {
    let stage = Stage::new();
    let runner = stage.token(&[]);
    let server = stage.program.serve();
    let head = format!(
        "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
        bearer(&runner)
    );
    let asked = submission(&unclear()).to_string();
    let asked = server.call(&head, &asked).await;
    let id = asked.id();
    let path = format!("/v1/reviews/{id}/events");
    let mut listening = Listening::to(&server, &runner, &path, None).await;
    let opened = listening.next().await.expect("an event");
    assert_eq!(
        (opened.kind.as_str(), &opened.data["review_id"]),
        ("opened", &json!(id))
    );
    server
        .post(&runner, &format!("/v1/reviews/{id}/abort"), &json!({}))
        .await;
    let rest = listening.rest().await;
    assert_eq!(kinds(&rest), ["aborted"]);
    let told = &rest[0].data["review"];
    assert_eq!(told["status"], "aborted");
    assert!(told["signature"].is_string(), "the end is signed: {told}");
    // Resumed after the first: the second alone. Resumed after the last: nothing, and no reason to come back.
    let mut again = Listening::to(&server, &runner, &path, Some(opened.id)).await;
    assert_eq!(again.rest().await, rest);
    let head = format!(
        "GET {path} HTTP/1.1\r\n{}last-event-id: {}\r\n",
        bearer(&runner),
        rest[0].id
    );
    assert_eq!(first_status(server.address, &head).await, 204);
    drop(stage.folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_after_a_restart_where_it_was_cut() {
    let stage = Stage::new();
    let (runner, auditor) = (stage.token(&[]), stage.token(&["--role", "auditor"]));
    let mut server = stage.program.serve();
    let mut listening = Listening::to(&server, &auditor, "/v1/events", None).await;
    let mut first = submission(&harmless());
    first["session"]["session_id"] = json!("s-a");
    server.post(&runner, "/v1/reviews", &first).await;
    let seen = listening.next().await.expect("an event");
    server.kill();
    let server = stage.program.serve();
    let open = server
        .post(&runner, "/v1/reviews", &submission(&harmless()))
        .await;
    let mut resumed = Listening::to(&server, &auditor, "/v1/events", Some(seen.id)).await;
    let mut ids = vec![seen.id];
    let mut last = Value::Null;
    while last != json!(open.id()) {
        let event = resumed.next().await.expect("an event");
        ids.push(event.id);
        if event.kind != "opened" {
            last = event.data["review_id"].clone();
        }
    }
    // Nothing twice, nothing left out.
    let first = ids[0];
    let wanted: Vec<i64> = (first..).take(ids.len()).collect();
    assert_eq!(ids, wanted);
    let beyond = format!(
        "GET /v1/events HTTP/1.1\r\n{}last-event-id: 99999\r\n",
        bearer(&auditor)
    );
    assert_eq!(first_status(server.address, &beyond).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_streamed_what_they_may_not_see() {
    let stage = Stage::new();
    assert_eq!(stage.program.output(&["tenant", "create", "acme"]).0, 0);
    let ours = stage.token(&["--name", "ours"]);
    let other = stage.token(&["--name", "other"]);
    let auditor = stage.token(&["--role", "auditor"]);
    let theirs = stage.token(&["--tenant", "acme", "--role", "auditor", "--role", "runner"]);
    let server = stage.program.serve();
    let from = Some(0);
    let mut to_other = Listening::to(&server, &other, "/v1/events", from).await;
    let mut to_auditor = Listening::to(&server, &auditor, "/v1/events", from).await;
    let mut to_theirs = Listening::to(&server, &theirs, "/v1/events", from).await;
    let asked = |session: &str| {
        let mut body = submission(&harmless());
        body["session"]["session_id"] = json!(session);
        body
    };
    let our_review = server.post(&ours, "/v1/reviews", &asked("s-a")).await.id();
    let other_review = server.post(&other, "/v1/reviews", &asked("s-b")).await.id();
    let their_review = server
        .post(&theirs, "/v1/reviews", &asked("s-c"))
        .await
        .id();
    let reviews = async |listening: &mut Listening, count: usize| {
        let mut reviews = Vec::new();
        for _ in 0..count {
            let event = listening.next().await.expect("an event");
            reviews.push(event.data["review_id"].as_str().expect("an id").to_owned());
        }
        reviews.dedup();
        reviews
    };
    assert_eq!(
        reviews(&mut to_other, 2).await,
        std::slice::from_ref(&other_review)
    );
    assert_eq!(
        reviews(&mut to_theirs, 2).await,
        std::slice::from_ref(&their_review)
    );
    let seen = reviews(&mut to_auditor, 4).await;
    assert!(!seen.contains(&their_review), "{seen:?}");
    assert!(seen.contains(&our_review) && seen.contains(&other_review));
    for (token, id) in [
        (&other, &our_review),
        (&theirs, &our_review),
        (&auditor, &their_review),
    ] {
        let head = format!("GET /v1/reviews/{id}/events HTTP/1.1\r\n{}", bearer(token));
        assert_eq!(first_status(server.address, &head).await, 404);
    }
    assert_eq!(
        first_status(server.address, "GET /v1/events HTTP/1.1\r\n").await,
        401
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_its_stream_and_so_does_going_down() {
    let stage = Stage::new();
    let auditor = stage.token(&["--role", "auditor"]);
    let kept = stage.token(&["--role", "auditor", "--name", "kept"]);
    let mut server = stage.program.serve();
    let mut revoked = Listening::to(&server, &auditor, "/v1/events", None).await;
    let mut going = Listening::to(&server, &kept, "/v1/events", None).await;
    let listed = stage.program.output(&["token", "list"]).1;
    let line = listed
        .lines()
        .find(|line| line.contains("auditor") && !line.ends_with("kept"));
    let id = line.and_then(|line| line.split(' ').next()).expect("an id");
    assert_eq!(stage.program.output(&["token", "revoke", id]).0, 0);
    assert_eq!(revoked.next().await, None);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(going.next().await, None);
}

/// Takes as long as a reader is waited for: 10 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_is_dropped_and_gets_no_end_that_looks_whole() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let service = crate::harness::embedded(&folder, "").await;
    let router = service.router();
    let call = |head: Builder, body: Body| {
        let head = head.header("authorization", format!("Bearer {token}"));
        router.clone().oneshot(head.body(body).expect("a request"))
    };
    // More than the pages that wait to be written.
    for _ in 0..400 {
        let head = Request::post("/v1/reviews")
            .header("content-type", "application/json")
            .header("prefer", "wait=30");
        let body = Body::from(submission(&harmless()).to_string());
        let answered = call(head, body).await.expect("an answer");
        assert_eq!(answered.status(), 200);
    }
    let from_the_beginning = || Request::get("/v1/events").header("last-event-id", "0");
    let unread = call(from_the_beginning(), Body::empty()).await;
    let read = call(from_the_beginning(), Body::empty()).await;
    let mut read = read.expect("a stream").into_body();
    let mut events = 0;
    while events < 800 {
        let frame = timeout(PATIENCE, read.frame()).await.expect("in time");
        let frame = frame.expect("a frame").expect("no end");
        let text = frame.into_data().expect("data");
        events += text.windows(6).filter(|it| *it == b"\ndata:").count();
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut unread = unread.expect("a stream").into_body();
    let cut = loop {
        match timeout(PATIENCE, unread.frame()).await.expect("in time") {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(cut, Some(Err(_))), "{cut:?}");
    drop(read);
    service.close().await;
}
