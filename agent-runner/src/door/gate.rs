//! Hosts that no rule names, put to the reviewer: [`Reviews`] behind the door's [`ReviewGate`].
//!
//! Each question is an escalation of its own, with the command that made it as evidence; an approval is redeemed and traded
//! like every other (P1), and holds for this destination until the command ends. Invariant: whatever goes wrong (no
//! reviewer, no answer, an answer that is not believed) leaves the host closed, and is on record.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use network_proxy::{Answer, Destination, Gate, Protocol, Question};
use protocol::{
    Action, Decision, Denial, Evidence, Grant, NetworkAccess, NetworkProtocol, Printable,
    ReviewFailure, ReviewId, ReviewStatus, SubmitReview, TriggerKind,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OnceCell, mpsc, oneshot};

use crate::answer::set_up;
use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::prepare::{Prepared, submission};
use crate::report::shown_command;
use crate::request::RunRequest;
use crate::review_client::{self, Retry, ReviewClient, server_failure};
use crate::reviewers;
use crate::shown::Shown;
use crate::state::State;

/// How many questions one command may cause. What it asks beyond them is not put to anybody.
const MOST_QUESTIONS: usize = 64;
/// How many questions wait to be taken; the door itself bounds how many are open.
const MOST_WAITING: usize = 16;
/// How much of a reviewer's words reaches whoever asked, in characters.
const MOST_WORDS: usize = 300;

/// The door's side: every question goes to whoever holds the [`Reviews`].
#[derive(Debug)]
pub(crate) struct ReviewGate(mpsc::Sender<Asking>);

/// A question, and where its answer goes; who waited for it is gone when that is closed.
#[derive(Debug)]
struct Asking {
    question: Question,
    answer: oneshot::Sender<Answer>,
}

/// The runner's side: asks the reviewer in force. Polled beside the command, in the same task.
#[derive(Debug)]
pub(crate) struct Reviews {
    settings: Settings,
    environment: Environment,
    state: State,
    /// The body of every question but for the host.
    body: SubmitReview,
    client: OnceCell<Result<ReviewClient, ReviewFailure>>,
    asks: mpsc::Receiver<Asking>,
    asked: RefCell<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    questions: usize,
    /// Reviews whose end nobody has seen.
    open: BTreeSet<ReviewId>,
    /// Destinations whose review did not come off: they are not asked about again.
    failed: HashSet<Destination>,
    reviews: Vec<HostReview>,
}

/// What came of one question, for the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HostReview {
    host: String,
    port: u16,
    review_id: Option<ReviewId>,
    status: ReviewStatus,
}

/// What a question ended with, and under which review.
struct Ended {
    answer: Answer,
    status: ReviewStatus,
    review_id: Option<ReviewId>,
}

impl Reviews {
    /// For the command that `request` is.
    ///
    /// # Errors
    /// It cannot be shown to a reviewer whole.
    pub(crate) fn of(
        prepared: &Prepared,
        environment: &Environment,
        request: &RunRequest,
    ) -> Result<(ReviewGate, Self), Failure> {
        let shown = Shown::by(prepared.state.mask_key()?);
        let words: Vec<String> = request
            .argv
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let words = shown.words(&words);
        let nowhere = Action::NetworkAccess(NetworkAccess {
            host: String::new(),
            port: 0,
            protocol: NetworkProtocol::Https,
        });
        let kind = TriggerKind::NetworkBlocked;
        let mut body = submission(prepared, environment, request, nowhere, kind)?;
        body.trigger.detail = Some(shown_command(&words));
        body.evidence.push(Evidence {
            kind: "command".to_owned(),
            value: json!({
                "command": words,
                "cwd": body.environment.cwd,
                "sandbox_permissions": request.permissions,
                "justification": request.justification.as_deref().map(|text| shown.prose(text)),
            }),
            obtained: "what the runner started; it wants to reach the host now".to_owned(),
        });
        let (gate, asks) = mpsc::channel(MOST_WAITING);
        let reviews = Self {
            settings: prepared.settings.clone(),
            environment: environment.clone(),
            state: prepared.state.clone(),
            body,
            client: OnceCell::new(),
            asks,
            asked: RefCell::default(),
        };
        Ok((ReviewGate(gate), reviews))
    }

    /// Answers questions until it is dropped.
    pub(super) async fn serve(&mut self) -> Infallible {
        // Taken out, so that questions can be taken while others are being answered.
        let (_none, closed) = mpsc::channel(1);
        let mut asks = std::mem::replace(&mut self.asks, closed);
        let this = &*self;
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(asking) = asks.recv() => running.push(this.take(asking)),
                Some(()) = running.next() => {}
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Takes back what nobody answered, and says what was asked.
    pub(super) async fn close(self) -> Vec<HostReview> {
        let asked = self.asked.into_inner();
        if let Some(Ok(client)) = self.client.into_inner() {
            for review in asked.open {
                // Should it not reach the server, the review ends by its deadline.
                client.abort(review).await.unwrap_or_default();
            }
            client.close().await;
        }
        asked.reviews
    }

    /// Answers one question, unless nobody waits for it any more.
    async fn take(&self, asking: Asking) {
        let Asking {
            question,
            mut answer,
        } = asking;
        let said = tokio::select! {
            said = self.answer(question) => said,
            // What was opened for it is taken back at the end.
            () = answer.closed() => return,
        };
        // Gone in this very moment: then nobody needs it.
        answer.send(said).unwrap_or(());
    }

    async fn answer(&self, question: Question) -> Answer {
        if !self.may_be_asked(&question.to) {
            return Answer::Failed;
        }
        let action = Action::NetworkAccess(NetworkAccess {
            host: question.to.host.to_string(),
            port: question.to.port,
            protocol: protocol(question.protocol, question.to.port),
        });
        let ended = match self.client().await {
            Ok(client) => self.put(client, &question, &action).await,
            Err(failure) => self.failed(&action, failure, None),
        };
        let mut asked = self.asked.borrow_mut();
        if let Some(review) = ended.review_id {
            let _was_open = asked.open.remove(&review);
        }
        if matches!(ended.answer, Answer::Failed | Answer::TimedOut) {
            let _new = asked.failed.insert(question.to.clone());
        }
        asked.reviews.push(HostReview {
            host: question.to.host.to_string(),
            port: question.to.port,
            review_id: ended.review_id,
            status: ended.status,
        });
        ended.answer
    }

    /// Whether the destination is put to anybody: not what failed before, and not without end.
    fn may_be_asked(&self, to: &Destination) -> bool {
        let mut asked = self.asked.borrow_mut();
        if asked.failed.contains(to) || asked.questions >= MOST_QUESTIONS {
            return false;
        }
        asked.questions += 1;
        true
    }

    async fn client(&self) -> Result<&ReviewClient, ReviewFailure> {
        let made = self.client.get_or_init(async || {
            let client =
                reviewers::configured(&self.settings, &self.environment, &self.state).await;
            client.map_err(|failure| set_up(&failure))
        });
        made.await.as_ref().map_err(Clone::clone)
    }

    async fn put(&self, client: &ReviewClient, question: &Question, action: &Action) -> Ended {
        let mut body = self.body.clone();
        body.action_digest = action.digest();
        body.action = action.clone();
        if let (Some(detail), Some(_)) = (&mut body.trigger.detail, &question.decoded) {
            detail.push_str(&format!(" ({})", Printable(&question.text())));
        }
        let put = client.question(body, reviewers::TIME_LIMIT);
        let review = match client.submit(&put, Duration::ZERO).await {
            Ok(review) => review,
            Err(failure) => return self.failed(action, failure, None),
        };
        let review_id = review.review_id;
        let _new = self.asked.borrow_mut().open.insert(review_id);
        let answered = client.wait(&put, review).await;
        let status = answered.decision.status();
        let answer = match answered.decision {
            Decision::Approved(grant) => {
                match spend(client, &put, (review_id, grant), action).await {
                    Ok(()) => Answer::Execution,
                    Err(failure) => return self.failed(action, failure, Some(review_id)),
                }
            }
            Decision::Denied(denial) => Answer::Denied(Some(words(&denial))),
            Decision::TimedOut => Answer::TimedOut,
            Decision::Aborted => Answer::Failed,
            Decision::Failed(failure) => {
                let recorded = answered
                    .review
                    .is_some_and(|review| review.failure.as_ref() == Some(&failure));
                if !recorded {
                    return self.failed(action, failure, Some(review_id));
                }
                Answer::Failed
            }
        };
        Ended {
            answer,
            status,
            review_id: Some(review_id),
        }
    }

    /// A failure that no server may have recorded is recorded here (design D25).
    fn failed(
        &self,
        action: &Action,
        failure: ReviewFailure,
        review_id: Option<ReviewId>,
    ) -> Ended {
        let entry = JournalEntry {
            at: jiff::Timestamp::now(),
            event: JournalEvent::ReviewFailed { failure, review_id },
            action: action.clone(),
            action_digest: action.digest(),
            session: self.body.session.clone(),
        };
        // It stays closed, whether that can be written down or not.
        journal::append(&self.state.journal(), &entry).unwrap_or_default();
        Ended {
            answer: Answer::Failed,
            status: ReviewStatus::Failed,
            review_id,
        }
    }
}

impl Gate for ReviewGate {
    fn ask(self: Arc<Self>, question: Question) -> BoxFuture<'static, Answer> {
        let asks = self.0.clone();
        Box::pin(async move {
            let (answer, said) = oneshot::channel();
            if asks.send(Asking { question, answer }).await.is_err() {
                return Answer::Failed;
            }
            said.await.unwrap_or(Answer::Failed)
        })
    }
}

/// Spends the approval and trades it for leave, which the connections that wait use up.
async fn spend(
    client: &ReviewClient,
    put: &review_client::Question,
    (review_id, grant): (ReviewId, Grant),
    action: &Action,
) -> Result<(), ReviewFailure> {
    let receipt = client.redeem(put, review_id, &grant).await?;
    let permitted = grant.permit(&receipt, action.clone());
    match permitted {
        Ok(permitted) if permitted.action() == action => Ok(()),
        Ok(_) => Err(server_failure(
            "not_believed",
            Retry::IsUseless,
            "the leave is for another action",
        )),
        Err(error) => Err(server_failure(
            "not_believed",
            Retry::IsUseless,
            &error.to_string(),
        )),
    }
}

/// What whoever asked is told.
fn words(denial: &Denial) -> String {
    let text = match denial {
        Denial::Judged(judgement) => judgement.assessment.rationale.as_str().to_owned(),
        Denial::ByRule(rule) => format!("rule {}", rule.as_str()),
        Denial::ByPerson(reason) if reason.is_empty() => "a person said no".to_owned(),
        Denial::ByPerson(reason) => reason.clone(),
    };
    let text: String = text.chars().take(MOST_WORDS).collect();
    Printable(&text).to_string()
}

/// The protocol's name in actions. What a program that knows of no proxy speaks is told by its port alone.
fn protocol(protocol: Protocol, port: u16) -> NetworkProtocol {
    match (protocol, port) {
        (Protocol::Http | Protocol::Unix, _) | (Protocol::Transparent, 80) => NetworkProtocol::Http,
        (Protocol::HttpsConnect | Protocol::Intercepted, _) | (Protocol::Transparent, 443) => {
            NetworkProtocol::Https
        }
        (Protocol::Socks5Tcp | Protocol::Transparent, _) => NetworkProtocol::Socks5Tcp,
        (Protocol::Socks5Udp, _) => NetworkProtocol::Socks5Udp,
    }
}
