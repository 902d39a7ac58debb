//! What the server tells others by TLS, over real sockets: to whom a certificate of the right authority says that it is who
//! it is, and to nobody else.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::routing::post;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::{Folder, Program, harmful, submission, until};

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// How a server shows that it is `name`, until `year` begins.
    fn server(&self, name: &str, year: i32, protocol: &[u8]) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server");
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a server of the test's own saw.
#[derive(Debug, PartialEq, Eq)]
enum Saw {
    /// A call, by its path.
    Call(String),
    /// Somebody who did not like the certificate.
    Refusal,
}

/// A listener that speaks TLS.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    saw: mpsc::UnboundedSender<Saw>,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, from) = self.listener.accept().await.expect("a connection");
            match self.acceptor.accept(socket).await {
                Ok(stream) => return (stream, from),
                // Nobody looks any more when the test is over.
                Err(_) => self.saw.send(Saw::Refusal).unwrap_or_default(),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Somebody who is told by TLS.
struct Told {
    address: SocketAddr,
    saw: mpsc::UnboundedReceiver<Saw>,
    _serving: JoinSet<()>,
}

impl Told {
    /// By HTTP/1.1.
    async fn http(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, saw) = mpsc::unbounded_channel();
        let calls = sender.clone();
        let router = Router::new().fallback(post(async move |uri: Uri| {
            let call = Saw::Call(uri.path().to_owned());
            calls.send(call).unwrap_or_default();
            StatusCode::OK
        }));
        let tls = Tls {
            listener,
            acceptor,
            saw: sender,
        };
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(tls, router).await.expect("served") });
        Self {
            address,
            saw,
            _serving: serving,
        }
    }

    /// By HTTP/2, as gRPC is.
    async fn grpc(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, saw) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(socket).await else {
                    sender.send(Saw::Refusal).unwrap_or_default();
                    continue;
                };
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut answer))) = connection.accept().await {
                    let call = Saw::Call(request.uri().path().to_owned());
                    sender.send(call).unwrap_or_default();
                    let fine = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "0")
                        .body(())
                        .expect("an answer");
                    answer.send_response(fine, true).expect("sent");
                }
            }
        });
        Self {
            address,
            saw,
            _serving: serving,
        }
    }

    /// The first thing that it sees.
    async fn first(&mut self) -> Saw {
        let first = tokio::time::timeout(Duration::from_secs(60), self.saw.recv()).await;
        first.expect("in time").expect("something")
    }
}

/// A file that only we can change.
fn file(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path(name);
    std::fs::write(&path, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).expect("private");
    path.to_str().expect("a name").to_owned()
}

/// The servers that are tried: by what they are wrong, and how they show who they are.
fn servers(trusted: &Authority, protocol: &[u8]) -> [(&'static str, TlsAcceptor); 4] {
    let other = Authority::new("somebody else");
    [
        ("nothing", trusted.server("localhost", 2100, protocol)),
        ("its authority", other.server("localhost", 2100, protocol)),
        ("its time", trusted.server("localhost", 2020, protocol)),
        (
            "its name",
            trusted.server("elsewhere.example", 2100, protocol),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_goes_to_a_collector_that_shows_who_it_is_and_to_no_other() {
    let trusted = Authority::new("ours");
    for (grpc, protocol) in [(false, b"http/1.1".as_slice()), (true, b"h2")] {
        for (wrong, acceptor) in servers(&trusted, protocol) {
            let mut collector = if grpc {
                Told::grpc(acceptor).await
            } else {
                Told::http(acceptor).await
            };
            let folder = Folder::new();
            let ca = file(&folder, "ca.pem", &trusted.pem);
            let port = collector.address.port();
            let exporter = if grpc {
                format!("otlp-grpc]\nendpoint = \"https://localhost:{port}\"\n")
            } else {
                format!(
                    "otlp-http]\nendpoint = \"https://localhost:{port}/v1/logs\"\nprotocol = \"binary\"\n"
                )
            };
            let settings =
                format!("[otel.exporter.{exporter}tls = {{ ca-certificate = \"{ca}\" }}\n");
            let program = Program::new(&folder, &settings);
            let token = program.token();
            let mut server = program.serve();
            let body = submission(&harmful());
            let denied = server.post(&token, "/v1/reviews", &body).await;
            assert_eq!(denied.review_status(), "denied");
            assert_eq!(server.terminate(), Some(0));
            let first = collector.first().await;
            let wants = if wrong != "nothing" {
                Saw::Refusal
            } else if grpc {
                let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
                Saw::Call(path.to_owned())
            } else {
                Saw::Call("/v1/logs".to_owned())
            };
            assert_eq!(first, wants, "gRPC: {grpc}, wrong: {wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_does_not_show_who_it_is_is_told_nothing_and_kept_as_dead() {
    let trusted = Authority::new("ours");
    for (wrong, acceptor) in servers(&trusted, b"http/1.1") {
        let mut receiver = Told::http(acceptor).await;
        let folder = Folder::new();
        let ca = file(&folder, "ca.pem", &trusted.pem);
        let settings = format!(
            "[webhooks]\nallowed_hosts = [\"localhost\"]\nca_file = \"{ca}\"\nattempts = 1\nfirst_pause_ms = 10\n"
        );
        let program = Program::new(&folder, &settings);
        let token = |role: &str| {
            let made = program.output(&["token", "create", "--role", role]);
            made.1.trim().to_owned()
        };
        let (runner, admin) = (token("runner"), token("admin"));
        let server = program.serve();
        let url = format!("https://localhost:{}/hook", receiver.address.port());
        let wanted = json!({"url": url, "events": ["denied"]});
        let made = server.post(&admin, "/v1/webhooks", &wanted).await;
        let id = made.body["id"].as_str().expect("an id");
        let body = submission(&harmful());
        server.post(&runner, "/v1/reviews", &body).await;
        let first = receiver.first().await;
        let path = format!("/v1/webhooks/{id}/deliveries");
        let ask = || server.get(&admin, &path);
        if wrong == "nothing" {
            assert_eq!(first, Saw::Call("/hook".to_owned()));
            until(ask, |told| told.body["deliveries"] == json!([])).await;
        } else {
            assert_eq!(first, Saw::Refusal, "{wrong}");
            let dead = until(ask, |told| told.body["deliveries"][0]["status"] == "dead").await;
            let why = &dead.body["deliveries"][0]["last_error"];
            assert_eq!(why, "there was no answer", "{wrong}");
        }
    }
}
