//! How a review ended, as it is recorded and told: the flat form of a [`Decision`].
//!
//! Apart, because it is the one thing that store, wire and guidance share. Invariant (P5): only an approval has the
//! outcome `allow`, only a denial `deny`; whatever failed has neither risk nor outcome.

use protocol::{
    DecidedBy, Decision, Denial, HostScope, Judge, Judgement, Outcome, Rationale, ReceiptScope,
    ReviewEvent, ReviewFailure, ReviewId, ReviewStatus, RiskLevel, RuleId, UserAuthorization,
};
use serde::{Deserialize, Serialize};

/// How a review ended. As JSON it is the body of the event that ended it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    pub(crate) status: ReviewStatus,
    pub(crate) decided_by: DecidedBy,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) risk_level: Option<RiskLevel>,
    pub(crate) user_authorization: Option<UserAuthorization>,
    pub(crate) rationale: Option<Rationale>,
    pub(crate) rule_id: Option<RuleId>,
    pub(crate) failure: Option<ReviewFailure>,
    /// The approver who answered, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered_by: Option<String>,
    /// The denied review that a person's leave lifted, where this is the review that it lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifts: Option<ReviewId>,
    /// How long the approver's yes about a host holds.
    #[serde(default, skip_serializing_if = "HostScope::is_once")]
    pub(crate) scope: HostScope,
}

impl Verdict {
    /// How long leave for a host holds that this verdict gives.
    pub(crate) fn receipt_scope(&self) -> ReceiptScope {
        match self.decided_by {
            DecidedBy::BuiltIn | DecidedBy::Model => ReceiptScope::Reviewer,
            DecidedBy::Person => self.scope.into(),
            DecidedBy::Rule | DecidedBy::None => ReceiptScope::Once,
        }
    }

    /// The flat form of `decision`. `persons_reason` is what a person said with a yes.
    pub(crate) fn of(decision: Decision, persons_reason: Option<Rationale>) -> Self {
        let (status, decided_by) = (decision.status(), decision.decided_by());
        let bare = Self {
            status,
            decided_by,
            outcome: outcome(status),
            risk_level: None,
            user_authorization: None,
            rationale: None,
            rule_id: None,
            failure: None,
            answered_by: None,
            lifts: None,
            scope: HostScope::Once,
        };
        match decision {
            Decision::Approved(grant) => match grant.judgement() {
                Some(judgement) => bare.judged(judgement),
                None => Self {
                    rationale: persons_reason,
                    ..bare
                },
            },
            Decision::Denied(Denial::Judged(judgement)) => bare.judged(&judgement),
            Decision::Denied(Denial::ByRule(rule)) => Self {
                rule_id: Some(rule),
                ..bare
            },
            Decision::Denied(Denial::ByPerson(reason)) => Self {
                rationale: (!reason.is_empty()).then(|| reason.into()),
                ..bare
            },
            Decision::Failed(failure) => Self {
                failure: Some(failure),
                ..bare
            },
            Decision::TimedOut | Decision::Aborted => bare,
        }
    }

    /// A review that did not come off.
    pub(crate) fn failed(failure: ReviewFailure) -> Self {
        Self::of(Decision::Failed(failure), None)
    }

    /// The event that ends a review so; `None` for a verdict that is none.
    pub(crate) fn event(&self) -> Option<ReviewEvent> {
        match self.status {
            ReviewStatus::Reviewing => None,
            ReviewStatus::Approved => Some(ReviewEvent::Approved),
            ReviewStatus::Denied => Some(ReviewEvent::Denied),
            ReviewStatus::TimedOut => Some(ReviewEvent::TimedOut),
            ReviewStatus::Aborted => Some(ReviewEvent::Aborted),
            ReviewStatus::Failed => Some(ReviewEvent::Failed),
        }
    }

    /// What the agent may do instead; nothing where it may do what it asked for.
    pub(crate) fn guidance(&self) -> Option<&'static str> {
        match self.status {
            ReviewStatus::Reviewing | ReviewStatus::Approved => None,
            ReviewStatus::Denied => Some(
                "Do not seek the same effect by other means: no workaround, no detour, no smaller steps towards it. \
                 Go on only with something materially safer, or explain the risk to the user and ask for a clear yes. \
                 If neither is possible, stop and ask.",
            ),
            ReviewStatus::TimedOut => Some(
                "The review was not finished in time. That says nothing about danger. Ask once more, or ask the user.",
            ),
            ReviewStatus::Aborted => Some(
                "The question was taken back before it was decided. Ask again only if the action is still wanted.",
            ),
            ReviewStatus::Failed => Some(self.guidance_after_failure()),
        }
    }

    fn guidance_after_failure(&self) -> &'static str {
        let retryable = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.retryable);
        if retryable {
            "The review did not come off, so the action was not run. That says nothing about danger. Ask once more; if \
             it fails again, tell the user, and do not seek the same effect by other means."
        } else {
            "The review did not come off, so the action was not run. That says nothing about danger, and asking again \
             will not help until the cause is removed: tell the user, and do not seek the same effect by other means."
        }
    }

    fn judged(self, judgement: &Judgement) -> Self {
        let assessment = &judgement.assessment;
        Self {
            risk_level: Some(assessment.risk_level),
            user_authorization: Some(assessment.user_authorization),
            rationale: Some(assessment.rationale.clone()),
            rule_id: match &judgement.judge {
                Judge::BuiltIn(rule) => Some(rule.clone()),
                Judge::Model => None,
            },
            ..self
        }
    }
}

fn outcome(status: ReviewStatus) -> Option<Outcome> {
    match status {
        ReviewStatus::Approved => Some(Outcome::Allow),
        ReviewStatus::Denied => Some(Outcome::Deny),
        ReviewStatus::Reviewing
        | ReviewStatus::TimedOut
        | ReviewStatus::Aborted
        | ReviewStatus::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Decision, Denial, FailedStep, Grant, ReviewFailure};

    use super::Verdict;

    fn failed(retryable: bool) -> Decision {
        Decision::Failed(ReviewFailure {
            step: FailedStep::Model,
            code: "rate_limited".to_owned(),
            retryable,
            message: "The model is busy.".to_owned(),
        })
    }

    fn decisions() -> [Decision; 6] {
        let digest = format!("sha256:{}", "0".repeat(64));
        [
            Decision::Approved(Grant::by_person(digest.parse().expect("a digest"))),
            Decision::Denied(Denial::ByPerson("no".to_owned())),
            Decision::TimedOut,
            Decision::Aborted,
            failed(true),
            failed(false),
        ]
    }

    #[test]
    fn each_end_says_what_may_be_done_instead() {
        let told: String = decisions()
            .into_iter()
            .map(|decision| {
                let verdict = Verdict::of(decision, None);
                let status = verdict.status.as_str();
                format!("{status}: {}\n", verdict.guidance().unwrap_or("-"))
            })
            .collect();
        insta::assert_snapshot!(told, @"
        approved: -
        denied: Do not seek the same effect by other means: no workaround, no detour, no smaller steps towards it. Go on only with something materially safer, or explain the risk to the user and ask for a clear yes. If neither is possible, stop and ask.
        timed_out: The review was not finished in time. That says nothing about danger. Ask once more, or ask the user.
        aborted: The question was taken back before it was decided. Ask again only if the action is still wanted.
        failed: The review did not come off, so the action was not run. That says nothing about danger. Ask once more; if it fails again, tell the user, and do not seek the same effect by other means.
        failed: The review did not come off, so the action was not run. That says nothing about danger, and asking again will not help until the cause is removed: tell the user, and do not seek the same effect by other means.
        ");
    }

    #[test]
    fn what_is_recorded_is_what_is_read() {
        for decision in decisions() {
            let verdict = Verdict::of(decision, Some("because".into()));
            let text = serde_json::to_string(&verdict).expect("spelled");
            let read: Verdict = serde_json::from_str(&text).expect("read");
            assert_eq!(read, verdict);
            assert_eq!(verdict.event().is_some(), verdict.status.is_terminal());
        }
    }
}
