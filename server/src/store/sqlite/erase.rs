//! Erases payloads: transcripts, evidence, and what the reviewer was shown.
//!
//! Apart, because nothing else removes anything. Invariants: what was decided, about what and why stays, and its chain
//! holds, which has payloads by their digests alone; a payload goes in the transaction that writes its line `erased`,
//! with who wanted it so, so that one that is missing without such a line was taken away by somebody else; a review is
//! erased only after it has ended and was counted; freed pages are overwritten (`PRAGMA secure_delete`), and the log is
//! emptied after it.

use jiff::Timestamp;
use protocol::{ReviewEvent, TenantId};
use serde::Serialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use super::super::chain::Line;
use super::{SqliteStore, append, sql};

/// How many reviews are erased between two batches.
const STEP: i64 = 256;

/// What is to be erased.
#[derive(Debug, Clone)]
pub(crate) struct Erasure {
    pub(crate) tenant: TenantId,
    /// Payloads of reviews that were opened before this.
    pub(crate) before: Timestamp,
    pub(crate) at: Timestamp,
    /// Who wants it so.
    pub(crate) by: String,
}

/// The line that a review gets whose payloads are erased.
#[derive(Serialize)]
struct ErasedBody<'a> {
    by: &'a str,
    before: i64,
}

impl Erasure {
    fn body(&self) -> Result<String, StoreError> {
        serde_json::to_string(&ErasedBody {
            by: &self.by,
            before: self.before.as_millisecond(),
        })
        .map_err(|_| StoreError::Corrupt("an erasure cannot be spelled"))
    }
}

/// Where a step ended: the time and number of its last review.
type Reached = (i64, i64);

impl SqliteStore {
    /// Erases, and keeps on record that it did; how many reviews lost a payload.
    pub(crate) async fn erase(&self, erasure: Erasure) -> Result<u64, StoreError> {
        // What is not counted yet would be counted without its cost.
        while self.catch_up().await? > 0 {}
        let mut erased = 0;
        let mut from: Option<Reached> = None;
        loop {
            let wanted = erasure.clone();
            let stepped = self
                .aside(move |connection| Box::pin(step(connection, wanted, from)))
                .await?;
            let Some((reached, some)) = stepped else {
                break;
            };
            erased += some;
            from = Some(reached);
        }
        self.aside(move |connection| Box::pin(keep(connection, erasure, erased)))
            .await?;
        self.empty_the_log().await;
        Ok(erased)
    }

    /// Writes the log over into the database and cuts it, so that erased text is in neither. A reader may hold it up; the
    /// log is then written over by and by.
    pub(super) async fn empty_the_log(&self) {
        if let Ok(mut connection) = self.readers.acquire().await {
            self.log.empty(&mut connection).await;
        }
    }
}

/// Erases the payloads of the next few reviews; how far it came and how many had any. `None`: there are no more.
async fn step(
    connection: &mut SqliteConnection,
    wanted: Erasure,
    from: Option<Reached>,
) -> Result<Option<(Reached, u64)>, StoreError> {
    let tenant = &wanted.tenant;
    let gone: i64 = sqlx::query_scalar(
        "SELECT ifnull((SELECT erased_before FROM history_state WHERE tenant_id = ?), 0)",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut *connection)
    .await?;
    let (after, number) = from.unwrap_or((gone, 0));
    let rows = sqlx::query(
        "SELECT created_at, review_no, review_id FROM history INDEXED BY history_by_time WHERE tenant_id = ? \
         AND (created_at, review_no) > (?, ?) AND created_at < ? AND counted = 1 \
         ORDER BY created_at, review_no LIMIT ?",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(number)
    .bind(wanted.before.as_millisecond())
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await?;
    let Some(last) = rows.last() else {
        return Ok(None);
    };
    let reached = (last.try_get(0)?, last.try_get(1)?);
    // Freed pages are overwritten with zeros (SQLite's documentation of the pragma).
    sqlx::query("PRAGMA secure_delete = ON")
        .execute(&mut *connection)
        .await?;
    let body = wanted.body()?;
    let mut head = append::head(connection, tenant).await?;
    let mut erased = 0;
    for row in &rows {
        if erase_one(connection, row.try_get(1)?).await? {
            let line = Line {
                tenant,
                review_id: sql::review_id(row.try_get(2)?)?,
                event: ReviewEvent::Erased,
                at: wanted.at.as_millisecond(),
                body: &body,
            };
            head = append::append(connection, head, &line).await?;
            erased += 1;
        }
    }
    sqlx::query("PRAGMA secure_delete = OFF")
        .execute(&mut *connection)
        .await?;
    Ok(Some((reached, erased)))
}

/// Whether there was something to erase.
async fn erase_one(connection: &mut SqliteConnection, number: i64) -> Result<bool, StoreError> {
    let context = sqlx::query(
        "UPDATE review_requests SET context = '' WHERE review_no = ? AND context <> ''",
    )
    .bind(number)
    .execute(&mut *connection)
    .await?;
    let exhibit = sqlx::query("DELETE FROM review_exhibits WHERE review_no = ?")
        .bind(number)
        .execute(connection)
        .await?;
    Ok(context.rows_affected() + exhibit.rows_affected() > 0)
}

async fn keep(
    connection: &mut SqliteConnection,
    erasure: Erasure,
    erased: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE history_state SET erased_before = max(erased_before, ?) WHERE tenant_id = ?",
    )
    .bind(erasure.before.as_millisecond())
    .bind(erasure.tenant.as_str())
    .execute(&mut *connection)
    .await?;
    if erased == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO erasures (tenant_id, before, at, by, payloads, in_chain) VALUES (?, ?, ?, ?, ?, 1)",
    )
    .bind(erasure.tenant.as_str())
    .bind(erasure.before.as_millisecond())
    .bind(erasure.at.as_millisecond())
    .bind(&erasure.by)
    .bind(i64::try_from(erased).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}
