//! Bodies in and out.
//!
//! Apart, because a body is the widest door. Invariant: at most 1 MiB is ever held, for a bounded time, and JSON with a
//! key that stands twice is refused.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use protocol::{InvalidJson, parse_strict};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::store::StoreError;

/// The largest body, in bytes: a long transcript and a patch fit.
const MAX_BYTES: usize = 1024 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// A JSON body, read strictly.
pub(crate) struct StrictJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for StrictJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_headers(request.headers())?;
        let arriving = to_bytes(request.into_body(), MAX_BYTES);
        let bytes = match tokio::time::timeout(PATIENCE, arriving).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(cut_short(error)),
            Err(_elapsed) => return Err(ApiError::BodyIncomplete),
        };
        parse_strict(&bytes)
            .map(Self)
            .map_err(|error| invalid(&error))
    }
}

/// Why a body could not be read: its limit, or that it is not what it says (or the connection broke, and then nobody
/// reads the answer).
fn cut_short(error: axum::Error) -> ApiError {
    if error.into_inner().is::<LengthLimitError>() {
        ApiError::TooLarge
    } else {
        ApiError::InvalidJson("the body did not arrive whole, or is no `gzip`".to_owned())
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    let is_json = content_type.is_some_and(|it| it.eq_ignore_ascii_case("application/json"));
    if !is_json || headers.contains_key(CONTENT_ENCODING) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_BYTES) {
        return Err(ApiError::TooLarge);
    }
    Ok(())
}

fn invalid(error: &InvalidJson) -> ApiError {
    let detail = error.to_string();
    let category = error
        .source()
        .and_then(|source| source.downcast_ref::<serde_json::Error>())
        .map(serde_json::Error::classify);
    match category {
        Some(serde_json::error::Category::Data) => ApiError::InvalidBody(detail),
        Some(
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof,
        )
        | None => ApiError::InvalidJson(detail),
    }
}

/// Answers `value` as JSON.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value)
        .map_err(|_| StoreError::Corrupt("an answer cannot be spelled"))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((status, headers, Body::from(body)).into_response())
}
