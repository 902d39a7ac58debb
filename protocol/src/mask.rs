//! Secrets in a text, replaced by marks before the text leaves the machine (design D20): [`mask`], [`mask_words`].
//!
//! Pure and linear in the text. A mark is `MASKED.kind.length.hash`: what kind of secret stood there, how many bytes it had,
//! and 32 hex digits of a hash under a key that the caller keeps, so that equal secrets have equal marks.
//!
//! Invariants: a mark never covers a blank, a quote or a character that a shell treats as its own, so no masked text hides
//! a command or a further argument; what looks like a mark already is masked itself, so that two texts never share a masked
//! form; [`shows`] tells whether a masked text stands for a real one.

mod flags;
mod named;
mod places;
mod tokens;
mod value;

use crate::action::Sha256Hex;

/// What every mark begins with.
const MARK: &str = "MASKED.";
/// How many hex digits of the hash a mark shows: 128 bits (RFC 2104, section 5, allows half of it).
const HASH_DIGITS: usize = 32;
/// The longest kind.
const MAX_KIND: usize = 32;

/// How a text will be read, which decides what a mark may cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// Something may obey it: a command, a script, standard input. A mark covers one word at most.
    Code,
    /// Somebody reads it: a justification, a transcript. A quoted secret is masked whole, blanks included.
    Prose,
}

/// Bytes of a text that are a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    kind: &'static str,
}

/// Replaces every secret in `text` by its mark; `hash` is a keyed hash whose key stays on this machine.
///
/// To be applied once: what looks like a mark is taken for somebody's forgery and masked.
///
/// ```
/// use protocol::{Sha256Hex, TextKind, mask};
/// let hash = |_: &[u8]| Sha256Hex::of(&[0xab; 32]);
/// let shown = mask("deploy --password hunter2 --to prod", TextKind::Code, &hash);
/// assert_eq!(shown, format!("deploy --password MASKED.password.7.{} --to prod", "ab".repeat(16)));
/// ```
#[must_use]
pub fn mask(text: &str, kind: TextKind, hash: &dyn Fn(&[u8]) -> Sha256Hex) -> String {
    let bytes = text.as_bytes();
    let mut spans = spans(text, kind);
    if kind == TextKind::Code {
        flags::in_lines(text, &mut spans);
    }
    replaced(bytes, spans, hash)
}

/// [`mask`] for the words of a command, where one word can say that the next is a secret.
#[must_use]
pub fn mask_words(words: &[String], hash: &dyn Fn(&[u8]) -> Sha256Hex) -> Vec<String> {
    let values = flags::in_words(words);
    let masked = words.iter().enumerate().map(|(at, word)| {
        let mut spans = spans(word, TextKind::Code);
        flags::in_lines(word, &mut spans);
        spans.extend(
            values
                .iter()
                .filter(|(of, _)| *of == at)
                .map(|(_, span)| *span),
        );
        replaced(word.as_bytes(), spans, hash)
    });
    masked.collect()
}

/// Whether `shown` is `real` with nothing but marks in place of parts of it, each of the length it says.
///
/// It does not hold the marks' hashes against the parts: who has the key masks again and compares.
#[must_use]
pub fn shows(shown: &str, real: &[u8]) -> bool {
    let shown = shown.as_bytes();
    let (mut at, mut real_at) = (0, 0);
    while at < shown.len() {
        if let Some(mark) = mark_at(shown, at) {
            at = mark.end;
            real_at += mark.length;
        } else if real_at < real.len() && shown.get(at) == real.get(real_at) {
            at += 1;
            real_at += 1;
        } else {
            return false;
        }
    }
    real_at == real.len()
}

fn spans(text: &str, kind: TextKind) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut spans = Vec::new();
    let hosts = places::urls(bytes, &mut spans);
    let mut found = Vec::new();
    tokens::find(bytes, &mut found);
    // A name to be reached is not hidden, whatever it looks like.
    let reached = |span: &Span| {
        let at = hosts.partition_point(|host| host.1 <= span.start);
        hosts.get(at).is_some_and(|host| host.0 < span.end)
    };
    spans.extend(found.into_iter().filter(|span| !reached(span)));
    places::keys(bytes, &mut spans);
    places::phrases(bytes, &mut spans);
    places::lines(text, &mut spans);
    named::find(bytes, kind, &mut spans);
    forged_marks(bytes, &mut spans);
    spans
}

fn forged_marks(bytes: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(found) = find(bytes, MARK.as_bytes(), at) {
        at = found + MARK.len();
        if let Some(mark) = mark_at(bytes, found) {
            at = mark.end;
            spans.push(Span {
                start: found,
                end: mark.end,
                kind: "mark_lookalike",
            });
        }
    }
}

/// A mark in a text: where it ends, and how long what it stands for is.
struct Mark {
    end: usize,
    length: usize,
}

fn mark_at(bytes: &[u8], at: usize) -> Option<Mark> {
    let rest = bytes.get(at..)?.strip_prefix(MARK.as_bytes())?;
    let kind = run(rest, 0, |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
    });
    let digits_at = kind + 1;
    let digits = run(rest, digits_at, |byte| byte.is_ascii_digit());
    let hash_at = digits_at + digits + 1;
    let hash = rest.get(hash_at..hash_at + HASH_DIGITS)?;
    let well_formed = (1..=MAX_KIND).contains(&kind)
        && (1..=9).contains(&digits)
        && rest.get(kind) == Some(&b'.')
        && rest.get(hash_at - 1) == Some(&b'.')
        && hash
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let length = std::str::from_utf8(rest.get(digits_at..digits_at + digits)?).ok()?;
    let length = length.parse().ok()?;
    well_formed.then_some(Mark {
        end: at + MARK.len() + hash_at + HASH_DIGITS,
        length,
    })
}

/// Puts marks in the place of `spans`; spans that touch the same bytes become one.
fn replaced(bytes: &[u8], mut spans: Vec<Span>, hash: &dyn Fn(&[u8]) -> Sha256Hex) -> String {
    spans.retain(|span| span.start < span.end);
    // Where two begin together, the longer one names the kind.
    spans.sort_by_key(|span| (span.start, usize::MAX - span.end));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    let mut out = Vec::with_capacity(bytes.len() + merged.len() * 64);
    let mut at = 0;
    for span in merged {
        out.extend_from_slice(bytes.get(at..span.start).unwrap_or_default());
        let secret = bytes.get(span.start..span.end).unwrap_or_default();
        let hash = hash(secret);
        let digits = hash.as_str().get(..HASH_DIGITS).unwrap_or_default();
        let length = secret.len().to_string();
        for part in [MARK, span.kind, ".", &length, ".", digits] {
            out.extend_from_slice(part.as_bytes());
        }
        at = span.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    // Spans begin and end at characters, so nothing is lost here.
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// How many bytes from `at` on are of a kind.
fn run(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter()
        .position(|byte| !is(*byte))
        .unwrap_or(rest.len())
}

/// Where `needle` stands next, from `at` on.
fn find(bytes: &[u8], needle: &[u8], at: usize) -> Option<usize> {
    memchr::memmem::find(bytes.get(at..)?, needle).map(|found| at + found)
}

/// Whether bytes look drawn by lot: a digit, or letters of both cases.
fn is_rich(bytes: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| bytes.iter().any(is);
    has(u8::is_ascii_digit) || (has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests;
