//! Bearer tokens as rows: who may call over TCP. Only a token's SHA-256 is kept.
//!
//! Apart from the reviews: a token is looked up on every call and changed on the command line.

use jiff::Timestamp;
use protocol::TenantId;
use sqlx::Row as _;

use super::super::StoreError;
use super::command::Command;
use super::{SqliteStore, sql};

/// Names a token without giving it away: 32 hex digits of its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(String);

impl TokenId {
    pub(crate) fn new(digits: impl Into<String>) -> Self {
        Self(digits.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token about to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) id: TokenId,
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
}

/// A token that is kept.
#[derive(Debug, Clone)]
pub(crate) struct KnownToken {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl SqliteStore {
    /// Keeps a token.
    pub(crate) async fn add_token(&self, token: NewToken) -> Result<(), StoreError> {
        self.change(|reply| Command::AddToken(Box::new(token), reply))
            .await
    }

    /// Ends a token's life. A token that is not there, or revoked already, stays as it is.
    pub(crate) async fn revoke_token(&self, id: TokenId, at: Timestamp) -> Result<(), StoreError> {
        self.change(|reply| Command::RevokeToken(id, at.as_millisecond(), reply))
            .await
    }

    /// Every token of `tenant`, revoked ones included, oldest first.
    pub(crate) async fn tokens(&self, tenant: &TenantId) -> Result<Vec<KnownToken>, StoreError> {
        let rows = sqlx::query(
            "SELECT token_id, name, hash, created_at, revoked_at FROM tokens WHERE tenant_id = ? \
             ORDER BY created_at, token_id",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownToken {
                    id: TokenId(row.try_get(0)?),
                    name: row.try_get(1)?,
                    hash: sql::array(row.try_get(2)?)?,
                    created_at: sql::time(row.try_get(3)?)?,
                    revoked_at: sql::optional_time(row.try_get(4)?)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|_| StoreError::Corrupt("a token's row cannot be read"))
    }
}
