//! The second look at a script: what must hold of its characters and of the tree, whatever the grammar says.
//!
//! Apart, because it is the check on the parser. Invariant: between two tokens of an accepted tree stand only blanks,
//! line feeds and line continuations, so that nothing was dropped.

use tree_sitter::Tree;

use super::{MAX_DEPTH, MAX_SCRIPT_BYTES, Unread};

/// How many brackets, and how many bars, a script may hold.
const MAX_MARKS: usize = 256;

/// Refuses what shell and grammar are known to see differently.
pub(super) fn check(source: &str) -> Result<(), Unread> {
    if source.len() > MAX_SCRIPT_BYTES {
        return Err(Unread::TooLong);
    }
    if source.chars().any(suspicious) {
        return Err(Unread::Characters);
    }
    // The parser's work grows with the square of these.
    if ['(', '|']
        .iter()
        .any(|mark| source.matches(*mark).count() > MAX_MARKS)
    {
        return Err(Unread::TooMany);
    }
    // Arithmetic commands and the two forms of `${` that run commands in place.
    if ["((", "${ ", "${|", "${\n", "${\t"]
        .iter()
        .any(|form| source.contains(form))
    {
        return Err(Unread::Dynamic);
    }
    if joins_words(source) {
        return Err(Unread::Syntax);
    }
    Ok(())
}

/// A character that a terminal hides or that counts as a blank for one reader and not for another.
fn suspicious(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_ascii() => c.is_ascii_control(),
        c => {
            c.is_whitespace()
                || c.is_control()
                || matches!(c,
                    '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                    | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                    | '\u{e0000}'..='\u{e0fff}')
        }
    }
}

/// Whether a line continuation stands inside a word: bash joins what the grammar takes apart.
fn joins_words(source: &str) -> bool {
    let bytes = source.as_bytes();
    bytes.windows(2).enumerate().any(|(at, pair)| {
        let blank =
            |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        pair == b"\\\n"
            && !blank(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !blank(bytes.get(at + 2))
    })
}

/// Refuses a tree with an error, a missing token, a dropped character, or too much depth.
pub(super) fn check_tree(source: &str, tree: &Tree) -> Result<(), Unread> {
    if tree.root_node().has_error() {
        return Err(Unread::Syntax);
    }
    let mut cursor = tree.walk();
    let mut depth = 0_usize;
    let mut end = 0_usize;
    loop {
        let node = cursor.node();
        if node.is_missing() || node.is_error() {
            return Err(Unread::Syntax);
        }
        if node.kind() == "heredoc_body" {
            // Its text is no token: the grammar skips what stands between two expansions.
            check_gap(source, end, node.start_byte())?;
            end = end.max(node.end_byte());
        }
        if cursor.goto_first_child() {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Unread::TooDeep);
            }
            continue;
        }
        check_gap(source, end, node.start_byte())?;
        end = end.max(node.end_byte());
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return check_gap(source, end, source.len());
            }
            depth -= 1;
        }
    }
}

fn check_gap(source: &str, from: usize, to: usize) -> Result<(), Unread> {
    if from >= to {
        return Ok(());
    }
    let gap = source.get(from..to).ok_or(Unread::Syntax)?;
    let rest = gap.replace("\\\n", "");
    if rest.chars().all(|c| matches!(c, ' ' | '\t' | '\n')) {
        Ok(())
    } else {
        Err(Unread::Syntax)
    }
}
