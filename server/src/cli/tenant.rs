//! `tenant`: makes and lists those whose reviews are kept apart.

use clap::Subcommand;
use protocol::{Printable, TenantId};

use super::{CommandError, print_line};
use crate::api::is_name;
use crate::config::Config;
use crate::desk::now;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::tenants::KnownTenant;

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Makes a tenant. What it is judged by is in the settings, under `[tenants.NAME]`.
    Create {
        /// 1 to 64 lower-case letters, digits and `-`.
        name: String,
        /// What people call it.
        #[arg(long, default_value = "")]
        title: String,
    },
    /// Lists the tenants.
    List,
}

pub(super) async fn tenant(config: &Config, command: TenantCommand) -> Result<(), CommandError> {
    let store = SqliteStore::open(&config.database).await?;
    let done = match command {
        TenantCommand::Create { name, title } => create(&store, &name, title).await,
        TenantCommand::List => list(&store).await,
    };
    store.close().await;
    done
}

async fn create(store: &SqliteStore, name: &str, title: String) -> Result<(), CommandError> {
    if !is_name(&title) {
        return Err(CommandError::Name("a tenant's title"));
    }
    let id = TenantId::parse(name)?;
    let tenant = KnownTenant {
        id: id.clone(),
        title,
        created_at: now(),
    };
    if store.add_tenant(tenant).await? {
        Ok(())
    } else {
        Err(CommandError::KnownTenant(id))
    }
}

async fn list(store: &SqliteStore) -> Result<(), CommandError> {
    print_line("TENANT            CREATED               TITLE")?;
    for tenant in store.tenants().await? {
        let created = tenant.created_at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let (id, title) = (tenant.id.as_str(), Printable(&tenant.title));
        print_line(&format!("{id:<16}  {created}  {title}"))?;
    }
    Ok(())
}
