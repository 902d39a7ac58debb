use super::*;
use proptest::prelude::*;

fn bad_status(head: &str) -> Option<u16> {
    parse_request(head.as_bytes()).err().map(|bad| bad.status)
}

#[test]
fn heads_with_two_readings_are_refused() {
    for (head, status) in [
        ("GET http://a.test/ HTTP/1.1\r\n\r\n", 400),
        ("GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", 400),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            400,
        ),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n",
            400,
        ),
        ("GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 405),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n X: y\r\n\r\n",
            400,
        ),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX Y: z\r\n\r\n",
            400,
        ),
        (
            "POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            400,
        ),
        (
            "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n",
            400,
        ),
        (
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
            400,
        ),
        ("GET http://a.test/ HTTP/1.2\r\nHost: a.test\r\n\r\n", 400),
    ] {
        assert_eq!(bad_status(head), Some(status), "{head:?}");
    }
}

#[test]
fn too_many_fields_are_too_many() {
    let fields = "X: y\r\n".repeat(MOST_FIELDS);
    assert_eq!(
        bad_status(&format!(
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"
        )),
        Some(431)
    );
}

#[test]
fn what_is_passed_on_is_the_message_and_not_the_hop() {
    let head = b"POST http://A.test:80/x?y HTTP/1.1\r\nhost: a.TEST\r\nConnection: x-gone, content-length, host\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\nContent-Length: 3\r\nX-Kept: a b\r\nUpgrade: h2c\r\n\r\n";
    let request = parse_request(head).expect("valid");
    let Target::Absolute { to, path } = &request.target else {
        panic!("absolute")
    };
    let forwarded = request.forwarded(to, path, None);
    assert_eq!(
        String::from_utf8_lossy(&forwarded),
        "POST /x?y HTTP/1.1\r\nHost: a.test\r\nX-Kept: a b\r\nContent-Length: 3\r\n\r\n"
    );
    let through = request.forwarded(to, path, Some("Proxy-Authorization: Basic b3Vycw==\r\n"));
    assert!(through.starts_with(b"POST http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic b3Vycw==\r\n"));
}

#[test]
fn an_answer_whose_end_is_unclear_is_refused() {
    let get = Method::parse("GET").expect("a method");
    for head in [
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 600 x\r\n\r\n",
        "HTTP/1.1 20 x\r\n\r\n",
        "HTTP/1.1 2000 x\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ] {
        assert!(parse_response(head.as_bytes(), &get).is_err(), "{head:?}");
    }
    let head = parse_response(b"HTTP/1.1 200\r\n\r\n", &get).expect("valid");
    assert_eq!(
        (head.framing, head.keeps_alive()),
        (Framing::UntilClose, false)
    );
    let none = Method::parse("HEAD").expect("a method");
    let head =
        parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &none).expect("valid");
    assert_eq!(head.framing, Framing::Empty);
}

/// Where a scan in pieces ends.
fn scan_in_pieces(bytes: &[u8], piece: usize) -> Scan {
    let mut seen = 0;
    for end in (piece..bytes.len()).step_by(piece).chain([bytes.len()]) {
        match scan(&bytes[..end], seen) {
            Scan::Incomplete => seen = end,
            other @ (Scan::Complete(_) | Scan::Bad) => return other,
        }
    }
    Scan::Incomplete
}

#[test]
fn a_control_byte_at_the_edge_of_a_value_is_no_blank() {
    for byte in ['\u{c}', '\u{b}', '\0', '\u{7f}', '\r'] {
        for value in [format!("{byte}b"), format!("b{byte}"), format!(" {byte} ")] {
            let text = format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX:{value}\r\n\r\n");
            let whole = scan(text.as_bytes(), 0) == Scan::Complete(text.len());
            assert!(
                !whole || parse_request(text.as_bytes()).is_err(),
                "{text:?}"
            );
        }
    }
}

/// Heads that are accepted, to be changed a little: what is random from its first byte is refused at its first byte.
const SEEDS: [&str; 6] = [
    "GET http://a.test/path?q=1 HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n",
    "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: keep-alive\r\n\r\n",
    "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\nConnection: x-a, close\r\nX-A: b\r\n\r\n",
    "PUT http://a.test:8080/x HTTP/1.1\r\nHost: a.test:8080\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
    "GET http://[2001:db8::1]/ HTTP/1.0\r\nHost: [2001:db8::1]\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: 198.41.0.4\r\nExpect: 100-continue\r\n\r\n",
];

proptest! {
    #[test]
    fn hostile_changes_to_a_head_are_refused_or_read_as_others_read_them(
        seed in 0..SEEDS.len(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..5),
    ) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let whole = scan(&bytes, 0) == Scan::Complete(bytes.len());
        let _response = parse_response(&bytes, &Method("GET".into()));
        if let (true, Ok(request)) = (whole, parse_request(&bytes)) {
            let mut space = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Request::new(&mut space);
            prop_assert_eq!(other.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
            prop_assert_eq!(other.method, Some(request.method.as_str()));
            let read: Vec<_> = other.headers.iter().map(|field| (field.name, field.value.trim_ascii())).collect();
            prop_assert_eq!(read, request.fields.0);
        }
    }

    #[test]
    fn hostile_heads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _request = parse_request(&bytes);
        let _response = parse_response(&bytes, &Method("GET".into()));
        let _scan = scan(&bytes, 0);
    }

    #[test]
    fn a_scan_does_not_depend_on_pieces(text in "([a-c: \t]|\r\n|\r|\n|\0){0,24}", piece in 1_usize..9) {
        // A byte that is refused early may be seen before the end that a larger piece shows, never after it.
        let (whole, pieces) = (scan(text.as_bytes(), 0), scan_in_pieces(text.as_bytes(), piece));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn what_is_accepted_an_independent_reader_reads_alike(
        method in "[A-Z]{1,6}", path in "/[a-z%0-9]{0,8}", fields in proptest::collection::vec(("[A-Za-z-]{1,8}", "[ -~]{0,12}"), 0..5),
    ) {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{method} http://a.test{path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
        if let Ok(request) = parse_request(text.as_bytes()) {
            let mut space = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Request::new(&mut space);
            prop_assert_eq!(other.parse(text.as_bytes()), Ok(httparse::Status::Complete(text.len())));
            prop_assert_eq!(other.method, Some(request.method.as_str()));
            let read: Vec<_> = other.headers.iter().map(|field| (field.name, field.value.trim_ascii())).collect();
            prop_assert_eq!(read, request.fields.0);
        }
    }
}
