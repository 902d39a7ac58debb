//! `agent-runner demo`: real commands, real walls, real reviews over HTTP, in a throw-away folder.
//!
//! The one stand-in is the model endpoint on loopback ([`model`]) that the rows about a failing and a late review need;
//! approvals and denials come from the built-in reviewer. Each row starts this very program as a user would, checks
//! the exit status and what is on the disk, and is read back from the server's history. Nothing outside the folder
//! changes.

mod model;
mod origin;
mod rows;
mod service;
mod stage;

use std::io::Write;
use std::time::{Duration, Instant};

use protocol::{HistoryEntry, ReviewStatus};

use crate::cli;
use crate::config::Environment;
use crate::failure::{Failure, RUNNER_FAILED};
use crate::history::{cut, shown_action, without_reason};
use crate::signals::Signals;
use rows::{Row, rows};
use service::DemoService;
use stage::{Ran, Stage};

/// How long one row may take.
const ROW_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo; the answer is 0 where every row came out as expected.
///
/// # Errors
/// The stage cannot be set, or `out` cannot be written.
pub(crate) async fn demo(
    args: &cli::Demo,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let stage = Stage::set(environment)?;
    let service = DemoService::start(&stage).await?;
    stage.configure(&service)?;
    let mut signals = Signals::listen()?;
    let shown = tokio::select! {
        shown = play(&stage, &service, out) => shown,
        signal = signals.next() => {
            service.stop().await;
            stage.leave(args.keep)?;
            return Ok(signal.exit_code());
        }
    };
    let database = service.database().display().to_string();
    service.stop().await;
    let kept = stage.leave(args.keep)?;
    let failed =
        shown.map_err(|error| Failure::because(format!("cannot show the demo: {error}")))?;
    let line = if kept {
        format!("The record is kept in {database}")
    } else {
        format!("The record was in {database}; it is gone with the folder (--keep keeps it)")
    };
    writeln!(out, "\n{line}")
        .map_err(|error| Failure::because(format!("cannot show the demo: {error}")))?;
    if failed == 0 {
        return Ok(0);
    }
    Err(Failure {
        code: RUNNER_FAILED,
        message: format!("{failed} of the demo's rows did not come out as expected"),
    })
}

struct Shown {
    title: &'static str,
    wanted: &'static str,
    came: String,
    fine: bool,
}

async fn play(stage: &Stage, service: &DemoService, out: &mut dyn Write) -> std::io::Result<usize> {
    let rows = rows(stage, service.origin());
    writeln!(
        out,
        "Workspace {}\nReviewer  {} (built-in tier, SQLite)\n",
        stage.workspace().display(),
        service.url()
    )?;
    let mut table = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        write!(
            out,
            "{}/{}  {}\n      $ {}\n",
            index + 1,
            rows.len(),
            row.title,
            row.shown()
        )?;
        out.flush()?;
        let started = Instant::now();
        let ran = tokio::time::timeout(ROW_LIMIT, stage.run(row)).await;
        let shown = match ran {
            Ok(Ok(ran)) => judge(row, &ran, stage, service).await,
            Ok(Err(error)) => unexpected(row, format!("it could not be started: {error}")),
            Err(_elapsed) => unexpected(
                row,
                format!("it took longer than {} s", ROW_LIMIT.as_secs()),
            ),
        };
        let mark = if shown.fine { "ok" } else { "NOT AS EXPECTED" };
        writeln!(
            out,
            "      {mark}: {} ({} ms)\n",
            shown.came.replace('\n', "\n      "),
            started.elapsed().as_millis()
        )?;
        table.push(shown);
    }
    print_table(&table, out)?;
    print_history(service, out).await?;
    Ok(table.iter().filter(|shown| !shown.fine).count())
}

fn unexpected(row: &Row, came: String) -> Shown {
    Shown {
        title: row.title,
        wanted: row.expectation(),
        came,
        fine: false,
    }
}

/// Holds what happened against what the row promises: exit status, disk, and the record as the server tells it.
async fn judge(row: &Row, ran: &Ran, stage: &Stage, service: &DemoService) -> Shown {
    let mut faults = Vec::new();
    if !row.exit.holds(ran.code) {
        faults.push(format!("the exit status is {}", ran.code));
    }
    if let Some(fault) = (row.proof)(stage) {
        faults.push(fault);
    }
    match (row.status, ran.review_id) {
        (None, None) => {}
        (None, Some(_)) => faults.push("it was reviewed".to_owned()),
        (Some(_), None) => faults.push("it was not reviewed".to_owned()),
        (Some(wanted), Some(id)) => match service.entry(id).await {
            Ok(Some(entry)) => faults.extend(record_faults(wanted, &entry)),
            Ok(None) => faults.push("the server has no record of it".to_owned()),
            Err(reason) => faults.push(format!("the record cannot be read: {reason}")),
        },
    }
    let fine = faults.is_empty();
    let came = if fine {
        ran.told(row)
    } else {
        format!("{}\n{}", faults.join("; "), ran.said())
    };
    Shown {
        title: row.title,
        wanted: row.expectation(),
        came,
        fine,
    }
}

fn record_faults(wanted: ReviewStatus, entry: &HistoryEntry) -> Option<String> {
    let status = entry.review.status;
    if status != wanted {
        return Some(format!("the record says {}", status.as_str()));
    }
    let spent = entry.redeemed_at.is_some();
    match (status == ReviewStatus::Approved, spent) {
        (true, false) => Some("the approval was not spent".to_owned()),
        (false, true) => Some("something that is no approval was spent".to_owned()),
        (true, true) | (false, false) => None,
    }
}

fn print_table(table: &[Shown], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<46}  {:<34}  AS EXPECTED", "WHAT", "EXPECTED")?;
    for shown in table {
        let mark = if shown.fine { "yes" } else { "NO" };
        writeln!(out, "{:<46}  {:<34}  {mark}", shown.title, shown.wanted)?;
    }
    Ok(())
}

/// The history as the server has it.
async fn print_history(service: &DemoService, out: &mut dyn Write) -> std::io::Result<()> {
    let entries = match service.history().await {
        Ok(entries) => entries,
        Err(reason) => return writeln!(out, "\nThe history cannot be read: {reason}"),
    };
    writeln!(out, "\nThe record, as the server tells it (newest first):")?;
    writeln!(
        out,
        "{:<10}  {:<9}  {:<8}  {:<48}  WHY",
        "STATUS", "BY", "RISK", "ACTION"
    )?;
    for entry in entries {
        let review = &entry.review;
        let risk = review.risk_level.map_or("-", protocol::RiskLevel::as_str);
        let why = match (&review.failure, &review.rationale) {
            (Some(failure), _) => format!("{}: {}", failure.step.as_str(), failure.message),
            (None, Some(rationale)) => rationale.as_str().to_owned(),
            (None, None) => without_reason(review.status).to_owned(),
        };
        let action = cut(&shown_action(&entry.action), 48);
        let (status, by) = (review.status.title(), review.decided_by.as_str());
        writeln!(
            out,
            "{status:<10}  {by:<9}  {risk:<8}  {action:<48}  {}",
            cut(
                &protocol::Printable(&why.replace("\nhint: ", "; ")).to_string(),
                80
            )
        )?;
    }
    Ok(())
}
