//! The cases of the network's door once more, by clients inside the network of a real sandbox: verdicts, lookups and dialled
//! addresses are the same as on any loopback.
//!
//! `AUTO_REVIEW_DOOR_CASES=FILE cargo test -p end-to-end --test door` drives another file of cases beside the crate's own.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::sync::Arc;

use harness::{Missing, is_root, lacks};
use serde_json::Value;

#[path = "../../network-proxy/examples/cases/check.rs"]
mod check;
#[path = "../../network-proxy/examples/cases/client.rs"]
mod client;
#[path = "../../network-proxy/examples/cases/drive.rs"]
mod drive;
#[path = "../../network-proxy/examples/cases/ports.rs"]
mod ports;
#[path = "../../network-proxy/examples/cases/tls.rs"]
mod tls;
mod wire;
#[path = "../../network-proxy/examples/cases/wording.rs"]
mod wording;

/// How many cases are driven at a time: each holds some twenty sockets and a command.
const BESIDE: usize = 8;

fn cases(file: &Value) -> Vec<Value> {
    let mut cases = file["cases"].as_array().cloned().unwrap_or_default();
    cases.retain(|case| case["tier"] == "must");
    for case in &mut cases {
        if case["policy_value"].is_null() {
            case["policy_value"] = match case["policy"].as_str() {
                Some(name) => file["policies"][name].clone(),
                None => case["policy"].clone(),
            };
        }
    }
    cases
}

async fn failing(cases: Vec<Value>) -> Vec<String> {
    let tls = Arc::new(tls::Tls::new().expect("certificates"));
    let mut failed = Vec::new();
    for group in cases.chunks(BESIDE) {
        let mut tasks = tokio::task::JoinSet::new();
        for case in group.iter().cloned() {
            let tls = Arc::clone(&tls);
            let _handle =
                tasks.spawn(async move { (check::run(&case, &tls).await, case["id"].to_string()) });
        }
        while let Some(done) = tasks.join_next().await {
            let (faults, id) = done.expect("a case does not panic");
            failed.extend(faults.into_iter().map(|fault| format!("{id}: {fault}")));
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_from_inside_a_sandboxs_network() {
    if !is_root() {
        lacks(
            Missing::Root,
            "the door's cases from inside a sandbox's network",
        );
        return;
    }
    let own = include_str!("../../network-proxy/tests/cases.json");
    let mut all = cases(&serde_json::from_str(own).expect("the crate's own cases"));
    assert!(all.len() > 40, "the file is whole");
    let more = std::env::vars_os().find(|(name, _)| name == "AUTO_REVIEW_DOOR_CASES");
    if let Some((_, path)) = more {
        let text = std::fs::read_to_string(path).expect("the other file");
        all.extend(cases(&serde_json::from_str(&text).expect("cases")));
    }
    let failed = failing(all).await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
