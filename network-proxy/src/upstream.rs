//! The proxy behind this one: [`UpstreamProxy`], from the runner's environment.
//!
//! Apart because its credentials are ours and never the client's. Pure but for nothing: connecting is `dial`'s.
//! INVARIANT: names are vetted here first, also where the upstream will look them up again; local places never go upstream.

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::host::{Destination, InvalidHost};

/// An upstream HTTP proxy.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamProxy {
    pub(crate) at: Destination,
    credentials: Option<SecretString>,
}

/// Why a URL names no upstream proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstream {
    /// Only plain HTTP proxies are spoken to.
    #[error(
        "an upstream proxy is an `http://` URL\nhint: set allow_upstream_proxy = false to go without"
    )]
    Scheme,
    /// The host or port.
    #[error("the URL names no host")]
    Host(#[source] InvalidHost),
}

impl UpstreamProxy {
    /// Reads `http://[user:password@]host[:port]`; the port is 80 where none is written.
    pub(crate) fn parse(url: &SecretString) -> Result<Self, InvalidUpstream> {
        let url = url.expose_secret().trim();
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(InvalidUpstream::Scheme),
            None => url,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let at = Destination::parse(host, Some(80)).map_err(InvalidUpstream::Host)?;
        let credentials = credentials.map(|text| {
            let plain = percent_decoded(text);
            SecretString::from(base64::engine::general_purpose::STANDARD.encode(plain))
        });
        Ok(Self { at, credentials })
    }

    /// The line that shows our credentials, with its end; empty where there are none.
    pub(crate) fn authorization_line(&self) -> String {
        self.credentials
            .as_ref()
            .map_or_else(String::new, |credentials| {
                format!(
                    "Proxy-Authorization: Basic {}\r\n",
                    credentials.expose_secret()
                )
            })
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code
            .and_then(|code| u8::from_str_radix(code, 16).ok())
            .filter(|_| *first == b'%')
        {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_once_and_never_shown() {
        let upstream =
            UpstreamProxy::parse(&"http://ana:p%40ss@proxy.test:3128/".into()).expect("a proxy");
        assert_eq!(upstream.at.to_string(), "proxy.test:3128");
        assert_eq!(
            upstream.authorization_line(),
            "Proxy-Authorization: Basic YW5hOnBAc3M=\r\n"
        );
        assert!(!format!("{upstream:?}").contains("YW5h"));
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in ["https://proxy.test:3128", "socks5://proxy.test:1080"] {
            assert_eq!(
                UpstreamProxy::parse(&url.into()).err(),
                Some(InvalidUpstream::Scheme)
            );
        }
        assert!(UpstreamProxy::parse(&"http://pro xy:1".into()).is_err());
    }
}
