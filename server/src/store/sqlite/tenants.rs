//! Tenants as rows. Whether one is there is asked when a token is made, never on a call: a token names its tenant.

use jiff::Timestamp;
use protocol::TenantId;
use sqlx::Row as _;

use super::super::StoreError;
use super::{SqliteStore, sql};

/// A tenant that is kept.
#[derive(Debug, Clone)]
pub(crate) struct KnownTenant {
    pub(crate) id: TenantId,
    /// What people call it.
    pub(crate) title: String,
    pub(crate) created_at: Timestamp,
}

impl SqliteStore {
    /// Keeps a tenant. `false`: it was there before, and stays as it is.
    pub(crate) async fn add_tenant(&self, tenant: KnownTenant) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO tenants (tenant_id, title, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(tenant.id.as_str())
                .bind(&tenant.title)
                .bind(tenant.created_at.as_millisecond())
                .execute(connection)
                .await?;
                Ok(added.rows_affected() == 1)
            })
        })
        .await
    }

    /// Every tenant, by name.
    pub(crate) async fn tenants(&self) -> Result<Vec<KnownTenant>, StoreError> {
        let rows =
            sqlx::query("SELECT tenant_id, title, created_at FROM tenants ORDER BY tenant_id")
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownTenant {
                    id: sql::tenant(row.try_get(0)?)?,
                    title: row.try_get(1)?,
                    created_at: sql::time(row.try_get(2)?)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|_| StoreError::Corrupt("a tenant's row cannot be read"))
    }
}
