//! The verbs of a review: submit, show, list, abort, redeem, answer.
//!
//! Each handler reads its call, asks the desk and spells the answer; rules live elsewhere.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use protocol::{Answer, ReceiptScope, RedeemRequest, ReviewId, RunReport, SubmitReview};
use tokio::time::Instant;

use super::body::{StrictJson, answer as answer_json};
use super::parameters::{
    ReviewPath, View, nonce, scope_of_preference, show_query, wait_of_preference,
};
use super::search_query::Listing;
use super::who::{Asking, Looking};
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::history;
use crate::resource::{receipt, resource};
use crate::store::{RanReport, RedeemRefusal, Redemption, Reported, Scope, StoreError};

/// The longest report of a run, in bytes of JSON.
const MAX_REPORT: usize = 8 * 1024;

/// `POST /v1/reviews`: 202 at once, or 200 where it ended within `Prefer: wait=N`.
pub(crate) async fn submit(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    headers: HeaderMap,
    StrictJson(body): StrictJson<SubmitReview>,
) -> Result<Response, ApiError> {
    let (nonce, wait) = (nonce(&headers)?, wait_of_preference(&headers)?);
    let recorded = desk.submit(&caller, nonce, body, wait).await?;
    let status = match recorded.end {
        Some(_) => StatusCode::OK,
        None => StatusCode::ACCEPTED,
    };
    let mut response = answer_json(status, &resource(&recorded, &desk.key))?;
    let location = format!("/v1/reviews/{}", recorded.review_id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /v1/reviews/{id}?wait=N&view=full`.
pub(crate) async fn show(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    ReviewPath(review_id): ReviewPath,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (wait, view) = show_query(&uri)?;
    let recorded = desk.wait(&sight, review_id, Instant::now() + wait).await?;
    match view {
        View::Plain => answer_json(StatusCode::OK, &resource(&recorded, &desk.key)),
        View::Full => {
            let detail = desk.store.detail(&sight, review_id).await?;
            let detail = detail.ok_or(ApiError::NotFound)?;
            answer_json(StatusCode::OK, &history::detail(detail, &desk.key))
        }
    }
}

/// `GET /v1/reviews?…`: newest first.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    uri: Uri,
) -> Result<Response, ApiError> {
    let listing = Listing::of(&uri, &[])?;
    let plain = listing.plain().filter(|_| sight.caller().is_some());
    let Some(page) = plain else {
        let wanted = (&listing.search, listing.counting);
        let page = history::page(&desk.store, &desk.key, &sight, wanted).await?;
        return answer_json(StatusCode::OK, &page);
    };
    let found = desk.page(&sight, &page).await?;
    answer_json(StatusCode::OK, &history::told(found, &desk.key))
}

/// `POST /v1/reviews/{id}/ran`: how the run of a spent approval ended, once.
pub(crate) async fn ran(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    ReviewPath(review_id): ReviewPath,
    StrictJson(body): StrictJson<RunReport>,
) -> Result<StatusCode, ApiError> {
    let report = run_report(review_id, caller.scope, &body)?;
    match desk.store.report(report).await? {
        Reported::Recorded => Ok(StatusCode::NO_CONTENT),
        Reported::Before => Err(ApiError::ReportedBefore),
        Reported::NotSpent => Err(ApiError::NotSpent),
        Reported::OtherAction => Err(ApiError::NotRedeemable(RedeemRefusal::OtherAction)),
        Reported::Unknown => Err(ApiError::NotFound),
    }
}

fn run_report(review_id: ReviewId, scope: Scope, body: &RunReport) -> Result<RanReport, ApiError> {
    if body.exit_code.is_some() && body.signal.is_some() {
        return Err(ApiError::InvalidBody(
            "a run ends by an exit code or by a signal, not by both".to_owned(),
        ));
    }
    if body
        .signal
        .is_some_and(|signal| !(1..=64).contains(&signal))
    {
        return Err(ApiError::InvalidBody("`signal` is from 1 to 64".to_owned()));
    }
    let text = serde_json::to_string(body)
        .map_err(|_| StoreError::Corrupt("a report cannot be spelled"))?;
    if text.len() > MAX_REPORT {
        return Err(ApiError::InvalidBody(
            "the report is larger than 8 KiB".to_owned(),
        ));
    }
    Ok(RanReport {
        review_id,
        scope,
        action_digest: body.action_digest,
        at: now(),
        body: text,
    })
}

/// `POST /v1/reviews/{id}/abort`.
pub(crate) async fn abort(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    ReviewPath(review_id): ReviewPath,
) -> Result<Response, ApiError> {
    let recorded = desk.abort(&caller.scope, review_id).await?;
    answer_json(StatusCode::OK, &resource(&recorded, &desk.key))
}

/// `POST /v1/reviews/{id}/redeem`: 200 once, then 409.
pub(crate) async fn redeem(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    ReviewPath(review_id): ReviewPath,
    headers: HeaderMap,
    StrictJson(body): StrictJson<RedeemRequest>,
) -> Result<Response, ApiError> {
    let mut redemption = Redemption {
        review_id,
        scope: caller.scope,
        session_id: body.session_id,
        action_digest: body.action_digest,
        host_scope: ReceiptScope::Once,
        at: now(),
    };
    let told = scope_of_preference(&headers);
    let nonce = desk.redeem(&mut redemption, told).await?;
    answer_json(StatusCode::OK, &receipt(redemption, nonce, &desk.key))
}

/// `POST /v1/reviews/{id}/answer`: a person at this terminal. In the embedded router alone.
pub(crate) async fn answer(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    ReviewPath(review_id): ReviewPath,
    StrictJson(body): StrictJson<Answer>,
) -> Result<Response, ApiError> {
    let recorded = desk.answer(&caller.scope, review_id, body).await?;
    answer_json(StatusCode::OK, &resource(&recorded, &desk.key))
}
