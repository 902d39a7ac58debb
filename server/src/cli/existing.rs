//! The database that the settings name, for commands that look at it or keep it.
//!
//! Apart, because such a command makes nothing: an empty record where the name is wrong would say that all is well, and a new
//! key where the old one is missing would say that the record was forged.

use std::path::PathBuf;

use protocol::TenantId;

use super::CommandError;
use crate::config::{Config, key_file};
use crate::key::SigningKey;
use crate::store::sqlite::SqliteStore;

/// The database, which is there.
///
/// # Errors
/// It is not, or cannot be opened.
pub(super) async fn store(config: &Config) -> Result<SqliteStore, CommandError> {
    match config.database.try_exists() {
        Ok(false) => Err(CommandError::NoDatabase(PathBuf::clone(&config.database))),
        // What cannot be seen is said by opening it.
        Ok(true) | Err(_) => Ok(SqliteStore::open(&config.database).await?),
    }
}

/// The same, where it knows `tenant`.
///
/// # Errors
/// As [`store`], or it knows no such tenant.
pub(super) async fn store_of(
    config: &Config,
    tenant: &TenantId,
) -> Result<SqliteStore, CommandError> {
    let store = store(config).await?;
    let known = store.tenants().await;
    match known {
        Ok(known) if known.iter().any(|it| it.id == *tenant) => Ok(store),
        known => {
            store.close().await;
            known?;
            Err(CommandError::UnknownTenant(tenant.clone()))
        }
    }
}

/// The key beside the database; made where nothing was signed yet.
///
/// # Errors
/// It is not there and something was signed, or cannot be read.
pub(super) async fn key(config: &Config, store: &SqliteStore) -> Result<SigningKey, CommandError> {
    let path = key_file(&config.database);
    if matches!(path.try_exists(), Ok(false)) {
        for tenant in store.tenants().await? {
            if !store.signed_heads(&tenant.id).await?.is_empty() {
                return Err(CommandError::NoKey(path));
            }
        }
    }
    Ok(SigningKey::load_or_make(&path)?)
}
