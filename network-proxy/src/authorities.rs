//! The certificate authorities of this machine ([`Authorities`]): what origins of opened tunnels are held to, and what a
//! command's tools are told to trust beside the door's own.
//!
//! Apart because it reads files, and because both lists have to be one: a tool behind the door trusts an origin exactly where
//! it did without. INVARIANT: only whole certificates are kept; nothing else of a file that was read goes into a bundle.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::intercept::{Interceptor, InterceptorError};

/// Where distributions keep every authority in one file, in the order in which they are looked for: Debian and Alpine, Fedora
/// (older and newer), openSUSE, and what OpenSSL looks for where nobody said.
const PLACES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// The longest file that is read, in bytes: many times the usual bundle.
const LONGEST: u64 = 8 << 20;

/// Certificates of authorities.
#[derive(Debug, Clone)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthorities {
    /// This machine has no file of them.
    #[error(
        "this machine has no file of certificate authorities\nhint: install the package `ca-certificates`"
    )]
    NoFile,
    /// A file cannot be read.
    #[error("cannot read the certificate authorities in `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file has no certificate.
    #[error("`{}` has no certificate in PEM form", .0.display())]
    Empty(PathBuf),
}

/// The files of this machine in which tools look for authorities: each once, by its canonical path, the first being the one
/// that is read.
#[must_use]
pub fn bundles() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for place in PLACES {
        if let Ok(path) = Path::new(place).canonicalize()
            && path.is_file()
            && !found.contains(&path)
        {
            found.push(path);
        }
    }
    found
}

impl Authorities {
    /// Those that this machine trusts.
    ///
    /// # Errors
    /// There is no such file, or nothing in it.
    pub fn of_this_machine() -> Result<Self, NoAuthorities> {
        let first = bundles().into_iter().next().ok_or(NoAuthorities::NoFile)?;
        Ok(Self {
            certificates: read(&first)?,
        })
    }

    /// The same with those of one more file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn and(mut self, file: &Path) -> Result<Self, NoAuthorities> {
        self.certificates.extend(read(file)?);
        Ok(self)
    }

    /// A client that takes origins for what these authorities say they are.
    ///
    /// # Errors
    /// The cryptographic library does not support what TLS needs.
    pub fn client(&self) -> Result<ClientConfig, InterceptorError> {
        let mut roots = RootCertStore::empty();
        // What cannot vouch for anybody is left out, as every client does.
        let (_taken, _left_out) =
            roots.add_parsable_certificates(self.certificates.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(InterceptorError::Tls)?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// All of them and the authority of `interceptor`, in PEM form: what stands in place of a machine's own bundle.
    #[must_use]
    pub fn bundle(&self, interceptor: &Interceptor) -> Vec<u8> {
        let mut bundle = interceptor.authority_pem().replace('\r', "");
        for certificate in &self.certificates {
            bundle.push_str("-----BEGIN CERTIFICATE-----\n");
            let text = STANDARD.encode(certificate);
            for line in text.as_bytes().chunks(64) {
                bundle.push_str(&String::from_utf8_lossy(line));
                bundle.push('\n');
            }
            bundle.push_str("-----END CERTIFICATE-----\n");
        }
        bundle.into_bytes()
    }
}

/// The certificates of a file: a regular one, of bounded length.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, NoAuthorities> {
    let unreadable = |source| NoAuthorities::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    // A pipe of somebody's must not hold the start up.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::ErrorKind::InvalidInput.into()));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > LONGEST {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    // What is no certificate in the file, a key say, is passed over.
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .filter_map(Result::ok)
        .collect();
    if certificates.is_empty() {
        return Err(NoAuthorities::Empty(path.to_path_buf()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is gone with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(text: &str) -> Self {
            let name = format!("authorities-{}-{}", std::process::id(), text.len());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).expect("written");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).expect("removed");
        }
    }

    fn none() -> Authorities {
        Authorities {
            certificates: Vec::new(),
        }
    }

    fn interceptor() -> Interceptor {
        Interceptor::new(none().client().expect("a client")).expect("an authority")
    }

    #[test]
    fn a_bundle_holds_every_certificate_and_nothing_else_of_a_file() {
        let own = interceptor();
        let other = interceptor();
        let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        let file = Scratch::new(&format!("secret words\n{secret}{}", other.authority_pem()));
        let with = none().and(&file.0).expect("a certificate");
        let bundle = String::from_utf8(with.bundle(&own)).expect("text");
        let read: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes())
            .collect::<Result<_, _>>()
            .expect("PEM");
        let of = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        assert_eq!(
            read,
            [of(own.authority_pem()), of(other.authority_pem())],
            "{bundle}"
        );
        assert!(!bundle.contains("secret") && !bundle.contains("c2VjcmV0"));
        assert!(!bundle.contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_file_of_certificates_is_an_error() {
        let file = Scratch::new("nothing");
        assert!(matches!(none().and(&file.0), Err(NoAuthorities::Empty(_))));
        for path in ["/nowhere/at/all", "/tmp", "/dev/zero"] {
            assert!(
                matches!(
                    none().and(Path::new(path)),
                    Err(NoAuthorities::Unreadable { .. })
                ),
                "{path}"
            );
        }
    }
}
