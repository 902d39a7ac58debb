//! The first message of a TLS handshake: which server it names ([`Hello`]).
//!
//! Apart because these bytes are hostile and fuzzed alone. Pure.
//! INVARIANT: a message that is not wholly understood is not a match.
//! Sources: RFC 8446 §4.1.2, §5.1; RFC 6066 §3; RFC 9849 (encrypted `ClientHello`, extension 0xfe0d).

use crate::host::Host;

/// The most bytes that are waited for: real hellos have under 3 KiB, with post-quantum keys too.
pub(crate) const MOST_HELLO: usize = 32 * 1024;

/// What the first bytes of a connection say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// Not TLS.
    Other,
    /// TLS that names a server, or none; `hidden` where an inner name may be encrypted.
    Tls { name: Option<Host>, hidden: Hidden },
    /// It begins like TLS, and is none.
    Broken,
}

/// Whether a handshake may carry an encrypted inner name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    No,
    Perhaps,
}

/// Reads what has come so far.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    match bytes.first() {
        None => return Hello::Incomplete,
        Some(22) => {}
        Some(_) => return Hello::Other,
    }
    let message = match handshake(bytes) {
        Ok(Some(message)) => message,
        Ok(None) if bytes.len() > MOST_HELLO => return Hello::Broken,
        Ok(None) => return Hello::Incomplete,
        Err(Broken) => return Hello::Broken,
    };
    match hello(&message) {
        Some((name, hidden)) => Hello::Tls { name, hidden },
        None => Hello::Broken,
    }
}

struct Broken;

/// The handshake message, put together from its records; none where it has not all come.
fn handshake(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
    let mut message: Vec<u8> = Vec::new();
    loop {
        let wanted = match message.as_slice() {
            [1, a, b, c, ..] => {
                Some(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))
            }
            [] | [1, ..] => None,
            _ => return Err(Broken),
        };
        if let Some(wanted) = wanted {
            if wanted > MOST_HELLO {
                return Err(Broken);
            }
            if let Some(body) = message.get(4..4 + wanted) {
                return Ok(Some(body.to_vec()));
            }
        }
        let (length, rest) = match bytes {
            [22, 3, minor, a, b, rest @ ..] if *minor <= 4 => {
                (usize::from(*a) << 8 | usize::from(*b), rest)
            }
            [22, 3, ..] | [22] | [] => return Ok(None),
            _ => return Err(Broken),
        };
        if length == 0 || length > 16 * 1024 {
            return Err(Broken);
        }
        match rest.split_at_checked(length) {
            Some((record, rest)) => {
                message.extend_from_slice(record);
                bytes = rest;
            }
            None => return Ok(None),
        }
    }
}

/// The server name of a `ClientHello`'s body.
fn hello(body: &[u8]) -> Option<(Option<Host>, Hidden)> {
    let mut rest = Reader(body);
    let _version_and_random = rest.take(34)?;
    let _session = rest.vector(1)?;
    let _suites = rest.vector(2)?;
    let _compression = rest.vector(1)?;
    if rest.0.is_empty() {
        return Some((None, Hidden::No));
    }
    let mut extensions = Reader(rest.vector(2)?);
    if !rest.0.is_empty() {
        return None;
    }
    let (mut name, mut seen, mut hidden) = (None, false, Hidden::No);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        match kind {
            // Two names would be two readings.
            0 if seen => return None,
            0 => {
                name = Some(server_name(content)?);
                seen = true;
            }
            0xfe0d => hidden = Hidden::Perhaps,
            _ => {}
        }
    }
    Some((name, hidden))
}

/// Exactly one name, of the one kind there is.
fn server_name(content: &[u8]) -> Option<Host> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector(2)?);
    let kind = list.number(1)?;
    let name = list.vector(2)?;
    let whole = kind == 0 && list.0.is_empty() && outer.0.is_empty();
    Host::parse(name).ok().filter(|_| whole)
}

/// Bytes that are taken from the front.
struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn take(&mut self, count: usize) -> Option<&'bytes [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(
            self.take(width)?
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn vector(&mut self, width: usize) -> Option<&'bytes [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A `ClientHello` in records of `record` bytes each.
    pub(crate) fn client_hello(names: &[&str], ech: &[u8], record: usize) -> Vec<u8> {
        let vector = |width: usize, content: &[u8]| {
            let length = u32::try_from(content.len())
                .expect("a length")
                .to_be_bytes();
            [&length[4 - width..], content].concat()
        };
        let mut extensions = Vec::new();
        for name in names {
            let list = vector(2, &[&[0][..], &vector(2, name.as_bytes())].concat());
            extensions.extend([&[0, 0][..], &vector(2, &list)].concat());
        }
        if !ech.is_empty() {
            extensions.extend([&[0xfe, 0x0d][..], &vector(2, ech)].concat());
        }
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[]),
            &vector(2, &[0x13, 1]),
            &vector(1, &[0]),
            &vector(2, &extensions),
        ]
        .concat();
        let message = [&[1][..], &vector(3, &body)].concat();
        message
            .chunks(record)
            .flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat())
            .collect()
    }

    #[test]
    fn the_name_is_read_from_whole_and_from_cut_records() {
        let name = Some(Host::parse(b"example.com").expect("a host"));
        for record in [1, 7, 4096] {
            let hello = client_hello(&["Example.COM"], &[], record);
            assert_eq!(
                read(&hello),
                Hello::Tls {
                    name: name.clone(),
                    hidden: Hidden::No
                }
            );
            assert_eq!(read(&hello[..hello.len() - 1]), Hello::Incomplete);
        }
        assert_eq!(
            read(&client_hello(&[], &[], 512)),
            Hello::Tls {
                name: None,
                hidden: Hidden::No
            }
        );
        assert_eq!(
            read(&client_hello(&["a.test"], &[1], 512)),
            Hello::Tls {
                name: Host::parse(b"a.test").ok(),
                hidden: Hidden::Perhaps
            }
        );
    }

    #[test]
    fn two_names_or_a_broken_one_are_no_name() {
        assert_eq!(
            read(&client_hello(&["a.test", "b.test"], &[], 512)),
            Hello::Broken
        );
        assert_eq!(read(&client_hello(&["a test"], &[], 512)), Hello::Broken);
        assert_eq!(read(b"SSH-2.0-x"), Hello::Other);
        assert_eq!(read(&[22, 9, 9]), Hello::Broken);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..200, with in any::<u8>()) {
            let _any = read(&bytes);
            let mut hello = client_hello(&["example.com"], &[1, 2], 64);
            if let Some(byte) = hello.get_mut(at) {
                *byte = with;
            }
            let _changed = read(&hello);
            bytes.insert(0, 22);
            bytes.insert(1, 3);
            let _framed = read(&bytes);
        }
    }
}
