//! The crate's own cases, through real listeners, in every dialect. The runner itself is held to failing where it should.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::sync::Arc;

use serde_json::{Value, json};

#[path = "../examples/cases/check.rs"]
mod check;
#[path = "../examples/cases/client.rs"]
mod client;
#[path = "../examples/cases/drive.rs"]
mod drive;
#[path = "../examples/cases/ports.rs"]
mod ports;
#[path = "../examples/cases/tls.rs"]
mod tls;
#[path = "../examples/cases/wire.rs"]
mod wire;
#[path = "../examples/cases/wording.rs"]
mod wording;

fn file() -> Value {
    serde_json::from_str(include_str!("cases.json")).expect("the file of cases is JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_crate_holds_in_every_dialect() {
    let file = file();
    let tls = Arc::new(tls::Tls::new().expect("certificates"));
    let mut tasks = tokio::task::JoinSet::new();
    let cases = file["cases"].as_array().cloned().unwrap_or_default();
    assert!(cases.len() > 40, "the file is whole");
    for mut case in cases {
        case["policy_value"] = match case["policy"].as_str() {
            Some(name) => file["policies"][name].clone(),
            None => case["policy"].clone(),
        };
        let tls = Arc::clone(&tls);
        let _handle =
            tasks.spawn(async move { (check::run(&case, &tls).await, case["id"].to_string()) });
    }
    let mut failed = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (faults, id) = done.expect("a case does not panic");
        failed.extend(faults.into_iter().map(|fault| format!("{id}: {fault}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_expectation_fails() {
    let tls = Arc::new(tls::Tls::new().expect("certificates"));
    let right = json!({"id": "X", "policy_value": {"domains": {"example.com": "allow"}},
        "resolver": {"example.com": {"A": ["93.184.216.34"]}},
        "request": {"via": "http", "kind": "connect", "authority": "example.com:443"},
        "expect": {"decision": "allow", "status": 200, "dial": "93.184.216.34:443", "dns_lookups": 1}});
    assert_eq!(check::run(&right, &tls).await, Vec::<String>::new());
    for (key, value) in [
        ("status", json!(403)),
        ("dial", json!("93.184.216.35:443")),
        ("dial", Value::Null),
        ("dns_lookups", json!(2)),
        ("reason_code", json!("denied")),
        ("unknown", json!(1)),
    ] {
        let mut wrong = right.clone();
        wrong["expect"][key] = value.clone();
        assert!(!check::run(&wrong, &tls).await.is_empty(), "{key} {value}");
    }
    let mut wrong = right.clone();
    wrong["expect"] = json!({"decision": "deny"});
    assert!(!check::run(&wrong, &tls).await.is_empty());
}
