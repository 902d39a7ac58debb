//! What a model is to a review: a text in, a text out, or one of a fixed list of failures.
//!
//! Apart from the HTTP call so that attempts can be tested without one. Invariant: an error carries nothing that a model
//! or a provider wrote, and whether it is worth another try follows from its variant.

mod anthropic;
mod http;
mod openai_chat;
mod openai_responses;
mod sse;

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

use crate::exhibit::Tokens;
use crate::prompt::Prompt;
use crate::settings::{OutputForm, Prices, Provider};

pub(crate) use http::HttpModel;
pub use http::in_trace;

/// Something that answers a prompt.
pub(crate) trait Model {
    /// Which API.
    fn provider(&self) -> Provider;
    /// Which model.
    fn name(&self) -> &str;
    /// What it costs, where that is configured.
    fn prices(&self) -> Option<Prices> {
        None
    }
    /// How long one attempt may take, where it is less than what is left of the review.
    fn timeout(&self) -> Option<Duration>;
    /// Asks once. Dropping the future stops the call.
    fn complete(
        &self,
        prompt: &Prompt,
    ) -> impl Future<Output = Result<Completion, ModelError>> + Send;
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) text: String,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) first_token_ms: Option<u64>,
}

/// What a provider's body is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) model: &'a str,
    pub(crate) effort: Option<&'a str>,
    pub(crate) form: OutputForm,
    pub(crate) stream: bool,
    pub(crate) prompt: &'a Prompt,
}

impl Ask<'_> {
    /// The body of the request to a provider.
    pub(crate) fn body(&self, provider: Provider) -> serde_json::Value {
        match provider {
            Provider::OpenAiResponses => openai_responses::body(self),
            Provider::OpenAiChat => openai_chat::body(self),
            Provider::Anthropic => anthropic::body(self),
        }
    }
}

/// Why a model did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ModelError {
    /// Nobody listens there.
    #[error("the connection was refused")]
    ConnectRefused,
    /// No connection: the name does not resolve, the network is down, the certificate is not good.
    #[error("no connection could be made")]
    Connect,
    /// No answer within the attempt's own limit.
    #[error("it did not answer in time")]
    TimedOut,
    /// 401 or 403.
    #[error("it refused the key (status {0})\nhint: check `api_key_env` or `api_key_file`")]
    Unauthorized(u16),
    /// 404.
    #[error(
        "it does not know the address or the model (status 404)\nhint: check `base_url` and `model`"
    )]
    NotFound,
    /// 429, with the seconds that it asked to wait.
    #[error("it is rate limited (status 429)")]
    RateLimited(Option<u64>),
    /// 408 or any 5xx.
    #[error("it failed (status {0})")]
    ServerError(u16),
    /// Any other 4xx.
    #[error("it did not accept the request (status {0})\nhint: check `model` and `effort`")]
    BadRequest(u16),
    /// A redirect, which is never followed.
    #[error("it redirects elsewhere (status {0})\nhint: set `base_url` to the final address")]
    Redirected(u16),
    /// More than the largest answer that is read.
    #[error("its answer is larger than 1 MiB")]
    TooLarge,
    /// The answer ended early.
    #[error("its answer ended early")]
    CutOff,
    /// Not the shape that the provider documents.
    #[error("its answer does not have the provider's shape")]
    WrongShape,
    /// No text in it.
    #[error("its answer holds no text")]
    Empty,
    /// Too many calls failed; it is left alone for a while.
    #[error("it failed again and again and is left alone for a while")]
    Paused,
    /// A cassette has no answer to this request.
    #[error("the cassette holds no answer to this request")]
    NotRecorded,
    /// The model would not answer.
    #[error("the model declined to answer")]
    Declined,
}

impl ModelError {
    /// The stable name.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::Connect => "connect_failed",
            Self::TimedOut => "timed_out",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited(_) => "rate_limited",
            Self::ServerError(_) => "server_error",
            Self::BadRequest(_) => "bad_request",
            Self::Redirected(_) => "redirected",
            Self::TooLarge => "too_large",
            Self::CutOff => "cut_off",
            Self::WrongShape => "wrong_shape",
            Self::Empty => "empty",
            Self::Paused => "provider_paused",
            Self::NotRecorded => "not_recorded",
            Self::Declined => "declined",
        }
    }

    /// Whether the same model may answer when it is asked again.
    pub(crate) fn is_retryable(self) -> bool {
        match self {
            Self::ConnectRefused
            | Self::Connect
            | Self::TimedOut
            | Self::RateLimited(_)
            | Self::ServerError(_)
            | Self::CutOff
            | Self::WrongShape
            | Self::Empty => true,
            Self::Unauthorized(_)
            | Self::NotFound
            | Self::BadRequest(_)
            | Self::Redirected(_)
            | Self::TooLarge
            | Self::Paused
            | Self::NotRecorded
            | Self::Declined => false,
        }
    }

    /// Whether the model could not be had at all, so that another may be asked in its place. What it did say, or would not
    /// say, is no reason to ask somebody else.
    pub(crate) fn is_absence(self) -> bool {
        match self {
            Self::ConnectRefused
            | Self::Connect
            | Self::TimedOut
            | Self::RateLimited(_)
            | Self::ServerError(_)
            | Self::Unauthorized(_)
            | Self::NotFound
            | Self::BadRequest(_)
            | Self::Redirected(_)
            | Self::Paused
            | Self::CutOff => true,
            Self::WrongShape
            | Self::Empty
            | Self::TooLarge
            | Self::NotRecorded
            | Self::Declined => false,
        }
    }
}
