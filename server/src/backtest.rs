//! What other rules would have said about reviews that are on record.
//!
//! Apart and pure, because the record is the store's and the judging is the reviewer's. Invariants: no model and no
//! person is asked, and nothing is recorded; what cannot be read back whole is counted as skipped, never as unchanged.

use protocol::{DecidedBy, Escalation, ReviewId, ReviewStatus, SubmitReview};
use reviewer::Reviewer;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::store::Recorded;
use crate::verdict::Verdict;

/// A review with what was sent, as it was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) recorded: Recorded,
    pub(crate) question: Option<String>,
    pub(crate) context: Option<String>,
}

/// What rules say about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
    /// A model or a person has to be asked.
    Ask,
}

impl Said {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

/// A review that would have gone another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Flip {
    pub(crate) review_id: ReviewId,
    /// How it ended.
    pub(crate) status: ReviewStatus,
    pub(crate) decided_by: DecidedBy,
    /// What the other rules say.
    pub(crate) says: Said,
    /// Which rule says so, where one does.
    pub(crate) rule: Option<String>,
    pub(crate) action: Value,
}

/// What came of all of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Backtest {
    /// How many were judged again.
    pub(crate) reviews: u64,
    /// How many were not: open, erased, or not to be read back.
    pub(crate) skipped: u64,
    /// Of those judged: what the other rules say.
    pub(crate) allow: u64,
    pub(crate) deny: u64,
    pub(crate) ask: u64,
    /// How many would have gone another way; the first of them follow.
    pub(crate) flipped: u64,
    pub(crate) flips: Vec<Flip>,
}

/// Judges again.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) reviewer: &'a Reviewer,
    pub(crate) speaks_for_user: &'a std::collections::BTreeSet<String>,
    /// How many flips are listed.
    pub(crate) listed: usize,
}

impl Judge<'_> {
    /// Adds one review to `so_far`.
    pub(crate) fn add(&self, stored: &Stored, so_far: &mut Backtest) {
        let (Some(end), Some((escalation, action))) = (&stored.recorded.end, self.read(stored))
        else {
            so_far.skipped += 1;
            return;
        };
        so_far.reviews += 1;
        let (says, rule) = self.judge(&escalation);
        match says {
            Said::Allow => so_far.allow += 1,
            Said::Deny => so_far.deny += 1,
            Said::Ask => so_far.ask += 1,
        }
        if !flips(&end.verdict, says) {
            return;
        }
        so_far.flipped += 1;
        if so_far.flips.len() < self.listed {
            so_far.flips.push(Flip {
                review_id: stored.recorded.review_id,
                status: end.verdict.status,
                decided_by: end.verdict.decided_by,
                says,
                rule,
                action,
            });
        }
    }

    fn judge(&self, escalation: &Escalation) -> (Said, Option<String>) {
        // Rules take no time that matters: the deadline only has to lie ahead.
        let deadline = Instant::now() + self.reviewer.time_limit();
        let Some(reviewed) = self.reviewer.review_at_once(escalation, deadline) else {
            return (Said::Ask, None);
        };
        let verdict = Verdict::of(reviewed.decision, None);
        let rule = verdict.rule_id.map(|rule| rule.as_str().to_owned());
        let says = match verdict.status {
            ReviewStatus::Approved => Said::Allow,
            ReviewStatus::Denied => Said::Deny,
            ReviewStatus::Reviewing
            | ReviewStatus::TimedOut
            | ReviewStatus::Aborted
            | ReviewStatus::Failed => Said::Ask,
        };
        (says, rule)
    }

    /// The question as it was put, and its action.
    fn read(&self, stored: &Stored) -> Option<(Escalation, Value)> {
        let object = |text: &Option<String>| -> Option<Map<String, Value>> {
            serde_json::from_str(text.as_deref().filter(|text| !text.is_empty())?).ok()
        };
        let mut body = object(&stored.question)?;
        body.extend(object(&stored.context)?);
        body.insert("version".to_owned(), Value::from(1));
        let digest = stored.recorded.action_digest.to_string();
        body.insert("action_digest".to_owned(), Value::from(digest));
        let action = body.get("action").cloned()?;
        let body: SubmitReview = serde_json::from_value(Value::Object(body)).ok()?;
        let nonce = stored.recorded.nonce.clone();
        let escalation = Escalation::from_submission(nonce, body, |channel| {
            self.speaks_for_user.contains(channel)
        });
        Some((escalation.ok()?, action))
    }
}

/// Whether a review that ended in `verdict` would have gone another way. What a model or a person decided is theirs still
/// where the rules do not decide; what never came off has nothing to flip from.
fn flips(verdict: &Verdict, says: Said) -> bool {
    let by_rules = matches!(verdict.decided_by, DecidedBy::BuiltIn | DecidedBy::Rule);
    match (verdict.status, says) {
        (ReviewStatus::Approved, Said::Deny) | (ReviewStatus::Denied, Said::Allow) => true,
        (ReviewStatus::Approved | ReviewStatus::Denied, Said::Ask) => by_rules,
        (ReviewStatus::Approved, Said::Allow) | (ReviewStatus::Denied, Said::Deny) => false,
        (
            ReviewStatus::Reviewing
            | ReviewStatus::TimedOut
            | ReviewStatus::Aborted
            | ReviewStatus::Failed,
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{ActionDigest, Decision, Denial, FailedStep, Grant, ReviewFailure, RuleId};

    use super::{Said, flips};
    use crate::verdict::Verdict;

    #[test]
    fn every_pair_of_end_and_new_word_has_the_answer_of_this_table() {
        let digest: ActionDigest = format!("sha256:{}", "0".repeat(64)).parse().expect("one");
        let failure = ReviewFailure {
            step: FailedStep::Model,
            code: "c".to_owned(),
            retryable: true,
            message: String::new(),
        };
        let ends = [
            ("person's yes", Decision::Approved(Grant::by_person(digest))),
            (
                "person's no",
                Decision::Denied(Denial::ByPerson("no".to_owned())),
            ),
            (
                "rule's no",
                Decision::Denied(Denial::ByRule(RuleId::new("policy/deny"))),
            ),
            ("failed", Decision::Failed(failure)),
            ("timed out", Decision::TimedOut),
        ];
        let table: String = ends
            .into_iter()
            .map(|(name, decision)| {
                let verdict = Verdict::of(decision, None);
                let said = [Said::Allow, Said::Deny, Said::Ask];
                let flips = said.map(|says| if flips(&verdict, says) { "flip" } else { "-" });
                format!("{name}: {}\n", flips.join(" "))
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        person's yes: - flip -
        person's no: flip - -
        rule's no: flip - flip
        failed: - - -
        timed out: - - -
        ");
    }
}
