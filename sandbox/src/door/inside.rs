//! Inside the new network namespace: every address leads to its loopback, and the door's sockets are bound and handed out.
//!
//! Runs where nothing may allocate, lock or panic (see `stage`), while the capabilities over this namespace are still held.
//! Routes by `rtnetlink(7)`: a `local` default route makes every address one of this namespace's own, so that a connection
//! to any of them meets a listener here, or a refusal.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::every_port;
use crate::sys::child;
use crate::watch;

/// How many connections may wait to be taken.
const BACKLOG: i32 = 1024;
/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// One thing to do for the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Makes every address of the family one of this namespace's own.
    Route(Family),
    /// Has connections to every port led to one listener, by these bytes, where the kernel can.
    EveryPort(&'static [u8]),
    /// Binds a socket and hands it out.
    Socket {
        /// Which.
        kind: Kind,
        /// Where.
        address: SocketAddr,
    },
}

/// Of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4; without its route there is no door.
    V4,
    /// IPv6, where the kernel has it. Without its route no such address leads anywhere.
    V6,
}

/// What is made of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP, listening.
    Listener,
    /// TCP, listening for what is led to it from every port.
    EveryPort,
    /// UDP.
    Datagrams,
}

/// Does it.
pub(crate) fn act(act: &Act, channel: RawFd) -> Result<(), Errno> {
    match act {
        Act::Route(Family::V4) => route(AddressFamily::INET, RT_SCOPE_HOST),
        Act::Route(Family::V6) => {
            // Left out, every IPv6 address is unreachable: less than with it, never more.
            route(AddressFamily::INET6, RT_SCOPE_UNIVERSE).ok();
            Ok(())
        }
        Act::EveryPort(request) => {
            // Left out, usual ports are taken and others refused.
            every_port::set_taken(every_port::put_up(request).is_ok());
            Ok(())
        }
        Act::Socket { kind, address } => {
            let socket = bound(*kind, *address)?;
            if *kind != Kind::Datagrams {
                rustix::net::listen(&socket, BACKLOG)?;
            }
            watch::hand_over(socket.as_raw_fd(), channel)
        }
    }
}

fn bound(kind: Kind, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let of = match kind {
        Kind::Listener | Kind::EveryPort => SocketType::STREAM,
        Kind::Datagrams => SocketType::DGRAM,
    };
    let open = |family| rustix::net::socket_with(family, of, SocketFlags::CLOEXEC, None);
    let v4 = |address: SocketAddr| {
        let socket = open(AddressFamily::INET)?;
        lead(kind, &socket, child::Level::V4);
        rustix::net::bind(&socket, &address)?;
        Ok(socket)
    };
    if address.is_ipv4() {
        return v4(address);
    }
    // Of both families at once; where the kernel has no IPv6, of the other alone.
    match open(AddressFamily::INET6) {
        Ok(socket) => {
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
            lead(kind, &socket, child::Level::V6);
            rustix::net::bind(&socket, &address)?;
            Ok(socket)
        }
        Err(Errno::AFNOSUPPORT) => v4(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))),
        Err(error) => Err(error),
    }
}

/// Lets a socket take connections that were led to it from other addresses and ports.
fn lead(kind: Kind, socket: &OwnedFd, level: child::Level) {
    if kind != Kind::EveryPort {
        return;
    }
    // What is accepted holds the port that was meant, and inherits this: a command's own server can listen there still.
    let shared = rustix::net::sockopt::set_socket_reuseaddr(socket, true);
    if shared.is_err() || child::set_transparent(socket.as_raw_fd(), level).is_err() {
        every_port::set_taken(false);
    }
}

const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_LOCAL: u8 = 2;
const RTA_OIF: u16 = 4;
/// `struct nlmsghdr`, `struct rtmsg`, and one attribute of four bytes.
const LENGTH: usize = 16 + 12 + 8;

/// `ip route add local default dev lo table local`.
fn route(family: AddressFamily, scope: u8) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is 0.
        None,
    )?;
    rustix::net::send(&socket, &request(family, scope)?, SendFlags::empty())?;
    let mut reply = [0_u8; 128];
    let (read, _) = rustix::net::recv(&socket, &mut reply, RecvFlags::empty())?;
    answer(reply.get(..read).ok_or(Errno::BADMSG)?)
}

fn request(family: AddressFamily, scope: u8) -> Result<[u8; LENGTH], Errno> {
    let family = u8::try_from(family.as_raw()).map_err(|_| Errno::AFNOSUPPORT)?;
    let length = u32::try_from(LENGTH).map_err(|_| Errno::MSGSIZE)?;
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let mut request = [0_u8; LENGTH];
    let parts: [(usize, &[u8]); 6] = [
        (0, &length.to_ne_bytes()),
        (4, &RTM_NEWROUTE.to_ne_bytes()),
        (6, &flags.to_ne_bytes()),
        // Family, lengths of destination and source, type of service, table, protocol, scope, type.
        (
            16,
            &[
                family,
                0,
                0,
                0,
                RT_TABLE_LOCAL,
                RTPROT_STATIC,
                scope,
                RTN_LOCAL,
            ],
        ),
        (28, &attribute()),
        (32, &LOOPBACK.to_ne_bytes()),
    ];
    for (at, bytes) in parts {
        for (place, byte) in request.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }
    Ok(request)
}

/// The head of the attribute: eight bytes, the interface that goes out.
fn attribute() -> [u8; 4] {
    let [a, b] = 8_u16.to_ne_bytes();
    let [c, d] = RTA_OIF.to_ne_bytes();
    [a, b, c, d]
}

/// An acknowledgement is an error message whose errno is 0.
pub(super) fn answer(reply: &[u8]) -> Result<(), Errno> {
    let part = |at: usize, length: usize| reply.get(at..at + length).ok_or(Errno::BADMSG);
    let kind: [u8; 2] = part(4, 2)?.try_into().map_err(|_| Errno::BADMSG)?;
    let code: [u8; 4] = part(16, 4)?.try_into().map_err(|_| Errno::BADMSG)?;
    match (u16::from_ne_bytes(kind), i32::from_ne_bytes(code)) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(Errno::from_raw_os_error(code.wrapping_neg())),
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_acknowledgement_is_an_error() {
        let mut reply = [0_u8; 36];
        reply[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert_eq!(answer(&reply), Ok(()));
        reply[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(answer(&reply), Err(Errno::PERM));
        reply[4] = 9;
        assert_eq!(answer(&reply), Err(Errno::BADMSG));
        for length in 0..20 {
            assert_eq!(answer(&reply[..length]), Err(Errno::BADMSG));
        }
    }
}
