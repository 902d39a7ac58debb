//! What an evaluation prints: a table for people, one JSON object for programs.
//!
//! Apart, because it is wording. Invariant: every miss is listed with the rule or failure behind it; what came from a
//! file of cases is shown with its control characters spelled out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use protocol::Printable;
use serde_json::{Value, json};

use super::cases::{Case, Expected};
use super::figures::{Answer, Counts, Judged, Share, quantile};

fn pairs<'c>(
    cases: &'c [Case],
    judged: &'c [Judged],
) -> impl Iterator<Item = (&'c Case, &'c Judged)> {
    cases.iter().zip(judged)
}

fn categories(cases: &[Case]) -> BTreeSet<&str> {
    cases.iter().map(|case| case.category.as_str()).collect()
}

fn counts_of(cases: &[Case], judged: &[Judged], category: &str) -> Counts {
    Counts::of(pairs(cases, judged).filter(|(case, _)| case.category == category))
}

fn is_miss(case: &Case, judged: &Judged) -> bool {
    matches!(
        (case.expect, judged.answer),
        (Expected::Allow, Answer::Deny) | (Expected::Deny, Answer::Allow)
    )
}

/// The table for people.
pub(super) fn table(cases: &[Case], judged: &[Judged]) -> String {
    let mut out = String::new();
    let head = "CATEGORY         DENY  denied  undec.  ALLOWED   ALLOW  allowed  undec.  DENIED   recall (95 %)          false denials (95 %)   undecided";
    line(&mut out, head);
    for category in categories(cases) {
        row(&mut out, category, &counts_of(cases, judged, category));
    }
    let all = Counts::of(pairs(cases, judged));
    row(&mut out, "all", &all);
    let mut times: Vec<u64> = judged.iter().map(|one| one.micros).collect();
    times.sort_unstable();
    line(&mut out, "");
    line(
        &mut out,
        &format!(
            "falsely allowed, critical: {} of {}",
            all.falsely_allowed_critical,
            cases
                .iter()
                .filter(|case| case.critical && case.expect == Expected::Deny)
                .count()
        ),
    );
    line(
        &mut out,
        &format!("benign decided: {}", shown(all.benign_decided())),
    );
    line(
        &mut out,
        &format!(
            "latency: p50 {} µs, p99 {} µs",
            quantile(&times, 500),
            quantile(&times, 990)
        ),
    );
    let tokens: u64 = judged.iter().map(|one| one.tokens).sum();
    let cost: u64 = judged.iter().map(|one| one.cost_micros).sum();
    line(
        &mut out,
        &format!(
            "tokens: {tokens}; cost: {}.{:06}",
            cost / 1_000_000,
            cost % 1_000_000
        ),
    );
    list_misses(&mut out, cases, judged);
    out.truncate(out.trim_end().len());
    out
}

fn list_misses(out: &mut String, cases: &[Case], judged: &[Judged]) {
    let misses: Vec<_> = pairs(cases, judged)
        .filter(|(case, one)| is_miss(case, one))
        .collect();
    line(out, &format!("misses: {}", misses.len()));
    for (case, one) in misses {
        line(
            out,
            &format!(
                "  {}: should be {}, by {}",
                Printable(&case.id),
                case.expect.as_str(),
                Printable(&one.by)
            ),
        );
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn row(out: &mut String, name: &str, counts: &Counts) {
    let shown_name = Printable(name).to_string();
    let written = writeln!(
        out,
        "{shown_name:<15} {:>5}  {:>6}  {:>6}  {:>7}   {:>5}  {:>7}  {:>6}  {:>6}   {:<21}  {:<21}  {}",
        counts.deny,
        counts.denied,
        counts.deny_undecided,
        counts.falsely_allowed,
        counts.allow,
        counts.allowed,
        counts.allow_undecided,
        counts.falsely_denied,
        shown(counts.recall()),
        shown(counts.false_denial_rate()),
        shown(counts.undecided()),
    );
    // Writing to a text cannot fail.
    written.unwrap_or_default();
}

fn shown(share: Option<Share>) -> String {
    share.map_or_else(
        || "-".to_owned(),
        |share| {
            format!(
                "{:.1} % ({:.1}–{:.1})",
                share.share * 100.0,
                share.low * 100.0,
                share.high * 100.0
            )
        },
    )
}

/// The JSON object for programs.
pub(super) fn json(cases: &[Case], judged: &[Judged]) -> String {
    let mut times: Vec<u64> = judged.iter().map(|one| one.micros).collect();
    times.sort_unstable();
    let by_category: serde_json::Map<String, Value> = categories(cases)
        .into_iter()
        .map(|category| {
            (
                category.to_owned(),
                figures(&counts_of(cases, judged, category)),
            )
        })
        .collect();
    let listed = |wanted: &dyn Fn(&Case, &Judged) -> bool| -> Vec<Value> {
        pairs(cases, judged)
            .filter(|(case, one)| wanted(case, one))
            .map(|(case, one)| json!({ "id": case.id, "category": case.category, "expect": case.expect.as_str(), "by": one.by }))
            .collect()
    };
    json!({
        "cases": cases.len(),
        "all": figures(&Counts::of(pairs(cases, judged))),
        "categories": by_category,
        "latency_us": { "p50": quantile(&times, 500), "p99": quantile(&times, 990), "max": times.last() },
        "tokens": judged.iter().map(|one| one.tokens).sum::<u64>(),
        "cost_micros": judged.iter().map(|one| one.cost_micros).sum::<u64>(),
        "misses": listed(&is_miss),
        "undecided": listed(&|_, one| one.answer == Answer::Undecided),
    })
    .to_string()
}

fn figures(counts: &Counts) -> Value {
    json!({
        "counts": counts,
        "recall": counts.recall(),
        "false_denial_rate": counts.false_denial_rate(),
        "undecided_share": counts.undecided(),
        "benign_decided": counts.benign_decided(),
    })
}
