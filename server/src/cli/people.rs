//! `queue`, `approve`, `deny`, `leave`, `leave withdraw`: an approver at a terminal, through the API of a running server.
//!
//! Apart from what reads the database's file, because an answer must reach the process that waits for it. Invariant: what
//! is answered is what the person looked at, by its digest.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use protocol::{
    ApproverAnswer, GiveLeave, HostScope, LeaveResource, PersonsAnswer, Printable, ReviewDetail,
    ReviewId, ReviewResource, WaitingReviews, WithdrawLeave, WithdrawnLeave, shown_command,
};
use serde_json::Value;

use super::api_client::{At, Server};
use super::audit::{Shown, print_json};
use super::{CommandError, print_line};
use crate::config::Config;

/// The shortest part of a digest that says which action is meant, in hex digits.
const SHORTEST: usize = 12;
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
    Approve {
        #[command(flatten)]
        saying: Saying,
        /// How long a yes about a host holds: `once`, for the command that asked, or `session`, for the rest of the session
        /// that it was asked in. Always is for the user of the machine alone to say.
        #[arg(long, value_enum, value_name = "SCOPE")]
        scope: Option<Scope>,
    },
    /// Says no to what waits for a person.
    Deny(Saying),
    /// Gives leave for what a review denied, once: the next review of exactly that action, by the same caller in the same
    /// session, is approved.
    #[command(
        visible_alias = "appeal",
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true
    )]
    Leave {
        #[command(flatten)]
        giving: Option<Giving>,
        /// How long it can be used, in seconds: 1 to 86,400.
        #[arg(long, default_value_t = 900, value_name = "SECONDS")]
        valid_secs: u64,
        #[command(subcommand)]
        back: Option<LeaveCommand>,
    },
}

pub(super) async fn people(config: &Config, command: PeopleCommand) -> Result<(), CommandError> {
    match command {
        PeopleCommand::Queue { at, json } => queue(config, &at, Shown::of(json)).await,
        PeopleCommand::Approve { saying, scope } => {
            let scope = scope.map(HostScope::from);
            say(config, saying, (PersonsAnswer::Allow, scope)).await
        }
        PeopleCommand::Deny(saying) => say(config, saying, (PersonsAnswer::Deny, None)).await,
        PeopleCommand::Leave {
            back: Some(LeaveCommand::Withdraw { id, reason, at }),
            ..
        } => withdraw(config, id, reason, &at).await,
        PeopleCommand::Leave {
            giving: Some(giving),
            valid_secs,
            back: None,
        } => leave(config, giving.into(), valid_secs).await,
        // What is given is wanted in full where nothing is taken back.
        PeopleCommand::Leave { .. } => Err(CommandError::NothingSaid),
    }
}

/// What else is done with leave.
#[derive(Debug, Subcommand)]
pub(super) enum LeaveCommand {
    /// Takes back leave that was not used: an approver or an admin.
    Withdraw {
        /// The review that was denied.
        id: ReviewId,
        /// Why: 1 to 1,000 characters.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        at: At,
    },
}

/// [`HostScope`], as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Scope {
    Once,
    Session,
}

impl From<Scope> for HostScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Once => Self::Once,
            Scope::Session => Self::Session,
        }
    }
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

/// A [`Saying`], in one piece: what is flattened twice cannot be left out where a subcommand stands instead.
#[derive(Debug, Args)]
pub(super) struct Giving {
    /// The review that was denied.
    id: ReviewId,
    /// Why: 1 to 1,000 characters.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The digest of the action that you looked at.
    #[arg(long, value_name = "DIGEST")]
    digest: String,
    /// The server; the settings' own address where it is not said.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A private file with a token that may do it.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

impl From<Giving> for Saying {
    fn from(giving: Giving) -> Self {
        Self {
            id: giving.id,
            reason: giving.reason,
            digest: giving.digest,
            at: At::new(giving.server, giving.token_file),
        }
    }
}

async fn waiting(server: &Server) -> Result<WaitingReviews, CommandError> {
    server.get("/v1/waiting").await
}

async fn leave(config: &Config, saying: Saying, valid_secs: u64) -> Result<(), CommandError> {
    let server = Server::of(config, &saying.at)?;
    let path = format!("/v1/reviews/{}", saying.id);
    let denied: ReviewResource = server.get(&path).await?;
    let action_digest = denied.action_digest;
    if saying.digest.len() < "sha256:".len() + SHORTEST {
        return Err(CommandError::ShortDigest);
    }
    if !is_meant(&saying.digest, &action_digest.to_string()) {
        return Err(CommandError::OtherDigest(action_digest.to_string()));
    }
    let wanted = GiveLeave {
        reason: saying.reason,
        action_digest,
        valid_secs: Some(valid_secs),
    };
    let told: LeaveResource = server.post(&format!("{path}/leave"), &wanted).await?;
    let until = told.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ");
    print_line(&format!(
        "leave for {action_digest}, once, until {until}, given by {}",
        Printable(&told.given_by)
    ))
}

async fn withdraw(
    config: &Config,
    id: ReviewId,
    reason: String,
    at: &At,
) -> Result<(), CommandError> {
    let server = Server::of(config, at)?;
    let path = format!("/v1/reviews/{id}/leave/withdraw");
    let told: WithdrawnLeave = server.post(&path, &WithdrawLeave { reason }).await?;
    print_line(&format!(
        "{} leave withdrawn by {}",
        told.review_id,
        Printable(&told.withdrawn_by)
    ))
}

async fn queue(config: &Config, at: &At, shown: Shown) -> Result<(), CommandError> {
    let waiting = waiting(&Server::of(config, at)?).await?;
    if shown == Shown::Json {
        return print_json(&waiting);
    }
    print_line(
        "EXPIRES               AGREED  USER          DIGEST               REVIEW                                ACTION",
    )?;
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
        words(action),
    ) + &where_from(question)
}

/// Where the question comes from and why, on a line of its own: what is to be known before an answer.
fn where_from(question: Option<&Value>) -> String {
    let text = |pointer: &str| question.and_then(|it| it.pointer(pointer)?.as_str());
    let told = [
        ("because", text("/action/justification")),
        ("in", text("/environment/cwd")),
        ("on", text("/environment/host")),
        ("session", text("/session/session_id")),
        ("trigger", text("/trigger/kind")),
    ];
    let told = told
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", Printable(value?))));
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        return String::new();
    }
    format!("\n{:22}{}", "", told.join("; "))
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
            shown_command(&words)
        }
        None => Printable(&action.to_string()).to_string(),
    }
}

async fn say(
    config: &Config,
    saying: Saying,
    (answer, scope): (PersonsAnswer, Option<HostScope>),
) -> Result<(), CommandError> {
    let server = Server::of(config, &saying.at)?;
    let waiting = waiting(&server).await?;
    let review = waiting
        .reviews
        .iter()
        .find(|review| review.review.review_id == saying.id)
        .ok_or(CommandError::NotWaiting(saying.id))?;
    let action_digest = review.review.action_digest;
    if saying.digest.len() < "sha256:".len() + SHORTEST {
        return Err(CommandError::ShortDigest);
    }
    if !is_meant(&saying.digest, &action_digest.to_string()) {
        return Err(CommandError::OtherDigest(action_digest.to_string()));
    }
    let wanted = ApproverAnswer {
        answer,
        reason: saying.reason,
        action_digest,
        scope,
    };
    let path = format!("/v1/reviews/{}/answer", saying.id);
    let told: ReviewResource = server.post(&path, &wanted).await?;
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
