//! A recorder between runner and server: what passed can be looked at, played again, cut off.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{Answer, Loopback, Reply, Request, call};

/// What passed, in order.
pub type Taps = Arc<Mutex<Vec<(Request, Reply)>>>;

/// A recorder in front of a server.
#[derive(Debug)]
pub struct Proxy {
    loopback: Loopback,
    taps: Taps,
}

impl Proxy {
    /// Passes everything on to `upstream` and remembers it.
    #[must_use]
    pub fn recording(upstream: SocketAddr) -> Self {
        Self::with(upstream, |_, reply| Answer::Reply(reply))
    }

    /// Passes requests on to `upstream`; `change` makes of each reply what the caller gets.
    pub fn with(
        upstream: SocketAddr,
        change: impl Fn(&Request, Reply) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let taps = Taps::default();
        let taken = Arc::clone(&taps);
        let loopback = Loopback::start(move |request| {
            let Ok(reply) = call(upstream, &request) else {
                return Answer::Close;
            };
            taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((request.clone(), reply.clone()));
            change(&request, reply)
        });
        Self { loopback, taps }
    }

    /// What passed so far.
    #[must_use]
    pub fn taps(&self) -> Vec<(Request, Reply)> {
        self.taps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> String {
        self.loopback.url()
    }
}
