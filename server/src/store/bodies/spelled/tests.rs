//! That a verdict which is passed on unread is what reading and spelling it would give.

use proptest::prelude::*;
use protocol::{Decision, Denial, FailedStep, ReviewFailure, ReviewStatus};
use serde_json::json;

use super::{Spelled, unread};
use crate::store::Ending;
use crate::store::bodies::{self, verdict};
use crate::verdict::Verdict;

/// What is told of `body` when it is read.
fn slowly(status: ReviewStatus, body: &str) -> Option<String> {
    let verdict = verdict(body).ok()?;
    let follows = verdict.status == status && verdict.event().is_some();
    follows.then(|| serde_json::to_string(&verdict).expect("spelled"))
}

fn told(status: ReviewStatus, body: &str) -> Option<String> {
    let spelled = Spelled::of(status, (status.as_str(), body)).ok()?;
    Some(spelled.as_json().to_owned())
}

fn judged(status: &str, outcome: &str) -> Verdict {
    serde_json::from_value(json!({
        "status": status, "decided_by": "built_in", "outcome": outcome, "risk_level": "low",
        "user_authorization": "unknown", "rationale": "`ls` only looks — at ä.", "rule_id": "built-in/looks",
        "failure": null,
    }))
    .expect("a verdict")
}

fn verdicts() -> Vec<Verdict> {
    let failure = ReviewFailure {
        step: FailedStep::Store,
        code: "not_recorded".to_owned(),
        retryable: true,
        message: "it failed".to_owned(),
    };
    let plain = judged("approved", "allow");
    let with = |rationale: &str| Verdict {
        rationale: Some(rationale.into()),
        ..plain.clone()
    };
    vec![
        plain.clone(),
        judged("denied", "deny"),
        with("a \"quoted\" word"),
        with("two\nlines\u{1b}\\"),
        with(&"long ".repeat(900)),
        with(""),
        Verdict::failed(failure),
        Verdict::of(Decision::TimedOut, None),
        Verdict::of(Decision::Aborted, None),
        Verdict::of(Decision::Denied(Denial::ByPerson("no".to_owned())), None),
        Verdict {
            answered_by: Some("token:b".to_owned()),
            ..plain.clone()
        },
        Verdict {
            lifts: Some(
                "01980000-0000-7000-8000-00000000000a"
                    .parse()
                    .expect("an id"),
            ),
            ..plain
        },
    ]
}

fn body(verdict: Verdict, exhibit: Option<&str>) -> String {
    let at = |seconds: i64| jiff::Timestamp::from_second(1_800_000_000 + seconds).expect("a time");
    bodies::ended(&Ending {
        review_id: "01980000-0000-7000-8000-00000000000b"
            .parse()
            .expect("an id"),
        scope: crate::store::Scope {
            tenant: protocol::TenantId::default(),
            caller: protocol::CallerId::stored("token:a".to_owned()),
        },
        verdict,
        completed_at: at(0),
        expires_at: at(60),
        exhibit: exhibit.map(str::to_owned),
        without_leave: None,
        tally: crate::store::Tally::Counted,
    })
    .expect("a body")
}

#[test]
fn every_kind_of_end_is_told_as_if_it_had_been_read() {
    for verdict in verdicts() {
        for exhibit in [None, Some("{}")] {
            let (status, body) = (verdict.status, body(verdict.clone(), exhibit));
            let told = told(status, &body);
            assert!(told.is_some(), "{body}");
            assert_eq!(told, slowly(status, &body), "{body}");
        }
    }
}

#[test]
fn the_common_ones_are_passed_on_unread_and_what_is_escaped_is_not() {
    let unread = |verdict: Verdict| {
        let body = body(verdict.clone(), Some("{}"));
        unread(verdict.status, &body).is_some()
    };
    let passed: Vec<bool> = verdicts().into_iter().map(unread).collect();
    let expected = [
        true, true, false, false, false, true, false, true, true, true, false, false,
    ];
    assert_eq!(passed, expected);
}

#[test]
fn an_end_that_is_not_the_reviews_own_is_refused() {
    let body = body(judged("denied", "deny"), None);
    assert!(Spelled::of(ReviewStatus::Denied, ("denied", &body)).is_ok());
    for (status, kind) in [
        (ReviewStatus::Approved, "approved"),
        (ReviewStatus::Approved, "denied"),
        (ReviewStatus::Denied, "approved"),
        (ReviewStatus::Reviewing, "reviewing"),
    ] {
        assert!(Spelled::of(status, (kind, &body)).is_err(), "{kind}");
    }
}

#[test]
fn older_and_stranger_spellings_of_a_body_are_read() {
    let whole = body(judged("approved", "allow"), None);
    let stranger = [
        whole.replace(",\"failure\":null", ""),
        whole.replace("\"rule_id\":\"built-in/looks\",", ""),
        whole.replace("{\"status\"", "{ \"status\""),
        whole.replace("\"exhibit\":null", "\"exhibit\":\"AB\""),
        whole.replace("\"expires_at\":1", "\"expires_at\":01"),
        whole.replace("\"allow\"", "\"perhaps\""),
        whole.replace("built_in", "nobody"),
        whole.replace("\"low\"", "\"l\\u006fw\""),
        whole.replace("\"failure\":null", "\"failure\":null,\"more\":1"),
        whole.clone() + " ",
        whole.clone() + "x",
    ];
    for body in stranger {
        assert_ne!(body, whole);
        let status = ReviewStatus::Approved;
        assert!(unread(status, &body).is_none(), "{body}");
        assert_eq!(told(status, &body), slowly(status, &body), "{body}");
    }
}

proptest! {
    #[test]
    fn whatever_is_changed_in_a_body_both_ways_agree(
        which in 0..12_usize, place in 0..400_usize, what in "\\PC|[\\x00-\\x1f\"\\\\{}:,0-9a-f]", rationale in "\\PC{0,40}"
    ) {
        let mut verdict = verdicts().swap_remove(which);
        verdict.rationale = Some(rationale.as_str().into());
        let status = verdict.status;
        let whole = body(verdict, Some("{}"));
        prop_assert_eq!(told(status, &whole), slowly(status, &whole));
        let mut letters: Vec<char> = whole.chars().collect();
        let place = place % letters.len();
        letters.splice(place..=place, what.chars());
        let changed: String = letters.into_iter().collect();
        prop_assert_eq!(told(status, &changed), slowly(status, &changed));
    }
}
