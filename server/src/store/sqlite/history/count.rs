//! Sums over reviews that ended: how many, how fast, by whom, what was refused, what models cost.
//!
//! Apart, because it is a small language of its own: what is counted, and under which value. Invariant: a review is
//! counted once, when it ended, in the hour in which it was opened.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{Action, ReviewStatus, TenantId};
use serde::Deserialize;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::super::StoreError;
use super::super::SqliteStore;
use crate::verdict::Verdict;

/// The longest value that is counted under, in bytes.
const LONGEST: usize = 200;
/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    /// By status.
    Status,
    /// By who decided.
    DecidedBy,
    /// By risk.
    Risk,
    /// By the step that failed.
    FailedStep,
    /// The programs of commands that were denied.
    DeniedProgram,
    /// The hosts that were denied.
    DeniedHost,
    /// How long it took: the least number of milliseconds of a bucket.
    Latency,
    /// Calls of a model.
    ModelCalls,
    /// Tokens that a model read.
    InputTokens,
    /// Tokens that a model wrote.
    OutputTokens,
}

impl What {
    const ALL: [Self; 10] = [
        Self::Status,
        Self::DecidedBy,
        Self::Risk,
        Self::FailedStep,
        Self::DeniedProgram,
        Self::DeniedHost,
        Self::Latency,
        Self::ModelCalls,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::DecidedBy => "decided_by",
            Self::Risk => "risk",
            Self::FailedStep => "failed_step",
            Self::DeniedProgram => "denied_program",
            Self::DeniedHost => "denied_host",
            Self::Latency => "latency_ms",
            Self::ModelCalls => "model_calls",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }
}

/// One addition, and one line of what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) hour: i64,
    pub(crate) what: What,
    pub(crate) value: String,
    pub(crate) count: i64,
}

/// What a denial is counted under.
#[derive(Debug)]
pub(super) enum Subject {
    Program(String),
    Host(String),
    Other,
}

impl Subject {
    pub(super) fn of(action: &Action) -> Self {
        match action {
            Action::NetworkAccess(access) => Self::Host(access.host.clone()),
            Action::Command(_)
            | Action::FileChange(_)
            | Action::ToolCall(_)
            | Action::PermissionRequest(_) => {
                program(action).map_or(Self::Other, |name| Self::Program(name.to_owned()))
            }
        }
    }
}

/// The program of a command: the last part of its first word.
pub(super) fn program(action: &Action) -> Option<&str> {
    match action {
        Action::Command(command) => command.command.first()?.rsplit('/').next(),
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => None,
    }
}

/// A review that ended.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    pub(super) created_at: i64,
    pub(super) completed_at: i64,
    pub(super) verdict: &'a Verdict,
    pub(super) subject: Option<Subject>,
    pub(super) exhibit: Option<&'a str>,
}

#[derive(Deserialize)]
struct Attempts {
    #[serde(default)]
    attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    model: String,
    #[serde(default)]
    tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    input: i64,
    output: i64,
}

/// What one review adds.
pub(super) fn sums(review: &Counted<'_>) -> Vec<Sum> {
    let hour = review.created_at.div_euclid(HOUR);
    let mut sums = Vec::new();
    let mut add = |what, value: &str, count| {
        let end = value.floor_char_boundary(LONGEST);
        sums.push(Sum {
            hour,
            what,
            value: value.get(..end).unwrap_or_default().to_owned(),
            count,
        });
    };
    let verdict = review.verdict;
    add(What::Status, verdict.status.as_str(), 1);
    add(What::DecidedBy, verdict.decided_by.as_str(), 1);
    if let Some(risk) = verdict.risk_level {
        add(What::Risk, risk.as_str(), 1);
    }
    if let Some(failure) = &verdict.failure {
        add(What::FailedStep, failure.step.as_str(), 1);
    }
    let took = review.completed_at.saturating_sub(review.created_at).max(0);
    add(What::Latency, &bucket(took.unsigned_abs()).to_string(), 1);
    match (&review.subject, verdict.status) {
        (Some(Subject::Program(name)), ReviewStatus::Denied) => add(What::DeniedProgram, name, 1),
        (Some(Subject::Host(name)), ReviewStatus::Denied) => add(What::DeniedHost, name, 1),
        (Some(_) | None, _) => {}
    }
    let tried = review
        .exhibit
        .and_then(|text| serde_json::from_str::<Attempts>(text).ok());
    for attempt in tried.map(|it| it.attempts).unwrap_or_default() {
        add(What::ModelCalls, &attempt.model, 1);
        if let Some(tokens) = attempt.tokens {
            add(What::InputTokens, &attempt.model, tokens.input);
            add(What::OutputTokens, &attempt.model, tokens.output);
        }
    }
    sums
}

/// The least value of the bucket of `took` milliseconds: eight buckets an octave, exact below 16.
fn bucket(took: u64) -> u64 {
    let drop = (u64::BITS - took.leading_zeros()).saturating_sub(4);
    (took >> drop) << drop
}

pub(super) async fn add<'a>(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    sums: impl Iterator<Item = &'a Sum>,
) -> Result<(), StoreError> {
    let mut added: BTreeMap<(i64, What, &str), i64> = BTreeMap::new();
    for sum in sums {
        *added.entry((sum.hour, sum.what, &sum.value)).or_default() += sum.count;
    }
    if added.is_empty() {
        return Ok(());
    }
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT INTO history_counts (tenant_id, hour, what, value, count) ",
    );
    insert.push_values(&added, |mut row, ((hour, what, value), count)| {
        row.push_bind(tenant.as_str())
            .push_bind(*hour)
            .push_bind(what.as_str())
            .push_bind((*value).to_owned())
            .push_bind(*count);
    });
    insert.push(" ON CONFLICT DO UPDATE SET count = count + excluded.count");
    insert.build().execute(connection).await?;
    Ok(())
}

impl SqliteStore {
    /// The sums of `tenant` over the whole hours that `since` and `until` touch; one line a value.
    pub(crate) async fn sums(
        &self,
        tenant: &TenantId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<(What, String, i64)>, StoreError> {
        let hour = |at: Timestamp| at.as_millisecond().div_euclid(HOUR);
        let rows = sqlx::query(
            "SELECT what, value, sum(count) FROM history_counts WHERE tenant_id = ? AND hour >= ? AND hour <= ? \
             GROUP BY what, value ORDER BY what, sum(count) DESC, value",
        )
        .bind(tenant.as_str())
        .bind(since.map_or(i64::MIN, hour))
        .bind(until.map_or(i64::MAX, hour))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let what = What::parse(row.try_get(0)?);
                let what = what.ok_or(StoreError::Corrupt("something unknown was counted"))?;
                Ok((what, row.try_get(1)?, row.try_get(2)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn a_bucket_is_an_eighth_of_its_value_wide_at_most() {
        for took in (0..5_000).chain([u64::MAX / 2]) {
            let least = bucket(took);
            assert!(least <= took && took - least <= took / 8, "{took}: {least}");
            assert!(took >= 16 || least == took, "{took}");
        }
    }
}
