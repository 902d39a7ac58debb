//! The demo's web server on loopback: a git repository of one branch, as plain files.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::get;

/// What `git ls-remote` prints of it.
const REFS: &str = "1f8ac10f23c5b5bc1167bda84b833e5c057a77d2\trefs/heads/main\n";

/// Serves `demo.git`.
pub(super) fn router() -> Router {
    let text = |text: &'static str| {
        get(async move || ([(header::CONTENT_TYPE, "text/plain")], text).into_response())
    };
    Router::new()
        .route("/demo.git/info/refs", text(REFS))
        .route("/demo.git/HEAD", text("ref: refs/heads/main\n"))
}
