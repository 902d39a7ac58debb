//! The tokens of one tenant, for its admins: list, make, revoke.
//!
//! Invariants: a token's text is in one answer, once; an admin reaches no other tenant's tokens; a revoked one is refused
//! within a second.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::{CreateToken, CreatedToken, TokenList, TokenResource};

use super::body::{StrictJson, answer};
use super::who::Administering;
use crate::auth::make_token;
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::role::Roles;
use crate::store::StoreError;
use crate::store::sqlite::tokens::{Added, Grants, KnownToken, TokenId};

/// The longest name of a token or a person, in characters.
pub(crate) const MAX_NAME: usize = 64;

/// `GET /v1/tokens`.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
) -> Result<Response, ApiError> {
    let tokens = desk.store.tokens().await?;
    let ours = tokens
        .into_iter()
        .filter(|token| token.grants.tenant == scope.tenant);
    let list = TokenList {
        tokens: ours.map(shown).collect(),
    };
    answer(StatusCode::OK, &list)
}

/// `POST /v1/tokens`.
pub(crate) async fn create(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    StrictJson(body): StrictJson<CreateToken>,
) -> Result<Response, ApiError> {
    let roles = Roles::parse(body.roles.iter().map(String::as_str))
        .map_err(|error| ApiError::InvalidBody(error.to_string()))?;
    for (field, text) in [("name", Some(&body.name)), ("person", body.person.as_ref())] {
        if text.is_some_and(|text| !is_name(text)) {
            return Err(ApiError::InvalidBody(format!(
                "`{field}` must have at most {MAX_NAME} characters, all visible"
            )));
        }
    }
    if body.expires_at.is_some_and(|at| at <= now()) {
        return Err(ApiError::InvalidBody("`expires_at` is over".to_owned()));
    }
    let grants = Grants {
        tenant: scope.tenant,
        roles,
        person: body.person,
        expires_at: body.expires_at,
    };
    let (text, token) =
        make_token(body.name, grants).map_err(|_| StoreError::Database("no randomness".into()))?;
    let id = token.id.as_str().to_owned();
    match desk.store.add_token(token).await? {
        Added::Kept => answer(
            StatusCode::CREATED,
            &CreatedToken {
                id,
                token: text.reveal().to_owned(),
            },
        ),
        Added::NoTenant | Added::NothingToReplace => Err(ApiError::NotFound),
    }
}

/// `DELETE /v1/tokens/{id}`.
pub(crate) async fn revoke(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let revoked = desk
        .store
        .revoke_token(scope.tenant, TokenId::new(id), now())
        .await?;
    if revoked {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}

/// Whether `text` can stand on one line of a list.
pub(crate) fn is_name(text: &str) -> bool {
    text.chars().count() <= MAX_NAME && protocol::Printable(text).to_string() == text
}

fn shown(token: KnownToken) -> TokenResource {
    TokenResource {
        id: token.id.as_str().to_owned(),
        name: token.name,
        roles: token
            .grants
            .roles
            .to_string()
            .split(' ')
            .map(str::to_owned)
            .collect(),
        person: token.grants.person,
        created_at: token.created_at,
        expires_at: token.grants.expires_at,
        revoked_at: token.revoked_at,
    }
}
