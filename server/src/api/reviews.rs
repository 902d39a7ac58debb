//! The verbs of a review: submit, show, list, abort, redeem, answer.
//!
//! Each handler reads its call, asks the desk and spells the answer; rules live elsewhere.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use protocol::{Answer, RedeemRequest, ReviewPage, SubmitReview};
use tokio::time::Instant;

use super::body::{StrictJson, answer as answer_json};
use super::parameters::{ReviewPath, nonce, page_of_query, wait_of_preference, wait_of_query};
use super::who::{Asking, Looking};
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::resource::{receipt, resource};
use crate::store::{Page, Redemption};

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

/// `GET /v1/reviews/{id}?wait=N`.
pub(crate) async fn show(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    ReviewPath(review_id): ReviewPath,
    uri: Uri,
) -> Result<Response, ApiError> {
    let until = Instant::now() + wait_of_query(&uri)?;
    let recorded = desk.wait(&sight, review_id, until).await?;
    answer_json(StatusCode::OK, &resource(&recorded, &desk.key))
}

/// `GET /v1/reviews?status=&before=&limit=`: newest first.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    uri: Uri,
) -> Result<Response, ApiError> {
    let page = page_of_query(&uri)?;
    // One more than is shown says whether there is a next page.
    let one_more = Page {
        limit: page.limit + 1,
        ..page
    };
    let mut lines = desk.page(&sight, &one_more).await?;
    let shown = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = lines.len() > shown;
    lines.truncate(shown);
    let next_before = lines
        .last()
        .filter(|_| more)
        .map(|line| line.recorded.review_id);
    let entries = lines.into_iter().map(|line| {
        let review = resource(&line.recorded, &desk.key);
        line.into_entry(review)
    });
    let page = ReviewPage {
        reviews: entries.collect(),
        next_before,
    };
    answer_json(StatusCode::OK, &page)
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
    StrictJson(body): StrictJson<RedeemRequest>,
) -> Result<Response, ApiError> {
    let redemption = Redemption {
        review_id,
        scope: caller.scope,
        session_id: body.session_id,
        action_digest: body.action_digest,
        at: now(),
    };
    let nonce = desk.redeem(redemption.clone()).await?;
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
