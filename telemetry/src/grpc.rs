//! The same messages by gRPC: one unary call over HTTP/2 each.
//!
//! Apart, because only who serves holds it: it brings HTTP/2, which the runner's size and start do not pay for. Our own few
//! lines over `h2`: a call of this kind is one request, five bytes of framing and a status in the trailers
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, Request, Uri};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::buffer::Signal;
use crate::export::{Export, HttpOnly, NotSent};
use crate::message::Message;
use crate::settings::{Protocol, Settings, Target, Tls};

/// The largest answer that is read, in bytes.
const MOST: usize = 64 * 1024;

/// By HTTP and by gRPC: what the server holds.
#[derive(Debug)]
pub struct HttpOrGrpc(HttpOnly);

impl Export for HttpOrGrpc {
    fn of(settings: &Settings) -> Self {
        Self(HttpOnly::of(settings))
    }

    async fn send(
        &self,
        target: &Target,
        signal: Signal,
        message: &Message,
    ) -> Result<(), NotSent> {
        match target.protocol {
            Protocol::HttpBinary | Protocol::HttpJson => self.0.send(target, signal, message).await,
            Protocol::Grpc => call(target, signal, message).await,
        }
    }
}

async fn call(target: &Target, signal: Signal, message: &Message) -> Result<(), NotSent> {
    let host = target.endpoint.host_str().ok_or(NotSent::Client)?;
    let port = target
        .endpoint
        .port_or_known_default()
        .ok_or(NotSent::Client)?;
    let bare = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((bare, port)).await;
    let socket = socket.map_err(|_| NotSent::NoAnswer)?;
    let request = (request(target, signal)?, framed(message)?);
    if target.endpoint.scheme() == "http" {
        return exchange(socket, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| NotSent::Client)?;
    let connector = TlsConnector::from(Arc::new(tls(&target.tls).ok_or(NotSent::Client)?));
    let socket = connector.connect(name, socket).await;
    exchange(socket.map_err(|_| NotSent::NoAnswer)?, request).await
}

fn framed(message: &Message) -> Result<Bytes, NotSent> {
    let bytes = message.to_protobuf();
    let length = u32::try_from(bytes.len()).map_err(|_| NotSent::Client)?;
    let mut framed = BytesMut::with_capacity(bytes.len() + 5);
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(&bytes);
    Ok(framed.freeze())
}

fn request(target: &Target, signal: Signal) -> Result<Request<()>, NotSent> {
    let path = match signal {
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    };
    let uri = Uri::builder()
        .scheme(target.endpoint.scheme())
        .authority(target.endpoint.authority())
        .path_and_query(path)
        .build()
        .map_err(|_| NotSent::Client)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.extend(target.headers.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (request, body): (Request<()>, Bytes),
) -> Result<(), NotSent> {
    let connected = h2::client::handshake(socket).await;
    let (sender, connection) = connected.map_err(|_| NotSent::NoAnswer)?;
    tokio::select! {
        answered = ask(sender, request, body) => answered.unwrap_or(Err(NotSent::NoAnswer)),
        _ = connection => Err(NotSent::NoAnswer),
    }
}

/// The outer error is the connection's.
async fn ask(
    sender: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<Result<(), NotSent>, h2::Error> {
    let mut sender = sender.ready().await?;
    let (answer, mut stream) = sender.send_request(request, false)?;
    stream.send_data(body, true)?;
    let (head, mut body) = answer.await?.into_parts();
    if !head.status.is_success() {
        return Ok(Err(NotSent::Status(u32::from(head.status.as_u16()))));
    }
    let mut read = 0;
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        read += length;
        if read > MOST {
            return Ok(Err(NotSent::NoAnswer));
        }
        body.flow_control().release_capacity(length)?;
    }
    // In the trailers, or in the head of an answer that has nothing else.
    let trailers = body.trailers().await?;
    let told = trailers
        .as_ref()
        .and_then(status)
        .or_else(|| status(&head.headers));
    Ok(match told {
        Some(0) => Ok(()),
        Some(other) => Err(NotSent::Status(other)),
        None => Err(NotSent::NoAnswer),
    })
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn tls(tls: &Tls) -> Option<ClientConfig> {
    let builder = ClientConfig::builder();
    let builder = match &tls.ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.ok()?).ok()?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().ok()?,
    };
    let mut config = match &tls.identity {
        Some(pem) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
            builder.with_client_auth_cert(chain.ok()?, key).ok()?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(config)
}
