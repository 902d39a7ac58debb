//! Programs that know of no proxy: their names are answered, and their connections taken, by the door.
//!
//! Apart because nothing here speaks a proxy's language: where a connection is meant for is read from the address it went to.
//! INVARIANT: an answer is given without a lookup, and decides nothing: the connection is decided, by the name behind its
//! address.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::budget::Spent;
use crate::dns::{Lookup, answer};
use crate::event::{Protocol, Source};
use crate::host::{Destination, HostName};
use crate::http;
use crate::policy::Access;
use crate::refusal::{Reason, Refusal};
use crate::shared::Shared;
use crate::wire::{Buffered, answer_and_close};

/// The largest query that is read, in bytes.
const LARGEST_QUERY: usize = 4096;
/// The port that names are decided for before one is known.
const USUAL_PORT: u16 = 443;

/// Answers queries until it is dropped.
pub(crate) async fn serve_names(door: Arc<Shared>, socket: UdpSocket) {
    let mut query = vec![0; LARGEST_QUERY];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            continue;
        };
        let reply = query
            .get(..length)
            .and_then(|query| answer(query, |name| look_up(&door, name)));
        if let Some(reply) = reply {
            let _lost = socket.send_to(&reply, from).await;
        }
    }
}

/// The same over one TCP connection, each query with its length before it (RFC 1035 §4.2.2), until the client closes it, is
/// silent for too long, or sends what is no query.
pub(crate) async fn serve_names_by_stream(door: &Shared, mut client: TcpStream) {
    loop {
        let asked = timeout(door.limits.head, read_query(&mut client)).await;
        let Ok(Ok(query)) = asked else {
            return;
        };
        let Some(reply) = answer(&query, |name| look_up(door, name)) else {
            return;
        };
        let Ok(length) = u16::try_from(reply.len()) else {
            return;
        };
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        let written = timeout(door.limits.head, client.write_all(&framed)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read_query(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(client.read_u16().await?);
    if length > LARGEST_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut query = vec![0; length];
    client.read_exact(&mut query).await?;
    Ok(query)
}

/// What a name leads to, by the policy alone: a name that may be asked about has an address, and the question comes with the
/// connection.
fn look_up(door: &Shared, name: &HostName) -> Lookup {
    if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
        return Lookup::Address(std::net::Ipv4Addr::LOCALHOST);
    }
    let to = Destination {
        host: crate::host::Host::Name(name.clone()),
        port: USUAL_PORT,
    };
    match door.budget.query(Instant::now()) {
        Spent::Within => {}
        // Once: else whoever asks without end fills the record.
        Spent::FirstOver => {
            let refusal = Refusal::of(Reason::NameLimit, &to);
            door.record_blocked(Protocol::Transparent, None, &refusal, Source::Policy);
            return Lookup::TooMany;
        }
        Spent::Over => return Lookup::TooMany,
    }
    let epoch = door.policy();
    let refusal = match epoch.policy.check(&to) {
        Access::Blocked(refusal) => Some(refusal),
        Access::Allowed { .. } => None,
        // A rule for another port may still allow it: the connection will tell.
        Access::Unlisted(_)
            if epoch.policy.asks(&to) || epoch.policy.allows_some_port(&to.host) =>
        {
            None
        }
        Access::Unlisted(_) => Some(Refusal::of(Reason::NotAllowed, &to)),
    };
    match refusal {
        Some(refusal) => {
            door.record_blocked(Protocol::Transparent, None, &refusal, Source::Policy);
            Lookup::Closed
        }
        None => door
            .names
            .address(name)
            .map_or(Lookup::Full, Lookup::Address),
    }
}

/// Serves one connection that was made to one of our addresses.
pub(crate) async fn serve(door: Arc<Shared>, client: TcpStream) {
    let Ok(meant) = client.local_addr() else {
        return;
    };
    let Some(host) = door.names.meant(meant.ip()) else {
        return;
    };
    let to = Destination {
        host,
        port: meant.port(),
    };
    let mut client = Buffered::new(client);
    match http::open(&door, &to, Protocol::Transparent, &client.stream).await {
        Ok(tunnel) => Box::new(tunnel).run(&door, client).await,
        // On HTTP's own port the refusal can be told.
        Err(refusal) if to.port == 80 => {
            answer_and_close(&mut client, &refusal, refusal.reason.status()).await
        }
        // A reset, so that a refusal is not taken for an empty answer.
        Err(_) => client.stream.set_zero_linger().unwrap_or_default(),
    }
}
