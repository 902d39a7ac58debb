//! `$CODEX_HOME/agent-runner.toml`: the settings that only this program knows. All of it is optional.

use std::path::PathBuf;

use protocol::{ServerKey, TriggerKind};
use serde::Deserialize;

use super::error::ConfigError;
use super::evidence::{EvidenceLimits, EvidenceTable};
use super::limits::{LimitsTable, RunLimits};
use super::network::NetworkTable;
use super::rules::RulesTable;
use crate::ask::Holds;
use crate::config::Environment;
use crate::route::OnRequest;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRunner {
    server_url: Option<String>,
    server_key: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    state: RawState,
    retry_on_denial: bool,
    ask_person: Vec<TriggerKind>,
    fallback: Fallback,
    host_approvals: HostApprovals,
    network: NetworkTable,
    rules: RulesTable,
    evidence: EvidenceTable,
    limits: LimitsTable,
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

/// `[fallback]`: what follows where the reviewer did not approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fallback {
    /// It said no.
    pub(crate) on_deny: OnEnd,
    /// It did not answer in time.
    pub(crate) on_timeout: OnEnd,
    /// The review did not come off.
    pub(crate) on_failure: OnEnd,
}

/// What follows an end without approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnEnd {
    /// It does not run.
    #[default]
    Block,
    /// The person at the terminal is asked.
    User,
    /// It waits at the server for an approver.
    Queue,
}

/// How long the reviewer's yes about a host that no rule names holds. A person chooses at each question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostApprovals {
    /// Until the command ends.
    #[default]
    Once,
    /// For the rest of the session, where one is named.
    Session,
}

impl HostApprovals {
    /// The word in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
        }
    }

    /// The same, as answers say it.
    pub(crate) const fn holds(self) -> Holds {
        match self {
            Self::Once => Holds::Command,
            Self::Session => Holds::Session,
        }
    }
}

/// What the runner's own file says.
#[derive(Debug, Clone)]
pub(crate) struct RunnerSettings {
    /// The server to ask; `None`: the embedded one.
    pub(crate) server: Option<RemoteServer>,
    /// Where state lives.
    pub(crate) state_dir: PathBuf,
    /// Whether the runner asks by itself under `on-request` where the walls stopped a command.
    pub(crate) retry: OnRequest,
    /// The kinds of question that a person answers, whoever the reviewer is.
    pub(crate) ask_person: Vec<TriggerKind>,
    /// What follows where the reviewer did not approve.
    pub(crate) fallback: Fallback,
    /// How long the reviewer's yes about a host holds.
    pub(crate) host_approvals: HostApprovals,
    /// What of the network only this file says.
    pub(crate) network: NetworkTable,
    /// Rules that stand in this file: they restrict, and may demand a person.
    pub(super) rules: RulesTable,
    /// How long and how much is looked at before a question is put.
    pub(crate) evidence: EvidenceLimits,
    /// What commands are held to.
    pub(crate) limits: RunLimits,
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
        mut raw: RawRunner,
        file: &str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let invalid = |key: &'static str, reason: String| ConfigError::Value {
            file: file.to_owned(),
            key,
            reason,
        };
        let server =
            remote_server(&mut raw, environment).map_err(|(key, reason)| invalid(key, reason))?;
        let state_dir = raw.state.dir.map_or_else(
            || environment.state_dir.clone(),
            |dir| environment.of_own_file(&dir),
        );
        let ends = [
            raw.fallback.on_deny,
            raw.fallback.on_timeout,
            raw.fallback.on_failure,
        ];
        if ends.contains(&OnEnd::Queue) && server.is_none() {
            let reason = "`queue` needs `server_url`: the reviewer in this process ends with its command, so that nobody could answer; use `user` or `block`";
            return Err(invalid("fallback", reason.to_owned()));
        }
        let network = std::mem::take(&mut raw.network)
            .settled(environment)
            .map_err(|(key, reason)| invalid(key, reason))?;
        let evidence =
            EvidenceLimits::try_from(raw.evidence).map_err(|(key, reason)| invalid(key, reason))?;
        let limits =
            RunLimits::try_from(raw.limits).map_err(|(key, reason)| invalid(key, reason))?;
        Ok(Self {
            server,
            state_dir,
            retry: if raw.retry_on_denial {
                OnRequest::RunnerAsks
            } else {
                OnRequest::AgentAsks
            },
            ask_person: raw.ask_person,
            fallback: raw.fallback,
            host_approvals: raw.host_approvals,
            network,
            rules: raw.rules,
            evidence,
            limits,
            #[cfg(feature = "embedded")]
            reviewer: raw
                .reviewer
                .with_paths(&|path| environment.of_own_file(path)),
            #[cfg(feature = "embedded")]
            policy: raw.policy.with_paths(&|path| environment.of_own_file(path)),
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

/// The server that the file names, whole.
fn remote_server(
    raw: &mut RawRunner,
    environment: &Environment,
) -> Result<Option<RemoteServer>, (&'static str, String)> {
    let Some(url) = raw.server_url.take() else {
        return Ok(None);
    };
    let url = server_url(&url).map_err(|reason| ("server_url", reason))?;
    let needed = |key, what: &str| (key, format!("is needed with `server_url`{what}"));
    let key = raw
        .server_key
        .take()
        .ok_or_else(|| needed("server_key", ": what `auto-review-server key show` prints"))?;
    let key = key
        .parse()
        .map_err(|error| ("server_key", format!("{error}")))?;
    let token_file = raw
        .token_file
        .take()
        .ok_or_else(|| needed("token_file", ""))?;
    Ok(Some(RemoteServer {
        url,
        key,
        token_file: environment.of_own_file(&token_file),
        ca_file: raw
            .ca_file
            .take()
            .map(|path| environment.of_own_file(&path)),
    }))
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
