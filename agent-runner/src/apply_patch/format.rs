//! The agents' patch format, read whole: text in, file changes out. Pure.
//!
//! Apart, because a model wrote the text. Invariant: every line of the patch is part of exactly one change, or the patch
//! is refused with the line's number.

use thiserror::Error;

/// The longest patch, in bytes: what a reviewer can be shown whole.
pub(crate) const MAX_PATCH_BYTES: usize = 1024 * 1024;

/// What happens to one file. Paths are as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileEdit {
    /// It is made, with this content.
    Add {
        /// Where.
        path: String,
        /// What it holds.
        content: String,
    },
    /// It is removed.
    Delete {
        /// Which.
        path: String,
    },
    /// It is changed, and moved where `to` says so.
    Update {
        /// Which.
        path: String,
        /// Where it lies afterwards.
        to: Option<String>,
        /// What changes, from its start to its end.
        hunks: Vec<Hunk>,
    },
}

/// One place in a file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hunk {
    /// Lines that stand somewhere before it, each after the one before.
    pub(crate) after: Vec<String>,
    /// The lines that are there.
    pub(crate) old: Vec<String>,
    /// The lines that will be there.
    pub(crate) new: Vec<String>,
    /// Whether `old` are the file's last lines.
    pub(crate) place: Place,
}

/// Where in a file a hunk may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Place {
    /// Anywhere behind the hunk before.
    #[default]
    Anywhere,
    /// At the file's end.
    End,
}

/// Why a text is no patch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidPatch {
    /// Past [`MAX_PATCH_BYTES`].
    #[error("the patch is longer than {MAX_PATCH_BYTES} bytes")]
    TooLong,
    /// No change.
    #[error("the patch changes nothing")]
    Empty,
    /// A line that is none of the format's.
    #[error("line {line} of the patch: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";

/// The lines of a patch, numbered.
type Lines<'p> = std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'p>>>;

/// Reads a patch.
///
/// # Errors
/// See [`InvalidPatch`].
pub(crate) fn parse(text: &str) -> Result<Vec<FileEdit>, InvalidPatch> {
    if text.len() > MAX_PATCH_BYTES {
        return Err(InvalidPatch::TooLong);
    }
    let mut lines = text.trim_end().lines().enumerate().peekable();
    if lines
        .next_if(|(_, line)| line.trim_end() == BEGIN)
        .is_none()
    {
        return wrong(0, "a patch begins with `*** Begin Patch`");
    }
    let mut edits = Vec::new();
    loop {
        let Some((number, line)) = lines.next() else {
            return wrong(text.lines().count(), "a patch ends with `*** End Patch`");
        };
        if line.trim_end() == END {
            break;
        }
        edits.push(edit(number, line, &mut lines)?);
    }
    match (lines.next(), edits.is_empty()) {
        (Some((number, _)), _) => wrong(number, "it stands behind `*** End Patch`"),
        (None, true) => Err(InvalidPatch::Empty),
        (None, false) => Ok(edits),
    }
}

fn wrong<T>(number: usize, reason: &'static str) -> Result<T, InvalidPatch> {
    Err(InvalidPatch::Line {
        line: number + 1,
        reason,
    })
}

fn edit(number: usize, line: &str, lines: &mut Lines<'_>) -> Result<FileEdit, InvalidPatch> {
    if let Some(path) = line.strip_prefix(ADD) {
        let path = path_of(number, path)?;
        let mut content = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('+')) {
            content.push_str(line.strip_prefix('+').unwrap_or_default());
            content.push('\n');
        }
        return Ok(FileEdit::Add { path, content });
    }
    if let Some(path) = line.strip_prefix(DELETE) {
        let path = path_of(number, path)?;
        return Ok(FileEdit::Delete { path });
    }
    let Some(path) = line.strip_prefix(UPDATE) else {
        return wrong(
            number,
            "`*** Add File: `, `*** Delete File: ` or `*** Update File: ` is wanted",
        );
    };
    let path = path_of(number, path)?;
    let to = match lines.next_if(|(_, line)| line.starts_with(MOVE)) {
        Some((number, line)) => Some(path_of(
            number,
            line.strip_prefix(MOVE).unwrap_or_default(),
        )?),
        None => None,
    };
    let hunks = hunks(lines)?;
    if hunks.is_empty() && to.is_none() {
        return wrong(number, "the file is not changed");
    }
    Ok(FileEdit::Update { path, to, hunks })
}

/// A path on one line, without the characters that hide in one.
fn path_of(number: usize, path: &str) -> Result<String, InvalidPatch> {
    let path = path.trim_end();
    if path.is_empty() || path.chars().any(char::is_control) {
        return wrong(number, "the path is empty or has control characters");
    }
    Ok(path.to_owned())
}

fn hunks(lines: &mut Lines<'_>) -> Result<Vec<Hunk>, InvalidPatch> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut open = Hunk::default();
    let in_file = |line: &str| !line.starts_with("*** ") || line.trim_end() == END_OF_FILE;
    while let Some((number, line)) = lines.next_if(|(_, line)| in_file(line)) {
        if let Some(header) = line.strip_prefix("@@") {
            if open.has_lines() {
                hunks.push(std::mem::take(&mut open));
            }
            let header = header.trim();
            if !header.is_empty() {
                open.after
                    .push(header.trim_end_matches("@@").trim_end().to_owned());
            }
        } else if line.trim_end() == END_OF_FILE {
            open.place = Place::End;
            hunks.push(std::mem::take(&mut open));
        } else if let Some(text) = line.strip_prefix('+') {
            open.new.push(text.to_owned());
        } else if let Some(text) = line.strip_prefix('-') {
            open.old.push(text.to_owned());
        } else if line.is_empty() || line.starts_with(' ') {
            // An empty line of context often loses its blank on the way.
            let text = line.strip_prefix(' ').unwrap_or_default();
            open.old.push(text.to_owned());
            open.new.push(text.to_owned());
        } else {
            return wrong(
                number,
                "a line of a change begins with ` `, `+`, `-` or `@@`",
            );
        }
    }
    if open.has_lines() {
        hunks.push(open);
    } else if !open.after.is_empty() {
        let last = lines
            .peek()
            .map_or(0, |(number, _)| number.saturating_sub(1));
        return wrong(last, "`@@` without a change behind it");
    }
    Ok(hunks)
}

impl Hunk {
    fn has_lines(&self) -> bool {
        !self.old.is_empty() || !self.new.is_empty()
    }

    /// `lines` with this change made at or behind `from`; answers the place behind it. `None`: its lines are not there.
    pub(crate) fn apply(&self, lines: &mut Vec<String>, from: usize) -> Option<usize> {
        let mut start = from;
        for header in &self.after {
            let rest = lines.get(start..)?;
            start += 1 + rest.iter().position(|line| line.trim() == header.trim())?;
        }
        let at = self.find(lines, start)?;
        lines.splice(at..at + self.old.len(), self.new.iter().cloned());
        Some(at + self.new.len())
    }

    /// The first place where the old lines stand: exactly, else but for blanks at their ends.
    fn find(&self, lines: &[String], start: usize) -> Option<usize> {
        let count = self.old.len();
        let last = lines.len().checked_sub(count)?;
        if count == 0 {
            // Lines without a place: behind what was named, else at the end.
            let named = !self.after.is_empty() && self.place == Place::Anywhere;
            return Some(if named {
                start.min(lines.len())
            } else {
                lines.len()
            });
        }
        let first = match self.place {
            Place::Anywhere => start,
            Place::End => last.max(start),
        };
        let same: [fn(&str, &str) -> bool; 2] = [
            |one, other| one == other,
            |one, other| one.trim_end() == other.trim_end(),
        ];
        same.iter().find_map(|same| {
            (first..=last).find(|at| {
                let there = lines.iter().skip(*at);
                self.old
                    .iter()
                    .zip(there)
                    .all(|(old, line)| same(old, line))
            })
        })
    }
}

impl FileEdit {
    /// The paths that it touches, as written.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            Self::Add { path, .. } | Self::Delete { path } => (path, None),
            Self::Update { path, to, .. } => (path, to.as_ref()),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{FileEdit, InvalidPatch, MAX_PATCH_BYTES, parse};

    #[test]
    fn the_four_changes_are_read() {
        let text = "*** Begin Patch\n*** Add File: a\n+one\n+\n*** Delete File: b\n*** Update File: c\n*** Move to: d\n@@ fn x\n ctx\n-old\n+new\n@@\n+tail\n*** End of File\n*** End Patch\n";
        let edits = parse(text).expect("a patch");
        assert_eq!(edits.len(), 3);
        assert_eq!(
            edits[0],
            FileEdit::Add {
                path: "a".to_owned(),
                content: "one\n\n".to_owned()
            }
        );
        assert_eq!(edits[2].paths().collect::<Vec<_>>(), ["c", "d"]);
        let FileEdit::Update { hunks, .. } = &edits[2] else {
            panic!("an update")
        };
        assert_eq!(hunks[0].old, ["ctx", "old"]);
        assert_eq!(hunks[0].new, ["ctx", "new"]);
        assert_eq!(hunks[0].after, ["fn x"]);
        assert_eq!(hunks.len(), 2);
    }

    #[test]
    fn hunks_apply_in_order_and_only_where_their_lines_are() {
        let text =
            "*** Begin Patch\n*** Update File: c\n@@\n x\n-1\n+2\n@@ f\n x\n-1\n+3\n*** End Patch";
        let edits = parse(text).expect("a patch");
        let FileEdit::Update { hunks, .. } = &edits[0] else {
            panic!("an update")
        };
        let mut lines: Vec<String> = ["x", "1", "f", "x", "1"].map(str::to_owned).to_vec();
        let mut from = 0;
        for hunk in hunks {
            from = hunk.apply(&mut lines, from).expect("applied");
        }
        assert_eq!(lines, ["x", "2", "f", "x", "3"]);
        assert!(hunks[0].apply(&mut lines, 0).is_none());
    }

    #[test]
    fn what_is_no_patch_is_refused_with_its_line() {
        let begin = "*** Begin Patch\n";
        for (text, line) in [
            (String::new(), 1),
            ("x".to_owned(), 1),
            (begin.to_owned(), 2),
            (format!("{begin}x\n*** End Patch"), 2),
            (format!("{begin}*** Add File: \n*** End Patch"), 2),
            (format!("{begin}*** Add File: a\u{1b}b\n*** End Patch"), 2),
            (format!("{begin}*** Update File: a\n*** End Patch"), 2),
            (
                format!("{begin}*** Update File: a\n@@\nx\n*** End Patch"),
                4,
            ),
            (format!("{begin}*** Delete File: a\n*** End Patch\nx"), 4),
        ] {
            match parse(&text) {
                Err(InvalidPatch::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(
            parse(&format!("{begin}*** End Patch")),
            Err(InvalidPatch::Empty)
        );
        assert_eq!(
            parse(&" ".repeat(MAX_PATCH_BYTES + 1)),
            Err(InvalidPatch::TooLong)
        );
    }

    #[test]
    fn no_text_breaks_the_reader() {
        for seed in [
            "*** ",
            "@@",
            "+",
            "-",
            " ",
            "\n",
            "*** Update File: a\n",
            "*** End of File\n",
            "\u{0}",
        ] {
            let text = format!(
                "*** Begin Patch\n*** Update File: a\n{}\n*** End Patch",
                seed.repeat(100_000 / seed.len())
            );
            // Whatever it is, it is an answer.
            let edits = parse(&text).map_or(0, |edits| edits.len());
            assert!(edits <= 100_000);
        }
    }
}
