//! Facts about an action that the runner finds out itself before it asks, and once more before it runs (design D21, D23).
//!
//! The kinds, their fields and how each is obtained are documented in `docs/evidence.md`. Looking takes a bounded time and
//! the answer has a bounded size. Invariants: nothing of the workspace is executed outside the walls; what the command may
//! not read is not read here; what could not be had is said, never dropped; secrets are masked.

mod files;
mod git;
mod host;
mod inquiry;
mod place;
mod size;
mod text;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::{Evidence, TriggerKind};
use sandbox::Program;
use serde_json::{Map, Value, json};
use thiserror::Error;

use self::files::{Barred, Count, Found, Missing};
use self::inquiry::{Done, Inquiry, inquiries};
use crate::config::{Environment, EvidenceLimits};
use crate::failure::{Failure, NOT_PERMITTED};
use crate::hold::HeldFiles;
use crate::prepare::Prepared;
use crate::request::RunRequest;
use crate::shown::Shown;

/// How much of a file is read to be shown or hashed, in bytes.
const MAX_READ: u64 = 256 * 1024;
/// How much of a file that is written over is shown, in bytes.
const MAX_WRITTEN_OVER: usize = 2 * 1024;
/// What an inquiry may take beyond the deadline before it is left alone: ending git, and what a file system holds up.
const GRACE: Duration = Duration::from_millis(300);

const LOOKED: &str = "the runner looked at the path, no link followed";
const GIT: &str =
    "git, inside read-only walls without a network, running none of the repository's programs";
const WORDS: &str = "the command's words";

/// What there is to find out about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Settings, walls, reading.
    pub(crate) prepared: &'a Prepared,
    /// The environment.
    pub(crate) environment: &'a Environment,
    /// What was asked for.
    pub(crate) request: &'a RunRequest,
    /// Program and scripts, held.
    pub(crate) files: &'a HeldFiles,
    /// The program.
    pub(crate) program: &'a Program,
    /// Standard input, where it is given.
    pub(crate) stdin: Option<&'a [u8]>,
    /// What made it a question.
    pub(crate) trigger: TriggerKind,
}

/// What was found out, with what it takes to look again.
#[derive(Debug)]
pub(crate) struct Gathered {
    evidence: Vec<Evidence>,
    looking: Arc<Looking>,
    answers: Vec<Option<Evidence>>,
}

/// The world is not as it was when the question was put.
#[derive(Debug, Error)]
#[error("what the reviewer was shown of {0} has changed since\nhint: nothing ran; ask again")]
struct Changed(String);

/// Everything it takes to look, from any thread.
#[derive(Debug)]
struct Looking {
    inquiries: Vec<Inquiry>,
    workspace: Vec<PathBuf>,
    barred: Barred,
    path: Vec<PathBuf>,
    limits: EvidenceLimits,
    shown: Shown,
}

/// Finds out about `subject`, within the time that the settings allow.
///
/// # Errors
/// The key for masking cannot be had: nothing may be shown then.
pub(crate) async fn gather(subject: Subject<'_>) -> Result<Gathered, Failure> {
    let prepared = subject.prepared;
    let shown = Shown::by(prepared.state.mask_key()?);
    let limits = prepared.settings.runner.evidence;
    let mut given = given(&subject, &shown, &limits);
    let looking = Arc::new(Looking {
        inquiries: inquiries(
            &prepared.reading,
            &subject.request.cwd,
            &subject.environment.home,
        ),
        workspace: prepared.writable_roots.clone(),
        barred: Barred::of(&prepared.policy),
        path: prepared
            .trusted_path(subject.environment)
            .cloned()
            .collect(),
        limits,
        shown,
    });
    let answers = look(&looking).await;
    for (inquiry, answer) in looking.inquiries.iter().zip(&answers) {
        let unanswered =
            || not_obtained(&looking.shown, &inquiry.about(), Missing::TimedOut.as_str());
        given.push(answer.clone().unwrap_or_else(unanswered));
    }
    Ok(Gathered {
        evidence: size::fit(given, limits.max_total_bytes),
        looking,
        answers,
    })
}

impl Gathered {
    /// The facts, for the wire.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        self.evidence.clone()
    }

    /// Looks again at what can change: what stands at a path, and what a repository says.
    ///
    /// # Errors
    /// Something is not as it was, or cannot be seen any more.
    pub(crate) async fn confirm(&self) -> Result<(), Failure> {
        let pinned = |at: &usize| matches!(self.answers.get(*at), Some(Some(answer)) if matches!(answer.kind.as_str(), "path" | "repository"));
        if !(0..self.answers.len()).any(|at| pinned(&at)) {
            return Ok(());
        }
        let now = look(&self.looking).await;
        for at in (0..self.answers.len()).filter(pinned) {
            let before = self.answers.get(at).and_then(Option::as_ref);
            let now = now.get(at).and_then(Option::as_ref);
            if before.map(comparable) != now.map(comparable) {
                let about = self
                    .looking
                    .inquiries
                    .get(at)
                    .map(Inquiry::about)
                    .unwrap_or_default();
                return Err(changed(&about));
            }
        }
        Ok(())
    }
}

fn changed(about: &str) -> Failure {
    let changed = Changed(format!("`{}`", protocol::Printable(about)));
    Failure {
        code: NOT_PERMITTED,
        ..Failure::runner(&changed)
    }
}

/// A fact without what was counted only in part, which differs from time to time.
fn comparable(fact: &Evidence) -> (String, Value) {
    let mut value = fact.value.clone();
    if let Some(fields) = value.as_object_mut()
        && fields.get("more") == Some(&json!(true))
    {
        for field in ["entries", "bytes_below", "not_counted"] {
            fields.remove(field);
        }
    }
    (fact.kind.clone(), value)
}

/// Answers in the order of the inquiries; `None` where there was no time.
async fn look(looking: &Arc<Looking>) -> Vec<Option<Evidence>> {
    let answers = Arc::new(Mutex::new(vec![None; looking.inquiries.len()]));
    let until = Instant::now() + looking.limits.deadline;
    let (theirs, filled) = (Arc::clone(looking), Arc::clone(&answers));
    let work = tokio::task::spawn_blocking(move || {
        for (at, inquiry) in theirs.inquiries.iter().enumerate() {
            if Instant::now() >= until {
                return;
            }
            let answer = theirs.answer(inquiry, until);
            let mut answers = filled.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = answers.get_mut(at) {
                *slot = Some(answer);
            }
        }
    });
    // A thread that a file system holds up is left behind: it ends with the runner.
    tokio::time::timeout(looking.limits.deadline + GRACE, work)
        .await
        .ok();
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.clone()
}

fn fact(kind: &str, value: Value, obtained: &str) -> Evidence {
    Evidence {
        kind: kind.to_owned(),
        value,
        obtained: obtained.to_owned(),
    }
}

fn not_obtained(shown: &Shown, about: &str, reason: &str) -> Evidence {
    let value = json!({ "about": shown.code(about), "reason": reason });
    fact("not_obtained", value, "not at all")
}

/// What is known without looking.
fn given(subject: &Subject<'_>, shown: &Shown, limits: &EvidenceLimits) -> Vec<Evidence> {
    let prepared = subject.prepared;
    let mut walls = json!({
        "sandbox_mode": prepared.settings.sandbox.as_str(),
        "approval_policy": prepared.settings.approval.as_str(),
        "network": prepared.policy.network(),
        "writable": prepared.writable_roots.iter().map(|root| root.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "asked_for": subject.request.permissions.as_str(),
        "stopped_by": subject.trigger,
    });
    shown.json(&mut walls);
    let mut given = vec![
        fact("walls", walls, "the runner's settings"),
        place_of(subject, shown),
    ];
    let own = subject
        .program
        .script()
        .map(|script| (subject.program.path(), script));
    let sealed = subject
        .files
        .sealed
        .iter()
        .map(|sealed| (sealed.path(), sealed.content()));
    for (path, content) in own.into_iter().chain(sealed) {
        let mut fields = Map::new();
        fields.insert(
            "path".to_owned(),
            json!(shown.code(&path.to_string_lossy())),
        );
        fields.append(&mut text::text(
            content,
            content.len() as u64,
            limits.max_text_bytes,
            shown,
        ));
        given.push(fact(
            "script",
            Value::Object(fields),
            "the sealed copy that will run",
        ));
    }
    if let Some(stdin) = subject.stdin {
        let fields = text::text(stdin, stdin.len() as u64, limits.max_text_bytes, shown);
        given.push(fact(
            "stdin",
            Value::Object(fields),
            "what the command will read",
        ));
    }
    given
}

/// Where it would run.
fn place_of(subject: &Subject<'_>, shown: &Shown) -> Evidence {
    let words: Vec<String> = subject
        .request
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let mut place = place::place(subject.environment, &host, &words);
    shown.json(&mut place);
    fact(
        "place",
        place,
        "variables, the host's name, marker files, the command's words",
    )
}

impl Looking {
    fn answer(&self, inquiry: &Inquiry, until: Instant) -> Evidence {
        match inquiry {
            Inquiry::Unknown { written, reason } => not_obtained(&self.shown, written, reason),
            Inquiry::Host { written } => {
                let mut value = host::host(written);
                self.shown.json(&mut value);
                fact("host", value, WORDS)
            }
            Inquiry::Repository {
                folder,
                push,
                tracked,
            } => {
                let questions = git::Questions {
                    folder,
                    push: push.as_ref(),
                    tracked,
                };
                let tools = git::Tools {
                    path: &self.path,
                    barred: &self.barred,
                    until,
                };
                match git::ask(&questions, &tools) {
                    Ok(mut value) => {
                        self.shown.json(&mut value);
                        fact("repository", value, GIT)
                    }
                    Err(silent) => not_obtained(&self.shown, &inquiry.about(), silent.as_str()),
                }
            }
            Inquiry::Path {
                path,
                pattern,
                done,
            } => match files::look(path, &self.barred) {
                Ok(found) => self.path(path, pattern.as_deref(), *done, (found, until)),
                Err(missing) => not_obtained(&self.shown, &inquiry.about(), missing.as_str()),
            },
        }
    }

    fn path(
        &self,
        path: &std::path::Path,
        pattern: Option<&str>,
        done: Done,
        (found, until): (Option<Found>, Instant),
    ) -> Evidence {
        let mut value = json!({
            "path": path.to_string_lossy(),
            "done": done.as_str(),
            "pattern": pattern,
            "type": found.as_ref().map_or("missing", |found| found.kind),
        });
        let mut content = Map::new();
        if let (Some(found), Some(fields)) = (found, value.as_object_mut()) {
            if found.path != path {
                fields.insert("resolved".to_owned(), json!(found.path.to_string_lossy()));
            }
            let inside = self
                .workspace
                .iter()
                .any(|root| found.path.starts_with(root));
            fields.insert("inside_workspace".to_owned(), json!(inside));
            fields.insert("points_to".to_owned(), json!(found.points_to));
            if found.kind == "file" {
                fields.insert("bytes".to_owned(), json!(found.bytes));
                fields.insert("bytes_on_disk".to_owned(), json!(found.allocated));
                fields.insert("names".to_owned(), json!(found.links));
                content = self.content(&found, done);
            }
            if found.kind == "folder" {
                fields.extend(self.below(&found, until));
            }
        }
        self.shown.json(&mut value);
        if let (false, Some(fields)) = (content.is_empty(), value.as_object_mut()) {
            fields.insert("content".to_owned(), Value::Object(content));
        }
        fact("path", value, LOOKED)
    }

    /// What a file holds, where that matters.
    fn content(&self, found: &Found, done: Done) -> Map<String, Value> {
        let most = match done {
            Done::Written => MAX_WRITTEN_OVER.min(self.limits.max_text_bytes),
            Done::Sent | Done::Script => self.limits.max_text_bytes,
            Done::Removed | Done::RemovedWhole | Done::Moved => return Map::new(),
        };
        match found.read(MAX_READ) {
            Ok(bytes) => text::text(
                &bytes,
                found.bytes.max(bytes.len() as u64),
                most,
                &self.shown,
            ),
            Err(missing) => Map::from_iter([("not_obtained".to_owned(), json!(missing.as_str()))]),
        }
    }

    fn below(&self, found: &Found, until: Instant) -> Map<String, Value> {
        match found.count(self.limits.max_entries, until, &self.barred) {
            Ok(Count {
                entries,
                bytes,
                not_counted,
                more,
            }) => Map::from_iter([
                ("entries".to_owned(), json!(entries)),
                ("bytes_below".to_owned(), json!(bytes)),
                ("not_counted".to_owned(), json!(not_counted)),
                ("more".to_owned(), json!(more)),
            ]),
            Err(missing) => Map::from_iter([("not_obtained".to_owned(), json!(missing.as_str()))]),
        }
    }
}

impl Inquiry {
    /// What it is about, for people.
    fn about(&self) -> String {
        match self {
            Self::Path { path, .. } => path.to_string_lossy().into_owned(),
            Self::Unknown { written, .. } | Self::Host { written } => written.clone(),
            Self::Repository { folder, .. } => {
                format!("the repository of {}", folder.to_string_lossy())
            }
        }
    }
}
