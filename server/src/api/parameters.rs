//! What stands in path, query and headers, read strictly.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use protocol::{Nonce, ReviewId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::desk::ScopeIs;
use crate::error::ApiError;

/// The longest wait for an end, in seconds: as long as a review may take by default.
const MAX_WAIT: u64 = 90;

/// The review that the path names. What is no id names nothing.
pub(crate) struct ReviewPath(pub(crate) ReviewId);

impl<S: Send + Sync> FromRequestParts<S> for ReviewPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = id.map_err(|_| ApiError::NotFound)?;
        text.parse().map(Self).map_err(|_| ApiError::NotFound)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    wait: Option<u64>,
    view: Option<String>,
}

/// How much of a review is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The review.
    Plain,
    /// Everything on record about it.
    Full,
}

/// `?wait=SECONDS&view=full`.
pub(super) fn show_query(uri: &Uri) -> Result<(Duration, View), ApiError> {
    let query: ShowQuery = query(uri)?;
    let view = match query.view.as_deref() {
        None => View::Plain,
        Some("full") => View::Full,
        Some(_) => return Err(invalid("`view` is not `full`")),
    };
    Ok((seconds(query.wait.unwrap_or(0)), view))
}

/// `Prefer: wait=SECONDS` (RFC 7240); other preferences are not ours to meet.
pub(super) fn wait_of_preference(headers: &HeaderMap) -> Result<Duration, ApiError> {
    for (name, value) in preferences(headers) {
        if name.eq_ignore_ascii_case("wait") {
            let value = value.trim().trim_matches('"');
            let wait = value
                .parse()
                .map_err(|_| invalid("`Prefer: wait` wants a number of seconds"))?;
            return Ok(seconds(wait));
        }
    }
    Ok(Duration::ZERO)
}

/// `Prefer: host-scope`: the caller knows what a receipt says of how long leave for a host holds.
pub(super) fn scope_of_preference(headers: &HeaderMap) -> ScopeIs {
    let mut names = preferences(headers).map(|(name, _)| name);
    if names.any(|name| name.eq_ignore_ascii_case("host-scope")) {
        ScopeIs::Told
    } else {
        ScopeIs::Untold
    }
}

/// Each preference, as its name and what it says.
fn preferences(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.trim(), value))
}

/// `Idempotency-Key`; a random one where the caller sent none.
pub(super) fn nonce(headers: &HeaderMap) -> Result<Nonce, ApiError> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let text = match (keys.next(), keys.next()) {
        (None, _) => Uuid::new_v4().to_string(),
        (Some(key), None) => key.to_str().map(str::to_owned).unwrap_or_default(),
        (Some(_), Some(_)) => return Err(invalid("`Idempotency-Key` stands twice")),
    };
    Nonce::try_from(text)
        .map_err(|wanted| ApiError::InvalidParameter(format!("`Idempotency-Key`: {wanted}")))
}

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let query = Query::try_from_uri(uri).map(|Query(query)| query);
    query.map_err(|error| ApiError::InvalidParameter(error.body_text()))
}

fn seconds(wait: u64) -> Duration {
    Duration::from_secs(wait.min(MAX_WAIT))
}

pub(super) fn invalid(detail: &str) -> ApiError {
    ApiError::InvalidParameter(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{ScopeIs, nonce, scope_of_preference, show_query, wait_of_preference};

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn a_wait_is_read_from_either_place_and_has_an_end() {
        let prefer = |text| wait_of_preference(&headers("prefer", text)).ok();
        assert_eq!(prefer("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(
            prefer("respond-async, WAIT=7"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(prefer("wait=100000"), Some(Duration::from_secs(90)));
        assert_eq!(prefer("return=minimal"), Some(Duration::ZERO));
        assert_eq!(prefer("wait=soon"), None);
        let show = |text: &str| {
            show_query(&text.parse().expect("a uri"))
                .ok()
                .map(|it| it.0)
        };
        assert_eq!(show("/v1/reviews/x?wait=3"), Some(Duration::from_secs(3)));
        assert_eq!(show("/v1/reviews/x?wait=-1"), None);
        assert_eq!(show("/v1/reviews/x?wiat=1"), None);
    }

    #[test]
    fn only_who_asks_for_it_is_told_how_long_leave_holds() {
        let told = |text| scope_of_preference(&headers("prefer", text)) == ScopeIs::Told;
        assert!(told("host-scope") && told("wait=3, Host-Scope"));
        assert!(!told("wait=3") && !told("host-scopes") && !told("x=host-scope"));
        assert_eq!(scope_of_preference(&HeaderMap::new()), ScopeIs::Untold);
    }

    #[test]
    fn a_key_is_one_visible_text() {
        assert_eq!(
            nonce(&headers("idempotency-key", "k-1"))
                .expect("a key")
                .as_str(),
            "k-1"
        );
        assert!(nonce(&headers("idempotency-key", "a b")).is_err());
        assert!(nonce(&headers("idempotency-key", "")).is_err());
        let mut twice = headers("idempotency-key", "a");
        twice.append("idempotency-key", HeaderValue::from_static("a"));
        assert!(nonce(&twice).is_err());
        assert_ne!(
            nonce(&HeaderMap::new()).expect("one"),
            nonce(&HeaderMap::new()).expect("another")
        );
    }
}
