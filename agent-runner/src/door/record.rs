//! What a command's network was, put on record behind it: in the journal, and at the server where one is configured.
//!
//! Apart from the report, which only whoever started the command has. Invariant: a command that asked the door for nothing
//! leaves no line; the line is bounded, and is about the command as every record shows it, its secrets masked. Nothing
//! hangs on it: a server that does not hear of it has no line, and the journal has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use protocol::{Action, Printable, ReportNetwork, ReviewId, SessionReference};

use super::{NetworkReport, OpenDoor};
use crate::config::Environment;
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::prepare::{Prepared, action};
use crate::request::RunRequest;
use crate::review_client::{HttpServer, ReviewClient, Transport};

/// How long the end of a command waits for its server to hear of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line to be, made before the command begins: afterwards its files may be others.
#[derive(Debug)]
pub(crate) struct NetworkRecord {
    journal: PathBuf,
    /// The command; none where it has no form that can be shown.
    action: Result<Action, Failure>,
    session: SessionReference,
    server: Option<Box<ReviewClient>>,
}

impl NetworkRecord {
    /// For the command that `request` is, where it has a door.
    pub(crate) fn of(
        door: Option<&OpenDoor>,
        prepared: &Prepared,
        request: &RunRequest,
        environment: &Environment,
    ) -> Option<Self> {
        door?;
        Some(Self {
            journal: prepared.state.journal(),
            action: action(prepared, environment, request, None, None),
            session: request.session.clone(),
            server: server(prepared),
        })
    }

    /// Puts on record what the door decided; what the user should know of it comes back.
    pub(crate) async fn keep(
        self,
        report: &NetworkReport,
        review_id: Option<ReviewId>,
    ) -> Vec<String> {
        let (decisions, unlisted) = report.for_record();
        if decisions.is_empty() && report.refused == 0 {
            return Vec::new();
        }
        let action = match self.action {
            Ok(action) => action,
            Err(failure) => return not_kept(&failure.message),
        };
        let told = ReportNetwork {
            execution: report.execution.clone(),
            action_digest: action.digest(),
            program: program(&action),
            session: self.session.clone(),
            review_id,
            decisions: decisions.clone(),
            unlisted,
            refused: report.refused,
        }
        .fitting();
        let entry = JournalEntry {
            at: Timestamp::now(),
            event: JournalEvent::Network {
                execution: report.execution.clone(),
                decisions,
                unlisted,
                refused: report.refused,
            },
            action_digest: action.digest(),
            action,
            session: self.session,
        };
        let noted = journal::note(&self.journal, &entry);
        if let Some(server) = self.server {
            tell(*server, &told).await;
        }
        match noted {
            Ok(()) => Vec::new(),
            Err(error) => not_kept(&error.to_string()),
        }
    }
}

/// The server that keeps the team's record, where one is configured. The record of this machine is the journal.
fn server(prepared: &Prepared) -> Option<Box<ReviewClient>> {
    let server = prepared.settings.runner.server.as_ref()?;
    let (http, caller) = HttpServer::new(server).ok()?;
    let client = ReviewClient::new(Transport::Http(http), server.key.clone(), caller);
    Some(Box::new(client))
}

async fn tell(server: ReviewClient, report: &ReportNetwork) {
    // Who does not take it has no line of it: the journal has.
    match tokio::time::timeout(PATIENCE, server.report_network(report)).await {
        Ok(Ok(()) | Err(_)) | Err(_) => {}
    }
}

/// The last part of the first word.
fn program(action: &Action) -> String {
    let word = match action {
        Action::Command(command) => command.command.first(),
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => None,
    };
    let word = word.map_or_else(|| action.tool(), String::as_str);
    let name = Path::new(word).file_name().and_then(|name| name.to_str());
    let mut name = Printable(name.unwrap_or(word)).to_string();
    name.truncate(name.floor_char_boundary(256));
    name
}

fn not_kept(because: &str) -> Vec<String> {
    vec![format!(
        "what the network was is not on record: {}",
        Printable(because)
    )]
}
