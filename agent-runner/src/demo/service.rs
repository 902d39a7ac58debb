//! The demo's review service: the real one, on a real loopback port, with a token and a key as a team would have them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::{HistoryEntry, ReviewId, ReviewPage, ServerKey};
use reviewer::{ModelTable, Provider, Reviewer, ReviewerSettings, ReviewerTable};
use server::{Limits, Service, ServiceSettings, SigningKey};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::stage::Stage;

/// Short enough for a person who watches, long enough for three attempts at a model that answers 500.
const REVIEW_SECONDS: u64 = 4;

/// The service, listening.
pub(super) struct DemoService {
    service: Service,
    servers: JoinSet<io::Result<()>>,
    url: String,
    origin: u16,
    token: String,
    database: PathBuf,
    client: reqwest::Client,
}

/// Why the service does not start.
#[derive(Debug, Error)]
pub(super) enum ServiceError {
    /// No loopback port.
    #[error("no loopback port can be opened")]
    Listen(#[from] io::Error),
    /// No reviewer.
    #[error("the reviewer cannot be set up")]
    Reviewer(#[from] reviewer::InvalidSettings),
    /// No service.
    #[error("the review service does not start")]
    Open(#[from] server::OpenError),
    /// No key.
    #[error("the review service has no key")]
    Key(#[from] server::KeyError),
    /// No token.
    #[error("the review service makes no token")]
    Token(#[from] server::TokenError),
    /// No client to read the record with.
    #[error("no HTTP client can be made")]
    Client(#[from] reqwest::Error),
}

impl DemoService {
    /// Starts the stand-in model and the service that asks it.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub(super) async fn start(stage: &Stage) -> Result<Self, ServiceError> {
        let mut servers = JoinSet::new();
        let model = TcpListener::bind(("127.0.0.1", 0)).await?;
        let model_url = format!("http://{}/v1", model.local_addr()?);
        servers.spawn(async move { axum::serve(model, super::model::router()).await });

        let origin = TcpListener::bind(("127.0.0.1", 0)).await?;
        let origin_port = origin.local_addr()?.port();
        servers.spawn(async move { axum::serve(origin, super::origin::router()).await });

        let database = stage.database();
        let service = Service::open(ServiceSettings {
            database: database.clone(),
            tenants: std::collections::BTreeMap::new(),
            signing_key: SigningKey::ephemeral()?,
            reviewer: Arc::new(Reviewer::new(&settings(model_url), &|_| None)?),
            speaks_for_user: BTreeSet::new(),
            limits: Limits::default(),
        })
        .await?;
        let token = service.create_token("demo").await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = service.bare_router();
        servers.spawn(async move { axum::serve(listener, router).await });
        // Fails only where a provider was installed before, which serves as well.
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap_or_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()?;
        Ok(Self {
            service,
            servers,
            url,
            origin: origin_port,
            token,
            database,
            client,
        })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The port of the web server beside it.
    pub(super) fn origin(&self) -> u16 {
        self.origin
    }

    /// What its decisions are signed with.
    pub(super) fn key(&self) -> ServerKey {
        self.service.server_key()
    }

    /// The token that opens it.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Where the record is.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// The history as the API tells it, newest first.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(super) async fn history(&self) -> Result<Vec<HistoryEntry>, String> {
        let url = format!("{}/v1/reviews?limit=100", self.url);
        let answer = self
            .client
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let page: ReviewPage = answer.json().await.map_err(|error| error.to_string())?;
        Ok(page.reviews)
    }

    /// One review as the API tells it.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(super) async fn entry(&self, id: ReviewId) -> Result<Option<HistoryEntry>, String> {
        Ok(self
            .history()
            .await?
            .into_iter()
            .find(|entry| entry.review.review_id == id))
    }

    /// Ends it; every review is on record.
    pub(super) async fn stop(mut self) {
        self.servers.shutdown().await;
        self.service.close().await;
    }
}

fn settings(model_url: String) -> ReviewerSettings {
    let model = ModelTable::new(Provider::OpenAiChat, model_url, "stand-in".to_owned());
    let reviewer = ReviewerTable {
        deadline_secs: Some(REVIEW_SECONDS),
        model: vec![model],
        ..ReviewerTable::default()
    };
    ReviewerSettings {
        reviewer,
        ..ReviewerSettings::default()
    }
}
