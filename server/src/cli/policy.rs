//! `policy`: the policies that were in force, what a new one would change, and what it would have decided.
//!
//! Apart from `serve`, because nothing here reviews anything. Invariant: a candidate is read by the same rules as the
//! settings, binds nobody, and is in force only once it stands in them or a change on record names it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::{Printable, TenantId};
use reviewer::{PolicyTable, Reviewer, ReviewerSettings, ReviewerTable};
use similar::TextDiff;

use super::audit::{Shown, Which, print_json, shown_action};
use super::policy_change::{ChangeCommand, change};
use super::{CommandError, existing, print_line};
use crate::backtest::{Backtest, Judge};
use crate::config::{Config, environment};
use crate::policies;
use crate::store::Sight;
use crate::store::search::Search;
use crate::store::sqlite::SqliteStore;

/// How many reviews are read at a time.
const PAGE: u32 = 1_000;
/// The longest name of an author, in characters.
const MAX_NAME: usize = 64;

/// What is done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Lists the policies that are kept, and where each stands.
    List {
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// As JSON, with what was done with them.
        #[arg(long)]
        json: bool,
    },
    /// Keeps a policy, with who wrote it. It binds nobody until it is activated or staged.
    Record {
        /// Who wrote it.
        #[arg(long, value_name = "NAME")]
        author: String,
        /// A file with the table `[policy]` of the settings; the settings' own where it is not said.
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Shows what another policy would say otherwise than the one in force, line by line.
    Diff {
        #[command(flatten)]
        other: Other,
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Judges reviews on record again by the rules of another policy, and lists those that would have gone another way.
    /// No model is asked.
    Test {
        /// A file with the tables `[reviewer]` and `[policy]` of the settings.
        #[arg(long, value_name = "FILE")]
        with: PathBuf,
        #[command(flatten)]
        which: Which,
        /// How many are listed.
        #[arg(long, default_value_t = 50)]
        flips: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Change(ChangeCommand),
}

/// Which other policy.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Other {
    /// One that is kept, by the beginning of its revision.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// A file with the tables `[reviewer]` and `[policy]` of the settings.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
}

pub(super) async fn policy(config: &Config, command: PolicyCommand) -> Result<(), CommandError> {
    match command {
        PolicyCommand::List { tenant, json } => list(config, &tenant, Shown::of(json)).await,
        PolicyCommand::Record {
            author,
            with,
            tenant,
        } => record(config, &author, (&tenant, with.as_deref())).await,
        PolicyCommand::Diff { other, tenant } => diff(config, &other, &tenant).await,
        PolicyCommand::Test {
            with,
            which,
            flips,
            json,
        } => test(config, &with, which, (flips, Shown::of(json))).await,
        PolicyCommand::Change(command) => change(config, command).await,
    }
}

/// Who judges for `tenant` by the settings.
pub(super) fn current(config: &Config, tenant: &TenantId) -> Result<Reviewer, CommandError> {
    let settings = config.tenants.get(tenant).unwrap_or(&config.reviewer);
    Ok(Reviewer::new(settings, &environment)?)
}

fn candidate(path: &Path) -> Result<Reviewer, CommandError> {
    Ok(Reviewer::new(&read_candidate(path)?, &environment)?)
}

/// The tables of a file, as the settings have them.
pub(super) fn read_candidate(path: &Path) -> Result<ReviewerSettings, CommandError> {
    let text = crate::config::read_file(path).map_err(|problem| CommandError::Candidate {
        path: path.to_owned(),
        problem,
    })?;
    toml::from_str(&text).map_err(|error| CommandError::Candidate {
        path: path.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    })
}

async fn list(config: &Config, tenant: &str, shown: Shown) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let settings = current(config, &tenant)?.policy_revision().to_string();
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let told = policies::told(&store, &key, (&tenant, &settings)).await;
    store.close().await;
    let told = told?;
    if shown == Shown::Json {
        return print_json(&told);
    }
    print_line("SINCE                 AUTHOR            STANDS              REVISION")?;
    for policy in &told.policies {
        let since = policy.since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let author = Printable(&policy.author).to_string();
        let stands = if policy.stands.is_empty() {
            "-".to_owned()
        } else {
            policy.stands.join(", ")
        };
        print_line(&format!(
            "{since}  {author:<16}  {stands:<18}  {}",
            policy.revision
        ))?;
    }
    Ok(())
}

async fn record(
    config: &Config,
    author: &str,
    (tenant, with): (&str, Option<&Path>),
) -> Result<(), CommandError> {
    check_name(author)?;
    let tenant = TenantId::parse(tenant)?;
    let reviewer = current(config, &tenant)?;
    let table = match with {
        Some(path) => only_policy(path)?,
        None => settings_of(config, &tenant).policy.clone(),
    };
    let store = existing::store_of(config, &tenant).await?;
    let kept = policies::keep(&store, (&tenant, &reviewer), &table, author).await;
    store.close().await;
    let (named, added) = kept?;
    let word = if added { "kept" } else { "known before" };
    print_line(&format!("{} {word}", named.revision))
}

/// A name of a person that can be shown.
pub(super) fn check_name(author: &str) -> Result<(), CommandError> {
    let shown = Printable(author).to_string();
    if author.trim().is_empty() || shown != author || author.chars().count() > MAX_NAME {
        return Err(CommandError::Name("`--author`"));
    }
    Ok(())
}

/// The policy of a file that sets nothing else.
pub(super) fn only_policy(path: &Path) -> Result<PolicyTable, CommandError> {
    let settings = read_candidate(path)?;
    if settings.reviewer != ReviewerTable::default() {
        return Err(CommandError::OnlyPolicy(path.to_owned()));
    }
    Ok(settings.policy)
}

/// What the settings say for `tenant`.
pub(super) fn settings_of<'a>(config: &'a Config, tenant: &TenantId) -> &'a ReviewerSettings {
    config.tenants.get(tenant).unwrap_or(&config.reviewer)
}

async fn diff(config: &Config, other: &Other, tenant: &str) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let settings = current(config, &tenant)?;
    let settings = (
        settings.policy_revision().to_string(),
        settings.policy().document(),
    );
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let known = store.policies(&tenant).await;
    let life = policies::life(&store, &key, &tenant).await;
    store.close().await;
    let known = known?;
    let active = life?.map(|life| life.active.revision);
    let now = active.and_then(|active| known.iter().find(|it| it.revision == active).cloned());
    let now = now.map_or(settings, |policy| (policy.revision, policy.text));
    let (name, text) = match (&other.with, &other.revision) {
        (Some(path), _) => {
            let candidate = candidate(path)?;
            let revision = candidate.policy_revision().to_string();
            (revision, candidate.policy().document())
        }
        (None, revision) => {
            let wanted = revision.as_deref().unwrap_or_default();
            let known = policies::one_of(known, wanted)?;
            (known.revision, known.text)
        }
    };
    let diff = TextDiff::from_lines(&now.1, &text);
    let unified = diff
        .unified_diff()
        .context_radius(3)
        .header(&now.0, &name)
        .to_string();
    for line in unified.lines() {
        print_line(&Printable(line).to_string())?;
    }
    Ok(())
}

async fn test(
    config: &Config,
    with: &Path,
    which: Which,
    (listed, shown): (usize, Shown),
) -> Result<(), CommandError> {
    let reviewer = candidate(with)?;
    let tenant = which.tenant()?;
    let judge = Judge {
        reviewer: &reviewer,
        speaks_for_user: &config.speaks_for_user,
        listed,
    };
    let store = existing::store_of(config, &tenant).await?;
    let sight = Sight::Tenant(tenant);
    let tested = judge_all(&store, &sight, which.search(PAGE), &judge).await;
    store.close().await;
    let tested = tested?;
    if shown == Shown::Json {
        return print_json(&tested);
    }
    print_table(&tested)
}

async fn judge_all(
    store: &SqliteStore,
    sight: &Sight,
    mut search: Search,
    judge: &Judge<'_>,
) -> Result<Backtest, CommandError> {
    while store.catch_up().await? > 0 {}
    let mut tested = Backtest::default();
    loop {
        let page = store.stored_page(sight, &search).await?;
        for stored in &page {
            judge.add(stored, &mut tested);
        }
        match page.last() {
            Some(last) => search.before = Some(last.recorded.review_id),
            None => return Ok(tested),
        }
    }
}

fn print_table(tested: &Backtest) -> Result<(), CommandError> {
    for (name, count) in [
        ("judged again", tested.reviews),
        ("skipped", tested.skipped),
        ("allow", tested.allow),
        ("deny", tested.deny),
        ("ask", tested.ask),
        ("another way", tested.flipped),
    ] {
        print_line(&format!("{name:<14} {count}"))?;
    }
    for flip in &tested.flips {
        let action = serde_json::from_value(flip.action.clone());
        let action = action.map_or_else(|_| "-".to_owned(), |action| shown_action(&action));
        print_line(&format!(
            "{}  {} by {} -> {} {}  {action}",
            flip.review_id,
            flip.status.title(),
            flip.decided_by.as_str(),
            flip.says.as_str(),
            flip.rule.as_deref().unwrap_or("-"),
        ))?;
    }
    Ok(())
}
