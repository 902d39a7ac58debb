//! One word of a command as a shell would hand it over, as far as that can be known without running the shell.
//!
//! Apart, because every other file asks words and none may guess. Invariant: [`Word::literal`] answers only where every
//! byte of the word is certain.

use std::fmt;

/// One word: pieces in order, with neighbouring texts joined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word(Vec<Piece>);

/// A part of a [`Word`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Exactly these characters.
    Text(String),
    /// The home directory: `~`, `$HOME` or `${HOME}`.
    Home,
    /// The working directory: `$PWD` or `${PWD}`.
    WorkingDirectory,
    /// An unquoted `*`, `?` or `[` that file names are matched against.
    Glob(char),
    /// Something that only the running shell knows: a variable, a substitution, a brace list.
    Unknown,
}

impl Word {
    /// A word of which every character is known.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut word = Self::default();
        word.push_text(text);
        word
    }

    /// A word of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self(vec![Piece::Unknown])
    }

    /// A word of one piece.
    #[must_use]
    pub fn of_piece(piece: Piece) -> Self {
        let mut word = Self::default();
        word.push(piece);
        word
    }

    /// The whole text, where every byte of it is certain.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The characters before the first piece that is not certain.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The pieces.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether a pattern stands in it that is matched against file names.
    #[must_use]
    pub fn has_glob(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Glob(_)))
    }

    /// Whether a part of it is known to a running shell only.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.0.contains(&Piece::Unknown)
    }

    /// Adds certain characters.
    pub(crate) fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Piece::Text(last)) = self.0.last_mut() {
            last.push_str(text);
        } else {
            self.0.push(Piece::Text(text.to_owned()));
        }
    }

    /// Adds one piece.
    pub(crate) fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.push_text(&text),
            Piece::Home | Piece::WorkingDirectory | Piece::Glob(_) | Piece::Unknown => {
                self.0.push(piece);
            }
        }
    }

    /// The word without its first `count` bytes, where those are certain.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let (first, rest) = self.0.split_first()?;
        let Piece::Text(text) = first else {
            return None;
        };
        let mut word = Self::from_text(text.strip_prefix(prefix)?);
        for piece in rest {
            word.push(piece.clone());
        }
        Some(word)
    }

    /// This word with `tail` behind it.
    #[must_use]
    pub fn joined(mut self, tail: &Self) -> Self {
        for piece in &tail.0 {
            self.push(piece.clone());
        }
        self
    }
}

/// The word as a person would write it, what is unknown as `…`. For showing only.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Home => f.write_char('~')?,
                Piece::WorkingDirectory => f.write_str("$PWD")?,
                Piece::Glob(glob) => f.write_char(*glob)?,
                Piece::Unknown => f.write_char('…')?,
            }
        }
        Ok(())
    }
}
