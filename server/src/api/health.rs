//! Whether the server lives, and whether it can do its work. The two calls that want no token.
//!
//! Invariant: whoever asks, however often, causes one write a second at most and learns nothing but yes or no.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::body::answer;
use crate::desk::Desk;
use crate::error::ApiError;
use crate::store::{ReviewStore as _, StoreError};

/// How long a probe's result is told again.
const FRESH: Duration = Duration::from_secs(1);

/// The last probe of the store.
#[derive(Debug)]
pub(crate) struct Readiness {
    desk: Arc<Desk>,
    last: Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

impl Readiness {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            last: Mutex::new(None),
        }
    }

    async fn check(&self) -> Result<(), ApiError> {
        if self.desk.stopping.is_cancelled() {
            return Err(ApiError::Draining);
        }
        if self.desk.models.is_failing() {
            return Err(ApiError::ModelUnavailable);
        }
        let mut last = self.last.lock().await;
        let fresh = last
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, result)| result.clone());
        let result = match fresh {
            Some(result) => result,
            None => {
                let result = match self.desk.store.has_room() {
                    Ok(()) => self.desk.store.probe().await,
                    full => full,
                };
                *last = Some((Instant::now(), result.clone()));
                result
            }
        };
        Ok(result?)
    }
}

/// That it can.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Health {
    /// `alive` or `ready`.
    status: &'static str,
}

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Result<Response, ApiError> {
    answer(StatusCode::OK, &Health { status: "alive" })
}

/// `GET /readyz`: the store can be written, there is room for what comes, and where models are configured one has answered or
/// is still being asked.
pub(crate) async fn ready(State(readiness): State<Arc<Readiness>>) -> Result<Response, ApiError> {
    readiness.check().await?;
    answer(StatusCode::OK, &Health { status: "ready" })
}
