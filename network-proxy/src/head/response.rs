//! A response's head: from an origin's bytes to [`ResponseHead`], and to what the client gets.
//!
//! Apart because an origin may be hostile too: what it sends is read as strictly as a request.
//! INVARIANT: a status is 100 to 599, and a response whose end is ambiguous is refused.

use super::{BadHead, Fields, Framing, Method, Version, bad, lines, parse_fields, parse_length};

/// A response's head, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead<'head> {
    pub(crate) status: u16,
    pub(crate) reason: &'head [u8],
    pub(crate) version: Version,
    pub(crate) fields: Fields<'head>,
    pub(crate) framing: Framing,
}

/// Reads a whole response head; how its body ends depends on the request's method (RFC 9112 §6.3).
pub(crate) fn parse_response<'head>(
    head: &'head [u8],
    method: &Method,
) -> Result<ResponseHead<'head>, BadHead> {
    let mut lines = lines(head)?;
    let first = lines.next().unwrap_or_default();
    let version = match first.get(..9) {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err(bad("the answer is not HTTP/1")),
    };
    let status = first
        .get(9..12)
        .and_then(|digits| parse_length(digits).ok());
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..=599).contains(status));
    let status = status.ok_or_else(|| bad("the answer has no valid status"))?;
    let reason = match first.get(12..) {
        None | Some([]) => &[],
        Some([b' ', reason @ ..]) => reason,
        Some(_) => return Err(bad("the answer has no valid status")),
    };
    let fields = parse_fields(lines)?;
    let framing = framing(&fields, status, method)?;
    Ok(ResponseHead {
        status,
        reason,
        version,
        fields,
        framing,
    })
}

fn framing(fields: &Fields<'_>, status: u16, method: &Method) -> Result<Framing, BadHead> {
    let mut lengths = fields.all("content-length").map(parse_length);
    let length = lengths.next().transpose()?;
    for other in lengths {
        if Some(other?) != length {
            return Err(bad("the answer has two lengths"));
        }
    }
    let coding = fields.coding()?;
    if length.is_some() && coding.is_some() {
        return Err(bad("the answer has a length and a transfer coding"));
    }
    let empty = status < 200 || status == 204 || status == 304 || method.as_str() == "HEAD";
    Ok(match (length, coding) {
        _ if empty => Framing::Empty,
        (Some(0), _) => Framing::Empty,
        (Some(length), _) => Framing::Length(length),
        (None, Some(())) => Framing::Chunked,
        (None, None) => Framing::UntilClose,
    })
}

impl ResponseHead<'_> {
    /// Whether the origin keeps the connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.version == Version::Http11
            && self.framing != Framing::UntilClose
            && !self.fields.holds("connection", "close")
    }

    /// The head as the client gets it. `close` is how this connection goes on; a body without an end of its own is chunked for
    /// clients that can read that.
    pub(crate) fn forwarded(&self, client: Version, after: After) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(format!("HTTP/1.1 {} ", self.status).as_bytes());
        head.extend_from_slice(self.reason);
        head.extend_from_slice(b"\r\n");
        self.fields.write_end_to_end(&mut head);
        let length = self.fields.all("content-length").next();
        match (self.framing, length) {
            (Framing::Chunked | Framing::UntilClose, _) if client == Version::Http11 => {
                head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            (Framing::Chunked | Framing::UntilClose, _) => {}
            // A HEAD or 304 answer tells the length of what it does not carry.
            (Framing::Empty | Framing::Length(_), Some(length)) => {
                head.extend_from_slice(b"Content-Length: ");
                head.extend_from_slice(length);
                head.extend_from_slice(b"\r\n");
            }
            (Framing::Empty | Framing::Length(_), None) => {}
        }
        head.extend_from_slice(match after {
            After::Close => b"Connection: close\r\n\r\n",
            After::KeepAlive if client == Version::Http10 => b"Connection: keep-alive\r\n\r\n",
            After::KeepAlive => b"\r\n",
            After::Upgrade => b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        });
        head
    }
}

/// How a connection goes on after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Close,
    KeepAlive,
    Upgrade,
}
