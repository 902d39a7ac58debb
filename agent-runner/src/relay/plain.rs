//! Output without anything that steers a terminal: [`Plain`]. Pure: bytes in, bytes out, in pieces of any size.
//!
//! Invariant: of what comes out, nothing but tabs and line ends is a control character. Colours and styles are taken out; what
//! else steers, hides or reorders is spelled out, and what is no UTF-8 as well; a carriage return alone ends a line, so that
//! nothing shown is written over.

use protocol::Printable;

/// The longest colour or style that is taken out whole; a longer one is spelled out.
const LONGEST_STYLE: usize = 40;

/// What has come in so far and cannot be told before more does.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    held: Vec<u8>,
}

/// What stands at the beginning of some bytes.
enum Found<'a> {
    /// So many bytes, and what comes out for them.
    Known(usize, Shown<'a>),
    /// The next bytes decide.
    Undecided,
}

enum Shown<'a> {
    Nothing,
    Text(&'a [u8]),
    Character(char),
    Byte(u8),
}

impl Plain {
    /// Appends to `out` what comes out for `bytes`.
    pub(crate) fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            match found(rest) {
                Found::Known(length, shown) => {
                    show(&shown, out);
                    rest = rest.get(length..).unwrap_or_default();
                }
                Found::Undecided => {
                    self.held = rest.to_vec();
                    return;
                }
            }
        }
    }

    /// The same for what no more bytes follow.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        for byte in self.held {
            let shown = match byte {
                b'\r' => Shown::Text(b"\n"),
                byte if is_plain(byte) => Shown::Text(&[byte]),
                byte => Shown::Byte(byte),
            };
            show(&shown, out);
        }
    }
}

fn show(shown: &Shown<'_>, out: &mut Vec<u8>) {
    match shown {
        Shown::Nothing => {}
        Shown::Text(text) => out.extend_from_slice(text),
        Shown::Character(character) => {
            let text = character.to_string();
            out.extend_from_slice(Printable(&text).to_string().as_bytes());
        }
        Shown::Byte(byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b' '..=b'~')
}

fn found(bytes: &[u8]) -> Found<'_> {
    let plain = bytes.iter().take_while(|byte| is_plain(**byte)).count();
    match (bytes.get(..plain), bytes) {
        (Some(text), _) if plain > 0 => Found::Known(plain, Shown::Text(text)),
        (_, [b'\x1b', ..]) => style(bytes),
        (_, [b'\r']) => Found::Undecided,
        (_, [b'\r', b'\n', ..]) => Found::Known(2, Shown::Text(b"\r\n")),
        (_, [b'\r', ..]) => Found::Known(1, Shown::Text(b"\n")),
        (_, [0x80..=0xff, ..]) => character(bytes),
        (_, [byte, ..]) => Found::Known(1, Shown::Byte(*byte)),
        (_, []) => Found::Undecided,
    }
}

/// A colour or style (ECMA-48, SGR): ESC, `[`, numbers, `m`.
fn style(bytes: &[u8]) -> Found<'_> {
    let spelled = Found::Known(1, Shown::Byte(b'\x1b'));
    let known = bytes.get(1).is_none_or(|second| *second == b'[');
    if !known {
        return spelled;
    }
    let numbers = bytes.iter().skip(2);
    let numbers = numbers
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
        .count();
    match bytes.get(numbers.saturating_add(2)) {
        Some(b'm') => Found::Known(numbers + 3, Shown::Nothing),
        None if bytes.len() < LONGEST_STYLE => Found::Undecided,
        Some(_) | None => spelled,
    }
}

/// One character that is no ASCII.
fn character(bytes: &[u8]) -> Found<'_> {
    let first = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) => {
            let valid = first.get(..error.valid_up_to()).unwrap_or_default();
            if valid.is_empty() && error.error_len().is_none() && first.len() < 4 {
                return Found::Undecided;
            }
            std::str::from_utf8(valid).unwrap_or_default()
        }
    };
    match (text.chars().next(), bytes.first()) {
        (Some(character), _) => Found::Known(character.len_utf8(), Shown::Character(character)),
        (None, byte) => Found::Known(1, Shown::Byte(byte.copied().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Plain;

    fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let (mut plain, mut out) = (Plain::default(), Vec::new());
        for piece in pieces {
            plain.pass(piece, &mut out);
        }
        plain.finish(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_steers_is_spelled_out_and_what_only_colours_is_gone() {
        for (given, shown) in [
            (&b"plain\ttext\r\n"[..], "plain\ttext\r\n"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
            (b"\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
            (b"rm -rf /\rls     ", "rm -rf /\nls     "),
            (b"a\x08b\x00\x7f", r"a\x08b\x00\x7f"),
            (
                "h\u{e9}llo \u{202e}evil \u{9b}2J".as_bytes(),
                "h\u{e9}llo \\u{202e}evil \\u{9b}2J",
            ),
            (b"\xff\x9b2J \xc3", r"\xff\x9b2J \xc3"),
            (b"\x1b[31", r"\x1b[31"),
            (b"\r", "\n"),
        ] {
            assert_eq!(passed([given]), shown, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_nothing_steers_and_the_same_comes_out(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'm'), Just(b'\r'), Just(0xe2)], 0..200,
            ),
            size in 1usize..9,
        ) {
            let whole = passed([bytes.as_slice()]);
            let mut steering = whole.chars().filter(|c| c.is_control() && !"\t\r\n".contains(*c));
            prop_assert_eq!(steering.next(), None);
            prop_assert_eq!(whole.replace("\r\n", "").contains('\r'), false);
            prop_assert_eq!(passed(bytes.chunks(size)), whole);
        }
    }
}
