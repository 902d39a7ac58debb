//! One more line of a chain, for work beside the batches: how a run ended, what was erased.
//!
//! Apart, because both do the same, inside the transaction of their own work. Invariant: the line follows the head that
//! was read in the same transaction.

use protocol::TenantId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use super::super::chain::{Head, Line};
use super::sql;

/// The last line of a tenant's chain.
pub(super) async fn head(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
) -> Result<Head, StoreError> {
    let head = sqlx::query(
        "SELECT seq, hash FROM review_events WHERE tenant_id = ? ORDER BY seq DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    match head {
        None => Ok(Head::EMPTY),
        Some(head) => Ok(Head {
            seq: head.try_get(0)?,
            hash: sql::array(head.try_get(1)?)?,
        }),
    }
}

/// Writes `line` after `head`; the head from then on.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    head: Head,
    line: &Line<'_>,
) -> Result<Head, StoreError> {
    let head = head.after(line);
    sqlx::query(
        "INSERT INTO review_events (tenant_id, seq, review_id, kind, at, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(line.tenant.as_str())
    .bind(head.seq)
    .bind(sql::bytes(line.review_id))
    .bind(line.event.as_str())
    .bind(line.at)
    .bind(line.body)
    .bind(head.hash.as_slice())
    .execute(connection)
    .await?;
    Ok(head)
}
