//! A text as evidence: masked first, then cut, and the cut is said.

use serde_json::{Map, Value, json};

use crate::hold;
use crate::shown::Shown;

/// How many leading bytes decide whether something is text.
const LOOK: usize = 8 * 1024;

/// `bytes`, of which the whole has `whole` bytes, as fields of a fact: the text with at most `most` bytes of it, what was cut,
/// and a hash where all of it is here.
pub(super) fn text(bytes: &[u8], whole: u64, most: usize, shown: &Shown) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("bytes".to_owned(), json!(whole));
    let complete = bytes.len() as u64 == whole;
    if complete {
        fields.insert("sha256".to_owned(), json!(hold::hash(bytes).as_str()));
    }
    let is_binary =
        bytes.iter().take(LOOK).any(|byte| *byte == 0) || decoded(bytes, complete).is_none();
    let Some(text) = decoded(bytes, complete).filter(|_| !is_binary) else {
        fields.insert("binary".to_owned(), json!(true));
        return fields;
    };
    // Masked before it is cut, because half a secret has no shape; a last word that may be half of one goes too.
    let masked = shown.code(text);
    let kept = if complete && masked.len() <= most {
        masked.as_str()
    } else {
        whole_words(&masked, most)
    };
    let cut = masked.len() - kept.len();
    if cut > 0 || !complete {
        let unread = whole.saturating_sub(bytes.len() as u64);
        fields.insert(
            "cut_bytes".to_owned(),
            json!(unread.saturating_add(cut as u64)),
        );
    }
    fields.insert("text".to_owned(), json!(kept));
    fields
}

/// The text, where it is one; what was read in part may end within a character.
fn decoded(bytes: &[u8], complete: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if !complete && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()
        }
        Err(_) => None,
    }
}

/// The beginning of `text` with at most `most` bytes, ending behind a blank.
fn whole_words(text: &str, most: usize) -> &str {
    let end = text.floor_char_boundary(most);
    let head = text.get(..end).unwrap_or_default();
    let blank = head.rfind(|c: char| c.is_ascii_whitespace());
    head.get(..blank.unwrap_or(0)).unwrap_or_default()
}
