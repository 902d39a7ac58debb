//! Runs a file of cases against a real listener: `cargo run -p network-proxy --example cases -- FILE [ID…]`.
//!
//! One line a case: `PASS id`, or `FAIL id` with what differs. Ends with 1 where a case of the tier `must` fails.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the lines are what this program is for"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that is not there reads as null"
)]

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

mod check;
mod client;
mod drive;
mod ports;
mod tls;
mod wire;
mod wording;

/// How many cases are driven at a time; those that measure or flood stand alone.
const BESIDE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(file) = arguments.next() else {
        eprintln!("usage: cases FILE [ID...]");
        return ExitCode::from(2);
    };
    let only: Vec<String> = arguments.collect();
    match run(&file, &only) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cases: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(file: &str, only: &[String]) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let text = std::fs::read_to_string(file)?;
    let cases = load(&serde_json::from_str(&text)?);
    let wanted = |case: &Value| only.is_empty() || only.iter().any(|id| case["id"] == id.as_str());
    let cases: Vec<Value> = cases.into_iter().filter(wanted).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let lines = runtime.block_on(run_all(cases, Arc::new(tls::Tls::new()?)));
    let mut failed = 0;
    for (case, faults) in lines {
        let (id, tier) = (
            case["id"].as_str().unwrap_or("?"),
            case["tier"].as_str().unwrap_or("must"),
        );
        if faults.is_empty() {
            println!("PASS {id}");
            continue;
        }
        failed += usize::from(tier == "must");
        println!("FAIL {id} ({tier}): {}", faults.join("; "));
    }
    Ok(failed)
}

/// The cases, each with its policy in place of the policy's name.
fn load(file: &Value) -> Vec<Value> {
    let cases = file["cases"].as_array().cloned().unwrap_or_default();
    cases
        .into_iter()
        .map(|mut case| {
            case["policy_value"] = match case["policy"].as_str() {
                Some(name) => file["policies"][name].clone(),
                None => case["policy"].clone(),
            };
            case
        })
        .collect()
}

async fn run_all(cases: Vec<Value>, tls: Arc<tls::Tls>) -> Vec<(Value, Vec<String>)> {
    let alone = |case: &Value| {
        let request = &case["request"];
        request["transfer_bytes"].is_u64()
            || request["n"].as_u64().is_some_and(|n| n > 200)
            || request["repeat"].is_u64()
    };
    let mut lines = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for (place, case) in cases.into_iter().enumerate() {
        while tasks.len() >= BESIDE || (alone(&case) && !tasks.is_empty()) {
            if let Some(Ok(line)) = tasks.join_next().await {
                lines.push(line);
            }
        }
        let tls = Arc::clone(&tls);
        let by_itself = alone(&case);
        let _handle = tasks.spawn(async move {
            let faults = check::run(&case, &tls).await;
            (place, case, faults)
        });
        if by_itself && let Some(Ok(line)) = tasks.join_next().await {
            lines.push(line);
        }
    }
    while let Some(done) = tasks.join_next().await {
        lines.extend(done.ok());
    }
    lines.sort_by_key(|(place, _, _)| *place);
    lines
        .into_iter()
        .map(|(_, case, faults)| (case, faults))
        .collect()
}
