//! The built-in reviewer on a fixture of commands, through the crate's own door.
//!
//! Each line of `commands.jsonl` names what the verdict must be: `allow`, `deny`, `not-allow`, `not-deny`, or
//! `floor:LEVEL` for an undecided verdict with exactly that floor.

#![expect(
    clippy::expect_used,
    reason = "a test whose fixture is broken has to end"
)]

mod common;

use common::{command, escalation};
use protocol::RiskLevel;
use reviewer::{BuiltIn, RULES, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    expect: String,
    command: Vec<String>,
}

fn cases() -> Vec<Case> {
    include_str!("commands.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect()
}

fn verdict(words: &[String]) -> Verdict {
    BuiltIn::new().judge(&escalation(command(words)))
}

fn meets(expect: &str, verdict: &Verdict) -> bool {
    match (expect, verdict) {
        ("allow", Verdict::Allow { .. }) | ("deny", Verdict::Deny { .. }) => true,
        ("not-allow", verdict) => !matches!(verdict, Verdict::Allow { .. }),
        ("not-deny", verdict) => !matches!(verdict, Verdict::Deny { .. }),
        (expect, Verdict::Undecided { floor, .. }) => {
            expect.strip_prefix("floor:") == Some(floor.as_str())
        }
        _ => false,
    }
}

#[test]
fn every_command_of_the_fixture_gets_its_verdict() {
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let verdict = verdict(&case.command);
            (!meets(&case.expect, &verdict))
                .then(|| format!("{}: {:?} is {verdict:?}", case.expect, case.command))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn wrapping_a_command_never_makes_its_verdict_milder() {
    let wrappers: [fn(&str) -> String; 12] = [
        |text| format!("bash -c {}", quoted(text)),
        |text| format!("sh -ec {}", quoted(text)),
        |text| format!("env bash -c {}", quoted(text)),
        |text| format!("timeout 5 bash -c {}", quoted(text)),
        |text| format!("({text}\n)"),
        |text| format!("{{ {text}\n}}"),
        |text| format!("if true; then {text}\nfi"),
        |text| format!("true && {text}"),
        |text| format!("{text}\ntrue"),
        |text| format!("x() {{ {text}\n}}; x"),
        |text| format!("eval {}", quoted(text)),
        |text| format!("for i in 1; do {text}\ndone"),
    ];
    let mut wrong = Vec::new();
    for case in cases() {
        let [shell, flag, text] = case.command.as_slice() else {
            continue;
        };
        if shell != "bash" || flag != "-lc" {
            continue;
        }
        let bare = verdict(&case.command);
        for wrap in wrappers {
            let wrapped = wrap(text);
            let judged = verdict(&["bash".to_owned(), "-lc".to_owned(), wrapped.clone()]);
            if gravity(&judged) < gravity(&bare) {
                wrong.push(format!("{wrapped:?}: {bare:?} became {judged:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// How much stands against an allow. A text that can no longer be read loses its denial to a floor: that is not milder
/// as long as nobody without a model may let it pass, so those two count alike.
fn gravity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Allow { .. } => 0,
        Verdict::Undecided {
            floor: RiskLevel::High | RiskLevel::Critical,
            ..
        }
        | Verdict::Deny { .. } => 2,
        Verdict::Undecided { .. } => 1,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn every_rule_is_documented_and_every_documented_rule_exists() {
    let documented: Vec<&str> = include_str!("../../docs/built-in-rules.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `built-in/"))
        .filter_map(|line| line.split('`').next())
        .collect();
    let rules: Vec<&str> = RULES.iter().map(|rule| rule.name()).collect();
    assert_eq!(documented, rules);
}

#[test]
fn the_documented_floor_and_answer_of_each_rule_are_the_codes() {
    let text = include_str!("../../docs/built-in-rules.md");
    for rule in RULES {
        let answer = match (rule.denies(), rule.allows()) {
            (true, _) => "denied",
            (_, true) => "allowed",
            _ => "undecided",
        };
        let row = format!("| `{}` | {answer} | {} |", rule.id(), rule.floor());
        assert!(text.contains(&row), "no row {row}");
        assert!(
            !rule.denies() || rule.floor() >= RiskLevel::High,
            "{}",
            rule.id()
        );
        assert!(
            !rule.allows() || rule.is_by_words() || rule.floor() == RiskLevel::Low,
            "{}",
            rule.id()
        );
    }
}
