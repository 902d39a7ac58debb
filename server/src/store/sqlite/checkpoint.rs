//! Carries the log (WAL) over into the database, as a rule beside the writer, so that no commit waits for it.
//!
//! Apart, because it alone knows what a failed sync means. Invariants: as a rule PASSIVE checkpoints, which wait for nobody
//! and make nobody wait (SQLite's documentation of `PRAGMA wal_checkpoint`); what is durable does not depend on them;
//! after one that failed on the disk none follows in this process. Linux reports a failed write-back once, and calls the
//! page clean (fsync(2), "NOTES"): a second sync succeeds over pages that were lost, SQLite would then write over the
//! log, and the log was their last copy. Who opens the database when nobody has it open reads the whole log again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::StoreError;
use super::writer::is_of_the_disk;

/// After how many changes the log is carried over, and after how many commits where each holds few of them. The log is
/// then written over instead of growing: syncing a file that grows costs half as much again (measured on ext4).
pub(super) const EVERY: usize = 1_024;
pub(super) const EVERY_COMMITS: usize = 64;
/// As how many changes a piece of other work counts: it may write hundreds of pages.
pub(super) const WORK: usize = EVERY / 8;
/// From how many pages on (8 MiB of them) the writer carries over what is left, while nobody writes, so that the log
/// starts anew.
const LONG: i64 = 2_048;

/// What those who write the log and those who carry it over tell each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    grown: Arc<Notify>,
    behind: Arc<AtomicBool>,
    lost: CancellationToken,
}

impl Log {
    /// It has grown: whoever carries it over is woken.
    pub(super) fn grow(&self) {
        self.grown.notify_one();
    }

    /// Whether the writer has to carry it over itself; asked once.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed) && self.behind.swap(false, Ordering::Relaxed)
    }

    /// Refuses once a write to the database was lost.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.lost.is_cancelled() {
            return Err(StoreError::Lost);
        }
        Ok(())
    }

    /// Returns when a write to the database was lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Carries it over beside the writer each time that it has grown, until `closing`.
    pub(super) async fn follow(self, pool: SqlitePool, closing: CancellationToken) {
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = self.lost.cancelled() => return,
                () = self.grown.notified() => {}
            }
            if let Ok(mut connection) = pool.acquire().await {
                self.carry(&mut connection).await;
            }
        }
    }

    /// Carries over what can be without waiting for anybody.
    pub(super) async fn carry(&self, connection: &mut SqliteConnection) {
        if self.lost.is_cancelled() {
            return;
        }
        let pages = self
            .checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")
            .await;
        if pages.is_some_and(|pages| pages >= LONG) {
            self.behind.store(true, Ordering::Relaxed);
        }
    }

    /// Carries everything over and cuts the log, waiting for the writer for as long as `busy_timeout`. A reader may hold it
    /// up; the log is then written over by and by.
    pub(super) async fn empty(&self, connection: &mut SqliteConnection) {
        if !self.lost.is_cancelled() {
            self.checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
                .await;
        }
    }

    /// How many pages the log has; `None` where it failed.
    async fn checkpoint(
        &self,
        connection: &mut SqliteConnection,
        how: &'static str,
    ) -> Option<i64> {
        let carried: Result<(i64, i64, i64), _> = sqlx::query_as(how).fetch_one(connection).await;
        carried
            .map(|(_busy, pages, _carried)| pages)
            .inspect_err(|error| self.failed(error))
            .ok()
    }

    fn failed(&self, error: &sqlx::Error) {
        if is_of_the_disk(error) {
            self.lost.cancel();
        }
        tracing::error!(%error, "the log was not carried over into the database");
    }
}
