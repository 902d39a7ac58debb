//! The policies of one tenant, for its policy authors and admins: what is kept, what judges, and what is done about it.
//!
//! Invariants: a policy that comes over the wire is text and rules alone; who changes what judges is the token's person, and
//! what is answered is in force at this server.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::{ChangePolicy, KeepPolicy, PolicyStep, PolicyText, TenantId};
use reviewer::PolicyTable;

use super::body::{StrictJson, answer};
use super::who::ChangingPolicy;
use crate::desk::{Caller, Desk};
use crate::error::ApiError;
use crate::policies::{self, PolicyError};
use crate::policy_life::{Named, NotChanged, Share, Wanted, What};
use crate::store::StoreError;

/// The longest reason, in characters.
const MAX_REASON: usize = 1_000;
/// The most policies that a tenant keeps; a program that makes them in a loop is stopped here.
const MOST_KEPT: usize = 1_000;

/// `GET /v1/policies`.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    ChangingPolicy(caller): ChangingPolicy,
) -> Result<Response, ApiError> {
    told(&desk, &caller.scope.tenant).await
}

/// `GET /v1/policies/{revision}`.
pub(crate) async fn show(
    State(desk): State<Arc<Desk>>,
    ChangingPolicy(caller): ChangingPolicy,
    Path(revision): Path<String>,
) -> Result<Response, ApiError> {
    let tenant = &caller.scope.tenant;
    let known = desk.store.policies(tenant).await?;
    let found = known.into_iter().find(|it| it.revision == revision);
    let found = found.ok_or(ApiError::NotFound)?;
    let life = policies::life(&desk.store, &desk.key, tenant).await?;
    let settings = desk.reviewer_of(tenant).policy_revision();
    let text = PolicyText {
        policy: policies::resource(&found, life.as_ref(), settings.as_str()),
        text: found.text,
    };
    answer(StatusCode::OK, &text)
}

/// `POST /v1/policies`.
pub(crate) async fn keep(
    State(desk): State<Arc<Desk>>,
    ChangingPolicy(caller): ChangingPolicy,
    StrictJson(body): StrictJson<KeepPolicy>,
) -> Result<Response, ApiError> {
    let tenant = &caller.scope.tenant;
    if desk.store.policies(tenant).await?.len() >= MOST_KEPT {
        return Err(ApiError::TooMany);
    }
    // The same names on the wire and in the settings, but for the file, which the wire does not know.
    let spelled = serde_json::to_value(&body.policy);
    let table: PolicyTable = spelled
        .and_then(serde_json::from_value)
        .map_err(|error| ApiError::InvalidBody(error.to_string()))?;
    let reviewer = desk.reviewer_of(tenant);
    let author = author(&caller);
    let (named, _) = policies::keep(&desk.store, (tenant, reviewer), &table, &author).await?;
    let known = desk.store.policies(tenant).await?;
    let found = policies::one_of(known, &named.revision)?;
    let life = policies::life(&desk.store, &desk.key, tenant).await?;
    let settings = reviewer.policy_revision();
    let told = policies::resource(&found, life.as_ref(), settings.as_str());
    answer(StatusCode::CREATED, &told)
}

/// `POST /v1/policies/changes`.
pub(crate) async fn change(
    State(desk): State<Arc<Desk>>,
    ChangingPolicy(caller): ChangingPolicy,
    StrictJson(body): StrictJson<ChangePolicy>,
) -> Result<Response, ApiError> {
    let tenant = &caller.scope.tenant;
    // Where the record is not followed, a change would bind nobody.
    let sources = desk.policies.sources().ok_or(ApiError::NotFound)?;
    let table = sources.of(tenant).policy.clone();
    let wanted = wanted(&desk, &caller, body).await?;
    let reviewer = desk.reviewer_of(tenant);
    let (settings, _) = policies::keep(&desk.store, (tenant, reviewer), &table, "settings").await?;
    policies::change((&desk.store, &desk.key), (tenant, &settings), &wanted).await?;
    desk.look_at_policies().await?;
    told(&desk, tenant).await
}

async fn wanted(desk: &Desk, caller: &Caller, body: ChangePolicy) -> Result<Wanted, ApiError> {
    let reason = body.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(ApiError::InvalidBody(format!(
            "`reason` must have 1 to {MAX_REASON} characters"
        )));
    }
    let share = match (body.percent, body.from) {
        (Some(_), Some(_)) => {
            return Err(ApiError::InvalidBody(
                "`percent` and `from` exclude each other".to_owned(),
            ));
        }
        (Some(percent), None) => Some(Share::Percent(percent)),
        (None, from) => from.map(Share::From),
    };
    if share.is_some() != (body.step == PolicyStep::Stage) {
        return Err(ApiError::InvalidBody(
            "`percent` or `from` goes with `stage`, and with nothing else".to_owned(),
        ));
    }
    if body.step == PolicyStep::Rollback && body.revision.is_some() {
        return Err(ApiError::InvalidBody(
            "a rollback goes one step back: `revision` names none".to_owned(),
        ));
    }
    Ok(Wanted {
        author: author(caller),
        reason: reason.to_owned(),
        what: match body.step {
            PolicyStep::Shadow => What::Shadow,
            PolicyStep::Stage => What::Stage,
            PolicyStep::Activate => What::Activate,
            PolicyStep::Rollback => What::Rollback,
        },
        policy: match body.revision {
            Some(revision) => Some(whole(desk, &caller.scope.tenant, &revision).await?),
            None => None,
        },
        share,
    })
}

/// The policy with exactly this revision.
async fn whole(desk: &Desk, tenant: &TenantId, revision: &str) -> Result<Named, ApiError> {
    let known = desk.store.policies(tenant).await?;
    if !known.iter().any(|policy| policy.revision == revision) {
        return Err(ApiError::NotFound);
    }
    Ok(policies::named(&desk.store, tenant, revision).await?)
}

async fn told(desk: &Desk, tenant: &TenantId) -> Result<Response, ApiError> {
    let settings = desk.reviewer_of(tenant).policy_revision().to_string();
    let list = policies::told(&desk.store, &desk.key, (tenant, &settings)).await?;
    answer(StatusCode::OK, &list)
}

/// Who is named as the author: the person behind the token, or the token itself.
fn author(caller: &Caller) -> String {
    let person = caller.person.clone();
    person.unwrap_or_else(|| caller.scope.caller.as_str().to_owned())
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Store(error) => Self::Store(error),
            PolicyError::NotBelieved(error) => {
                tracing::error!(%error, "the changes of the policies on record cannot be believed");
                Self::Store(StoreError::Corrupt("the policies on record cannot be used"))
            }
            PolicyError::Invalid(error) => Self::InvalidBody(error.to_string()),
            PolicyError::NotChanged(error @ (NotChanged::NoPolicy | NotChanged::NoShare)) => {
                Self::InvalidBody(error.to_string())
            }
            PolicyError::NotChanged(error) => Self::PolicyNotChanged(error),
            PolicyError::Unknown(_) => Self::NotFound,
            PolicyError::WithoutBody(_) => Self::PolicyWithoutBody,
        }
    }
}
