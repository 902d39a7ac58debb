//! Webhooks and what they are still to be told, as rows.
//!
//! Apart from the reviews: rows here follow from the chain, a step at a time, and nothing binding hangs on them.
//! Invariants: a delivery is made in the transaction that moves `reached` past its event, so that it is made once; it is
//! claimed before it is tried, so that two servers do not try it at the same time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{ReviewId, TenantId, WebhookEvent};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::StoreError;
use super::{SqliteStore, sql};
use crate::webhook::turns::OF_WEBHOOK;

/// The events that one step looks at, for each webhook.
const STEP: i64 = 512;
/// The most deliveries that wait for one webhook; what comes on top is dead at once.
const MOST_PENDING: i64 = 10_000;
/// The most deliveries that are kept for one webhook after they were given up.
const MOST_DEAD: i64 = 10_000;
/// The most webhooks of one tenant.
const MOST_WEBHOOKS: i64 = 20;
/// How many deliveries are told at once.
const PAGE: i64 = 200;

/// A webhook.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) url: String,
    pub(crate) events: Vec<WebhookEvent>,
    pub(crate) created_at: Timestamp,
}

/// A webhook with what it waits for.
#[derive(Debug, Clone)]
pub(crate) struct ListedWebhook {
    pub(crate) webhook: Webhook,
    pub(crate) pending: i64,
    pub(crate) dead: i64,
}

/// Something that is to be told.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) id: i64,
    pub(crate) webhook_id: String,
    pub(crate) tenant: TenantId,
    pub(crate) url: String,
    pub(crate) review_id: ReviewId,
    pub(crate) seq: i64,
    pub(crate) event: WebhookEvent,
    pub(crate) created_at: Timestamp,
    pub(crate) status: String,
    /// How often it was tried, this time included where it is claimed.
    pub(crate) attempts: u32,
    pub(crate) next_at: Timestamp,
    pub(crate) last_error: Option<String>,
}

/// A webhook that has something to be told now.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) webhook_id: String,
    pub(crate) tenant: TenantId,
    /// How many deliveries are due, counted up to what one webhook may have under way.
    pub(crate) deliveries: usize,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Tried {
    Delivered,
    /// It is tried again then, for this reason.
    Again(Timestamp, String),
    /// It is given up, for this reason.
    Dead(String),
}

/// What became of a new webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    /// The tenant has as many as it may have.
    TooMany,
}

const DELIVERY: &str = "SELECT d.delivery_id, d.webhook_id, d.tenant_id, w.url, d.review_id, d.seq, d.event, d.created_at, d.status, \
                        d.attempts, d.next_at, d.last_error FROM webhook_deliveries d JOIN webhooks w USING (webhook_id) ";

impl SqliteStore {
    /// Keeps a webhook. It is told what happens from now on.
    pub(crate) async fn add_webhook(&self, webhook: Webhook) -> Result<Kept, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let events: Vec<_> = webhook.events.iter().map(|it| it.as_str()).collect();
                let done = sqlx::query(
                    "INSERT INTO webhooks (webhook_id, tenant_id, url, events, created_at, reached) \
                     SELECT ?1, ?2, ?3, ?4, ?5, (SELECT ifnull(max(seq), 0) FROM review_events WHERE tenant_id = ?2) \
                     WHERE (SELECT count(*) FROM webhooks WHERE tenant_id = ?2 AND removed_at IS NULL) < ?6",
                )
                .bind(webhook.id)
                .bind(webhook.tenant.as_str())
                .bind(webhook.url)
                .bind(events.join(" "))
                .bind(webhook.created_at.as_millisecond())
                .bind(MOST_WEBHOOKS)
                .execute(connection)
                .await?;
                Ok(if done.rows_affected() == 1 {
                    Kept::Yes
                } else {
                    Kept::TooMany
                })
            })
        })
        .await
    }

    /// Takes a webhook away, and what it was still to be told. `false`: the tenant has none of that name.
    pub(crate) async fn remove_webhook(
        &self,
        tenant: TenantId,
        id: String,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE webhooks SET removed_at = ? WHERE webhook_id = ? AND tenant_id = ? AND removed_at IS NULL",
                )
                .bind(at.as_millisecond())
                .bind(&id)
                .bind(tenant.as_str())
                .execute(&mut *connection)
                .await?;
                if done.rows_affected() == 1 {
                    sqlx::query("DELETE FROM webhook_deliveries WHERE webhook_id = ?")
                        .bind(&id)
                        .execute(connection)
                        .await?;
                }
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// The webhooks of `tenant`, oldest first.
    pub(crate) async fn webhooks(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<ListedWebhook>, StoreError> {
        let rows = sqlx::query(
            "SELECT webhook_id, tenant_id, url, events, created_at, \
             (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.status = 'pending'), \
             (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.status = 'dead') \
             FROM webhooks w WHERE tenant_id = ? AND removed_at IS NULL ORDER BY created_at, webhook_id",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        let listed = rows.iter().map(|row| {
            Ok(ListedWebhook {
                webhook: webhook(row)?,
                pending: row.try_get(5)?,
                dead: row.try_get(6)?,
            })
        });
        listed.collect()
    }

    /// What the webhook `id` of `tenant` was not told yet; `None`: there is none of that name.
    pub(crate) async fn undelivered(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Vec<Delivery>>, StoreError> {
        let known: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM webhooks WHERE webhook_id = ? AND tenant_id = ? AND removed_at IS NULL",
        )
        .bind(id)
        .bind(tenant.as_str())
        .fetch_optional(&self.readers)
        .await?;
        if known.is_none() {
            return Ok(None);
        }
        let text = format!(
            "{DELIVERY} WHERE d.webhook_id = ? AND d.tenant_id = ? \
             ORDER BY d.delivery_id DESC LIMIT ?"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(id)
            .bind(tenant.as_str())
            .bind(PAGE)
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(delivery)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Has a delivery that was given up tried again. `false`: the webhook has none of that number that is dead.
    pub(crate) async fn revive(
        &self,
        tenant: TenantId,
        (id, number): (String, i64),
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE webhook_deliveries SET status = 'pending', attempts = 0, next_at = ? \
                     WHERE delivery_id = ? AND webhook_id = ? AND tenant_id = ? AND status = 'dead'",
                )
                .bind(at.as_millisecond())
                .bind(number)
                .bind(id)
                .bind(tenant.as_str())
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Makes deliveries of what is on record since; whether there was anything to look at.
    pub(crate) async fn queue_deliveries(&self, now: Timestamp) -> Result<bool, StoreError> {
        let behind: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM webhooks w WHERE removed_at IS NULL \
             AND EXISTS (SELECT 1 FROM review_events e WHERE e.tenant_id = w.tenant_id AND e.seq > w.reached) LIMIT 1",
        )
        .fetch_optional(&self.readers)
        .await?;
        if behind.is_none() {
            return Ok(false);
        }
        self.aside(move |connection| Box::pin(queue(connection, now.as_millisecond())))
            .await?;
        Ok(true)
    }

    /// The webhooks that have something to be told at `now`.
    pub(crate) async fn due_webhooks(&self, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        let any: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM webhook_deliveries WHERE status = 'pending' AND next_at <= ? LIMIT 1",
        )
        .bind(now.as_millisecond())
        .fetch_optional(&self.readers)
        .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        // Webhook by webhook: what is due first in all may be one tenant's alone.
        let rows = sqlx::query(
            "SELECT webhook_id, tenant_id, (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries d \
             WHERE d.webhook_id = w.webhook_id AND d.status = 'pending' AND d.next_at <= ?1 LIMIT ?2)) AS due \
             FROM webhooks w WHERE removed_at IS NULL AND due > 0 ORDER BY tenant_id, webhook_id",
        )
        .bind(now.as_millisecond())
        .bind(i64::try_from(OF_WEBHOOK).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(due).collect()
    }

    /// Takes deliveries that are due, as many of each webhook as `chosen` says, until `until` for this server alone.
    pub(crate) async fn claim_deliveries(
        &self,
        (now, until): (Timestamp, Timestamp),
        chosen: BTreeMap<String, usize>,
    ) -> Result<Vec<Delivery>, StoreError> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        self.aside(move |connection| Box::pin(claim(connection, (now, until), chosen)))
            .await
    }

    /// Writes down what came of an attempt.
    pub(crate) async fn settle_delivery(&self, id: i64, tried: Tried) -> Result<(), StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let (status, next_at, error) = match tried {
                    Tried::Delivered => {
                        sqlx::query("DELETE FROM webhook_deliveries WHERE delivery_id = ?")
                            .bind(id)
                            .execute(connection)
                            .await?;
                        return Ok(());
                    }
                    Tried::Again(at, error) => ("pending", Some(at.as_millisecond()), error),
                    Tried::Dead(error) => ("dead", None, error),
                };
                sqlx::query(
                    "UPDATE webhook_deliveries SET status = ?, next_at = ifnull(?, next_at), last_error = ? \
                     WHERE delivery_id = ?",
                )
                .bind(status)
                .bind(next_at)
                .bind(error)
                .bind(id)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Forgets what was given up before `before`, and of the rest what is more than a webhook may keep.
    pub(crate) async fn forget_deliveries(&self, before: Timestamp) -> Result<(), StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let ids: Vec<String> =
                    sqlx::query_scalar("SELECT DISTINCT webhook_id FROM webhook_deliveries")
                        .fetch_all(&mut *connection)
                        .await?;
                for id in ids {
                    sqlx::query(
                        "DELETE FROM webhook_deliveries WHERE webhook_id = ?1 AND status = 'dead' AND (created_at < ?2 \
                         OR delivery_id <= (SELECT delivery_id FROM webhook_deliveries WHERE webhook_id = ?1 \
                         AND status = 'dead' ORDER BY delivery_id DESC LIMIT 1 OFFSET ?3))",
                    )
                    .bind(id)
                    .bind(before.as_millisecond())
                    .bind(MOST_DEAD)
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }
}

async fn claim(
    connection: &mut SqliteConnection,
    (now, until): (Timestamp, Timestamp),
    chosen: BTreeMap<String, usize>,
) -> Result<Vec<Delivery>, StoreError> {
    let text = format!(
        "{DELIVERY} WHERE d.webhook_id = ? AND d.status = 'pending' AND d.next_at <= ? \
         ORDER BY d.next_at, d.delivery_id LIMIT ?"
    );
    let mut claimed = Vec::new();
    for (webhook, most) in chosen {
        let rows = sqlx::query(sqlx::AssertSqlSafe(text.clone()))
            .bind(webhook)
            .bind(now.as_millisecond())
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            let mut delivery = delivery(row)?;
            sqlx::query(
                "UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = ? WHERE delivery_id = ?",
            )
            .bind(until.as_millisecond())
            .bind(delivery.id)
            .execute(&mut *connection)
            .await?;
            delivery.attempts += 1;
            claimed.push(delivery);
        }
    }
    Ok(claimed)
}

async fn queue(connection: &mut SqliteConnection, now: i64) -> Result<(), StoreError> {
    let webhooks: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT webhook_id, tenant_id, reached FROM webhooks WHERE removed_at IS NULL",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (id, tenant, reached) in webhooks {
        let to: Option<i64> = sqlx::query_scalar(
            "SELECT max(seq) FROM (SELECT seq FROM review_events WHERE tenant_id = ? AND seq > ? ORDER BY seq LIMIT ?)",
        )
        .bind(&tenant)
        .bind(reached)
        .bind(STEP)
        .fetch_one(&mut *connection)
        .await?;
        let Some(to) = to else { continue };
        // Whether it waits for a person stands in what was asked; where that is erased, nobody waits any more.
        sqlx::query(
            "INSERT OR IGNORE INTO webhook_deliveries \
             (webhook_id, tenant_id, review_id, seq, event, created_at, next_at, status, last_error) \
             SELECT w.webhook_id, e.tenant_id, e.review_id, e.seq, e.name, e.at, ?4, \
             iif(w.full, 'dead', 'pending'), iif(w.full, 'too many deliveries wait', NULL) \
             FROM (SELECT *, iif(kind = 'opened', 'waiting', kind) AS name FROM review_events \
                   WHERE tenant_id = ?1 AND seq > ?2 AND seq <= ?3) e \
             JOIN (SELECT *, (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = ?5 \
                   AND d.status = 'pending') >= ?6 AS full FROM webhooks WHERE webhook_id = ?5) w \
             WHERE instr(' ' || w.events || ' ', ' ' || e.name || ' ') > 0 AND (e.kind <> 'opened' OR EXISTS ( \
                 SELECT 1 FROM reviews r JOIN review_requests q ON q.review_no = r.review_no \
                 WHERE r.tenant_id = e.tenant_id AND r.caller = (e.body ->> '$.caller') \
                 AND r.review_id = e.review_id AND json_valid(q.context) AND q.context ->> '$.must_be_human' = 1))",
        )
        .bind(&tenant)
        .bind(reached)
        .bind(to)
        .bind(now)
        .bind(&id)
        .bind(MOST_PENDING)
        .execute(&mut *connection)
        .await?;
        sqlx::query("UPDATE webhooks SET reached = ? WHERE webhook_id = ?")
            .bind(to)
            .bind(&id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn unreadable(_: sqlx::Error) -> StoreError {
    StoreError::Corrupt("a webhook's row cannot be read")
}

fn webhook(row: &SqliteRow) -> Result<Webhook, StoreError> {
    let read = || -> Result<_, sqlx::Error> {
        let events = row.try_get::<&str, _>(3)?.split(' ');
        Ok(Webhook {
            id: row.try_get(0)?,
            tenant: sql::tenant(row.try_get(1)?)?,
            url: row.try_get(2)?,
            events: events.filter_map(WebhookEvent::parse).collect(),
            created_at: sql::time(row.try_get(4)?)?,
        })
    };
    read().map_err(unreadable)
}

fn due(row: &SqliteRow) -> Result<Due, StoreError> {
    let read = || -> Result<_, sqlx::Error> {
        Ok(Due {
            webhook_id: row.try_get(0)?,
            tenant: sql::tenant(row.try_get(1)?)?,
            deliveries: usize::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
        })
    };
    read().map_err(unreadable)
}

fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    let event = row.try_get::<&str, _>(6).map_err(unreadable)?;
    let event = WebhookEvent::parse(event)
        .ok_or(StoreError::Corrupt("a delivery tells what cannot be told"))?;
    let read = || -> Result<_, sqlx::Error> {
        Ok(Delivery {
            id: row.try_get(0)?,
            webhook_id: row.try_get(1)?,
            tenant: sql::tenant(row.try_get(2)?)?,
            url: row.try_get(3)?,
            review_id: sql::review_id(row.try_get(4)?)?,
            seq: row.try_get(5)?,
            event,
            created_at: sql::time(row.try_get(7)?)?,
            status: row.try_get(8)?,
            attempts: row.try_get(9)?,
            next_at: sql::time(row.try_get(10)?)?,
            last_error: row.try_get(11)?,
        })
    };
    read().map_err(unreadable)
}
