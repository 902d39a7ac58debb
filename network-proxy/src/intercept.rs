//! Tunnels that are looked into: an authority that lives in this process alone ([`Interceptor`]), and the requests inside.
//!
//! Apart because it is off unless settings ask for it, and because it holds a key.
//! INVARIANT: the authority's key never leaves memory, and is overwritten where it lies when it is given up (the copy that the
//! cryptographic library computes with is its own). The origin's certificate is checked as any client would, before a request
//! goes to it; where that fails the client hears 502. Inside, only requests to the tunnel's own host pass.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use secrecy::zeroize::Zeroize as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::event::{Protocol, Source};
use crate::exchange::exchange;
use crate::head::{After, BadHead, Framing, RequestHead, Target, parse_request};
use crate::hook::{Hook, HookVerdict, judge};
use crate::host::{Destination, Host};
use crate::http::tell_broken;
use crate::policy::BodyKind;
use crate::refusal::{Reason, Refusal};
use crate::shared::Shared;
use crate::tunnel::Tunnel;
use crate::wire::{Buffered, NoHead, answer_and_close};

/// How many hosts' certificates are kept.
const MOST_CERTIFICATES: usize = 256;

/// An authority for the hosts of one execution's tunnels.
pub struct Interceptor {
    issuer: Issuer<'static, Wiped>,
    authority: String,
    origins: TlsConnector,
    hosts: Mutex<HashMap<Host, Arc<ServerConfig>>>,
}

/// Why no authority could be made.
#[derive(Debug, thiserror::Error)]
pub enum InterceptorError {
    /// The key or the certificate.
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// The TLS settings.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// The authority's key, overwritten at its end.
struct Wiped(KeyPair);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Wiped {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Wiped {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Interceptor")
            .finish_non_exhaustive()
    }
}

impl Interceptor {
    /// Makes an authority. `origins` says which origins are trusted: normally the machine's own roots.
    ///
    /// # Errors
    /// Where no key could be made.
    pub fn new(origins: ClientConfig) -> Result<Self, InterceptorError> {
        let mut params =
            CertificateParams::new(Vec::new()).map_err(InterceptorError::Certificate)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
            .distinguished_name
            .push(DnType::CommonName, "network-proxy, one command only");
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = Wiped(KeyPair::generate().map_err(InterceptorError::Certificate)?);
        let certificate = params
            .self_signed(&key)
            .map_err(InterceptorError::Certificate)?;
        let mut origins = origins;
        origins.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            authority: certificate.pem(),
            issuer: Issuer::new(params, key),
            origins: TlsConnector::from(Arc::new(origins)),
            hosts: Mutex::default(),
        })
    }

    /// The authority's certificate, for the variables by which tools find one. Public: the key is not in it.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, InterceptorError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = hosts.get(host) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make_server(host)?);
        if hosts.len() >= MOST_CERTIFICATES {
            hosts.clear();
        }
        let _replaced = hosts.insert(host.clone(), Arc::clone(&config));
        Ok(config)
    }

    fn make_server(&self, host: &Host) -> Result<ServerConfig, InterceptorError> {
        let mut params = CertificateParams::new(vec![host.to_string()])
            .map_err(InterceptorError::Certificate)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "network-proxy");
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(InterceptorError::Certificate)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(InterceptorError::Certificate)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(InterceptorError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(InterceptorError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

type Client = Buffered<tokio_rustls::server::TlsStream<Prefixed>>;
type Prefixed = tokio::io::Join<
    tokio::io::Chain<std::io::Cursor<bytes::Bytes>, tokio::net::tcp::OwnedReadHalf>,
    tokio::net::tcp::OwnedWriteHalf,
>;

/// Serves the requests inside a tunnel.
pub(crate) async fn serve(
    door: &Arc<Shared>,
    tunnel: Tunnel,
    hooks: Vec<Hook>,
    client: Buffered<TcpStream>,
) {
    let Some(interceptor) = &door.interceptor else {
        return;
    };
    let Ok(config) = interceptor.server(&tunnel.to.host) else {
        return;
    };
    let (read, write) = client.stream.into_split();
    let early = std::io::Cursor::new(client.bytes.freeze());
    let prefixed = tokio::io::join(tokio::io::AsyncReadExt::chain(early, read), write);
    let Ok(Ok(accepted)) =
        timeout(door.limits.head, TlsAcceptor::from(config).accept(prefixed)).await
    else {
        door.record_closed(
            (tunnel.protocol, &tunnel.to),
            (0, 0),
            Some(Reason::Malformed),
        );
        return;
    };
    let mut inside = Inside {
        door,
        to: tunnel.to,
        policy: tunnel.policy,
        hooks,
        origin: Origin::Plain(tunnel.origin.stream),
    };
    inside.serve(Buffered::new(accepted)).await;
    drop(tunnel.place);
}

/// The origin's side, before and after its handshake.
enum Origin {
    Plain(TcpStream),
    Tls(Box<Buffered<TlsStream<TcpStream>>>),
    Gone,
}

struct Inside<'door> {
    door: &'door Arc<Shared>,
    to: Destination,
    policy: Arc<crate::shared::Epoch>,
    hooks: Vec<Hook>,
    origin: Origin,
}

impl Inside<'_> {
    async fn serve(&mut self, mut client: Client) {
        loop {
            let head = match client
                .head(self.door.limits.keep_alive, self.door.limits.head)
                .await
            {
                Ok(head) => head,
                Err(NoHead::Bad(bad)) => return self.refuse_bad(&mut client, bad).await,
                Err(NoHead::Silence | NoHead::Cut | NoHead::TimedOut) => return,
            };
            let request = match parse_request(&head) {
                Ok(request) => request,
                Err(bad) => return self.refuse_bad(&mut client, bad).await,
            };
            let path = match self.judge(&request) {
                Ok(path) => path.to_owned(),
                Err((refusal, status)) => {
                    self.door.record_blocked(
                        Protocol::Intercepted,
                        Some(&request.method),
                        &refusal,
                        Source::Policy,
                    );
                    return answer_and_close(&mut client, &refusal, status).await;
                }
            };
            if self.pass(&mut client, &request, &path).await == After::Close {
                return;
            }
        }
    }

    async fn refuse_bad(&self, client: &mut Client, bad: BadHead) {
        let refusal = Refusal::malformed(bad.detail);
        self.door
            .record_blocked(Protocol::Intercepted, None, &refusal, Source::Policy);
        answer_and_close(client, &refusal, bad.status).await;
    }

    /// Whether the request may pass: its path, or the refusal and its status.
    fn judge<'request>(
        &self,
        request: &'request RequestHead<'_>,
    ) -> Result<&'request str, (Refusal, u16)> {
        let path = match &request.target {
            Target::Origin(path) => path,
            Target::Tunnel(_) => {
                return Err((Refusal::malformed("no tunnel inside a tunnel"), 405));
            }
            Target::Absolute { .. } => {
                return Err((
                    Refusal::malformed("inside a tunnel the target is a path"),
                    400,
                ));
            }
        };
        let mut hosts = request.fields.all("host");
        let host = hosts.next().and_then(|host| std::str::from_utf8(host).ok());
        let same = host
            .and_then(|host| Destination::parse(host, Some(443)).ok())
            .is_some_and(|host| host == self.to);
        if !same {
            return Err((
                Refusal::of(Reason::Malformed, &self.to)
                    .with_detail(Some("Host is not the tunnel's host".to_owned())),
                421,
            ));
        }
        let body = if request.framing == Framing::Empty {
            BodyKind::None
        } else {
            BodyKind::Some
        };
        let policy = &self.policy.policy;
        if !policy.permits(&request.method, body) || request.upgrades_to_websocket() {
            return Err((Refusal::of(Reason::MethodNotAllowed, &self.to), 403));
        }
        match judge(&self.hooks, &request.method, path) {
            HookVerdict::Passes => Ok(path),
            HookVerdict::Ambiguous => {
                Err((Refusal::malformed("the path can be read in two ways"), 400))
            }
            HookVerdict::Denied => Err((Refusal::of(Reason::MitmHookDenied, &self.to), 403)),
        }
    }

    /// Passes one request on; whether the tunnel goes on.
    async fn pass(&mut self, client: &mut Client, request: &RequestHead<'_>, path: &str) -> After {
        if let Err(refusal) = self.secure().await {
            self.door.record_closed(
                (Protocol::Intercepted, &self.to),
                (0, 0),
                Some(refusal.reason),
            );
            answer_and_close(client, &refusal, refusal.reason.status()).await;
            return After::Close;
        }
        let Origin::Tls(origin) = &mut self.origin else {
            return After::Close;
        };
        let head = request.forwarded(&self.to, path, None);
        match exchange(
            client,
            origin.as_mut(),
            request,
            &head,
            self.door.limits.answer,
        )
        .await
        {
            Ok(exchanged) => {
                self.door.record_closed(
                    (Protocol::Intercepted, &self.to),
                    (exchanged.sent, exchanged.received),
                    None,
                );
                match (exchanged.client, exchanged.origin) {
                    (After::KeepAlive, After::KeepAlive) => After::KeepAlive,
                    _ => After::Close,
                }
            }
            Err(failure) => {
                let reason = tell_broken(client, &self.to, failure).await;
                self.door
                    .record_closed((Protocol::Intercepted, &self.to), (0, 0), reason);
                After::Close
            }
        }
    }

    /// The handshake with the origin, once, with its certificate checked for the tunnel's host.
    async fn secure(&mut self) -> Result<(), Refusal> {
        let invalid = |detail: &str| {
            Refusal::of(Reason::UpstreamInvalid, &self.to).with_detail(Some(detail.to_owned()))
        };
        let stream = match std::mem::replace(&mut self.origin, Origin::Gone) {
            Origin::Plain(stream) => stream,
            Origin::Tls(origin) => {
                self.origin = Origin::Tls(origin);
                return Ok(());
            }
            Origin::Gone => return Err(invalid("it closed the connection")),
        };
        let Some(interceptor) = &self.door.interceptor else {
            return Err(invalid("there is no authority"));
        };
        let name = match &self.to.host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
                .map_err(|_| invalid("its name cannot be in a certificate"))?,
            Host::Address(IpAddr::V4(address)) => ServerName::from(IpAddr::V4(*address)),
            Host::Address(IpAddr::V6(address)) => ServerName::from(IpAddr::V6(*address)),
        };
        match timeout(
            self.door.limits.dial_one,
            interceptor.origins.connect(name, stream),
        )
        .await
        {
            Ok(Ok(stream)) => {
                self.origin = Origin::Tls(Box::new(Buffered::new(stream)));
                Ok(())
            }
            Ok(Err(_)) => Err(invalid(
                "its certificate is not valid, or its TLS handshake failed",
            )),
            Err(_elapsed) => Err(Refusal::of(Reason::UpstreamTimeout, &self.to)),
        }
    }
}
