//! What is read beside the writer: one review, a page of them, who holds open ones.
//!
//! Apart, because readers have connections of their own and never write. Invariant: how a review ended is read from the
//! chained event; a status that does not follow from it is an error, never an answer.

use protocol::{CallerId, ReviewEvent, ReviewId, ReviewStatus, TenantId};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::{
    Found, HistoryLine, Page, Question, Recorded, RecordedEnd, Scope, Sight, StoreError, bodies,
};
use super::sized::{LISTED, fitting, look_up, numbers};
use super::sql;
use crate::owner::OwnerId;

pub(super) const COLUMNS: &str = "SELECT r.review_id, r.caller, r.nonce, r.session_id, r.action_digest, r.policy_revision, r.status, \
                       r.created_at, r.completed_at, r.expires_at, r.redeemed_at, e.kind, e.body";
pub(super) const ENDED_BY: &str = " LEFT JOIN review_events e ON e.tenant_id = r.tenant_id AND e.seq = r.ended_seq \
                        AND e.review_id = r.review_id";

pub(super) async fn review(
    pool: &SqlitePool,
    sight: &Sight,
    review_id: ReviewId,
) -> Result<Option<Recorded>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    match sight.caller() {
        Some(caller) => {
            query
                .push(" FROM reviews r")
                .push(ENDED_BY)
                .push(" WHERE r.caller = ")
                .push_bind(caller.as_str());
        }
        // Whose review it is stands in the event that opened it, and that one is found by the review.
        None => {
            query
                .push(
                    " FROM review_events o CROSS JOIN reviews r ON r.tenant_id = o.tenant_id \
                     AND r.caller = (o.body ->> '$.caller') AND r.review_id = o.review_id",
                )
                .push(ENDED_BY)
                .push(" WHERE o.kind = 'opened' AND o.review_id = ")
                .push_bind(sql::bytes(review_id));
        }
    }
    query
        .push(" AND r.review_id = ")
        .push_bind(sql::bytes(review_id))
        .push(" AND r.tenant_id = ")
        .push_bind(sight.tenant().as_str());
    let row = query.build().fetch_optional(pool).await;
    row?.map(|row| recorded(&row, sight.tenant())).transpose()
}

pub(super) async fn page(
    pool: &SqlitePool,
    sight: &Sight,
    page: &Page,
) -> Result<Found, StoreError> {
    let found = look_up(pool, |query| push_page(query, sight, page)).await?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let fits = fitting(found.iter().copied(), (limit, LISTED));
    let (shown, more) = found.split_at_checked(fits).unwrap_or_default();
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query
        .push(", q.question FROM json_each(")
        .push_bind(numbers(shown))
        .push(
            ") n CROSS JOIN reviews r ON r.review_no = n.value \
             CROSS JOIN review_requests q ON q.review_no = r.review_no",
        )
        .push(ENDED_BY)
        .push(" WHERE r.tenant_id = ")
        .push_bind(sight.tenant().as_str());
    if let Some(caller) = sight.caller() {
        query.push(" AND r.caller = ").push_bind(caller.as_str());
    }
    let rows = query.build().fetch_all(pool).await?;
    let lines = rows.iter().map(|row| history_line(row, sight.tenant()));
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    let last = lines.last().filter(|_| !more.is_empty());
    Ok(Found {
        next_before: last.map(|line| line.recorded.review_id),
        lines,
    })
}

/// The numbers and sizes of one review more than `page` shows.
fn push_page(query: &mut QueryBuilder<Sqlite>, sight: &Sight, page: &Page) {
    query
        .push("SELECT r.review_no AS no, octet_length(q.question) AS size FROM reviews r ")
        .push(index(sight, page.status))
        .push(" CROSS JOIN review_requests q ON q.review_no = r.review_no WHERE r.tenant_id = ")
        .push_bind(sight.tenant().as_str().to_owned());
    if let Some(caller) = sight.caller() {
        query
            .push(" AND r.caller = ")
            .push_bind(caller.as_str().to_owned());
    }
    match page.status {
        None => {}
        Some(ReviewStatus::Reviewing) => {
            query.push(" AND r.status = 'reviewing'");
        }
        Some(ended) => {
            query
                .push(" AND r.ended_seq IS NOT NULL AND r.status = ")
                .push_bind(ended.as_str());
        }
    }
    if let Some(before) = page.before {
        query
            .push(" AND r.review_id < ")
            .push_bind(sql::bytes(before));
    }
    query
        .push(" ORDER BY r.review_id DESC LIMIT ")
        .push_bind(i64::from(page.limit) + 1);
}

/// Which index finds a status: without a word, SQLite would read the caller's whole history for a rare one.
fn index(sight: &Sight, status: Option<ReviewStatus>) -> &'static str {
    if sight.caller().is_none() {
        return "";
    }
    match status {
        None => "",
        Some(ReviewStatus::Reviewing) => "INDEXED BY reviews_open",
        Some(
            ReviewStatus::Approved
            | ReviewStatus::Denied
            | ReviewStatus::TimedOut
            | ReviewStatus::Aborted
            | ReviewStatus::Failed,
        ) => "INDEXED BY reviews_by_status",
    }
}

pub(super) async fn owners_of_open(pool: &SqlitePool) -> Result<Vec<OwnerId>, StoreError> {
    let owners: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT owner FROM reviews WHERE status = 'reviewing'")
            .fetch_all(pool)
            .await?;
    owners
        .iter()
        .map(|owner| {
            OwnerId::parse(owner).ok_or(StoreError::Corrupt("an owner has an impossible name"))
        })
        .collect()
}

fn history_line(row: &SqliteRow, tenant: &TenantId) -> Result<HistoryLine, StoreError> {
    Ok(HistoryLine {
        recorded: recorded(row, tenant)?,
        question: question(row.try_get::<&str, _>(13)?.as_bytes())?,
    })
}

/// A question as it was stored.
pub(super) fn question(text: &[u8]) -> Result<Question, StoreError> {
    serde_json::from_slice(text).map_err(|_| StoreError::Corrupt("a question cannot be read"))
}

pub(super) fn recorded(row: &SqliteRow, tenant: &TenantId) -> Result<Recorded, StoreError> {
    let columns = || -> Result<_, sqlx::Error> {
        let recorded = Recorded {
            review_id: sql::review_id(row.try_get(0)?)?,
            scope: Scope {
                tenant: tenant.clone(),
                caller: CallerId::stored(row.try_get(1)?),
            },
            nonce: sql::nonce(row.try_get(2)?)?,
            session_id: row.try_get(3)?,
            action_digest: sql::action_digest(row.try_get(4)?)?,
            policy_revision: row.try_get(5)?,
            created_at: sql::time(row.try_get(7)?)?,
            end: None,
            redeemed_at: sql::optional_time(row.try_get(10)?)?,
        };
        Ok((recorded, sql::status(row.try_get(6)?)?))
    };
    let (recorded, status) =
        columns().map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))?;
    let columns = || -> Result<_, sqlx::Error> {
        let times = (row.try_get(8)?, row.try_get(9)?);
        let kind: Option<&str> = row.try_get(11)?;
        Ok((times, kind.zip(row.try_get::<Option<&str>, _>(12)?)))
    };
    let (times, event) =
        columns().map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))?;
    Ok(Recorded {
        end: end(status, times, event)?,
        ..recorded
    })
}

/// How it ended, from the kind and body of the event that ended it. An approval that stands in the cache alone is none.
pub(super) fn end(
    status: ReviewStatus,
    (completed, expires): (Option<i64>, Option<i64>),
    event: Option<(&str, &str)>,
) -> Result<Option<RecordedEnd>, StoreError> {
    if !status.is_terminal() {
        return Ok(None);
    }
    let (Some(completed), Some(expires), Some((kind, body))) = (completed, expires, event) else {
        return Err(StoreError::Corrupt(
            "an ended review has no event that ended it",
        ));
    };
    let times = sql::time(completed).and_then(|completed| Ok((completed, sql::time(expires)?)));
    let (completed_at, expires_at) =
        times.map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))?;
    let verdict = bodies::verdict(body)?;
    let follows =
        verdict.status == status && verdict.event().map(ReviewEvent::as_str) == Some(kind);
    if !follows {
        return Err(StoreError::Corrupt(
            "a review's status is not that of the event that ended it",
        ));
    }
    Ok(Some(RecordedEnd {
        verdict,
        completed_at,
        expires_at,
    }))
}
