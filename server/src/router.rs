//! Every route on one screen, and who may take it.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router, middleware};
use serde_json::Value;
use tower_http::decompression::RequestDecompressionLayer;

use crate::api::{
    Readiness, audit, events, health, network, people, policies, reviews, sessions, tokens,
    webhooks,
};
use crate::auth::{Auth, authenticated};
use crate::desk::{Caller, Desk};
use crate::error::ApiError;
use crate::openapi::{Notes, Operation, Routes, add, document};
use crate::telemetry::in_trace;

/// The API for a TCP port. Everything but health wants a token, routes that do not exist included.
pub(crate) fn public(desk: &Arc<Desk>, readiness: &Arc<Readiness>, auth: Arc<Auth>) -> Router {
    let guarded = guarded::<()>()
        .with_state(Arc::clone(desk))
        .fallback(not_found)
        // Inside the token's layer: nobody has anything inflated for them without one. What is no `gzip` stays as it
        // is, and is refused where the body is read.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(middleware::from_fn_with_state(auth, authenticated));
    guarded
        .merge(health_routes::<()>().with_state(Arc::clone(readiness)))
        .layer(compression::layer())
        .layer(middleware::from_fn(in_trace))
}

/// The same without its document, streams, webhooks, measures and `gzip`: what a program that only shows the service
/// has to hold.
pub(crate) fn bare(desk: &Arc<Desk>, readiness: &Arc<Readiness>, auth: Arc<Auth>) -> Router {
    let guarded = approvers::<()>(reviews())
        .with_state(Arc::clone(desk))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(auth, authenticated));
    guarded.merge(health_routes::<()>().with_state(Arc::clone(readiness)))
}

/// The API for the caller whose process this is.
pub(crate) fn embedded(desk: &Arc<Desk>, readiness: &Arc<Readiness>, caller: Caller) -> Router {
    let known = add!(reviews::<()>(), ANSWER_HERE => reviews::answer)
        .with_state(Arc::clone(desk))
        .fallback(not_found)
        .layer(Extension(caller));
    known
        .merge(health_routes::<()>().with_state(Arc::clone(readiness)))
        .layer(middleware::from_fn(in_trace))
}

/// The OpenAPI document of [`public`].
pub(crate) fn described() -> Value {
    let health = health_routes::<Vec<Operation>>();
    document(&[guarded().into_notes(), health.into_notes()].concat())
}

/// What wants a token.
fn guarded<N: Notes>() -> Routes<Arc<Desk>, N> {
    add!(
        approvers(reviews()),
        EVENTS_OF_REVIEW => events::of_review,
        EVENTS_OF_ALL => events::of_tenant,
        // For admins. Not in the embedded service, which knows no tokens.
        LIST_TOKENS => tokens::list,
        CREATE_TOKEN => tokens::create,
        REVOKE_TOKEN => tokens::revoke,
        LIST_WEBHOOKS => webhooks::list,
        CREATE_WEBHOOK => webhooks::create,
        REMOVE_WEBHOOK => webhooks::remove,
        LIST_DELIVERIES => webhooks::deliveries,
        RESEND => webhooks::resend,
        LIST_POLICIES => policies::list,
        KEEP_POLICY => policies::keep,
        CHANGE_POLICY => policies::change,
        SHOW_POLICY => policies::show,
        METRICS => audit::metrics,
        DESCRIBE => describe,
    )
}

fn reviews<N: Notes>() -> Routes<Arc<Desk>, N> {
    add!(
        Routes::new(),
        SUBMIT => reviews::submit,
        LIST => reviews::list,
        SHOW => reviews::show,
        ABORT => reviews::abort,
        REDEEM => reviews::redeem,
        RAN => reviews::ran,
        REPORT_NETWORK => network::report,
        LIST_NETWORK => network::list,
        SESSION => sessions::show,
        STATS => audit::stats,
        EXPORT => audit::export,
        VERIFY => audit::verify,
    )
}

/// For people who answer over TCP. The embedded service has its own answer, of the person at its terminal.
fn approvers<N: Notes>(routes: Routes<Arc<Desk>, N>) -> Routes<Arc<Desk>, N> {
    add!(
        routes,
        WAITING => people::waiting,
        ANSWER => people::answer,
        GIVE_LEAVE => people::leave,
        WITHDRAW_LEAVE => people::withdraw_leave,
    )
}

fn health_routes<N: Notes>() -> Routes<Arc<Readiness>, N> {
    add!(Routes::new(), ALIVE => health::alive, READY => health::ready)
}

/// `GET /v1/openapi.json`.
async fn describe() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(described().to_string()));
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, TEXT.clone()).into_response()
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}

/// What is answered in `gzip`.
mod compression {
    use tower_http::compression::CompressionLayer;
    use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

    /// Answers above this size, in bytes, for whoever takes `gzip`. A stream of events is none: it would wait in the
    /// compressor. Small answers are none either, so that nothing secret is ever compressed beside what a caller chose.
    const ABOVE: u16 = 2_048;

    pub(super) fn layer() -> CompressionLayer<impl Predicate> {
        let predicate = SizeAbove::new(ABOVE).and(NotForContentType::SSE);
        CompressionLayer::new().compress_when(predicate)
    }
}
