//! Tunnels that are opened, as a client sees them: which origins are taken for what they say they are, and which are not.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use network_proxy::{Interceptor, Limits, RawNetworkProxy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[path = "support/start.rs"]
mod start;

/// Whose certificate an origin has.
#[derive(Debug, Clone, Copy)]
enum From {
    /// Of the authority that the door trusts, for this name.
    Trusted(&'static str),
    /// The same, long over.
    Expired,
    /// The same, not begun.
    ToCome,
    /// Of its own.
    Itself,
    /// Of an authority that nobody knows.
    Unknown,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .self_signed(&key)
            .expect("an authority")
            .der()
            .clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client(trusts: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusts).expect("an authority");
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn acceptor(trusted: &Authority, from: From) -> TlsAcceptor {
    let name = match from {
        From::Trusted(name) => name,
        From::Expired | From::ToCome | From::Itself | From::Unknown => "site.test",
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    match from {
        From::Expired => params.not_after = date_time_ymd(2001, 1, 1),
        From::ToCome => params.not_before = date_time_ymd(4000, 1, 1),
        From::Trusted(_) | From::Itself | From::Unknown => {}
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = match from {
        From::Itself => params.self_signed(&key),
        From::Unknown => params.signed_by(&key, &Authority::new().issuer),
        From::Trusted(_) | From::Expired | From::ToCome => params.signed_by(&key, &trusted.issuer),
    };
    let certificate = certificate.expect("a certificate").der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a server");
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request with 204, and says how many came.
async fn origin(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(mut secured) = acceptor.accept(stream).await else {
            continue;
        };
        let mut bytes = [0; 1024];
        if secured.read(&mut bytes).await? > 0 {
            secured
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .await?;
            secured.shutdown().await?;
        }
    }
}

struct Scene {
    _tasks: JoinSet<io::Result<()>>,
    at: SocketAddr,
    interceptor: Arc<Interceptor>,
    events: start::Kept,
}

impl Scene {
    /// A door in limited mode that opens `site.test` alone.
    async fn new(from: From) -> Self {
        let trusted = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        let _origin = tasks.spawn(origin(listener, acceptor(&trusted, from)));
        let interceptor = Interceptor::new(client(trusted.certificate)).expect("an authority");
        let interceptor = Arc::new(interceptor);
        let user: RawNetworkProxy = toml::from_str(
            "mode = \"limited\"\ndomains = { \"site.test\" = \"allow\", \"other.test\" = \"allow\" }",
        )
        .expect("a table");
        let (mut settings, mut setup) = start::usual(Limits::default());
        settings.user = user;
        settings.intercepted = vec!["site.test".to_owned()];
        setup.interceptor = Some(Arc::clone(&interceptor));
        let (at, events) = start::start(&mut tasks, address, (settings, setup));
        Self {
            _tasks: tasks,
            at,
            interceptor,
            events,
        }
    }

    /// The status of the CONNECT.
    async fn connect(&self, to: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.at).await.expect("the door");
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        (stream, status)
    }

    /// The status and reason of a request inside the tunnel.
    async fn ask(&self, method: &str) -> (String, Option<String>) {
        let (stream, status) = self.connect("site.test:443").await;
        assert_eq!(status, "200");
        let ours = CertificateDer::from_pem_slice(self.interceptor.authority_pem().as_bytes());
        let connector = TlsConnector::from(Arc::new(client(ours.expect("a certificate"))));
        let name = ServerName::try_from("site.test").expect("a name");
        let mut secured = connector.connect(name, stream).await.expect("TLS");
        let request = format!("{method} / HTTP/1.1\r\nHost: site.test\r\n\r\n");
        secured.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // The end without a goodbye is an end, too.
        secured.read_to_end(&mut answer).await.unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let reason = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-proxy-reason: "))
            .map(str::to_owned);
        (
            answer.split(' ').nth(1).unwrap_or("none").to_owned(),
            reason,
        )
    }
}

#[tokio::test]
async fn an_origin_is_taken_for_what_its_certificate_says_and_for_nothing_else() {
    for (from, wanted) in [
        (From::Trusted("site.test"), ("204", None)),
        (
            From::Trusted("other.test"),
            ("502", Some("upstream_invalid")),
        ),
        // A whole registry is nobody's.
        (From::Trusted("*.test"), ("502", Some("upstream_invalid"))),
        (From::Expired, ("502", Some("upstream_invalid"))),
        (From::ToCome, ("502", Some("upstream_invalid"))),
        (From::Itself, ("502", Some("upstream_invalid"))),
        (From::Unknown, ("502", Some("upstream_invalid"))),
    ] {
        let (status, reason) = Scene::new(from).await.ask("GET").await;
        assert_eq!((status.as_str(), reason.as_deref()), wanted, "{from:?}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_allowed_is_refused_before_the_origin_is_spoken_to() {
    // The origin's certificate is worthless: whoever spoke to it would say so.
    let scene = Scene::new(From::Itself).await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let (status, reason) = scene.ask(method).await;
        assert_eq!(
            (status.as_str(), reason.as_deref()),
            ("403", Some("method_not_allowed")),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_host_that_is_not_listed_has_no_tunnel_in_limited_mode() {
    let scene = Scene::new(From::Trusted("other.test")).await;
    for (to, status) in [
        ("other.test:443", "403"),
        ("site.test:8443", "403"),
        ("site.test:443", "200"),
    ] {
        assert_eq!(scene.connect(to).await.1, status, "{to}");
    }
    let events = scene.events.0.lock().expect("nobody panicked");
    assert!(format!("{events:?}").contains("MitmRequired"));
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_alone_gets_nothing() {
    let scene = Scene::new(From::Trusted("site.test")).await;
    let (stream, _) = scene.connect("site.test:443").await;
    let connector = TlsConnector::from(Arc::new(client(Authority::new().certificate)));
    let name = ServerName::try_from("site.test").expect("a name");
    assert!(connector.connect(name, stream).await.is_err());
}
