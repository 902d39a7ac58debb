//! The SOCKS5 dialect: its messages ([`codec`]) and a connection that speaks it.
//!
//! Apart because the same policy speaks another language here.
//! INVARIANT: a name is a parsed host or the request is refused; the success reply follows the connection, never precedes it;
//! bytes sent with the request are kept.
//! Sources: RFC 1928, RFC 1929.

use std::sync::Arc;

use bytes::Buf as _;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::event::{Protocol, Source};
use crate::http;
use crate::policy::Socks;
use crate::refusal::{Reason, Refusal};
use crate::relay::{Relays, associate};
use crate::shared::Shared;
use crate::wire::{Buffered, linger};

use codec::{Command, Parsed, Request, reply};

pub(crate) mod codec;

/// Serves one connection; its request has to be whole by `deadline`.
pub(crate) async fn serve(
    door: Arc<Shared>,
    relays: &Relays,
    mut client: Buffered<TcpStream>,
    deadline: Instant,
) {
    let epoch = door.policy();
    let token = epoch.policy.token.clone();
    let request = async {
        let methods = take(&mut client, codec::greeting).await.ok()?;
        let wanted = if token.is_some() {
            codec::PASSWORD
        } else {
            codec::NO_AUTHENTICATION
        };
        let offered = methods.contains(&wanted) && epoch.policy.socks != Socks::Off;
        let chosen = if offered { wanted } else { codec::NO_METHOD };
        client.stream.write_all(&[5, chosen]).await.ok()?;
        if !offered {
            return None;
        }
        if let Some(token) = &token {
            let password = take(&mut client, codec::password).await.ok()?;
            let same: bool = password.ct_eq(token.expose_secret().as_bytes()).into();
            client.stream.write_all(&[1, u8::from(!same)]).await.ok()?;
            if !same {
                return None;
            }
        }
        Some(take(&mut client, codec::request).await)
    };
    let Ok(request) = timeout_at(deadline, request).await else {
        return;
    };
    match request {
        Some(Ok(request)) => answer(&door, relays, client, request).await,
        Some(Err(Some(code))) => refuse(&door, client, (Protocol::Socks5Tcp, code)).await,
        Some(Err(None)) => {}
        None => linger(&mut client).await,
    }
}

/// Takes one message from the stream; where it is none, the reply code to answer, if one is fit.
async fn take<T>(
    client: &mut Buffered<TcpStream>,
    parse: fn(&[u8]) -> Parsed<T>,
) -> Result<T, Option<u8>> {
    loop {
        match parse(&client.bytes) {
            Parsed::Done(message, length) => {
                client.bytes.advance(length);
                return Ok(message);
            }
            Parsed::Bad(code) => return Err(Some(code)),
            Parsed::More => {}
        }
        if !matches!(client.fill().await, Ok(1..)) {
            return Err(None);
        }
    }
}

/// Refuses what cannot be read, or is not served.
async fn refuse(door: &Shared, mut client: Buffered<TcpStream>, (protocol, code): (Protocol, u8)) {
    let refusal = Refusal::malformed("the SOCKS request is malformed or not served");
    door.record_blocked(protocol, None, &refusal, Source::Policy);
    if client.stream.write_all(&reply(code, None)).await.is_ok() {
        linger(&mut client).await;
    }
}

async fn answer(
    door: &Arc<Shared>,
    relays: &Relays,
    mut client: Buffered<TcpStream>,
    request: Request,
) {
    match request.command {
        Command::Connect => {
            match http::open(door, &request.to, Protocol::Socks5Tcp, &client.stream).await {
                Ok(tunnel) => {
                    if client.stream.write_all(&reply(0, None)).await.is_ok() {
                        Box::new(tunnel).run(door, client).await;
                    }
                }
                Err(refusal) => {
                    if client
                        .stream
                        .write_all(&reply(refusal.reason.socks_reply(), None))
                        .await
                        .is_ok()
                    {
                        linger(&mut client).await;
                    }
                }
            }
        }
        Command::Associate if door.policy().policy.socks == Socks::TcpAndUdp => {
            Box::pin(associate(door, relays, client, request.port)).await;
        }
        Command::Associate => {
            refuse(
                door,
                client,
                (Protocol::Socks5Udp, Reason::ProxyDisabled.socks_reply()),
            )
            .await
        }
    }
}
