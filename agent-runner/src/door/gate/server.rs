//! A server that questions about hosts are put to: [`Server`].
//!
//! Apart, because there can be two at once: the reviewer's, and the local one that a person's answers go to. Invariant: what
//! was opened there and nobody saw end is taken back when it is closed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use protocol::{ReviewFailure, ReviewId};
use tokio::sync::OnceCell;

use crate::answer::set_up;
use crate::failure::Failure;
use crate::review_client::ReviewClient;

/// Set up when the first question is put to it.
#[derive(Debug, Default)]
pub(super) struct Server {
    client: OnceCell<Result<ReviewClient, ReviewFailure>>,
    /// Reviews whose end nobody has seen.
    open: RefCell<BTreeSet<ReviewId>>,
}

impl Server {
    pub(super) async fn client(
        &self,
        made: impl AsyncFnOnce() -> Result<ReviewClient, Failure>,
    ) -> Result<&ReviewClient, ReviewFailure> {
        let client = self
            .client
            .get_or_init(async || made().await.map_err(|failure| set_up(&failure)));
        client.await.as_ref().map_err(Clone::clone)
    }

    pub(super) fn opened(&self, review: ReviewId) {
        let _new = self.open.borrow_mut().insert(review);
    }

    pub(super) fn ended(&self, review: ReviewId) {
        let _was_open = self.open.borrow_mut().remove(&review);
    }

    /// Takes back what is open.
    pub(super) async fn close(self) {
        let Some(Ok(client)) = self.client.into_inner() else {
            return;
        };
        for review in self.open.into_inner() {
            // Should it not reach the server, the review ends by its deadline.
            client.abort(review).await.unwrap_or_default();
        }
        client.close().await;
    }
}
