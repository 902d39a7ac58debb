//! From an answer to leave: an approval is spent, everything else is a refusal that is on record.
//!
//! The one place where a [`Grant`] becomes a [`PermittedAction`]. Invariant: a failure that no server recorded is in the
//! journal before the runner says so.

use protocol::{Action, Decision, FullAccessByName, Grant, PermittedAction, ReviewFailure};

use crate::answer::Asked;
use crate::config::SandboxMode;
use crate::failure::Failure;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::prepare::Prepared;
use crate::report::{Refusal, shown_request};
use crate::request::RunRequest;

/// The end of a run that was not permitted.
pub(crate) struct Refused {
    /// How the runner ends.
    pub(crate) failure: Failure,
    /// How the review ended, where that is known better than before.
    pub(crate) status: Option<protocol::ReviewStatus>,
}

/// Spends an approval; everything else is a refusal.
///
/// # Errors
/// It may not run.
pub(crate) async fn permit(
    prepared: &Prepared,
    request: &RunRequest,
    asked: Asked,
    action: Action,
) -> Result<PermittedAction, Refused> {
    let Asked {
        decision,
        review,
        session,
        interrupted,
    } = asked;
    let redeemed = match (decision, session) {
        (Decision::Approved(grant), Some(session)) => {
            session.redeem(grant).await.map_err(Decision::Failed)
        }
        // An approval that nobody can redeem is worth nothing.
        (Decision::Approved(_), None) => Err(Decision::Aborted),
        (other, session) => {
            if let Some(session) = session {
                session.close().await;
            }
            Err(other)
        }
    };
    let decision = match redeemed {
        Ok((grant, receipt)) => return trade(prepared, request, (grant, &receipt), action),
        Err(decision) => decision,
    };
    let mut message = Refusal::of(&shown_request(request), &decision)
        .map_or_else(String::new, |refusal| refusal.to_string());
    if let Decision::Failed(failure) = &decision
        && let Err(unwritten) = note_failure(prepared, request, &action, failure, review.as_ref())
    {
        message = format!("{message}\nnote: {}", unwritten.message);
    }
    let code = interrupted.map_or(Refusal::CODE, |signal| signal.exit_code());
    Err(Refused {
        failure: Failure { code, message },
        status: Some(decision.status()),
    })
}

fn trade(
    prepared: &Prepared,
    request: &RunRequest,
    (grant, receipt): (Grant, &protocol::Receipt),
    action: Action,
) -> Result<PermittedAction, Refused> {
    let refused = |failure| Refused {
        failure,
        status: None,
    };
    let permitted = grant
        .permit(receipt, action)
        .map_err(|error| refused(Failure::runner(&error)))?;
    // Where full access stood and the question was only about the command itself, a yes leaves what stood.
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess
        && let Some(name) = FullAccessByName::parse(prepared.settings.sandbox.as_str())
    {
        let action = permitted.action().clone();
        record(prepared, request, &action, JournalEvent::FullAccess).map_err(refused)?;
        return Ok(PermittedAction::by_full_access(name, action));
    }
    Ok(permitted)
}

/// A failure that the server may not have been able to record is recorded here (design D25).
fn note_failure(
    prepared: &Prepared,
    request: &RunRequest,
    action: &Action,
    failure: &ReviewFailure,
    review: Option<&protocol::ReviewResource>,
) -> Result<(), Failure> {
    let recorded = review.is_some_and(|review| review.failure.as_ref() == Some(failure));
    if recorded {
        return Ok(());
    }
    let review_id = review.map(|review| review.review_id);
    record(
        prepared,
        request,
        action,
        JournalEvent::ReviewFailed {
            failure: failure.clone(),
            review_id,
        },
    )
}

/// Writes `event` to the journal, durably.
///
/// # Errors
/// It is not on disk; what depends on it may not happen.
pub(crate) fn record(
    prepared: &Prepared,
    request: &RunRequest,
    action: &Action,
    event: JournalEvent,
) -> Result<(), Failure> {
    let entry = JournalEntry {
        at: jiff::Timestamp::now(),
        event,
        action: action.clone(),
        action_digest: action.digest(),
        session: request.session.clone(),
    };
    Ok(journal::append(&prepared.state.journal(), &entry)?)
}
