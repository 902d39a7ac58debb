//! Typed, length-prefixed, domain-separated bytes: the one way a value becomes something to hash or sign (design D20).
//!
//! Apart, so that digest and signature cannot drift. Invariant: two different values never give the same
//! bytes, because every field carries its tag and its length.

use sha2::{Digest as _, Sha256};

/// A byte string under construction, opened by a domain that says what kind of value follows.
#[derive(Debug, Clone)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts a value of the kind `domain`, for example `auto-review action v1`.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let mut canonical = Self(Vec::with_capacity(512));
        canonical.field(b'D', domain.as_bytes());
        canonical
    }

    /// Adds a byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.field(b'B', value)
    }

    /// Adds a text.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.field(b'T', value.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.field(b'N', &value.to_be_bytes())
    }

    /// Adds a text that may be missing; missing and empty differ.
    pub fn optional(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(text) => self.text(text),
            None => self.field(b'0', &[]),
        }
    }

    /// Adds a list: its length, then each item by `add`.
    pub fn list<T>(&mut self, items: &[T], mut add: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.field(b'L', &(items.len() as u64).to_be_bytes());
        for item in items {
            add(self, item);
        }
        self
    }

    /// The bytes, for a signature.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The SHA-256 (FIPS 180-4) of the bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    fn field(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        self.0.push(tag);
        self.0
            .extend_from_slice(&(value.len() as u64).to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Canonical;
    use proptest::prelude::*;

    fn listed(items: &[String]) -> Vec<u8> {
        let mut canonical = Canonical::new("test");
        canonical.list(items, |out, item| {
            out.text(item);
        });
        canonical.as_bytes().to_vec()
    }

    #[test]
    fn missing_and_empty_differ() {
        let mut missing = Canonical::new("test");
        missing.optional(None);
        let mut empty = Canonical::new("test");
        empty.optional(Some(""));
        assert_ne!(missing.as_bytes(), empty.as_bytes());
    }

    proptest! {
        #[test]
        fn two_lists_have_the_same_bytes_only_when_they_are_the_same(
            a in proptest::collection::vec(".{0,6}", 0..4),
            b in proptest::collection::vec(".{0,6}", 0..4),
        ) {
            prop_assert_eq!(a == b, listed(&a) == listed(&b));
        }
    }
}
