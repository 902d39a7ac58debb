//! The one maker of error answers: every failure of a call becomes a status and a problem document here.
//!
//! Invariant: a problem says what the caller can do; causes inside the server go to the log, once, here.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use protocol::{InvalidEscalation, Printable, Problem};

use crate::admission::Refused;
use crate::policy_life::NotChanged;
use crate::store::{RedeemRefusal, StoreError};

/// Why a call is not answered as wanted.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No token, or one that is not known.
    Unauthorized,
    /// The token has no role that may do this.
    Forbidden,
    /// Nothing here for this caller.
    NotFound,
    /// The resource has no such verb.
    MethodNotAllowed,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// The body is too large.
    TooLarge,
    /// The body did not arrive.
    BodyIncomplete,
    /// The body is not JSON.
    InvalidJson(String),
    /// The body is JSON, but not what is wanted.
    InvalidBody(String),
    /// A header or a part of the query is not what is wanted.
    InvalidParameter(String),
    /// The body is no escalation.
    InvalidEscalation(InvalidEscalation),
    /// The nonce was used for another body.
    IdempotencyConflict,
    /// The session belongs to another caller.
    SessionTaken,
    /// The approval cannot be spent.
    NotRedeemable(RedeemRefusal),
    /// The review does not wait for a person here.
    NotWaiting,
    /// The same person agreed before, and another one is wanted.
    AgreedBefore,
    /// Who asked cannot answer.
    OwnQuestion,
    /// The action is nothing that a scope is for.
    ScopeNotPossible,
    /// The question named no session for a yes to last for.
    NoSession,
    /// What was denied is nothing that leave lifts.
    NotLiftable,
    /// Leave is one person's, and several have to agree here.
    WantsSeveralPeople,
    /// Leave was given before.
    AlreadyLifted,
    /// A review was approved by the leave.
    LeaveSpent,
    /// The leave was taken back before.
    AlreadyWithdrawn,
    /// No model can be had.
    ModelUnavailable,
    /// The review has ended otherwise.
    AlreadyEnded,
    /// Another report of the run is on record.
    ReportedBefore,
    /// There was no approval that was spent, so there was no run.
    NotSpent,
    /// The change of the policy cannot follow what is on record.
    PolicyNotChanged(NotChanged),
    /// What the policy is made of was not kept.
    PolicyWithoutBody,
    /// The tenant has as many of them as it may have.
    TooMany,
    /// The server is going down.
    Draining,
    /// It is not taken on.
    NotTakenOn(Refused),
    /// The record could not be written or read.
    Store(StoreError),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::NotTakenOn(refused)
    }
}

impl ApiError {
    /// Status and stable code.
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "role_missing"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::BodyIncomplete => (StatusCode::REQUEST_TIMEOUT, "body_incomplete"),
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidBody(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_body"),
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            Self::InvalidEscalation(error) => {
                (StatusCode::UNPROCESSABLE_ENTITY, escalation_code(error))
            }
            Self::IdempotencyConflict => (StatusCode::CONFLICT, "idempotency_conflict"),
            Self::SessionTaken => (StatusCode::FORBIDDEN, "session_taken"),
            Self::NotRedeemable(refusal) => (StatusCode::CONFLICT, redeem_refusal(*refusal).0),
            Self::NotWaiting => (StatusCode::CONFLICT, "not_waiting"),
            Self::AgreedBefore => (StatusCode::CONFLICT, "agreed_before"),
            Self::OwnQuestion => (StatusCode::FORBIDDEN, "own_question"),
            Self::ScopeNotPossible => (StatusCode::CONFLICT, "scope_not_possible"),
            Self::NoSession => (StatusCode::CONFLICT, "no_session"),
            Self::NotLiftable => (StatusCode::CONFLICT, "not_liftable"),
            Self::WantsSeveralPeople => (StatusCode::CONFLICT, "wants_several_people"),
            Self::AlreadyLifted => (StatusCode::CONFLICT, "already_lifted"),
            Self::LeaveSpent => (StatusCode::CONFLICT, "leave_spent"),
            Self::AlreadyWithdrawn => (StatusCode::CONFLICT, "already_withdrawn"),
            Self::ModelUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "model_unavailable"),
            Self::AlreadyEnded => (StatusCode::CONFLICT, "already_ended"),
            Self::ReportedBefore => (StatusCode::CONFLICT, "reported_before"),
            Self::NotSpent => (StatusCode::CONFLICT, "not_redeemed"),
            Self::PolicyNotChanged(_) => (StatusCode::CONFLICT, "policy_not_changed"),
            Self::PolicyWithoutBody => (StatusCode::CONFLICT, "policy_without_body"),
            Self::TooMany => (StatusCode::CONFLICT, "too_many"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::NotTakenOn(Refused::TooOften(_)) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
            }
            Self::NotTakenOn(Refused::NoRoom) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::NotTakenOn(Refused::TooLate(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_time_left")
            }
            Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
        }
    }

    /// What happened and what to do about it.
    fn detail(&self) -> String {
        let fixed = match self {
            Self::InvalidJson(text) | Self::InvalidBody(text) | Self::InvalidParameter(text) => {
                return Printable(text).to_string();
            }
            Self::InvalidEscalation(error) => return error.to_string(),
            Self::PolicyNotChanged(error) => return format!("Nothing was changed: {error}."),
            Self::PolicyWithoutBody => {
                "An older program kept this policy's text alone. Keep it again to put it in force."
            }
            Self::Unauthorized => {
                "The token is missing, unknown, revoked or expired. `auto-review-server token list` says which there are, `token create` makes one; it goes with each call as `Authorization: Bearer TOKEN`."
            }
            Self::Forbidden => {
                "The token has no role that may do this. An admin can make one that has."
            }
            Self::NotFound => "There is nothing here for this caller.",
            Self::MethodNotAllowed => "This resource does not know that method.",
            Self::UnsupportedMediaType => "The body must be `application/json`, plain or `gzip`.",
            Self::TooLarge => "The body is larger than 1 MiB.",
            Self::BodyIncomplete => "The body did not arrive whole and in time.",
            Self::IdempotencyConflict => {
                "This `Idempotency-Key` was used with another body. Use a new key for a new question."
            }
            Self::SessionTaken => {
                "The session belongs to another caller. Use a session id of your own."
            }
            Self::NotRedeemable(refusal) => redeem_refusal(*refusal).1,
            Self::NotWaiting => "This review does not wait for a person at this server.",
            Self::AgreedBefore => "This person agreed before; somebody else must agree as well.",
            Self::OwnQuestion => "Nobody answers for a person what they asked themselves.",
            Self::ScopeNotPossible => {
                "Only a yes about a host (`network_access`) can hold for longer than once. Answer without `scope`."
            }
            Self::NoSession => {
                "The question named no session, so there is nothing for a yes to last for. Answer with `once`."
            }
            Self::NotLiftable => {
                "Leave lifts a denial that a reviewer judged to be less than critical, and nothing else."
            }
            Self::WantsSeveralPeople => {
                "Several people have to agree here (`people.approvals`), and leave is one person's: ask again with `must_be_human`."
            }
            Self::AlreadyLifted => "Leave was given for this review before.",
            Self::LeaveSpent => "This leave was used before; what was approved by it stands.",
            Self::AlreadyWithdrawn => "This leave was withdrawn before.",
            Self::ModelUnavailable => {
                "No configured model answers, so what the built-in rules cannot decide fails. The server's log says why."
            }
            Self::AlreadyEnded => "This review has ended already; what it ended in stands.",
            Self::ReportedBefore => "What is told of this run is on record already, and otherwise.",
            Self::NotSpent => "Only the run of an approval that was spent can be reported.",
            Self::TooMany => "There are as many of them as there may be. Remove one first.",
            Self::Draining => "The server is going down. Nothing was reviewed; ask again later.",
            Self::NotTakenOn(refused) => not_taken_on(*refused),
            Self::Store(_) => {
                "The record could not be written or read, so nothing counts as approved. The server's log says why."
            }
        };
        fixed.to_owned()
    }
}

impl ApiError {
    /// After how many seconds it makes sense to ask again: from 1 to 300.
    fn retry_after(&self) -> Option<u64> {
        if let Self::NotTakenOn(Refused::TooOften(wait) | Refused::TooLate(wait)) = self {
            return Some(wait.as_secs().saturating_add(1).min(300));
        }
        (self.class().0 == StatusCode::SERVICE_UNAVAILABLE).then_some(1)
    }
}

fn escalation_code(error: &InvalidEscalation) -> &'static str {
    match error {
        InvalidEscalation::Version(_) => "unsupported_version",
        InvalidEscalation::Action(_) => "invalid_action",
        InvalidEscalation::Digest => "digest_mismatch",
        InvalidEscalation::Trust(_) => "trust_refused",
    }
}

fn not_taken_on(refused: Refused) -> &'static str {
    match refused {
        Refused::TooOften(_) => {
            "This token or its tenant asks too often. Nothing was reviewed; ask again later."
        }
        Refused::NoRoom => "Too much is being reviewed. Nothing was reviewed; ask again later.",
        Refused::TooLate(_) => {
            "Its turn would come after its deadline. Nothing was reviewed; ask again later, or allow more time."
        }
    }
}

fn redeem_refusal(refusal: RedeemRefusal) -> (&'static str, &'static str) {
    match refusal {
        RedeemRefusal::NotApproved => ("not_approved", "This review did not end in an approval."),
        RedeemRefusal::AlreadySpent => (
            "already_redeemed",
            "This approval was spent before; it covers one run.",
        ),
        RedeemRefusal::OtherAction => ("other_action", "This approval covers another action."),
        RedeemRefusal::OtherSession => (
            "other_session",
            "This approval was given in another session.",
        ),
        RedeemRefusal::Expired => (
            "approval_expired",
            "The time to use this approval is over. Ask again.",
        ),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Store(error) = &self {
            tracing::error!(%error, "the store failed");
        }
        let (status, code) = self.class();
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail(),
        };
        let mut response = (status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
