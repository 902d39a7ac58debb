//! Streams of events: of one review until it has ended, and of everything that the caller may see.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;

use super::parameters::{ReviewPath, invalid};
use super::who::Looking;
use crate::auth::Standing;
use crate::desk::Desk;
use crate::error::ApiError;
use crate::store::{ReviewStore as _, Sight};
use crate::stream::{AHEAD, Cut, Stream, Subject};

/// `GET /v1/reviews/{id}/events`: from its opening, or after `Last-Event-ID`. 204 where it has ended and all is told.
pub(crate) async fn of_review(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    ReviewPath(review_id): ReviewPath,
    standing: Option<Extension<Standing>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = last_event_id(&headers)?.unwrap_or(0);
    let recorded = desk.store.review(&sight, review_id).await?;
    let recorded = recorded.ok_or(ApiError::NotFound)?;
    let told = desk
        .store
        .events_of(sight.tenant(), review_id, after)
        .await?;
    if recorded.end.is_some() && told.events.is_empty() {
        // What a client of the standard takes as the end (WHATWG HTML, server-sent events: 204 stops reconnecting).
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let subject = Subject::Review(sight, review_id);
    stream(&desk, subject, after, standing)
}

/// `GET /v1/events`: from now on, or after `Last-Event-ID`; 0 is the beginning of the record.
pub(crate) async fn of_tenant(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    standing: Option<Extension<Standing>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = desk.store.last_event(sight.tenant()).await?;
    let after = last_event_id(&headers)?.unwrap_or(last);
    if after > last {
        return Err(invalid(
            "`Last-Event-ID` is later than the record: it comes from another record, or from before a restore",
        ));
    }
    stream(&desk, Subject::All(sight), after, standing)
}

fn stream(
    desk: &Arc<Desk>,
    subject: Subject,
    after: i64,
    standing: Option<Extension<Standing>>,
) -> Result<Response, ApiError> {
    if desk.stopping.is_cancelled() {
        return Err(ApiError::Draining);
    }
    let tenant = match &subject {
        Subject::All(sight) | Subject::Review(sight, _) => Sight::tenant(sight),
    };
    let _place = desk
        .streams
        .enter(tenant)
        .ok_or(ApiError::NotTakenOn(crate::admission::Refused::NoRoom))?;
    let stream = Stream {
        standing: standing.map(|Extension(standing)| standing),
        subject,
        after,
        _place,
    };
    let (sender, channel) = Channel::<Bytes, Cut>::new(AHEAD);
    let carrier = Arc::clone(desk);
    drop(
        desk.tasks
            .spawn(async move { stream.carry(&carrier, sender).await }),
    );
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((StatusCode::OK, headers, Body::new(channel.fuse())).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let mut values = headers.get_all("last-event-id").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let digits = value.to_str().ok().filter(|text| {
                !text.is_empty() && text.len() <= 18 && text.bytes().all(|it| it.is_ascii_digit())
            });
            let number = digits.and_then(|digits| digits.parse().ok());
            number
                .map(Some)
                .ok_or_else(|| invalid("`Last-Event-ID` is no id of an event"))
        }
        (Some(_), Some(_)) => Err(invalid("`Last-Event-ID` stands twice")),
    }
}
