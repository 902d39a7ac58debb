//! `token`: makes, lists, replaces and revokes what callers need.
//!
//! Apart, because it alone prints a token, once, and nowhere else.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use protocol::{Printable, TenantId};

use super::{CommandError, print_line};
use crate::api::is_name;
use crate::auth::make_token;
use crate::config::Config;
use crate::desk::{after, now};
use crate::role::{Role, Roles};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::tokens::{Added, Grants, KnownToken, NewToken, TokenId};

/// A day, in hours, and an hour, in seconds.
const DAY: u64 = 24;
const HOUR: u64 = 3_600;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Makes a token and prints it. It is stored nowhere: only its SHA-256 is.
    Create {
        /// What it is for.
        #[arg(long, default_value = "")]
        name: String,
        /// What its holder may do; may be given several times.
        #[arg(long = "role", value_enum, default_values_t = [RoleName::Runner])]
        roles: Vec<RoleName>,
        /// Whose reviews it is about.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// The human behind it. Nobody answers for a person what the same human asked.
        #[arg(long)]
        person: Option<String>,
        /// After how many days it is refused; 1 to 3,650. Without it: when it is revoked.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
        expires_in: Option<u16>,
    },
    /// Lists the tokens, without what would let anybody in.
    List,
    /// Makes a token that follows another one, and prints it. The other one counts for a while yet.
    Rotate {
        /// The id of the one to follow, as `token list` shows it.
        id: String,
        /// For how many hours the other one still counts; 0 to 720.
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u16).range(0..=720))]
        overlap: u16,
    },
    /// Revokes a token. A running server refuses it within a second.
    Revoke {
        /// Its id, as `token list` shows it.
        id: String,
    },
}

/// A role, as the command line spells it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    /// Asks for reviews and sees its own
    Runner,
    /// Sees everything of the tenant, changes nothing
    Auditor,
    /// Works on the tenant's policy
    PolicyAuthor,
    /// Answers reviews that wait for a person
    Approver,
    /// Hands out tokens, and sees everything of the tenant
    Admin,
}

impl RoleName {
    fn name(self) -> &'static str {
        match self {
            Self::Runner => Role::Runner.as_str(),
            Self::Auditor => Role::Auditor.as_str(),
            Self::PolicyAuthor => Role::PolicyAuthor.as_str(),
            Self::Approver => Role::Approver.as_str(),
            Self::Admin => Role::Admin.as_str(),
        }
    }
}

pub(super) async fn token(config: &Config, command: TokenCommand) -> Result<(), CommandError> {
    let store = SqliteStore::open(&config.database).await?;
    let done = match command {
        TokenCommand::Create {
            name,
            roles,
            tenant,
            person,
            expires_in,
        } => match wanted(&roles, &tenant, person, expires_in) {
            Ok(grants) => create(&store, name, grants).await,
            Err(error) => Err(error),
        },
        TokenCommand::List => list(&store).await,
        TokenCommand::Rotate { id, overlap } => rotate(&store, &id, overlap).await,
        TokenCommand::Revoke { id } => revoke(&store, &id).await,
    };
    store.close().await;
    done
}

fn wanted(
    roles: &[RoleName],
    tenant: &str,
    person: Option<String>,
    expires_in: Option<u16>,
) -> Result<Grants, CommandError> {
    let roles = Roles::parse(roles.iter().map(|role| role.name()));
    Ok(Grants {
        tenant: TenantId::parse(tenant)?,
        roles: roles.map_err(|_| CommandError::Name("a role"))?,
        person,
        expires_at: expires_in.map(|days| hours_from_now(u64::from(days) * DAY)),
    })
}

fn hours_from_now(hours: u64) -> Timestamp {
    after(now(), std::time::Duration::from_secs(hours * HOUR))
}

async fn create(store: &SqliteStore, name: String, grants: Grants) -> Result<(), CommandError> {
    if !is_name(&name) {
        return Err(CommandError::Name("a token's name"));
    }
    if grants.person.as_ref().is_some_and(|it| !is_name(it)) {
        return Err(CommandError::Name("a person's name"));
    }
    let (text, token) = make_token(name, grants)?;
    keep(store, token).await?;
    print_line(text.reveal())
}

async fn keep(store: &SqliteStore, token: NewToken) -> Result<(), CommandError> {
    let tenant = token.grants.tenant.clone();
    let replaced = token.replaces.clone();
    match store.add_token(token).await? {
        Added::Kept => Ok(()),
        Added::NoTenant => Err(CommandError::UnknownTenant(tenant)),
        Added::NothingToReplace => {
            let id = replaced.map(|(id, _)| id.as_str().to_owned());
            Err(CommandError::UnknownToken(id.unwrap_or_default()))
        }
    }
}

async fn list(store: &SqliteStore) -> Result<(), CommandError> {
    print_line(
        "ID                                CREATED               EXPIRES               STATE    TENANT    ROLES            PERSON        NAME",
    )?;
    let now = now();
    for token in store.tokens().await? {
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if token.counts_at(now) => "valid",
            None => "expired",
        };
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (id, name) = (token.id.as_str(), Printable(&token.name));
        let expires = token.grants.expires_at.map_or_else(|| "-".to_owned(), time);
        let (tenant, roles) = (
            token.grants.tenant.as_str(),
            token.grants.roles.to_string().replace(' ', ","),
        );
        let created = time(token.created_at);
        let person = token.grants.person.as_deref().unwrap_or("-");
        let person = Printable(person).to_string();
        print_line(&format!(
            "{id:<32}  {created}  {expires:<20}  {state:<7}  {tenant:<8}  {roles:<15}  {person:<12}  {name}"
        ))?;
    }
    Ok(())
}

async fn known(store: &SqliteStore, id: &str) -> Result<KnownToken, CommandError> {
    let tokens = store.tokens().await?;
    let token = tokens.into_iter().find(|token| token.id.as_str() == id);
    token.ok_or_else(|| CommandError::UnknownToken(Printable(id).to_string()))
}

async fn rotate(store: &SqliteStore, id: &str, overlap: u16) -> Result<(), CommandError> {
    let before = known(store, id).await?;
    // The new one lives as long as the old one was meant to.
    let expires_at = before.grants.expires_at.and_then(|expires| {
        let life = std::time::Duration::try_from(expires.duration_since(before.created_at)).ok()?;
        Some(after(now(), life))
    });
    let grants = Grants {
        expires_at,
        ..before.grants
    };
    let (text, token) = make_token(before.name, grants)?;
    let until = hours_from_now(u64::from(overlap));
    let token = NewToken {
        replaces: Some((TokenId::new(id), until)),
        ..token
    };
    keep(store, token).await?;
    print_line(text.reveal())
}

async fn revoke(store: &SqliteStore, id: &str) -> Result<(), CommandError> {
    let token = known(store, id).await?;
    // One that was revoked before stays as it is.
    store
        .revoke_token(token.grants.tenant, token.id, now())
        .await?;
    Ok(())
}
