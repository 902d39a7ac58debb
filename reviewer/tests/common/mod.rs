//! Escalations for the tests, as a runner would send them.
//!
//! A folder of its own because every test binary needs them. Not every binary uses all of them.

use protocol::{Action, Escalation, SubmitReview};
use serde_json::{Value, json};

/// The action of running `words` outside the walls.
pub(crate) fn command(words: &[String]) -> Value {
    json!({
        "tool": "exec_command",
        "command": words,
        "cwd": "/home/u/code/app",
        "sandbox_permissions": "require_escalated",
    })
}

/// An escalation for `action`, by a user `u` whose workspace is `/home/u/code/app`.
pub(crate) fn escalation(action: Value) -> Escalation {
    with_transcript(action, &json!({ "complete": true, "entries": [] }))
}

/// The same with a transcript, by a channel that speaks for the user.
pub(crate) fn with_transcript(action: Value, transcript: &Value) -> Escalation {
    let action: Action = serde_json::from_value(action).expect("an action");
    let body: SubmitReview = serde_json::from_value(json!({
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
        "action_digest": action.digest(),
        "action": action,
        "trigger": { "kind": "escalation_requested" },
        "transcript": transcript,
    }))
    .expect("a body");
    let id = serde_json::from_value(json!("00000000000000000000000000000000")).expect("an id");
    Escalation::from_submission(id, body, |_| true).expect("an escalation")
}
