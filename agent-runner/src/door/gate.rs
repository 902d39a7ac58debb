//! Hosts that no rule names, put to the reviewer: [`Reviews`] behind the door's [`ReviewGate`].
//!
//! Each question is an escalation of its own, with the command that made it as evidence; an approval is redeemed and traded
//! like every other (P1), and holds for this destination until the command ends, or as long as a person chose. Invariants:
//! whatever goes wrong (no reviewer, no answer, an answer that is not believed) leaves the host closed, and is on record; what
//! stands from before is on record before it opens anything.

mod keep;
mod person;
mod queue;
mod server;
mod terms;

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use network_proxy::{Answer, Destination, Gate, Question};
use protocol::{
    Action, Decision, Evidence, Grant, NetworkAccess, NetworkProtocol, PermittedAction, Printable,
    ReceiptScope, ReviewFailure, ReviewId, ReviewStatus, SubmitReview, TriggerKind, shown_command,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};

use self::queue::{Follows, Put, Said, patience};
use self::server::Server;
use self::terms::{protocol, words};
use super::asker::{Asker, TerminalIs};
use crate::ask::Holds;
use crate::config::{Environment, Settings};
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::leaves::StandingHosts;
use crate::prepare::{Prepared, submission};
use crate::request::RunRequest;
use crate::review_client::{self, Retry, ReviewClient, server_failure};
use crate::reviewers;
use crate::shown::Shown;
use crate::state::State;

/// How many questions one command may cause. What it asks beyond them is not put to anybody.
const MOST_QUESTIONS: usize = 64;
/// How many questions wait to be taken; the door itself bounds how many are open.
const MOST_WAITING: usize = 16;

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
    /// Of the reviewer that is configured.
    configured: Server,
    /// For a person's answers, where the reviewer's is elsewhere.
    local: Server,
    asks: mpsc::Receiver<Asking>,
    asked: RefCell<Asked>,
    asker: Asker,
    /// Whose it is while the command runs.
    terminal_is: TerminalIs,
    /// What the session has leave for already.
    hosts: StandingHosts,
    /// One question at a time stands on a person's terminal.
    terminal: Mutex<()>,
}

#[derive(Debug, Default)]
struct Asked {
    questions: usize,
    /// Destinations whose review did not come off: they are not asked about again.
    failed: HashSet<Destination>,
    /// What was opened by leave that stood before, and is on record.
    by_leave: Vec<NetworkAccess>,
    reviews: Vec<HostReview>,
}

/// What came of one question, for the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HostReview {
    host: String,
    port: u16,
    review_id: Option<ReviewId>,
    status: ReviewStatus,
    /// How long a yes holds.
    holds: Option<Holds>,
}

/// What a question ended with, and under which review.
struct Ended {
    answer: Answer,
    status: ReviewStatus,
    review_id: Option<ReviewId>,
    holds: Option<Holds>,
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
        (asker, terminal_is, hosts): (Asker, TerminalIs, StandingHosts),
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
            configured: Server::default(),
            local: Server::default(),
            asks,
            asked: RefCell::default(),
            asker,
            terminal_is,
            hosts,
            terminal: Mutex::default(),
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
        self.configured.close().await;
        self.local.close().await;
        self.asked.into_inner().reviews
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
        let access = NetworkAccess {
            host: question.to.host.to_string(),
            port: question.to.port,
            protocol: protocol(question.protocol, question.to.port),
        };
        if let Some(answer) = self.by_leave(&access) {
            return answer;
        }
        if self.asker == Asker::Nobody || !self.may_be_asked(&question.to) {
            return Answer::Failed;
        }
        let action = Action::NetworkAccess(access);
        let ended = self.put(&question, &action).await;
        let answer = ended.answer.clone();
        if matches!(answer, Answer::Failed | Answer::TimedOut) {
            let _new = self.asked.borrow_mut().failed.insert(question.to.clone());
        }
        self.report(&question.to, &ended);
        answer
    }

    /// Says in the report how a question ended.
    fn report(&self, to: &Destination, ended: &Ended) {
        self.asked.borrow_mut().reviews.push(HostReview {
            host: to.host.to_string(),
            port: to.port,
            review_id: ended.review_id,
            status: ended.status,
            holds: ended.holds,
        });
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

    /// The server that questions for `asker` are put to: a person's answer is taken by the local one alone.
    fn server(&self, asker: Asker) -> &Server {
        let elsewhere = self.settings.runner.server.is_some();
        match asker {
            Asker::Person if elsewhere => &self.local,
            Asker::Person | Asker::Reviewer(_) | Asker::Approver | Asker::Nobody => {
                &self.configured
            }
        }
    }

    async fn client(&self, asker: Asker) -> Result<&ReviewClient, ReviewFailure> {
        let made = async || {
            let (settings, environment, state) = (&self.settings, &self.environment, &self.state);
            match asker {
                Asker::Person => reviewers::local(settings, environment, state).await,
                Asker::Reviewer(_) | Asker::Approver | Asker::Nobody => {
                    reviewers::configured(settings, environment, state).await
                }
            }
        };
        self.server(asker).client(made).await
    }

    /// Puts the question to the asker in force, and to a person where the settings say so of how that ended.
    async fn put(&self, question: &Question, action: &Action) -> Ended {
        let (ended, next) = self.ask((self.asker, question), action).await;
        let Some(next) = next else {
            return ended;
        };
        // How the reviewer left it stands in the report beside what the person says.
        self.report(&question.to, &ended);
        self.ask((next, question), action).await.0
    }

    /// Asks `asker`; how that ended, and who is asked next.
    async fn ask(
        &self,
        (asker, question): (Asker, &Question),
        action: &Action,
    ) -> (Ended, Option<Asker>) {
        let _terminal = match asker {
            Asker::Person => Some(self.terminal.lock().await),
            Asker::Reviewer(_) | Asker::Approver | Asker::Nobody => None,
        };
        let after = Follows {
            asker,
            fallback: self.settings.runner.fallback,
            terminal: self.terminal_is,
        };
        let put = match self.client(asker).await {
            Ok(client) => {
                let put = self.answered(client, (asker, question), action).await;
                put.map(|put| (client, put))
            }
            Err(failure) => Err(failure),
        };
        match put {
            Ok((client, put)) => {
                let (review_id, next) = (put.review_id, after.decision(&put.answered.decision));
                let ended = self.settle(client, put, action).await;
                self.server(asker).ended(review_id);
                (ended, next)
            }
            Err(failure) => (self.failed(action, failure, None), after.nothing()),
        }
    }

    /// Puts the question to `asker`, and waits for the end.
    async fn answered(
        &self,
        client: &ReviewClient,
        (asker, question): (Asker, &Question),
        action: &Action,
    ) -> Result<Put, ReviewFailure> {
        let body = self.body_for((asker, question), action);
        let put = client.question(body, patience(asker));
        let review = client.submit(&put, Duration::ZERO).await?;
        let review_id = review.review_id;
        self.server(asker).opened(review_id);
        let (answered, holds) = match (asker, action) {
            (Asker::Person, Action::NetworkAccess(access)) => {
                let asked = self.for_person(access.clone());
                let (answered, holds) = person::answered(client, &put, review, asked).await;
                (answered, Said::Here(holds))
            }
            (Asker::Reviewer(holds), _) => (client.wait(&put, review).await, Said::Set(holds)),
            (Asker::Nobody | Asker::Person | Asker::Approver, _) => {
                let answered = client.wait(&put, review).await;
                (answered, Said::Set(Holds::Command))
            }
        };
        Ok(Put {
            put,
            review_id,
            answered,
            holds,
        })
    }

    /// Makes of how a question ended what the door is told; an approval is spent.
    async fn settle(&self, client: &ReviewClient, asked: Put, action: &Action) -> Ended {
        let (review_id, answered) = (asked.review_id, asked.answered);
        let status = answered.decision.status();
        let ended = |answer| Ended {
            answer,
            status,
            review_id: Some(review_id),
            holds: None,
        };
        match answered.decision {
            Decision::Approved(grant) => {
                let spent = spend(client, &asked.put, (review_id, grant), action).await;
                let (permitted, scope) = match spent {
                    Ok(spent) => spent,
                    Err(failure) => return self.failed(action, failure, Some(review_id)),
                };
                let holds = asked.holds.after(scope);
                let holds = self.keep(permitted, review_id, holds).await;
                Ended {
                    holds: Some(holds),
                    ..ended(Answer::Execution)
                }
            }
            Decision::Denied(denial) => ended(Answer::Denied(Some(words(&denial)))),
            Decision::TimedOut => ended(Answer::TimedOut),
            Decision::Aborted => ended(Answer::Failed),
            Decision::Failed(failure) => {
                let recorded = answered
                    .review
                    .is_some_and(|review| review.failure.as_ref() == Some(&failure));
                if !recorded {
                    return self.failed(action, failure, Some(review_id));
                }
                ended(Answer::Failed)
            }
        }
    }

    fn body_for(&self, (asker, question): (Asker, &Question), action: &Action) -> SubmitReview {
        let mut body = self.body.clone();
        body.action_digest = action.digest();
        body.action = action.clone();
        body.must_be_human |= matches!(asker, Asker::Person | Asker::Approver);
        if let Some(detail) = &mut body.trigger.detail {
            if question.decoded.is_some() {
                detail.push_str(&format!(" ({})", Printable(&question.text())));
            }
            if asker == Asker::Reviewer(Holds::Session) && self.hosts.has_session() {
                detail.push_str("; a yes holds for the rest of the session");
            }
        }
        body
    }

    /// A failure that no server may have recorded is recorded here (design D25).
    fn failed(
        &self,
        action: &Action,
        failure: ReviewFailure,
        review_id: Option<ReviewId>,
    ) -> Ended {
        let entry = JournalEntry {
            at: Timestamp::now(),
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
            holds: None,
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

/// Spends the approval and trades it for leave, which the connections that wait use up; and how long it holds.
async fn spend(
    client: &ReviewClient,
    put: &review_client::Question,
    (review_id, grant): (ReviewId, Grant),
    action: &Action,
) -> Result<(PermittedAction, ReceiptScope), ReviewFailure> {
    let receipt = client.redeem(put, review_id, &grant).await?;
    let permitted = grant.permit(&receipt, action.clone());
    match permitted {
        Ok(permitted) if permitted.action() == action => Ok((permitted, receipt.scope())),
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
