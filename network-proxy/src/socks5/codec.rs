//! SOCKS5 messages, bytes to values and back. Pure; fuzzed alone.

use std::net::{IpAddr, SocketAddr};

use crate::host::{Destination, Host};

pub(crate) const NO_AUTHENTICATION: u8 = 0;
pub(crate) const PASSWORD: u8 = 2;
pub(crate) const NO_METHOD: u8 = 0xff;

/// Reply codes that the codec itself gives (RFC 1928 §6).
const GENERAL_FAILURE: u8 = 1;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_NOT_SUPPORTED: u8 = 8;

/// How far a message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed<T> {
    /// More bytes are needed.
    More,
    /// Here it is, and how many bytes it has.
    Done(T, usize),
    /// It is none; the reply code that says so.
    Bad(u8),
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Associate,
}

/// A request. For `Associate` the destination says nothing, and `port` is the client's own, or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) to: Destination,
    pub(crate) port: u16,
}

/// The methods that a client offers.
pub(crate) fn greeting(bytes: &[u8]) -> Parsed<Vec<u8>> {
    match bytes {
        [5, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            Some(methods) => Parsed::Done(methods.to_vec(), 2 + methods.len()),
            None => Parsed::More,
        },
        [] | [5] => Parsed::More,
        _ => Parsed::Bad(GENERAL_FAILURE),
    }
}

/// The password of RFC 1929; the name says nothing.
pub(crate) fn password(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let Some((version, rest)) = bytes.split_first() else {
        return Parsed::More;
    };
    if *version != 1 {
        return Parsed::Bad(GENERAL_FAILURE);
    }
    let read = || {
        let (name, rest) = prefixed(rest)?;
        let (password, _) = prefixed(rest)?;
        Some((password, 3 + name.len() + password.len()))
    };
    match read() {
        Some((password, length)) => Parsed::Done(password.to_vec(), length),
        None => Parsed::More,
    }
}

/// A request.
pub(crate) fn request(bytes: &[u8]) -> Parsed<Request> {
    let (command, rest) = match bytes {
        [5, command, 0, rest @ ..] => (*command, rest),
        [] | [5] | [5, _] => return Parsed::More,
        _ => return Parsed::Bad(GENERAL_FAILURE),
    };
    let command = match command {
        1 => Command::Connect,
        3 => Command::Associate,
        _ => return Parsed::Bad(COMMAND_NOT_SUPPORTED),
    };
    match address(rest) {
        Parsed::More => Parsed::More,
        // An association may name the unspecified address and port 0: "not known yet".
        Parsed::Done((host, port), length) => match (command, host, port) {
            (Command::Connect, Some(host), 1..) => Parsed::Done(
                Request {
                    command,
                    to: Destination { host, port },
                    port,
                },
                3 + length,
            ),
            (Command::Associate, host, port) => {
                let host = host.unwrap_or_else(|| Host::from(IpAddr::from([0; 4])));
                Parsed::Done(
                    Request {
                        command,
                        to: Destination { host, port },
                        port,
                    },
                    3 + length,
                )
            }
            (Command::Connect, _, _) => Parsed::Bad(GENERAL_FAILURE),
        },
        Parsed::Bad(code) => Parsed::Bad(code),
    }
}

/// A datagram's head (RFC 1928 §7): where to, and where its content begins. Fragments are not served.
pub(crate) fn datagram(bytes: &[u8]) -> Option<(Destination, &[u8])> {
    let rest = bytes.strip_prefix(&[0, 0, 0])?;
    match address(rest) {
        Parsed::Done((Some(host), port @ 1..), length) => {
            Some((Destination { host, port }, rest.get(length..)?))
        }
        Parsed::Done(..) | Parsed::More | Parsed::Bad(_) => None,
    }
}

/// The head of a datagram to the client.
pub(crate) fn datagram_head(from: SocketAddr) -> Vec<u8> {
    let mut head = vec![0, 0, 0];
    write_address(&mut head, from);
    head
}

/// A reply, with the bound address where it matters.
pub(crate) fn reply(code: u8, bound: Option<SocketAddr>) -> Vec<u8> {
    let mut reply = vec![5, code, 0];
    write_address(
        &mut reply,
        bound.unwrap_or_else(|| SocketAddr::from(([0; 4], 0))),
    );
    reply
}

fn write_address(into: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            into.push(1);
            into.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            into.push(4);
            into.extend_from_slice(&ip.octets());
        }
    }
    into.extend_from_slice(&address.port().to_be_bytes());
}

/// An address and a port; no host where the name is none.
fn address(bytes: &[u8]) -> Parsed<(Option<Host>, u16)> {
    let (host, rest) = match bytes {
        [] => return Parsed::More,
        [1, a, b, c, d, rest @ ..] => (Some(Host::from(IpAddr::from([*a, *b, *c, *d]))), rest),
        [4, rest @ ..] => match rest.split_first_chunk::<16>() {
            Some((octets, rest)) => (Some(Host::from(IpAddr::from(*octets))), rest),
            None => return Parsed::More,
        },
        [3, rest @ ..] => match prefixed(rest) {
            // Colons are legal in the text of an address, but this is the place of a name.
            Some((name, rest)) => (
                Host::parse(name).ok().filter(|_| !name.contains(&b':')),
                rest,
            ),
            None => return Parsed::More,
        },
        [1, ..] => return Parsed::More,
        _ => return Parsed::Bad(ADDRESS_NOT_SUPPORTED),
    };
    match rest {
        [high, low, ..] => Parsed::Done(
            (host, u16::from_be_bytes([*high, *low])),
            bytes.len() - rest.len() + 2,
        ),
        _ => Parsed::More,
    }
}

/// Bytes behind their length.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connect(address: &[u8]) -> Parsed<Request> {
        request(&[&[5, 1, 0], address].concat())
    }

    #[test]
    fn names_and_addresses_become_one_spelling() {
        let shown = |parsed| match parsed {
            Parsed::Done(Request { to, .. }, length) => format!("{to} {length}"),
            other @ (Parsed::More | Parsed::Bad(_)) => format!("{other:?}"),
        };
        assert_eq!(
            shown(connect(b"\x03\x0bEXAMPLE.com\x01\xbb")),
            "example.com:443 18"
        );
        assert_eq!(
            shown(connect(b"\x03\x09127.0.0.1\x00\x50")),
            "127.0.0.1:80 16"
        );
        assert_eq!(
            shown(connect(b"\x01\x08\x08\x08\x08\x00\x35rest")),
            "8.8.8.8:53 10"
        );
        let mapped = [&[4][..], &[0; 10], &[0xff, 0xff, 127, 0, 0, 1], &[0, 80]].concat();
        assert_eq!(shown(connect(&mapped)), "127.0.0.1:80 22");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for name in [
            &b""[..],
            b"a\0b.test",
            b"a.test\r\nX: y",
            b"a.test:443",
            b"2130706433",
            b"[::1]",
            b"::1",
            b"\xc2\xb9.test",
        ] {
            let length = u8::try_from(name.len()).expect("short");
            assert_eq!(
                connect(&[&[3, length], name, &[0, 80]].concat()),
                Parsed::Bad(1),
                "{name:?}"
            );
        }
        assert_eq!(connect(b"\x01\x08\x08\x08\x08\x00\x00"), Parsed::Bad(1));
        assert_eq!(connect(b"\x05abcd\x00\x50"), Parsed::Bad(8));
        assert_eq!(
            request(b"\x05\x02\x00\x01\x08\x08\x08\x08\x00\x50"),
            Parsed::Bad(7)
        );
        assert_eq!(request(b"\x05\x01\x01\x01"), Parsed::Bad(1));
    }

    #[test]
    fn fragments_and_ports_of_nothing_are_no_datagrams() {
        assert_eq!(datagram(b"\0\0\x01\x01\x08\x08\x08\x08\x00\x35x"), None);
        assert_eq!(datagram(b"\0\0\0\x01\x08\x08\x08\x08\x00\x00x"), None);
        let (to, content) = datagram(b"\0\0\0\x01\x08\x08\x08\x08\x00\x35x").expect("a datagram");
        assert_eq!(
            (to.to_string().as_str(), content),
            ("8.8.8.8:53", &b"x"[..])
        );
    }

    /// Messages that are accepted, to be changed a little: greeting, password, requests for each kind of address, a datagram.
    const SEEDS: [&[u8]; 6] = [
        &[5, 2, 0, 2],
        b"\x01\x04user\x05token",
        b"\x05\x01\x00\x03\x06a.test\x01\xbb",
        &[5, 1, 0, 1, 198, 41, 0, 4, 1, 187],
        &[
            5, 3, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 53,
        ],
        b"\x00\x00\x00\x03\x06a.test\x005secret",
    ];

    proptest! {
        #[test]
        fn hostile_changes_to_a_message_never_panic_and_never_use_more_than_came(
            seed in 0..SEEDS.len(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>(), end in any::<bool>(),
        ) {
            let mut bytes = SEEDS[seed].to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if end { bytes.truncate(cut.index(bytes.len() + 1)); }
            if let Parsed::Done(request, length) = request(&bytes) {
                prop_assert!(length <= bytes.len() && request.port == request.to.port);
                // What was read whole is not read otherwise when more comes.
                let more = [&bytes[..], b"more"].concat();
                let again = matches!(super::request(&more), Parsed::Done(other, same) if same == length && other.to == request.to);
                prop_assert!(again);
            }
            if let Parsed::Done(_, length) = greeting(&bytes) { prop_assert!(length <= bytes.len()); }
            if let Parsed::Done(_, length) = password(&bytes) { prop_assert!(length <= bytes.len()); }
            let _any = datagram(&bytes);
        }

        #[test]
        fn hostile_bytes_never_panic_and_never_use_more_than_came(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let framed = [&[5, 1, 0][..], &bytes].concat();
            for parsed in [request(&bytes), request(&framed)] {
                if let Parsed::Done(request, length) = parsed {
                    prop_assert!(length <= framed.len());
                    prop_assert!(request.port == request.to.port);
                }
            }
            if let Parsed::Done(_, length) = greeting(&bytes) { prop_assert!(length <= bytes.len()); }
            if let Parsed::Done(_, length) = password(&bytes) { prop_assert!(length <= bytes.len()); }
            let _any = datagram(&bytes);
        }

        #[test]
        fn a_message_in_pieces_is_the_same_message(name in "[a-z.]{1,20}", port in 1_u16.., cut in 0_usize..30) {
            let length = u8::try_from(name.len()).expect("short");
            let whole = [&[5, 1, 0, 3, length][..], name.as_bytes(), &port.to_be_bytes()].concat();
            let part = whole.get(..cut.min(whole.len() - 1)).unwrap_or_default();
            prop_assert_eq!(request(part), Parsed::More);
            prop_assert_ne!(request(&whole), Parsed::More);
        }
    }
}
