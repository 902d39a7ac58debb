//! The door: a submission becomes a review to open and a case to judge, or is refused.
//!
//! Apart and pure but for ids and times. Invariant: what is judged is what is recorded, digested by this server.

use std::time::Duration;

use protocol::{
    Action, Canonical, ClientDescription, EnvironmentDescription, Escalation, Evidence, Nonce,
    ReviewId, SessionReference, SubmitReview, Transcript, Trigger,
};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use crate::desk::{Asks, Caller, Case, Desk, after, now};
use crate::error::ApiError;
use crate::store::{Opening, Recorded, StoreError, TurnReference, turns};

/// The longest name of a session or turn, in bytes.
const MAX_NAME: usize = 256;
/// What a review takes beside its body, in KiB: task, buffers, connection.
const OVERHEAD: usize = 16;

/// A submission that was taken in.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) opening: Opening,
    pub(crate) case: Case,
    /// How much room it takes while it is judged.
    pub(crate) kibibytes: u32,
}

/// What the history shows of a submission.
#[derive(Serialize)]
struct Question<'a> {
    client: &'a ClientDescription,
    session: &'a SessionReference,
    environment: &'a EnvironmentDescription,
    action: &'a Action,
    trigger: &'a Trigger,
}

/// The rest of it.
#[derive(Serialize)]
struct Context<'a> {
    retry_reason: Option<&'a str>,
    transcript: &'a Transcript,
    evidence: &'a [Evidence],
    must_be_human: bool,
    deadline_ms: Option<u64>,
    extra: &'a serde_json::Map<String, serde_json::Value>,
}

/// Takes `body` in for `caller`, as of now.
pub(crate) fn accept(
    desk: &Desk,
    caller: &Caller,
    nonce: Nonce,
    body: SubmitReview,
) -> Result<Accepted, ApiError> {
    check_names(&body.session)?;
    let (question, context) = spell(&body)?;
    let created_at = now();
    let session = body.session.session_id.as_deref();
    let reviewer = desk.reviewer_for(&caller.scope, session, created_at)?;
    let limit = if body.must_be_human {
        desk.limits.persons_time
    } else {
        reviewer.time_limit()
    };
    let limit = time_limit(&body, limit);
    let started = Instant::now();
    let escalation = Escalation::from_submission(nonce.clone(), body, |channel| {
        desk.speaks_for_user.contains(channel)
    })
    .map_err(ApiError::InvalidEscalation)?;
    let kibibytes = OVERHEAD + 2 * (question.len() + context.len()) / 1024;
    let opening = Opening {
        review_id: ReviewId::new(Uuid::now_v7()),
        scope: caller.scope.clone(),
        nonce,
        request_digest: digest(&question, &context),
        session_id: escalation.session.session_id.clone(),
        turn: TurnReference::of(
            &caller.scope,
            &escalation.session,
            &escalation.environment,
            reviewer.breaker_limits(),
        ),
        words: turns::words(&escalation),
        action_digest: escalation.action_digest,
        policy_revision: reviewer.policy_revision().to_string(),
        owner: desk.owner.clone(),
        created_at,
        deadline_at: after(created_at, limit),
        question,
        context,
    };
    let case = Case {
        escalation,
        deadline: started + limit,
        people: caller.people,
        reviewer,
        request_digest: opening.request_digest,
        asks: Asks::Others,
    };
    Ok(Accepted {
        opening,
        case,
        kibibytes: u32::try_from(kibibytes).unwrap_or(u32::MAX),
    })
}

impl Accepted {
    /// The review as it will stand when it is open.
    pub(crate) fn as_recorded(&self) -> Recorded {
        let opening = &self.opening;
        Recorded {
            review_id: opening.review_id,
            scope: opening.scope.clone(),
            nonce: opening.nonce.clone(),
            session_id: opening.session_id.clone(),
            action_digest: opening.action_digest,
            policy_revision: opening.policy_revision.clone(),
            created_at: opening.created_at,
            end: None,
            redeemed_at: None,
        }
    }
}

/// The smaller of the client's and the server's limit (D25).
fn time_limit(body: &SubmitReview, server: Duration) -> Duration {
    body.deadline_ms
        .map_or(server, |client| server.min(Duration::from_millis(client)))
}

fn check_names(session: &SessionReference) -> Result<(), ApiError> {
    let names = [
        ("session_id", &session.session_id),
        ("turn_id", &session.turn_id),
        ("item_id", &session.item_id),
        ("parent_session_id", &session.parent_session_id),
    ];
    for (field, name) in names {
        let fits = name
            .as_ref()
            .is_none_or(|name| (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0'));
        if !fits {
            return Err(ApiError::InvalidBody(format!(
                "`session.{field}` must have 1 to {MAX_NAME} bytes and no NUL"
            )));
        }
    }
    Ok(())
}

fn spell(body: &SubmitReview) -> Result<(String, String), ApiError> {
    let question = Question {
        client: &body.client,
        session: &body.session,
        environment: &body.environment,
        action: &body.action,
        trigger: &body.trigger,
    };
    let context = Context {
        retry_reason: body.retry_reason.as_deref(),
        transcript: &body.transcript,
        evidence: &body.evidence,
        must_be_human: body.must_be_human,
        deadline_ms: body.deadline_ms,
        extra: &body.extra,
    };
    let spelled = serde_json::to_string(&question)
        .and_then(|question| Ok((question, serde_json::to_string(&context)?)));
    spelled.map_err(|_| ApiError::Store(StoreError::Corrupt("a submission cannot be spelled")))
}

fn digest(question: &str, context: &str) -> [u8; 32] {
    let mut bytes = Canonical::new("auto-review submission v1");
    bytes.text(question).text(context);
    bytes.sha256()
}
