//! What the door decided, for the report: [`NetworkLog`] takes its events, [`NetworkReport`] is what is told.
//!
//! Apart because a command can make any number of requests: what is kept is bounded, the same decision is one entry, and
//! what is not kept is counted. Never a URL, a path or a body; hosts are canonical.

use std::sync::{Mutex, PoisonError};

use network_proxy::{Blocked, Decided, Event, Events, Protocol, Source};
use serde::Serialize;

use super::HostReview;

/// How many different decisions are kept.
const MOST_ENTRIES: usize = 256;
/// How many addresses of one are.
const MOST_ADDRESSES: usize = 8;

/// Takes the door's events.
#[derive(Debug, Default)]
pub(crate) struct NetworkLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<NetworkEntry>,
    unlisted: u64,
}

/// What the door decided while a command ran.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NetworkReport {
    /// Each different decision, in the order of first sight.
    decisions: Vec<NetworkEntry>,
    /// How many more decisions there were.
    unlisted: u64,
    /// How many requests were refused.
    refused: u64,
    /// The hosts that were put to a reviewer.
    reviews: Vec<HostReview>,
}

/// One decision, and how often it was made.
#[derive(Debug, Clone, Serialize)]
struct NetworkEntry {
    host: Option<String>,
    port: Option<u16>,
    protocol: Protocol,
    method: Option<String>,
    /// `allowed`, or the reason why not.
    verdict: &'static str,
    by: Source,
    rule: Option<String>,
    /// What was vetted.
    addresses: Vec<String>,
    times: u64,
    /// Bytes from the command.
    sent: u64,
    /// Bytes to it.
    received: u64,
}

impl NetworkLog {
    /// What was kept.
    pub(super) fn report(&self, blocked: &Blocked, reviews: Vec<HostReview>) -> NetworkReport {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        NetworkReport {
            decisions: kept.entries.clone(),
            unlisted: kept.unlisted,
            refused: blocked.total,
            reviews,
        }
    }
}

impl Events for NetworkLog {
    fn record(&self, event: Event) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Decided(decided) => kept.decided(decided),
            Event::Closed {
                protocol,
                to,
                sent,
                received,
                ..
            } => {
                let (host, port) = (to.host.to_string(), to.port);
                let same = |entry: &&mut NetworkEntry| {
                    entry.protocol == protocol
                        && entry.verdict == ALLOWED
                        && entry.port == Some(port)
                        && entry.host.as_deref() == Some(&host)
                };
                if let Some(entry) = kept.entries.iter_mut().find(same) {
                    entry.sent = entry.sent.saturating_add(sent);
                    entry.received = entry.received.saturating_add(received);
                }
            }
        }
    }
}

const ALLOWED: &str = "allowed";

impl Kept {
    fn decided(&mut self, decided: Decided) {
        let verdict = match decided.verdict {
            Ok(()) => ALLOWED,
            Err(reason) => reason.code(),
        };
        let entry = NetworkEntry {
            host: decided.to.as_ref().map(|to| to.host.to_string()),
            port: decided.to.as_ref().map(|to| to.port),
            protocol: decided.protocol,
            method: decided.method.map(|method| method.as_str().to_owned()),
            verdict,
            by: decided.source,
            rule: decided.rule,
            addresses: decided
                .addresses
                .iter()
                .take(MOST_ADDRESSES)
                .map(ToString::to_string)
                .collect(),
            times: 1,
            sent: 0,
            received: 0,
        };
        let has_room = self.entries.len() < MOST_ENTRIES;
        let same = self.entries.iter_mut().find(|known| {
            known.verdict == entry.verdict
                && known.protocol == entry.protocol
                && known.host == entry.host
                && known.port == entry.port
                && known.method == entry.method
        });
        match same {
            Some(known) => known.times += 1,
            None if has_room => self.entries.push(entry),
            None => self.unlisted += 1,
        }
    }
}
