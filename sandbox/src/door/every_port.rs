//! Every port of every address taken, where the kernel can: one nftables rule for each family of addresses, by netlink.
//!
//! Apart because it is a language of its own, and made before the new process exists: inside, the finished bytes are sent. A
//! connection to any address outside this namespace's own loopback is given to one listener (`tproxy`, Linux 4.19), which sees
//! the address and port that were meant; nothing is rewritten or tracked, and a command's own listeners keep what comes to them
//! by the loopback. Source: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`.
//! INVARIANT: without it, the usual ports are taken by a listener each, and others refused: less than with it, never more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// The port that the one listener is at: no command can listen there by itself.
pub(crate) const PORT: u16 = 1;
/// Names are asked for here, of a listener of their own.
const NAMES_PORT: u16 = 53;

/// Whether the last start that tried it has every port taken. The new process stands on this one's memory, so that it is
/// known here before the command's first instruction. For what is reported only.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether connections to every port come to the door.
pub(crate) fn is_taken() -> bool {
    TAKEN.load(Ordering::Relaxed)
}

/// Says that they do, or do not.
pub(super) fn set_taken(taken: bool) {
    TAKEN.store(taken, Ordering::Relaxed);
}

/// Puts the rules up. Allocates nothing.
pub(super) fn put_up(request: &[u8]) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    rustix::net::send(&socket, request, SendFlags::empty())?;
    let mut reply = [0_u8; 128];
    // It has been answered by now, by one acknowledgement or by what was wrong first.
    let (read, _) = rustix::net::recv(&socket, &mut reply, RecvFlags::DONTWAIT)?;
    super::inside::answer(reply.get(..read.min(128)).ok_or(Errno::BADMSG)?)
}

/// The request, made once.
pub(super) fn request() -> &'static [u8] {
    static REQUEST: OnceLock<Vec<u8>> = OnceLock::new();
    REQUEST.get_or_init(made)
}

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// `NFPROTO_INET`: both families.
const BOTH: u8 = 1;
const NESTED: u16 = 0x8000;
/// `NF_INET_PRE_ROUTING`, at the priority of `mangle`, where `tproxy` belongs.
const BEFORE_ROUTING: u32 = 0;
const PRIORITY: i32 = -150;
/// The one register that is used, of 32 bits and those behind it.
const REGISTER: u32 = 8;
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const TCP: u8 = 6;

/// All or nothing: one transaction.
fn made() -> Vec<u8> {
    let mut batch = Vec::new();
    let edge = SUBSYSTEM.to_be_bytes();
    message(&mut batch, (BATCH_BEGIN, REQUEST), (0, edge), &[]);
    let table = text(1, b"door\0");
    let new = (NEW_TABLE, REQUEST | CREATE);
    message(&mut batch, new, (BOTH, [0; 2]), &table);
    let hook = [
        attribute(1, &BEFORE_ROUTING.to_be_bytes()),
        attribute(2, &PRIORITY.to_be_bytes()),
    ];
    let chain = [
        table.clone(),
        text(3, b"taken\0"),
        nested(4, &hook.concat()),
        text(7, b"filter\0"),
    ];
    let new = (NEW_CHAIN, REQUEST | CREATE);
    message(&mut batch, new, (BOTH, [0; 2]), &chain.concat());
    // Address of the destination: where in its header, and the beginning that means this namespace's own loopback.
    let v4: (u8, u32, &[u8]) = (2, 16, &[127]);
    let v6: (u8, u32, &[u8]) = (10, 24, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for (place, (family, at, loopback)) in [v4, v6].into_iter().enumerate() {
        let rule = [
            table.clone(),
            text(2, b"taken\0"),
            nested(4, &expressions(family, at, loopback)),
        ];
        // One answer for the whole: the last part's, or the first fault's.
        let answered = if place == 1 { ACKNOWLEDGE } else { 0 };
        let new = (NEW_RULE, REQUEST | CREATE | APPEND | answered);
        message(&mut batch, new, (BOTH, [0; 2]), &rule.concat());
    }
    message(&mut batch, (BATCH_END, REQUEST), (0, edge), &[]);
    batch
}

/// TCP of this family to anything but the loopback and the port of names: to the listener.
fn expressions(family: u8, at: u32, loopback: &[u8]) -> Vec<u8> {
    let length = u32::try_from(loopback.len()).unwrap_or(0);
    [
        meta(META_FAMILY),
        compare(EQUAL, &[family]),
        meta(META_PROTOCOL),
        compare(EQUAL, &[TCP]),
        payload(NETWORK_HEADER, at, length),
        compare(DIFFERENT, loopback),
        payload(TRANSPORT_HEADER, 2, 2),
        compare(DIFFERENT, &NAMES_PORT.to_be_bytes()),
        expression(
            b"immediate\0",
            &[
                number(1, REGISTER),
                nested(2, &attribute(1, &PORT.to_be_bytes())),
            ],
        ),
        expression(b"tproxy\0", &[number(1, 0), number(3, REGISTER)]),
    ]
    .concat()
}

fn meta(key: u32) -> Vec<u8> {
    expression(b"meta\0", &[number(1, REGISTER), number(2, key)])
}

fn compare(how: u32, with: &[u8]) -> Vec<u8> {
    let with = nested(3, &attribute(1, with));
    expression(b"cmp\0", &[number(1, REGISTER), number(2, how), with])
}

fn payload(header: u32, offset: u32, length: u32) -> Vec<u8> {
    let parts = [
        number(1, REGISTER),
        number(2, header),
        number(3, offset),
        number(4, length),
    ];
    expression(b"payload\0", &parts)
}

fn expression(name: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, &parts.concat())].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, text: &[u8]) -> Vec<u8> {
    attribute(kind, text)
}

fn nested(kind: u16, parts: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, parts)
}

/// `struct nlattr` and its value, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct nlmsghdr`, `struct nfgenmsg` and its attributes.
fn message(
    batch: &mut Vec<u8>,
    (kind, flags): (u16, u16),
    (family, resource): (u8, [u8; 2]),
    attributes: &[u8],
) {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(0);
    batch.extend_from_slice(&length.to_ne_bytes());
    batch.extend_from_slice(&kind.to_ne_bytes());
    batch.extend_from_slice(&flags.to_ne_bytes());
    // Its number, which nobody asks for, and who sends it: the kernel knows.
    batch.extend_from_slice(&[0; 8]);
    batch.extend_from_slice(&[family, 0]);
    batch.extend_from_slice(&resource);
    batch.extend_from_slice(attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks messages or attributes: whether each fits into what is around it.
    fn fits(mut bytes: &[u8], head: usize) -> usize {
        let mut parts = 0;
        while !bytes.is_empty() {
            let length = if head == 4 {
                usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]))
            } else {
                u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
            };
            assert!(length >= head && length <= bytes.len());
            let holds_attributes =
                head > 4 || u16::from_ne_bytes([bytes[2], bytes[3]]) & NESTED != 0;
            if holds_attributes {
                fits(&bytes[head..length], 4);
            }
            bytes = &bytes[length.next_multiple_of(4)..];
            parts += 1;
        }
        parts
    }

    #[test]
    fn the_request_is_one_transaction_of_whole_messages() {
        // Begin, table, chain, a rule for each family, end.
        assert_eq!(fits(request(), 20), 6);
    }
}
