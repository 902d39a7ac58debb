//! What happened that no server could record: failures to reach one, and crossings that nobody reviewed (P1, D25).
//!
//! One JSON object a line, appended with one write and flushed to disk before anything runs on the strength of it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use protocol::{
    Action, ActionDigest, NetworkDecision, ReviewFailure, ReviewId, RuleId, SessionReference,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// When.
    pub(crate) at: Timestamp,
    /// What happened.
    pub(crate) event: JournalEvent,
    /// To what.
    pub(crate) action: Action,
    /// Its digest.
    pub(crate) action_digest: ActionDigest,
    /// In which conversation.
    pub(crate) session: SessionReference,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum JournalEvent {
    /// No decision could be had; the action did not run.
    ReviewFailed {
        /// The step.
        failure: ReviewFailure,
        /// The review, where one was opened.
        review_id: Option<ReviewId>,
    },
    /// The action runs without walls, because full access was chosen by name.
    FullAccess,
    /// The action runs inside walls that these reviews widened for the rest of a turn or session.
    StandingLeave {
        /// The reviews.
        reviews: Vec<ReviewId>,
    },
    /// The action runs outside the walls, because a rule allows it.
    AllowRule {
        /// The rule.
        rule: RuleId,
    },
    /// What was approved about a host is about to last beyond its command.
    HostAllowed {
        /// The review.
        review_id: ReviewId,
        /// `session` or `always`.
        holds: String,
        /// The rule that is written, for `always`.
        rule: Option<String>,
    },
    /// What the door decided while the action ran.
    Network {
        /// Which run it was, as the door's events name it.
        execution: String,
        /// The decisions, as the report has them; the first 64.
        decisions: Vec<NetworkDecision>,
        /// How many more there were.
        unlisted: u64,
        /// How many requests were refused.
        refused: u64,
    },
}

/// Why the journal cannot be used.
#[derive(Debug, Error)]
#[error("cannot use the journal `{}`", path.display())]
pub(crate) struct JournalError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Appends `entry`, durably.
///
/// # Errors
/// It is not on disk; what depends on it may not happen.
pub(crate) fn append(path: &Path, entry: &JournalEntry) -> Result<(), JournalError> {
    write(path, entry, File::sync_data)
}

/// Appends `entry` of what is over: nothing hangs on it, so nothing waits for the disk.
///
/// # Errors
/// It is not written.
pub(crate) fn note(path: &Path, entry: &JournalEntry) -> Result<(), JournalError> {
    write(path, entry, |_| Ok(()))
}

fn write(
    path: &Path,
    entry: &JournalEntry,
    then: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), JournalError> {
    let write = || -> io::Result<()> {
        // The line feed comes first: a line that a power cut left half written does not swallow this one.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, entry)?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&line)?;
        then(&file)
    };
    write().map_err(|source| JournalError {
        path: path.to_owned(),
        source,
    })
}

/// Every entry, oldest first; a line that a power cut left half written is skipped.
///
/// # Errors
/// The file is there and cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<JournalEntry>, JournalError> {
    let failed = |source| JournalError {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(entry) = serde_json::from_slice(&line.map_err(failed)?) {
            entries.push(entry);
        }
    }
    Ok(entries)
}
