//! Reviews as lines for other programs: JSON lines, CSV, and the shapes of two other logs.
//!
//! Apart and pure but for the pages it is fed. Invariants: one review, one line, however hostile its text; a cell of a
//! table never begins like a formula (D27); memory does not grow with the number of lines.

use jiff::Timestamp;
use protocol::{ActionDigest, Printable, ReviewId, ReviewStatus, TenantId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::store::search::Search;
use crate::store::sqlite::history::Exported;
use crate::store::{Sight, SqliteStore, StoreError};
use crate::verdict::Verdict;

/// How many reviews are read at a time.
pub(crate) const PAGE: u32 = 500;
/// After how many lines the next page's reading gets its turn.
const TURN: usize = 32;

/// Spells `page` into `text` while the one after it is read, and returns that one; an empty one is the last.
pub(crate) async fn turn(
    store: &SqliteStore,
    (sight, search): (&Sight, &mut Search),
    (format, page): (Format, &[Exported]),
    text: &mut String,
) -> Result<Vec<Exported>, StoreError> {
    let Some(last) = page.last() else {
        return Ok(Vec::new());
    };
    search.before = Some(last.recorded.review_id);
    let spelling = async {
        for lines in page.chunks(TURN) {
            for review in lines {
                format.push(review, text);
            }
            tokio::task::yield_now().await;
        }
    };
    let (next, ()) = tokio::join!(store.export_page(sight, search), spelling);
    next
}

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line, with all that the history shows.
    JsonLines,
    /// Comma-separated values (RFC 4180) with a heading.
    Csv,
    /// One event a line in the shape of OCSF 1.3 "API Activity" (class 6003).
    Ocsf,
    /// One decision a line in the shape of Open Policy Agent's decision log.
    Opa,
}

impl Format {
    /// Every format by its name.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::JsonLines, "jsonl"),
        (Self::Csv, "csv"),
        (Self::Ocsf, "ocsf"),
        (Self::Opa, "opa"),
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(format, _)| format)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::JsonLines | Self::Ocsf | Self::Opa => "application/jsonl",
        }
    }

    /// What stands before the first line.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Csv => {
                "review_id,created_at,completed_at,status,decided_by,risk_level,user_authorization,rule_id,failed_step,\
                 redeemed_at,caller,session_id,policy_revision,host,user,tool,action,rationale\r\n"
            }
            Self::JsonLines | Self::Ocsf | Self::Opa => "",
        }
    }

    /// Appends the line of `review`.
    pub(crate) fn push(self, review: &Exported, out: &mut String) {
        match self {
            Self::JsonLines => push_json(review, out),
            Self::Csv => push_csv(review, out),
            Self::Ocsf => push_value(&ocsf(review), out),
            Self::Opa => push_value(&opa(review), out),
        }
    }
}

fn push_value(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
    out.push('\n');
}

/// A line but for its question: in the order in which it is spelled.
#[derive(Serialize)]
struct Line<'a> {
    review_id: ReviewId,
    tenant: &'a TenantId,
    caller: &'a str,
    session_id: Option<&'a str>,
    action_digest: ActionDigest,
    policy_revision: &'a str,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
    redeemed_at: Option<Timestamp>,
    status: &'static str,
    verdict: Option<&'a Verdict>,
}

/// The question goes out as it was stored: it is JSON on one line already.
fn push_json(review: &Exported, out: &mut String) {
    let recorded = &review.recorded;
    let end = recorded.end.as_ref();
    let line = Line {
        review_id: recorded.review_id,
        tenant: &recorded.scope.tenant,
        caller: recorded.scope.caller.as_str(),
        session_id: recorded.session_id.as_deref(),
        action_digest: recorded.action_digest,
        policy_revision: &recorded.policy_revision,
        created_at: recorded.created_at,
        completed_at: end.map(|end| end.completed_at),
        redeemed_at: recorded.redeemed_at,
        status: status(review).as_str(),
        verdict: end.map(|end| &end.verdict),
    };
    // Texts, numbers and times: there is nothing in it that JSON cannot spell.
    let head = serde_json::to_string(&line).unwrap_or_default();
    let open = head.strip_suffix('}').unwrap_or("{\"unreadable\":true");
    out.push_str(open);
    out.push_str(",\"question\":");
    let question = review.question.as_deref().filter(|text| !text.is_empty());
    out.push_str(question.unwrap_or("null"));
    out.push_str("}\n");
}

fn status(review: &Exported) -> ReviewStatus {
    let end = review.recorded.end.as_ref();
    end.map_or(ReviewStatus::Reviewing, |end| end.verdict.status)
}

fn question(review: &Exported) -> Value {
    let text = review.question.as_deref().unwrap_or("null");
    serde_json::from_str(text).unwrap_or_default()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn push_csv(review: &Exported, out: &mut String) {
    let recorded = &review.recorded;
    let end = recorded.end.as_ref();
    let verdict = end.map(|end| &end.verdict);
    let question = question(review);
    let action = question.get("action").cloned().unwrap_or_default();
    let words = match action.get("command").and_then(Value::as_array) {
        Some(words) => words
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" "),
        None => action.to_string(),
    };
    let cells = [
        recorded.review_id.to_string(),
        recorded.created_at.to_string(),
        end.map(|end| end.completed_at.to_string())
            .unwrap_or_default(),
        status(review).as_str().to_owned(),
        verdict
            .map(|it| it.decided_by.as_str().to_owned())
            .unwrap_or_default(),
        verdict
            .and_then(|it| it.risk_level)
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
        verdict
            .and_then(|it| it.user_authorization)
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
        verdict
            .and_then(|it| it.rule_id.as_ref())
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
        verdict
            .and_then(|it| it.failure.as_ref())
            .map(|it| it.step.as_str().to_owned())
            .unwrap_or_default(),
        recorded
            .redeemed_at
            .map(|at| at.to_string())
            .unwrap_or_default(),
        recorded.scope.caller.as_str().to_owned(),
        recorded.session_id.clone().unwrap_or_default(),
        recorded.policy_revision.clone(),
        text(&question, "/environment/host").to_owned(),
        text(&question, "/environment/user").to_owned(),
        text(&action, "/tool").to_owned(),
        words,
        verdict
            .and_then(|it| it.rationale.as_ref())
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
    ];
    for (index, cell) in cells.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        push_cell(cell, out);
    }
    out.push_str("\r\n");
}

/// A cell, quoted. What a table program would take for a formula gets a quotation mark before it.
fn push_cell(cell: &str, out: &mut String) {
    let shown = Printable(cell).to_string();
    out.push('"');
    if shown.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        out.push('\'');
    }
    out.push_str(&shown.replace('"', "\"\""));
    out.push('"');
}

/// OCSF 1.3, class 6003 "API Activity": category 6, activity 99 "Other".
fn ocsf(review: &Exported) -> Value {
    let recorded = &review.recorded;
    let question = question(review);
    let end = recorded.end.as_ref();
    let status = status(review);
    let (status_id, severity_id) = match status {
        ReviewStatus::Approved => (1, 1),
        ReviewStatus::Denied => (2, 3),
        ReviewStatus::TimedOut | ReviewStatus::Failed => (2, 2),
        ReviewStatus::Aborted | ReviewStatus::Reviewing => (99, 1),
    };
    let user = text(&question, "/environment/user");
    json!({
        "activity_id": 99,
        "activity_name": "review",
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "type_uid": 600_399,
        "time": end.map_or(recorded.created_at, |end| end.completed_at).as_millisecond(),
        "severity_id": severity_id,
        "status_id": status_id,
        "status": status.as_str(),
        "status_detail": end.and_then(|end| end.verdict.rationale.as_ref()).map(|it| it.as_str()),
        "metadata": {
            "version": "1.3.0",
            "uid": recorded.review_id,
            "tenant_uid": recorded.scope.tenant,
            "product": {"name": "Auto-review", "vendor_name": "Auto-review"},
        },
        "actor": {"user": {"name": user, "uid": recorded.scope.caller.as_str()},
                  "session": {"uid": recorded.session_id}},
        "src_endpoint": {"hostname": text(&question, "/environment/host")},
        "api": {"operation": text(&question, "/action/tool"),
                "request": {"uid": recorded.action_digest.to_string()}},
        "unmapped": {"verdict": end.map(|end| &end.verdict), "action": question.get("action"),
                     "policy_revision": recorded.policy_revision},
    })
}

/// The shape of a decision log of Open Policy Agent.
fn opa(review: &Exported) -> Value {
    let recorded = &review.recorded;
    let end = recorded.end.as_ref();
    json!({
        "decision_id": recorded.review_id,
        "path": "auto_review/decision",
        "timestamp": end.map_or(recorded.created_at, |end| end.completed_at),
        "requested_by": recorded.scope.caller.as_str(),
        "bundles": {"policy": {"revision": recorded.policy_revision}},
        "labels": {"tenant": recorded.scope.tenant, "app": "auto-review"},
        "input": question(review),
        "result": {
            "allow": status(review) == ReviewStatus::Approved,
            "status": status(review).as_str(),
            "verdict": end.map(|end| &end.verdict),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::push_cell;

    #[test]
    fn a_cell_is_never_a_formula_nor_two_cells() {
        let cell = |text| {
            let mut out = String::new();
            push_cell(text, &mut out);
            out
        };
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("@x"), "\"'@x\"");
        assert_eq!(cell("a\",b"), "\"a\"\",b\"");
        assert!(!cell("a\nb\u{1b}[31m").contains(['\n', '\u{1b}']));
    }
}
