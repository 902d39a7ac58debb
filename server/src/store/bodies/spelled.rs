//! A verdict as JSON, taken from the body of the event that ended a review without being read where that is safe.
//!
//! Apart, because exports spell a million of them and reading one costs more than all the rest of its line. Invariant:
//! the text is what reading the verdict and spelling it again would give, byte by byte. A body is passed on only where it
//! consists of the very words that `bodies::ended` writes, with texts in which nothing is escaped; whatever else stands
//! there, in an older body for example, is read and spelled.

use std::borrow::Cow;

use protocol::{DecidedBy, Outcome, ReviewEvent, ReviewStatus, RiskLevel, UserAuthorization};
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};

use super::verdict;
use crate::store::StoreError;
use crate::verdict::Verdict;

/// The longest rationale that is surely whole: longer ones are cut when they are read (bytes).
const WHOLE_RATIONALE: usize = 2_000;

/// A verdict as JSON.
#[derive(Debug)]
pub(crate) struct Spelled<'a>(Cow<'a, str>);

impl<'a> Spelled<'a> {
    /// The verdict in `body`, the body of an event of `kind`, which ended a review as `status`.
    ///
    /// # Errors
    /// A body that cannot be read, and one that says another status than its event or its review.
    pub(crate) fn of(
        status: ReviewStatus,
        (kind, body): (&str, &'a str),
    ) -> Result<Self, StoreError> {
        if kind == status.as_str()
            && let Some(text) = unread(status, body)
        {
            return Ok(Self(Cow::Borrowed(text)));
        }
        let verdict = verdict(body)?;
        let follows =
            verdict.status == status && verdict.event().map(ReviewEvent::as_str) == Some(kind);
        if !follows {
            return Err(StoreError::Corrupt(
                "a review's status is not that of the event that ended it",
            ));
        }
        Self::spell(&verdict)
    }

    /// `verdict`, spelled.
    pub(crate) fn spell(verdict: &Verdict) -> Result<Self, StoreError> {
        super::spell(verdict).map(|text| Self(Cow::Owned(text)))
    }

    /// The JSON object.
    pub(crate) fn as_json(&self) -> &str {
        &self.0
    }

    /// The verdict itself.
    pub(crate) fn read(&self) -> Option<Verdict> {
        serde_json::from_str(&self.0).ok()
    }
}

/// The verdict's text in `body`, where it can be passed on unread.
fn unread(status: ReviewStatus, body: &str) -> Option<&str> {
    let text = body.strip_prefix("{\"verdict\":")?;
    let mut left = Left(text);
    left.skip("{\"status\":\"")?;
    left.skip(status.as_str())?;
    left.skip("\",\"decided_by\":")?;
    left.name::<DecidedBy>()?;
    left.skip(",\"outcome\":")?;
    left.name_or_null::<Outcome>()?;
    left.skip(",\"risk_level\":")?;
    left.name_or_null::<RiskLevel>()?;
    left.skip(",\"user_authorization\":")?;
    left.name_or_null::<UserAuthorization>()?;
    left.skip(",\"rationale\":")?;
    left.text(WHOLE_RATIONALE)?;
    left.skip(",\"rule_id\":")?;
    left.text(usize::MAX)?;
    left.skip(",\"failure\":null}")?;
    let text = text.strip_suffix(left.0)?;
    left.skip(",\"expires_at\":")?;
    left.number()?;
    left.skip(",\"exhibit\":")?;
    left.hash()?;
    (left.0 == "}" && status.is_terminal()).then_some(text)
}

/// What is left of a body.
struct Left<'a>(&'a str);

impl<'a> Left<'a> {
    fn skip(&mut self, words: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(words)?;
        Some(())
    }

    fn null(&mut self) -> bool {
        self.skip("null").is_some()
    }

    /// What stands between two quotation marks, as it stands there.
    fn quoted(&mut self) -> Option<&'a str> {
        self.skip("\"")?;
        let special = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
        let end = self.0.bytes().position(special)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        self.skip("\"")?;
        Some(text)
    }

    /// One of the names of `T`, which is written by its name alone.
    fn name<T: Deserialize<'a>>(&mut self) -> Option<()> {
        let name: StrDeserializer<'a, Error> = self.quoted()?.into_deserializer();
        T::deserialize(name).is_ok().then_some(())
    }

    /// The same, or nothing.
    fn name_or_null<T: Deserialize<'a>>(&mut self) -> Option<()> {
        if self.null() {
            return Some(());
        }
        self.name::<T>()
    }

    fn text(&mut self, longest: usize) -> Option<()> {
        if self.null() {
            return Some(());
        }
        (self.quoted()?.len() <= longest).then_some(())
    }

    /// A whole number as serde writes it.
    fn number(&mut self) -> Option<()> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        (!number.starts_with('0') && number.parse::<i64>().is_ok()).then_some(())
    }

    fn hash(&mut self) -> Option<()> {
        if self.null() {
            return Some(());
        }
        let hash = self.quoted()?;
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hash.len() == 64 && hash.bytes().all(hex)).then_some(())
    }
}

#[cfg(test)]
mod tests;
