//! What approvers do: see what waits for a person, answer it, give leave and take it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use protocol::{ApproverAnswer, GiveLeave, LeaveResource, WaitingReviews, WithdrawLeave};

use super::body::{StrictJson, answer as answer_json};
use super::parameters::ReviewPath;
use super::who::{Answering, Withdrawing};
use crate::desk::Desk;
use crate::error::ApiError;
use crate::history;
use crate::resource::resource;
use crate::store::Sight;

/// `GET /v1/waiting`: the reviews that wait for a person, oldest first, with all that is known about each.
pub(crate) async fn waiting(
    State(desk): State<Arc<Desk>>,
    Answering(caller): Answering,
) -> Result<Response, ApiError> {
    let sight = Sight::Tenant(caller.scope.tenant.clone());
    let mut reviews = Vec::new();
    let mut agreed = BTreeMap::new();
    for id in desk.waiting(&caller) {
        if let Some(detail) = desk.store.detail(&sight, id).await? {
            reviews.push(history::detail(detail, &desk.key));
            agreed.insert(id.to_string(), desk.agreed(id));
        }
    }
    answer_json(
        StatusCode::OK,
        &WaitingReviews {
            reviews,
            approvals_wanted: u32::from(desk.limits.approvals_wanted.get()),
            agreed,
        },
    )
}

/// `POST /v1/reviews/{id}/leave`: an approver's leave for what a review denied.
pub(crate) async fn leave(
    State(desk): State<Arc<Desk>>,
    Answering(caller): Answering,
    ReviewPath(review_id): ReviewPath,
    StrictJson(body): StrictJson<GiveLeave>,
) -> Result<Response, ApiError> {
    let leave = desk.leave_by_person(&caller, review_id, body).await?;
    let told = LeaveResource {
        review_id: leave.review_id,
        action_digest: leave.action_digest,
        session_id: leave.session_id,
        given_by: leave.given_by,
        expires_at: leave.expires_at,
        signature: leave.signature,
    };
    answer_json(StatusCode::CREATED, &told)
}

/// `POST /v1/reviews/{id}/leave/withdraw`: an approver or an admin takes back leave that was not used.
pub(crate) async fn withdraw_leave(
    State(desk): State<Arc<Desk>>,
    Withdrawing(caller): Withdrawing,
    ReviewPath(review_id): ReviewPath,
    StrictJson(body): StrictJson<WithdrawLeave>,
) -> Result<Response, ApiError> {
    let withdrawn = desk.withdraw_leave(&caller, review_id, &body).await?;
    answer_json(StatusCode::OK, &withdrawn)
}

/// `POST /v1/reviews/{id}/answer`: an approver's yes or no.
pub(crate) async fn answer(
    State(desk): State<Arc<Desk>>,
    Answering(caller): Answering,
    ReviewPath(review_id): ReviewPath,
    StrictJson(body): StrictJson<ApproverAnswer>,
) -> Result<Response, ApiError> {
    let recorded = desk.answer_for_person(&caller, review_id, body).await?;
    answer_json(StatusCode::OK, &resource(&recorded, &desk.key))
}
