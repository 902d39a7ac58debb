//! The look at a rules file before anything with a stack reads it: how deep it nests.
//!
//! Apart, because it is a reader of its own, of marks and words outside strings and comments. Invariant: what passes
//! nests at most as deep as [`MAX_NESTING`] brackets and blocks and [`MAX_MARKS`] operators in one statement.

use super::RulesError;

/// How deep brackets may nest, and blocks in steps of eight blanks.
const MAX_NESTING: usize = 64;
/// How many operators one statement may hold: each may nest the next.
const MAX_MARKS: usize = 256;

/// Words that nest like operators.
const WORDS: [&str; 7] = ["and", "or", "not", "if", "else", "elif", "lambda"];

/// Where the look stands.
#[derive(Default)]
struct Look {
    line: usize,
    column: usize,
    brackets: usize,
    marks: usize,
    elifs: usize,
    word: String,
}

/// Refuses what nests deeper than a rules file has a use for.
pub(super) fn check(file: &str, text: &str) -> Result<(), RulesError> {
    let mut look = Look::default();
    let mut rest = text.chars().peekable();
    let mut indent = Some(0_usize);
    while let Some(c) = rest.next() {
        look.column += 1;
        indent = match (indent, c) {
            (Some(blanks), ' ' | '\t') => Some(blanks + 1),
            (Some(blanks), _) if blanks > 8 * MAX_NESTING && look.brackets == 0 => {
                return Err(look.refuse(file, "blocks"));
            }
            _ => None,
        };
        if c.is_alphanumeric() || c == '_' {
            look.word.push(c);
            continue;
        }
        look.end_word();
        match c {
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            '\'' | '"' => look.skip_string(c, &mut rest),
            '(' | '[' | '{' => {
                look.brackets += 1;
                look.marks += 1;
                if look.brackets > MAX_NESTING {
                    return Err(look.refuse(file, "brackets"));
                }
            }
            ')' | ']' | '}' => {
                look.brackets = look.brackets.saturating_sub(1);
                look.marks = look.marks.saturating_sub(1);
            }
            '\\' if rest.next_if_eq(&'\n').is_some() => look.new_line(),
            '\n' => {
                look.new_line();
                indent = Some(0);
                if look.brackets == 0 {
                    look.marks = 0;
                }
            }
            '+' | '-' | '~' | '*' | '%' | '|' | '&' | '^' | '/' | '.' | '<' | '>' | '!' | '=' => {
                // Those of parameters and pairs stand side by side, within brackets.
                look.marks += usize::from(c != '=');
            }
            // What stands between commas does not nest in what stood before.
            ',' if look.brackets > 0 => look.marks = look.brackets,
            _ => {}
        }
        if look.marks > MAX_MARKS || look.elifs > MAX_MARKS {
            return Err(look.refuse(file, "operators"));
        }
    }
    Ok(())
}

impl Look {
    fn new_line(&mut self) {
        self.line += 1;
        self.column = 0;
    }

    fn end_word(&mut self) {
        if WORDS.contains(&self.word.as_str()) {
            self.marks += 1;
            self.elifs += usize::from(self.word == "elif");
        }
        self.word.clear();
    }

    /// Skips a string that `quote` opened, of one line or of several.
    fn skip_string(&mut self, quote: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
        let mut opening = 1;
        while opening < 3 && rest.next_if_eq(&quote).is_some() {
            opening += 1;
        }
        // Two marks are the empty string.
        if opening == 2 {
            return;
        }
        let mut closing = 0;
        while let Some(c) = rest.next() {
            if c == '\n' {
                self.new_line();
                if opening == 1 {
                    return;
                }
            }
            if c == '\\' {
                rest.next();
                closing = 0;
            } else if c == quote {
                closing += 1;
                if closing == opening {
                    return;
                }
            } else {
                closing = 0;
            }
        }
    }

    fn refuse(&self, file: &str, what: &str) -> RulesError {
        RulesError::At {
            file: file.to_owned(),
            line: self.line + 1,
            column: self.column.max(1),
            reason: format!("{what} nest deeper than a rules file has a use for"),
        }
    }
}
