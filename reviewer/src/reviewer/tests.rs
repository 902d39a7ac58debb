use std::time::Duration;

use protocol::{Action, Escalation, SubmitReview};
use serde_json::{Value, json};

use super::Reviewer;
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
