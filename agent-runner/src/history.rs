//! `agent-runner history`: what was reviewed, newest first, with what no server could record merged in from the journal.

use std::io::Write;

use jiff::Timestamp;
use protocol::{Action, HistoryEntry, NetworkDecision, Printable, ReviewStatus, shown_command};
use serde::Serialize;

use crate::cli;
use crate::config::{Environment, Overrides, Settings};
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::review_client::ReviewClient;
use crate::reviewers;
use crate::state::State;

/// How many reviews a page holds.
const PAGE: u32 = 200;

/// One line of the history.
#[derive(Debug, Serialize)]
#[serde(tag = "recorded_by", rename_all = "snake_case")]
enum Line {
    /// A review, from the server.
    Server(Box<HistoryEntry>),
    /// Something that only the runner could record.
    Journal(Box<JournalEntry>),
}

/// Prints the history to `out`.
///
/// # Errors
/// Neither server nor journal can be read, or `out` cannot be written.
pub(crate) async fn history(
    args: &cli::History,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cwd = std::env::current_dir().unwrap_or_else(|_| environment.home.clone());
    let mut settings = Settings::load(environment, &Overrides::default(), &cwd)?;
    settings.runner.ask_no_model();
    let state = State::open(&settings.runner.state_dir, &environment.codex_home, &[])?;
    let wanted = args.status.map(cli::StatusArg::status);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);

    let (mut lines, unread) = reviews(&settings, environment, &state, wanted, limit).await;
    let journal = journal::read(&state.journal())?;
    lines.extend(
        journal
            .into_iter()
            .filter(|entry| matches(entry, wanted))
            .map(|entry| Line::Journal(Box::new(entry))),
    );
    lines.sort_by_key(|line| std::cmp::Reverse(line.at()));
    lines.truncate(limit);

    let printed = if args.json {
        print_json(&lines, out)
    } else {
        print_table(&lines, out)
    };
    match (printed, unread) {
        (Ok(()), None) => Ok(0),
        (Ok(()), Some(unread)) => Err(unread),
        (Err(error), _) => Err(Failure::because(format!(
            "cannot print the history: {error}"
        ))),
    }
}

/// The reviews of the configured reviewer and, where that is somewhere else, those that a person decided here. What
/// could not be read comes back beside what could.
async fn reviews(
    settings: &Settings,
    environment: &Environment,
    state: &State,
    status: Option<ReviewStatus>,
    limit: usize,
) -> (Vec<Line>, Option<Failure>) {
    let mut lines = Vec::new();
    let mut unread = None;
    let mut clients = vec![reviewers::configured(settings, environment, state).await];
    if settings.runner.server.is_some() && state.database().exists() {
        clients.push(reviewers::local(settings, environment, state).await);
    }
    for client in clients {
        let read = match client {
            Ok(client) => read_all(client, status, limit).await,
            Err(failure) => Err(failure),
        };
        match read {
            Ok(more) => lines.extend(more),
            Err(failure) => {
                let message = format!("not all of the history could be read: {}", failure.message);
                unread = Some(Failure { message, ..failure });
            }
        }
    }
    (lines, unread)
}

async fn read_all(
    client: ReviewClient,
    status: Option<ReviewStatus>,
    limit: usize,
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut before = None;
    let ended = loop {
        match client.history(status, before, PAGE).await {
            Ok(page) => {
                lines.extend(
                    page.reviews
                        .into_iter()
                        .map(|entry| Line::Server(Box::new(entry))),
                );
                before = page.next_before;
                if before.is_none() || lines.len() >= limit {
                    break Ok(());
                }
            }
            Err(failure) => break Err(Failure::because(failure.message)),
        }
    };
    client.close().await;
    ended.map(|()| lines)
}

/// A journal entry stands where its failure would.
fn matches(entry: &JournalEntry, status: Option<ReviewStatus>) -> bool {
    match (&entry.event, status) {
        (_, None) => true,
        (JournalEvent::ReviewFailed { .. }, Some(status)) => status == ReviewStatus::Failed,
        (
            JournalEvent::FullAccess
            | JournalEvent::AllowRule { .. }
            | JournalEvent::StandingLeave { .. }
            | JournalEvent::HostAllowed { .. }
            | JournalEvent::Network { .. },
            Some(_),
        ) => false,
    }
}

impl Line {
    fn at(&self) -> Timestamp {
        match self {
            Self::Server(entry) => entry.review.created_at,
            Self::Journal(entry) => entry.at,
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Server(entry) => entry.review.status.title(),
            Self::Journal(entry) => match &entry.event {
                JournalEvent::ReviewFailed { .. } => "Failed",
                JournalEvent::FullAccess => "Full access",
                JournalEvent::AllowRule { .. } => "Allowed by rule",
                JournalEvent::StandingLeave { .. } => "Standing leave",
                JournalEvent::HostAllowed { .. } => "Host kept",
                JournalEvent::Network { .. } => "Network",
            },
        }
    }

    fn by(&self) -> String {
        match self {
            Self::Server(entry) => {
                let by = entry.review.decided_by.as_str().replace('_', "-");
                let spent = if entry.redeemed_at.is_some() {
                    ", spent"
                } else {
                    ""
                };
                format!("{by}{spent}")
            }
            Self::Journal(_) => "runner".to_owned(),
        }
    }

    fn risk(&self) -> &'static str {
        match self {
            Self::Server(entry) => entry
                .review
                .risk_level
                .map_or("-", protocol::RiskLevel::as_str),
            Self::Journal(_) => "-",
        }
    }

    /// What an approver is to be told, where there is a review.
    fn review_id(&self) -> String {
        let review = match self {
            Self::Server(entry) => Some(entry.review.review_id),
            Self::Journal(entry) => match &entry.event {
                JournalEvent::ReviewFailed { review_id, .. } => *review_id,
                JournalEvent::HostAllowed { review_id, .. } => Some(*review_id),
                JournalEvent::FullAccess
                | JournalEvent::AllowRule { .. }
                | JournalEvent::StandingLeave { .. }
                | JournalEvent::Network { .. } => None,
            },
        };
        review.map_or_else(|| "-".to_owned(), |id| id.to_string())
    }

    fn action(&self) -> &Action {
        match self {
            Self::Server(entry) => &entry.action,
            Self::Journal(entry) => &entry.action,
        }
    }

    fn why(&self) -> String {
        match self {
            Self::Server(entry) => {
                let review = &entry.review;
                let rationale = review
                    .rationale
                    .as_ref()
                    .map(|text| text.as_str().to_owned());
                let failure = review.failure.as_ref().map(|failure| {
                    format!(
                        "{}/{}: {}",
                        failure.step.as_str(),
                        failure.code,
                        failure.message
                    )
                });
                failure
                    .or(rationale)
                    .unwrap_or_else(|| without_reason(review.status).to_owned())
            }
            Self::Journal(entry) => match &entry.event {
                JournalEvent::ReviewFailed { failure, .. } => {
                    format!(
                        "{}/{}: {}",
                        failure.step.as_str(),
                        failure.code,
                        failure.message
                    )
                }
                JournalEvent::FullAccess => "danger-full-access was chosen by name".to_owned(),
                JournalEvent::AllowRule { rule } => format!("the rule {}", rule.as_str()),
                JournalEvent::StandingLeave { reviews } => {
                    let reviews: Vec<String> = reviews.iter().map(ToString::to_string).collect();
                    format!("by review {}", reviews.join(", "))
                }
                JournalEvent::HostAllowed {
                    review_id,
                    holds,
                    rule,
                } => {
                    let rule = rule.as_ref().map(|rule| format!(": {rule}"));
                    let rule = rule.unwrap_or_default();
                    format!("{holds}, by review {review_id}{rule}")
                }
                JournalEvent::Network {
                    decisions,
                    unlisted,
                    refused,
                    ..
                } => network(decisions, *unlisted, *refused),
            },
        }
    }
}

/// What the door decided, in one line: what was refused first.
fn network(decisions: &[NetworkDecision], unlisted: u64, refused: u64) -> String {
    let shown = |decision: &NetworkDecision| {
        let host = decision.host.as_deref().unwrap_or("?");
        let port = decision.port.map(|port| format!(":{port}"));
        format!("{host}{} {}", port.unwrap_or_default(), decision.verdict)
    };
    let is_allowed = |decision: &&NetworkDecision| decision.verdict == "allowed";
    let closed = decisions.iter().filter(|decision| !is_allowed(decision));
    let lines: Vec<String> = closed
        .chain(decisions.iter().filter(is_allowed))
        .map(shown)
        .collect();
    let more = if unlisted == 0 {
        String::new()
    } else {
        format!(", and {unlisted} more")
    };
    format!("{refused} refused; {}{more}", lines.join(", "))
}

/// What to say of a review that nobody judged and that did not fail.
pub(crate) fn without_reason(status: ReviewStatus) -> &'static str {
    match status {
        ReviewStatus::TimedOut => "the deadline passed first",
        ReviewStatus::Aborted => "the question was taken back",
        ReviewStatus::Reviewing => "not decided yet",
        ReviewStatus::Approved | ReviewStatus::Denied | ReviewStatus::Failed => {
            "no reason was given"
        }
    }
}

/// What would be done, on one line.
pub(crate) fn shown_action(action: &Action) -> String {
    match action {
        Action::Command(command) => shown_command(&command.command),
        Action::FileChange(change) => format!("patch of {} files", change.files.len()),
        Action::NetworkAccess(access) => format!("{}:{}", Printable(&access.host), access.port),
        Action::ToolCall(call) => {
            format!("{}/{}", Printable(&call.server), Printable(&call.tool_name))
        }
        Action::PermissionRequest(request) => {
            crate::leaves::shown_permissions(&request.permissions)
        }
    }
}

fn print_json(lines: &[Line], out: &mut dyn Write) -> std::io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn print_table(lines: &[Line], out: &mut dyn Write) -> std::io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "nothing was reviewed yet");
    }
    writeln!(
        out,
        "{:<20}  {:<14}  {:<15}  {:<8}  {:<36}  {:<44}  WHY",
        "TIME (UTC)", "STATUS", "BY", "RISK", "REVIEW", "ACTION"
    )?;
    for line in lines {
        let at = line.at().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let action = cut(&shown_action(line.action()), 44);
        let why = cut(
            &Printable(&line.why().replace("\nhint: ", "; ")).to_string(),
            90,
        );
        let (status, by, risk) = (line.status(), line.by(), line.risk());
        let review = line.review_id();
        writeln!(
            out,
            "{at:<20}  {status:<14}  {by:<15}  {risk:<8}  {review:<36}  {action:<44}  {why}"
        )?;
    }
    Ok(())
}

/// At most `width` characters; what is cut ends in `…`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}
