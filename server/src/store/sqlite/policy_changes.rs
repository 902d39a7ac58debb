//! What was done with policies, as rows: one number after the other for each tenant.
//!
//! Apart from the policies' texts, which never change what judges. Invariant: a number is given once; whether a row is to
//! be believed is [`crate::policy_life::Life::of`]'s to say.

use std::collections::BTreeMap;

use protocol::TenantId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::StoreError;
use super::{SqliteStore, sql};
use crate::policy_life::{Change, Named, Share, What};

/// Whether a change is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    Yes,
    /// Somebody else made one in between.
    Overtaken,
}

impl SqliteStore {
    /// Puts a change on record, if nobody else has made one under its number.
    pub(crate) async fn note_change(&self, change: Change) -> Result<Noted, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let (percent, from) = match change.share {
                    Some(Share::Percent(percent)) => (Some(i64::from(percent)), None),
                    Some(Share::From(time)) => (None, Some(time.as_millisecond())),
                    None => (None, None),
                };
                let noted = sqlx::query(
                    "INSERT INTO policy_changes (tenant_id, number, at, author, reason, what, revision, body_digest, \
                     percent, starts_at, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(change.tenant.as_str())
                .bind(change.number)
                .bind(change.at.as_millisecond())
                .bind(&change.author)
                .bind(&change.reason)
                .bind(change.what.as_str())
                .bind(change.policy.as_ref().map(|it| &it.revision))
                .bind(change.policy.as_ref().map(|it| &it.body_digest))
                .bind(percent)
                .bind(from)
                .bind(&change.signature)
                .execute(connection)
                .await?;
                Ok(if noted.rows_affected() == 1 {
                    Noted::Yes
                } else {
                    Noted::Overtaken
                })
            })
        })
        .await
    }

    /// The changes of `tenant`, oldest first.
    pub(crate) async fn policy_changes(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<Change>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, at, author, reason, what, revision, body_digest, percent, starts_at, signature \
             FROM policy_changes WHERE tenant_id = ? ORDER BY number",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| change(row, tenant)).collect()
    }

    /// The number of the last change of each tenant that has one.
    pub(crate) async fn last_policy_changes(&self) -> Result<BTreeMap<String, i64>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT tenant_id, max(number) FROM policy_changes GROUP BY tenant_id")
                .fetch_all(&self.readers)
                .await?;
        Ok(rows.into_iter().collect())
    }
}

fn change(row: &SqliteRow, tenant: &TenantId) -> Result<Change, StoreError> {
    let what = row.try_get(4).map(What::parse).map_err(unreadable)?;
    let what = what.ok_or(StoreError::Corrupt("a change of the policies is unknown"))?;
    let read = || -> Result<_, sqlx::Error> {
        let (revision, body_digest): (Option<String>, Option<String>) =
            (row.try_get(5)?, row.try_get(6)?);
        let named = revision.zip(body_digest);
        Ok(Change {
            tenant: tenant.clone(),
            number: row.try_get(0)?,
            at: sql::time(row.try_get(1)?)?,
            author: row.try_get(2)?,
            reason: row.try_get(3)?,
            what,
            policy: named.map(|(revision, body_digest)| Named {
                revision,
                body_digest,
            }),
            share: share(row)?,
            signature: row.try_get(9)?,
        })
    };
    read().map_err(unreadable)
}

fn share(row: &SqliteRow) -> Result<Option<Share>, sqlx::Error> {
    let (percent, from): (Option<u8>, Option<i64>) = (row.try_get(7)?, row.try_get(8)?);
    Ok(match (percent, from) {
        (Some(percent), _) => Some(Share::Percent(percent)),
        (None, Some(from)) => Some(Share::From(sql::time(from)?)),
        (None, None) => None,
    })
}

fn unreadable(_: sqlx::Error) -> StoreError {
    StoreError::Corrupt("a change of the policies cannot be read")
}
