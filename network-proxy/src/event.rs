//! What happened at the door: [`Event`], for the record and for telemetry, and the execution's [`Blocked`] hosts.
//!
//! Apart because one place makes the line that everybody reads. Never a URL, a path, a query, a field or a body.
//! INVARIANT: one `Decided` for every request, allowed or not.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::head::Method;
use crate::host::Destination;
use crate::refusal::{Reason, Refusal};

/// How many blocked requests are kept one by one.
const MOST_BLOCKED: usize = 256;

/// The dialect of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// HTTP CONNECT.
    HttpsConnect,
    /// SOCKS5 CONNECT.
    Socks5Tcp,
    /// SOCKS5 UDP.
    Socks5Udp,
    /// A connection of a program that knows of no proxy.
    Transparent,
    /// A request inside a tunnel that is looked into.
    Intercepted,
    /// HTTP to a Unix socket.
    Unix,
}

impl Protocol {
    /// The word in events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpsConnect => "https_connect",
            Self::Socks5Tcp => "socks5_tcp",
            Self::Socks5Udp => "socks5_udp",
            Self::Transparent => "transparent",
            Self::Intercepted => "intercepted",
            Self::Unix => "unix",
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The policy.
    Policy,
    /// The reviewer or the person behind the gate.
    Gate,
}

impl Source {
    /// The word in events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Gate => "gate",
        }
    }
}

/// What was decided about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The execution.
    pub execution: Arc<str>,
    /// The dialect.
    pub protocol: Protocol,
    /// Where to, where that could be read.
    pub to: Option<Destination>,
    /// The method, where one can be seen.
    pub method: Option<Method>,
    /// Allowed, or why not.
    pub verdict: Result<(), Reason>,
    /// Who said so.
    pub source: Source,
    /// The rule, as it is written.
    pub rule: Option<String>,
    /// The addresses that were vetted.
    pub addresses: Vec<IpAddr>,
}

/// Something to put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A decision.
    Decided(Decided),
    /// The end of an allowed connection or request.
    Closed {
        /// The execution.
        execution: Arc<str>,
        /// The dialect.
        protocol: Protocol,
        /// Where to.
        to: Destination,
        /// Bytes from the command.
        sent: u64,
        /// Bytes to the command.
        received: u64,
        /// Why it did not come off, or was cut, where it was.
        failure: Option<Reason>,
    },
}

/// Takes events. Called from the door's tasks: it must not block.
pub trait Events: fmt::Debug + Send + Sync + 'static {
    /// Takes one.
    fn record(&self, event: Event);
}

/// Keeps no events.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl Events for NoEvents {
    fn record(&self, _event: Event) {}
}

/// The blocked requests of an execution: the last of them, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocked {
    /// All of them, those that are no longer kept too.
    pub total: u64,
    /// Each destination and reason once, with how often it is among the last 256, in the order of first sight.
    pub hosts: Vec<(Refusal, u64)>,
}

impl Blocked {
    /// Lines for the end of a command: what was blocked, why, and what would help.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.hosts.len());
        for (refusal, times) in &self.hosts {
            let times = if *times > 1 {
                format!(" ({times} times)")
            } else {
                String::new()
            };
            lines.push(format!("{}{times}", refusal.message()));
            lines.extend(refusal.hint().map(|hint| format!("hint: {hint}")));
        }
        lines
    }
}

/// The ring behind [`Blocked`].
#[derive(Debug, Default)]
pub(crate) struct BlockedRing(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    total: u64,
    last: VecDeque<Refusal>,
}

impl BlockedRing {
    pub(crate) fn push(&self, refusal: &Refusal) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.total += 1;
        if ring.last.len() == MOST_BLOCKED {
            let _oldest = ring.last.pop_front();
        }
        ring.last.push_back(refusal.clone());
    }

    pub(crate) fn summary(&self) -> Blocked {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts: Vec<(Refusal, u64)> = Vec::new();
        for refusal in &ring.last {
            match hosts
                .iter_mut()
                .find(|(known, _)| known.reason == refusal.reason && known.to == refusal.to)
            {
                Some((_, times)) => *times += 1,
                None => hosts.push((refusal.clone(), 1)),
            }
        }
        Blocked {
            total: ring.total,
            hosts,
        }
    }
}
