//! Text from outside, made safe to show: the one type that everything shown or exported passes through (design D27).

use std::fmt;

/// Shows a text with control, bidirectional and invisible characters spelled out.
///
/// A terminal or a log line that shows it can be neither steered nor reordered. One line in, one line out:
/// a line feed is spelled out too.
///
/// ```
/// assert_eq!(protocol::Printable("a\u{1b}[31m\u{202e}b\n").to_string(), r"a\x1b[31m\u{202e}b\n");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for character in self.0.chars() {
            match character {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if hidden(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Characters that change how their neighbours look, or that cannot be seen (Unicode 17: Cc, Cf, Zl, Zp, tags,
/// variation selectors, blank letters).
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A command as one line: words quoted where a shell would need it, nothing that steers a terminal.
#[must_use]
pub fn shown_command<W: AsRef<str>>(words: &[W]) -> String {
    let quoted = words.iter().map(|word| {
        let word = word.as_ref();
        let plain = !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || "-_./=:,@%+~^".contains(c));
        let shown = Printable(word).to_string();
        if plain {
            shown
        } else {
            format!("'{}'", shown.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::Printable;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_shown_moves_the_cursor_or_starts_a_line(text in any::<String>()) {
            let shown = Printable(&text).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            let steering = shown.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}']);
            prop_assert!(!steering, "{shown:?}");
        }
    }
}
