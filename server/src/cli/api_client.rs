//! A running server, as the command line calls it with somebody's token.
//!
//! Apart from the commands, because several kinds of people call. Invariants: the token comes from a private file, never from
//! an argument; it goes to the named server alone, through no proxy and by no redirect.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use protocol::{Printable, Problem, parse_strict};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CommandError;
use crate::config::Config;
use crate::private_files::open_private_file;
use crate::store::StoreError;

/// The longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 1_024;
/// How long a call may take: what decides waits for its record.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(super) struct At {
    /// The server; the settings' own address where it is not said.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A private file with a token that may do it.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

impl At {
    pub(super) fn new(server: Option<String>, token_file: PathBuf) -> Self {
        Self { server, token_file }
    }
}

/// The server, and the token to call it with.
pub(super) struct Server {
    url: String,
    client: Client,
    token: SecretString,
}

impl Server {
    pub(super) fn of(config: &Config, at: &At) -> Result<Self, CommandError> {
        let url = match &at.server {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", config.listen),
        };
        let file = open_private_file(&at.token_file).map_err(CommandError::TokenFile)?;
        let mut token = String::new();
        let read = file.take(MAX_TOKEN).read_to_string(&mut token);
        let token = token.trim();
        if read.is_err() || token.is_empty() {
            return Err(CommandError::NoTokenInFile);
        }
        // One that is installed already is as good.
        let _before = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .timeout(PATIENCE)
            // The token is for this server alone.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if url.starts_with("http:") {
            // No certificate will be asked for, so none of the machine's are read.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| unreachable(&url, &error))?;
        Ok(Self {
            client,
            token: SecretString::from(token),
            url,
        })
    }

    /// What the server tells.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let url = format!("{}{path}", self.url);
        let call = self.client.get(url).bearer_auth(self.token.expose_secret());
        self.told(call.send().await).await
    }

    /// What the server answers to `body`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CommandError> {
        let body = serde_json::to_vec(body)
            .map_err(|_| StoreError::Corrupt("a call cannot be spelled"))?;
        let call = self
            .client
            .post(format!("{}{path}", self.url))
            .bearer_auth(self.token.expose_secret())
            .header("content-type", "application/json")
            .body(body);
        self.told(call.send().await).await
    }

    /// Has the server do what it answers nothing to.
    pub(super) async fn delete(&self, path: &str) -> Result<(), CommandError> {
        let url = format!("{}{path}", self.url);
        let call = self.client.delete(url);
        let sent = call.bearer_auth(self.token.expose_secret()).send().await;
        self.answered(sent).await.map(drop)
    }

    /// The same by `POST`, without a body.
    pub(super) async fn ask(&self, path: &str) -> Result<(), CommandError> {
        let url = format!("{}{path}", self.url);
        let call = self.client.post(url);
        let sent = call.bearer_auth(self.token.expose_secret()).send().await;
        self.answered(sent).await.map(drop)
    }

    async fn told<T: DeserializeOwned>(
        &self,
        sent: Result<Response, reqwest::Error>,
    ) -> Result<T, CommandError> {
        let bytes = self.answered(sent).await?;
        parse_strict(&bytes).map_err(|error| refused("unreadable", &error.to_string()))
    }

    async fn answered(
        &self,
        sent: Result<Response, reqwest::Error>,
    ) -> Result<Vec<u8>, CommandError> {
        let failed = |error: reqwest::Error| unreachable(&self.url, &error);
        let response = sent.map_err(failed)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(failed)?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let problem: Option<Problem> = serde_json::from_slice(&bytes).ok();
        Err(match problem {
            Some(problem) => refused(&problem.code, &problem.detail),
            None => refused(status.as_str(), "without an explanation"),
        })
    }
}

/// Why nothing came back from `url`, without the layers that it went through.
fn unreachable(url: &str, error: &reqwest::Error) -> CommandError {
    let why = if error.is_builder() {
        "that is no URL".to_owned()
    } else if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        innermost.to_string()
    };
    CommandError::Unreachable(Printable(url).to_string(), why)
}

fn refused(code: &str, detail: &str) -> CommandError {
    CommandError::RefusedByServer {
        code: Printable(code).to_string(),
        detail: Printable(detail).to_string(),
    }
}
