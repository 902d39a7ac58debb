//! Making a patch: every file read and its new content worked out before the first one is written.
//!
//! Apart from the decision because it is the effect. Inside the walls the kernel holds the borders; outside, every file is
//! reached through the folder that was held when the patch was read ([`super::place`]). Invariant: a patch that does not
//! fit changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::Mode;
use thiserror::Error;

use super::format::FileEdit;
use super::judge::resolve;
use super::place::Place;

/// Why a patch was not made.
#[derive(Debug, Error)]
pub(super) enum ChangeError {
    /// A path leads nowhere.
    #[error("`{0}` is not a path that can be changed")]
    Path(String),
    /// A file cannot be read or written.
    #[error("cannot change `{path}`")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lines to be changed are not there.
    #[error(
        "change {hunk} of `{path}` does not fit: its lines are not there\nhint: read the file again and make the patch anew"
    )]
    Unfitting {
        /// Which file.
        path: String,
        /// Which of its changes, from 1.
        hunk: usize,
    },
    /// A file that is to be made is there.
    #[error("`{0}` is there already")]
    Exists(String),
}

/// The files of a patch, each held once.
#[derive(Debug)]
pub(super) struct Held(Vec<(String, Rc<Place>)>);

/// One file as it will be.
struct Written {
    place: Rc<Place>,
    shown: String,
    content: Option<String>,
    mode: Mode,
}

impl Held {
    /// Holds every file that `edits` in `cwd` name.
    ///
    /// # Errors
    /// A path leads nowhere, or its folder cannot be opened.
    pub(super) fn of(cwd: &Path, edits: &[FileEdit]) -> Result<Self, ChangeError> {
        let mut held: Vec<(String, Rc<Place>)> = Vec::new();
        for path in edits.iter().flat_map(FileEdit::paths) {
            let resolved = resolve(cwd, path).ok_or_else(|| ChangeError::Path(path.to_owned()))?;
            let known = held.iter().find(|(_, place)| place.path() == resolved);
            let place = match known {
                Some((_, place)) => Rc::clone(place),
                None => {
                    let place = Place::hold(resolved).map_err(|source| ChangeError::File {
                        path: path.to_owned(),
                        source,
                    })?;
                    Rc::new(place)
                }
            };
            held.push((path.to_owned(), place));
        }
        Ok(Self(held))
    }

    /// Where the edits lead, each file once.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for (_, place) in &self.0 {
            if !files.iter().any(|file| file == place.path()) {
                files.push(place.path().to_owned());
            }
        }
        files
    }

    /// Whether every path still leads to the folder that is held.
    pub(super) fn is_still_there(&self) -> bool {
        self.0.iter().all(|(_, place)| place.is_still_there())
    }

    fn at(&self, path: &str) -> Result<Rc<Place>, ChangeError> {
        let found = self.0.iter().find(|(written, _)| written == path);
        found
            .map(|(_, place)| Rc::clone(place))
            .ok_or_else(|| ChangeError::Path(path.to_owned()))
    }
}

/// Whether `edits` could be made on the `held` files as they stand; nothing is changed.
///
/// # Errors
/// See [`ChangeError`].
pub(super) fn check(held: &Held, edits: &[FileEdit]) -> Result<(), ChangeError> {
    let mut written = Vec::new();
    edits
        .iter()
        .try_for_each(|edit| work_out(held, edit, &mut written))
}

/// Makes `edits` on the `held` files; answers a line for each.
///
/// # Errors
/// See [`ChangeError`]. Nothing was changed, but where the disk itself failed half-way.
pub(super) fn make(held: &Held, edits: &[FileEdit]) -> Result<Vec<String>, ChangeError> {
    let mut written = Vec::new();
    let mut told = Vec::new();
    for edit in edits {
        work_out(held, edit, &mut written)?;
        told.push(match edit {
            FileEdit::Add { path, .. } => format!("A {path}"),
            FileEdit::Delete { path } => format!("D {path}"),
            FileEdit::Update { path, to: None, .. } => format!("M {path}"),
            FileEdit::Update {
                path, to: Some(to), ..
            } => format!("R {path} -> {to}"),
        });
    }
    for file in &written {
        write(file).map_err(|source| ChangeError::File {
            path: file.shown.clone(),
            source,
        })?;
    }
    Ok(told)
}

fn work_out(held: &Held, edit: &FileEdit, written: &mut Vec<Written>) -> Result<(), ChangeError> {
    let at = |path: &str| held.at(path);
    match edit {
        FileEdit::Add { path, content } => {
            let place = at(path)?;
            if place.is_taken() {
                return Err(ChangeError::Exists(path.clone()));
            }
            put(
                written,
                place,
                path,
                Some(content.clone()),
                Mode::from_raw_mode(0o644),
            );
        }
        FileEdit::Delete { path } => {
            let place = at(path)?;
            let (_, mode) = current(written, &place, path)?;
            put(written, place, path, None, mode);
        }
        FileEdit::Update { path, to, hunks } => {
            let place = at(path)?;
            let (text, mode) = current(written, &place, path)?;
            let ends = text.is_empty() || text.ends_with('\n');
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let mut from = 0;
            for (number, hunk) in hunks.iter().enumerate() {
                from = hunk
                    .apply(&mut lines, from)
                    .ok_or_else(|| ChangeError::Unfitting {
                        path: path.clone(),
                        hunk: number + 1,
                    })?;
            }
            let mut content = lines.join("\n");
            if ends && !content.is_empty() {
                content.push('\n');
            }
            match to {
                Some(to) => {
                    let target = at(to)?;
                    let moved = target.path() != place.path();
                    if moved && target.is_taken() {
                        return Err(ChangeError::Exists(to.clone()));
                    }
                    put(written, target, to, Some(content), mode);
                    if moved {
                        put(written, place, path, None, mode);
                    }
                }
                None => put(written, place, path, Some(content), mode),
            }
        }
    }
    Ok(())
}

fn put(
    written: &mut Vec<Written>,
    place: Rc<Place>,
    shown: &str,
    content: Option<String>,
    mode: Mode,
) {
    written.retain(|file| file.place.path() != place.path());
    written.push(Written {
        place,
        shown: shown.to_owned(),
        content,
        mode,
    });
}

/// The file as the edits before left it, else as it lies on disk.
fn current(written: &[Written], place: &Place, shown: &str) -> Result<(String, Mode), ChangeError> {
    let failed = |source| ChangeError::File {
        path: shown.to_owned(),
        source,
    };
    let known = written
        .iter()
        .find(|file| file.place.path() == place.path());
    if let Some(file) = known {
        let gone = || failed(io::Error::from(io::ErrorKind::NotFound));
        return Ok((file.content.clone().ok_or_else(gone)?, file.mode));
    }
    place.read().map_err(failed)
}

fn write(file: &Written) -> io::Result<()> {
    match &file.content {
        Some(content) => file.place.write(content, file.mode),
        None => file.place.remove(),
    }
}
