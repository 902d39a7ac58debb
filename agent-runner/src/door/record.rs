//! What a command's network was, put on record behind it.
//!
//! Apart from the report, which only whoever started the command has. Invariant: a command that asked the door for nothing
//! leaves no line; the line is bounded, and is about the command as every record shows it, its secrets masked.

use std::path::PathBuf;

use jiff::Timestamp;
use protocol::{Action, Printable, SessionReference};

use super::{NetworkReport, OpenDoor};
use crate::config::Environment;
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::prepare::{Prepared, action};
use crate::request::RunRequest;

/// A line to be, made before the command begins: afterwards its files may be others.
#[derive(Debug)]
pub(crate) struct NetworkRecord {
    journal: PathBuf,
    /// The command; none where it has no form that can be shown.
    action: Result<Action, Failure>,
    session: SessionReference,
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
        })
    }

    /// Writes down what the door decided; what the user should know of it comes back.
    pub(crate) fn keep(self, report: &NetworkReport) -> Vec<String> {
        let (decisions, unlisted) = report.for_record();
        if decisions.is_empty() && report.refused == 0 {
            return Vec::new();
        }
        let not_kept = |because: &str| {
            vec![format!(
                "what the network was is not on record: {}",
                Printable(because)
            )]
        };
        let action = match self.action {
            Ok(action) => action,
            Err(failure) => return not_kept(&failure.message),
        };
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
        match journal::note(&self.journal, &entry) {
            Ok(()) => Vec::new(),
            Err(error) => not_kept(&error.to_string()),
        }
    }
}
