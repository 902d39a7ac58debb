//! The one place where the runner talks to a reviewer, and the one place where it reads a decision.
//!
//! Fail closed (P2, D25): whatever goes wrong between the question and a believed answer is a
//! [`Decision::Failed`], never an error that a caller could pass over. A decision counts only when it is signed by the
//! pinned key for this action, session, caller and question (D19).

mod http;
mod transport;

use std::time::{Duration, Instant};

use protocol::{
    Action, CallerId, Decision, Expected, FailedStep, Grant, Nonce, PersonsAnswer, Problem,
    Receipt, RedeemAnswer, RedeemRequest, ReportNetwork, ReviewFailure, ReviewId, ReviewPage,
    ReviewResource, ReviewStatus, RunReport, ServerKey, SubmitReview, parse_strict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use http::HttpServer;
#[cfg(feature = "embedded")]
pub(crate) use transport::MAX_ANSWER;
use transport::Preference;
pub(crate) use transport::{Call, Method, Reply, Transport, Unreachable};

/// The longest that one long poll waits.
const POLL: Duration = Duration::from_secs(30);
/// How long a poll that ended without an end is followed by nothing.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// How often a submission that met no answer is sent again, under the same idempotency key.
const SUBMISSIONS: u32 = 3;

/// A connection to one reviewer.
#[derive(Debug)]
pub(crate) struct ReviewClient {
    transport: Transport,
    key: ServerKey,
    caller: CallerId,
}

/// A question that was put: what every answer is held against.
#[derive(Debug)]
pub(crate) struct Question {
    body: SubmitReview,
    expected: Expected,
    deadline: Instant,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What binds.
    pub(crate) decision: Decision,
    /// The review as the server told it, where it told it.
    pub(crate) review: Option<ReviewResource>,
}

impl ReviewClient {
    /// A client over `transport`, believing only `key`.
    pub(crate) fn new(transport: Transport, key: ServerKey, caller: CallerId) -> Self {
        Self {
            transport,
            key,
            caller,
        }
    }

    /// Prepares `body` as a question that has to be answered within `time_limit`.
    pub(crate) fn question(&self, body: SubmitReview, time_limit: Duration) -> Question {
        let nonce = Nonce::fresh(uuid::Uuid::new_v4());
        let expected = Expected {
            action_digest: body.action_digest,
            session_id: body.session.session_id.clone(),
            caller: self.caller.clone(),
            nonce,
        };
        Question {
            body,
            expected,
            deadline: Instant::now() + time_limit,
        }
    }

    /// Opens the review and returns it as it stands, waiting up to `wait` for its end.
    ///
    /// # Errors
    /// No review could be opened, or the answer is not about this question.
    pub(crate) async fn submit(
        &self,
        question: &Question,
        wait: Duration,
    ) -> Result<ReviewResource, ReviewFailure> {
        let mut attempt = 1;
        loop {
            let call = Call {
                method: Method::Post,
                path: "/v1/reviews".to_owned(),
                idempotency_key: Some(question.expected.nonce.as_str().to_owned()),
                prefer: (!wait.is_zero()).then_some(Preference::Wait(wait)),
                body: Some(to_json(&question.body)?),
            };
            match self.transport.call(call, question.remaining()).await {
                Ok(reply) => return read_reply(&reply),
                Err(unreachable) if attempt < SUBMISSIONS && unreachable.is_retryable() => {
                    tokio::time::sleep(
                        Duration::from_millis(200 << attempt).min(question.remaining()),
                    )
                    .await;
                    attempt += 1;
                }
                Err(unreachable) => return Err(unreachable.into()),
            }
        }
    }

    /// Waits for the end of `review`, and reads the decision.
    pub(crate) async fn wait(&self, question: &Question, review: ReviewResource) -> Answered {
        let mut review = review;
        while !review.status.is_terminal() && !question.remaining().is_zero() {
            match self.poll(question, review.review_id).await {
                Ok(polled) => {
                    review = polled;
                    // A server that answers at once without an end is not asked without a pause.
                    if !review.status.is_terminal() {
                        tokio::time::sleep(POLL_PAUSE).await;
                    }
                }
                Err(failure) => {
                    return Answered {
                        decision: Decision::Failed(failure),
                        review: Some(review),
                    };
                }
            }
        }
        if review.status == ReviewStatus::Reviewing {
            let decision = Decision::Failed(server_failure(
                "no_answer",
                Retry::MayHelp,
                "the reviewer did not answer in time",
            ));
            return Answered {
                decision,
                review: Some(review),
            };
        }
        let decision = self
            .key
            .read_decision(&review, &question.expected)
            .unwrap_or_else(|forged| {
                let message =
                    format!("{forged}; check `server_url` and `server_key`, and who answers there");
                Decision::Failed(server_failure("not_believed", Retry::IsUseless, &message))
            });
        Answered {
            decision,
            review: Some(review),
        }
    }

    async fn poll(
        &self,
        question: &Question,
        id: ReviewId,
    ) -> Result<ReviewResource, ReviewFailure> {
        let wait = question.remaining().min(POLL);
        let path = format!("/v1/reviews/{id}?wait={}", wait.as_secs().max(1));
        let reply = self
            .transport
            .call(Call::get(path), question.remaining())
            .await?;
        let polled: ReviewResource = read_reply(&reply)?;
        if polled.review_id == id {
            Ok(polled)
        } else {
            Err(unbelieved("the answer is about another review"))
        }
    }

    /// Spends `grant`: after this it is worth nothing to anybody else.
    ///
    /// # Errors
    /// It was spent before, has expired, or the receipt is not believed. Nothing may run then.
    pub(crate) async fn redeem(
        &self,
        question: &Question,
        review_id: ReviewId,
        grant: &Grant,
    ) -> Result<Receipt, ReviewFailure> {
        let body = RedeemRequest {
            action_digest: grant.action_digest(),
            session_id: question.expected.session_id.clone(),
        };
        // How long a yes holds is said of hosts alone.
        let prefer = match question.body.action {
            Action::NetworkAccess(_) => Some(Preference::HostScope),
            Action::Command(_)
            | Action::FileChange(_)
            | Action::ToolCall(_)
            | Action::PermissionRequest(_) => None,
        };
        let call = Call {
            prefer,
            ..Call::post(format!("/v1/reviews/{review_id}/redeem"), to_json(&body)?)
        };
        let reply = self.transport.call(call, Duration::from_secs(10)).await?;
        let answer: RedeemAnswer = read_reply(&reply)?;
        self.key
            .read_receipt(&answer, review_id, &question.expected)
            .map_err(|forged| unbelieved(&forged.to_string()))
    }

    /// Tells how the run of a spent approval ended.
    pub(crate) async fn report_run(
        &self,
        review_id: ReviewId,
        report: &RunReport,
    ) -> Result<(), ReviewFailure> {
        let call = Call::post(format!("/v1/reviews/{review_id}/ran"), to_json(report)?);
        self.transport.call(call, Duration::from_secs(2)).await?;
        Ok(())
    }

    /// Tells what the door decided while a command ran.
    pub(crate) async fn report_network(&self, report: &ReportNetwork) -> Result<(), ReviewFailure> {
        let call = Call::post("/v1/network-reports".to_owned(), to_json(report)?);
        self.transport.call(call, Duration::from_secs(2)).await?;
        Ok(())
    }

    /// Takes the question back. Best effort: the review ends by its deadline anyway.
    pub(crate) async fn abort(&self, review_id: ReviewId) -> Result<(), ReviewFailure> {
        let call = Call::post(format!("/v1/reviews/{review_id}/abort"), b"{}".to_vec());
        self.transport.call(call, Duration::from_secs(2)).await?;
        Ok(())
    }

    /// Records what a person at this terminal answered. The embedded server alone takes it.
    pub(crate) async fn answer(
        &self,
        review_id: ReviewId,
        answer: PersonsAnswer,
    ) -> Result<ReviewResource, ReviewFailure> {
        let body = protocol::Answer {
            answer,
            reason: None,
        };
        let call = Call::post(format!("/v1/reviews/{review_id}/answer"), to_json(&body)?);
        read_reply(&self.transport.call(call, Duration::from_secs(10)).await?)
    }

    /// A page of the history, newest first.
    pub(crate) async fn history(
        &self,
        status: Option<ReviewStatus>,
        before: Option<ReviewId>,
        limit: u32,
    ) -> Result<ReviewPage, ReviewFailure> {
        use std::fmt::Write as _;
        let mut path = format!("/v1/reviews?limit={limit}");
        // Writing to a String cannot fail.
        if let Some(status) = status {
            write!(path, "&status={}", status.as_str()).unwrap_or_default();
        }
        if let Some(before) = before {
            write!(path, "&before={before}").unwrap_or_default();
        }
        let reply = self
            .transport
            .call(Call::get(path), Duration::from_secs(30))
            .await?;
        read_reply(&reply)
    }

    /// Lets the embedded server finish what it holds; nothing for a remote one.
    pub(crate) async fn close(self) {
        self.transport.close().await;
    }
}

impl Question {
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The body that is sent.
    pub(crate) fn body(&self) -> &SubmitReview {
        &self.body
    }
}

/// Whether asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It may.
    MayHelp,
    /// It will not.
    IsUseless,
}

/// A failure between the runner and its server.
pub(crate) fn server_failure(code: &str, retry: Retry, message: &str) -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::Server,
        code: code.to_owned(),
        retryable: retry == Retry::MayHelp,
        message: message.to_owned(),
    }
}

fn unbelieved(message: &str) -> ReviewFailure {
    server_failure("not_believed", Retry::IsUseless, message)
}

impl From<Unreachable> for ReviewFailure {
    fn from(unreachable: Unreachable) -> Self {
        let retry = if unreachable.is_retryable() {
            Retry::MayHelp
        } else {
            Retry::IsUseless
        };
        server_failure(unreachable.code(), retry, &unreachable.to_string())
    }
}

fn to_json<T: Serialize>(body: &T) -> Result<Vec<u8>, ReviewFailure> {
    serde_json::to_vec(body).map_err(|_| {
        server_failure(
            "not_json",
            Retry::IsUseless,
            "the question cannot be written as JSON",
        )
    })
}

/// A 2xx body as a `T`; everything else as the failure that it is.
fn read_reply<T: DeserializeOwned>(reply: &Reply) -> Result<T, ReviewFailure> {
    if (200..300).contains(&reply.status) {
        return parse_strict(&reply.body).map_err(|error| {
            unbelieved(&format!("the reviewer's answer cannot be read: {error}"))
        });
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
        let message = format!(
            "the reviewer answered with status {} and no explanation",
            reply.status
        );
        return Err(server_failure(
            "unexplained_status",
            Retry::IsUseless,
            &message,
        ));
    };
    // A server that could not write its record, or would not take the question on, says so: the step is its own,
    // wherever it was noticed.
    let step = match problem.code.as_str() {
        "draining" => FailedStep::Drain,
        "overloaded" | "rate_limited" | "no_time_left" => FailedStep::Admission,
        code if code.starts_with("store") => FailedStep::Store,
        _ => FailedStep::Server,
    };
    Err(ReviewFailure {
        step,
        code: problem.code,
        retryable: problem.status >= 500 || problem.status == 429,
        message: problem.detail,
    })
}
