//! What auditors ask for: sums, exports, and whether the record holds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use protocol::TenantId;

use super::body::answer;
use super::parameters::invalid;
use super::search_query::Listing;
use super::who::Auditing;
use crate::admission::Refused;
use crate::desk::Desk;
use crate::error::ApiError;
use crate::history::export::{Export, Format};
use crate::history::{stats as sums, verified};
use crate::store::search::Search;
use crate::store::{Sight, StoreError};
use crate::stream::Place;
use crate::telemetry::Gauges;

/// How many pages of an export wait to be read: the memory of one.
const AHEAD: usize = 2;
/// How long an export waits for its reader to take a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// `GET /v1/stats?since=&until=`.
pub(crate) async fn stats(
    State(desk): State<Arc<Desk>>,
    Auditing(tenant): Auditing,
    uri: Uri,
) -> Result<Response, ApiError> {
    let search = Listing::of(&uri, &[])?.search;
    if !search.facets.is_empty() || search.text.is_some() || search.before.is_some() {
        return Err(invalid(
            "sums are kept by hours: only `since` and `until` narrow them",
        ));
    }
    let stats = sums(&desk.store, &tenant, search.since, search.until).await?;
    answer(StatusCode::OK, &stats)
}

/// `GET /v1/verify`.
pub(crate) async fn verify(
    State(desk): State<Arc<Desk>>,
    Auditing(tenant): Auditing,
) -> Result<Response, ApiError> {
    let _place = place(&desk, &tenant)?;
    let found = desk.store.verify(&tenant, &desk.key, &[]).await?;
    let let_go_by = desk.store.chain_cuts(&tenant).await?;
    answer(StatusCode::OK, &verified(found, let_go_by))
}

/// `GET /v1/export?format=`, and what a list takes: newest first, as long as there are any.
pub(crate) async fn export(
    State(desk): State<Arc<Desk>>,
    Auditing(tenant): Auditing,
    uri: Uri,
) -> Result<Response, ApiError> {
    let listing = Listing::of(&uri, &["format"])?;
    let format = listing.rest.get("format").map_or("jsonl", String::as_str);
    let format = Format::parse(format)
        .ok_or_else(|| invalid("`format` is `jsonl`, `csv`, `ocsf` or `opa`"))?;
    let place = place(&desk, &tenant)?;
    desk.store.catch_up().await?;
    let (sender, channel) = Channel::<Bytes, Broken>::new(AHEAD);
    let carrier = Arc::clone(&desk);
    drop(desk.tasks.spawn(async move {
        send(&carrier, tenant, listing.search, (format, sender)).await;
        drop(place);
    }));
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    // Whoever compresses it may ask once more after the end, which a channel does not take.
    Ok((StatusCode::OK, headers, Body::new(channel.fuse())).into_response())
}

/// The place of one more export or verification of `tenant`.
fn place(desk: &Desk, tenant: &TenantId) -> Result<Place, ApiError> {
    let place = desk.long_reads.enter(tenant);
    place.ok_or(ApiError::NotTakenOn(Refused::NoRoom))
}

/// `GET /metrics`: of the caller's tenant alone.
pub(crate) async fn metrics(
    State(desk): State<Arc<Desk>>,
    Auditing(tenant): Auditing,
) -> Result<Response, ApiError> {
    let measures = desk.observer.measures.get().ok_or(ApiError::NotFound)?;
    let gauges = Gauges {
        in_flight: desk.in_flight(&tenant),
        streams: desk.streams.of(&tenant),
    };
    let headers = [
        (CONTENT_TYPE, "text/plain; version=0.0.4"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, measures.page(&tenant, gauges)).into_response())
}

/// An export that cannot go on: the connection is cut, so that half of it never looks like the whole.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the record could not be read on")]
    Store(#[source] StoreError),
    #[error("the server is going down")]
    Draining,
    #[error("nobody read it for {} s", PATIENCE.as_secs())]
    Unread,
}

async fn send(
    desk: &Desk,
    tenant: TenantId,
    search: Search,
    (format, mut sender): (Format, Sender<Bytes, Broken>),
) {
    let sight = Sight::Tenant(tenant);
    let mut text = format.heading().as_bytes().to_vec();
    let mut export = match Export::begin(&desk.store, &sight, &search).await {
        Ok(export) => export,
        Err(error) => return sender.abort(broken(error)),
    };
    while !export.is_over() || !text.is_empty() {
        if desk.stopping.is_cancelled() {
            return sender.abort(Broken::Draining);
        }
        let turned = export.turn(format, &mut text).await;
        // The next page is about as long as this one.
        let room = Vec::with_capacity(text.len());
        // What was read before it broke is sent: the connection is cut behind it.
        let data = Bytes::from(std::mem::replace(&mut text, room));
        // Whoever reads nothing keeps neither the page nor the server that wants to go down.
        let sent = tokio::select! {
            () = desk.stopping.cancelled() => return sender.abort(Broken::Draining),
            sent = tokio::time::timeout(PATIENCE, sender.send_data(data)) => sent,
        };
        if let Err(error) = turned {
            return sender.abort(broken(error));
        }
        match sent {
            Ok(Ok(())) => {}
            // Nobody reads on.
            Ok(Err(_)) => return,
            Err(_elapsed) => return sender.abort(Broken::Unread),
        }
    }
}

fn broken(error: StoreError) -> Broken {
    tracing::error!(%error, "an export could not go on");
    Broken::Store(error)
}
