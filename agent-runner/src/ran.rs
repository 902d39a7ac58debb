//! Tells a server how the run of its approval ended, so that its history says so.
//!
//! Apart, because nothing hangs on it: the command has ended, and its status stands whether the server hears of it or
//! not. Only a server that is configured is told; the embedded one would have to be opened once more for it.

use std::time::Duration;

use protocol::{ActionDigest, ReviewId, ReviewResource, RunReport};

use crate::config::Settings;
use crate::review_client::{HttpServer, ReviewClient, Transport};

/// How long the end of a command waits for its server to hear of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is told, and about what.
#[derive(Debug)]
pub(crate) struct RunTeller {
    client: ReviewClient,
    review_id: ReviewId,
    action_digest: ActionDigest,
}

impl RunTeller {
    /// For the run that `review` allowed; `None` where no server is configured or nothing was reviewed.
    pub(crate) fn of(settings: &Settings, review: Option<&ReviewResource>) -> Option<Self> {
        let (server, review) = (settings.runner.server.as_ref()?, review?);
        let (http, caller) = HttpServer::new(server).ok()?;
        Some(Self {
            client: ReviewClient::new(Transport::Http(http), server.key.clone(), caller),
            review_id: review.review_id,
            action_digest: review.action_digest,
        })
    }

    /// Tells the status that the runner ends with: the command's own, or 128 and the signal that ended it.
    pub(crate) async fn tell(self, exit_code: u8, took: Duration) {
        let report = RunReport {
            action_digest: self.action_digest,
            exit_code: Some(exit_code),
            signal: None,
            duration_ms: u64::try_from(took.as_millis()).ok(),
            confinement: None,
        };
        let telling = self.client.report_run(self.review_id, &report);
        // Who does not hear it has an approval that was spent and no end of its run: that is what happened.
        match tokio::time::timeout(PATIENCE, telling).await {
            Ok(Ok(()) | Err(_)) | Err(_) => {}
        }
    }
}
