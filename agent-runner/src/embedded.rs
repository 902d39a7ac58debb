//! The server in this process: the same router over the same database as every other runner of this user, and no
//! port (design D18).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use protocol::{CallerId, ServerKey};
use reviewer::{PolicyTable, Reviewer, ReviewerSettings};
use server::{KeyError, Limits, OpenError, Service, ServiceSettings, SigningKey};
use thiserror::Error;
use tower::ServiceExt as _;

use crate::config::{Environment, Settings};
use crate::review_client::{Call, MAX_ANSWER, Method, Reply, Unreachable};
use crate::state::State;

const NAME: &str = "embedded";

/// The server in this process.
#[derive(Debug)]
pub(crate) struct EmbeddedServer {
    service: Service,
    router: axum::Router,
}

/// Why the embedded server does not start.
#[derive(Debug, Error)]
pub(crate) enum EmbeddedError {
    /// The reviewer's settings are not valid.
    #[error("the reviewer's settings are not valid")]
    Reviewer(#[from] reviewer::InvalidSettings),
    /// The store does not open.
    #[error("the embedded review service does not start")]
    Open(#[from] OpenError),
    /// No key to sign with.
    #[error("the embedded review service has no key")]
    Key(#[from] KeyError),
}

/// The reviewer that the settings describe.
///
/// # Errors
/// The settings are not valid.
pub(crate) fn reviewer(
    settings: &Settings,
    environment: &Environment,
) -> Result<Reviewer, reviewer::InvalidSettings> {
    let runner = &settings.runner;
    // The documented keys of the shared file win over the runner's own table: they are what people bring along.
    let policy = match &settings.policy_section {
        Some(section) => PolicyTable {
            section: Some(section.clone()),
            section_file: None,
            ..runner.policy.clone()
        },
        None => runner.policy.clone(),
    };
    let settings = ReviewerSettings {
        reviewer: runner.reviewer.clone(),
        policy,
    };
    Reviewer::new(&settings, &|name| environment.lookup(name))
}

impl EmbeddedServer {
    /// Opens the user's own record, for the user who runs this.
    ///
    /// # Errors
    /// Settings or store cannot be used.
    pub(crate) async fn open(
        settings: &Settings,
        environment: &Environment,
        state: &State,
    ) -> Result<(Self, ServerKey, CallerId), EmbeddedError> {
        let service = Service::open(ServiceSettings {
            database: state.database(),
            // The key lives as long as this process: who reads its decisions is in the same one.
            tenants: std::collections::BTreeMap::new(),
            signing_key: SigningKey::ephemeral()?,
            reviewer: Arc::new(reviewer(settings, environment)?),
            speaks_for_user: BTreeSet::new(),
            limits: Limits::default(),
        })
        .await?;
        let caller = CallerId::of_uid(rustix::process::geteuid().as_raw());
        let router = service.embedded_router(caller.clone());
        let key = service.server_key();
        Ok((Self { service, router }, key, caller))
    }

    /// One call, by the same router that a port would have.
    ///
    /// # Errors
    /// It does not answer in time.
    pub(crate) async fn call(&self, call: Call, limit: Duration) -> Result<Reply, Unreachable> {
        let late = || Unreachable::Late(NAME.to_owned());
        let broken = || Unreachable::Connect(NAME.to_owned());
        let method = match call.method {
            Method::Get => axum::http::Method::GET,
            Method::Post => axum::http::Method::POST,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(call.path.as_str())
            .header(header::HOST, NAME);
        for (name, value) in call.headers() {
            request = request.header(name, value);
        }
        let request = request
            .body(Body::from(call.body.unwrap_or_default()))
            .map_err(|_| broken())?;
        let answer = async {
            let response = match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|_| broken())?;
            Ok(Reply {
                status,
                body: body.to_bytes().to_vec(),
            })
        };
        tokio::time::timeout(limit + Duration::from_secs(5), answer)
            .await
            .map_err(|_elapsed| late())?
    }

    /// Finishes what it holds: every review that was opened here ends on record.
    pub(crate) async fn close(self) {
        self.service.close().await;
    }
}
