//! DNS for programs that know of no proxy: queries in, answers out ([`answer`]). Pure.
//!
//! Apart because the bytes are hostile, and because nothing is looked up here: the answer to an allowed name is an address of
//! our own that stands for it, so a query tells nobody anything.
//! INVARIANT: one question, class IN; an answer repeats the question byte for byte and fits 512 bytes.
//! Source: RFC 1035 §4, RFC 6891 (an OPT record is read over), RFC 2308.

use std::net::Ipv4Addr;

use crate::host::{Host, HostName};

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// An address.
    Address(Ipv4Addr),
    /// The policy keeps it closed: for the program it does not exist.
    Closed,
    /// No address is left.
    Full,
    /// Too many were asked for.
    TooMany,
}

/// Seconds for which an answer may be kept: it is true for the whole execution.
const TTL: u32 = 60;
const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// The answer to a query; none where the bytes are not even the head of one.
pub(crate) fn answer(query: &[u8], look_up: impl FnOnce(&HostName) -> Lookup) -> Option<Vec<u8>> {
    let (head, rest) = query.split_first_chunk::<12>()?;
    let [id1, id2, flags, _, q1, q2, ..] = *head;
    // An answer is not answered: two servers would talk for ever.
    if flags & 0x80 != 0 {
        return None;
    }
    let reply = |code: u8, question: &[u8], address: Option<Ipv4Addr>| {
        let questions = u8::from(!question.is_empty());
        let answers = u8::from(address.is_some());
        // QR, the query's opcode and RD; RA and the code.
        let mut message = vec![
            id1,
            id2,
            0x80 | flags & 0x79,
            0x80 | code,
            0,
            questions,
            0,
            answers,
            0,
            0,
            0,
            0,
        ];
        message.extend_from_slice(question);
        if let Some(address) = address {
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            message.extend_from_slice(&TTL.to_be_bytes());
            message.extend_from_slice(&[0, 4]);
            message.extend_from_slice(&address.octets());
        }
        Some(message)
    };
    if flags & 0x78 != 0 {
        return reply(NOT_IMPLEMENTED, &[], None);
    }
    let (1, Some((name, kind, class, length))) = (u16::from_be_bytes([q1, q2]), question(rest))
    else {
        return reply(FORMAT_ERROR, &[], None);
    };
    let question = rest.get(..length)?;
    if class != CLASS_IN {
        return reply(NOT_IMPLEMENTED, question, None);
    }
    let Ok(Host::Name(name)) = Host::parse(name.as_bytes()) else {
        return reply(NO_SUCH_NAME, question, None);
    };
    match look_up(&name) {
        Lookup::Closed => reply(NO_SUCH_NAME, question, None),
        Lookup::TooMany => reply(REFUSED, question, None),
        Lookup::Full => reply(SERVER_FAILURE, question, None),
        Lookup::Address(address) if kind == TYPE_A || kind == TYPE_ANY => {
            reply(NO_ERROR, question, Some(address))
        }
        // The name exists, and has nothing of that type: IPv6 and service records are left out, so that clients use the address.
        Lookup::Address(_) => reply(NO_ERROR, question, None),
    }
}

/// The question: its name as text, type, class and length. Compression has no place in a question.
fn question(bytes: &[u8]) -> Option<(String, u16, u16, usize)> {
    let mut name = String::new();
    let mut rest = bytes;
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            rest = after;
            break;
        }
        if *length > 63 || name.len() > 255 {
            return None;
        }
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        if !name.is_empty() {
            name.push('.');
        }
        // A dot inside a label would be a second spelling of two labels; a byte beyond ASCII has no spelling at all.
        name.extend(label.iter().map(|byte| {
            if *byte == b'.' || !byte.is_ascii() {
                ' '
            } else {
                char::from(*byte)
            }
        }));
        rest = after;
    }
    let ([t1, t2, c1, c2], after) = rest.split_first_chunk::<4>()?;
    Some((
        name,
        u16::from_be_bytes([*t1, *t2]),
        u16::from_be_bytes([*c1, *c2]),
        bytes.len() - after.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).expect("short"));
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    fn ask(query: &[u8]) -> Option<(u8, Option<[u8; 4]>)> {
        let answer = answer(query, |name| match name.as_str() {
            "a.test" => Lookup::Address(Ipv4Addr::new(198, 18, 0, 1)),
            "full.test" => Lookup::Full,
            _ => Lookup::Closed,
        })?;
        assert_eq!(&answer[..2], &query[..2]);
        let address =
            (answer[7] == 1).then(|| answer[answer.len() - 4..].try_into().expect("four"));
        Some((answer[3] & 15, address))
    }

    #[test]
    fn an_allowed_name_has_one_address_and_nothing_else() {
        assert_eq!(ask(&query("A.Test", 1)), Some((0, Some([198, 18, 0, 1]))));
        assert_eq!(ask(&query("a.test", 28)), Some((0, None)));
        assert_eq!(ask(&query("a.test", 65)), Some((0, None)));
        assert_eq!(ask(&query("b.test", 1)), Some((3, None)));
        assert_eq!(ask(&query("full.test", 1)), Some((2, None)));
    }

    #[test]
    fn what_is_not_one_plain_question_gets_no_address() {
        let mut two = query("a.test", 1);
        two[5] = 2;
        assert_eq!(ask(&two), Some((1, None)));
        let mut response = query("a.test", 1);
        response[2] |= 0x80;
        assert_eq!(ask(&response), None);
        let mut update = query("a.test", 1);
        update[2] |= 5 << 3;
        assert_eq!(ask(&update), Some((4, None)));
        let pointer = [&query("", 1)[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        assert_eq!(ask(&pointer), Some((1, None)));
        let mut dotted = query("axtest", 1);
        dotted[14] = b'.';
        assert_eq!(ask(&dotted), Some((3, None)));
    }

    proptest! {
        #[test]
        fn hostile_queries_never_panic_and_answers_fit(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..40, with in any::<u8>()) {
            let closed = |_: &HostName| Lookup::Address(Ipv4Addr::LOCALHOST);
            if let Some(answer) = answer(&bytes, closed) {
                prop_assert!(answer.len() <= 512);
            }
            let mut changed = query("a.example.test", 1);
            if let Some(byte) = changed.get_mut(at) { *byte = with; }
            let _any = answer(&changed, closed);
        }
    }
}
