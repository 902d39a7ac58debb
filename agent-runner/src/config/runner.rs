//! `$CODEX_HOME/agent-runner.toml`: the settings that only this program knows. All of it is optional.

use std::path::PathBuf;

use protocol::ServerKey;
use serde::Deserialize;

use super::error::ConfigError;
use super::evidence::{EvidenceLimits, EvidenceTable};
use crate::config::Environment;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRunner {
    server_url: Option<String>,
    server_key: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    state: RawState,
    evidence: EvidenceTable,
    #[cfg(feature = "embedded")]
    reviewer: reviewer::ReviewerTable,
    #[cfg(feature = "embedded")]
    policy: reviewer::PolicyTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawState {
    dir: Option<PathBuf>,
}

/// What the runner's own file says.
#[derive(Debug, Clone)]
pub(crate) struct RunnerSettings {
    /// The server to ask; `None`: the embedded one.
    pub(crate) server: Option<RemoteServer>,
    /// Where state lives.
    pub(crate) state_dir: PathBuf,
    /// How long and how much is looked at before a question is put.
    pub(crate) evidence: EvidenceLimits,
    /// How the embedded reviewer judges.
    #[cfg(feature = "embedded")]
    pub(crate) reviewer: reviewer::ReviewerTable,
    /// The embedded reviewer's policy section.
    #[cfg(feature = "embedded")]
    pub(crate) policy: reviewer::PolicyTable,
}

/// A server somewhere else.
#[derive(Debug, Clone)]
pub(crate) struct RemoteServer {
    /// `https://…`, or `http://` on loopback.
    pub(crate) url: reqwest::Url,
    /// The key that its decisions must be signed with.
    pub(crate) key: ServerKey,
    /// The file that holds the bearer token.
    pub(crate) token_file: PathBuf,
    /// A certificate authority beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl RunnerSettings {
    pub(super) fn from_raw(
        raw: RawRunner,
        file: &str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let invalid = |key: &'static str, reason: String| ConfigError::Value {
            file: file.to_owned(),
            key,
            reason,
        };
        let server = match raw.server_url {
            None => None,
            Some(url) => {
                let url = server_url(&url).map_err(|reason| invalid("server_url", reason))?;
                let key = raw.server_key.ok_or_else(|| {
                    invalid(
                        "server_key",
                        "is needed with `server_url`: what `auto-review-server key show` prints"
                            .to_owned(),
                    )
                })?;
                let key = key
                    .parse()
                    .map_err(|error| invalid("server_key", format!("{error}")))?;
                let token_file = raw.token_file.ok_or_else(|| {
                    invalid("token_file", "is needed with `server_url`".to_owned())
                })?;
                Some(RemoteServer {
                    url,
                    key,
                    token_file: environment.expand_home(&token_file),
                    ca_file: raw.ca_file.map(|path| environment.expand_home(&path)),
                })
            }
        };
        let state_dir = raw.state.dir.map_or_else(
            || environment.state_dir.clone(),
            |dir| environment.expand_home(&dir),
        );
        if state_dir.is_relative() {
            return Err(invalid(
                "state.dir",
                format!("`{}` is not an absolute path", state_dir.display()),
            ));
        }
        let evidence =
            EvidenceLimits::try_from(raw.evidence).map_err(|(key, reason)| invalid(key, reason))?;
        Ok(Self {
            server,
            state_dir,
            evidence,
            #[cfg(feature = "embedded")]
            reviewer: with_home(raw.reviewer, environment),
            #[cfg(feature = "embedded")]
            policy: reviewer::PolicyTable {
                section_file: raw
                    .policy
                    .section_file
                    .map(|path| environment.expand_home(&path)),
                ..raw.policy
            },
        })
    }
}

impl RunnerSettings {
    /// For reading the record, which takes no model and no key.
    pub(crate) fn ask_no_model(&mut self) {
        #[cfg(feature = "embedded")]
        {
            self.reviewer = reviewer::ReviewerTable::default();
            self.policy = reviewer::PolicyTable::default();
        }
    }

    /// The variables that hold a reviewer's key: no command may see them, whatever their names say.
    pub(crate) fn key_variables(&self) -> Vec<String> {
        #[cfg(feature = "embedded")]
        let names = self
            .reviewer
            .model
            .iter()
            .filter_map(|model| model.api_key_env.clone())
            .collect();
        #[cfg(not(feature = "embedded"))]
        let names = Vec::new();
        names
    }
}

/// `~/…` in the paths of the reviewer's table.
#[cfg(feature = "embedded")]
fn with_home(
    mut table: reviewer::ReviewerTable,
    environment: &Environment,
) -> reviewer::ReviewerTable {
    for model in &mut table.model {
        model.api_key_file = model
            .api_key_file
            .take()
            .map(|path| environment.expand_home(&path));
    }
    table
}

/// A token must not travel in clear text: plain HTTP is for loopback only.
fn server_url(text: &str) -> Result<reqwest::Url, String> {
    let url =
        reqwest::Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    let loopback = match url.host_str() {
        Some("localhost" | "127.0.0.1" | "[::1]") => true,
        Some(_) | None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(format!(
            "`{text}` would send the token in clear text; use https"
        )),
        other => Err(format!("`{other}` is not http or https")),
    }
}

#[cfg(test)]
mod tests {
    use super::server_url;

    #[test]
    fn a_token_never_travels_in_clear_text() {
        assert!(server_url("http://10.0.0.5:8787").is_err());
        assert!(server_url("http://127.0.0.1.example.com").is_err());
        assert!(server_url("ftp://127.0.0.1").is_err());
        assert!(server_url("http://127.0.0.1:8787").is_ok());
        assert!(server_url("https://reviewer.example.com").is_ok());
    }
}
