//! Tells a server how the run of its approval ended, so that its history says so.
//!
//! Apart, because nothing hangs on it: the command has ended, and its status stands whether the server hears of it or
//! not. The embedded server is opened once more for it, after the command, so that the local record tells the same.

use std::time::Duration;

use protocol::{ActionDigest, ReviewId, ReviewResource, RunReport};

use crate::config::{Environment, Settings};
use crate::review_client::{HttpServer, ReviewClient, Transport};
use crate::reviewers;
use crate::state::State;

/// How long the end of a command waits for its server to hear of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for the server in this process: many runners may be at its file at once.
const PATIENCE_AT_HOME: Duration = Duration::from_secs(10);

/// Who is told, and about what.
#[derive(Debug)]
pub(crate) struct RunTeller {
    server: Told,
    review_id: ReviewId,
    action_digest: ActionDigest,
}

/// Which server reviewed it.
#[derive(Debug)]
enum Told {
    /// The one that is configured.
    Remote(Box<ReviewClient>),
    /// The one in this process, which was closed before the run.
    Embedded(Box<Settings>, State),
}

impl RunTeller {
    /// For the run that `review` allowed; `None` where nothing was reviewed, or the server cannot be told.
    pub(crate) fn of(
        settings: &Settings,
        state: &State,
        review: Option<&ReviewResource>,
    ) -> Option<Self> {
        let review = review?;
        let server = match settings.runner.server.as_ref() {
            Some(server) => {
                let (http, caller) = HttpServer::new(server).ok()?;
                let transport = Transport::Http(http);
                let client = ReviewClient::new(transport, server.key.clone(), caller);
                Told::Remote(Box::new(client))
            }
            None => Told::Embedded(Box::new(settings.clone()), state.clone()),
        };
        Some(Self {
            server,
            review_id: review.review_id,
            action_digest: review.action_digest,
        })
    }

    /// Tells the status that the runner ends with: the command's own, or 128 and the signal that ended it.
    pub(crate) async fn tell(self, environment: &Environment, exit_code: u8, took: Duration) {
        let report = RunReport {
            action_digest: self.action_digest,
            exit_code: Some(exit_code),
            signal: None,
            duration_ms: u64::try_from(took.as_millis()).ok(),
            confinement: None,
        };
        let patience = match self.server {
            Told::Remote(_) => PATIENCE,
            Told::Embedded(..) => PATIENCE_AT_HOME,
        };
        let telling = async {
            let client = match self.server {
                Told::Remote(client) => *client,
                Told::Embedded(settings, state) => reviewers::local(&settings, environment, &state)
                    .await
                    .ok()?,
            };
            let told = client.report_run(self.review_id, &report).await.ok();
            client.close().await;
            told
        };
        // Who does not hear it has an approval that was spent and no end of its run: that is what happened.
        match tokio::time::timeout(patience, telling).await {
            Ok(Some(()) | None) | Err(_) => {}
        }
    }
}
