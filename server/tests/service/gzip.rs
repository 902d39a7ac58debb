//! `gzip` in both directions over real sockets, and its bounds.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Folder, Program, Server, bearer, harmless, submission};

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("zipped");
    encoder.finish().expect("zipped")
}

async fn exchange(server: &Server, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    let length = body.len();
    let head = format!("{head}host: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("sent");
    // A server that has refused already may have closed.
    socket.write_all(body).await.unwrap_or_default();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap_or_default();
    let end = answer
        .windows(4)
        .position(|it| it == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    (head, answer[end + 4..].to_vec())
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).expect("a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zipped_body_is_read_within_the_bounds_of_a_plain_one() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    let head = |encoding: &str| {
        format!(
            "POST /v1/reviews HTTP/1.1\r\n{}prefer: wait=30\r\ncontent-type: application/json\r\n\
             content-encoding: {encoding}\r\n",
            bearer(&token)
        )
    };
    let body = submission(&harmless()).to_string();
    let (told, _) = exchange(&server, &head("gzip"), &zipped(body.as_bytes())).await;
    assert_eq!(status(&told), "200", "{told}");
    // 64 MiB of blanks in less than 1 MiB: what counts is what comes out.
    let bomb = zipped(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let (told, _) = exchange(&server, &head("gzip"), &bomb).await;
    assert_eq!(status(&told), "413");
    let mut broken = zipped(body.as_bytes());
    let middle = broken.len() / 2;
    broken.truncate(middle);
    for (encoding, body, wanted) in [
        ("gzip", broken.as_slice(), "400"),
        ("gzip", body.as_bytes(), "400"),
        ("br", body.as_bytes(), "415"),
        ("gzip, gzip", body.as_bytes(), "415"),
    ] {
        let (told, text) = exchange(&server, &head(encoding), body).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(status(&told), wanted, "{encoding}: {text}");
        assert!(told.contains("application/problem+json"), "{told}");
    }
    // Without a token nothing is looked at.
    let stranger = head("gzip").replace("Bearer ", "Bearer x");
    assert_eq!(status(&exchange(&server, &stranger, &bomb).await.0), "401");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_are_zipped_for_who_takes_it_and_streams_are_not() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let (code, token, err) = program.output(&["token", "create", "--role", "auditor"]);
    assert_eq!(code, 0, "{err}");
    let token = token.trim().to_owned();
    let server = program.serve();
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{}{more}", bearer(&token));
    let accepts = "accept-encoding: gzip\r\n";
    let document = "/v1/openapi.json";
    let (told, plain) = exchange(&server, &get(document, ""), b"").await;
    assert!(!told.contains("content-encoding"), "{told}");
    let (told, body) = exchange(&server, &get(document, accepts), b"").await;
    assert!(
        told.contains("content-encoding: gzip") && told.contains("vary: accept-encoding"),
        "{told}"
    );
    assert!(body.len() * 3 < plain.len());
    // The body is chunked: its first chunk begins after the line with its length.
    let zipped = unchunked(&body);
    let mut unzipped = Vec::new();
    GzDecoder::new(zipped.as_slice())
        .read_to_end(&mut unzipped)
        .expect("gzip");
    assert_eq!(unzipped, plain);
    // An export of nothing ends as well as any other.
    let nothing = "/v1/export?before=01980000-0000-7000-8000-000000000001";
    let (told, body) = exchange(&server, &get(nothing, accepts), b"").await;
    assert_eq!(status(&told), "200", "{told}");
    assert!(body.ends_with(b"0\r\n\r\n"), "it was cut: {body:?}");
    let head = get("/v1/events", accepts) + "host: test\r\n\r\n";
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut first = vec![0; 1_024];
    let read = socket.read(&mut first).await.expect("read");
    let first = String::from_utf8_lossy(&first[..read]).to_lowercase();
    assert!(
        first.contains("200 ok") && !first.contains("content-encoding"),
        "{first}"
    );
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|it| it == b"\r\n") {
        let length = std::str::from_utf8(&body[..end]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        out.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
    out
}
