//! What a secret's value may look like, once something has said that one follows.
//!
//! Apart, because names, flags and addresses share it. Invariant: a value in code holds nothing that a shell would treat as
//! its own, and no path that leads elsewhere.

use super::{TextKind, is_rich, run};

/// The longest value that is looked at, in bytes. The rest of a longer one is a value of its own to whoever looks next.
const MAX_VALUE: usize = 64 * 1024;

/// How long the longest of [`PLACEHOLDERS`] is, in bytes.
const LONGEST_PLACEHOLDER: usize = 9;

/// What stands for a value in documentation and code, lower case.
const PLACEHOLDERS: &[&str] = &[
    "",
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "string",
    "str",
    "text",
    "number",
    "int",
    "integer",
    "bool",
    "boolean",
    "any",
    "object",
    "bytes",
    "required",
    "optional",
    "yes",
    "no",
    "todo",
    "redacted",
    "hidden",
    "masked",
    "unset",
    "empty",
    "default",
    "auto",
    "env",
    "stdin",
    "prompt",
    "ask",
    "invalid",
    "missing",
    "expired",
    "option",
    "self",
    "always",
    "never",
    "inherit",
    "write",
    "read",
];

/// How surely what stands in front says that a secret follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// `name=value`, `--name value`: anything but a placeholder.
    Surely,
    /// `name: value` in running text or code: only what looks like a secret.
    Perhaps,
}

/// The bytes that a value may have in code.
pub(super) fn is_plain(byte: u8) -> bool {
    !matches!(
        byte,
        0..=b' '
            | 0x7f
            | b'"'
            | b'\''
            | b'`'
            | b';'
            | b'|'
            | b'&'
            | b'<'
            | b'>'
            | b'('
            | b')'
            | b'{'
            | b'}'
            | b'['
            | b']'
            | b'\\'
    )
}

/// What stands where a value could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// A secret, from here to there.
    Secret(usize, usize),
    /// None; whoever looks on may begin here.
    Nothing(usize),
}

/// What stands at `start`.
pub(super) fn at(bytes: &[u8], start: usize, said: Said) -> Value {
    let first = bytes.get(start).copied().unwrap_or(b' ');
    if !is_plain(first)
        || matches!(
            first,
            b'/' | b'~' | b'$' | b'@' | b'*' | b'%' | b'-' | b'=' | b'#'
        )
    {
        return Value::Nothing(start);
    }
    let limited = bytes
        .get(..bytes.len().min(start + MAX_VALUE))
        .unwrap_or_default();
    let mut end = start + run(limited, start, is_plain);
    let is_call = matches!(bytes.get(end), Some(b'(' | b'['));
    // What a shell puts together is not hidden.
    if matches!(bytes.get(end), Some(b'(' | b'{')) && bytes.get(end - 1) == Some(&b'$') {
        end -= 1;
    }
    // What was looked at once in vain is not looked at again, where it is long.
    let skip = if end - start > 256 { end } else { start };
    while end > start && matches!(bytes.get(end - 1), Some(b',' | b'.' | b':')) {
        end -= 1;
    }
    // A limit within a character.
    while end > start && bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    let value = bytes.get(start..end).unwrap_or_default();
    let secret = !is_call
        && !is_placeholder(value)
        && !is_path(value)
        && (said == Said::Surely || looks_secret(value));
    if secret {
        Value::Secret(start, end)
    } else {
        Value::Nothing(skip)
    }
}

/// The end of what stands between quotes from `start` on, for prose: to the quote, on the same line.
fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let limited = bytes.get(..bytes.len().min(start + 1024))?;
    let end = start
        + run(limited, start, |byte| {
            byte != quote && byte != b'\n' && byte != b'\\'
        });
    let value = bytes.get(start..end)?;
    let whole = bytes.get(end) == Some(&quote);
    (whole && !is_placeholder(value) && !is_path(value) && value.len() >= 4).then_some(end)
}

/// Where quotes are opened at `at`, plain or escaped: the quote and where what they hold begins.
fn quote_at(bytes: &[u8], at: usize) -> (Option<u8>, usize) {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(quote @ (b'"' | b'\'')), _) => (Some(*quote), at + 1),
        (Some(b'\\'), Some(quote @ (b'"' | b'\''))) => (Some(*quote), at + 2),
        _ => (None, at),
    }
}

/// What stands at `start`, quotes in front of it skipped.
pub(super) fn behind_quotes(bytes: &[u8], start: usize, said: Said, kind: TextKind) -> Value {
    let (quote, inside) = quote_at(bytes, start);
    let Some(quote) = quote else {
        return at(bytes, start, said);
    };
    if kind == TextKind::Prose
        && let Some(end) = quoted_end(bytes, inside, quote)
    {
        return Value::Secret(inside, end);
    }
    at(bytes, inside, Said::Surely)
}

/// Whether a value stands for one: `$NAME`, `<token>`, `***`, `xxxx`, `%s`, a short number.
fn is_placeholder(value: &[u8]) -> bool {
    let same = |byte: u8| value.iter().all(|other| *other == byte);
    let starts = |with: &[u8]| {
        let start = value.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    value.len() < 3
        || matches!(
            value.first(),
            Some(b'$' | b'<' | b'@' | b'*' | b'%' | b'-' | b'=' | b'#')
        )
        || (value.len() <= LONGEST_PLACEHOLDER
            && PLACEHOLDERS
                .iter()
                .any(|word| value.eq_ignore_ascii_case(word.as_bytes())))
        || [b'x', b'X', b'.', b'_', b'0'].into_iter().any(same)
        || (value.len() < 6 && value.iter().all(u8::is_ascii_digit))
        || starts(b"your")
        || starts(b"masked.")
}

/// Whether a value is, or may be meant as, a path: it is not hidden.
fn is_path(value: &[u8]) -> bool {
    let starts = [&b"/"[..], b"./", b"../", b"~"]
        .iter()
        .any(|start| value.starts_with(start));
    let slash = value.contains(&b'/');
    let climbs = value.windows(2).any(|pair| pair == b"..");
    starts || (slash && (climbs || value.len() < 16 || !is_rich(value)))
}

fn looks_secret(value: &[u8]) -> bool {
    let letters = value.iter().any(u8::is_ascii_alphabetic);
    let digits = value.iter().any(u8::is_ascii_digit);
    let special = value.iter().any(|byte| {
        matches!(
            byte,
            b'!' | b'@' | b'#' | b'%' | b'^' | b'*' | b'+' | b'~' | b'='
        )
    });
    (value.len() >= 6 && letters && (digits || special)) || (value.len() >= 24 && is_rich(value))
}
