//! What is wrong with a profile: in which file, at which key, on which line.
//!
//! The line is looked up when there is something to tell, by reading the file once more: the layers carry values, not
//! places.

use std::fmt;
use std::path::Path;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::config::error::read_text;

/// Why no profile is in force. Nothing runs then.
#[derive(Debug, Error)]
pub(crate) enum PermissionsError {
    /// Something in a table is not as it must be.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

/// One key and what is wrong with it.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) struct Fault {
    file: String,
    line: Option<usize>,
    key: String,
    reason: String,
}

impl Fault {
    /// A fault at the key that `keys` lead to.
    pub(super) fn new(file: &str, keys: &[&str], reason: String) -> Self {
        Self {
            file: file.to_owned(),
            line: line_of(file, keys),
            key: keys
                .iter()
                .map(|key| quoted(key))
                .collect::<Vec<_>>()
                .join("."),
            reason,
        }
    }
}

impl From<Fault> for PermissionsError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A flag has no key in it.
        if self.file.starts_with("--") {
            return write!(out, "`{}`: {}", self.file, self.reason);
        }
        write!(out, "`{}` in `{}", self.key, self.file)?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        match self.reason.strip_prefix("is there") {
            Some(rest) => write!(out, "` is there{rest}"),
            None => write!(out, "`: {}", self.reason),
        }
    }
}

/// A key as TOML writes it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// The line of the deepest of `keys` that the file has.
fn line_of(file: &str, keys: &[&str]) -> Option<usize> {
    let text = read_text(Path::new(file)).ok().flatten()?;
    let document = DeTable::parse(&text).ok()?;
    let mut table = document.get_ref();
    let mut place = None;
    for wanted in keys {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == wanted) else {
            break;
        };
        place = Some(key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => break,
        }
    }
    let before = text.get(..place?)?;
    Some(before.bytes().filter(|byte| *byte == b'\n').count() + 1)
}
