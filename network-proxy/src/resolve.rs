//! Names to addresses: the port [`Resolver`], and the system's ([`SystemResolver`]).
//!
//! Apart because tests answer for themselves, and because a lookup is an effect that outsiders can see.
//! INVARIANT: a lookup is of the absolute name, so that no search list makes another of it. The caller sets the deadline.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::host::HostName;

/// How many lookups may be under way: each holds a thread, and a dead name server holds it for long.
const LOOKUPS: usize = 32;
/// The most of the hosts file that is read, in bytes.
const MOST_HOSTS_FILE: usize = 1024 * 1024;

/// Looks names up.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// All addresses of a name. The order is the order in which they are tried.
    fn resolve<'a>(
        &'a self,
        name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is none.
    #[error("the name has no address")]
    NoAddress,
    /// Nobody could say.
    #[error("the lookup failed")]
    Failed(#[source] std::io::Error),
}

/// The machine's own way: its hosts file, then `getaddrinfo`.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(
        &'a self,
        name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let permit = Arc::clone(&self.lookups)
                .acquire_owned()
                .await
                .map_err(|_| ResolveError::NoAddress)?;
            let name = name.clone();
            let lookup = tokio::task::spawn_blocking(move || {
                // The thread keeps the permit: a deadline frees the caller, not the thread.
                let _permit = permit;
                look_up(&name)
            });
            lookup.await.map_err(|_| ResolveError::NoAddress)?
        })
    }
}

fn look_up(name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
    // The C library does not find absolute names in the hosts file, so it is read here first, as `nsswitch` does by default.
    let hosts = std::fs::read("/etc/hosts").unwrap_or_default();
    let listed = in_hosts_file(
        hosts
            .get(..MOST_HOSTS_FILE.min(hosts.len()))
            .unwrap_or_default(),
        name,
    );
    if !listed.is_empty() {
        return Ok(listed);
    }
    let found = (name.absolute().as_str(), 0)
        .to_socket_addrs()
        .map_err(ResolveError::Failed)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        Err(ResolveError::NoAddress)
    } else {
        Ok(addresses)
    }
}

fn in_hosts_file(text: &[u8], name: &HostName) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        let names = |word: &str| {
            word.trim_end_matches('.')
                .eq_ignore_ascii_case(name.as_str())
        };
        if words.any(names) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn the_hosts_file_is_read_by_whole_names() {
        let text = b"127.0.0.1 localhost\n# 9.9.9.9 app.test\n10.0.0.5\tApp.Test. other # note\n::1 app.test\nbroken app.test\n";
        let Ok(Host::Name(name)) = Host::parse(b"app.test") else {
            panic!("a name")
        };
        let addresses: Vec<_> = in_hosts_file(text, &name)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["10.0.0.5", "::1"]);
    }
}
