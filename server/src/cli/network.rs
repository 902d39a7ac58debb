//! `network`: what the doors of runners decided, read from the record's file by whoever may read it.
//!
//! Apart from `audit.rs`, because no review is listed here. Invariant: everything that came from outside is shown
//! through `Printable`.

use clap::Args;
use protocol::{NetworkDecision, NetworkReports, Printable, RecordedNetwork, TenantId};

use super::audit::{Shown, print_json};
use super::{CommandError, existing, print_line};
use crate::config::Config;
use crate::store::Sight;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::history::NetworkSearch;

/// Which reports.
#[derive(Debug, Args)]
pub(super) struct WhichNetwork {
    /// Whose reports.
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Only those about this host.
    #[arg(long)]
    host: Option<String>,
    /// Only those of this session.
    #[arg(long)]
    session: Option<String>,
    /// Only those that this caller told.
    #[arg(long)]
    caller: Option<String>,
    /// Only those in which something was refused.
    #[arg(long)]
    refused: bool,
    /// How many commands at most, 1 to 10,000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn network(config: &Config, which: WhichNetwork) -> Result<(), CommandError> {
    let tenant = TenantId::parse(&which.tenant)?;
    let shown = Shown::of(which.json);
    let store = existing::store_of(config, &tenant).await?;
    let sight = Sight::Tenant(tenant);
    let found = find(&store, &sight, which).await;
    store.close().await;
    let reports = found?;
    if shown == Shown::Json {
        let next = None;
        return print_json(&NetworkReports { reports, next });
    }
    print_line(
        "TIME                  CALLER            PROGRAM       HOST                                      VERDICT           TIMES       BYTES",
    )?;
    for report in &reports {
        for decision in &report.report.decisions {
            print_line(&line(report, decision))?;
        }
    }
    Ok(())
}

/// As many as are wanted, page by page.
async fn find(
    store: &SqliteStore,
    sight: &Sight,
    which: WhichNetwork,
) -> Result<Vec<RecordedNetwork>, CommandError> {
    let mut found = Vec::new();
    let mut search = NetworkSearch {
        host: which.host,
        session: which.session,
        caller: which.caller,
        refused: which.refused,
        before: None,
        limit: which.limit,
    };
    loop {
        let page = store.network(sight, &search).await?;
        found.extend(page.reports);
        let known = u32::try_from(found.len()).unwrap_or(u32::MAX);
        search.limit = which.limit.saturating_sub(known);
        search.before = page.next;
        if search.limit == 0 || search.before.is_none() {
            return Ok(found);
        }
    }
}

fn line(recorded: &RecordedNetwork, decision: &NetworkDecision) -> String {
    let at = recorded.at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let program = Printable(&recorded.report.program).to_string();
    let caller = Printable(&recorded.caller).to_string();
    let host = Printable(decision.host.as_deref().unwrap_or("-")).to_string();
    let host = match decision.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let verdict = Printable(&decision.verdict).to_string();
    let bytes = decision.sent.saturating_add(decision.received);
    format!(
        "{at}  {caller:<16}  {program:<12}  {host:<40}  {verdict:<16}  {:>5}  {bytes:>10}",
        decision.times
    )
}
