//! What a command's network was, as its runner's door decided it: told once, for the record.
//!
//! Apart from `audit.rs`, because here nothing was reviewed, or something else was. Never a URL, a path or a body; hosts
//! are canonical. Invariant: [`ReportNetwork::check`] has passed on whatever is recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::ActionDigest;
use crate::api::SessionReference;
use crate::review::ReviewId;

/// How many decisions one report has at most.
pub const MAX_NETWORK_DECISIONS: usize = 64;
/// How many bytes one report has at most, as JSON: more than a command's network comes to, and little for a line of a
/// record.
pub const MAX_NETWORK_REPORT: usize = 32 << 10;
/// How many addresses one decision has at most.
const MAX_ADDRESSES: usize = 8;
/// The longest text, in bytes: a host name has 253 (RFC 1035, 2.3.4), and a rule names one.
const MAX_TEXT: usize = 320;

/// `POST /v1/network-reports`: what the door decided while one command ran. Told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReportNetwork {
    /// Which run it was, as its runner names it: no two of one caller have the same.
    pub execution: String,
    /// What ran.
    pub action_digest: ActionDigest,
    /// The last part of the command's first word: at most 320 bytes.
    pub program: String,
    /// In which conversation.
    pub session: SessionReference,
    /// The review that allowed the command, where one did.
    #[serde(default)]
    pub review_id: Option<ReviewId>,
    /// The decisions, each different one once; at most 64.
    pub decisions: Vec<NetworkDecision>,
    /// How many more decisions there were.
    pub unlisted: u64,
    /// How many requests were refused.
    pub refused: u64,
}

/// One decision of the door, and how often it was made. Texts have at most 320 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkDecision {
    /// Where to, where that could be read.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// How it was asked for: `http`, `https_connect`, `socks5_tcp` and the like.
    pub protocol: String,
    /// The method, where one could be seen.
    pub method: Option<String>,
    /// `allowed`, or the reason why not.
    pub verdict: String,
    /// Who said so: `policy`, or `gate` for the reviewer or person behind it.
    pub by: String,
    /// The rule, where one did.
    pub rule: Option<String>,
    /// The addresses that were vetted: at most 8.
    pub addresses: Vec<String>,
    /// How often.
    pub times: u64,
    /// Bytes from the command.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
}

/// Why a report cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidNetworkReport {
    /// Too many decisions.
    #[error("a report has at most {MAX_NETWORK_DECISIONS} decisions")]
    Decisions,
    /// Too many addresses.
    #[error("a decision has at most {MAX_ADDRESSES} addresses")]
    Addresses,
    /// A text is too long, or holds what no name has.
    #[error("a text has at most {MAX_TEXT} bytes, and no control characters")]
    Text,
    /// All of it is too long.
    #[error("a report has at most {MAX_NETWORK_REPORT} bytes")]
    Size,
}

impl ReportNetwork {
    /// Holds it to its bounds.
    ///
    /// # Errors
    /// One is passed.
    pub fn check(&self) -> Result<(), InvalidNetworkReport> {
        if self.decisions.len() > MAX_NETWORK_DECISIONS {
            return Err(InvalidNetworkReport::Decisions);
        }
        let session = &self.session;
        let ids = [
            &session.session_id,
            &session.turn_id,
            &session.item_id,
            &session.parent_session_id,
        ];
        let named = ids.into_iter().flatten().map(String::as_str);
        if named
            .chain([self.program.as_str(), self.execution.as_str()])
            .any(is_no_name)
        {
            return Err(InvalidNetworkReport::Text);
        }
        self.decisions.iter().try_for_each(NetworkDecision::check)?;
        if self.size() > MAX_NETWORK_REPORT {
            return Err(InvalidNetworkReport::Size);
        }
        Ok(())
    }

    /// The same with as many of its decisions as fit; the others are counted.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        self.program
            .truncate(self.program.floor_char_boundary(MAX_TEXT));
        while self.decisions.len() > MAX_NETWORK_DECISIONS || self.size() > MAX_NETWORK_REPORT {
            if self.decisions.pop().is_none() {
                break;
            }
            self.unlisted = self.unlisted.saturating_add(1);
        }
        self
    }

    /// How many bytes it has as JSON.
    fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |text| text.len())
    }
}

impl NetworkDecision {
    fn check(&self) -> Result<(), InvalidNetworkReport> {
        if self.addresses.len() > MAX_ADDRESSES {
            return Err(InvalidNetworkReport::Addresses);
        }
        let optional = [&self.host, &self.method, &self.rule].into_iter().flatten();
        let texts = [&self.protocol, &self.verdict, &self.by].into_iter();
        let mut all = texts.chain(optional).chain(&self.addresses);
        if all.any(|text| is_no_name(text)) {
            return Err(InvalidNetworkReport::Text);
        }
        Ok(())
    }
}

fn is_no_name(text: &str) -> bool {
    text.len() > MAX_TEXT || text.chars().any(char::is_control)
}

/// `GET /v1/network-reports`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkReports {
    /// The reports.
    pub reports: Vec<RecordedNetwork>,
    /// `before` of the next page, where there may be one.
    pub next: Option<i64>,
}

/// A report on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordedNetwork {
    /// Its number in the tenant's chain.
    pub seq: i64,
    /// When it came in.
    pub at: Timestamp,
    /// Who told it.
    pub caller: String,
    /// What was told.
    pub report: ReportNetwork,
}
