//! One line of JSON from which no text can break out.
//!
//! Apart, because the prompt's promise (P6) rests on these few lines. Invariant: the line holds no line feed, no control,
//! bidirectional or invisible character, and none of the characters that mark a section.

use serde::Serialize;

use super::PromptError;

/// Spells a value on one line.
pub(super) fn line(value: &impl Serialize) -> Result<String, PromptError> {
    let json = serde_json::to_string(value).map_err(|_| PromptError::NotJson)?;
    if json.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        // Outside strings JSON is ASCII without control characters, so what is escaped here stands inside one.
        if must_hide(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    Ok(out)
}

/// Our own marks, and what changes how its neighbours look or cannot be seen.
fn must_hide(c: char) -> bool {
    matches!(c, '⟦' | '⟧' | '\u{7f}')
        || (!c.is_ascii()
            && protocol::Printable(c.encode_utf8(&mut [0; 4]))
                .to_string()
                .starts_with('\\'))
}
