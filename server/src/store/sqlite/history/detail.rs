//! One review with all that is on record about it: the question, what was shown, and its line of time.

use jiff::Timestamp;
use protocol::{ReviewEvent, ReviewId};
use serde_json::Value;
use sqlx::{Row as _, Sqlite};

use super::super::super::{Recorded, ReviewStore as _, Sight, StoreError};
use super::super::{SqliteStore, sql};

/// Everything on record about one review.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) recorded: Recorded,
    /// What was asked; `None` where it was erased.
    pub(crate) question: Option<Value>,
    /// Transcript, evidence and the like; `None` where they were erased.
    pub(crate) context: Option<Value>,
    /// What the reviewer was shown and tried, where it was asked.
    pub(crate) exhibit: Option<Value>,
    pub(crate) events: Vec<TimelineEvent>,
}

/// One line of the chain.
#[derive(Debug)]
pub(crate) struct TimelineEvent {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) at: Timestamp,
    pub(crate) body: Value,
    pub(crate) hash: [u8; 32],
}

impl SqliteStore {
    /// Everything on record about a review that `sight` covers.
    pub(crate) async fn detail(
        &self,
        sight: &Sight,
        review_id: ReviewId,
    ) -> Result<Option<Detail>, StoreError> {
        let Some(recorded) = self.review(sight, review_id).await? else {
            return Ok(None);
        };
        let payloads = sqlx::query(
            "SELECT q.question, q.context, x.exhibit FROM reviews r \
             LEFT JOIN review_requests q ON q.review_no = r.review_no \
             LEFT JOIN review_exhibits x ON x.review_no = r.review_no \
             WHERE r.tenant_id = ? AND r.caller = ? AND r.review_id = ?",
        )
        .bind(recorded.scope.tenant.as_str())
        .bind(recorded.scope.caller.as_str())
        .bind(sql::bytes(review_id))
        .fetch_one(&self.readers)
        .await?;
        let payload = |column: usize| -> Result<Option<Value>, StoreError> {
            let text: Option<&str> = payloads.try_get(column)?;
            text.filter(|text| !text.is_empty()).map(json).transpose()
        };
        let rows = sqlx::query::<Sqlite>(
            // Without a word, SQLite would read the tenant's whole chain for the sake of the order.
            "SELECT seq, kind, at, body, hash FROM review_events INDEXED BY review_events_once \
             WHERE review_id = ? AND tenant_id = ? ORDER BY seq",
        )
        .bind(sql::bytes(review_id))
        .bind(recorded.scope.tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        let kinds = rows.iter().map(|row| row.try_get::<&str, _>(1));
        let kinds: Vec<_> = kinds.collect::<Result<_, _>>()?;
        let seen = rows.iter().zip(kinds);
        let seen = seen.filter(|(_, kind)| is_seen(sight, kind));
        let events = seen.map(|(row, _)| {
            Ok(TimelineEvent {
                seq: row.try_get(0)?,
                kind: row.try_get(1)?,
                at: sql::time(row.try_get(2)?)?,
                body: json(row.try_get(3)?)?,
                hash: sql::array(row.try_get(4)?)?,
            })
        });
        Ok(Some(Detail {
            question: payload(0)?,
            context: payload(1)?,
            exhibit: payload(2)?,
            events: events.collect::<Result<_, StoreError>>()?,
            recorded,
        }))
    }
}

/// Whether `sight` covers an event of that kind. What a policy to come would have said is not for those who ask: they
/// would know what it lets through before it is in force.
pub(crate) fn is_seen(sight: &Sight, kind: &str) -> bool {
    sight.caller().is_none() || kind != ReviewEvent::Shadowed.as_str()
}

pub(super) fn json(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("a part of a review cannot be read"))
}
