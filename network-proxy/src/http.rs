//! The HTTP dialect on the listener: CONNECT, plain requests, requests to Unix sockets.
//!
//! Apart because here requests meet the policy; the reading is `head`'s, the passing on `exchange`'s and `tunnel`'s.
//! INVARIANT: policy is asked for every request, not for a connection. After anything refused as malformed, and after a
//! refused CONNECT, the connection ends: what follows on it is not read as a request.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::event::{Decided, Event, Protocol, Source};
use crate::exchange::{Broken, Exchanged, Failure, exchange};
use crate::head::{After, Fields, Framing, RequestHead, Target, UNIX_SOCKET_FIELD, parse_request};
use crate::host::{Destination, Host};
use crate::policy::{BodyKind, Mode};
use crate::pool::PoolKey;
use crate::refusal::{Reason, Refusal};
use crate::shared::{Ask, Permit, Route, Shared};
use crate::tunnel::{Tunnel, TunnelKind};
use crate::wire::{Buffered, Ending, NoHead, answer, answer_and_close, linger};

/// How a connection goes on after a request.
enum Next {
    /// With another request.
    Again,
    /// Not.
    Close,
    /// As a tunnel.
    Tunnel(Box<Tunnel>),
}

/// Serves one connection; its first head has to be whole by `deadline`.
pub(crate) async fn serve(door: Arc<Shared>, mut client: Buffered<TcpStream>, deadline: Instant) {
    let mut head = client.head_by(deadline).await;
    loop {
        let next = match head {
            Ok(bytes) => Box::pin(request(&door, &mut client, &bytes)).await,
            Err(NoHead::Bad(bad)) => {
                let refusal = Refusal::malformed(bad.detail);
                door.record_blocked(Protocol::Http, None, &refusal, Source::Policy);
                answer_and_close(&mut client, &refusal, bad.status).await;
                Next::Close
            }
            Err(NoHead::Silence | NoHead::Cut | NoHead::TimedOut) => Next::Close,
        };
        match next {
            Next::Again => head = client.head(door.limits.keep_alive, door.limits.head).await,
            Next::Close => return,
            Next::Tunnel(tunnel) => return tunnel.run(&door, client).await,
        }
    }
}

async fn request(door: &Arc<Shared>, client: &mut Buffered<TcpStream>, head: &Bytes) -> Next {
    let request = match parse_request(head) {
        Ok(request) => request,
        Err(bad) => {
            let refusal = Refusal::malformed(bad.detail);
            door.record_blocked(Protocol::Http, None, &refusal, Source::Policy);
            answer_and_close(client, &refusal, bad.status).await;
            return Next::Close;
        }
    };
    if !shows_token(door, &request.fields) {
        let refusal = Refusal {
            reason: Reason::Unauthenticated,
            to: None,
            rule: None,
            class: None,
            detail: None,
        };
        door.record_blocked(Protocol::Http, None, &refusal, Source::Policy);
        return refuse(client, &refusal).await;
    }
    match &request.target {
        Target::Tunnel(to) => connect(door, client, &request, to).await,
        Target::Absolute { to, path } if request.fields.all(UNIX_SOCKET_FIELD).next().is_some() => {
            unix(door, client, (&request, to, path)).await
        }
        Target::Absolute { to, path } => plain(door, client, (&request, to, path)).await,
        Target::Origin(_) => {
            let refusal =
                Refusal::malformed("this is a proxy: the request target has to be an absolute URL");
            door.record_blocked(
                Protocol::Http,
                Some(&request.method),
                &refusal,
                Source::Policy,
            );
            refuse(client, &refusal).await
        }
    }
}

/// Whether the client shows the listener's token, where it wants one: as a Basic password or a Bearer token.
fn shows_token(door: &Shared, fields: &Fields<'_>) -> bool {
    let epoch = door.policy();
    let Some(token) = &epoch.policy.token else {
        return true;
    };
    let mut shown = fields.all("proxy-authorization");
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return false;
    };
    let Some((scheme, rest)) = value
        .iter()
        .position(|byte| *byte == b' ')
        .and_then(|space| value.split_at_checked(space))
    else {
        return false;
    };
    let rest = rest.trim_ascii();
    let secret = if scheme.eq_ignore_ascii_case(b"bearer") {
        rest.to_vec()
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        let plain = base64::engine::general_purpose::STANDARD
            .decode(rest)
            .unwrap_or_default();
        let colon = plain
            .iter()
            .position(|byte| *byte == b':')
            .map_or(plain.len(), |colon| colon + 1);
        plain.get(colon..).unwrap_or_default().to_vec()
    } else {
        return false;
    };
    secret.ct_eq(token.expose_secret().as_bytes()).into()
}

async fn refuse(client: &mut Buffered<TcpStream>, refusal: &Refusal) -> Next {
    answer_and_close(client, refusal, refusal.reason.status()).await;
    Next::Close
}

/// Refuses a plain request; the connection goes on where its end is known.
async fn refuse_plain<Client>(
    client: &mut Buffered<Client>,
    request: &RequestHead<'_>,
    refusal: &Refusal,
) -> Next
where
    Client: AsyncRead + AsyncWrite + Unpin,
{
    let status = refusal.reason.status();
    if request.framing != Framing::Empty || !request.keeps_alive() {
        answer_and_close(client, refusal, status).await;
        return Next::Close;
    }
    match client
        .stream
        .write_all(&answer(refusal, status, Ending::KeepAlive))
        .await
    {
        Ok(()) => Next::Again,
        Err(_) => Next::Close,
    }
}

/// Opens a tunnel: the connection stands before the client hears so.
async fn connect(
    door: &Arc<Shared>,
    client: &mut Buffered<TcpStream>,
    request: &RequestHead<'_>,
    to: &Destination,
) -> Next {
    if request.fields.all(UNIX_SOCKET_FIELD).next().is_some() {
        let refusal = Refusal::malformed("a Unix socket is reached by a plain request");
        door.record_blocked(Protocol::HttpsConnect, None, &refusal, Source::Policy);
        return refuse(client, &refusal).await;
    }
    match open(door, to, Protocol::HttpsConnect, &client.stream).await {
        Ok(tunnel) => match client
            .stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
        {
            Ok(()) => Next::Tunnel(Box::new(tunnel)),
            Err(_) => Next::Close,
        },
        Err(refusal) => refuse(client, &refusal).await,
    }
}

/// The way from a destination to a tunnel: shared by CONNECT, SOCKS5 and the transparent listeners.
pub(crate) async fn open(
    door: &Arc<Shared>,
    to: &Destination,
    protocol: Protocol,
    client: &TcpStream,
) -> Result<Tunnel, Refusal> {
    let ask = Ask {
        to,
        protocol,
        method: None,
        body: BodyKind::None,
        client: Some(client),
    };
    let permit = door.permit(ask).await?;
    let Ok(place) = Arc::clone(&door.tunnels).try_acquire_owned() else {
        let refusal = Refusal::of(Reason::TunnelLimit, to);
        door.record_blocked(protocol, None, &refusal, Source::Policy);
        return Err(refusal);
    };
    let route = door.reach(&permit).await?;
    let origin = dial(door, &permit, &route).await?;
    let kind = match &permit.look_into {
        Some(hooks) => TunnelKind::LookedInto(hooks.clone()),
        None => TunnelKind::Blind(permit.epoch.policy.sni),
    };
    Ok(Tunnel {
        to: to.clone(),
        protocol,
        origin,
        kind,
        place: Some(place),
        policy: Arc::clone(&permit.epoch),
    })
}

/// Dials, and records where that fails.
async fn dial(
    door: &Shared,
    permit: &Permit,
    route: &Route,
) -> Result<Buffered<TcpStream>, Refusal> {
    let dialled = door.dial(permit, route).await;
    if let Err(refusal) = &dialled {
        door.record_closed((permit.protocol, &permit.to), (0, 0), Some(refusal.reason));
    }
    dialled
}

/// A request with its destination and path.
type Plain<'head> = (&'head RequestHead<'head>, &'head Destination, &'head str);

const fn body_kind(framing: Framing) -> BodyKind {
    match framing {
        Framing::Empty => BodyKind::None,
        Framing::Length(_) | Framing::Chunked | Framing::UntilClose => BodyKind::Some,
    }
}

/// Passes a plain request on.
async fn plain(door: &Arc<Shared>, client: &mut Buffered<TcpStream>, asked: Plain<'_>) -> Next {
    let (request, to, _) = asked;
    let ask = Ask {
        to,
        protocol: Protocol::Http,
        method: Some(&request.method),
        body: body_kind(request.framing),
        client: Some(&client.stream),
    };
    let permit = match door.permit(ask).await {
        Ok(permit) => permit,
        Err(refusal) => return refuse_plain(client, request, &refusal).await,
    };
    if let Some(refusal) = check_upgrade(&permit, request) {
        door.record_blocked(
            Protocol::Http,
            Some(&request.method),
            &refusal,
            Source::Policy,
        );
        return refuse_plain(client, request, &refusal).await;
    }
    match over_kept(door, client, asked, &permit).await {
        Some(next) => next,
        None => over_fresh(door, client, asked, &permit).await,
    }
}

/// Sends a request over a connection that waits for one; nothing where there is none, or it was dead.
async fn over_kept(
    door: &Arc<Shared>,
    client: &mut Buffered<TcpStream>,
    (request, to, path): Plain<'_>,
    permit: &Permit,
) -> Option<Next> {
    let again = request.method.is_idempotent()
        && request.framing == Framing::Empty
        && !request.upgrades_to_websocket();
    let key = PoolKey {
        epoch: permit.epoch.number,
        to: to.clone(),
    };
    let mut origin = if again {
        door.pool.take(&key)?
    } else {
        return None;
    };
    let head = request.forwarded(to, path, None);
    let outcome = exchange(client, &mut origin, request, &head, door.limits.answer).await;
    // The origin may close a waiting connection at any time: the request is sent once more.
    if matches!(
        outcome,
        Err(Failure {
            why: Broken::Unanswered,
            begun: false
        })
    ) {
        return None;
    }
    let address = origin.stream.peer_addr().map(|address| address.ip());
    door.record_allowed(permit, address.into_iter().collect());
    Some(finish(door, (client, request), (permit, origin), outcome).await)
}

/// Sends a request over a new connection.
async fn over_fresh(
    door: &Arc<Shared>,
    client: &mut Buffered<TcpStream>,
    (request, to, path): Plain<'_>,
    permit: &Permit,
) -> Next {
    let route = match door.reach(permit).await {
        Ok(route) => route,
        Err(refusal) => return refuse_plain(client, request, &refusal).await,
    };
    let (origin, head) = match &route.upstream {
        Some(upstream) => {
            let head = request.forwarded(to, path, Some(&upstream.authorization_line()));
            let origin = door.dial_upstream(upstream).await;
            (origin.map_err(|reason| Refusal::of(reason, to)), head)
        }
        None => (
            door.dial(permit, &route).await,
            request.forwarded(to, path, None),
        ),
    };
    let mut origin = match origin {
        Ok(origin) => origin,
        Err(refusal) => {
            door.record_closed((Protocol::Http, to), (0, 0), Some(refusal.reason));
            return refuse_plain(client, request, &refusal).await;
        }
    };
    let outcome = exchange(client, &mut origin, request, &head, door.limits.answer).await;
    let outcome = if route.upstream.is_some() {
        outcome.map(without_pool)
    } else {
        outcome
    };
    finish(door, (client, request), (permit, origin), outcome).await
}

/// A connection to an upstream proxy is not kept: it is not the destination's.
const fn without_pool(exchanged: Exchanged) -> Exchanged {
    match exchanged.origin {
        After::KeepAlive => Exchanged {
            origin: After::Close,
            ..exchanged
        },
        After::Close | After::Upgrade => exchanged,
    }
}

/// A tunnel in disguise has no place in limited mode.
fn check_upgrade(permit: &Permit, request: &RequestHead<'_>) -> Option<Refusal> {
    let refused = request.upgrades_to_websocket() && permit.epoch.policy.mode == Mode::Limited;
    refused.then(|| Refusal::of(Reason::MethodNotAllowed, &permit.to))
}

/// Settles both connections after an exchange.
async fn finish(
    door: &Arc<Shared>,
    (client, request): (&mut Buffered<TcpStream>, &RequestHead<'_>),
    (permit, origin): (&Permit, Buffered<TcpStream>),
    outcome: Result<Exchanged, Failure>,
) -> Next {
    let at = (Protocol::Http, &permit.to);
    let exchanged = match outcome {
        Ok(exchanged) => exchanged,
        Err(failure) => {
            drop(origin);
            return broken(door, (client, request), at, failure).await;
        }
    };
    let bytes = (exchanged.sent, exchanged.received);
    match (exchanged.client, exchanged.origin) {
        (After::Upgrade, _) => {
            let place = Arc::clone(&door.tunnels).try_acquire_owned().ok();
            if place.is_none() {
                door.record_closed(at, bytes, Some(Reason::TunnelLimit));
                return Next::Close;
            }
            return Next::Tunnel(Box::new(Tunnel {
                to: permit.to.clone(),
                protocol: Protocol::Http,
                origin,
                kind: TunnelKind::Upgraded,
                place,
                policy: Arc::clone(&permit.epoch),
            }));
        }
        (_, After::KeepAlive) => {
            door.pool.put(
                PoolKey {
                    epoch: permit.epoch.number,
                    to: permit.to.clone(),
                },
                origin,
            );
        }
        (_, After::Close | After::Upgrade) => drop(origin),
    }
    door.record_closed(at, bytes, None);
    match exchanged.client {
        After::KeepAlive => Next::Again,
        After::Close | After::Upgrade => {
            linger(client).await;
            Next::Close
        }
    }
}

/// Tells the client of an exchange that broke, where it has not seen the beginning of an answer.
pub(crate) async fn tell_broken<Client>(
    client: &mut Buffered<Client>,
    to: &Destination,
    failure: Failure,
) -> Option<Reason>
where
    Client: AsyncRead + AsyncWrite + Unpin,
{
    let refusal = match failure.why {
        Broken::Client => return None,
        Broken::Request(detail) => Refusal::malformed(detail),
        Broken::Unanswered => Refusal::of(Reason::UpstreamInvalid, to)
            .with_detail(Some("it closed without an answer".to_owned())),
        Broken::Answer(detail) => {
            Refusal::of(Reason::UpstreamInvalid, to).with_detail(Some(detail.to_owned()))
        }
        Broken::TimedOut => Refusal::of(Reason::UpstreamTimeout, to),
    };
    if !failure.begun {
        answer_and_close(client, &refusal, refusal.reason.status()).await;
    }
    Some(refusal.reason)
}

async fn broken(
    door: &Shared,
    (client, _request): (&mut Buffered<TcpStream>, &RequestHead<'_>),
    at: (Protocol, &Destination),
    failure: Failure,
) -> Next {
    let reason = tell_broken(client, at.1, failure).await;
    door.record_closed(at, (0, 0), reason);
    Next::Close
}

/// Passes a request to a Unix socket: only for `localhost`, only to a listed path.
async fn unix(
    door: &Arc<Shared>,
    client: &mut Buffered<TcpStream>,
    (request, to, path): Plain<'_>,
) -> Next {
    let (socket, mut origin) = match open_unix(door, request, to).await {
        Ok(opened) => opened,
        Err(refusal) => {
            door.record_blocked(
                Protocol::Unix,
                Some(&request.method),
                &refusal,
                Source::Policy,
            );
            return refuse(client, &refusal).await;
        }
    };
    door.events.record(Event::Decided(Decided {
        execution: Arc::clone(&door.execution),
        protocol: Protocol::Unix,
        to: Some(to.clone()),
        method: Some(request.method.clone()),
        verdict: Ok(()),
        source: Source::Policy,
        rule: Some(socket.display().to_string()),
        addresses: Vec::new(),
    }));
    let head = request.forwarded(to, path, None);
    match exchange(client, &mut origin, request, &head, door.limits.answer).await {
        Ok(exchanged) => {
            door.record_closed(
                (Protocol::Unix, to),
                (exchanged.sent, exchanged.received),
                None,
            );
            if exchanged.client == After::KeepAlive {
                Next::Again
            } else {
                Next::Close
            }
        }
        Err(failure) => broken(door, (client, request), (Protocol::Unix, to), failure).await,
    }
}

/// The socket that a request names, open.
async fn open_unix(
    door: &Shared,
    request: &RequestHead<'_>,
    to: &Destination,
) -> Result<(PathBuf, Buffered<UnixStream>), Refusal> {
    let mut named = request.fields.all(UNIX_SOCKET_FIELD);
    let local = matches!(&to.host, Host::Name(name) if name.as_str() == "localhost");
    let (Some(socket), None, true) = (named.next(), named.next(), local) else {
        return Err(Refusal::malformed(
            "a Unix socket is named once, in a request to http://localhost/",
        ));
    };
    let epoch = door.policy();
    let found = std::str::from_utf8(socket)
        .ok()
        .and_then(|socket| epoch.policy.unix.find(socket));
    let socket = found.ok_or_else(|| Refusal::of(Reason::UnixSocketDenied, to))?;
    if !epoch
        .policy
        .permits(&request.method, body_kind(request.framing))
        || request.upgrades_to_websocket()
    {
        return Err(Refusal::of(Reason::MethodNotAllowed, to));
    }
    match door.dialer.unix(&socket).await {
        Ok(stream) => Ok((socket, Buffered::new(stream))),
        Err(error) => {
            let absent = matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
            );
            Err(Refusal::of(
                if absent {
                    Reason::UpstreamRefused
                } else {
                    Reason::UnixSocketDenied
                },
                to,
            ))
        }
    }
}
