//! From an open review to how it ends: the reviewer, a person, the deadline, an abort or the server's going down.
//!
//! Apart from the record, and without an error: whatever happens here is a verdict (P2, P5).

use std::sync::Arc;
use std::time::Duration;

use protocol::{Decision, Denial, Escalation, FailedStep, Grant, PersonsAnswer, ReviewFailure};
use reviewer::{Reviewed, Reviewer};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Desk, People};
use crate::flight::{Flight, Reply};
use crate::store::Tally;
use crate::verdict::Verdict;

/// How much longer than its deadline the reviewer may take to say that it is over.
pub(super) const OVERRUN: Duration = Duration::from_millis(250);

/// What is judged.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) escalation: Escalation,
    pub(crate) deadline: Instant,
    pub(crate) people: People,
    /// Who judges: chosen once, as it came in.
    pub(crate) reviewer: Arc<Reviewer>,
    /// SHA-256 over everything that was sent.
    pub(crate) request_digest: [u8; 32],
    pub(crate) asks: Asks,
}

/// Whom a case asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The built-in rules decide it.
    Rules,
    /// A model has to be asked, or a person.
    Others,
}

/// How it was judged.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) exhibit: Option<String>,
    /// The denial that stands where the leave which lifts it is not there any more.
    pub(super) without_leave: Option<Box<Verdict>>,
    pub(super) tally: Tally,
}

impl Judged {
    pub(super) fn new(verdict: Verdict, exhibit: Option<String>) -> Self {
        Self {
            verdict,
            exhibit,
            without_leave: None,
            tally: Tally::Counted,
        }
    }
}

impl Desk {
    /// Judges `case`.
    pub(super) async fn judge(&self, case: &Case, flight: &Flight) -> Judged {
        tokio::select! {
            biased;
            () = flight.aborted() => Decision::Aborted.into(),
            () = self.stopping.cancelled() => Decision::Failed(draining()).into(),
            judged = self.decide(case, flight) => judged,
        }
    }

    async fn decide(&self, case: &Case, flight: &Flight) -> Judged {
        if !case.escalation.must_be_human {
            // What the rules decide waits for no model's slot.
            let at_once = case.asks == Asks::Rules;
            let review = || {
                case.reviewer
                    .review_at_once(&case.escalation, case.deadline)
            };
            return match at_once.then(review).flatten() {
                Some(reviewed) => self.lift(case, flight, reviewed).await,
                None => self.judge_together(case, flight).await,
            };
        }
        match case.people {
            People::AtThisTerminal | People::Approvers => {
                ask_person(case, flight.ask_person()).await
            }
            People::Nobody => Decision::Failed(no_person()).into(),
        }
    }

    pub(super) async fn ask_reviewer(&self, flight: &Flight, case: &Case) -> Judged {
        let scope = flight.scope();
        let session = case.escalation.session.session_id.as_deref();
        let before = session.and_then(|session| self.conversations.of(scope, session));
        let review =
            case.reviewer
                .review_following(&case.escalation, case.deadline, before.as_deref());
        let Ok(mut reviewed) = timeout_at(case.deadline + OVERRUN, review).await else {
            return Decision::TimedOut.into();
        };
        if let (Some(session), Some(shown)) = (session, reviewed.conversation.take()) {
            self.conversations.keep(scope, session, shown);
        }
        self.lift(case, flight, reviewed).await
    }
}

async fn ask_person(case: &Case, answer: oneshot::Receiver<Reply>) -> Judged {
    match timeout_at(case.deadline, answer).await {
        Ok(Ok(reply)) => by_person(case, reply),
        Ok(Err(_)) | Err(_) => Decision::TimedOut.into(),
    }
}

fn by_person(case: &Case, reply: Reply) -> Judged {
    let Reply { answer, by, scope } = reply;
    let (decision, reason) = match answer.answer {
        PersonsAnswer::Allow => (
            Decision::Approved(Grant::by_person(case.escalation.action_digest)),
            answer.reason.map(Into::into),
        ),
        PersonsAnswer::Deny => (
            Decision::Denied(Denial::ByPerson(answer.reason.unwrap_or_default())),
            None,
        ),
    };
    let verdict = Verdict {
        answered_by: by,
        scope,
        ..Verdict::of(decision, reason)
    };
    Judged::new(verdict, None)
}

impl From<Reviewed> for Judged {
    fn from(reviewed: Reviewed) -> Self {
        let exhibit = serde_json::to_string(&reviewed.exhibit).ok();
        Self::new(Verdict::of(reviewed.decision, None), exhibit)
    }
}

impl From<Decision> for Judged {
    fn from(decision: Decision) -> Self {
        Self::new(Verdict::of(decision, None), None)
    }
}

fn draining() -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::Drain,
        code: "going_down".to_owned(),
        retryable: true,
        message: "The server went down before the review was finished.".to_owned(),
    }
}

fn no_person() -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::NotConfigured,
        code: "no_person".to_owned(),
        retryable: false,
        message: "Only a person may decide this, and nobody can answer at this server. Make a token with the role \
                  `approver`, or ask at a terminal: `approvals_reviewer = \"user\"` without a `server_url`."
            .to_owned(),
    }
}
