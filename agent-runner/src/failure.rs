//! How the runner ends when no command's own status is passed on: the exit codes and the words, in one table.

use std::fmt;

use thiserror::Error;

/// Exit status where the runner itself failed; nothing ran.
pub(crate) const RUNNER_FAILED: u8 = 125;
/// Exit status where the action is not permitted, or the program cannot be executed.
pub(crate) const NOT_PERMITTED: u8 = 126;
/// Exit status where the program was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// The end of a run that ran no command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) code: u8,
    /// What is told, one or more lines.
    pub(crate) message: String,
}

impl Failure {
    /// The runner failed, because of `error` and its causes.
    pub(crate) fn runner(error: &dyn std::error::Error) -> Self {
        Self {
            code: RUNNER_FAILED,
            message: chain(error),
        }
    }

    /// The runner failed, for the reason given.
    pub(crate) fn because(message: impl fmt::Display) -> Self {
        Self {
            code: RUNNER_FAILED,
            message: message.to_string(),
        }
    }
}

/// Every error that carries its causes ends the run the same way.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::runner(&error)
    }
}

/// The error and its causes on one line; a hint keeps a line of its own.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut lines = Vec::new();
    let mut hints = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        match text.split_once("\nhint: ") {
            Some((line, hint)) => {
                lines.push(line.to_owned());
                hints.push(format!("\nhint: {hint}"));
            }
            None => lines.push(text),
        }
        next = error.source();
    }
    lines.dedup();
    format!("{}{}", lines.join(": "), hints.concat())
}

/// Why a run could not be prepared.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// `--cd` is relative.
    #[error("`--cd {0}` is not an absolute path")]
    RelativeDirectory(String),
    /// The working directory cannot be used.
    #[error("cannot use the working directory `{path}`")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a directory.
    #[error("the working directory `{0}` is not a directory")]
    NotADirectory(String),
    /// The transcript cannot be read.
    #[error("cannot read the transcript `{path}`")]
    Transcript {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of the transcript is not an entry.
    #[error(
        "line {line} of the transcript `{path}` is not an entry: {reason}\nhint: a line is {{\"author\":\"user|developer|assistant|tool_call|tool_output\",\"name\":null,\"text\":\"…\"}}"
    )]
    TranscriptLine {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The additional permissions are not what they must be.
    #[error(
        "the permissions asked for are not valid: {0}\nhint: {{\"file_system\":{{\"read\":[\"…\"],\"write\":[\"…\"]}},\"network\":{{\"enabled\":true}}}}"
    )]
    AdditionalPermissions(String),
    /// Standard input is longer than what can be reviewed.
    #[error(
        "`--stdin` takes at most {} bytes; there is more",
        crate::request::MAX_STDIN
    )]
    StdinTooLong,
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Stdin(#[source] std::io::Error),
    /// The report cannot be written.
    #[error("cannot write the report to `{target}`")]
    Report {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
