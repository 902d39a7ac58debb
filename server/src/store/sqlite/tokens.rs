//! Bearer tokens as rows: who may call over TCP, as what, until when. Only a token's SHA-256 is kept.
//!
//! Apart from the reviews: tokens are looked up together once a second and changed on the command line or by an admin.

use std::collections::HashMap;

use jiff::Timestamp;
use protocol::{CallerId, TenantId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::StoreError;
use super::{SqliteStore, sql};
use crate::role::Roles;

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

/// What a token lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    pub(crate) tenant: TenantId,
    pub(crate) roles: Roles,
    /// The human behind it, where that is known.
    pub(crate) person: Option<String>,
    /// From when on it is refused; `None`: only when it is revoked.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A token about to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) grants: Grants,
    /// The token that this one follows, and until when that one still counts.
    pub(crate) replaces: Option<(TokenId, Timestamp)>,
}

/// A token that is kept.
#[derive(Debug, Clone)]
pub(crate) struct KnownToken {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) grants: Grants,
    pub(crate) revoked_at: Option<Timestamp>,
    /// The token that it was made to follow.
    pub(crate) replaces: Option<String>,
    /// Whose hands it is in, as far as can be known: the human's name, else the first token of its line.
    pub(crate) behind: String,
}

impl KnownToken {
    /// Whether its holder may call at `now`.
    pub(crate) fn counts_at(&self, now: Timestamp) -> bool {
        let expired = self.grants.expires_at.is_some_and(|expires| now >= expires);
        self.revoked_at.is_none() && !expired
    }
}

/// What became of a [`NewToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is kept.
    Kept,
    /// There is no such tenant.
    NoTenant,
    /// The token that it should follow is not there, or does not count any more.
    NothingToReplace,
}

impl SqliteStore {
    /// Keeps a token, and ends the life of the one that it follows: both or neither.
    pub(crate) async fn add_token(&self, token: NewToken) -> Result<Added, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let grants = &token.grants;
                let tenant: Option<i64> =
                    sqlx::query_scalar("SELECT 1 FROM tenants WHERE tenant_id = ?")
                        .bind(grants.tenant.as_str())
                        .fetch_optional(&mut *connection)
                        .await?;
                if tenant.is_none() {
                    return Ok(Added::NoTenant);
                }
                if let Some((before, until)) = &token.replaces {
                    let until = until.as_millisecond();
                    let shortened = sqlx::query(
                        "UPDATE tokens SET expires_at = min(ifnull(expires_at, ?1), ?1) WHERE token_id = ?2 \
                         AND tenant_id = ?3 AND revoked_at IS NULL AND ifnull(expires_at, ?4 + 1) > ?4",
                    )
                    .bind(until)
                    .bind(before.as_str())
                    .bind(grants.tenant.as_str())
                    .bind(token.created_at.as_millisecond())
                    .execute(&mut *connection)
                    .await?;
                    if shortened.rows_affected() != 1 {
                        return Ok(Added::NothingToReplace);
                    }
                }
                sqlx::query(
                    "INSERT INTO tokens (token_id, tenant_id, name, hash, created_at, roles, person, expires_at, replaces) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(token.id.as_str())
                .bind(grants.tenant.as_str())
                .bind(&token.name)
                .bind(token.hash.as_slice())
                .bind(token.created_at.as_millisecond())
                .bind(grants.roles.to_string())
                .bind(&grants.person)
                .bind(grants.expires_at.map(Timestamp::as_millisecond))
                .bind(token.replaces.as_ref().map(|(id, _)| id.as_str()))
                .execute(connection)
                .await?;
                Ok(Added::Kept)
            })
        })
        .await
    }

    /// Ends a token's life. `false`: `tenant` has no such token that still lives.
    pub(crate) async fn revoke_token(
        &self,
        tenant: TenantId,
        id: TokenId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.aside(move |connection| {
            Box::pin(async move {
                let revoked = sqlx::query(
                    "UPDATE tokens SET revoked_at = ? WHERE revoked_at IS NULL AND token_id = ? AND tenant_id = ?",
                )
                .bind(at.as_millisecond())
                .bind(id.as_str())
                .bind(tenant.as_str())
                .execute(connection)
                .await?;
                Ok(revoked.rows_affected() == 1)
            })
        })
        .await
    }

    /// Who is behind a token's calls: see [`KnownToken::behind`]. Nobody is known for a token that is not there.
    pub(crate) async fn person_of(&self, caller: &CallerId) -> Result<Option<String>, StoreError> {
        let tokens = self.tokens().await?;
        Ok(tokens
            .into_iter()
            .find(|token| CallerId::of_token_hash(&token.hash) == *caller)
            .map(|token| token.behind))
    }

    /// Every token of every tenant, revoked ones included, oldest first.
    pub(crate) async fn tokens(&self) -> Result<Vec<KnownToken>, StoreError> {
        let rows = sqlx::query(
            "SELECT token_id, name, hash, created_at, revoked_at, tenant_id, roles, person, expires_at, replaces FROM tokens \
             ORDER BY created_at, token_id",
        )
        .fetch_all(&self.short_readers)
        .await?;
        let mut tokens = rows
            .iter()
            .map(known)
            .collect::<Result<Vec<_>, sqlx::Error>>()
            .map_err(|_| StoreError::Corrupt("a token's row cannot be read"))?;
        say_who_is_behind(&mut tokens);
        Ok(tokens)
    }
}

/// A token that follows another has the same hands, whether or not anybody said whose they are.
fn say_who_is_behind(tokens: &mut [KnownToken]) {
    let first_in_line: HashMap<String, (Option<String>, String)> = tokens
        .iter()
        .map(|token| {
            let line = (token.replaces.clone(), token.behind.clone());
            (token.id.as_str().to_owned(), line)
        })
        .collect();
    for token in tokens
        .iter_mut()
        .filter(|token| token.grants.person.is_none())
    {
        let mut before = token.replaces.as_ref();
        // A line is no longer than there are tokens.
        for _ in 0..first_in_line.len() {
            let Some((further, behind)) = before.and_then(|id| first_in_line.get(id)) else {
                break;
            };
            token.behind.clone_from(behind);
            before = further.as_ref();
        }
    }
}

fn known(row: &SqliteRow) -> Result<KnownToken, sqlx::Error> {
    let (hash, person) = (
        sql::array(row.try_get(2)?)?,
        row.try_get::<Option<String>, _>(7)?,
    );
    let roles = Roles::parse(row.try_get::<&str, _>(6)?.split(' '))
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(KnownToken {
        id: TokenId(row.try_get(0)?),
        name: row.try_get(1)?,
        behind: person
            .clone()
            .unwrap_or_else(|| CallerId::of_token_hash(&hash).as_str().to_owned()),
        hash,
        created_at: sql::time(row.try_get(3)?)?,
        grants: Grants {
            tenant: sql::tenant(row.try_get(5)?)?,
            roles,
            person,
            expires_at: sql::optional_time(row.try_get(8)?)?,
        },
        revoked_at: sql::optional_time(row.try_get(4)?)?,
        replaces: row.try_get(9)?,
    })
}
