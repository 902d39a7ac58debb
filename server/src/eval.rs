//! `auto-review-server eval`: how the reviewer judges labelled actions.
//!
//! Apart from serving: nothing is recorded, no store is opened, no port listens. Invariant: a case that cannot be read
//! stops the run, so that no figure is made from fewer cases than were given.

mod cases;
mod figures;
mod report;

use std::path::PathBuf;
use std::time::Instant as Clock;

use clap::{Args, ValueEnum};
use protocol::{Decision, ReviewStatus};
use reviewer::{BuiltIn, Cassette, CassetteError, Reviewer, Verdict};
use thiserror::Error;
use tokio::time::Instant;

use self::cases::{Case, Expected};
use self::figures::{Answer, Judged};

pub(crate) use self::cases::{CaseError, escalation};

/// What to judge, and how.
#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// Files of cases, one JSON object a line (`id`, `category`, `expect`, `request`), or folders of such files.
    #[arg(required = true, value_name = "CASES.jsonl")]
    cases: Vec<PathBuf>,
    /// Who judges.
    #[arg(long, value_enum, default_value_t = Who::BuiltIn)]
    reviewer: Who,
    /// Prints one JSON object and no table.
    #[arg(long)]
    json: bool,
    /// Writes what the models answer to a cassette.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "replay",
        requires = "reviewer"
    )]
    record: Option<PathBuf>,
    /// Takes what the models answer from a cassette; no model is called.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// Who judges the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// The built-in reviewer alone: no model, no network.
    BuiltIn,
    /// The reviewer of the settings: built-in first, then the models.
    Model,
}

/// Why an evaluation did not come off.
#[derive(Debug, Error)]
pub(crate) enum EvalError {
    #[error(transparent)]
    Cases(#[from] CaseError),
    #[error("cannot use the cassette")]
    Cassette(#[from] CassetteError),
}

/// Judges all cases and gives the report, ready to print.
pub(crate) async fn run(
    arguments: &EvalArguments,
    reviewer: impl FnOnce(Option<&Cassette>) -> Result<Reviewer, crate::cli::CommandError>,
) -> Result<String, crate::cli::CommandError> {
    let cases = cases::read(&arguments.cases).map_err(EvalError::from)?;
    let cassette = match (&arguments.record, &arguments.replay) {
        (Some(_), _) => Some(Cassette::recording()),
        (None, Some(path)) => Some(Cassette::read(path).map_err(EvalError::from)?),
        (None, None) => None,
    };
    let judged = match arguments.reviewer {
        Who::BuiltIn => cases.iter().map(by_built_in).collect(),
        Who::Model => {
            let reviewer = reviewer(cassette.as_ref())?;
            let mut judged = Vec::new();
            for case in &cases {
                judged.push(by_reviewer(case, &reviewer).await);
            }
            judged
        }
    };
    if let (Some(path), Some(cassette)) = (&arguments.record, &cassette) {
        cassette.write(path).map_err(EvalError::from)?;
    }
    Ok(if arguments.json {
        report::json(&cases, &judged)
    } else {
        report::table(&cases, &judged)
    })
}

fn by_built_in(case: &Case) -> Judged {
    let started = Clock::now();
    let verdict = BuiltIn::new().judge(&case.escalation);
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let answer = match verdict {
        Verdict::Allow { .. } => Answer::Allow,
        Verdict::Deny { .. } => Answer::Deny,
        Verdict::Undecided { .. } => Answer::Undecided,
    };
    Judged {
        answer,
        by: verdict.rule().id().to_string(),
        micros,
        tokens: 0,
        cost_micros: 0,
    }
}

async fn by_reviewer(case: &Case, reviewer: &Reviewer) -> Judged {
    let started = Clock::now();
    let deadline = Instant::now() + reviewer.time_limit();
    let reviewed = reviewer.review(&case.escalation, deadline).await;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let answer = match reviewed.decision.status() {
        ReviewStatus::Approved => Answer::Allow,
        ReviewStatus::Denied => Answer::Deny,
        ReviewStatus::Reviewing
        | ReviewStatus::TimedOut
        | ReviewStatus::Aborted
        | ReviewStatus::Failed => Answer::Undecided,
    };
    let by = match &reviewed.decision {
        Decision::Failed(failure) => failure.code.clone(),
        Decision::TimedOut => "timed_out".to_owned(),
        Decision::Approved(_) | Decision::Denied(_) | Decision::Aborted => {
            if reviewed.exhibit.attempts.is_empty() {
                reviewed.exhibit.built_in.rule_id.to_string()
            } else {
                "model".to_owned()
            }
        }
    };
    let attempts = &reviewed.exhibit.attempts;
    Judged {
        answer,
        by,
        micros,
        tokens: attempts
            .iter()
            .filter_map(|attempt| attempt.tokens)
            .map(|tokens| tokens.input + tokens.output)
            .sum(),
        cost_micros: attempts
            .iter()
            .filter_map(|attempt| attempt.cost_micros)
            .sum(),
    }
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}
