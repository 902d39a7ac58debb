//! What is noted about a review beside its own way: votes of several approvers, and what judged alongside.
//!
//! Apart from the rules of `batch.rs`, because a line here changes no status. Invariants: a vote stands on record before
//! it counts; a shadow's line follows an end that is on record, and is counted in the same transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{ReviewEvent, ReviewId, ReviewStatus, ShadowStats, TenantId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::super::chain::Line;
use super::super::super::{Scope, StoreError};
use super::super::{SqliteStore, append, sql};

/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;
/// What stands in the place of a flip where the shadow said what bound.
const AGREED: &str = "agreed";
const FAILED: &str = "failed";
const SKIPPED: &str = "skipped";

/// One approver's answer, as it is put on record.
#[derive(Debug, Clone)]
pub(crate) struct VoteLine {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) at: Timestamp,
    /// As it stands in the chain.
    pub(crate) body: String,
}

/// What a shadow came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Agreed,
    /// What bound, and what the shadow said.
    Flipped(ReviewStatus, ReviewStatus),
    Failed,
    /// There was no room.
    Skipped,
}

/// A shadow's judgement, as it is put on record.
#[derive(Debug, Clone)]
pub(crate) struct ShadowLine {
    pub(crate) review_id: ReviewId,
    pub(crate) scope: Scope,
    pub(crate) at: Timestamp,
    pub(crate) revision: String,
    pub(crate) came: Came,
    /// As it stands in the chain.
    pub(crate) body: String,
}

/// How often a tenant's shadow was left out.
#[derive(Debug, Clone)]
pub(crate) struct LeftOut {
    pub(crate) tenant: TenantId,
    pub(crate) revision: String,
    pub(crate) at: Timestamp,
    pub(crate) count: u64,
}

impl Came {
    fn name(self) -> String {
        match self {
            Self::Agreed => AGREED.to_owned(),
            Self::Flipped(bound, said) => format!("{}>{}", bound.as_str(), said.as_str()),
            Self::Failed => FAILED.to_owned(),
            Self::Skipped => SKIPPED.to_owned(),
        }
    }
}

impl SqliteStore {
    /// Puts a vote on record. `false`: the review has ended.
    pub(crate) async fn note_vote(&self, vote: VoteLine) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let standing = status(connection, &vote.scope, vote.review_id).await?;
                if ReviewStatus::after(standing, ReviewEvent::Voted).is_none() {
                    return Ok(false);
                }
                let line = Line {
                    tenant: &vote.scope.tenant,
                    review_id: vote.review_id,
                    event: ReviewEvent::Voted,
                    at: vote.at.as_millisecond(),
                    body: &vote.body,
                };
                let head = append::head(connection, &vote.scope.tenant).await?;
                append::append(connection, head, &line).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Puts shadows' judgements on record, and counts them and those that were left out.
    pub(crate) async fn note_shadows(
        &self,
        lines: Vec<ShadowLine>,
        left_out: Vec<LeftOut>,
    ) -> Result<(), StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                for line in lines {
                    note_shadow(connection, line).await?;
                }
                for left in left_out {
                    let of = (&left.tenant, left.at, left.revision.as_str());
                    let count = i64::try_from(left.count).unwrap_or(i64::MAX);
                    count_shadow(connection, of, (Came::Skipped, count)).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// What shadows of `tenant` came to, over the whole hours that `since` and `until` touch, by revision.
    pub(crate) async fn shadows(
        &self,
        tenant: &TenantId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<BTreeMap<String, ShadowStats>, StoreError> {
        let hour = |at: Timestamp| at.as_millisecond().div_euclid(HOUR);
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT revision, came, sum(count) FROM shadow_counts WHERE tenant_id = ? AND hour >= ? AND hour <= ? \
             GROUP BY revision, came",
        )
        .bind(tenant.as_str())
        .bind(since.map_or(i64::MIN, hour))
        .bind(until.map_or(i64::MAX, hour))
        .fetch_all(&self.readers)
        .await?;
        let mut told: BTreeMap<String, ShadowStats> = BTreeMap::new();
        for (revision, came, count) in rows {
            let stats = told.entry(revision).or_default();
            match came.as_str() {
                AGREED => stats.agreed = count,
                FAILED => stats.failed = count,
                SKIPPED => stats.skipped = count,
                _ => {
                    stats.flipped.insert(came, count);
                }
            }
        }
        Ok(told)
    }
}

async fn status(
    connection: &mut SqliteConnection,
    scope: &Scope,
    review_id: ReviewId,
) -> Result<Option<ReviewStatus>, StoreError> {
    let row = sqlx::query(
        "SELECT status FROM reviews WHERE tenant_id = ? AND caller = ? AND review_id = ?",
    )
    .bind(scope.tenant.as_str())
    .bind(scope.caller.as_str())
    .bind(sql::bytes(review_id))
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(sql::status(row.try_get(0)?)?)).transpose()
}

async fn note_shadow(
    connection: &mut SqliteConnection,
    shadow: ShadowLine,
) -> Result<(), StoreError> {
    let standing = status(connection, &shadow.scope, shadow.review_id).await?;
    if ReviewStatus::after(standing, ReviewEvent::Shadowed).is_none() {
        return Ok(());
    }
    let line = Line {
        tenant: &shadow.scope.tenant,
        review_id: shadow.review_id,
        event: ReviewEvent::Shadowed,
        at: shadow.at.as_millisecond(),
        body: &shadow.body,
    };
    let head = append::head(connection, &shadow.scope.tenant).await?;
    append::append(connection, head, &line).await?;
    let of = (&shadow.scope.tenant, shadow.at, shadow.revision.as_str());
    count_shadow(connection, of, (shadow.came, 1)).await
}

async fn count_shadow(
    connection: &mut SqliteConnection,
    (tenant, at, revision): (&TenantId, Timestamp, &str),
    (came, count): (Came, i64),
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO shadow_counts (tenant_id, hour, revision, came, count) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )
    .bind(tenant.as_str())
    .bind(at.as_millisecond().div_euclid(HOUR))
    .bind(revision)
    .bind(came.name())
    .bind(count)
    .execute(connection)
    .await?;
    Ok(())
}
