//! The person's answer about a host, recorded as every person's answer is.
//!
//! Apart from the reviewer's because somebody sits at a terminal that no command has. Invariant: nobody there, nobody
//! answering in time and a question that nobody waits for any more are no yes, and the review is taken back.

use std::io;
use std::time::Duration;

use protocol::{Decision, NetworkAccess, PersonsAnswer, ReviewResource};

use super::Reviews;
use super::keep::rule;
use crate::ask::{Holds, HostAnswer, HostQuestion, PersonsTerminal};
use crate::review_client::{Answered, Question, ReviewClient};

/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(80);

impl Reviews {
    /// What the person is shown about `access`.
    pub(super) fn for_person(&self, access: NetworkAccess) -> HostQuestion {
        let session = self.body.session.session_id.clone();
        HostQuestion {
            rule: rule(&access),
            access,
            command: self.body.trigger.detail.clone().unwrap_or_default(),
            session: session.filter(|_| self.hosts.has_session()),
        }
    }
}

/// Asks the person, and tells the answer to the record; what comes back is as binding as any.
pub(super) async fn answered(
    client: &ReviewClient,
    put: &Question,
    review: ReviewResource,
    question: HostQuestion,
) -> (Answered, Holds) {
    let review_id = review.review_id;
    let (ended, holds) = match said(question).await {
        Ok(Some(HostAnswer::Allow(holds))) => {
            (client.answer(review_id, PersonsAnswer::Allow).await, holds)
        }
        Ok(Some(HostAnswer::Deny)) => {
            let told = client.answer(review_id, PersonsAnswer::Deny).await;
            (told, Holds::Command)
        }
        Ok(None) | Err(_) => {
            let ended = client.abort(review_id).await.map(|()| review);
            (ended, Holds::Command)
        }
    };
    let answered = match ended {
        Ok(review) => client.wait(put, review).await,
        Err(failure) => Answered {
            decision: Decision::Failed(failure),
            review: None,
        },
    };
    (answered, holds)
}

async fn said(question: HostQuestion) -> io::Result<Option<HostAnswer>> {
    // Dropped with this future: that ends the question on the terminal, too.
    let (waiting, _here) = io::pipe()?;
    let asking = tokio::task::spawn_blocking(move || {
        PersonsTerminal::open()?.ask_host(&question, PATIENCE, &waiting)
    });
    asking.await.map_err(io::Error::other)?
}
