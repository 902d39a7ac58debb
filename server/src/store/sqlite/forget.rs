//! Lets whole reviews go: the first lines of a chain, and everything that is kept about what they tell of.
//!
//! Apart from erasure, which leaves what was decided. Invariants: a chain begins where a signed start says; a start is
//! signed only once what it lets go was held against itself and against what was signed before, and comes before anything
//! is removed, so that a crash in between leaves a record that holds. A review goes with its first line, and not while it is
//! open; what is told of it later may stand after the start. The last line stays, so that numbers go on.

use jiff::Timestamp;
use protocol::{Canonical, LetGo, Sha256Hex, TenantId};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::StoreError;
use super::super::chain::Head;
use super::{SqliteStore, sql};
use crate::key::SigningKey;

/// How many reviews or lines go between two batches.
const STEP: i64 = 256;
/// By how much the clock may have gone back between two lines, in milliseconds: a day.
const SLACK: i64 = 86_400_000;
/// How many starts are told of at most, the newest first.
const TOLD: i64 = 100;

/// What is to be let go.
#[derive(Debug, Clone)]
pub(crate) struct Forgetting {
    pub(crate) tenant: TenantId,
    /// Lines that were written before this.
    pub(crate) before: Timestamp,
    pub(crate) at: Timestamp,
    /// Who wants it so.
    pub(crate) by: String,
}

/// Where a chain begins, and the server's word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainStart {
    tenant: TenantId,
    /// The last line that was let go.
    pub(crate) head: Head,
    at: i64,
    by: String,
    signature: String,
}

impl ChainStart {
    fn signed(key: &SigningKey, wanted: &Forgetting, head: Head) -> Self {
        let mut start = Self {
            tenant: wanted.tenant.clone(),
            head,
            at: wanted.at.as_millisecond(),
            by: wanted.by.clone(),
            signature: String::new(),
        };
        start.signature = key.sign_canonical(&start.statement());
        start
    }

    fn statement(&self) -> Canonical {
        let mut bytes = Canonical::new("auto-review chain start v1");
        bytes
            .text(self.tenant.as_str())
            .bytes(&self.head.seq.to_be_bytes())
            .bytes(&self.head.hash)
            .bytes(&self.at.to_be_bytes())
            .text(&self.by);
        bytes
    }

    /// Whether `key` signed it. Ed25519 signs the same bytes alike (RFC 8032), so signing again says so.
    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        key.sign_canonical(&self.statement()) == self.signature
    }

    /// Its hash, in hex.
    pub(crate) fn hash(&self) -> Sha256Hex {
        Sha256Hex::of(&self.head.hash)
    }
}

/// Where a step ended: the time and number of its last review.
type Reached = (i64, i64);

impl SqliteStore {
    /// Where the chain of `tenant` begins; `None`: at its first line.
    pub(crate) async fn chain_start(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<ChainStart>, StoreError> {
        let row = sqlx::query(
            "SELECT seq, hash, at, by, signature FROM chain_starts WHERE tenant_id = ?",
        )
        .bind(tenant.as_str())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(ChainStart {
            tenant: tenant.clone(),
            head: Head {
                seq: row.try_get(0)?,
                hash: sql::array(row.try_get(1)?)?,
            },
            at: row.try_get(2)?,
            by: row.try_get(3)?,
            signature: row.try_get(4)?,
        }))
    }

    /// Who let go of what of `tenant`, the newest first.
    pub(crate) async fn chain_cuts(&self, tenant: &TenantId) -> Result<Vec<LetGo>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, at, by FROM chain_cuts WHERE tenant_id = ? ORDER BY seq DESC LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(TOLD)
        .fetch_all(&self.readers)
        .await?;
        let cut = |row: &SqliteRow| -> Result<LetGo, StoreError> {
            Ok(LetGo {
                seq: row.try_get(0)?,
                at: sql::time(row.try_get(1)?)?,
                by: row.try_get(2)?,
            })
        };
        rows.iter().map(cut).collect()
    }

    /// Lets go of what is wanted, and of what an earlier time left half done; how many lines are gone.
    pub(crate) async fn forget(
        &self,
        wanted: Forgetting,
        key: &SigningKey,
    ) -> Result<u64, StoreError> {
        // What is not counted yet would be missing in the sums.
        while self.catch_up().await? > 0 {}
        if let Some(head) = self.last_to_go(&wanted).await? {
            self.holds_to(&wanted.tenant, &head, key).await?;
            let start = ChainStart::signed(key, &wanted, head);
            self.aside(move |connection| Box::pin(begin_at(connection, start)))
                .await?;
        }
        let Some(start) = self.chain_start(&wanted.tenant).await? else {
            return Ok(0);
        };
        self.remove_reviews(&wanted.tenant, start.head.seq).await?;
        let removed = self.remove_lines(&wanted.tenant, start.head.seq).await?;
        if removed > 0 {
            self.empty_the_log().await;
        }
        Ok(removed)
    }

    /// The last line that may go: everything up to it is old, and of no review that is open.
    async fn last_to_go(&self, wanted: &Forgetting) -> Result<Option<Head>, StoreError> {
        let tenant = wanted.tenant.as_str();
        let before = wanted.before.as_millisecond();
        let start = self.chain_start(&wanted.tenant).await?;
        let from = start.map_or(0, |start| start.head.seq);
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT ifnull((SELECT min(seq) FROM review_events WHERE tenant_id = ?1 AND seq > ?2 AND at >= ?3), \
             (SELECT max(seq) FROM review_events WHERE tenant_id = ?1)) - 1",
        )
        .bind(tenant)
        .bind(from)
        .bind(before)
        .fetch_one(&self.readers)
        .await?;
        let open: Option<i64> = sqlx::query_scalar(
            "SELECT min(o.seq) FROM reviews r CROSS JOIN review_events o ON o.review_id = r.review_id \
             AND o.kind = 'opened' WHERE r.tenant_id = ? AND r.status = 'reviewing'",
        )
        .bind(tenant)
        .fetch_one(&self.readers)
        .await?;
        let before_open = open.map_or(i64::MAX, |opened| opened - 1);
        match last.unwrap_or(from).min(before_open) {
            last if last > from => self.line(&wanted.tenant, last).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn line(&self, tenant: &TenantId, seq: i64) -> Result<Head, StoreError> {
        let hash = sqlx::query("SELECT hash FROM review_events WHERE tenant_id = ? AND seq = ?")
            .bind(tenant.as_str())
            .bind(seq)
            .fetch_one(&self.readers)
            .await?;
        Ok(Head {
            seq,
            hash: sql::array(hash.try_get(0)?)?,
        })
    }

    /// Everything about the reviews that ended before the start.
    async fn remove_reviews(&self, tenant: &TenantId, start: i64) -> Result<(), StoreError> {
        let mut from: Reached = (i64::MIN, 0);
        loop {
            let tenant = tenant.clone();
            let stepped =
                self.aside(move |connection| Box::pin(reviews(connection, tenant, start, from)));
            let Some(reached) = stepped.await? else {
                return Ok(());
            };
            from = reached;
        }
    }

    async fn remove_lines(&self, tenant: &TenantId, start: i64) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let tenant = tenant.clone();
            let stepped = self.aside(move |connection| Box::pin(lines(connection, tenant, start)));
            match stepped.await? {
                0 => return Ok(removed),
                some => removed += some,
            }
        }
    }
}

async fn begin_at(connection: &mut SqliteConnection, start: ChainStart) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO chain_starts (tenant_id, seq, hash, at, by, signature) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at = excluded.at, \
         by = excluded.by, signature = excluded.signature WHERE excluded.seq > chain_starts.seq",
    )
    .bind(start.tenant.as_str())
    .bind(start.head.seq)
    .bind(start.head.hash.as_slice())
    .bind(start.at)
    .bind(&start.by)
    .bind(&start.signature)
    .execute(&mut *connection)
    .await?;
    // Each for itself as well: the next one takes the place of the last.
    sqlx::query(
        "INSERT OR IGNORE INTO chain_cuts (tenant_id, seq, at, by, signature) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(start.tenant.as_str())
    .bind(start.head.seq)
    .bind(start.at)
    .bind(&start.by)
    .bind(&start.signature)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the next few reviews whose first line is one of those up to `start`; how far it looked. `None`: there are no
/// more.
async fn reviews(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    start: i64,
    (after, number): Reached,
) -> Result<Option<Reached>, StoreError> {
    let rows = sqlx::query(
        "SELECT h.created_at, h.review_no, h.review_id, r.ended_seq IS NOT NULL AND ifnull(o.seq, 0) <= ?4 \
         FROM history h INDEXED BY history_by_time JOIN reviews r ON r.review_no = h.review_no \
         LEFT JOIN review_events o ON o.review_id = h.review_id AND o.kind = 'opened' WHERE h.tenant_id = ?1 AND (h.created_at, h.review_no) > (?2, ?3) \
         AND h.created_at <= ?6 + (SELECT at FROM review_events WHERE tenant_id = ?1 AND seq <= ?4 \
         ORDER BY seq DESC LIMIT 1) ORDER BY h.created_at, h.review_no LIMIT ?5",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(number)
    .bind(start)
    .bind(STEP)
    .bind(SLACK)
    .fetch_all(&mut *connection)
    .await?;
    let Some(last) = rows.last() else {
        return Ok(None);
    };
    let reached = (last.try_get(0)?, last.try_get(1)?);
    overwrite(connection, "PRAGMA secure_delete = ON").await?;
    for row in &rows {
        if row.try_get(3)? {
            review(connection, row.try_get(1)?, row.try_get(2)?).await?;
        }
    }
    overwrite(connection, "PRAGMA secure_delete = OFF").await?;
    Ok(Some(reached))
}

async fn review(
    connection: &mut SqliteConnection,
    number: i64,
    id: &[u8],
) -> Result<(), StoreError> {
    const BY_NUMBER: [&str; 5] = [
        "DELETE FROM review_requests WHERE review_no = ?",
        "DELETE FROM review_exhibits WHERE review_no = ?",
        "DELETE FROM history_index WHERE rowid = ?",
        "DELETE FROM history WHERE review_no = ?",
        "DELETE FROM reviews WHERE review_no = ?",
    ];
    sqlx::query("DELETE FROM leaves WHERE review_id = ?")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    for sql in BY_NUMBER {
        sqlx::query(sql)
            .bind(number)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn lines(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    start: i64,
) -> Result<u64, StoreError> {
    overwrite(connection, "PRAGMA secure_delete = ON").await?;
    let removed = sqlx::query(
        "DELETE FROM review_events WHERE tenant_id = ?1 AND seq IN \
         (SELECT seq FROM review_events WHERE tenant_id = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)",
    )
    .bind(tenant.as_str())
    .bind(start)
    .bind(STEP)
    .execute(&mut *connection)
    .await?;
    overwrite(connection, "PRAGMA secure_delete = OFF").await?;
    Ok(removed.rows_affected())
}

/// Whether freed pages are overwritten with zeros (SQLite's documentation of the pragma).
async fn overwrite(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(pragma).execute(connection).await?;
    Ok(())
}
