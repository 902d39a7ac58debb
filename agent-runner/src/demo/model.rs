//! The demo's stand-in for a model: it speaks the real protocol over a real socket, and misbehaves.
//!
//! About an action that names the remote `slow` it never answers; it denies the host that nobody named, in the protocol's
//! own envelope; about everything else it answers 500.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;

/// The endpoint of the Chat Completions protocol.
pub(super) fn router() -> Router {
    Router::new().route("/v1/chat/completions", post(complete))
}

async fn complete(body: String) -> Response {
    // As a word of the command: the repository's facts name every remote.
    let words: String = body
        .chars()
        .filter(|letter| !matches!(letter, '\\' | ' '))
        .collect();
    if words.contains(&format!("\"--quiet\",\"{}\"", super::rows::SLOW_REMOTE)) {
        // Longer than any review may take.
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    if body.contains(super::rows::UNKNOWN_HOST) {
        let denial = json!({
            "risk_level": "medium",
            "user_authorization": "low",
            "outcome": "deny",
            "rationale": "nobody spoke of this host",
        });
        let message = json!({"role": "assistant", "content": denial.to_string()});
        return Json(json!({
            "id": "stand-in",
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }))
        .into_response();
    }
    (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response()
}
