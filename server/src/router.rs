//! Every route on one screen, and who may take it.

use std::sync::Arc;

use axum::middleware;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};

use crate::api::{Readiness, audit, health, people, reviews, sessions, tokens};
use crate::auth::{Auth, authenticated};
use crate::desk::{Caller, Desk};
use crate::error::ApiError;

/// The API for a TCP port. Everything but health wants a token, routes that do not exist included.
pub(crate) fn public(desk: &Arc<Desk>, readiness: &Arc<Readiness>, auth: Arc<Auth>) -> Router {
    let guarded = reviews(desk)
        .merge(tokens(desk))
        .merge(approvers(desk))
        .layer(middleware::from_fn_with_state(auth, authenticated));
    guarded.merge(health_routes(readiness))
}

/// The API for the caller whose process this is.
pub(crate) fn embedded(desk: &Arc<Desk>, readiness: &Arc<Readiness>, caller: Caller) -> Router {
    let people = Router::new()
        .route("/v1/reviews/{id}/answer", post(reviews::answer))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(desk));
    let known = reviews(desk).merge(people).layer(Extension(caller));
    known.merge(health_routes(readiness))
}

fn reviews(desk: &Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/reviews", post(reviews::submit).get(reviews::list))
        .route("/v1/reviews/{id}", get(reviews::show))
        .route("/v1/reviews/{id}/abort", post(reviews::abort))
        .route("/v1/reviews/{id}/redeem", post(reviews::redeem))
        .route("/v1/reviews/{id}/ran", post(reviews::ran))
        .route("/v1/sessions/{id}", get(sessions::show))
        .route("/v1/stats", get(audit::stats))
        .route("/v1/export", get(audit::export))
        .route("/v1/verify", get(audit::verify))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(desk))
}

/// For people who answer over TCP. The embedded service has its own answer, of the person at its terminal.
fn approvers(desk: &Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/waiting", get(people::waiting))
        .route("/v1/reviews/{id}/answer", post(people::answer))
        .route("/v1/reviews/{id}/leave", post(people::leave))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(desk))
}

/// For admins. Not in the embedded service, which knows no tokens.
fn tokens(desk: &Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(desk))
}

fn health_routes(readiness: &Arc<Readiness>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(readiness))
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}

async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}
