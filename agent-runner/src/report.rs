//! What people and programs read of a run: the three lines of a refusal, and the report as JSON.
//!
//! A command's own output is never touched; these lines go to standard error only where the runner itself refuses
//! (design D27). Whatever came from outside is shown through [`Printable`].

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use protocol::{
    Decision, Denial, FailedStep, Judge, Printable, ReviewResource, ReviewStatus, Sha256Hex,
};
use serde::Serialize;

use crate::door::NetworkReport;
use crate::failure::{NOT_PERMITTED, RequestError};
use crate::request::RunRequest;
use sandbox::LimitReached;

/// What came of a run, for `--report`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// The version of this shape: 1.
    pub(crate) version: u32,
    /// Which way the command went.
    pub(crate) route: &'static str,
    /// The review, where there was one.
    pub(crate) review: Option<ReviewResource>,
    /// How the review ended, where there was one.
    pub(crate) status: Option<ReviewStatus>,
    /// What the user should know about the settings, a line each.
    pub(crate) notes: Vec<String>,
    /// Which walls stood, where the command ran.
    pub(crate) confinement: Option<serde_json::Value>,
    /// The refusals that the walls saw; `None` where nothing was observed.
    pub(crate) denials: Option<Vec<sandbox::SandboxDenial>>,
    /// How many more there were.
    pub(crate) unlisted_denials: u64,
    /// What the door let through and refused, where the command's network had one.
    pub(crate) network: Option<NetworkReport>,
    /// The run before, where the walls stopped it and it was asked about again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_run: Option<FirstRun>,
    /// The runner's exit status.
    pub(crate) exit_code: u8,
    /// The signal that ended the command.
    pub(crate) signal: Option<i32>,
    /// The limit that ended it.
    pub(crate) limit: Option<LimitReached>,
    /// The path whose guard was lost, where that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost_guard: Option<String>,
    /// Bytes that it printed beyond what is passed on.
    pub(crate) output_thrown_away: u64,
    /// What the runner said, where it refused or failed.
    pub(crate) message: Option<String>,
}

/// A run that the walls stopped.
#[derive(Debug, Serialize)]
pub(crate) struct FirstRun {
    /// How it ended.
    pub(crate) exit_code: u8,
    /// What the walls refused.
    pub(crate) denials: Vec<sandbox::SandboxDenial>,
}

impl Report {
    /// Adds what is not noted yet.
    pub(crate) fn add_notes(&mut self, notes: &[String]) {
        for note in notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
    }

    /// What a person reads behind the command's own output: only what the runner itself did to it.
    pub(crate) fn said_at_the_end(&self) -> Vec<String> {
        let lost = self.lost_guard.as_ref().map(|path| {
            format!(
                "the command was ended: `{path}`, which it may not change or see, was replaced or moved meanwhile\nhint: run it again"
            )
        });
        let limit = self.limit.filter(|_| lost.is_none()).map(|limit| {
            let (did, key) = match limit {
                LimitReached::WallTime => ("ran longer than it may", Some("wall_secs")),
                LimitReached::Memory => ("held more memory than it may", Some("memory_mebibytes")),
                LimitReached::CpuTime => ("used more processor time than it may", Some("cpu_secs")),
                LimitReached::FileSize => {
                    ("wrote a longer file than it may", Some("file_mebibytes"))
                }
                LimitReached::HostMemory => ("ran while the machine was short of memory", None),
                LimitReached::GuardLost => ("could not be kept to its paths any more", None),
            };
            let hint = key
                .map(|key| format!("\nhint: `{key}` of `[limits]` in agent-runner.toml moves it"));
            format!(
                "the command was ended: it {did}{}",
                hint.unwrap_or_default()
            )
        });
        let cut = match self.output_thrown_away {
            0 => None,
            bytes => Some(format!(
                "{bytes} bytes of output were thrown away, beyond what is passed on"
            )),
        };
        lost.into_iter().chain(limit).chain(cut).collect()
    }
}

/// Where the report goes, opened before the command starts: nothing that the command does can turn it elsewhere.
#[derive(Debug)]
pub(crate) struct ReportFile {
    file: std::fs::File,
    target: String,
}

impl ReportFile {
    /// Opens a file, or an inherited descriptor by its number.
    ///
    /// # Errors
    /// It cannot be opened for writing, is a symbolic link, or is neither a regular file nor a descriptor.
    pub(crate) fn open(target: &str) -> Result<Self, RequestError> {
        let failed = |source| RequestError::Report {
            target: target.to_owned(),
            source,
        };
        // As shells spell `>(program)`, too.
        let number = target.strip_prefix("/dev/fd/").unwrap_or(target);
        let file = match number.parse::<u32>() {
            Ok(number) => inherited(number),
            Err(_) => open_file(target),
        };
        Ok(Self {
            file: file.map_err(failed)?,
            target: target.to_owned(),
        })
    }

    /// Writes `report`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(mut self, report: &Report) -> Result<(), RequestError> {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let written = self.file.write_all(&line);
        written.map_err(|source| RequestError::Report {
            target: self.target,
            source,
        })
    }
}

/// What stands at the descriptor `number`.
fn inherited(number: u32) -> std::io::Result<std::fs::File> {
    let opened = OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{number}"));
    opened.map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            std::io::Error::other(format!("descriptor {number} is not open"))
        } else {
            error
        }
    })
}

/// A regular file of its own name, emptied. No link on the way is followed, since a command may have put it there, but one
/// that lies in `/` itself, where no workspace is; a pipe is not waited for, and a file with other names is another's.
fn open_file(target: &str) -> std::io::Result<std::fs::File> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let path = std::path::absolute(target)?;
    let mut below = path.components();
    let root = std::path::Path::new("/");
    let first = below.by_ref().nth(1);
    let (folder, rest) = match (first, below.as_path()) {
        (Some(first), rest) if !rest.as_os_str().is_empty() => (root.join(first), rest),
        _ => (root.to_owned(), path.strip_prefix(root).unwrap_or(&path)),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty())?;
    let file = std::fs::File::from(openat2(
        folder,
        rest,
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?);
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() > 1 {
        return Err(std::io::Error::other(
            "it is not a regular file with one name",
        ));
    }
    file.set_len(0)?;
    Ok(file)
}

/// The command of a request, short enough for one line of a refusal; the record holds it whole. What is said ends up in logs,
/// so that secrets are marks here too: the same mark for all, since nothing is to be compared.
pub(crate) fn shown_request(request: &RunRequest) -> String {
    let words: Vec<_> = request
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = protocol::shown_command(&protocol::mask_words(&words, &|_| Sha256Hex::of(&[0; 32])));
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

/// The three lines of a refusal: what was refused and by whom, why, and what the agent may do instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    what: String,
    why: String,
    instead: String,
}

impl Refusal {
    /// A refusal of `command` by `who`.
    pub(crate) fn new(command: &str, who: &str, why: &str, instead: &str) -> Self {
        Self {
            what: format!("agent-runner: not run: `{command}` {who}"),
            // A hint has a line of its own elsewhere; here there are three lines and no more.
            why: format!("why: {}", Printable(&why.replace("\nhint: ", "; "))),
            instead: format!("next: {instead}"),
        }
    }

    /// What a decision that is not an approval says to the agent; `None` for an approval.
    pub(crate) fn of(command: &str, decision: &Decision) -> Option<Self> {
        let refusal = match decision {
            Decision::Approved(_) => return None,
            Decision::Denied(denial) => of_denial(command, denial),
            Decision::TimedOut => Self::new(
                command,
                "was not decided in time (timed out)",
                "the review did not finish before its deadline; that says nothing about the action",
                "retry once; if it happens again, ask the user",
            ),
            Decision::Aborted => Self::new(
                command,
                "was not decided (aborted)",
                "the question was taken back before anybody decided",
                "ask again only if the action is still wanted",
            ),
            Decision::Failed(failure) => {
                let instead = if failure.step == FailedStep::NotConfigured {
                    "do not look for a way around; tell the user what is missing"
                } else if failure.retryable {
                    "retry later, or do without; do not look for a way around"
                } else {
                    "do without, or tell the user; do not look for a way around"
                };
                let who = format!(
                    "could not be reviewed (failed: {}, {})",
                    failure.step.as_str(),
                    failure.code
                );
                Self::new(command, &who, &failure.message, instead)
            }
        };
        Some(refusal)
    }

    /// The exit status that goes with it.
    pub(crate) const CODE: u8 = NOT_PERMITTED;
}

fn of_denial(command: &str, denial: &Denial) -> Refusal {
    const INSTEAD: &str = "do not try to reach the same result another way; take a materially safer course, or stop and ask the user";
    match denial {
        Denial::Judged(judgement) => {
            let judge = match &judgement.judge {
                Judge::BuiltIn(rule) => {
                    format!("the built-in reviewer, rule {}", Printable(rule.as_str()))
                }
                Judge::Model => "the reviewer".to_owned(),
            };
            let assessment = &judgement.assessment;
            let who = format!(
                "was denied by {judge} (risk {}, authorization {})",
                assessment.risk_level, assessment.user_authorization
            );
            Refusal::new(command, &who, assessment.rationale.as_str(), INSTEAD)
        }
        Denial::ByRule(rule) => {
            let who = format!("is forbidden by rule {}", Printable(rule.as_str()));
            Refusal::new(command, &who, "a rule forbids it, whoever asks", INSTEAD)
        }
        Denial::ByPerson(reason) => {
            let why = if reason.is_empty() {
                "the person said no"
            } else {
                reason
            };
            Refusal::new(
                command,
                "was denied by the person at the terminal",
                why,
                INSTEAD,
            )
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}\n{}", self.what, self.why, self.instead)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Decision, Denial, FailedStep, ReviewFailure, RuleId, shown_command};

    use super::{Refusal, open_file};

    #[test]
    fn a_report_goes_where_it_is_said_and_through_no_link() {
        let folder = std::env::temp_dir().join(format!("report-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("real")).expect("a folder");
        let folder = folder.canonicalize().expect("a folder");
        let at = |name: &str| folder.join(name).display().to_string();
        std::fs::write(at("real/a"), "old").expect("a file");
        std::os::unix::fs::symlink(at("real"), at("turned")).expect("a link");
        std::os::unix::fs::symlink(at("real/a"), at("link")).expect("a link");
        std::fs::hard_link(at("real/a"), at("other")).expect("a name");
        for refused in ["turned/a", "turned/new", "link", "other", "real", "none/x"] {
            assert!(open_file(&at(refused)).is_err(), "{refused}");
        }
        assert!(!folder.join("real/new").exists());
        let text = std::fs::read_to_string(at("real/a")).expect("a file");
        assert_eq!(text, "old");
        std::fs::remove_file(at("other")).expect("removed");
        for fine in ["real/a", "real/b", "real/../c"] {
            open_file(&at(fine)).expect(fine);
        }
        let text = std::fs::read_to_string(at("real/a")).expect("a file");
        assert_eq!(text, "");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_command_is_shown_on_one_line_and_steers_nothing() {
        assert_eq!(
            shown_command(&["git", "commit", "-m", "it's\n\u{1b}[2J"]),
            r"git commit -m 'it'\''s\n\x1b[2J'"
        );
        assert_eq!(shown_command(&["a", ""]), "a ''");
    }

    #[test]
    fn the_ways_not_to_be_approved_read_differently_and_fill_three_lines() {
        let failure = |step| {
            Decision::Failed(ReviewFailure {
                step,
                code: "x".to_owned(),
                retryable: false,
                message: "it\nbroke".to_owned(),
            })
        };
        let decisions = [
            Decision::Denied(Denial::ByPerson(String::new())),
            Decision::Denied(Denial::ByRule(RuleId::new("r"))),
            Decision::TimedOut,
            Decision::Aborted,
            failure(FailedStep::Model),
            failure(FailedStep::NotConfigured),
        ];
        let texts: std::collections::BTreeSet<_> = decisions
            .iter()
            .map(|decision| {
                Refusal::of("rm x", decision)
                    .expect("a refusal")
                    .to_string()
            })
            .collect();
        assert_eq!(texts.len(), decisions.len());
        for text in texts {
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(text.starts_with("agent-runner: not run: `rm x` "), "{text}");
        }
    }
}
