//! Certificates of a case: an authority for origins, one that nobody trusts, and clients that trust the door's.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The names that origins have certificates for.
const NAMES: [&str; 3] = ["example.com", "api.example.com", "new.test"];

pub(crate) struct Tls {
    pub(crate) origin: TlsAcceptor,
    pub(crate) self_signed: TlsAcceptor,
    /// What the door trusts.
    pub(crate) origins: ClientConfig,
    trusted: Mutex<RootCertStore>,
}

type Anyhow<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Tls {
    pub(crate) fn new() -> Anyhow<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let names: Vec<String> = NAMES.map(str::to_owned).to_vec();
        let leaf_key = KeyPair::generate()?;
        let leaf = CertificateParams::new(names.clone())?.signed_by(&leaf_key, &issuer)?;
        let lone_key = KeyPair::generate()?;
        let lone = CertificateParams::new(names)?.self_signed(&lone_key)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        Ok(Self {
            origin: acceptor(leaf.der().clone(), &leaf_key)?,
            self_signed: acceptor(lone.der().clone(), &lone_key)?,
            origins: client(roots)?,
            trusted: Mutex::new(RootCertStore::empty()),
        })
    }

    /// Has clients trust an authority.
    pub(crate) fn trust(&self, pem: &str) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) {
            let _refused = trusted.add(certificate);
        }
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let roots = self
            .trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let config = client(roots).map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> Anyhow<TlsAcceptor> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client(roots: RootCertStore) -> Anyhow<ClientConfig> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
