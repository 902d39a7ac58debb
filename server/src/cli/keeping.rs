//! `verify`, `head`, `erase`, `backup`: whether the record holds, and what is kept of it how long.
//!
//! Apart from looking things up. Invariants: a copy is verified before it is told of; a signed head that does not fit
//! this server's key counts as broken, never as absent.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use protocol::{Printable, TenantId, VerifyAnswer};

use super::audit::{Shown, print_json, time};
use super::{CommandError, existing, print_line};
use crate::config::{Config, key_file};
use crate::desk::now;
use crate::history::verified;
use crate::key::SigningKey;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::erase::Erasure;
use crate::store::sqlite::forget::Forgetting;
use crate::store::sqlite::heads::SignedHead;

/// What is done for the record.
#[derive(Debug, Subcommand)]
pub(super) enum KeepingCommand {
    /// Holds the record against itself and its signed heads: every hash, every end, every payload that is still there.
    Verify {
        /// As JSON, a line for each tenant.
        #[arg(long)]
        json: bool,
        /// Signed heads that were kept elsewhere, as `head` prints them: they must still be in the record.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Signs where every tenant's chain stands, and prints the last signed head of each: a JSON object a line, to be kept
    /// elsewhere.
    Head,
    /// Erases transcripts, evidence and what reviewers were shown. What was decided, about what and why, stays.
    Erase {
        /// Of reviews that were opened before this time, for example `2026-01-31T00:00:00Z`.
        #[arg(long, value_name = "TIME", value_parser = time)]
        before: Timestamp,
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Who wants it so: it is kept on record.
        #[arg(long, value_name = "NAME")]
        by: String,
    },
    /// Lets whole reviews go, from the first one on: what was decided, too. `verify` begins after them from then on.
    Forget {
        /// What was recorded before this time, for example `2026-01-31T00:00:00Z`.
        #[arg(long, value_name = "TIME", value_parser = time)]
        before: Timestamp,
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Who wants it so: it is kept on record.
        #[arg(long, value_name = "NAME")]
        by: String,
    },
    /// Copies the database to a new file while it is used, and verifies the copy.
    Backup {
        /// The file; it must not exist, and its folder must be private.
        file: PathBuf,
    },
}

pub(super) async fn keeping(config: &Config, command: KeepingCommand) -> Result<(), CommandError> {
    match command {
        KeepingCommand::Verify { json, against } => {
            verify(config, Shown::of(json), against.as_deref()).await
        }
        KeepingCommand::Head => head(config).await,
        KeepingCommand::Erase { before, tenant, by } => erase(config, &tenant, before, by).await,
        KeepingCommand::Forget { before, tenant, by } => forget(config, &tenant, before, by).await,
        KeepingCommand::Backup { file } => backup(config, file).await,
    }
}

/// The largest file of signed heads that is read, in bytes.
const MAX_HEADS: u64 = 64 << 20;
/// The longest name of who erases, in characters.
const MAX_NAME: usize = 64;

async fn verify(config: &Config, shown: Shown, against: Option<&Path>) -> Result<(), CommandError> {
    let heads = match against {
        Some(path) => read_heads(path)?,
        None => Vec::new(),
    };
    let store = existing::store(config).await?;
    let key = existing::key(config, &store).await?;
    let lines = verify_each(&store, shown, (&key, &heads)).await;
    store.close().await;
    let lines = lines?;
    if shown == Shown::Table {
        print_line(&format!("the record holds: {lines} lines"))?;
    }
    Ok(())
}

fn read_heads(path: &Path) -> Result<Vec<SignedHead>, CommandError> {
    let wrong = |line, problem: String| CommandError::Heads {
        path: path.to_owned(),
        line,
        problem,
    };
    let unread = |problem: std::io::Error| wrong(None, problem.to_string());
    let size = std::fs::metadata(path).map_err(unread)?;
    if size.len() > MAX_HEADS {
        return Err(wrong(None, "it is larger than 64 MiB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| wrong(Some(index + 1), error.to_string()))
        })
        .collect()
}

/// Verifies every tenant's record, its signed heads and those that were kept elsewhere; how many lines hold in all.
async fn verify_all(
    database: &Path,
    shown: Shown,
    signed: (&SigningKey, &[SignedHead]),
) -> Result<i64, CommandError> {
    let store = SqliteStore::open(database).await?;
    let verified = verify_each(&store, shown, signed).await;
    store.close().await;
    verified
}

async fn verify_each(
    store: &SqliteStore,
    shown: Shown,
    signed: (&SigningKey, &[SignedHead]),
) -> Result<i64, CommandError> {
    let tenants = store.tenants().await?;
    let (key, elsewhere) = signed;
    check_known(elsewhere, &tenants)?;
    let mut lines = 0;
    for tenant in tenants {
        let found = store.verify(&tenant.id, key, elsewhere).await?;
        let found = verified(found, store.chain_cuts(&tenant.id).await?);
        if found.let_go > 0 && shown == Shown::Table {
            print_line(&let_go(&tenant.id, &found))?;
        }
        lines += found.lines;
        if shown == Shown::Json {
            print_json(&serde_json::json!({"tenant": tenant.id, "record": found}))?;
        }
        if let Some((seq, what)) = found.broken {
            return Err(broken(tenant.id, seq, &what));
        }
    }
    Ok(lines)
}

/// What was let go of the record of `tenant`, and by whom last.
fn let_go(tenant: &TenantId, found: &VerifyAnswer) -> String {
    let by = found.let_go_by.iter().find(|cut| cut.seq == found.let_go);
    let by = by.map(|cut| {
        let at = cut.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        format!(" by {}, {at}", Printable(&cut.by))
    });
    let (tenant, seq) = (tenant.as_str(), found.let_go);
    let by = by.unwrap_or_default();
    format!("`{tenant}`: the lines up to {seq} were let go{by}")
}

/// A tenant whose heads were kept, and that is not there any more, is a record that was cut.
fn check_known(
    heads: &[SignedHead],
    tenants: &[crate::store::sqlite::tenants::KnownTenant],
) -> Result<(), CommandError> {
    let gone = heads
        .iter()
        .find(|head| !tenants.iter().any(|tenant| tenant.id == head.tenant));
    match gone {
        Some(head) => Err(broken(head.tenant.clone(), head.seq, "its tenant is gone")),
        None => Ok(()),
    }
}

fn broken(tenant: TenantId, seq: i64, what: &str) -> CommandError {
    CommandError::Broken {
        tenant,
        seq,
        what: what.to_owned(),
    }
}

/// Signs every head that has moved, and prints the last one of each tenant.
async fn head(config: &Config) -> Result<(), CommandError> {
    let store = existing::store(config).await?;
    let key = existing::key(config, &store).await?;
    let heads = last_heads(&store, &key).await;
    store.close().await;
    heads?.iter().try_for_each(print_json)
}

async fn last_heads(
    store: &SqliteStore,
    key: &SigningKey,
) -> Result<Vec<SignedHead>, CommandError> {
    store.sign_heads(key, now()).await?;
    let mut last = Vec::new();
    for tenant in store.tenants().await? {
        last.extend(store.signed_heads(&tenant.id).await?.pop());
    }
    Ok(last)
}

/// The time at which `by` wants something of before `before` removed.
fn wanted_by(before: Timestamp, by: &str) -> Result<Timestamp, CommandError> {
    let at = now();
    if before >= at {
        return Err(CommandError::NotPast);
    }
    let shown = Printable(by).to_string();
    if by.trim().is_empty() || shown != by || by.chars().count() > MAX_NAME {
        return Err(CommandError::Name("`--by`"));
    }
    Ok(at)
}

async fn forget(
    config: &Config,
    tenant: &str,
    before: Timestamp,
    by: String,
) -> Result<(), CommandError> {
    let wanted = Forgetting {
        tenant: TenantId::parse(tenant)?,
        before,
        at: wanted_by(before, &by)?,
        by,
    };
    let store = existing::store_of(config, &wanted.tenant).await?;
    let key = existing::key(config, &store).await?;
    let gone = store.forget(wanted, &key).await;
    store.close().await;
    print_line(&format!("let {} lines of the record go", gone?))
}

async fn erase(
    config: &Config,
    tenant: &str,
    before: Timestamp,
    by: String,
) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let at = wanted_by(before, &by)?;
    let store = existing::store_of(config, &tenant).await?;
    let erasure = Erasure {
        tenant,
        before,
        at,
        by,
    };
    let erased = store.erase(erasure).await;
    store.close().await;
    print_line(&format!("erased the payloads of {} reviews", erased?))
}

/// Copies the database while it is used, and verifies the copy.
async fn backup(config: &Config, to: PathBuf) -> Result<(), CommandError> {
    let store = existing::store(config).await?;
    let key = existing::key(config, &store).await?;
    let copied = store.copy_to(&to).await;
    store.close().await;
    copied?;
    let lines = verify_all(&to, Shown::Table, (&key, &[])).await?;
    // What opening it for the check left beside it.
    let lock = crate::store::sqlite::beside(&to, ".start");
    std::fs::remove_file(lock).unwrap_or_default();
    print_line(&format!(
        "copied to `{}` and verified: {lines} lines\nhint: keep the signing key `{}` with it",
        to.display(),
        key_file(&config.database).display()
    ))
}
