//! `queue`, `approve`, `deny`: an approver at a terminal, through the API of a running server.
//!
//! Apart from what reads the database's file, because an answer must reach the process that waits for it. Invariants: the
//! token comes from a private file, never from an argument; what is answered is what the person looked at, by its digest.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use protocol::{
    ApproverAnswer, PersonsAnswer, Printable, Problem, ReviewDetail, ReviewId, ReviewResource,
    WaitingReviews, parse_strict,
};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::audit::{Shown, print_json};
use super::{CommandError, print_line};
use crate::config::Config;
use crate::private_files::open_private_file;
use crate::store::StoreError;

/// The shortest part of a digest that says which action is meant, in hex digits.
const SHORTEST: usize = 12;
/// The longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 1_024;
/// How long a call may take: what decides waits for its record.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an approver does.
#[derive(Debug, Subcommand)]
pub(super) enum PeopleCommand {
    /// Lists what waits for a person, as a running server tells an approver.
    Queue {
        #[command(flatten)]
        at: At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says yes to what waits for a person.
    Approve(Saying),
    /// Says no to what waits for a person.
    Deny(Saying),
}

pub(super) async fn people(config: &Config, command: PeopleCommand) -> Result<(), CommandError> {
    match command {
        PeopleCommand::Queue { at, json } => queue(config, &at, Shown::of(json)).await,
        PeopleCommand::Approve(saying) => say(config, saying, PersonsAnswer::Allow).await,
        PeopleCommand::Deny(saying) => say(config, saying, PersonsAnswer::Deny).await,
    }
}

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(super) struct At {
    /// The server; the settings' own address where it is not said.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A private file with the token of an approver.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

/// An answer.
#[derive(Debug, Args)]
pub(super) struct Saying {
    /// The review that waits.
    id: ReviewId,
    /// Why: 1 to 1,000 characters.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The digest of the action that you looked at, as `queue` shows it.
    #[arg(long, value_name = "DIGEST")]
    digest: String,
    #[command(flatten)]
    at: At,
}

struct Server {
    url: String,
    client: Client,
    token: SecretString,
}

impl Server {
    fn of(config: &Config, at: &At) -> Result<Self, CommandError> {
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
        let client = builder
            .build()
            .map_err(|error| CommandError::Unreachable(url.clone(), error))?;
        Ok(Self {
            client,
            token: SecretString::from(token),
            url,
        })
    }

    async fn waiting(&self) -> Result<WaitingReviews, CommandError> {
        let url = format!("{}/v1/waiting", self.url);
        let call = self.client.get(url).bearer_auth(self.token.expose_secret());
        self.told(call.send().await).await
    }

    async fn answer(
        &self,
        id: ReviewId,
        answer: &ApproverAnswer,
    ) -> Result<ReviewResource, CommandError> {
        let url = format!("{}/v1/reviews/{id}/answer", self.url);
        let body = serde_json::to_vec(answer)
            .map_err(|_| StoreError::Corrupt("an answer cannot be spelled"))?;
        let call = self
            .client
            .post(url)
            .bearer_auth(self.token.expose_secret())
            .header("content-type", "application/json")
            .body(body);
        self.told(call.send().await).await
    }

    async fn told<T: DeserializeOwned>(
        &self,
        sent: Result<Response, reqwest::Error>,
    ) -> Result<T, CommandError> {
        let failed = |error| CommandError::Unreachable(self.url.clone(), error);
        let response = sent.map_err(failed)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(failed)?;
        let refused = |code: String, detail: &str| CommandError::RefusedByServer {
            code: Printable(&code).to_string(),
            detail: Printable(detail).to_string(),
        };
        if status.is_success() {
            return parse_strict(&bytes)
                .map_err(|error| refused("unreadable".to_owned(), &error.to_string()));
        }
        let problem: Option<Problem> = serde_json::from_slice(&bytes).ok();
        Err(match problem {
            Some(problem) => refused(problem.code, &problem.detail),
            None => refused(status.as_u16().to_string(), "without an explanation"),
        })
    }
}

async fn queue(config: &Config, at: &At, shown: Shown) -> Result<(), CommandError> {
    let waiting = Server::of(config, at)?.waiting().await?;
    if shown == Shown::Json {
        return print_json(&waiting);
    }
    print_line("EXPIRES               AGREED  USER          DIGEST               REVIEW  ACTION")?;
    for review in &waiting.reviews {
        let id = review.review.review_id.to_string();
        let agreed = waiting.agreed.get(&id).map_or(0, Vec::len);
        let wanted = waiting.approvals_wanted;
        print_line(&line(review, &format!("{agreed} of {wanted}")))?;
    }
    Ok(())
}

fn line(review: &ReviewDetail, agreed: &str) -> String {
    let question = review.question.as_ref();
    let user = question.and_then(|it| it.pointer("/environment/user")?.as_str());
    let action = question.and_then(|it| it.get("action"));
    let digest = review.review.action_digest.to_string();
    let digest = digest.get(..SHORTEST + "sha256:".len()).unwrap_or(&digest);
    format!(
        "{:<20}  {agreed:<6}  {:<12}  {digest}  {}  {}",
        expiry(review).unwrap_or_default(),
        Printable(user.unwrap_or("-")).to_string(),
        review.review.review_id,
        Printable(&words(action)),
    )
}

/// Until when the review waits, as its opening says.
fn expiry(review: &ReviewDetail) -> Option<String> {
    let opened = review.timeline.first()?;
    let until = opened.body.get("deadline_at")?.as_i64()?;
    let until = Timestamp::from_millisecond(until).ok()?;
    Some(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A command as its words, everything else as the JSON that it is.
fn words(action: Option<&Value>) -> String {
    let Some(action) = action else {
        return "-".to_owned();
    };
    let command = action.get("command").and_then(Value::as_array);
    match command {
        Some(words) => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        None => action.to_string(),
    }
}

async fn say(config: &Config, saying: Saying, answer: PersonsAnswer) -> Result<(), CommandError> {
    let server = Server::of(config, &saying.at)?;
    let waiting = server.waiting().await?;
    let review = waiting
        .reviews
        .iter()
        .find(|review| review.review.review_id == saying.id)
        .ok_or(CommandError::NotWaiting(saying.id))?;
    let action_digest = review.review.action_digest;
    if !is_meant(&saying.digest, &action_digest.to_string()) {
        return Err(CommandError::OtherDigest(action_digest.to_string()));
    }
    let wanted = ApproverAnswer {
        answer,
        reason: saying.reason,
        action_digest,
    };
    let told = server.answer(saying.id, &wanted).await?;
    print_line(&match told.completed_at {
        Some(_) => format!("{} {}", told.review_id, told.status.title()),
        None => format!("{} noted; others must agree as well", told.review_id),
    })
}

/// Whether `said` names the digest `whole`: all of it, or as much as `queue` shows.
fn is_meant(said: &str, whole: &str) -> bool {
    said.len() >= "sha256:".len() + SHORTEST && whole.starts_with(said)
}

#[cfg(test)]
mod tests {
    use super::is_meant;

    #[test]
    fn a_digest_is_named_by_twelve_digits_at_least() {
        let whole = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert!(is_meant(&whole, &whole));
        assert!(is_meant("sha256:0123456789ab", &whole));
        for wrong in [
            "",
            "sha256:",
            "sha256:0123456789a",
            "sha256:0123456789ac",
            "0123456789ab",
        ] {
            assert!(!is_meant(wrong, &whole), "{wrong}");
        }
    }
}
