//! Carries the log (WAL) over into the database beside the writer, so that no commit waits for it.
//!
//! Apart, because it runs on a connection of its own. Invariant: only PASSIVE checkpoints, which wait for nobody and make
//! nobody wait (SQLite's documentation of `PRAGMA wal_checkpoint`); what is durable does not depend on them.

use std::sync::Arc;

use sqlx::sqlite::SqlitePool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// After how many changes the log is carried over, and after how many commits where each holds few of them. The log is
/// then written over instead of growing: syncing a file that grows costs half as much again (measured on ext4).
pub(super) const EVERY: usize = 1_024;
pub(super) const EVERY_COMMITS: usize = 64;

/// Carries over each time that `long` says so, until `closing`.
pub(super) async fn run(pool: SqlitePool, long: Arc<Notify>, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = long.notified() => {}
        }
        let carried = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&pool)
            .await;
        if let Err(error) = carried {
            tracing::debug!(%error, "the log was not carried over; the writer does it");
        }
    }
}
