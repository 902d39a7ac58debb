//! Making a patch: every file read and its new content worked out before the first one is written.
//!
//! Apart from the decision because it is the effect. Inside the walls the kernel holds the borders; outside, every folder
//! is opened by its resolved path without following a link, so that what was reviewed is what is written. Invariant:
//! a patch that does not fit changes nothing.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};
use thiserror::Error;

use super::format::FileEdit;
use super::judge::resolve;

/// The largest file that is changed, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

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

/// One file as it will be.
struct Written {
    path: PathBuf,
    shown: String,
    content: Option<String>,
    mode: Mode,
}

/// Makes `edits` in `cwd`; answers a line for each.
///
/// # Errors
/// See [`ChangeError`]. Nothing was changed, but where the disk itself failed half-way.
pub(super) fn make(cwd: &Path, edits: &[FileEdit]) -> Result<Vec<String>, ChangeError> {
    let mut written = Vec::new();
    let mut told = Vec::new();
    for edit in edits {
        work_out(cwd, edit, &mut written)?;
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

fn work_out(cwd: &Path, edit: &FileEdit, written: &mut Vec<Written>) -> Result<(), ChangeError> {
    let at = |path: &str| resolve(cwd, path).ok_or_else(|| ChangeError::Path(path.to_owned()));
    match edit {
        FileEdit::Add { path, content } => {
            let place = at(path)?;
            if place.symlink_metadata().is_ok() {
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
                    if target != place && target.symlink_metadata().is_ok() {
                        return Err(ChangeError::Exists(to.clone()));
                    }
                    put(written, target.clone(), to, Some(content), mode);
                    if target != place {
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
    path: PathBuf,
    shown: &str,
    content: Option<String>,
    mode: Mode,
) {
    written.retain(|file| file.path != path);
    written.push(Written {
        path,
        shown: shown.to_owned(),
        content,
        mode,
    });
}

/// The file as the edits before left it, else as it lies on disk.
fn current(written: &[Written], path: &Path, shown: &str) -> Result<(String, Mode), ChangeError> {
    let failed = |source| ChangeError::File {
        path: shown.to_owned(),
        source,
    };
    if let Some(file) = written.iter().find(|file| file.path == path) {
        let gone = || failed(io::Error::from(io::ErrorKind::NotFound));
        return Ok((file.content.clone().ok_or_else(gone)?, file.mode));
    }
    let read = || -> io::Result<(String, Mode)> {
        let (folder, name) = folder_of(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() || found.len() > MAX_FILE {
            return Err(io::Error::other(
                "it is not a regular file of at most 64 MiB",
            ));
        }
        let mode = Mode::from_raw_mode(
            std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777,
        );
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        Ok((text, mode))
    };
    read().map_err(failed)
}

/// The folder of `path`, opened without following any link: the path is resolved already.
fn folder_of(path: &Path) -> io::Result<(OwnedFd, &std::ffi::OsStr)> {
    let nowhere = || io::Error::from(io::ErrorKind::InvalidInput);
    let folder = path.parent().ok_or_else(nowhere)?;
    let name = path.file_name().ok_or_else(nowhere)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat2(
        rustix::fs::CWD,
        folder,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )?;
    Ok((opened, name))
}

fn write(file: &Written) -> io::Result<()> {
    if let (Some(_), Some(folder)) = (&file.content, file.path.parent()) {
        std::fs::create_dir_all(folder)?;
    }
    let (folder, name) = folder_of(&file.path)?;
    let Some(content) = &file.content else {
        return Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?);
    };
    let beside = format!(".{}.patch", uuid::Uuid::new_v4());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&folder, beside.as_str(), flags, file.mode)?;
    let put = || -> io::Result<()> {
        let mut made = File::from(made);
        made.write_all(content.as_bytes())?;
        rustix::fs::renameat(&folder, beside.as_str(), &folder, name)?;
        Ok(())
    };
    put().inspect_err(|_| {
        rustix::fs::unlinkat(&folder, beside.as_str(), AtFlags::empty()).unwrap_or_default();
    })
}
