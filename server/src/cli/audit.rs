//! `history`, `show`, `export`, `stats`: the record, read from its file by whoever may read it.
//!
//! Apart from the API, whose roles do not apply here: access to the file is the right. Invariant: everything that came
//! from outside is shown through `Printable`.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use protocol::{Action, HistoryEntry, Printable, ReviewId, Stats, TenantId, shown_command};
use serde::Serialize;

use super::{CommandError, existing, print_line};
use crate::config::Config;
use crate::history::export::{Export, Format};
use crate::history::{Counting, detail, page, stats as sums};
use crate::store::search::{Facet, Search};
use crate::store::sqlite::SqliteStore;
use crate::store::{Sight, StoreError};

/// Which reviews.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Whose reviews.
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Only those with this value: `status`, `risk`, `authorization`, `decided_by`, `tool`, `program`, `user`, `host`,
    /// `session`, `policy`, `rule`, `failed_step` or `caller`; may be given several times.
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = facet)]
    facets: Vec<(Facet, String)>,
    /// Only those that hold all these words.
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// Only those opened at this time or later, for example `2026-01-31T00:00:00Z` or `2026-01-31` (UTC).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only those opened before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
}

/// The shape of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Shape {
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a heading
    Csv,
    /// OCSF "API Activity" events
    Ocsf,
    /// Open Policy Agent's decision log
    Opa,
}

/// A time, or the beginning of a day in UTC.
pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    let day = || {
        let day: jiff::civil::Date = text.parse().ok()?;
        Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let time = text.parse().ok().or_else(day);
    time.ok_or("a time is wanted: `2026-01-31T00:00:00Z` or `2026-01-31`")
}

fn facet(text: &str) -> Result<(Facet, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    let found = Facet::ASKED.into_iter().find(|(_, known)| *known == name);
    let (facet, _) = found.ok_or_else(|| format!("`{}` is not a name", Printable(name)))?;
    let value = facet
        .value(value)
        .map_err(|values| format!("`{}` is none of {}", Printable(value), values.join(", ")))?;
    Ok((facet, value))
}

impl Which {
    pub(super) fn tenant(&self) -> Result<TenantId, CommandError> {
        Ok(TenantId::parse(&self.tenant)?)
    }

    pub(super) fn search(self, limit: u32) -> Search {
        Search {
            facets: self.facets,
            text: self.text.filter(|text| !text.trim().is_empty()),
            since: self.since,
            until: self.until,
            before: None,
            limit,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Table,
    Json,
}

impl Shown {
    pub(super) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }
}

pub(super) async fn history(
    config: &Config,
    which: Which,
    limit: u32,
    shown: Shown,
) -> Result<(), CommandError> {
    let tenant = which.tenant()?;
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let sight = Sight::Tenant(tenant);
    let search = which.search(limit);
    let page = page(&store, &key, &sight, (&search, Counting::Unwanted)).await;
    store.close().await;
    let page = page?;
    if shown == Shown::Json {
        return print_json(&page);
    }
    print_line(
        "TIME                  REVIEW                                STATUS     RISK      BY        USER          ACTION",
    )?;
    for entry in &page.page.reviews {
        print_line(&line(entry))?;
    }
    Ok(())
}

fn line(entry: &HistoryEntry) -> String {
    let review = &entry.review;
    let at = review.created_at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let risk = review.risk_level.map_or("-", protocol::RiskLevel::as_str);
    let user = Printable(&entry.environment.user).to_string();
    format!(
        "{at}  {}  {:<9}  {risk:<8}  {:<8}  {user:<12}  {}",
        review.review_id,
        review.status.title(),
        review.decided_by.as_str(),
        shown_action(&entry.action)
    )
}

/// An action in a few words; `show` and `--json` have all of it.
pub(super) fn shown_action(action: &Action) -> String {
    let action = match action {
        Action::Command(command) => return shown_command(&command.command),
        Action::NetworkAccess(access) => format!("{}:{}", access.host, access.port),
        Action::ToolCall(call) => format!("{} {}/{}", action.tool(), call.server, call.tool_name),
        Action::FileChange(_) | Action::PermissionRequest(_) => action.tool().to_owned(),
    };
    Printable(&action).to_string()
}

pub(super) async fn show(
    config: &Config,
    tenant: &str,
    review_id: ReviewId,
) -> Result<(), CommandError> {
    let tenant = TenantId::parse(tenant)?;
    let store = existing::store_of(config, &tenant).await?;
    let key = existing::key(config, &store).await?;
    let sight = Sight::Tenant(tenant);
    let found = store.detail(&sight, review_id).await;
    store.close().await;
    let found = found?.ok_or(CommandError::UnknownReview(review_id))?;
    print_json(&detail(found, &key))
}

pub(super) async fn export(
    config: &Config,
    which: Which,
    shape: Shape,
) -> Result<(), CommandError> {
    let format = match shape {
        Shape::Jsonl => Format::JsonLines,
        Shape::Csv => Format::Csv,
        Shape::Ocsf => Format::Ocsf,
        Shape::Opa => Format::Opa,
    };
    let tenant = which.tenant()?;
    let store = existing::store_of(config, &tenant).await?;
    let sight = Sight::Tenant(tenant);
    let exported = export_all(&store, &sight, which.search(0), format).await;
    store.close().await;
    exported
}

async fn export_all(
    store: &SqliteStore,
    sight: &Sight,
    search: Search,
    format: Format,
) -> Result<(), CommandError> {
    while store.catch_up().await? > 0 {}
    let mut text = format.heading().as_bytes().to_vec();
    let mut export = Export::begin(store, sight, &search).await?;
    while !export.is_over() || !text.is_empty() {
        export.turn(format, &mut text).await?;
        io::stdout()
            .lock()
            .write_all(&text)
            .map_err(CommandError::Output)?;
        text.clear();
    }
    Ok(())
}

pub(super) async fn stats(config: &Config, which: Which, shown: Shown) -> Result<(), CommandError> {
    let tenant = which.tenant()?;
    if !which.facets.is_empty() || which.text.is_some() {
        return Err(CommandError::OnlyTimes);
    }
    let store = existing::store_of(config, &tenant).await?;
    let stats = sums(&store, &tenant, which.since, which.until).await;
    store.close().await;
    let stats = stats?;
    match shown {
        Shown::Json => print_json(&stats),
        Shown::Table => print_stats(&stats),
    }
}

fn print_stats(stats: &Stats) -> Result<(), CommandError> {
    print_line(&format!("reviews            {}", stats.reviews))?;
    let share = stats.not_judged_share.unwrap_or_default() * 100.0;
    print_line(&format!("not judged         {share:.1} %"))?;
    let groups = [
        ("status", &stats.by_status),
        ("decided by", &stats.by_decided_by),
        ("risk", &stats.by_risk),
        ("failed step", &stats.by_failed_step),
    ];
    for (name, counts) in groups {
        for (value, count) in counts {
            print_line(&format!("{name:<12} {:<20} {count}", Printable(value)))?;
        }
    }
    for (name, took) in &stats.latency_ms {
        print_line(&format!("took at least {name:<5} {took} ms"))?;
    }
    for (value, count) in stats.denied_programs.iter().chain(&stats.denied_hosts) {
        print_line(&format!("denied       {:<20} {count}", Printable(value)))?;
    }
    for (model, cost) in &stats.models {
        print_line(&format!(
            "model        {:<20} {} calls, {} + {} tokens",
            Printable(model),
            cost.calls,
            cost.input_tokens,
            cost.output_tokens
        ))?;
    }
    for (revision, came) in &stats.shadows {
        let flipped: i64 = came.flipped.values().sum();
        print_line(&format!(
            "shadow       {:<20} {} agreed, {flipped} flipped, {} failed, {} skipped",
            Printable(revision.get(..19).unwrap_or(revision)),
            came.agreed,
            came.failed,
            came.skipped
        ))?;
    }
    Ok(())
}

pub(super) fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string(value)
        .map_err(|_| StoreError::Corrupt("a result cannot be spelled"))?;
    print_line(&text)
}
