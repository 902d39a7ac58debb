//! One word of a command as a shell would hand it over, as far as that can be known without running the shell.
//!
//! Apart, because every other file asks words and none may guess. Invariant: [`Word::literal`] answers only where every
//! byte of the word is certain.

use std::fmt;

/// One word: pieces in order, with neighbouring texts joined.
#[derive(Clone, Eq, Default)]
pub struct Word {
    pieces: Vec<Piece>,
    /// Whether it may become no word, or several: an unquoted expansion or pattern.
    splits: bool,
}

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
        Self::of_piece(Piece::Unknown)
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
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The characters before the first piece that is not certain.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The pieces.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether a pattern stands in it that is matched against file names.
    #[must_use]
    pub fn has_glob(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Glob(_)))
    }

    /// Whether a part of it is known to a running shell only.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.pieces.contains(&Piece::Unknown)
    }

    /// Adds certain characters.
    pub(crate) fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// Adds one piece.
    pub(crate) fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.push_text(&text),
            Piece::Home | Piece::WorkingDirectory | Piece::Glob(_) | Piece::Unknown => {
                self.splits = true;
                self.pieces.push(piece);
            }
        }
    }

    /// Whether a shell may make no word of it, or several.
    #[must_use]
    pub fn splits(&self) -> bool {
        self.splits
    }

    /// Takes back that it splits: what was added last stood in double quotes (bash(1), Word Splitting).
    pub(crate) fn set_splits(&mut self, splits: bool) {
        self.splits = splits;
    }

    /// Whether it is `text`, or a shell may make `text` of it or of a part of it.
    #[must_use]
    pub fn could_be(&self, text: &str) -> bool {
        if let Some(literal) = self.literal() {
            return literal == text;
        }
        let ends = match self.pieces.last() {
            Some(Piece::Text(last)) if !self.splits => text.ends_with(last.as_str()),
            _ => true,
        };
        ends && text.starts_with(self.literal_prefix())
    }

    /// The word without its first `count` bytes, where those are certain.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let (first, rest) = self.pieces.split_first()?;
        let Piece::Text(text) = first else {
            return None;
        };
        let mut word = Self::from_text(text.strip_prefix(prefix)?);
        for piece in rest {
            word.push(piece.clone());
        }
        word.splits = self.splits;
        Some(word)
    }

    /// This word with `tail` behind it.
    #[must_use]
    pub fn joined(mut self, tail: &Self) -> Self {
        let splits = self.splits || tail.splits;
        for piece in &tail.pieces {
            self.push(piece.clone());
        }
        self.splits = splits;
        self
    }
}

/// The same pieces are the same word, in quotes or not.
impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.pieces == other.pieces
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Word").field(&self.pieces).finish()
    }
}

/// The word as a person would write it, what is unknown as `…`. For showing only.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for piece in &self.pieces {
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
