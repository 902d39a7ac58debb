//! Who is calling, and as what: one extractor for each right, read before the body is.
//!
//! Apart, because a handler's arguments then say what its caller must be allowed to do. Invariant: whether a review is
//! there is never looked up for a caller who may not see it, so that a refusal tells nothing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use protocol::TenantId;

use crate::desk::Caller;
use crate::error::ApiError;
use crate::role::Right;
use crate::store::{Scope, Sight};

/// Somebody who asks for reviews.
pub(crate) struct Asking(pub(crate) Caller);

/// Somebody who looks at reviews, and how far.
pub(crate) struct Looking(pub(crate) Sight);

/// Somebody who exports, counts and verifies.
pub(crate) struct Auditing(pub(crate) TenantId);

/// Somebody who answers for a person.
pub(crate) struct Answering(pub(crate) Caller);

/// Somebody who takes back leave.
pub(crate) struct Withdrawing(pub(crate) Caller);

/// Somebody who works on the policy.
pub(crate) struct ChangingPolicy(pub(crate) Caller);

/// Somebody who hands out tokens.
pub(crate) struct Administering(pub(crate) Scope);

fn caller(parts: &Parts) -> Result<Caller, ApiError> {
    // Put there by the router's outermost layer; without it nobody is known and nothing is answered.
    parts
        .extensions
        .get()
        .cloned()
        .ok_or(ApiError::Unauthorized)
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::Ask)?;
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Looking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        caller(parts)?.sight().map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Auditing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::Audit)?;
        Ok(Self(caller.scope.tenant))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Answering {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::Answer)?;
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Withdrawing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::WithdrawLeave)?;
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administering {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::HandOutTokens)?;
        Ok(Self(caller.scope))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ChangingPolicy {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        caller.may(Right::ChangePolicy)?;
        Ok(Self(caller))
    }
}
