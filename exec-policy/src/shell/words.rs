//! Turns the grammar's literals into [`Word`]s: quote removal, escapes, tilde, patterns.
//!
//! Apart from the lowering of statements because these rules are bash's word expansions (bash(1), EXPANSION and
//! QUOTING). Invariant: what is not one of the forms written here becomes [`Piece::Unknown`] or stops the reading.

use tree_sitter::Node;

use super::{Unread, lower::Lowering};
use crate::word::{Piece, Word};

/// A word and the commands whose output went into it.
pub(super) struct Lowered {
    pub(super) word: Word,
    pub(super) fed_by: Vec<usize>,
}

impl Lowering<'_> {
    /// Lowers one literal.
    pub(super) fn word(&mut self, node: Node<'_>) -> Result<Lowered, Unread> {
        let mut out = Lowered {
            word: Word::default(),
            fed_by: Vec::new(),
        };
        // A word inside a substitution of this one has braces of its own.
        let around = self.take_braces();
        self.piece(node, &mut out)?;
        // A brace list makes several words of one; which, only bash's own expansion says. Without a comma or two dots a
        // brace is only a character.
        let text = self.text(node)?;
        if self.take_braces() && (text.contains(',') || text.contains("..")) {
            out.word = Word::from_text(
                out.word
                    .literal_prefix()
                    .split('{')
                    .next()
                    .unwrap_or_default(),
            );
            out.word.push(Piece::Unknown);
            self.compound();
        }
        if around {
            self.saw_brace();
        }
        Ok(out)
    }

    fn piece(&mut self, node: Node<'_>, out: &mut Lowered) -> Result<(), Unread> {
        match node.kind() {
            "word" | "number" | "variable_name" if node.named_child_count() == 0 => {
                self.unquoted(node, &mut out.word)
            }
            "raw_string" => {
                let text = self.text(node)?;
                let inner = text
                    .strip_prefix('\'')
                    .and_then(|text| text.strip_suffix('\''));
                out.word.push_text(inner.ok_or(Unread::Syntax)?);
                Ok(())
            }
            "ansi_c_string" => {
                let piece = ansi_c(self.text(node)?)?;
                out.word.push(piece);
                // Shells other than bash read it as a dollar sign and a quoted text.
                self.compound();
                Ok(())
            }
            "string" => self.double_quoted(node, out),
            "translated_string" => {
                let inner = node.named_child(0).ok_or(Unread::Syntax)?;
                self.double_quoted(inner, out)
            }
            "concatenation" => self.concatenation(node, out),
            "simple_expansion" | "expansion" => self.expansion(node, out),
            "command_substitution" | "process_substitution" => self.dynamic(node, out),
            "brace_expression" | "extglob_pattern" | "regex" | "array" | "number" => {
                self.dynamic(node, out)
            }
            "$" => {
                out.word.push_text("$");
                Ok(())
            }
            _ => Err(Unread::Syntax),
        }
    }

    fn concatenation(&mut self, node: Node<'_>, out: &mut Lowered) -> Result<(), Unread> {
        let mut end = node.start_byte();
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            if child.start_byte() != end {
                return Err(Unread::Syntax);
            }
            end = child.end_byte();
            self.piece(child, out)?;
        }
        if end == node.end_byte() {
            Ok(())
        } else {
            Err(Unread::Syntax)
        }
    }

    fn expansion(&mut self, node: Node<'_>, out: &mut Lowered) -> Result<(), Unread> {
        let text = self.text(node)?;
        if !text.is_ascii() {
            return Err(Unread::Characters);
        }
        match text {
            // Expanded like a prompt, which runs what the value says.
            _ if text.ends_with("@P}") => return Err(Unread::Dynamic),
            "$HOME" | "${HOME}" => out.word.push(Piece::Home),
            "$PWD" | "${PWD}" => out.word.push(Piece::WorkingDirectory),
            _ => return self.dynamic(node, out),
        }
        Ok(())
    }

    /// Something that only a running shell knows; the commands inside it are found all the same.
    fn dynamic(&mut self, node: Node<'_>, out: &mut Lowered) -> Result<(), Unread> {
        self.compound();
        out.word.push(Piece::Unknown);
        let ids = self.substitutions(node)?;
        out.fed_by.extend(ids);
        Ok(())
    }

    fn double_quoted(&mut self, node: Node<'_>, out: &mut Lowered) -> Result<(), Unread> {
        let text = self.text(node)?;
        if text.len() < 2 || !text.starts_with('"') || !text.ends_with('"') {
            return Err(Unread::Syntax);
        }
        // The grammar drops blanks between the parts of a string, so the text between them is taken from the source.
        let mut from = node.start_byte() + 1;
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if child.kind() == "string_content" {
                continue;
            }
            self.quoted_text(from, child.start_byte(), &mut out.word)?;
            let splits = out.word.splits();
            self.piece(child, out)?;
            // `"$@"` and its like make several words even so.
            if !self.text(child)?.contains('@') {
                out.word.set_splits(splits);
            }
            from = child.end_byte();
        }
        self.quoted_text(from, node.end_byte() - 1, &mut out.word)
    }

    fn quoted_text(&self, from: usize, to: usize, word: &mut Word) -> Result<(), Unread> {
        let text = self.slice(from, to)?;
        let mut chars = text.chars();
        let mut plain = String::with_capacity(text.len());
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('\n') => {}
                    Some(next @ ('$' | '`' | '"' | '\\')) => plain.push(next),
                    Some(next) => plain.extend(['\\', next]),
                    None => return Err(Unread::Syntax),
                },
                '"' | '`' => return Err(Unread::Syntax),
                c => plain.push(c),
            }
        }
        word.push_text(&plain);
        Ok(())
    }

    fn unquoted(&mut self, node: Node<'_>, word: &mut Word) -> Result<(), Unread> {
        let text = self.text(node)?;
        let mut chars = text.chars().peekable();
        if word.pieces().is_empty() && chars.next_if_eq(&'~').is_some() {
            // `~name` is somebody's home too; `~+` and `~-` are directories that only the shell knows.
            let mut named = false;
            while chars.next_if(|c| *c != '/').is_some() {
                named = true;
            }
            word.push(Piece::Home);
            if named {
                word.push(Piece::Unknown);
                self.compound();
            }
        }
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('\n') => {}
                    Some(next) => word.push_text(next.encode_utf8(&mut [0; 4])),
                    None => return Err(Unread::Syntax),
                },
                '*' | '?' | '[' => word.push(Piece::Glob(c)),
                '{' => {
                    self.saw_brace();
                    word.push_text("{");
                }
                '`' | '$' | '"' | '\'' | '<' | '>' | '|' | '&' | ';' | '(' | ')' => {
                    return Err(Unread::Syntax);
                }
                c => word.push_text(c.encode_utf8(&mut [0; 4])),
            }
        }
        Ok(())
    }
}

/// Decodes `$'…'` by bash's rules; the grammar's own idea of where it ends is checked on the way.
fn ansi_c(text: &str) -> Result<Piece, Unread> {
    let inner = text
        .strip_prefix("$'")
        .and_then(|text| text.strip_suffix('\''))
        .ok_or(Unread::Syntax)?;
    let mut out = String::new();
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            // By bash's rules the string ended here.
            return Err(Unread::Syntax);
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(kind) = chars.next() else {
            return Err(Unread::Syntax);
        };
        match escape(kind, &mut chars) {
            Some(decoded) => out.push(decoded),
            None => return Err(Unread::Dynamic),
        }
    }
    Ok(Piece::Text(out))
}

fn escape(kind: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    let mut digits = |first: Option<char>, radix: u32, most: usize| {
        let mut digits: String = first.into_iter().collect();
        while digits.len() < most {
            let Some(digit) = chars.next_if(|c| c.is_digit(radix)) else {
                break;
            };
            digits.push(digit);
        }
        // A NUL would end the string early; bytes past ASCII are not characters by themselves.
        u32::from_str_radix(&digits, radix)
            .ok()
            .filter(|code| *code != 0)
    };
    match kind {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'e' | 'E' => Some('\u{1b}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        '\\' | '\'' | '"' | '?' => Some(kind),
        'x' => digits(None, 16, 2)
            .filter(|code| *code < 128)
            .and_then(char::from_u32),
        'u' => digits(None, 16, 4).and_then(char::from_u32),
        'U' => digits(None, 16, 8).and_then(char::from_u32),
        '0'..='7' => digits(Some(kind), 8, 3)
            .filter(|code| *code < 128)
            .and_then(char::from_u32),
        _ => None,
    }
}
