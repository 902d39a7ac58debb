//! Calls to a server somewhere else: no proxy from the environment, no redirect, one bearer token (design D19).

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::CallerId;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use super::transport::{Call, MAX_ANSWER, Method, Reply, Unreachable};
use crate::config::RemoteServer;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How much later than the wait it was asked for an answer may come.
const SLACK: Duration = Duration::from_secs(5);

/// A server somewhere else.
#[derive(Debug)]
pub(crate) struct HttpServer {
    client: reqwest::Client,
    base: reqwest::Url,
    token: SecretString,
}

/// Why a server cannot be talked to at all.
#[derive(Debug, Error)]
pub(crate) enum RemoteError {
    /// The token file cannot be read.
    #[error("cannot read the token file `{}`", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token file can be read by others, belongs to somebody else or holds no token.
    #[error("the token file `{}` {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificate authority's file cannot be read.
    #[error("cannot use the `ca_file` `{}`", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The HTTP client cannot be built.
    #[error(
        "cannot set up TLS; the machine's certificates are those of its package `ca-certificates`, others are named by `ca_file`"
    )]
    Tls(#[source] reqwest::Error),
}

impl HttpServer {
    /// Prepares a client for `server`; nothing is sent yet.
    ///
    /// # Errors
    /// Token or certificate cannot be used.
    pub(crate) fn new(server: &RemoteServer) -> Result<(Self, CallerId), RemoteError> {
        let token = read_token(&server.token_file)?;
        // Fails only where a provider was installed before, which serves as well.
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap_or_default();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(concat!("agent-runner/", env!("CARGO_PKG_VERSION")));
        if server.url.scheme() == "http" {
            // No certificate will be asked for, so none of the machine's are read: it may have none.
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = &server.ca_file {
            builder = builder.add_root_certificate(read_authority(path)?);
        }
        let client = builder.build().map_err(RemoteError::Tls)?;
        let caller = CallerId::of_token(token.expose_secret());
        Ok((
            Self {
                client,
                base: server.url.clone(),
                token,
            },
            caller,
        ))
    }

    pub(super) async fn call(&self, call: Call, limit: Duration) -> Result<Reply, Unreachable> {
        let shown = || self.base.to_string();
        let url = self
            .base
            .join(&call.path)
            .map_err(|_| Unreachable::Connect(shown()))?;
        let mut request = match call.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url),
        }
        .bearer_auth(self.token.expose_secret())
        .timeout(limit + SLACK);
        for (name, value) in call.headers() {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let failed = |error: &reqwest::Error| {
            if error.is_timeout() {
                Unreachable::Late(shown())
            } else {
                Unreachable::Connect(shown())
            }
        };
        let mut response = request.send().await.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Unreachable::TooLarge(shown()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }
}

fn read_token(path: &Path) -> Result<SecretString, RemoteError> {
    let unreadable = |source| RemoteError::Token {
        path: path.to_owned(),
        source,
    };
    let unfit = |reason| RemoteError::TokenFile {
        path: path.to_owned(),
        reason,
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(unfit("belongs to somebody else"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(unfit("can be read by others\nhint: chmod 600"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unfit(
            "holds no token; it is what `auto-review-server token create` prints",
        ));
    }
    Ok(token.into())
}

fn read_authority(path: &Path) -> Result<reqwest::Certificate, RemoteError> {
    let read = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        Ok(reqwest::Certificate::from_pem(&std::fs::read(path)?)?)
    };
    read().map_err(|source| RemoteError::Authority {
        path: path.to_owned(),
        source,
    })
}
