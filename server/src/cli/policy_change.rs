//! `policy shadow|stage|activate|rollback|log`: what is done with a policy, on the record that running servers follow.
//!
//! Apart from `policy.rs`, because what is done here binds: a server takes it up within a second. Invariants: who did it and
//! why is part of what is signed; only text and rules of a policy are taken, never a model or an address.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use protocol::{PolicyChange, Printable, TenantId};

use super::audit::{Shown, print_json, time};
use super::policy::{check_name, current, only_policy, settings_of};
use super::{CommandError, existing, print_line};
use crate::config::Config;
use crate::key::SigningKey;
use crate::policies::{self, PolicyError};
use crate::policy_life::{Named, Share, Wanted, What};
use crate::store::sqlite::SqliteStore;

/// The longest reason, in characters.
const MAX_REASON: usize = 1_000;

/// What is done with a policy.
#[derive(Debug, Subcommand)]
pub(super) enum ChangeCommand {
    /// Has a policy judge alongside. What it says is on record and in `stats`, and binds nobody.
    Shadow {
        #[command(flatten)]
        which: Option<Chosen>,
        /// Nothing judges alongside any more.
        #[arg(long, conflicts_with = "Chosen")]
        off: bool,
        #[command(flatten)]
        by: By,
    },
    /// Puts a policy in force for a share of the sessions, or for all from a time on.
    Stage {
        #[command(flatten)]
        which: Option<Chosen>,
        /// For so many of a hundred sessions, 1 to 99.
        #[arg(long, value_name = "N", required_unless_present = "from", conflicts_with = "from",
              value_parser = clap::value_parser!(u8).range(1..=99))]
        percent: Option<u8>,
        /// For all sessions from this time on, for example `2026-01-31T06:00:00Z`.
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<Timestamp>,
        #[command(flatten)]
        by: By,
    },
    /// Puts a policy in force for everything: what is staged, where none is named.
    Activate {
        #[command(flatten)]
        which: Option<Chosen>,
        #[command(flatten)]
        by: By,
    },
    /// Goes back: takes a staged policy away, or puts the policy before in force again.
    Rollback {
        #[command(flatten)]
        by: By,
    },
    /// Lists what was done with policies, newest first.
    Log {
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which policy.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Chosen {
    /// One that is kept, by the beginning of its revision.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// A file with the table `[policy]` of the settings. It is kept first.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
}

/// Who does it, why, and whose.
#[derive(Debug, Args)]
pub(super) struct By {
    /// Who does it.
    #[arg(long, value_name = "NAME")]
    author: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Whose.
    #[arg(long, default_value = "default")]
    tenant: String,
}

/// A change as it was typed.
struct Typed {
    what: What,
    which: Option<Chosen>,
    share: Option<Share>,
    by: By,
}

pub(super) async fn change(config: &Config, command: ChangeCommand) -> Result<(), CommandError> {
    let (what, which, share, by) = match command {
        ChangeCommand::Log { tenant, json } => return log(config, &tenant, Shown::of(json)).await,
        ChangeCommand::Shadow { which, off, by } => {
            if which.is_none() && !off {
                return Err(CommandError::NothingNamed);
            }
            (What::Shadow, which, None, by)
        }
        ChangeCommand::Stage {
            which,
            percent,
            from,
            by,
        } => {
            let share = percent
                .map(Share::Percent)
                .or_else(|| from.map(Share::From));
            if which.is_none() {
                return Err(CommandError::NothingNamed);
            }
            (What::Stage, which, share, by)
        }
        ChangeCommand::Activate { which, by } => (What::Activate, which, None, by),
        ChangeCommand::Rollback { by } => (What::Rollback, None, None, by),
    };
    make(
        config,
        Typed {
            what,
            which,
            share,
            by,
        },
    )
    .await
}

async fn make(config: &Config, typed: Typed) -> Result<(), CommandError> {
    check_name(&typed.by.author)?;
    let reason = typed.by.reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(CommandError::Reason);
    }
    let tenant = TenantId::parse(&typed.by.tenant)?;
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let made = note(config, (&store, &key), (&tenant, reason), typed).await;
    store.close().await;
    print_line(&made?)
}

async fn note(
    config: &Config,
    (store, key): (&SqliteStore, &SigningKey),
    (tenant, reason): (&TenantId, String),
    typed: Typed,
) -> Result<String, CommandError> {
    let reviewer = current(config, tenant)?;
    let table = &settings_of(config, tenant).policy;
    let (settings, _) = policies::keep(store, (tenant, &reviewer), table, "settings").await?;
    let policy = match &typed.which {
        None => None,
        Some(chosen) => Some(match (&chosen.with, &chosen.revision) {
            (Some(path), _) => {
                let table = only_policy(path)?;
                let author = &typed.by.author;
                policies::keep(store, (tenant, &reviewer), &table, author)
                    .await?
                    .0
            }
            (None, revision) => {
                let wanted = revision.as_deref().unwrap_or_default();
                policies::named(store, tenant, wanted).await?
            }
        }),
    };
    let wanted = Wanted {
        author: typed.by.author,
        reason,
        what: typed.what,
        policy,
        share: typed.share,
    };
    let life = policies::change((store, key), (tenant, &settings), &wanted).await?;
    let name = |named: &Named| named.revision.clone();
    let mut told = format!("in force  {}", name(&life.active));
    if let Some(staged) = &life.staged {
        let share = match staged.share {
            Share::Percent(percent) => format!("{percent} % of sessions"),
            Share::From(time) => format!("from {time}"),
        };
        told.push_str(&format!("\nstaged    {}  {share}", name(&staged.policy)));
    }
    if let Some(shadow) = &life.shadow {
        told.push_str(&format!("\nshadow    {}", name(shadow)));
    }
    Ok(told)
}

async fn log(config: &Config, tenant: &str, shown: Shown) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let changes = store.policy_changes(&tenant).await;
    store.close().await;
    let changes = changes?;
    let believed = crate::policy_life::Life::of(&changes, &key);
    let told = policies::told_changes(&changes);
    if shown == Shown::Json {
        print_json(&told)?;
    } else {
        print_line(
            "NUMBER  AT                    WHAT      AUTHOR            REVISION             WHY",
        )?;
        for change in &told {
            print_line(&line(change))?;
        }
    }
    // What was printed is not to be believed then.
    believed.map_err(PolicyError::NotBelieved)?;
    Ok(())
}

fn line(change: &PolicyChange) -> String {
    let at = change.at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let revision = change.revision.as_deref().unwrap_or("-");
    let share = match (change.percent, change.from) {
        (Some(percent), _) => format!(" ({percent} %)"),
        (None, Some(from)) => format!(" (from {from})"),
        (None, None) => String::new(),
    };
    format!(
        "{:<6}  {at}  {:<8}  {:<16}  {:<19}  {}{share}",
        change.number,
        change.what,
        Printable(&change.author).to_string(),
        Printable(revision.get(..19).unwrap_or(revision)).to_string(),
        Printable(&change.reason),
    )
}
