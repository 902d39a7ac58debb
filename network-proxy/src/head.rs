//! Heads of HTTP/1 messages: from bytes to [`RequestHead`] and [`ResponseHead`], and what of them is passed on.
//!
//! Apart because these bytes come from inside the walls, or from anywhere: this is the door's own reading, stricter than any
//! library's. Pure.
//! INVARIANT: a head that two readers could take for two different messages is refused: bare CR or LF, folded lines, blanks
//! before a colon, two `Host`, two lengths, a length beside a coding, a target that contradicts `Host`.
//! Sources: RFC 9112 §2.2, §3.2, §5, §6, §11.2; RFC 9110 §7.6.

use std::fmt;

use crate::host::{Destination, Host};

pub(crate) use response::{After, parse_response};

mod response;

/// The largest head, in bytes.
pub(crate) const MOST_HEAD: usize = 64 * 1024;
/// The most fields in one.
pub(crate) const MOST_FIELDS: usize = 128;
/// The longest method: the longest registered one has 17 letters.
const LONGEST_METHOD: usize = 24;
/// The field by which a request names a Unix socket.
pub(crate) const UNIX_SOCKET_FIELD: &str = "x-unix-socket";

/// Fields that belong to one connection and are never passed on (RFC 9110 §7.6.1), and those that speak to this door.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    UNIX_SOCKET_FIELD,
];

/// Fields that `Connection` may not name: whoever could remove these could remake the message.
const KEPT: [&str; 4] = ["host", "content-length", "content-type", "content-encoding"];

/// An HTTP method: a token; case counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// Reads one, where it is a token of at most 24 letters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.len() <= LONGEST_METHOD && text.bytes().all(is_token);
        plain.then(|| Self(text.into()))
    }

    /// Its letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it only reads: what limited mode lets through.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(&*self.0, "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether a request without a body may be sent a second time on a fresh connection (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.is_reading() || matches!(&*self.0, "PUT" | "DELETE")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `CONNECT host:port`.
    Tunnel(Destination),
    /// `GET http://host/path`.
    Absolute { to: Destination, path: String },
    /// `GET /path`: only inside a tunnel that is looked into.
    Origin(String),
}

/// HTTP/1.0 or 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// How a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// After that many bytes; at least one.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection: responses only.
    UntilClose,
}

/// Fields in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fields<'head>(pub(crate) Vec<(&'head str, &'head [u8])>);

/// A request's head, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHead<'head> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) version: Version,
    pub(crate) fields: Fields<'head>,
    pub(crate) framing: Framing,
}

/// Why a head is refused: the status to answer, and our own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadHead {
    pub(crate) status: u16,
    pub(crate) detail: &'static str,
}

/// A head that is no head.
pub(crate) const fn bad(detail: &'static str) -> BadHead {
    BadHead {
        status: 400,
        detail,
    }
}

/// How far a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// It ends before this place.
    Complete(usize),
    /// It holds a byte that no head holds.
    Bad,
}

/// Looks for the end of a head in what has come so far; `seen` is how far an earlier look came.
pub(crate) fn scan(bytes: &[u8], seen: usize) -> Scan {
    // A line break may have been cut, so the last three bytes are looked at again.
    let from = seen.saturating_sub(3);
    let mut rest = bytes.get(from..).unwrap_or_default();
    let mut place = from;
    let mut before = from
        .checked_sub(1)
        .and_then(|place| bytes.get(place))
        .copied();
    while let Some((byte, after)) = rest.split_first() {
        if rest.starts_with(b"\r\n\r\n") {
            return Scan::Complete(place + 4);
        }
        let stray = match byte {
            b'\r' => after.first().is_some_and(|next| *next != b'\n'),
            b'\n' => before != Some(b'\r'),
            b'\t' => false,
            byte => *byte < b' ' || *byte == 0x7f,
        };
        if stray {
            return Scan::Bad;
        }
        before = Some(*byte);
        place += 1;
        rest = after;
    }
    Scan::Incomplete
}

/// Reads a whole request head, its last empty line included.
pub(crate) fn parse_request(head: &[u8]) -> Result<RequestHead<'_>, BadHead> {
    let mut lines = lines(head)?;
    let first = lines.next().unwrap_or_default();
    let first = std::str::from_utf8(first).map_err(|_| bad("the request line is not ASCII"))?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request line is not `METHOD target HTTP/1.1`"));
    };
    let version = match version {
        "HTTP/1.1" => Version::Http11,
        "HTTP/1.0" => Version::Http10,
        "HTTP/2.0" => {
            return Err(BadHead {
                status: 400,
                detail: "this listener speaks HTTP/1.1",
            });
        }
        _ => return Err(bad("the version is not HTTP/1.1 or HTTP/1.0")),
    };
    let method = Method::parse(method).ok_or_else(|| bad("the method is not a token"))?;
    let fields = parse_fields(lines)?;
    let target = parse_target(&method, target)?;
    check_host(&fields, &target, version)?;
    let framing = request_framing(&fields, &method, version)?;
    Ok(RequestHead {
        method,
        target,
        version,
        fields,
        framing,
    })
}

/// The lines of a head, without their ends and without the empty one.
fn lines(head: &[u8]) -> Result<impl Iterator<Item = &[u8]>, BadHead> {
    let head = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or_else(|| bad("the head does not end with an empty line"))?;
    Ok(head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line)))
}

fn parse_fields<'head>(lines: impl Iterator<Item = &'head [u8]>) -> Result<Fields<'head>, BadHead> {
    let mut fields = Vec::with_capacity(16);
    for line in lines {
        if fields.len() == MOST_FIELDS {
            return Err(BadHead {
                status: 431,
                detail: "the head has more than 128 fields",
            });
        }
        fields.push(parse_field(line)?);
    }
    Ok(Fields(fields))
}

fn parse_field(line: &[u8]) -> Result<(&str, &[u8]), BadHead> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = colon
        .and_then(|colon| line.split_at_checked(colon))
        .ok_or_else(|| bad("a field has no colon"))?;
    let token = !name.is_empty() && name.iter().copied().all(is_token);
    let name = std::str::from_utf8(name).ok().filter(|_| token);
    let name = name.ok_or_else(|| bad("a field's name is not a token"))?;
    let value = value.get(1..).unwrap_or_default();
    // Before its blanks are taken off: a form feed is none to other readers (RFC 9110 §5.6.3).
    let plain = value
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t');
    if plain {
        Ok((name, value.trim_ascii()))
    } else {
        Err(bad("a field's value holds a control byte"))
    }
}

fn parse_target(method: &Method, target: &str) -> Result<Target, BadHead> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains(['#', '\\']) {
        return Err(bad("the request target holds a byte that belongs in none"));
    }
    match method.as_str() {
        "CONNECT" => {
            return Destination::parse(target, None)
                .map(Target::Tunnel)
                .map_err(|_| bad("CONNECT takes `host:port` and nothing else"));
        }
        "TRACE" => {
            return Err(BadHead {
                status: 405,
                detail: "TRACE is not passed on",
            });
        }
        _ => {}
    }
    if target.starts_with('/') {
        return Ok(Target::Origin(target.to_owned()));
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(bad("the request target is not an absolute `http://` URL"));
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(bad("https goes through CONNECT"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(bad("only `http://` URLs are passed on"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let to = Destination::parse(authority, Some(80))
        .map_err(|_| bad("the URL's host is not a plain host and port"))?;
    let path = match path.chars().next() {
        Some('/') => path.to_owned(),
        Some(_) => format!("/{path}"),
        None if method.as_str() == "OPTIONS" => "*".to_owned(),
        None => "/".to_owned(),
    };
    Ok(Target::Absolute { to, path })
}

/// `Host` stands once (HTTP/1.0: at most once) and says what the target says.
fn check_host(fields: &Fields<'_>, target: &Target, version: Version) -> Result<(), BadHead> {
    let mut hosts = fields.all("host");
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if version == Version::Http10 => return Ok(()),
        (None, _) => return Err(bad("the request has no Host")),
        (Some(_), Some(_)) => return Err(bad("the request has two Host fields")),
    };
    let host = std::str::from_utf8(host).map_err(|_| bad("Host is not a plain host and port"))?;
    let read = |port| {
        Destination::parse(host, Some(port)).map_err(|_| bad("Host is not a plain host and port"))
    };
    let agrees = match target {
        // Clients differ in whether they repeat the port here; it says nothing that the target does not.
        Target::Tunnel(to) => read(to.port)?.host == to.host,
        Target::Absolute { to, .. } => read(80)? == *to,
        Target::Origin(_) => true,
    };
    if agrees {
        Ok(())
    } else {
        Err(bad("Host contradicts the request target"))
    }
}

fn request_framing(
    fields: &Fields<'_>,
    method: &Method,
    version: Version,
) -> Result<Framing, BadHead> {
    let framing = match (single_length(fields)?, fields.coding()?) {
        (Some(_), Some(())) => return Err(bad("the request has a length and a transfer coding")),
        (Some(0), None) | (None, None) => Framing::Empty,
        (Some(length), None) => Framing::Length(length),
        (None, Some(())) if version == Version::Http10 => {
            return Err(bad("HTTP/1.0 has no transfer codings"));
        }
        (None, Some(())) => Framing::Chunked,
    };
    let framed = fields.all("content-length").next().is_some() || framing == Framing::Chunked;
    if method.as_str() == "CONNECT" && framed {
        return Err(bad("CONNECT has no body"));
    }
    Ok(framing)
}

/// The one length; any second one is refused, an equal one too.
fn single_length(fields: &Fields<'_>) -> Result<Option<u64>, BadHead> {
    let mut lengths = fields.all("content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => parse_length(length).map(Some),
        (Some(_), Some(_)) => Err(bad("the message has two lengths")),
    }
}

fn parse_length(value: &[u8]) -> Result<u64, BadHead> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| bad("the length is not a plain number"))
}

impl<'head> Fields<'head> {
    /// The values under a name.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &'head [u8]> {
        self.0
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// Whether a comma-separated field holds a token.
    pub(crate) fn holds(&self, name: &'static str, token: &str) -> bool {
        self.tokens(name)
            .any(|own| own.eq_ignore_ascii_case(token.as_bytes()))
    }

    fn tokens(&self, name: &'static str) -> impl Iterator<Item = &'head [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// `Transfer-Encoding`: absent, or exactly `chunked`.
    pub(crate) fn coding(&self) -> Result<Option<()>, BadHead> {
        let mut codings = self.all("transfer-encoding");
        match (codings.next(), codings.next()) {
            (None, _) => Ok(None),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(())),
            _ => Err(bad("the only transfer coding is `chunked`, once")),
        }
    }

    /// Writes what is passed on: no field of this hop, none that `Connection` names, no framing (the writer's own follows).
    pub(crate) fn write_end_to_end(&self, into: &mut Vec<u8>) {
        let named: Vec<&[u8]> = self.tokens("connection").collect();
        for (name, value) in &self.0 {
            let is = |other: &&str| name.eq_ignore_ascii_case(other);
            let kept = KEPT.iter().any(is)
                || !named
                    .iter()
                    .any(|own| own.eq_ignore_ascii_case(name.as_bytes()));
            if kept && !HOP_BY_HOP.iter().any(is) && !["host", "content-length"].iter().any(is) {
                into.extend_from_slice(name.as_bytes());
                into.extend_from_slice(b": ");
                into.extend_from_slice(value);
                into.extend_from_slice(b"\r\n");
            }
        }
    }
}

impl RequestHead<'_> {
    /// Whether the client wants the connection kept.
    pub(crate) fn keeps_alive(&self) -> bool {
        let close = self.fields.holds("connection", "close")
            || self.fields.holds("proxy-connection", "close");
        match self.version {
            Version::Http11 => !close,
            Version::Http10 => {
                !close
                    && (self.fields.holds("connection", "keep-alive")
                        || self.fields.holds("proxy-connection", "keep-alive"))
            }
        }
    }

    /// Whether it asks to become a WebSocket; every other upgrade is dropped (`h2c` would hide what follows).
    pub(crate) fn upgrades_to_websocket(&self) -> bool {
        let mut upgrades = self.fields.all("upgrade");
        self.version == Version::Http11
            && self.framing == Framing::Empty
            && self.method.as_str() == "GET"
            && self.fields.holds("connection", "upgrade")
            && upgrades
                .next()
                .is_some_and(|token| token.eq_ignore_ascii_case(b"websocket"))
            && upgrades.next().is_none()
    }

    /// The head as the origin gets it, or, where `proxy` gives a line, as an upstream proxy does.
    pub(crate) fn forwarded(&self, to: &Destination, path: &str, proxy: Option<&str>) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        let host = authority(to);
        head.extend_from_slice(self.method.as_str().as_bytes());
        head.push(b' ');
        if proxy.is_some() {
            head.extend_from_slice(format!("http://{host}").as_bytes());
        }
        head.extend_from_slice(path.as_bytes());
        head.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: {host}\r\n{}", proxy.unwrap_or_default()).as_bytes(),
        );
        self.fields.write_end_to_end(&mut head);
        match self.framing {
            Framing::Length(length) => {
                head.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes())
            }
            Framing::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Empty if self.fields.all("content-length").next().is_some() => {
                head.extend_from_slice(b"Content-Length: 0\r\n");
            }
            Framing::Empty | Framing::UntilClose => {}
        }
        if self.upgrades_to_websocket() {
            head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// The destination as `Host` spells it: without the port where it is the scheme's.
fn authority(to: &Destination) -> String {
    match (&to.host, to.port) {
        (Host::Address(std::net::IpAddr::V6(address)), 80 | 443) => format!("[{address}]"),
        (host, 80 | 443) => host.to_string(),
        _ => to.to_string(),
    }
}

/// A byte of a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
