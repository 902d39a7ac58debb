use std::time::Duration;

use protocol::{
    Action, Assessment, Decision, Denial, Escalation, FailedStep, Judge, Outcome, ReviewStatus,
    RiskLevel, RuleId, SubmitReview, UserAuthorization,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Found, Reviewer, decide, failed};
use crate::builtin::{Rule, Verdict};
use crate::error::ReviewError;
use crate::model::ModelError;
use crate::prompt::PromptError;
use crate::reply::InvalidReply;
use crate::settings::ReviewerSettings;

#[expect(
    clippy::needless_pass_by_value,
    reason = "called with a literal everywhere"
)]
/// An escalation as a runner would send it, with `fields` of the body in place of the usual ones.
pub(crate) fn escalation(fields: Value) -> Escalation {
    let mut body = json!({
        "version": 1,
        "client": { "name": "test", "version": "1", "channel": "adapter" },
        "environment": {
            "host": "box",
            "user": "u",
            "cwd": "/home/u/code/app",
            "workspace_roots": ["/home/u/code/app"],
            "sandbox_mode": "workspace-write",
            "approval_policy": "on-request",
        },
        "action": { "tool": "exec_command", "command": ["make"], "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" },
        "trigger": { "kind": "escalation_requested" },
    });
    for (key, value) in fields.as_object().expect("fields") {
        body.as_object_mut()
            .expect("a body")
            .insert(key.clone(), value.clone());
    }
    let action: Action = serde_json::from_value(body["action"].clone()).expect("an action");
    body["action_digest"] = json!(action.digest());
    let body: SubmitReview = serde_json::from_value(body).expect("a body");
    let id = serde_json::from_value(json!("nonce")).expect("an id");
    Escalation::from_submission(id, body, |_| true).expect("an escalation")
}

#[test]
fn a_reviewer_without_settings_has_the_shipped_policy_and_90_seconds() {
    let reviewer = Reviewer::new(&ReviewerSettings::default(), &|_| None).expect("a reviewer");
    assert_eq!(reviewer.time_limit(), Duration::from_secs(90));
    assert_eq!(
        reviewer.policy_revision(),
        crate::Policy::shipped().revision()
    );
    assert!(
        reviewer
            .policy_revision()
            .to_string()
            .starts_with("sha256:")
    );
}

#[test]
fn a_reviewer_is_made_twice_in_one_process_without_a_certificate_store() {
    let settings: ReviewerSettings = serde_json::from_value(json!({
        "reviewer": { "model": [{ "provider": "openai-chat", "base_url": "http://127.0.0.1:1/v1", "model": "m" }] },
    }))
    .expect("settings");
    for _ in 0..2 {
        assert!(Reviewer::new(&settings, &|_| None).is_ok());
    }
}

#[test]
fn the_prompt_is_what_would_be_sent_and_names_itself() {
    let reviewer = Reviewer::new(&ReviewerSettings::default(), &|_| None).expect("a reviewer");
    let (one, other) = (
        escalation(json!({})),
        escalation(json!({ "retry_reason": "again" })),
    );
    let digest = |escalation| reviewer.prompt(escalation).expect("a prompt").digest();
    assert_eq!(digest(&one), digest(&one));
    assert_ne!(digest(&one), digest(&other));
}

const RISKS: [RiskLevel; 4] = [
    RiskLevel::Low,
    RiskLevel::Medium,
    RiskLevel::High,
    RiskLevel::Critical,
];
const AUTHORIZATIONS: [UserAuthorization; 4] = [
    UserAuthorization::Unknown,
    UserAuthorization::Low,
    UserAuthorization::Medium,
    UserAuthorization::High,
];

/// Every proposal over every floor, with and without a user who spoke and a rule of the team. What is expected is
/// written out by numbers and not by the code's own comparisons.
#[test]
fn the_whole_table_of_decisions_holds() {
    let silent = escalation(json!({}));
    let spoken_for = escalation(
        json!({ "transcript": { "complete": true, "entries": [{ "n": 1, "author": "user", "trust": "trusted", "text": "go on" }] } }),
    );
    let rule = || Some(RuleId::new("policy/deny/host:x.example"));
    let mut cells = 0;
    for (risk, floor) in RISKS.into_iter().enumerate().flat_map(|risk| {
        RISKS
            .into_iter()
            .enumerate()
            .map(move |floor| (risk, floor))
    }) {
        for (spoken, case) in [(false, &silent), (true, &spoken_for)] {
            for (rank, authorization) in AUTHORIZATIONS.into_iter().enumerate() {
                for outcome in [Outcome::Allow, Outcome::Deny] {
                    for denied in [None, rule()] {
                        let found = Found {
                            verdict: Verdict::Undecided {
                                rule: Rule::NothingKnown,
                                floor: floor.1,
                            },
                            denied: denied.clone(),
                        };
                        let proposed = Assessment {
                            risk_level: risk.1,
                            user_authorization: authorization,
                            outcome,
                            rationale: "x".into(),
                        };
                        let decision = decide(case, &found, (proposed, Judge::Model));
                        let worst = risk.0.max(floor.0);
                        let wanted = if spoken { rank } else { rank.min(1) };
                        let may = worst <= 1 || (worst == 2 && wanted >= 2);
                        let approved = outcome == Outcome::Allow && may && denied.is_none();
                        let expected = if approved {
                            ReviewStatus::Approved
                        } else {
                            ReviewStatus::Denied
                        };
                        assert_eq!(
                            decision.status(),
                            expected,
                            "{risk:?} {floor:?} {authorization:?} {outcome:?} {denied:?} {spoken}"
                        );
                        assert!(
                            worst < 3 || decision.status() != ReviewStatus::Approved,
                            "critical is never allowed"
                        );
                        assert_eq!(
                            denied.is_some(),
                            matches!(decision, Decision::Denied(Denial::ByRule(_)))
                        );
                        cells += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cells, 4 * 4 * 2 * 4 * 2 * 2);
}

const MODEL_ERRORS: [ModelError; 16] = [
    ModelError::ConnectRefused,
    ModelError::Connect,
    ModelError::TimedOut,
    ModelError::Unauthorized(401),
    ModelError::NotFound,
    ModelError::RateLimited(None),
    ModelError::ServerError(500),
    ModelError::BadRequest(400),
    ModelError::Redirected(302),
    ModelError::TooLarge,
    ModelError::CutOff,
    ModelError::WrongShape,
    ModelError::Empty,
    ModelError::Paused,
    ModelError::NotRecorded,
    ModelError::Declined,
];

#[test]
fn every_kind_of_failure_is_a_failure_with_its_own_name() {
    let model = |cause| ReviewError::Model {
        model: "m".to_owned(),
        cause,
    };
    let reply = |cause| ReviewError::Reply {
        model: "m".to_owned(),
        cause,
    };
    let mut names = std::collections::BTreeSet::new();
    let mut errors: Vec<(ReviewError, FailedStep)> = vec![
        (ReviewError::NoModel, FailedStep::NotConfigured),
        (ReviewError::Budget, FailedStep::Budget),
    ];
    for cause in MODEL_ERRORS {
        errors.push((model(cause), FailedStep::Model));
    }
    for cause in [
        InvalidReply::Empty,
        InvalidReply::NotJson,
        InvalidReply::NotAnAssessment,
        InvalidReply::NoRationale,
    ] {
        errors.push((reply(cause), FailedStep::Reply));
    }
    for cause in [
        PromptError::ActionTooLarge { takes: 2, most: 1 },
        PromptError::EvidenceTooLarge { takes: 2, most: 1 },
        PromptError::SurroundingsTooLarge(1),
        PromptError::NotJson,
    ] {
        errors.push((ReviewError::Prompt(cause), FailedStep::Prompt));
    }
    let count = errors.len();
    for (error, step) in errors {
        let decision = failed(&error);
        let Decision::Failed(failure) = decision else {
            panic!("{error:?} is {decision:?}")
        };
        assert_eq!(failure.step, step, "{error:?}");
        assert!(
            names.insert((step.as_str(), failure.code)),
            "{error:?} has a name of its own"
        );
    }
    assert_eq!(names.len(), count);
    assert_eq!(failed(&ReviewError::Deadline), Decision::TimedOut);
}

#[tokio::test]
async fn a_rule_of_the_team_denies_with_no_model_and_before_the_built_in_reviewer_allows() {
    let settings: ReviewerSettings =
        serde_json::from_value(json!({ "policy": { "deny": ["path:/data", "program:make"] } }))
            .expect("settings");
    let reviewer = Reviewer::new(&settings, &|_| None).expect("a reviewer");
    for command in [json!(["ls", "/data/x"]), json!(["make"])] {
        let case = escalation(
            json!({ "action": { "tool": "exec_command", "command": command, "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" } }),
        );
        let reviewed = reviewer
            .review(&case, Instant::now() + Duration::from_secs(5))
            .await;
        assert!(
            matches!(reviewed.decision, Decision::Denied(Denial::ByRule(_))),
            "{:?}",
            reviewed.decision
        );
    }
    let allowed = escalation(
        json!({ "action": { "tool": "exec_command", "command": ["ls", "/"], "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" } }),
    );
    let reviewed = reviewer
        .review(&allowed, Instant::now() + Duration::from_secs(5))
        .await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
}
