//! Secrets known by the place where they stand: the user's part of an address, a key block, a password file's line, a
//! wallet's phrase.

use super::tokens::is_base64;
use super::value::{self, Said, Value};
use super::{Span, find, is_rich, run};

/// Finds passwords in addresses; answers where the hosts of all addresses stand, in order, because a host is never hidden.
pub(super) fn urls(bytes: &[u8], spans: &mut Vec<Span>) -> Vec<(usize, usize)> {
    let mut hosts = Vec::new();
    let mut at = 0;
    while let Some(scheme_end) = find(bytes, b"://", at) {
        let start = scheme_end + 3;
        let length = run(bytes, start, |byte| {
            value::is_plain(byte) && !matches!(byte, b'/' | b'?' | b'#' | b',')
        });
        let end = start + length;
        let authority = bytes.get(start..end).unwrap_or_default();
        let user = authority.iter().rposition(|byte| *byte == b'@');
        hosts.push((start + user.map_or(0, |user| user + 1), end));
        if let Some(user) = user {
            let name = run(authority, 0, |byte| byte != b':');
            if name < user {
                push(
                    bytes,
                    (start + name + 1, start + user),
                    "url_password",
                    spans,
                );
            } else if user >= 16 && authority.get(..user).is_some_and(is_rich) {
                push(bytes, (start, start + user), "url_token", spans);
            }
        }
        at = end.max(start);
    }
    hosts
}

/// The part of an address, unless it is a variable or a place for one.
fn push(bytes: &[u8], (start, end): (usize, usize), kind: &'static str, spans: &mut Vec<Span>) {
    let part = bytes.get(start..end).unwrap_or_default();
    let stands_for =
        matches!(part.first(), None | Some(b'$' | b'*')) || part.eq_ignore_ascii_case(b"password");
    if !stands_for {
        spans.push(Span { start, end, kind });
    }
}

/// Finds the lines of private keys: the base64 between `-----BEGIN … PRIVATE KEY…` and its end (RFC 7468), each line, and each
/// part between `\n`, by itself.
pub(super) fn keys(bytes: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(begin) = find(bytes, b"-----BEGIN ", at) {
        let label_at = begin + b"-----BEGIN ".len();
        let window = bytes
            .get(..bytes.len().min(label_at + 64))
            .unwrap_or_default();
        let label = run(window, label_at, |byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
        });
        at = label_at + label;
        let is_key = find(
            bytes.get(label_at..at).unwrap_or_default(),
            b"PRIVATE KEY",
            0,
        )
        .is_some();
        if !is_key || !bytes.get(at..).unwrap_or_default().starts_with(b"-----") {
            continue;
        }
        at += 5;
        let end = find(bytes, b"-----", at).unwrap_or(bytes.len());
        let mut part = at;
        while part < end {
            let length = run(bytes.get(..end).unwrap_or_default(), part, is_base64);
            // `\n` as two characters, in JSON and in variables.
            let escape =
                bytes.get(part.wrapping_sub(1)) == Some(&b'\\') && bytes.get(part) == Some(&b'n');
            let start = part + usize::from(escape && length > 1);
            let body = bytes.get(start..part + length).unwrap_or_default();
            if body.len() >= 40 || (body.len() >= 4 && is_rich(body) && body.first() != Some(&b'/'))
            {
                spans.push(Span {
                    start,
                    end: part + length,
                    kind: "private_key",
                });
            }
            part += length + 1;
        }
        at = end;
    }
}

/// Finds a wallet's words: twelve or more behind a name that says what they are, each by itself.
pub(super) fn phrases(bytes: &[u8], spans: &mut Vec<Span>) {
    const NAMES: [&[u8]; 6] = [
        b"mnemonic",
        b"MNEMONIC",
        b"seed",
        b"SEED",
        b"recovery",
        b"RECOVERY",
    ];
    for name in NAMES {
        let mut at = 0;
        while let Some(found) = find(bytes, name, at) {
            at = found + name.len();
            let window = bytes.get(..bytes.len().min(at + 24)).unwrap_or_default();
            let separator = window
                .get(at..)
                .unwrap_or_default()
                .iter()
                .position(|byte| matches!(byte, b'=' | b':'));
            let Some(separator) = separator else { continue };
            let start = at + separator + 1;
            let start =
                start + run(bytes, start, |byte| matches!(byte, b' ' | b'"' | b'\'')).min(8);
            let words = words(bytes, start);
            if words.len() >= 12 {
                at = words.last().map_or(at, |word| word.end);
                spans.extend(words);
            }
        }
    }
}

/// Up to 24 words of three to eight small letters, one blank between them.
fn words(bytes: &[u8], start: usize) -> Vec<Span> {
    let mut words = Vec::new();
    let mut at = start;
    while words.len() < 24 {
        let window = bytes.get(..bytes.len().min(at + 9)).unwrap_or_default();
        let length = run(window, at, |byte| byte.is_ascii_lowercase());
        if !(3..=8).contains(&length) {
            break;
        }
        words.push(Span {
            start: at,
            end: at + length,
            kind: "seed_word",
        });
        at += length;
        if bytes.get(at) != Some(&b' ') {
            break;
        }
        at += 1;
    }
    words
}

/// Finds passwords in lines of `.netrc` and `.pgpass`.
pub(super) fn lines(text: &str, spans: &mut Vec<Span>) {
    let bytes = text.as_bytes();
    let is_netrc = text.contains("login ") && text.contains("password ");
    let mut line_at = 0;
    for line in text.split('\n') {
        if is_netrc && let Some(found) = line.find("password ") {
            let start = line_at + found + "password ".len();
            if let Value::Secret(start, end) = value::at(bytes, start, Said::Surely)
                && (line.contains("login ") || line.trim_start().starts_with("password "))
            {
                spans.push(Span {
                    start,
                    end,
                    kind: "password",
                });
            }
        }
        if let Some(length) = pgpass(line) {
            let end = line_at + line.len();
            spans.push(Span {
                start: end - length,
                end,
                kind: "password",
            });
        }
        line_at += line.len() + 1;
    }
}

/// `host:port:database:user:password` (the PostgreSQL password file): how long the password is.
fn pgpass(line: &str) -> Option<usize> {
    if line.len() > 512 || !line.bytes().all(value::is_plain) {
        return None;
    }
    let mut fields = line.splitn(5, ':');
    let (host, port) = (fields.next()?, fields.next()?);
    let (database, user, password) = (fields.next()?, fields.next()?, fields.next()?);
    let is_port = port == "*"
        || ((2..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()));
    let plain = [host, database, user]
        .iter()
        .all(|field| !field.is_empty() && !field.contains('/'));
    let number = database.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && plain && !number && !password.is_empty() && !password.contains(':'))
        .then_some(password.len())
}
