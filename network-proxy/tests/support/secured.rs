//! An origin with TLS, and the authority that its certificate is from.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

/// The authority that the TLS origin's certificate is from, as PEM, and what the origin serves with.
pub(crate) fn certificates() -> (String, tokio_rustls::TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "the test's authority");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(vec!["site.test".to_owned()]).expect("parameters");
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a server");
    (
        authority.pem(),
        tokio_rustls::TlsAcceptor::from(Arc::new(config)),
    )
}

/// TLS in front of the plain origin.
pub(crate) async fn serve_tls(
    acceptor: tokio_rustls::TlsAcceptor,
    (tls, http): (u16, u16),
) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", tls)).await?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        let _handle = connections.spawn(async move {
            let mut secured = acceptor.accept(stream).await?;
            let mut plain = TcpStream::connect(("127.0.0.1", http)).await?;
            tokio::io::copy_bidirectional(&mut secured, &mut plain).await
        });
    }
}
