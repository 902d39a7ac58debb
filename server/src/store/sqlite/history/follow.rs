//! The record as a stream: the events after one, a page at a time.
//!
//! Apart from `find`, because the order here is that of the chain, and nothing is left out. Invariant: every event that
//! the sight covers is told once, in order; `reached` never goes past an event that was not looked at.

use protocol::{ReviewId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::super::{Sight, StoreError};
use super::super::{SqliteStore, sql};
use super::detail::{TimelineEvent, json};

/// The events of one page, at most.
const PAGE: i64 = 256;
/// The bytes of their bodies, at most; one event alone may have more.
const BYTES: i64 = 1 << 20;

/// Events in the order of the chain.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) events: Vec<(ReviewId, TimelineEvent)>,
    /// The last event that was looked at: where the next page goes on.
    pub(crate) reached: i64,
    pub(crate) more: More,
}

/// Whether there may be more already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    /// The page was full.
    Maybe,
    /// That was all.
    NotYet,
}

impl SqliteStore {
    /// What `sight` covers of the events after number `after`.
    pub(crate) async fn events_after(
        &self,
        sight: &Sight,
        after: i64,
    ) -> Result<Followed, StoreError> {
        let rows = sqlx::query(
            "SELECT e.seq, e.kind, e.at, e.body, e.hash, e.review_id, e.told, r.review_no FROM \
             (SELECT *, sum(octet_length(body)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS told FROM \
             (SELECT * FROM review_events WHERE tenant_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3)) e \
             LEFT JOIN reviews r ON ?4 IS NOT NULL AND r.tenant_id = ?1 AND r.caller = ?4 AND r.review_id = e.review_id \
             WHERE e.told - octet_length(e.body) < ?5 ORDER BY e.seq",
        )
        .bind(sight.tenant().as_str())
        .bind(after)
        .bind(PAGE)
        .bind(sight.caller().map(protocol::CallerId::as_str))
        .bind(BYTES)
        .fetch_all(&self.readers)
        .await?;
        let (reached, told) = match rows.last() {
            Some(row) => (row.try_get(0)?, row.try_get(6)?),
            None => (after, 0),
        };
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let own: Option<i64> = row.try_get(7)?;
            if sight.caller().is_none() || own.is_some() {
                events.push(event(row)?);
            }
        }
        Ok(Followed {
            events,
            reached,
            more: more(&rows, told),
        })
    }

    /// The events of one review after number `after`. Whether it may be seen is the caller's to know.
    pub(crate) async fn events_of(
        &self,
        tenant: &TenantId,
        review_id: ReviewId,
        after: i64,
    ) -> Result<Followed, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            // Without a word, SQLite would read the tenant's whole chain for the sake of the order.
            "SELECT seq, kind, at, body, hash, review_id FROM review_events INDEXED BY review_events_once \
             WHERE review_id = ",
        );
        query.push_bind(sql::bytes(review_id));
        query.push(" AND tenant_id = ").push_bind(tenant.as_str());
        query.push(" AND seq > ").push_bind(after);
        // A review has few of them, and of a size that its own bounds know.
        query.push(" ORDER BY seq LIMIT ").push_bind(PAGE);
        let rows = query.build().fetch_all(&self.readers).await?;
        let events: Vec<_> = rows.iter().map(event).collect::<Result<_, _>>()?;
        Ok(Followed {
            reached: events.last().map_or(after, |(_, event)| event.seq),
            events,
            more: more(&rows, 0),
        })
    }

    /// The number of the tenant's last event; 0 where there is none.
    pub(crate) async fn last_event(&self, tenant: &TenantId) -> Result<i64, StoreError> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(seq) FROM review_events WHERE tenant_id = ?")
                .bind(tenant.as_str())
                .fetch_one(&self.readers)
                .await?;
        Ok(last.unwrap_or(0))
    }
}

fn more(rows: &[SqliteRow], bytes: i64) -> More {
    if bytes >= BYTES || i64::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE) {
        More::Maybe
    } else {
        More::NotYet
    }
}

fn event(row: &SqliteRow) -> Result<(ReviewId, TimelineEvent), StoreError> {
    let event = TimelineEvent {
        seq: row.try_get(0)?,
        kind: row.try_get(1)?,
        at: sql::time(row.try_get(2)?)?,
        body: json(row.try_get(3)?)?,
        hash: sql::array(row.try_get(4)?)?,
    };
    Ok((sql::review_id(row.try_get(5)?)?, event))
}
