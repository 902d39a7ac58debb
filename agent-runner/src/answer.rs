//! Putting a question and getting the answer: from the reviewer service, or from the person at the terminal.
//!
//! Invariant: what comes back is an [`Asked`] whose decision was believed; a signal while it is pending takes the
//! question back.

use std::time::Duration;

use protocol::{
    Decision, Denial, FailedStep, Grant, Receipt, ReviewFailure, ReviewId, ReviewResource,
    SubmitReview,
};

use crate::ask::PersonsTerminal;
use crate::config::{ApprovalPolicy, ApprovalsReviewer, Environment, Fallback, OnEnd, Settings};
use crate::failure::Failure;
use crate::pending::PendingLine;
use crate::prepare::Prepared;
use crate::review_client::{Answered, Question, Retry, ReviewClient, server_failure};
use crate::reviewers;
use crate::signals::{EndSignal, Signals};

/// What came of a question.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What binds.
    pub(crate) decision: Decision,
    /// The review as the server told it, where one was opened.
    pub(crate) review: Option<ReviewResource>,
    /// What is needed to spend an approval.
    pub(crate) session: Option<AskedSession>,
    /// The signal that took the question back.
    pub(crate) interrupted: Option<EndSignal>,
}

/// A question that was put, with whom it was put to: enough to spend its approval.
#[derive(Debug)]
pub(crate) struct AskedSession {
    client: ReviewClient,
    question: Question,
    review_id: ReviewId,
}

impl Asked {
    /// What the settings say of a question that ended so. A rule's no, a person's and a signal's end are final.
    fn what_follows(&self, fallback: Fallback) -> OnEnd {
        if self.interrupted.is_some() {
            return OnEnd::Block;
        }
        match &self.decision {
            Decision::Denied(Denial::Judged(_)) => fallback.on_deny,
            Decision::TimedOut => fallback.on_timeout,
            Decision::Failed(_) => fallback.on_failure,
            Decision::Approved(_)
            | Decision::Denied(Denial::ByRule(_) | Denial::ByPerson(_))
            | Decision::Aborted => OnEnd::Block,
        }
    }

    /// Whether no person could be asked because there is no terminal.
    fn found_no_terminal(&self) -> bool {
        matches!(&self.decision, Decision::Failed(failure) if failure.code == NO_TERMINAL)
    }

    /// Lets whoever was asked finish; the answer is not used.
    async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }

    fn failed(failure: ReviewFailure) -> Self {
        Self {
            decision: Decision::Failed(failure),
            review: None,
            session: None,
            interrupted: None,
        }
    }
}

impl AskedSession {
    /// Spends `grant`; afterwards the embedded server has finished what it held.
    ///
    /// # Errors
    /// It cannot be spent. Nothing may run then.
    pub(crate) async fn redeem(self, grant: Grant) -> Result<(Grant, Receipt), ReviewFailure> {
        let redeemed = self
            .client
            .redeem(&self.question, self.review_id, &grant)
            .await;
        self.client.close().await;
        Ok((grant, redeemed?))
    }

    /// Lets the embedded server finish what it holds.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

/// The code of a failure: nobody sits at a terminal.
const NO_TERMINAL: &str = "no_terminal";

/// Puts `body` to `reviewer`, and to a person where the settings say so of how that ended.
pub(crate) async fn ask(
    prepared: &Prepared,
    environment: &Environment,
    reviewer: ApprovalsReviewer,
    body: SubmitReview,
    signals: &mut Signals,
) -> Asked {
    let fallback = prepared.settings.runner.fallback;
    let (asked, follows) = match reviewer {
        ApprovalsReviewer::AutoReview => {
            let asked = ask_service(
                prepared,
                environment,
                (body.clone(), reviewers::TIME_LIMIT),
                signals,
            )
            .await;
            let follows = asked.what_follows(fallback);
            (asked, follows)
        }
        ApprovalsReviewer::User => {
            let asked = ask_person(prepared, environment, body.clone(), signals).await;
            // A person elsewhere, where none is here; never a model in a person's place.
            let elsewhere = asked.found_no_terminal() && fallback.on_failure == OnEnd::Queue;
            let follows = if elsewhere {
                OnEnd::Queue
            } else {
                OnEnd::Block
            };
            (asked, follows)
        }
    };
    match follows {
        OnEnd::Block => asked,
        OnEnd::User => {
            asked.close().await;
            ask_person(prepared, environment, body, signals).await
        }
        OnEnd::Queue => {
            asked.close().await;
            // The same server again, which now asks nobody but an approver.
            let body = SubmitReview {
                must_be_human: true,
                ..body
            };
            let patience = reviewers::QUEUE_LIMIT;
            ask_service(prepared, environment, (body, patience), signals).await
        }
    }
}

async fn ask_service(
    prepared: &Prepared,
    environment: &Environment,
    (body, patience): (SubmitReview, Duration),
    signals: &mut Signals,
) -> Asked {
    let client = match reviewers::configured(&prepared.settings, environment, &prepared.state).await
    {
        Ok(client) => client,
        Err(failure) => return Asked::failed(set_up(&failure)),
    };
    let question = client.question(body, patience);
    let line = PendingLine::show();
    // The review is opened without waiting for its end, so that a signal can name what it takes back.
    let opened = {
        let mut opening = Box::pin(client.submit(&question, Duration::ZERO));
        tokio::select! {
            opened = &mut opening => Ok(opened),
            // It may be judged already: a moment for its name, so that it can be taken back.
            signal = signals.next() => Err((signal, tokio::time::timeout(NAMING, opening).await)),
        }
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err((signal, named)) => {
            let named = named.ok().and_then(Result::ok);
            return interrupted(client, named.map(|review| review.review_id), signal).await;
        }
    };
    let review = match opened {
        Ok(review) => review,
        Err(failure) => {
            client.close().await;
            return Asked::failed(failure);
        }
    };
    let review_id = review.review_id;
    let answered = tokio::select! {
        answered = client.wait(&question, review) => answered,
        signal = signals.next() => return interrupted(client, Some(review_id), signal).await,
    };
    drop(line);
    asked(client, question, review_id, answered)
}

/// Why a person who is wanted was not asked.
fn no_terminal(settings: &Settings) -> ReviewFailure {
    let by_setting = settings.reviewer == ApprovalsReviewer::User
        && settings.approval != ApprovalPolicy::Untrusted;
    let way_out = if by_setting {
        "run it at one, or set approvals_reviewer = \"auto_review\""
    } else {
        "run it at one: a rule or `approval_policy` wants a person here, whoever reviews the rest"
    };
    let message =
        format!("approval must come from a person, and there is no terminal to ask at; {way_out}");
    ReviewFailure {
        step: FailedStep::NotConfigured,
        ..server_failure(NO_TERMINAL, Retry::IsUseless, &message)
    }
}

async fn ask_person(
    prepared: &Prepared,
    environment: &Environment,
    mut body: SubmitReview,
    signals: &mut Signals,
) -> Asked {
    let Ok(mut terminal) = PersonsTerminal::open() else {
        return Asked::failed(no_terminal(&prepared.settings));
    };
    let client = match reviewers::local(&prepared.settings, environment, &prepared.state).await {
        Ok(client) => client,
        Err(failure) => return Asked::failed(set_up(&failure)),
    };
    body.must_be_human = true;
    let question = client.question(body, reviewers::TIME_LIMIT);
    let review = match client.submit(&question, Duration::ZERO).await {
        Ok(review) => review,
        Err(failure) => {
            client.close().await;
            return Asked::failed(failure);
        }
    };
    let review_id = review.review_id;
    let (action, before) = {
        let body = question.body();
        (body.action.clone(), body.retry_reason.clone())
    };
    let asking = tokio::task::spawn_blocking(move || {
        terminal.ask(&action, before.as_deref(), Duration::from_secs(80))
    });
    let answer = tokio::select! {
        answer = asking => answer.map_err(std::io::Error::other).and_then(|answer| answer),
        signal = signals.next() => {
            PersonsTerminal::leave_the_question();
            return interrupted(client, Some(review_id), signal).await;
        }
    };
    let ended = match answer {
        Ok(Some(answer)) => client.answer(review_id, answer).await,
        Ok(None) | Err(_) => client.abort(review_id).await.map(|()| review),
    };
    let answered = match ended {
        Ok(review) => client.wait(&question, review).await,
        Err(failure) => Answered {
            decision: Decision::Failed(failure),
            review: None,
        },
    };
    asked(client, question, review_id, answered)
}

fn asked(
    client: ReviewClient,
    question: Question,
    review_id: ReviewId,
    answered: Answered,
) -> Asked {
    Asked {
        decision: answered.decision,
        review: answered.review,
        session: Some(AskedSession {
            client,
            question,
            review_id,
        }),
        interrupted: None,
    }
}

/// How long an interrupted question waits for its name.
const NAMING: Duration = Duration::from_secs(1);

/// A signal takes the question back; should that not reach the server, its deadline does.
async fn interrupted(
    client: ReviewClient,
    review_id: Option<ReviewId>,
    signal: EndSignal,
) -> Asked {
    if let Some(id) = review_id {
        client.abort(id).await.unwrap_or_default();
    }
    client.close().await;
    Asked {
        decision: Decision::Aborted,
        review: None,
        session: None,
        interrupted: Some(signal),
    }
}

/// A reviewer that cannot be set up, as a review that failed.
pub(crate) fn set_up(failure: &Failure) -> ReviewFailure {
    let message = format!(
        "the reviewer cannot be set up: {}",
        failure.message.replace('\n', "; ")
    );
    server_failure("set_up", Retry::IsUseless, &message)
}
