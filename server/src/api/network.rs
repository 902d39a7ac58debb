//! What the door decided while commands ran: told by runners, read by whoever may see it.
//!
//! Apart from reviews, because nobody was asked here. Invariant: what is told binds nobody, and is bounded before it is
//! recorded.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use protocol::{NetworkReports, ReportNetwork};
use serde::Deserialize;

use super::body::{StrictJson, answer};
use super::parameters::{invalid, query};
use super::who::{Asking, Looking};
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::store::sqlite::history::{NetworkSearch, Told};

/// How many reports stand on a page where nothing is said, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;
/// The longest value, in bytes.
const MAX_VALUE: usize = 512;

/// `POST /v1/network-reports`.
pub(crate) async fn report(
    State(desk): State<Arc<Desk>>,
    Asking(caller): Asking,
    StrictJson(report): StrictJson<ReportNetwork>,
) -> Result<StatusCode, ApiError> {
    report
        .check()
        .map_err(|error| ApiError::InvalidBody(error.to_string()))?;
    desk.admission
        .admit_report(&caller.scope)
        .map_err(ApiError::NotTakenOn)?;
    // What room is left is for reviews.
    desk.store.has_room()?;
    match desk
        .store
        .record_network(caller.scope, report, now())
        .await?
    {
        Told::Recorded => Ok(StatusCode::NO_CONTENT),
        Told::Otherwise => Err(ApiError::ReportedBefore),
        Told::SessionTaken => Err(ApiError::SessionTaken),
        Told::NoSuchReview => Err(ApiError::InvalidBody(
            "`review_id` is no review of yours".to_owned(),
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    host: Option<String>,
    session: Option<String>,
    caller: Option<String>,
    refused: Option<bool>,
    before: Option<i64>,
    limit: Option<u32>,
}

/// `GET /v1/network-reports`.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    uri: Uri,
) -> Result<Response, ApiError> {
    let found = desk.store.network(&sight, &search(&uri)?).await?;
    let reports = NetworkReports {
        reports: found.reports,
        next: found.next,
    };
    answer(StatusCode::OK, &reports)
}

fn search(uri: &Uri) -> Result<NetworkSearch, ApiError> {
    let asked: ListQuery = query(uri)?;
    let values = [&asked.host, &asked.session, &asked.caller];
    if values
        .into_iter()
        .flatten()
        .any(|value| value.is_empty() || value.len() > MAX_VALUE)
    {
        return Err(invalid("a value must have 1 to 512 bytes"));
    }
    let limit = asked.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid("`limit` must be from 1 to 200"));
    }
    if asked.before.is_some_and(|before| before < 1) {
        return Err(invalid("`before` is the number of a line"));
    }
    Ok(NetworkSearch {
        host: asked.host,
        session: asked.session,
        caller: asked.caller,
        refused: asked.refused.unwrap_or(false),
        before: asked.before,
        limit,
    })
}
