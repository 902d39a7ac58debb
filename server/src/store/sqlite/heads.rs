//! Signed heads: where each chain stood, so that a cut or rewritten record shows.
//!
//! Apart from the chain, which anybody can compute anew. Invariant: a head is read and kept in one transaction, so that
//! what is signed was durable.

use jiff::Timestamp;
use protocol::{Canonical, Sha256Hex, TenantId};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use super::{SqliteStore, sql};
use crate::key::SigningKey;

/// Where a tenant's chain stood, and the server's word for it. As JSON it is what people keep elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedHead {
    pub(crate) tenant: TenantId,
    /// The number of the last line.
    pub(crate) seq: i64,
    /// Its hash, in hex.
    pub(crate) hash: Sha256Hex,
    pub(crate) at: Timestamp,
    pub(crate) signature: String,
}

impl SignedHead {
    fn sign(key: &SigningKey, tenant: &TenantId, (seq, hash): (i64, [u8; 32]), at: i64) -> String {
        let mut bytes = Canonical::new("auto-review signed head v1");
        bytes.text(tenant.as_str()).bytes(&seq.to_be_bytes());
        bytes.bytes(&hash).bytes(&at.to_be_bytes());
        key.sign_canonical(&bytes)
    }

    /// Whether `key` signed it. Ed25519 signs the same bytes alike (RFC 8032), so signing again says so.
    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        let Some(hash) = unhex(self.hash.as_str()) else {
            return false;
        };
        let wanted = Self::sign(
            key,
            &self.tenant,
            (self.seq, hash),
            self.at.as_millisecond(),
        );
        wanted == self.signature
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    (text.len() == 64).then_some(bytes)
}

impl SqliteStore {
    /// Signs where every chain stands now, and keeps it; those that have grown since the last time.
    pub(crate) async fn sign_heads(
        &self,
        key: &SigningKey,
        at: Timestamp,
    ) -> Result<Vec<SignedHead>, StoreError> {
        let key = key.clone();
        self.aside(move |connection| Box::pin(sign_heads(connection, key, at)))
            .await
    }

    /// The newest time of the last lines of all chains.
    pub(crate) async fn newest_line(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar(NEWEST).fetch_one(&self.readers).await?;
        Ok(sql::optional_time(newest)?)
    }

    /// Every head of `tenant` that was kept, oldest first.
    pub(crate) async fn signed_heads(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<SignedHead>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, hash, at, signature FROM signed_heads WHERE tenant_id = ? ORDER BY seq",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let hash: [u8; 32] = sql::array(row.try_get(1)?)?;
                Ok(SignedHead {
                    tenant: tenant.clone(),
                    seq: row.try_get(0)?,
                    hash: Sha256Hex::of(&hash),
                    at: sql::time(row.try_get(2)?)?,
                    signature: row.try_get(3)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|_| StoreError::Corrupt("a signed head cannot be read"))
    }
}

const NEWEST: &str = "SELECT max(e.at) FROM tenants t CROSS JOIN review_events e \
    ON e.tenant_id = t.tenant_id AND e.seq = (SELECT max(l.seq) FROM review_events l WHERE l.tenant_id = t.tenant_id)";

/// The last line of each tenant that has lines after its last signed head.
const GROWN: &str = "SELECT t.tenant_id, e.seq, e.hash FROM tenants t CROSS JOIN review_events e \
    ON e.tenant_id = t.tenant_id AND e.seq = (SELECT max(l.seq) FROM review_events l WHERE l.tenant_id = t.tenant_id) \
    WHERE NOT EXISTS (SELECT 1 FROM signed_heads h WHERE h.tenant_id = t.tenant_id AND h.seq >= e.seq)";

async fn sign_heads(
    connection: &mut SqliteConnection,
    key: SigningKey,
    at: Timestamp,
) -> Result<Vec<SignedHead>, StoreError> {
    let rows = sqlx::query(GROWN).fetch_all(&mut *connection).await?;
    let mut signed = Vec::with_capacity(rows.len());
    for row in &rows {
        let tenant = sql::tenant(row.try_get(0)?)?;
        let (seq, hash): (i64, [u8; 32]) = (row.try_get(1)?, sql::array(row.try_get(2)?)?);
        let signature = SignedHead::sign(&key, &tenant, (seq, hash), at.as_millisecond());
        sqlx::query(
            "INSERT INTO signed_heads (tenant_id, seq, hash, at, signature) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(seq)
        .bind(hash.as_slice())
        .bind(at.as_millisecond())
        .bind(&signature)
        .execute(&mut *connection)
        .await?;
        signed.push(SignedHead {
            tenant,
            seq,
            hash: Sha256Hex::of(&hash),
            at,
            signature,
        });
    }
    Ok(signed)
}
