//! How a call reaches the reviewer: over HTTP, or to the embedded server in this process (design D18).

use std::time::Duration;

use thiserror::Error;

use super::http::HttpServer;
#[cfg(feature = "embedded")]
use crate::embedded::EmbeddedServer;

/// The largest answer that is read, in bytes.
pub(crate) const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// GET or POST.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// `Prefer`.
    pub(crate) prefer: Option<Preference>,
    /// The JSON body.
    pub(crate) body: Option<Vec<u8>>,
}

/// What a server should do where it can (RFC 7240). One that does not know it goes without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    /// Answer with the end, if it comes so soon.
    Wait(Duration),
    /// Say in the receipt how long leave for a host holds.
    HostScope,
}

/// GET or POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Read.
    Get,
    /// Act.
    Post,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unreachable {
    /// Nobody listens there, or the connection broke.
    #[error(
        "the reviewer at `{0}` cannot be reached; is `auto-review-server serve` running there?"
    )]
    Connect(String),
    /// It took the call and did not answer in time.
    #[error("the reviewer at `{0}` did not answer in time")]
    Late(String),
    /// The answer is too large to be one.
    #[error("the reviewer at `{0}` sent more than {MAX_ANSWER} bytes")]
    TooLarge(String),
}

/// Where calls go.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A server somewhere else.
    Http(HttpServer),
    /// The server in this process.
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedServer),
}

impl Transport {
    pub(super) async fn call(&self, call: Call, limit: Duration) -> Result<Reply, Unreachable> {
        match self {
            Self::Http(server) => server.call(call, limit).await,
            #[cfg(feature = "embedded")]
            Self::Embedded(server) => server.call(call, limit).await,
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Http(_) => {}
            #[cfg(feature = "embedded")]
            Self::Embedded(server) => server.close().await,
        }
    }
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self {
            method: Method::Get,
            path,
            idempotency_key: None,
            prefer: None,
            body: None,
        }
    }

    pub(super) fn post(path: String, body: Vec<u8>) -> Self {
        Self {
            method: Method::Post,
            path,
            idempotency_key: None,
            prefer: None,
            body: Some(body),
        }
    }

    /// The headers beside authorization, as name and value.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(key) = &self.idempotency_key {
            headers.push(("idempotency-key", key.clone()));
        }
        match self.prefer {
            Some(Preference::Wait(wait)) => {
                headers.push(("prefer", format!("wait={}", wait.as_secs().max(1))));
            }
            Some(Preference::HostScope) => headers.push(("prefer", "host-scope".to_owned())),
            None => {}
        }
        if let Some(trace) = crate::telemetry::traceparent() {
            headers.push(("traceparent", trace));
        }
        if self.body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        headers
    }
}

impl Unreachable {
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Late(_) | Self::TooLarge(_) => false,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) => "unreachable",
            Self::Late(_) => "no_answer",
            Self::TooLarge(_) => "answer_too_large",
        }
    }
}
