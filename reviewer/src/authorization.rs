//! What the user had said when an action was judged, as one value to compare.
//!
//! Apart, because an approval holds for the words that it was given under. Invariant: another trusted word, one more or
//! one less, is another version; evidence does not change it.

use protocol::{Canonical, Transcript, Trust};

/// Names everything trusted that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorizationVersion([u8; 32]);

impl AuthorizationVersion {
    /// The version of a transcript.
    #[must_use]
    pub fn of(transcript: &Transcript) -> Self {
        let trusted: Vec<_> = transcript
            .entries
            .iter()
            .filter(|entry| entry.trust == Trust::Trusted)
            .collect();
        let mut bytes = Canonical::new("auto-review authorization v1");
        bytes.list(&trusted, |out, entry| {
            out.number(entry.n)
                .text(entry.author.as_str())
                .text(&entry.text);
        });
        Self(bytes.sha256())
    }

    /// The bytes that name it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use protocol::Transcript;
    use serde_json::{Value, json};

    use super::AuthorizationVersion;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "called with a literal everywhere"
    )]
    fn version(entries: Value) -> AuthorizationVersion {
        let transcript: Transcript =
            serde_json::from_value(json!({ "complete": true, "entries": entries }))
                .expect("a transcript");
        AuthorizationVersion::of(&transcript)
    }

    #[test]
    fn trusted_words_make_the_version_and_evidence_does_not() {
        let said = json!({ "n": 1, "author": "user", "trust": "trusted", "text": "push it" });
        let more = json!({ "n": 2, "author": "user", "trust": "trusted", "text": "wait" });
        let evidence =
            json!({ "n": 3, "author": "tool_output", "trust": "untrusted", "text": "ok" });
        assert_eq!(version(json!([said])), version(json!([said, evidence])));
        assert_ne!(version(json!([said])), version(json!([said, more])));
        assert_ne!(version(json!([said])), version(json!([])));
    }
}
