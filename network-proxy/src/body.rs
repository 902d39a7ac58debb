//! Bodies: how many of the bytes that came belong to one, and which of them are content ([`BodyReader`]).
//!
//! Apart because a chunk's framing is read byte by byte and fuzzed alone. Pure.
//! INVARIANT: framing is not passed on but made anew, so that both sides agree on where a body ends; what is ambiguous (a bare
//! LF, a size that is no plain hexadecimal number) is an error.

use crate::head::{BadHead, Framing, bad, is_token};

/// The longest chunk-size line or trailer line, in bytes.
const LONGEST_LINE: usize = 8 * 1024;
/// The most bytes of trailers.
const MOST_TRAILERS: usize = 32 * 1024;

/// Where in a body we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyReader {
    /// At its end.
    Done,
    /// That many bytes are left.
    Left(u64),
    /// Everything that comes.
    UntilClose,
    /// In a chunked one.
    Chunked(Chunk),
}

/// Where in a chunked body we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Before a size.
    Size,
    /// In a chunk with that many bytes left.
    Content(u64),
    /// Before the line break behind a chunk.
    Break,
    /// In the trailers, of which that many bytes have come.
    Trailers(usize),
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of framing: drop them.
    Skip(usize),
    /// So many bytes of content.
    Content(usize),
    /// More bytes are needed.
    More,
    /// The body is over.
    End,
}

impl BodyReader {
    /// A reader for a body of that framing.
    pub(crate) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Done,
            Framing::Length(length) => Self::Left(length),
            Framing::Chunked => Self::Chunked(Chunk::Size),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Says what the next bytes are; `Skip` and `Content` have to be taken away before the next call.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, BadHead> {
        match self {
            Self::Done => Ok(Step::End),
            Self::UntilClose if bytes.is_empty() => Ok(Step::More),
            Self::UntilClose => Ok(Step::Content(bytes.len())),
            Self::Left(left) => {
                let step = content(left, bytes);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(step)
            }
            Self::Chunked(chunk) => match chunk.step(bytes)? {
                Step::End => {
                    *self = Self::Done;
                    Ok(Step::Skip(2))
                }
                step @ (Step::Skip(_) | Step::Content(_) | Step::More) => Ok(step),
            },
        }
    }
}

impl Chunk {
    fn step(&mut self, bytes: &[u8]) -> Result<Step, BadHead> {
        match self {
            Self::Size => {
                let Some(line) = line(bytes)? else {
                    return Ok(Step::More);
                };
                *self = match size(line)? {
                    0 => Self::Trailers(0),
                    size => Self::Content(size),
                };
                Ok(Step::Skip(line.len() + 2))
            }
            Self::Content(left) => {
                let step = content(left, bytes);
                if *left == 0 {
                    *self = Self::Break;
                }
                Ok(step)
            }
            Self::Break => match bytes {
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Step::Skip(2))
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(bad("a chunk is longer than its size")),
            },
            Self::Trailers(seen) => {
                let Some(line) = line(bytes)? else {
                    return Ok(Step::More);
                };
                if line.is_empty() {
                    return Ok(Step::End);
                }
                *seen += line.len() + 2;
                if *seen > MOST_TRAILERS {
                    return Err(bad("the trailers are too long"));
                }
                Ok(Step::Skip(line.len() + 2))
            }
        }
    }
}

fn content(left: &mut u64, bytes: &[u8]) -> Step {
    if bytes.is_empty() {
        return Step::More;
    }
    let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
    *left -= here;
    Step::Content(usize::try_from(here).unwrap_or(bytes.len()))
}

/// The line up to CR LF; none where it has not all come.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, BadHead> {
    let end = bytes
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| matches!(byte, b'\r' | b'\n'));
    let Some(end) = end else {
        return if bytes.len() < LONGEST_LINE {
            Ok(None)
        } else {
            Err(bad("a chunk's line is too long"))
        };
    };
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(bytes.get(..end)),
        Some([b'\r']) => Ok(None),
        _ => Err(bad("a chunk's line holds a bare line break")),
    }
}

/// A chunk's size: hexadecimal digits, then nothing or extensions, which are dropped.
fn size(line: &[u8]) -> Result<u64, BadHead> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at_checked(digits).unwrap_or((line, &[]));
    let blanks = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let extension = match rest.get(blanks..).unwrap_or_default() {
        [] => rest.is_empty(),
        [b';', extension @ ..] => extension.iter().all(|byte| {
            is_token(*byte)
                || matches!(
                    byte,
                    b' ' | b'\t'
                        | b'='
                        | b'"'
                        | b';'
                        | b','
                        | b':'
                        | b'/'
                        | b'('
                        | b')'
                        | b'<'
                        | b'>'
                        | b'@'
                        | b'['
                        | b']'
                        | b'?'
                        | b'{'
                        | b'}'
                        | b'\\'
                )
        }),
        _ => false,
    };
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| extension && !digits.is_empty() && digits.len() <= 15)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| bad("a chunk's size is not a plain hexadecimal number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a body that comes in pieces: its content, what is left behind it, or why not.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), BadHead> {
        let mut reader = BodyReader::new(framing);
        let (mut buffer, mut content) = (Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(piece.max(1));
        loop {
            match reader.step(&buffer)? {
                Step::Skip(count) => drop(buffer.drain(..count)),
                Step::Content(count) => content.extend(buffer.drain(..count)),
                Step::End => {
                    buffer.extend(pieces.flatten());
                    return Ok((content, buffer));
                }
                Step::More => match pieces.next() {
                    Some(piece) => buffer.extend(piece),
                    None => return Err(bad("cut")),
                },
            }
        }
    }

    #[test]
    fn a_chunked_body_ends_where_it_says() {
        let bytes = b"4;a=b\r\nwiki\r\n5\r\npedia\r\n0\r\nX: y\r\n\r\nGET";
        for piece in 1..bytes.len() {
            assert_eq!(
                read(Framing::Chunked, bytes, piece),
                Ok((b"wikipedia".to_vec(), b"GET".to_vec()))
            );
        }
        assert_eq!(
            read(Framing::Length(3), b"abcd", 2),
            Ok((b"abc".to_vec(), b"d".to_vec()))
        );
    }

    #[test]
    fn chunks_with_two_readings_are_refused() {
        for bytes in [
            &b"3;\nabc\r\n0\r\n\r\n"[..],
            b"3\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc",
            b" 3\r\nabc",
            b"3 \r\nabc",
            b"3\r\nabcd\r\n",
            b"fffffffffffffffff\r\n",
            b"\r\n",
            b"3\rabc",
            b"3;a\0\r\nabc\r\n",
            b"0\r\nX: a\n\r\n",
        ] {
            assert!(
                read(Framing::Chunked, bytes, 64).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    proptest! {
        #[test]
        fn hostile_chunks_never_panic_and_never_say_more_than_came(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..32) {
            if let Ok((content, rest)) = read(Framing::Chunked, &bytes, piece) {
                prop_assert!(content.len() + rest.len() < bytes.len());
            }
        }

        #[test]
        fn pieces_do_not_change_what_is_read(text in "([0-9a-f;\r\n]|a\r\n|0\r\n\r\n){0,40}", piece in 1_usize..16) {
            let whole = read(Framing::Chunked, text.as_bytes(), usize::MAX);
            let pieces = read(Framing::Chunked, text.as_bytes(), piece);
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        }
    }
}
