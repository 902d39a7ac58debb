//! What the door decided, for the report: [`NetworkLog`] takes its events, [`NetworkReport`] is what is told.
//!
//! Apart because a command can make any number of requests: what is kept is bounded, the same decision is one entry, and
//! what is not kept is counted. Never a URL, a path or a body; hosts are canonical.

use std::sync::{Mutex, PoisonError};

use network_proxy::{Blocked, Decided, Event, Events, Protocol, Source};
use protocol::{MAX_NETWORK_DECISIONS, NetworkDecision};
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
    /// Which run this was, as the door's events name it.
    pub(crate) execution: String,
    /// Each different decision, in the order of first sight.
    pub(crate) decisions: Vec<NetworkEntry>,
    /// How many more decisions there were.
    pub(crate) unlisted: u64,
    /// How many requests were refused.
    pub(crate) refused: u64,
    /// The hosts that were put to a reviewer.
    reviews: Vec<HostReview>,
}

/// One decision, and how often it was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NetworkEntry {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) method: Option<String>,
    /// `allowed`, or the reason why not.
    pub(crate) verdict: &'static str,
    pub(crate) by: Source,
    pub(crate) rule: Option<String>,
    /// What was vetted.
    pub(crate) addresses: Vec<String>,
    pub(crate) times: u64,
    /// Bytes from the command.
    pub(crate) sent: u64,
    /// Bytes to it.
    pub(crate) received: u64,
}

impl NetworkEntry {
    /// Whether the door let it through.
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict == ALLOWED
    }

    fn for_record(&self) -> NetworkDecision {
        NetworkDecision {
            host: self.host.clone(),
            port: self.port,
            protocol: self.protocol.word().to_owned(),
            method: self.method.clone(),
            verdict: self.verdict.to_owned(),
            by: self.by.word().to_owned(),
            rule: self.rule.clone(),
            addresses: self.addresses.clone(),
            times: self.times,
            sent: self.sent,
            received: self.received,
        }
    }
}

impl NetworkReport {
    /// The decisions for the record: the first of them, and how many more there were.
    pub(crate) fn for_record(&self) -> (Vec<NetworkDecision>, u64) {
        let kept = self.decisions.iter().take(MAX_NETWORK_DECISIONS);
        let kept: Vec<_> = kept.map(NetworkEntry::for_record).collect();
        let more = self.decisions.len().saturating_sub(kept.len());
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        (kept, self.unlisted.saturating_add(more))
    }
}

impl NetworkLog {
    /// What was kept.
    pub(super) fn report(
        &self,
        execution: String,
        blocked: &Blocked,
        reviews: Vec<HostReview>,
    ) -> NetworkReport {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        NetworkReport {
            execution,
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use network_proxy::{
        Blocked, Decided, Destination, Event, Events as _, Host, Protocol, Source,
    };

    use protocol::MAX_NETWORK_DECISIONS;

    use super::{MOST_ENTRIES, NetworkLog};

    fn decided(host: &str, addresses: usize) -> Event {
        let address = |at: usize| IpAddr::from([198, 41, 0, u8::try_from(at).unwrap_or(0)]);
        Event::Decided(Decided {
            execution: Arc::from("e"),
            protocol: Protocol::HttpsConnect,
            to: Some(Destination {
                host: Host::parse(host.as_bytes()).expect("a host"),
                port: 443,
            }),
            method: None,
            verdict: Ok(()),
            source: Source::Policy,
            rule: None,
            addresses: (0..addresses).map(address).collect(),
        })
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_kept_is_counted() {
        let log = NetworkLog::default();
        for number in 0..MOST_ENTRIES + 10 {
            log.record(decided(&format!("host-{number}.test"), 50));
        }
        log.record(decided("host-0.test", 1));
        let report = log.report("e".to_owned(), &Blocked::default(), Vec::new());
        assert_eq!(
            (report.decisions.len(), report.unlisted),
            (MOST_ENTRIES, 10)
        );
        let first = report.decisions.first().expect("one");
        assert_eq!((first.times, first.addresses.len()), (2, 8));
        let (recorded, more) = report.for_record();
        assert_eq!(recorded.len(), MAX_NETWORK_DECISIONS);
        let all = u64::try_from(recorded.len()).expect("few") + more;
        assert_eq!(all, u64::try_from(MOST_ENTRIES + 10).expect("few"));
        let bytes = serde_json::to_vec(&recorded).expect("JSON").len();
        assert!(bytes < 64 * 1024, "{bytes}");
    }
}
