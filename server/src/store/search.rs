//! What admins look reviews up by: facets with exact values, words, times.
//!
//! Apart and pure, because query, index and every back end must agree on it. Invariant: whatever a value holds, it is
//! compared by its hash or as quoted words; nothing of it is ever read as search syntax.

use jiff::Timestamp;
use protocol::{Canonical, ReviewId, ReviewStatus};

/// Something that a review has one value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Facet {
    Tenant,
    Caller,
    Status,
    Risk,
    Authorization,
    DecidedBy,
    Tool,
    Program,
    User,
    Host,
    Session,
    Policy,
    Rule,
    FailedStep,
}

impl Facet {
    /// `text` as it stands in the record, however it is spelled: `Denied`, `timed-out`.
    ///
    /// # Errors
    /// It is none of the values that there are, which come back.
    pub(crate) fn value(self, text: &str) -> Result<String, Vec<&'static str>> {
        let values: Vec<&'static str> = match self {
            Self::Status => ReviewStatus::ALL.map(ReviewStatus::as_str).to_vec(),
            Self::Risk => vec!["low", "medium", "high", "critical"],
            Self::Authorization => vec!["unknown", "low", "medium", "high"],
            Self::DecidedBy => vec!["built_in", "model", "rule", "person", "none"],
            Self::Tenant
            | Self::Caller
            | Self::Tool
            | Self::Program
            | Self::User
            | Self::Host
            | Self::Session
            | Self::Policy
            | Self::Rule
            | Self::FailedStep => return Ok(text.to_owned()),
        };
        let spelled = text.to_lowercase().replace('-', "_");
        if values.contains(&spelled.as_str()) {
            Ok(spelled)
        } else {
            Err(values)
        }
    }

    /// Every facet that a caller may ask for, by its name in the query.
    pub(crate) const ASKED: [(Self, &'static str); 13] = [
        (Self::Caller, "caller"),
        (Self::Status, "status"),
        (Self::Risk, "risk"),
        (Self::Authorization, "authorization"),
        (Self::DecidedBy, "decided_by"),
        (Self::Tool, "tool"),
        (Self::Program, "program"),
        (Self::User, "user"),
        (Self::Host, "host"),
        (Self::Session, "session"),
        (Self::Policy, "policy"),
        (Self::Rule, "rule"),
        (Self::FailedStep, "failed_step"),
    ];

    fn tag(self) -> &'static str {
        let asked = Self::ASKED.into_iter().find(|(facet, _)| *facet == self);
        asked.map_or("tenant", |(_, name)| name)
    }

    /// The word that stands for `value` in the index: 16 hex digits of a hash.
    pub(crate) fn word(self, value: &str) -> String {
        let mut bytes = Canonical::new("auto-review facet v1");
        bytes.text(self.tag()).text(value);
        let hash = bytes.sha256();
        let head = hash.iter().take(8);
        head.fold(String::with_capacity(17), |mut word, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            write!(word, "{byte:02x}").unwrap_or_default();
            word
        })
    }
}

/// Which reviews are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Search {
    pub(crate) facets: Vec<(Facet, String)>,
    /// Words that must all stand in it.
    pub(crate) text: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) before: Option<ReviewId>,
    pub(crate) limit: u32,
}

impl Search {
    /// The status that is asked for, where one is.
    pub(crate) fn status(&self) -> Option<&str> {
        let status = self.facets.iter().find(|(it, _)| *it == Facet::Status);
        status.map(|(_, value)| value.as_str())
    }

    /// The question to the full-text index: each facet a word, each word of the text quoted.
    pub(crate) fn matching(&self, facets: &[(Facet, &str)]) -> String {
        let asked = self.facets.iter().map(|(facet, value)| facet.word(value));
        let given = facets.iter().map(|(facet, value)| facet.word(value));
        // What is asked for is rarer than what is given, and the rarest leads.
        let mut parts: Vec<_> = asked
            .chain(given)
            .map(|word| format!("facets : \"{word}\""))
            .collect();
        let text = self.text.as_deref().unwrap_or_default();
        for word in text.split_whitespace() {
            let quoted = word.replace('"', "\"\"").replace('\0', "");
            parts.insert(0, format!("text : \"{quoted}\""));
        }
        parts.join(" AND ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Facet, Search};

    #[test]
    fn a_value_is_one_word_and_two_facets_never_share_one() {
        let user = Facet::User.word("ana OR *");
        assert!(user.len() == 16 && user.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(user, Facet::Host.word("ana OR *"));
        assert_ne!(user, Facet::User.word("ana"));
    }

    #[test]
    fn words_are_quoted_whatever_they_hold() {
        let search = Search {
            facets: vec![(Facet::Status, "denied".to_owned())],
            text: Some("git \"push\" NEAR(x) a*".to_owned()),
            ..Search::default()
        };
        let text = search
            .matching(&[])
            .replace(&Facet::Status.word("denied"), "S");
        assert_eq!(
            text,
            r#"text : "a*" AND text : "NEAR(x)" AND text : """push""" AND text : "git" AND facets : "S""#
        );
    }
}
