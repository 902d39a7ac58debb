//! W3C Trace Context: which trace a piece of work belongs to, and how that is told on.
//!
//! Apart and pure but for the random ids. Invariant: a header that is not exactly of the form is no context at all
//! (<https://www.w3.org/TR/trace-context/>, level 1, version 00).

use std::fmt;

/// A trace and the span in it that caused what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
}

impl TraceContext {
    /// The beginning of a new trace; `None` where the system gives no random bytes.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut trace = [0; 16];
        getrandom::fill(&mut trace).ok()?;
        Self {
            trace,
            span: [0; 8],
        }
        .child()
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Option<Self> {
        let mut span = [0; 8];
        getrandom::fill(&mut span).ok()?;
        Some(Self { span, ..*self })
    }

    /// Reads a `traceparent` header.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = version == "00" && parts.next().is_none() && unhex::<1>(flags).is_some();
        let (trace, span) = (unhex(trace)?, unhex(span)?);
        (known && trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// The trace's id.
    pub(crate) fn trace(&self) -> &[u8; 16] {
        &self.trace
    }

    /// The span's id.
    pub(crate) fn span(&self) -> &[u8; 8] {
        &self.span
    }
}

/// The `traceparent` header: sampled, since whoever tells anything tells all of it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", hex(&self.trace), hex(&self.span))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let lower = digits
        .iter()
        .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != 2 * N || !lower {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    #[test]
    fn a_context_is_read_as_it_is_written_and_nothing_else_is_one() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).expect("a context");
        assert_eq!(context.to_string(), text);
        let child = context.child().expect("a span");
        assert_eq!(child.trace(), context.trace());
        assert_ne!(child.span(), context.span());
        for odd in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert_eq!(TraceContext::parse(odd), None, "{odd}");
        }
        assert_ne!(TraceContext::new(), TraceContext::new());
    }
}
