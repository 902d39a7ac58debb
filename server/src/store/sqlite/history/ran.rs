//! How the run of a spent approval ended, as its runner tells it: one more line of the chain.
//!
//! Apart from the rules of `batch.rs`, because nothing binding hangs on it. Invariant: told once, by the caller who
//! spent the approval, for the action that it covered; the same told again changes nothing.

use protocol::{ReviewEvent, ReviewStatus};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::super::chain::Line;
use super::super::super::{RanReport, Reported, StoreError};
use super::super::{SqliteStore, append, sql};

impl SqliteStore {
    /// Records how a run ended.
    pub(crate) async fn report(&self, ran: RanReport) -> Result<Reported, StoreError> {
        self.aside(move |connection| Box::pin(report(connection, ran)))
            .await
    }
}

async fn report(connection: &mut SqliteConnection, ran: RanReport) -> Result<Reported, StoreError> {
    let review = sqlx::query(
        "SELECT r.status, r.redeemed_at, r.action_digest, e.body FROM reviews r \
         LEFT JOIN review_events e ON e.review_id = r.review_id AND e.kind = 'ran' \
         WHERE r.tenant_id = ? AND r.caller = ? AND r.review_id = ?",
    )
    .bind(ran.scope.tenant.as_str())
    .bind(ran.scope.caller.as_str())
    .bind(sql::bytes(ran.review_id))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(review) = review else {
        return Ok(Reported::Unknown);
    };
    let status = sql::status(review.try_get(0)?)?;
    let spent: Option<i64> = review.try_get(1)?;
    let before: Option<&str> = review.try_get(3)?;
    if status != ReviewStatus::Approved || spent.is_none() {
        return Ok(Reported::NotSpent);
    }
    if review.try_get::<&str, _>(2)? != ran.action_digest.to_string() {
        return Ok(Reported::OtherAction);
    }
    match before {
        Some(before) if before == ran.body => return Ok(Reported::Recorded),
        Some(_other) => return Ok(Reported::Before),
        None => {}
    }
    ReviewStatus::after(Some(status), ReviewEvent::Ran)
        .ok_or(StoreError::Corrupt("an event that cannot follow"))?;
    let head = append::head(connection, &ran.scope.tenant).await?;
    let line = Line {
        tenant: &ran.scope.tenant,
        review_id: ran.review_id,
        event: ReviewEvent::Ran,
        at: ran.at.as_millisecond(),
        body: &ran.body,
    };
    append::append(connection, head, &line).await?;
    Ok(Reported::Recorded)
}
