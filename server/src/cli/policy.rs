//! `policy`: the policies that were in force, what a new one would change, and what it would have decided.
//!
//! Apart from `serve`, because nothing here reviews anything. Invariant: a candidate is read by the same rules as the
//! settings, binds nobody, and is in force only once it stands in them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::{Printable, TenantId};
use reviewer::{Reviewer, ReviewerSettings};
use similar::TextDiff;

use super::audit::{Shown, Which, print_json};
use super::{CommandError, print_line};
use crate::backtest::{Backtest, Judge};
use crate::config::{Config, environment};
use crate::desk::now;
use crate::store::Sight;
use crate::store::search::Search;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::policies::KnownPolicy;

/// How many reviews are read at a time.
const PAGE: u32 = 1_000;
/// The longest name of an author, in characters.
const MAX_NAME: usize = 64;

/// What is done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Lists the policies that reviews were judged by.
    List {
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Keeps the policy of the settings, with who wrote it. A server keeps it at its start, without a name.
    Record {
        /// Who wrote it.
        #[arg(long, value_name = "NAME")]
        author: String,
        /// Whose.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Shows what another policy would say otherwise, line by line.
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
        PolicyCommand::List { tenant } => list(config, &tenant).await,
        PolicyCommand::Record { author, tenant } => record(config, author, &tenant).await,
        PolicyCommand::Diff { other, tenant } => diff(config, &other, &tenant).await,
        PolicyCommand::Test {
            with,
            which,
            flips,
            json,
        } => test(config, &with, which, (flips, Shown::of(json))).await,
    }
}

/// Who judges for `tenant` by the settings.
fn current(config: &Config, tenant: &TenantId) -> Result<Reviewer, CommandError> {
    let settings = config.tenants.get(tenant).unwrap_or(&config.reviewer);
    Ok(Reviewer::new(settings, &environment)?)
}

fn candidate(path: &Path) -> Result<Reviewer, CommandError> {
    let text = crate::config::read_file(path).map_err(|problem| CommandError::Candidate {
        path: path.to_owned(),
        problem,
    })?;
    let settings: ReviewerSettings =
        toml::from_str(&text).map_err(|error| CommandError::Candidate {
            path: path.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })?;
    Ok(Reviewer::new(&settings, &environment)?)
}

async fn list(config: &Config, tenant: &str) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let store = SqliteStore::open(&config.database).await?;
    let known = store.policies(&tenant).await;
    store.close().await;
    let now = current(config, &tenant)?;
    print_line("SINCE                 AUTHOR            REVISION")?;
    for policy in known? {
        let since = policy.since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let here = policy.revision == now.policy_revision().as_str();
        let mark = if here { "  in the settings" } else { "" };
        let author = Printable(&policy.author).to_string();
        print_line(&format!("{since}  {author:<16}  {}{mark}", policy.revision))?;
    }
    Ok(())
}

async fn record(config: &Config, author: String, tenant: &str) -> Result<(), CommandError> {
    let shown = Printable(&author).to_string();
    if author.trim().is_empty() || shown != author || author.chars().count() > MAX_NAME {
        return Err(CommandError::Name("`--author`"));
    }
    let tenant = TenantId::parse(tenant)?;
    let reviewer = current(config, &tenant)?;
    let revision = reviewer.policy_revision().to_string();
    let store = SqliteStore::open(&config.database).await?;
    let added = store
        .add_policy(KnownPolicy {
            tenant,
            revision: revision.clone(),
            text: reviewer.policy().text().to_string(),
            author,
            since: now(),
        })
        .await;
    store.close().await;
    let word = if added? { "kept" } else { "known before" };
    print_line(&format!("{revision} {word}"))
}

async fn diff(config: &Config, other: &Other, tenant: &str) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let now = current(config, &tenant)?;
    let (name, text) = match (&other.with, &other.revision) {
        (Some(path), _) => {
            let candidate = candidate(path)?;
            let revision = candidate.policy_revision().to_string();
            (revision, candidate.policy().text().to_string())
        }
        (None, revision) => {
            let wanted = revision.as_deref().unwrap_or_default();
            let known = kept(config, &tenant, wanted).await?;
            (known.revision, known.text)
        }
    };
    let settings = now.policy().text().to_string();
    let diff = TextDiff::from_lines(&settings, &text);
    let unified = diff
        .unified_diff()
        .context_radius(3)
        .header(now.policy_revision().as_str(), &name)
        .to_string();
    for line in unified.lines() {
        print_line(&Printable(line).to_string())?;
    }
    Ok(())
}

/// The one policy whose revision begins so.
async fn kept(
    config: &Config,
    tenant: &TenantId,
    wanted: &str,
) -> Result<KnownPolicy, CommandError> {
    let store = SqliteStore::open(&config.database).await?;
    let known = store.policies(tenant).await;
    store.close().await;
    let mut found = known?
        .into_iter()
        .filter(|policy| policy.revision.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(policy), None) => Ok(policy),
        (None | Some(_), _) => Err(CommandError::UnknownPolicy(wanted.to_owned())),
    }
}

async fn test(
    config: &Config,
    with: &Path,
    which: Which,
    (listed, shown): (usize, Shown),
) -> Result<(), CommandError> {
    let reviewer = candidate(with)?;
    let sight = which.sight()?;
    let judge = Judge {
        reviewer: &reviewer,
        speaks_for_user: &config.speaks_for_user,
        listed,
    };
    let store = SqliteStore::open(&config.database).await?;
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
        let action = Printable(&flip.action.to_string()).to_string();
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
