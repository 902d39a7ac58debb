//! One review as a line, in each of the shapes.
//!
//! Apart and pure, because other programs read these lines and nothing else of ours. Invariants: one review, one line,
//! however hostile its text; a cell of a table never begins like a formula (D27); what is JSON in the record goes out as
//! it stands there, without being read.

use std::borrow::Cow;
use std::io::Write as _;

use jiff::Timestamp;
use protocol::{ActionDigest, Printable, ReviewId, ReviewStatus, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::Spelled;
use crate::store::sqlite::history::Exported;
use crate::verdict::Verdict;

/// What has only texts, numbers and times in it: there is nothing that JSON cannot spell, and memory takes all of it.
fn push_value(value: &impl Serialize, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.extend_from_slice(b"{\"unreadable\":true}");
    }
}

/// The question as it was stored: it is JSON on one line already.
fn push_question(review: &Exported<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(review.question.unwrap_or("null").as_bytes());
}

/// The verdict as it was stored.
fn push_verdict(review: &Exported<'_>, out: &mut Vec<u8>) {
    let verdict = review.verdict.as_ref();
    out.extend_from_slice(verdict.map_or("null", Spelled::as_json).as_bytes());
}

/// Opens the object `value` again, which was spelled last, for one more field.
fn push_open(value: &impl Serialize, out: &mut Vec<u8>) {
    push_value(value, out);
    out.pop();
}

/// A line but for its verdict and its question: in the order in which it is spelled.
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
}

pub(super) fn push_json(review: &Exported<'_>, out: &mut Vec<u8>) {
    let line = Line {
        review_id: review.review_id,
        tenant: review.tenant,
        caller: &review.caller,
        session_id: review.session_id.as_deref(),
        action_digest: review.action_digest,
        policy_revision: &review.policy_revision,
        created_at: review.created_at,
        completed_at: review.completed_at,
        redeemed_at: review.redeemed_at,
        status: review.status.as_str(),
    };
    push_open(&line, out);
    out.extend_from_slice(b",\"verdict\":");
    push_verdict(review, out);
    out.extend_from_slice(b",\"question\":");
    push_question(review, out);
    out.extend_from_slice(b"}\n");
}

/// The verdict, for those who show parts of it.
fn verdict_of(review: &Exported<'_>) -> Option<Verdict> {
    review.verdict.as_ref().and_then(Spelled::read)
}

/// What a table shows of a question.
#[derive(Debug, Default, Deserialize)]
struct Shown<'a> {
    #[serde(borrow, default)]
    environment: Where<'a>,
    #[serde(default)]
    action: Value,
}

#[derive(Debug, Default, Deserialize)]
struct Where<'a> {
    #[serde(borrow, default)]
    host: Cow<'a, str>,
    #[serde(borrow, default)]
    user: Cow<'a, str>,
}

impl<'a> Shown<'a> {
    fn of(review: &Exported<'a>) -> Self {
        let text = review.question.unwrap_or("null");
        serde_json::from_str(text).unwrap_or_default()
    }

    fn tool(&self) -> &str {
        let tool = self.action.get("tool").and_then(Value::as_str);
        tool.unwrap_or_default()
    }

    /// A command's words, or the action as it was stored.
    fn words(&self) -> String {
        match self.action.get("command").and_then(Value::as_array) {
            Some(words) => words
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" "),
            None => self.action.to_string(),
        }
    }
}

/// A row of a table, cell by cell.
struct Row<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl Row<'_> {
    fn text(&mut self, cell: &str) {
        if self.begun {
            self.out.push(b',');
        }
        self.begun = true;
        push_cell(cell, self.out);
    }

    fn some(&mut self, cell: Option<&str>) {
        self.text(cell.unwrap_or_default());
    }

    fn time(&mut self, at: Option<Timestamp>) {
        let cell = at.map(|at| at.to_string());
        self.some(cell.as_deref());
    }
}

pub(super) fn push_csv(review: &Exported<'_>, out: &mut Vec<u8>) {
    let verdict = verdict_of(review);
    let verdict = verdict.as_ref();
    let question = Shown::of(review);
    let mut row = Row { out, begun: false };
    row.text(&review.review_id.to_string());
    row.time(Some(review.created_at));
    row.time(review.completed_at);
    row.text(review.status.as_str());
    row.some(verdict.map(|it| it.decided_by.as_str()));
    row.some(verdict.and_then(|it| it.risk_level).map(|it| it.as_str()));
    let authorization = verdict.and_then(|it| it.user_authorization);
    row.some(authorization.map(|it| it.as_str()));
    row.some(verdict.and_then(|it| it.rule_id.as_ref().map(|it| it.as_str())));
    row.some(verdict.and_then(|it| it.failure.as_ref().map(|it| it.step.as_str())));
    row.time(review.redeemed_at);
    row.text(&review.caller);
    row.some(review.session_id.as_deref());
    row.text(&review.policy_revision);
    row.text(&question.environment.host);
    row.text(&question.environment.user);
    row.text(question.tool());
    row.text(&question.words());
    row.some(verdict.and_then(|it| it.rationale.as_ref().map(|it| it.as_str())));
    out.extend_from_slice(b"\r\n");
}

/// A cell, quoted. What a table program would take for a formula gets a quotation mark before it.
fn push_cell(cell: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if cell.starts_with(['=', '+', '-', '@']) {
        out.push(b'\'');
    }
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"';
    if cell.bytes().all(plain) {
        out.extend_from_slice(cell.as_bytes());
    } else {
        // A vector takes all that is written to it.
        write!(out, "{}", Printable(cell).to_string().replace('"', "\"\"")).unwrap_or_default();
    }
    out.push(b'"');
}

/// OCSF 1.3, class 6003 "API Activity": category 6, activity 99 "Other".
pub(super) fn push_ocsf(review: &Exported<'_>, out: &mut Vec<u8>) {
    let question = Shown::of(review);
    let verdict = verdict_of(review);
    let verdict = verdict.as_ref();
    let status = review.status;
    let (status_id, severity_id) = graded(status);
    let event = Event {
        activity_id: 99,
        activity_name: "review",
        category_uid: 6,
        category_name: "Application Activity",
        class_uid: 6003,
        class_name: "API Activity",
        type_uid: 600_399,
        time: review
            .completed_at
            .unwrap_or(review.created_at)
            .as_millisecond(),
        severity_id,
        status_id,
        status: status.as_str(),
        status_detail: verdict
            .and_then(|it| it.rationale.as_ref())
            .map(|it| it.as_str()),
        metadata: Metadata {
            version: "1.3.0",
            uid: review.review_id,
            tenant_uid: review.tenant,
            product: Product {
                name: "Auto-review",
                vendor_name: "Auto-review",
            },
        },
        actor: Actor {
            user: Named {
                name: &question.environment.user,
                uid: &review.caller,
            },
            session: Known {
                uid: review.session_id.as_deref(),
            },
        },
        src_endpoint: Endpoint {
            hostname: &question.environment.host,
        },
        api: Api {
            operation: question.tool(),
            request: Known {
                uid: review.action_digest.to_string(),
            },
        },
        unmapped: Unmapped {
            verdict,
            action: &question.action,
            policy_revision: &review.policy_revision,
        },
    };
    push_value(&event, out);
    out.push(b'\n');
}

/// Status (1 success, 2 failure, 99 other) and severity (1 informational, 2 low, 3 medium) in OCSF's numbers.
fn graded(status: ReviewStatus) -> (u8, u8) {
    match status {
        ReviewStatus::Approved => (1, 1),
        ReviewStatus::Denied => (2, 3),
        ReviewStatus::TimedOut | ReviewStatus::Failed => (2, 2),
        ReviewStatus::Aborted | ReviewStatus::Reviewing => (99, 1),
    }
}

/// An event of OCSF, in the order in which it is spelled.
#[derive(Serialize)]
struct Event<'a> {
    activity_id: u8,
    activity_name: &'static str,
    category_uid: u8,
    category_name: &'static str,
    class_uid: u16,
    class_name: &'static str,
    type_uid: u32,
    time: i64,
    severity_id: u8,
    status_id: u8,
    status: &'static str,
    status_detail: Option<&'a str>,
    metadata: Metadata<'a>,
    actor: Actor<'a>,
    src_endpoint: Endpoint<'a>,
    api: Api<'a>,
    unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    version: &'static str,
    uid: ReviewId,
    tenant_uid: &'a TenantId,
    product: Product,
}

#[derive(Serialize)]
struct Product {
    name: &'static str,
    vendor_name: &'static str,
}

#[derive(Serialize)]
struct Actor<'a> {
    user: Named<'a>,
    session: Known<Option<&'a str>>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
struct Known<T> {
    uid: T,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    hostname: &'a str,
}

#[derive(Serialize)]
struct Api<'a> {
    operation: &'a str,
    request: Known<String>,
}

#[derive(Serialize)]
struct Unmapped<'a> {
    verdict: Option<&'a Verdict>,
    action: &'a Value,
    policy_revision: &'a str,
}

/// A decision of Open Policy Agent but for its input and its result: in the order in which it is spelled.
#[derive(Serialize)]
struct Decided<'a> {
    decision_id: ReviewId,
    path: &'static str,
    timestamp: Timestamp,
    requested_by: &'a str,
    bundles: Bundles<'a>,
    labels: Labels<'a>,
}

#[derive(Serialize)]
struct Bundles<'a> {
    policy: Revision<'a>,
}

#[derive(Serialize)]
struct Revision<'a> {
    revision: &'a str,
}

#[derive(Serialize)]
struct Labels<'a> {
    tenant: &'a TenantId,
    app: &'static str,
}

#[derive(Serialize)]
struct Outcome {
    allow: bool,
    status: &'static str,
}

/// The shape of a decision log of Open Policy Agent.
pub(super) fn push_opa(review: &Exported<'_>, out: &mut Vec<u8>) {
    let decided = Decided {
        decision_id: review.review_id,
        path: "auto_review/decision",
        timestamp: review.completed_at.unwrap_or(review.created_at),
        requested_by: &review.caller,
        bundles: Bundles {
            policy: Revision {
                revision: &review.policy_revision,
            },
        },
        labels: Labels {
            tenant: review.tenant,
            app: "auto-review",
        },
    };
    push_open(&decided, out);
    out.extend_from_slice(b",\"input\":");
    push_question(review, out);
    out.extend_from_slice(b",\"result\":");
    let outcome = Outcome {
        allow: review.status == ReviewStatus::Approved,
        status: review.status.as_str(),
    };
    push_open(&outcome, out);
    out.extend_from_slice(b",\"verdict\":");
    push_verdict(review, out);
    out.extend_from_slice(b"}}\n");
}

#[cfg(test)]
mod tests;
