//! How questions about hosts and their answers are said: the protocol's name in actions, a denial in words. Pure.
//!
//! Apart because neither asks anybody.

use network_proxy::Protocol;
use protocol::{Denial, NetworkProtocol, Printable};

/// How much of a reviewer's words reaches whoever asked, in characters.
const MOST_WORDS: usize = 300;

/// What whoever asked is told.
pub(super) fn words(denial: &Denial) -> String {
    let text = match denial {
        Denial::Judged(judgement) => judgement.assessment.rationale.as_str().to_owned(),
        Denial::ByRule(rule) => format!("rule {}", rule.as_str()),
        Denial::ByPerson(reason) if reason.is_empty() => "a person said no".to_owned(),
        Denial::ByPerson(reason) => reason.clone(),
    };
    let text: String = text.chars().take(MOST_WORDS).collect();
    Printable(&text).to_string()
}

/// The protocol's name in actions. What a program that knows of no proxy speaks is told by its port alone.
pub(super) fn protocol(protocol: Protocol, port: u16) -> NetworkProtocol {
    match (protocol, port) {
        (Protocol::Http | Protocol::Unix, _) | (Protocol::Transparent, 80) => NetworkProtocol::Http,
        (Protocol::HttpsConnect | Protocol::Intercepted, _) | (Protocol::Transparent, 443) => {
            NetworkProtocol::Https
        }
        (Protocol::Socks5Tcp | Protocol::Transparent, _) => NetworkProtocol::Socks5Tcp,
        (Protocol::Socks5Udp, _) => NetworkProtocol::Socks5Udp,
    }
}
