//! The demo's stand-in for a model: it speaks the real protocol over a real socket, and misbehaves.
//!
//! About an action that names the remote `slow` it never answers; about everything else it answers 500.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

/// The endpoint of the Chat Completions protocol.
pub(super) fn router() -> Router {
    Router::new().route("/v1/chat/completions", post(complete))
}

async fn complete(body: String) -> Response {
    if body.contains(super::rows::SLOW_REMOTE) {
        // Longer than any review may take.
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response()
}
