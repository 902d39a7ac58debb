//! The process environment, read once. No other file asks for a variable.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use thiserror::Error;

/// What the environment says, and what of it a command may see.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// The user's home folder.
    pub(crate) home: PathBuf,
    /// Where settings live: `CODEX_HOME`, else `~/.codex`.
    pub(crate) codex_home: PathBuf,
    /// Where state lives: `XDG_STATE_HOME/auto-review`, else `~/.local/state/auto-review`.
    pub(crate) state_dir: PathBuf,
    /// The folders in which programs are looked up, absolute ones only.
    pub(crate) path: Vec<PathBuf>,
    /// The user's name, for the record.
    pub(crate) user: String,
    /// `AUTO_REVIEW_SESSION`.
    pub(crate) session: Option<String>,
    /// `AUTO_REVIEW_TURN`.
    pub(crate) turn: Option<String>,
    /// The whole environment as it was.
    pub(crate) all: Vec<(OsString, OsString)>,
}

/// Why the environment cannot be used.
#[derive(Debug, Error)]
pub(crate) enum InvalidEnvironment {
    /// Neither `HOME` nor what depends on it is known.
    #[error(
        "`HOME` is not set to an absolute path\nhint: set HOME to the folder of the user who runs this"
    )]
    Home,
    /// A folder is named by a relative path.
    #[error("`{name}` is `{}`, which is not an absolute path", path.display())]
    Relative {
        /// The variable.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

impl Environment {
    /// Reads the process environment.
    ///
    /// # Errors
    /// `HOME` is missing, or a folder is relative.
    pub(crate) fn read() -> Result<Self, InvalidEnvironment> {
        Self::from_variables(std::env::vars_os().collect())
    }

    fn from_variables(all: Vec<(OsString, OsString)>) -> Result<Self, InvalidEnvironment> {
        let find = |name: &str| {
            all.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let text = |name: &str| {
            find(name)
                .and_then(|value| value.into_string().ok())
                .filter(|v| !v.is_empty())
        };
        let folder = |name: &'static str| match find(name).map(PathBuf::from) {
            Some(path) if path.as_os_str().is_empty() => Ok(None),
            Some(path) if path.is_relative() => Err(InvalidEnvironment::Relative { name, path }),
            other => Ok(other),
        };
        let home = folder("HOME")?.ok_or(InvalidEnvironment::Home)?;
        let codex_home = folder("CODEX_HOME")?.unwrap_or_else(|| home.join(".codex"));
        let state_home = folder("XDG_STATE_HOME")?.unwrap_or_else(|| home.join(".local/state"));
        let path = find("PATH").unwrap_or_default();
        Ok(Self {
            codex_home,
            state_dir: state_home.join("auto-review"),
            path: std::env::split_paths(&path)
                .filter(|folder| folder.is_absolute())
                .collect(),
            user: text("USER")
                .or_else(|| text("LOGNAME"))
                .unwrap_or_else(|| format!("uid:{}", rustix::process::getuid().as_raw())),
            session: text("AUTO_REVIEW_SESSION"),
            turn: text("AUTO_REVIEW_TURN"),
            home,
            all,
        })
    }

    /// Looks a variable up by name, for a setting that names one (`api_key_env`).
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        self.all
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.clone().into_string().ok())
    }

    /// The proxy through which this machine reaches others, by the usual variables, where one is named.
    pub(crate) fn upstream_proxy(&self) -> Option<SecretString> {
        const NAMES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"];
        let value = |name: &&str| {
            let (_, value) = self
                .all
                .iter()
                .find(|(key, _)| key.to_str() == Some(*name))?;
            value.to_str().filter(|value| !value.is_empty())
        };
        NAMES.iter().find_map(value).map(SecretString::from)
    }

    /// A path of `agent-runner.toml` or `config.toml`: a relative one belongs to the folder of the file, never to the working
    /// directory, which commands may write.
    pub(crate) fn of_own_file(&self, path: &Path) -> PathBuf {
        self.codex_home.join(self.expand_home(path))
    }

    /// `~/…` and `~` as absolute paths; everything else as it is.
    pub(crate) fn expand_home(&self, path: &Path) -> PathBuf {
        path.strip_prefix("~")
            .map_or_else(|_| path.to_owned(), |rest| self.home.join(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let all = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Environment::from_variables(all).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_follow_home_unless_they_are_named() {
        let plain = read(&[("HOME", "/h")]).expect("valid");
        assert_eq!(plain.codex_home.as_os_str(), "/h/.codex");
        assert_eq!(plain.state_dir.as_os_str(), "/h/.local/state/auto-review");
        let named = read(&[
            ("HOME", "/h"),
            ("CODEX_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
        ])
        .expect("valid");
        assert_eq!(named.codex_home.as_os_str(), "/c");
        assert_eq!(named.state_dir.as_os_str(), "/s/auto-review");
    }

    #[test]
    fn a_relative_folder_is_refused_and_a_relative_path_entry_is_left_out() {
        assert!(read(&[("HOME", "h")]).is_err());
        assert!(read(&[("HOME", "/h"), ("CODEX_HOME", "c")]).is_err());
        let read = read(&[("HOME", "/h"), ("PATH", "bin:/usr/bin::./x")]).expect("valid");
        assert_eq!(read.path, [std::path::Path::new("/usr/bin")]);
    }
}
