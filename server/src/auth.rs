//! Who is calling over TCP: the holder of a bearer token.
//!
//! Apart, because it is the whole border between the network and the record. Invariants: a token is compared by its
//! SHA-256 in constant time and never kept, logged or told; what is not known is refused; where the tokens cannot be read
//! nobody is let in.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use protocol::{CallerId, TenantId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::desk::{Caller, Desk, People, now};
use crate::error::ApiError;
use crate::role::Right;
use crate::store::sqlite::tokens::{Grants, KnownToken, NewToken, TokenId};
use crate::store::{Scope, StoreError};

/// How long tokens are remembered. A token that is revoked or made counts so much later at most.
const FRESH: Duration = Duration::from_secs(1);
/// What every token starts with, so that scanners for lost secrets know it.
const PREFIX: &str = "arv_";
/// The longest header that is looked at.
const MAX_HEADER: usize = 256;

/// Why a token was not made.
#[derive(Debug, Error)]
pub enum AuthError {
    /// The system gave no random bytes.
    #[error("no random bytes for a token")]
    Random(#[source] getrandom::Error),
}

/// A token's text, shown once.
pub(crate) struct TokenText(String);

impl TokenText {
    /// The text, for the one place that prints it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// Makes a token of 256 random bits.
pub(crate) fn make_token(name: String, grants: Grants) -> Result<(TokenText, NewToken), AuthError> {
    use fmt::Write as _;
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(AuthError::Random)?;
    let mut text = PREFIX.to_owned();
    for byte in secret {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    let caller = CallerId::of_token(&text);
    let digits = caller.as_str().trim_start_matches("token:");
    let token = NewToken {
        id: TokenId::new(digits),
        name,
        hash: Sha256::digest(text.as_bytes()).into(),
        created_at: now(),
        grants,
        replaces: None,
    };
    Ok((TokenText(text), token))
}

/// The tokens that may call.
pub(crate) struct Auth {
    desk: Arc<Desk>,
    known: RwLock<Option<Known>>,
    reading: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    read_at: Instant,
    tokens: Arc<Vec<KnownToken>>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

impl Auth {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            known: RwLock::new(None),
            reading: Mutex::new(()),
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<(Caller, [u8; 32]), ApiError> {
        let bearer = bearer(headers).ok_or(ApiError::Unauthorized)?;
        let hash: [u8; 32] = Sha256::digest(bearer.as_bytes()).into();
        let tokens = self.tokens().await?;
        // Every one is looked at, whichever it is.
        let found = tokens.iter().fold(None, |found, known| {
            let same = bool::from(known.hash.ct_eq(&hash));
            if same { Some(known) } else { found }
        });
        // The clock decides here, not what was remembered.
        let token = found
            .filter(|token| token.counts_at(now()))
            .ok_or(ApiError::Unauthorized)?;
        let caller = Caller {
            scope: Scope {
                tenant: token.grants.tenant.clone(),
                caller: CallerId::of_token(bearer),
            },
            people: people(&tokens, &token.grants.tenant),
            person: Some(token.behind.clone()),
            roles: token.grants.roles.clone(),
        };
        Ok((caller, hash))
    }

    async fn tokens(&self) -> Result<Arc<Vec<KnownToken>>, StoreError> {
        if let Some(tokens) = self.fresh() {
            return Ok(tokens);
        }
        // One reads, the others wait for what it reads.
        let _reading = self.reading.lock().await;
        if let Some(tokens) = self.fresh() {
            return Ok(tokens);
        }
        let read_at = Instant::now();
        let mut tokens = self.desk.store.tokens().await?;
        tokens.retain(|token| token.revoked_at.is_none());
        let tokens = Arc::new(tokens);
        let known = Known {
            read_at,
            tokens: Arc::clone(&tokens),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(tokens)
    }

    fn fresh(&self) -> Option<Arc<Vec<KnownToken>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|known| known.read_at.elapsed() < FRESH)
            .map(|known| Arc::clone(&known.tokens))
    }
}

/// That a call was let in, for answers that outlive it: whether its token still counts can be asked again.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    auth: Arc<Auth>,
    hash: [u8; 32],
}

impl Standing {
    /// Whether the token still counts. Where that cannot be found out, it does not.
    pub(crate) async fn holds(&self) -> bool {
        let known = self.auth.tokens().await;
        known.is_ok_and(|tokens| {
            let mut tokens = tokens.iter();
            tokens.any(|token| bool::from(token.hash.ct_eq(&self.hash)) && token.counts_at(now()))
        })
    }
}

/// Whether somebody could answer for a person of `tenant`.
fn people(tokens: &[KnownToken], tenant: &TenantId) -> People {
    let mut approvers = tokens
        .iter()
        .filter(|token| token.grants.tenant == *tenant && token.grants.roles.allow(Right::Answer));
    if approvers.any(|token| token.counts_at(now())) {
        People::Approvers
    } else {
        People::Nobody
    }
}

/// Lets a call through as the holder of its token, or refuses it.
pub(crate) async fn authenticated(
    State(auth): State<Arc<Auth>>,
    mut request: Request,
    next: Next,
) -> Response {
    match auth.caller(request.headers()).await {
        Ok((caller, hash)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(Standing { auth, hash });
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// The token of the one `Authorization: Bearer` header (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= MAX_HEADER)?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
