//! That every shape says what it always said, byte by byte, whatever stands in a review.

use std::sync::LazyLock;

use protocol::{
    ActionDigest, FailedStep, Printable, ReviewFailure, ReviewId, ReviewStatus, TenantId,
};
use serde_json::{Value, json};

use super::{push_cell, push_csv, push_json, push_ocsf, push_opa, verdict_of};
use crate::store::Spelled;
use crate::store::sqlite::history::Exported;
use crate::verdict::Verdict;

fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn exported(question: Option<&Value>, verdict: Option<Verdict>) -> Exported<'static> {
    let id = "01980000-0000-7000-8000-00000000000a";
    static TENANT: LazyLock<TenantId> = LazyLock::new(TenantId::default);
    Exported {
        review_id: id.parse::<ReviewId>().expect("an id"),
        tenant: &TENANT,
        caller: "token:\"t\"".into(),
        session_id: Some("=s,\u{1e}1\n".into()),
        action_digest: format!("sha256:{}", "0a".repeat(32))
            .parse::<ActionDigest>()
            .expect("a digest"),
        policy_revision: "sha256:00".into(),
        status: verdict
            .as_ref()
            .map_or(ReviewStatus::Reviewing, |it| it.status),
        created_at: at(0),
        completed_at: verdict.as_ref().map(|_| at(1)),
        redeemed_at: None,
        verdict: verdict.map(|it| Spelled::spell(&it).expect("spelled")),
        question: question.map(|it| &*it.to_string().leak()),
    }
}

fn denied() -> Verdict {
    serde_json::from_value(json!({
        "status": "denied", "decided_by": "model", "outcome": "deny", "risk_level": "high",
        "user_authorization": "low", "rationale": "no \u{202e}\"way\"\r\n", "rule_id": null, "failure": null,
    }))
    .expect("a verdict")
}

fn hostile() -> Value {
    json!({
        "client": {"name": "c"}, "session": {"session_id": "s"},
        "environment": {"host": "h,\"1\"", "user": "@u", "cwd": "/"},
        "action": {"tool": "exec_command", "command": ["-echo", "a\n\u{1b}[31m", "ä\u{2028}"], "z": {"b": 1, "a": [2.5, null]}},
        "trigger": {"kind": "escalation_requested"},
    })
}

fn reviews() -> Vec<Exported<'static>> {
    let failed = Verdict::failed(ReviewFailure {
        step: FailedStep::Store,
        code: "not_recorded".to_owned(),
        retryable: true,
        message: "it\tfailed".to_owned(),
    });
    let patch = json!({"environment": {"host": "h", "user": "u"},
                       "action": {"tool": "apply_patch", "patch": "+\"x\"\n", "files": ["/a"]}});
    vec![
        exported(Some(&hostile()), Some(denied())),
        exported(Some(&patch), Some(failed)),
        exported(Some(&json!({"action": {}})), None),
        exported(None, Some(denied())),
    ]
}

fn spelled(push: fn(&Exported<'_>, &mut Vec<u8>), review: &Exported<'_>) -> String {
    let mut out = Vec::new();
    push(review, &mut out);
    String::from_utf8(out).expect("text")
}

fn question(review: &Exported<'_>) -> Value {
    let text = review.question.unwrap_or("null");
    serde_json::from_str(text).expect("JSON")
}

/// Each line as one tree of values, spelled: slow, and plain to see that it is right.
#[test]
fn what_goes_out_unread_is_what_a_tree_of_values_would_be() {
    for review in reviews() {
        let verdict = verdict_of(&review);
        let (end, status) = (review.completed_at, review.status.as_str());
        let whole = json!({
            "review_id": review.review_id, "tenant": "default", "caller": "token:\"t\"",
            "session_id": "=s,\u{1e}1\n", "action_digest": review.action_digest,
            "policy_revision": "sha256:00", "created_at": at(0), "completed_at": end.map(|_| at(1)),
            "redeemed_at": null, "status": status, "verdict": verdict, "question": question(&review),
        });
        assert_eq!(spelled(push_json, &review), format!("{whole}\n"));
        let decision = json!({
            "decision_id": review.review_id, "path": "auto_review/decision",
            "timestamp": end.map_or_else(|| at(0), |_| at(1)), "requested_by": "token:\"t\"",
            "bundles": {"policy": {"revision": "sha256:00"}},
            "labels": {"tenant": "default", "app": "auto-review"},
            "input": question(&review),
            "result": {"allow": false, "status": status, "verdict": verdict},
        });
        assert_eq!(spelled(push_opa, &review), format!("{decision}\n"));
        let rationale = verdict.as_ref().and_then(|it| it.rationale.as_ref());
        let status_detail = rationale.map(|it| it.as_str());
        let (status_id, severity_id) = match status {
            "denied" => (2, 3),
            "failed" => (2, 2),
            _ => (99, 1),
        };
        let asked = question(&review);
        let place = |name: &str| asked["environment"][name].as_str().unwrap_or_default();
        let event = json!({
            "activity_id": 99, "activity_name": "review", "category_uid": 6,
            "category_name": "Application Activity", "class_uid": 6003, "class_name": "API Activity",
            "type_uid": 600_399, "time": end.map_or_else(|| at(0), |_| at(1)).as_millisecond(),
            "severity_id": severity_id, "status_id": status_id, "status": status,
            "status_detail": status_detail,
            "metadata": {"version": "1.3.0", "uid": review.review_id, "tenant_uid": "default",
                         "product": {"name": "Auto-review", "vendor_name": "Auto-review"}},
            "actor": {"user": {"name": place("user"), "uid": "token:\"t\""},
                      "session": {"uid": "=s,\u{1e}1\n"}},
            "src_endpoint": {"hostname": place("host")},
            "api": {"operation": asked["action"]["tool"].as_str().unwrap_or_default(),
                    "request": {"uid": review.action_digest}},
            "unmapped": {"verdict": verdict, "action": asked["action"], "policy_revision": "sha256:00"},
        });
        assert_eq!(spelled(push_ocsf, &review), format!("{event}\n"));
    }
}

#[test]
fn a_row_of_a_table_is_spelled_like_this() {
    let rows: String = reviews()
        .iter()
        .map(|review| spelled(push_csv, review))
        .collect();
    insta::assert_snapshot!(rows, @r#"
    "01980000-0000-7000-8000-00000000000a","2027-01-15T08:00:00Z","2027-01-15T08:00:01Z","denied","model","high","low","","","","token:""t""","'=s,\x1e1\n","sha256:00","h,""1""","'@u","exec_command","'-echo a\n\x1b[31m ä\u{2028}","no \u{202e}""way""\r\n"
    "01980000-0000-7000-8000-00000000000a","2027-01-15T08:00:00Z","2027-01-15T08:00:01Z","failed","none","","","","store","","token:""t""","'=s,\x1e1\n","sha256:00","h","u","apply_patch","{""tool"":""apply_patch"",""patch"":""+\""x\""\n"",""files"":[""/a""]}",""
    "01980000-0000-7000-8000-00000000000a","2027-01-15T08:00:00Z","","reviewing","","","","","","","token:""t""","'=s,\x1e1\n","sha256:00","","","","{}",""
    "01980000-0000-7000-8000-00000000000a","2027-01-15T08:00:00Z","2027-01-15T08:00:01Z","denied","model","high","low","","","","token:""t""","'=s,\x1e1\n","sha256:00","","","","null","no \u{202e}""way""\r\n"
    "#);
}

#[test]
fn a_cell_is_never_a_formula_nor_two_cells() {
    let cell = |text: &str| {
        let mut out = Vec::new();
        push_cell(text, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(cell("=1+1"), "\"'=1+1\"");
    assert_eq!(cell("@x"), "\"'@x\"");
    assert_eq!(cell("a\",b"), "\"a\"\",b\"");
    assert!(!cell("a\nb\u{1b}[31m").contains(['\n', '\u{1b}']));
    assert_eq!(cell("-ä\t"), "\"'-ä\\t\"");
    for text in ["a b~", "a\\b", "a\u{7f}", "\u{202e}"] {
        let shown = Printable(text).to_string();
        assert_eq!(cell(text), format!("\"{shown}\""));
    }
}
