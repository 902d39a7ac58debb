//! Where a webhook may go: a URL is read, its host resolved, and every address it has is looked at.
//!
//! Apart, because an admin of one tenant writes the URL and the server's own network answers it: without these rules a
//! webhook asks whatever the server can reach and a stranger cannot. Invariants: what is dialled is an address that was
//! looked at here, never a name that is resolved again; an address that is not public is refused unless the settings
//! name its host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use thiserror::Error;

/// The longest URL, in bytes.
const MAX_URL: usize = 2_048;

/// Why nothing is sent to a URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// It is no URL of this kind.
    #[error("the URL must be `https`, without user and fragment, and have at most {MAX_URL} bytes")]
    Form,
    /// It has no public address.
    #[error("the host has an address that is not public")]
    NotPublic,
    /// The name has no address.
    #[error("the host's name has no address")]
    Unknown,
}

/// Reads a URL. Hosts in `allowed` may be plain `http`.
pub(crate) fn parse(text: &str, allowed: &BTreeSet<String>) -> Result<Url, Refused> {
    let url = Url::parse(text).map_err(|_| Refused::Form)?;
    let host = url.host_str().ok_or(Refused::Form)?;
    let scheme = match url.scheme() {
        "https" => true,
        "http" => allowed.contains(host),
        _ => false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !scheme || !plain || text.len() > MAX_URL {
        return Err(Refused::Form);
    }
    match literal(&url) {
        Some(address) if !allowed.contains(host) && !is_public(address) => Err(Refused::NotPublic),
        Some(_) | None => Ok(url),
    }
}

/// The addresses of the URL's host, all of which may be dialled.
pub(crate) async fn resolve(
    url: &Url,
    allowed: &BTreeSet<String>,
) -> Result<Vec<SocketAddr>, Refused> {
    let host = url.host_str().ok_or(Refused::Form)?;
    let port = url.port_or_known_default().ok_or(Refused::Form)?;
    let addresses: Vec<_> = match literal(url) {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => {
            let found = tokio::net::lookup_host((host, port)).await;
            found.map_err(|_| Refused::Unknown)?.collect()
        }
    };
    if addresses.is_empty() {
        return Err(Refused::Unknown);
    }
    // One that is not public refuses them all: a name that has both is somebody's trick.
    let fine = allowed.contains(host) || addresses.iter().all(|it| is_public(it.ip()));
    if fine {
        Ok(addresses)
    } else {
        Err(Refused::NotPublic)
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// Whether an address is one of the open internet (IANA special-purpose address registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared between a provider and its customers (RFC 6598), protocol assignments, benchmarks (RFC 2544),
        // relays of 6to4 (RFC 7526).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Only what is handed out (2000::/3) is public at all, so no 64:ff9b::/96; of that, not what stands for an IPv4 address (6to4, Teredo),
    // documentation (RFC 3849, RFC 9637), benchmarks, and the other protocol assignments of 2001::/23.
    let global = (a & 0xe000) == 0x2000;
    let special = a == 0x2002
        || (a == 0x2001 && b < 0x0200)
        || (a == 0x2001 && b == 0x0db8)
        || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Refused, is_public, parse, resolve};

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for inside in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
    }

    #[test]
    fn a_url_is_https_and_names_a_host_alone() {
        let none = BTreeSet::new();
        let named = BTreeSet::from(["127.0.0.1".to_owned(), "inside.example".to_owned()]);
        assert!(parse("https://hooks.example/a?b=c", &none).is_ok());
        for text in [
            "http://hooks.example/",
            "https://u:p@hooks.example/",
            "https://u@hooks.example/",
            "file:///etc/passwd",
            "https://hooks.example/#x",
            "gopher://hooks.example/",
            "https://",
            "hooks.example",
            "",
        ] {
            assert_eq!(parse(text, &none), Err(Refused::Form), "{text}");
        }
        // However a number is spelled, it is read before it is judged.
        for text in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest",
            "https://0/",
        ] {
            assert_eq!(parse(text, &none), Err(Refused::NotPublic), "{text}");
        }
        for text in [
            "http://127.0.0.1:9/",
            "https://127.0.0.1/",
            "http://inside.example/",
        ] {
            assert!(parse(text, &named).is_ok(), "{text}");
        }
        assert!(parse("http://127.0.0.2/", &named).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_it_is_resolved() {
        let none = BTreeSet::new();
        let url = parse("https://localhost/", &none).expect("a name is no address yet");
        assert_eq!(resolve(&url, &none).await, Err(Refused::NotPublic));
        let named = BTreeSet::from(["localhost".to_owned()]);
        let found = resolve(&url, &named).await.expect("addresses");
        assert!(
            found
                .iter()
                .all(|it| it.ip().is_loopback() && it.port() == 443)
        );
    }
}
