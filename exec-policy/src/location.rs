//! Where in the tree of files a word points, by its text alone.
//!
//! Apart from effects because rules ask it of working directories and grants as well. Invariant: purely lexical; a part
//! that is not certain stays uncertain and never makes a path look narrower than it may be.

use std::fmt;

use crate::word::{Piece, Word};

/// From where a relative word and `~` are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The working directory, absolute; `None` where only a running shell knows it.
    pub cwd: Option<String>,
    /// The home directory, absolute.
    pub home: String,
}

/// An absolute, normalised path, of which some names may be patterns or not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    names: Vec<Name>,
    written: String,
    dot: bool,
}

/// One name of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// Certain.
    Sure(String),
    /// A pattern that file names are matched against.
    Pattern(String),
    /// Any number of names that only a running shell knows.
    Anything,
}

impl Location {
    /// Reads a word as a path.
    #[must_use]
    pub fn of(word: &Word, surroundings: &Surroundings) -> Self {
        let mut names = Vec::new();
        let mut dot = false;
        let absolute = match word.pieces().first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Home) => true,
            Some(Piece::WorkingDirectory | Piece::Glob(_) | Piece::Unknown) | None => false,
        };
        if !absolute && word.pieces().first() != Some(&Piece::WorkingDirectory) {
            push_directory(&mut names, surroundings.cwd.as_deref());
        }
        let mut open = String::new();
        let mut kind = Kind::Sure;
        for piece in word.pieces() {
            match piece {
                Piece::Text(text) => {
                    for (at, part) in text.split('/').enumerate() {
                        if at > 0 {
                            dot = open == "." && kind == Kind::Sure;
                            close(&mut names, &mut open, &mut kind);
                        }
                        open.push_str(part);
                    }
                }
                Piece::Home => push_directory(&mut names, Some(&surroundings.home)),
                Piece::WorkingDirectory => push_directory(&mut names, surroundings.cwd.as_deref()),
                Piece::Glob(glob) => {
                    open.push(*glob);
                    kind = kind.max(Kind::Pattern);
                }
                Piece::Unknown => kind = Kind::Anything,
            }
        }
        dot |= open == "." && kind == Kind::Sure;
        close(&mut names, &mut open, &mut kind);
        Self {
            names,
            written: word.to_string(),
            dot,
        }
    }

    /// Reads a text as a path.
    #[must_use]
    pub fn of_text(text: &str, surroundings: &Surroundings) -> Self {
        Self::of(&Word::from_text(text), surroundings)
    }

    /// The path as the command wrote it, for showing.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether the path was written with a `.` that stands for its own folder: `rm -rf /x/.`.
    #[must_use]
    pub fn ends_in_dot(&self) -> bool {
        self.dot
    }

    /// The whole path, where it is certain.
    #[must_use]
    pub fn certain(&self) -> Option<String> {
        let mut path = String::new();
        for name in &self.names {
            let Name::Sure(name) = name else {
                return None;
            };
            path.push('/');
            path.push_str(name);
        }
        Some(if path.is_empty() {
            "/".to_owned()
        } else {
            path
        })
    }

    /// The certain names in front, and whether that is all of the path.
    #[must_use]
    pub fn certain_names(&self) -> (Vec<&str>, Rest<'_>) {
        let names: Vec<&str> = self
            .names
            .iter()
            .map_while(|name| match name {
                Name::Sure(name) => Some(name.as_str()),
                Name::Pattern(_) | Name::Anything => None,
            })
            .collect();
        let rest = match self.names.get(names.len()) {
            None | Some(Name::Sure(_)) => Rest::Nothing,
            Some(Name::Pattern(pattern)) => Rest::Pattern(pattern),
            Some(Name::Anything) => Rest::Anything,
        };
        (names, rest)
    }

    /// Whether the path is `folder` or lies below it, whatever its uncertain names are.
    #[must_use]
    pub fn is_within(&self, folder: &str) -> bool {
        let mut names = self.names.iter();
        parts(folder).all(|part| matches!(names.next(), Some(Name::Sure(name)) if name == part))
    }

    /// Whether `folder` is this path or lies below it.
    #[must_use]
    pub fn holds(&self, folder: &str) -> bool {
        let mut wanted = parts(folder);
        self.names
            .iter()
            .all(|name| wanted.next().is_some_and(|part| name.may_be(part)))
    }

    /// Whether some run of neighbouring names is, or may by a pattern be, `wanted`. A wanted name may end in `*`.
    #[must_use]
    pub fn has_run(&self, wanted: &[&str]) -> bool {
        !wanted.is_empty()
            && self.names.windows(wanted.len()).any(|window| {
                window
                    .iter()
                    .zip(wanted)
                    .all(|(name, wanted)| name.may_be(wanted))
            })
    }

    /// Whether the path starts with `wanted`; see [`Location::has_run`].
    #[must_use]
    pub fn starts_with(&self, wanted: &[&str]) -> bool {
        self.names.len() >= wanted.len()
            && self
                .names
                .iter()
                .zip(wanted)
                .all(|(name, wanted)| name.may_be(wanted))
    }

    /// The last name, where it is certain.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        match self.names.last() {
            Some(Name::Sure(name)) => Some(name),
            Some(Name::Pattern(_) | Name::Anything) | None => None,
        }
    }

    /// How many names the path has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.names.len()
    }

    /// Whether the last name is, or may by a pattern be, `wanted`.
    #[must_use]
    pub fn last_may_be(&self, wanted: &str) -> bool {
        self.names.last().is_some_and(|name| name.may_be(wanted))
    }
}

/// What follows the certain names of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest<'l> {
    /// Nothing: the path is certain.
    Nothing,
    /// A pattern.
    Pattern(&'l str),
    /// Something that only a running shell knows.
    Anything,
}

impl Name {
    /// Whether it is `wanted`, which may end in `*`, or a pattern that may match it. What is not known at all is taken
    /// for nothing but `*` itself.
    fn may_be(&self, wanted: &str) -> bool {
        if wanted == "*" {
            return true;
        }
        match self {
            Self::Sure(name) => match wanted.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name.eq_ignore_ascii_case(wanted),
            },
            Self::Pattern(pattern) => {
                let hidden = wanted.starts_with('.') && !pattern.starts_with('.');
                let wanted = wanted.strip_suffix('*').unwrap_or(wanted);
                !hidden && matches(pattern.as_bytes(), wanted.as_bytes())
            }
            Self::Anything => false,
        }
    }
}

/// Whether a glob may match a name. `[` counts as anything from there on, so that the answer errs towards yes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some(b'['), _) | (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(b'?'), Some(_)) => {
                p += 1;
                n += 1;
            }
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) if from < name.len() => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                _ => return false,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sure,
    Pattern,
    Anything,
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
}

fn push_directory(names: &mut Vec<Name>, path: Option<&str>) {
    names.clear();
    match path {
        Some(path) => {
            for part in parts(path) {
                push(names, Name::Sure(part.to_owned()));
            }
        }
        None => names.push(Name::Anything),
    }
}

fn close(names: &mut Vec<Name>, open: &mut String, kind: &mut Kind) {
    let text = std::mem::take(open);
    match std::mem::replace(kind, Kind::Sure) {
        Kind::Sure if text.is_empty() || text == "." => {}
        Kind::Sure => push(names, Name::Sure(text)),
        Kind::Pattern => push(names, Name::Pattern(text)),
        Kind::Anything => push(names, Name::Anything),
    }
}

fn push(names: &mut Vec<Name>, name: Name) {
    if name != Name::Sure("..".to_owned()) {
        names.push(name);
        return;
    }
    match names.last() {
        Some(Name::Sure(_) | Name::Pattern(_)) => {
            names.pop();
        }
        // Above something that is not known may be anywhere.
        Some(Name::Anything) => *names = vec![Name::Anything],
        None => {}
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("/");
        }
        for name in &self.names {
            match name {
                Name::Sure(name) | Name::Pattern(name) => write!(f, "/{name}")?,
                Name::Anything => f.write_str("/…")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, Surroundings};
    use crate::word::{Piece, Word};

    fn around() -> Surroundings {
        Surroundings {
            cwd: Some("/w/project".to_owned()),
            home: "/home/u".to_owned(),
        }
    }

    fn at(text: &str) -> String {
        Location::of_text(text, &around()).to_string()
    }

    #[test]
    fn paths_are_made_absolute_and_dots_are_taken_out() {
        assert_eq!(at("a/./b/../c"), "/w/project/a/c");
        assert_eq!(at("../../../../etc"), "/etc");
        assert_eq!(at("/"), "/");
        assert_eq!(at("//a//b/"), "/a/b");
    }

    #[test]
    fn what_is_not_known_stays_open() {
        let mut word = Word::from_text("/a/");
        word.push(Piece::Unknown);
        word.push_text("/../x");
        let location = Location::of(&word, &around());
        assert_eq!(location.to_string(), "/…/x");
        assert!(!location.is_within("/a"));
    }

    #[test]
    fn a_pattern_may_be_a_name_but_not_a_hidden_one_by_a_star() {
        let mut word = Word::from_text("/home/u/.s");
        word.push(Piece::Glob('*'));
        assert!(Location::of(&word, &around()).has_run(&[".ssh"]));
        let mut star = Word::from_text("/home/u/");
        star.push(Piece::Glob('*'));
        assert!(!Location::of(&star, &around()).has_run(&[".ssh"]));
        assert!(Location::of(&star, &around()).has_run(&["work"]));
    }

    #[test]
    fn containment_goes_by_whole_names() {
        let location = Location::of_text("/w/projects", &around());
        assert!(!location.is_within("/w/project"));
        assert!(Location::of_text("/w", &around()).holds("/w/project"));
        assert!(!location.holds("/w/project"));
    }
}
