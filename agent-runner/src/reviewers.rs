//! Which reviewer answers, and how long it may take: the server that is configured, else the embedded one.

use std::time::Duration;

use crate::config::{Environment, Settings};
#[cfg(feature = "embedded")]
use crate::embedded::EmbeddedError;
use crate::failure::Failure;
use crate::review_client::ReviewClient;
use crate::state::State;

/// How long a review may take in all, as the runner sees it: the field's default of 90 s and a little for the way.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(95);
/// How long an approver elsewhere is waited for at most; the server's own limit is mostly shorter.
pub(crate) const QUEUE_LIMIT: Duration = Duration::from_secs(3_605);

/// The reviewer that `approvals_reviewer = "auto_review"` means.
///
/// # Errors
/// It cannot be set up. The caller turns that into a failed review.
pub(crate) async fn configured(
    settings: &Settings,
    environment: &Environment,
    state: &State,
) -> Result<ReviewClient, Failure> {
    match &settings.runner.server {
        Some(server) => {
            let (http, caller) = crate::review_client::HttpServer::new(server)?;
            let transport = crate::review_client::Transport::Http(http);
            Ok(ReviewClient::new(transport, server.key.clone(), caller))
        }
        None => local(settings, environment, state).await,
    }
}

/// Makes sure that [`configured`] could be set up; nothing is sent, and no record is opened.
///
/// # Errors
/// A setting, a token or a key cannot be used.
pub(crate) fn check(settings: &Settings, environment: &Environment) -> Result<(), Failure> {
    if let Some(server) = &settings.runner.server {
        crate::review_client::HttpServer::new(server)?;
        return Ok(());
    }
    #[cfg(feature = "embedded")]
    crate::embedded::reviewer(settings, environment).map_err(EmbeddedError::Reviewer)?;
    #[cfg(not(feature = "embedded"))]
    let _unused = environment;
    Ok(())
}

/// The embedded server: the local record, and the one that a person's answers go to.
///
/// # Errors
/// It cannot be set up, or was left out of this build.
#[cfg(feature = "embedded")]
pub(crate) async fn local(
    settings: &Settings,
    environment: &Environment,
    state: &State,
) -> Result<ReviewClient, Failure> {
    let (embedded, key, caller) =
        crate::embedded::EmbeddedServer::open(settings, environment, state).await?;
    Ok(ReviewClient::new(
        crate::review_client::Transport::Embedded(embedded),
        key,
        caller,
    ))
}

/// See the other one.
#[cfg(not(feature = "embedded"))]
pub(crate) async fn local(
    _: &Settings,
    _: &Environment,
    _: &State,
) -> Result<ReviewClient, Failure> {
    Err(Failure::because(
        "this build has no reviewer of its own\nhint: set `server_url` in agent-runner.toml",
    ))
}
