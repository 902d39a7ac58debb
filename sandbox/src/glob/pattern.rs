//! One pattern of relative paths, read and matched: [`Pattern`].
//!
//! Of our own, because the libraries for it bring an engine for regular expressions along, and every command line would
//! pay for its tables when it starts. Invariants: what is not understood is refused, never passed over; a match takes at
//! most as many steps as the pattern has parts times the path has bytes. The tests hold it against `globset`.
//!
//! `*` and `?` stop at a `/`; `**` as a whole part of a path is any number of parts; `{a,b}` is either; `\` takes the next
//! character as it is. `?` and `[…]` take one character of UTF-8, or one byte that is none; `[!a]` takes a `/`, too.

use thiserror::Error;

/// How many patterns the braces of one may stand for.
const MOST_ALTERNATIVES: usize = 256;

/// A pattern that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Alternative>);

/// Why a text is no pattern of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidPattern {
    /// `[` without its `]`.
    #[error("a `[` has no `]`")]
    OpenClass,
    /// A range that ends before it begins.
    #[error("a range ends before it begins")]
    Range,
    /// `{` without its `}`.
    #[error("a `{{` has no `}}`")]
    OpenBraces,
    /// `}` without its `{`.
    #[error("a `}}` has no `{{`")]
    ClosingBrace,
    /// `\` with nothing behind it.
    #[error("nothing follows a `\\`")]
    Escape,
    /// `**` that braces make a part of something longer.
    #[error("with braces, `**` stands alone between `/`")]
    DeepInBraces,
    /// Braces that stand for too much.
    #[error("its braces stand for more than {MOST_ALTERNATIVES} patterns")]
    Alternatives,
}

/// A pattern without braces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    parts: Vec<Part>,
    /// What every match ends with: most paths are told apart by it.
    ending: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// `?`
    Any,
    /// `[…]`
    Class {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
    /// `*`
    Star,
    /// `**/`, where a part of the path begins.
    Deep,
    /// `**`, where a part of the path begins, at the end.
    Rest,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut alternatives = Vec::new();
        let has_braces = braces(text)?.is_some();
        let mut open = vec![text.to_owned()];
        while let Some(text) = open.pop() {
            if alternatives.len() + open.len() >= MOST_ALTERNATIVES {
                return Err(InvalidPattern::Alternatives);
            }
            match braces(&text)? {
                // Elsewhere it is two stars; here people mean folders, and other readers of patterns take it so.
                None if has_braces && !deep_stands_alone(&text) => {
                    return Err(InvalidPattern::DeepInBraces);
                }
                None => alternatives.push(Alternative::parse(&text)?),
                Some(braces) => open.extend(braces.spelled_out(&text)),
            }
        }
        Ok(Self(alternatives))
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut alternatives = self.0.iter();
        alternatives.any(|alternative| alternative.matches(path))
    }
}

/// The first braces of a text: where each choice begins and ends, in bytes.
struct Braces {
    start: usize,
    end: usize,
    choices: Vec<(usize, usize)>,
}

impl Braces {
    /// The text once for each choice.
    fn spelled_out(&self, text: &str) -> Vec<String> {
        let before = text.get(..self.start).unwrap_or_default();
        let after = text.get(self.end..).unwrap_or_default();
        let choices = self.choices.iter();
        let choices = choices.filter_map(|(start, end)| text.get(*start..*end));
        choices
            .map(|choice| format!("{before}{choice}{after}"))
            .collect()
    }
}

fn deep_stands_alone(text: &str) -> bool {
    text.match_indices("**").all(|(at, deep)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + deep.len()..).unwrap_or_default();
        (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'))
    })
}

/// The outermost braces that come first.
fn braces(text: &str) -> Result<Option<Braces>, InvalidPattern> {
    let mut characters = text.char_indices();
    let (mut depth, mut start, mut choice) = (0_usize, 0, 0);
    let mut choices = Vec::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '[' => skip_class(&mut characters)?,
            '{' => {
                if depth == 0 {
                    (start, choice) = (at, at + 1);
                }
                depth += 1;
            }
            ',' if depth == 1 => {
                choices.push((choice, at));
                choice = at + 1;
            }
            '}' => {
                depth = depth.checked_sub(1).ok_or(InvalidPattern::ClosingBrace)?;
                if depth == 0 {
                    choices.push((choice, at));
                    let end = at + 1;
                    return Ok(Some(Braces {
                        start,
                        end,
                        choices,
                    }));
                }
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(InvalidPattern::OpenBraces);
    }
    Ok(None)
}

/// Goes past the `]` of a class whose `[` has been taken. A `]` that comes first is one of its characters.
fn skip_class(characters: &mut std::str::CharIndices<'_>) -> Result<(), InvalidPattern> {
    let mut class = characters.map(|(_, character)| character).peekable();
    let _negation = class.next_if(|character| matches!(character, '!' | '^'));
    let _first = class.next().ok_or(InvalidPattern::OpenClass)?;
    if class.any(|character| character == ']') {
        Ok(())
    } else {
        Err(InvalidPattern::OpenClass)
    }
}

impl Alternative {
    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut begins = true;
        while let Some(character) = rest.chars().next() {
            let after = |prefix: &str| rest.strip_prefix(prefix).filter(|_| begins);
            if matches!(rest, "**" | "**/") && begins {
                parts.push(Part::Rest);
                break;
            }
            if let Some(after) = after("**/") {
                parts.push(Part::Deep);
                rest = after;
                continue;
            }
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
            begins = character == '/';
            match character {
                '*' => parts.push(Part::Star),
                '?' => parts.push(Part::Any),
                '[' => {
                    let (class, after) = class(rest)?;
                    parts.push(class);
                    rest = after;
                }
                '\\' => {
                    let escaped = rest.chars().next().ok_or(InvalidPattern::Escape)?;
                    rest = rest.get(escaped.len_utf8()..).unwrap_or_default();
                    begins = escaped == '/';
                    push_bytes(&mut parts, escaped);
                }
                other => push_bytes(&mut parts, other),
            }
        }
        let ending = parts.iter().rev().map_while(|part| {
            if let Part::Byte(byte) = part {
                Some(*byte)
            } else {
                None
            }
        });
        let mut ending: Vec<u8> = ending.collect();
        ending.reverse();
        Ok(Self { parts, ending })
    }

    /// Every way through is tried, none twice.
    fn matches(&self, path: &[u8]) -> bool {
        if !path.ends_with(&self.ending) {
            return false;
        }
        let width = path.len() + 1;
        let mut tried = vec![false; (self.parts.len() + 1) * width];
        let mut ways = vec![(0, 0)];
        while let Some((part, at)) = ways.pop() {
            match tried.get_mut(part * width + at) {
                Some(tried) if !*tried => *tried = true,
                Some(_) | None => continue,
            }
            let left = path.get(at..).unwrap_or_default();
            match self.parts.get(part) {
                None if left.is_empty() => return true,
                None => {}
                Some(Part::Rest) => return true,
                Some(Part::Byte(byte)) if left.first() == Some(byte) => {
                    ways.push((part + 1, at + 1));
                }
                Some(Part::Byte(_)) => {}
                Some(Part::Any) => {
                    if let Some((character, length)) = one(left)
                        && character != '/'
                    {
                        ways.push((part + 1, at + length));
                    }
                }
                Some(Part::Class { ranges, is_negated }) => {
                    if let Some((character, length)) = one(left)
                        && is_in(ranges, character) != *is_negated
                    {
                        ways.push((part + 1, at + length));
                    }
                }
                Some(Part::Star) => {
                    if left.first().is_some_and(|byte| *byte != b'/') {
                        ways.push((part, at + 1));
                    }
                    ways.push((part + 1, at));
                }
                Some(Part::Deep) => {
                    if let Some(slash) = left.iter().position(|byte| *byte == b'/') {
                        ways.push((part, at + slash + 1));
                    }
                    ways.push((part + 1, at));
                }
            }
        }
        false
    }
}

fn push_bytes(parts: &mut Vec<Part>, character: char) {
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).bytes();
    parts.extend(bytes.map(Part::Byte));
}

/// A class whose `[` has been taken, and what follows its `]`.
fn class(text: &str) -> Result<(Part, &str), InvalidPattern> {
    let negated = text.strip_prefix(['!', '^']);
    let (mut rest, is_negated) = (negated.unwrap_or(text), negated.is_some());
    let mut ranges = Vec::new();
    loop {
        let from = rest.chars().next().ok_or(InvalidPattern::OpenClass)?;
        let after = rest.get(from.len_utf8()..).unwrap_or_default();
        if from == ']' && !ranges.is_empty() {
            return Ok((Part::Class { ranges, is_negated }, after));
        }
        let to = after
            .strip_prefix('-')
            .and_then(|after| after.chars().next());
        match to {
            // A `-` before the `]` is one of its characters.
            None | Some(']') => {
                ranges.push((from, from));
                rest = after;
            }
            Some(to) if from <= to => {
                ranges.push((from, to));
                rest = after.get(1 + to.len_utf8()..).unwrap_or_default();
                // A range behind a range reads differently everywhere.
                if rest.starts_with('-') && !rest.starts_with("-]") {
                    return Err(InvalidPattern::Range);
                }
            }
            Some(_) => return Err(InvalidPattern::Range),
        }
    }
}

/// The first character and its length; a byte that begins none counts as one that is in no class.
fn one(bytes: &[u8]) -> Option<(char, usize)> {
    // No character is longer.
    let chunk = bytes.get(..bytes.len().min(4))?.utf8_chunks().next()?;
    let character = chunk.valid().chars().next();
    Some(character.map_or((char::REPLACEMENT_CHARACTER, 1), |it| (it, it.len_utf8())))
}

fn is_in(ranges: &[(char, char)], character: char) -> bool {
    let mut ranges = ranges.iter();
    ranges.any(|(from, to)| (*from..=*to).contains(&character))
}

#[cfg(test)]
mod tests;
