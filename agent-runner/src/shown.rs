//! What others see of what stays here: every text that leaves the machine passes through [`Shown`], which masks secrets.
//!
//! The one place where the key meets `protocol::mask`. Invariant (P9, design D20): a text is masked once, on its way out;
//! what runs is never what was masked.

use protocol::{EnvValue, Sha256Hex, TextKind, Transcript};

use crate::state::MaskKey;

/// Shows texts with their secrets masked.
#[derive(Debug, Clone)]
pub(crate) struct Shown(MaskKey);

impl Shown {
    /// Masks under `key`, so that equal secrets have equal marks as long as this state folder lives.
    pub(crate) fn by(key: MaskKey) -> Self {
        Self(key)
    }

    /// A text that something may obey.
    pub(crate) fn code(&self, text: &str) -> String {
        protocol::mask(text, TextKind::Code, &|secret| self.hash(secret))
    }

    /// A text that somebody reads.
    pub(crate) fn prose(&self, text: &str) -> String {
        protocol::mask(text, TextKind::Prose, &|secret| self.hash(secret))
    }

    /// The words of a command.
    pub(crate) fn words(&self, words: &[String]) -> Vec<String> {
        protocol::mask_words(words, &|secret| self.hash(secret))
    }

    /// The value of a variable, by a name that speaks of no secret.
    pub(crate) fn variable(&self, value: &str) -> EnvValue {
        EnvValue::Value(self.code(value))
    }

    /// A conversation.
    pub(crate) fn transcript(&self, transcript: &Transcript) -> Transcript {
        let mut shown = transcript.clone();
        for entry in &mut shown.entries {
            entry.text = self.prose(&entry.text);
        }
        shown
    }

    /// Every string of a JSON value, but not the names of its fields.
    pub(crate) fn json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.code(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            serde_json::Value::Object(fields) => {
                fields.values_mut().for_each(|item| self.json(item));
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
            }
        }
    }

    fn hash(&self, secret: &[u8]) -> Sha256Hex {
        self.0.hash(secret)
    }
}
