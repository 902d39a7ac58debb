//! Sessions as their owner and the tenant's auditors see them: turns, and what their breakers have counted.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::{SessionResource, TurnResource};

use super::body::answer;
use super::who::Looking;
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::store::{SessionRecord, TurnRecord};

/// `GET /v1/sessions/{id}`.
pub(crate) async fn show(
    State(desk): State<Arc<Desk>>,
    Looking(sight): Looking,
    Path(session_id): Path<String>,
) -> Result<Response, ApiError> {
    let session = desk.store.session(&sight, &session_id).await?;
    answer(
        StatusCode::OK,
        &resource(session.ok_or(ApiError::NotFound)?),
    )
}

fn resource(session: SessionRecord) -> SessionResource {
    SessionResource {
        session_id: session.session_id,
        caller: session.caller,
        opened_at: session.opened_at,
        turns: session.turns.into_iter().map(turn).collect(),
    }
}

fn turn(turn: TurnRecord) -> TurnResource {
    let (breaker, at) = (turn.breaker, now().as_millisecond());
    let stopped = breaker.check(at).err();
    TurnResource {
        turn_id: turn.turn_id,
        opened_at: turn.opened_at,
        last_at: turn.last_at,
        reviews: breaker.asked(),
        denied_in_a_row: breaker.denied_in_a_row(at),
        denied_among_last_50: breaker.denied_among_last(at),
        stopped: stopped.map(|tripped| tripped.failure(breaker.span())),
    }
}
