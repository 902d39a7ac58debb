//! The policies that reviews were judged by, by their revision.
//!
//! Apart from the reviews, which hold the revision alone. Invariant: a revision names its text, so what is kept under it
//! never changes; the first author stays.

use jiff::Timestamp;
use protocol::TenantId;
use sqlx::Row as _;

use super::super::StoreError;
use super::{SqliteStore, sql};

/// A policy that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownPolicy {
    pub(crate) tenant: TenantId,
    pub(crate) revision: String,
    pub(crate) text: String,
    /// What it is made of, as JSON; empty where it was kept by an older program.
    pub(crate) body: String,
    /// Who wrote it, as far as was said.
    pub(crate) author: String,
    pub(crate) since: Timestamp,
}

impl SqliteStore {
    /// Keeps a policy. `false`: it was known.
    pub(crate) async fn add_policy(&self, policy: KnownPolicy) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO policies (tenant_id, revision, text, author, since, body) VALUES (?, ?, ?, ?, ?, ?) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(policy.tenant.as_str())
                .bind(&policy.revision)
                .bind(&policy.text)
                .bind(&policy.author)
                .bind(policy.since.as_millisecond())
                .bind(&policy.body)
                .execute(&mut *connection)
                .await?;
                if added.rows_affected() == 1 {
                    return Ok(true);
                }
                sqlx::query(
                    "UPDATE policies SET body = ? WHERE tenant_id = ? AND revision = ? AND body = ''",
                )
                .bind(&policy.body)
                .bind(policy.tenant.as_str())
                .bind(&policy.revision)
                .execute(connection)
                .await?;
                Ok(false)
            })
        })
        .await
    }

    /// The policies of `tenant`, the newest first.
    pub(crate) async fn policies(&self, tenant: &TenantId) -> Result<Vec<KnownPolicy>, StoreError> {
        let rows = sqlx::query(
            "SELECT revision, text, author, since, body FROM policies WHERE tenant_id = ? ORDER BY since DESC, revision",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownPolicy {
                    tenant: tenant.clone(),
                    revision: row.try_get(0)?,
                    text: row.try_get(1)?,
                    author: row.try_get(2)?,
                    since: sql::time(row.try_get(3)?)?,
                    body: row.try_get(4)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|_| StoreError::Corrupt("a policy cannot be read"))
    }
}
