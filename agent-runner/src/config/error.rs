//! Why the settings cannot be used, and the reading of files that all layers share.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

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
    /// The managed requirements forbid a value.
    #[error(
        "`{key} = \"{value}\"` is not allowed by `/etc/codex/requirements.toml`\nhint: allowed: {allowed}"
    )]
    Forbidden {
        /// The key.
        key: &'static str,
        /// The value in force.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

pub(super) fn unsupported(file: &str, key: &str, what: &str) -> ConfigError {
    ConfigError::Unsupported {
        file: file.to_owned(),
        key: key.to_owned(),
        what: what.to_owned(),
    }
}

pub(super) fn syntax(file: &str, error: &toml::de::Error) -> ConfigError {
    let reason = error.to_string().trim().replace('\n', "\n  ");
    ConfigError::Syntax {
        file: file.to_owned(),
        reason,
    }
}

pub(super) fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

pub(super) fn read_table(path: &Path) -> Result<Option<Table>, ConfigError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error| syntax(&path.display().to_string(), &error))
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
            file: file.to_owned(),
            key,
            reason: error.message().to_owned(),
        })
}
