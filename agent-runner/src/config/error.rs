//! Why the settings cannot be used, and the reading of files that all layers share.

use std::fs::{Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

/// The longest settings file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why the settings cannot be used. Nothing runs then.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or a `-c` value is not TOML, or not what the key takes.
    #[error("`{file}` is not valid: {reason}")]
    Syntax {
        /// The file or `-c`.
        file: String,
        /// What and where.
        reason: String,
    },
    /// A key's value is not one it takes.
    #[error("`{key}` in `{file}`: {reason}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key asks for a wall that this version cannot build.
    #[error(
        "`{key}` in `{file}` asks for {what}, which this version cannot enforce\nhint: nothing runs with less than what was asked; remove the key, or set CODEX_HOME to a folder without it"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it asks for.
        what: String,
    },
    /// `CODEX_HOME` names no folder: settings and rules that restrict would be missed in silence.
    #[error("`CODEX_HOME` is `{}`, which is not a folder\nhint: make it with `mkdir -m 0700`, or unset the variable for `~/.codex`", .0.display())]
    NoHome(PathBuf),
    /// A rules file does not load.
    #[error(transparent)]
    Rules(#[from] crate::rules_file::RulesFileError),
    /// A permission profile is not as it must be.
    #[error(transparent)]
    Permissions(#[from] super::permissions::PermissionsError),
}

pub(super) fn unsupported(file: &str, key: &str, what: &str) -> ConfigError {
    ConfigError::Unsupported {
        file: file.to_owned(),
        key: key.to_owned(),
        what: what.to_owned(),
    }
}

pub(super) fn syntax(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let reason = error.message().lines().collect::<Vec<_>>().join("; ");
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line =
        before.lines().count().max(1) + usize::from(before.ends_with('\n') && !before.is_empty());
    ConfigError::Syntax {
        file: format!("{file}:{line}"),
        reason,
    }
}

/// A settings file of the user or the administrator: nobody else may be able to change it.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    read_with(path, OFlags::NONBLOCK, held)
}

/// Whether only this user and the administrator can change what `metadata` is of: it says what runs outside the walls.
pub(super) fn held(metadata: &Metadata) -> std::io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if ![0, me].contains(&metadata.uid()) {
        return Err(std::io::Error::other(format!(
            "it belongs to user {}, who could change what it allows\nhint: chown it to user {me}",
            metadata.uid()
        )));
    }
    let mode = metadata.mode() & 0o7777;
    // A sticky folder keeps others from taking away, and not from adding.
    if mode & 0o022 != 0 {
        return Err(std::io::Error::other(format!(
            "others can change what it allows (mode {mode:04o})\nhint: chmod go-w it"
        )));
    }
    Ok(())
}

/// A settings file: regular, of at most 1 MiB. What is put there to be waited for or to be endless is not read.
fn read_with(
    path: &Path,
    flags: OFlags,
    check: fn(&Metadata) -> std::io::Result<()>,
) -> Result<Option<String>, ConfigError> {
    let read = || -> std::io::Result<String> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        check(&metadata)?;
        let mut text = String::new();
        if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
            return Err(std::io::Error::other(format!(
                "it is longer than {MAX_BYTES} bytes"
            )));
        }
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A project's own file: never by a link, to whatever that leads. A folder that is none holds no file: while a command
/// runs, and after one that nobody could clean up after, a missing `.codex` is a socket that keeps the name free.
pub(super) fn read_project_text(path: &Path) -> Result<Option<String>, ConfigError> {
    match read_with(path, OFlags::NONBLOCK | OFlags::NOFOLLOW, |_| Ok(())) {
        Err(ConfigError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Ok(None)
        }
        other => other,
    }
}

pub(super) fn read_table(path: &Path) -> Result<Option<Table>, ConfigError> {
    table(path, read_text(path)?)
}

/// A project's own file, which a command may have written: never by a link, to whatever that leads.
pub(super) fn read_project_table(path: &Path) -> Result<Option<Table>, ConfigError> {
    table(path, read_project_text(path)?)
}

fn table(path: &Path, text: Option<String>) -> Result<Option<Table>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|error| syntax(&path.display().to_string(), &text, &error))
}

pub(super) fn read_value<T: DeserializeOwned>(
    value: &Value,
    file: &str,
    key: &'static str,
) -> Result<T, ConfigError> {
    value
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Value {
            file: with_line(file, key),
            key,
            // The path within the value stands on lines of its own.
            reason: error
                .to_string()
                .trim()
                .replace('\n', " ")
                // An enumeration's reader speaks of itself.
                .replace(
                    "invalid type: unit variant, expected string only",
                    "a text in quotation marks is wanted",
                ),
        })
}

/// `file:line` of the first line that sets `key`, where there is one: values have lost their place by now.
fn with_line(file: &str, key: &str) -> String {
    let text = if file.starts_with('/') {
        read_text(Path::new(file)).ok().flatten()
    } else {
        None
    };
    let names = |line: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=', '.', ']']))
    };
    let at = text.and_then(|text| text.lines().position(names));
    at.map_or_else(|| file.to_owned(), |at| format!("{file}:{}", at + 1))
}
