//! A step of a review that did not come off, and its folding into the record's words.
//!
//! Apart, because the cause is for the log and the fold is for the record. Invariant: what is folded names a step, a
//! stable code and a way out, and nothing that a model or a tool wrote.

use protocol::{FailedStep, ReviewFailure};
use thiserror::Error;

use crate::model::ModelError;
use crate::prompt::PromptError;
use crate::reply::InvalidReply;

/// A step that did not come off.
#[derive(Debug, Error)]
pub(crate) enum ReviewError {
    /// No prompt.
    #[error("cannot build the prompt")]
    Prompt(#[from] PromptError),
    /// Nobody to ask.
    #[error("no model is configured")]
    NoModel,
    /// The model could not be asked.
    #[error("cannot ask the model `{model}`")]
    Model {
        model: String,
        #[source]
        cause: ModelError,
    },
    /// The model's reply is not an assessment.
    #[error("cannot use the reply of the model `{model}`")]
    Reply {
        model: String,
        #[source]
        cause: InvalidReply,
    },
    /// A ceiling of calls, tokens or cost is reached.
    #[error("the hour's ceiling of calls, tokens or cost is reached")]
    Budget,
    /// The review's deadline passed.
    #[error("the deadline passed")]
    Deadline,
}

impl ReviewError {
    /// The same for the record; `None` for the deadline, which is a decision of its own.
    pub(crate) fn failure(&self) -> Option<ReviewFailure> {
        let failure = |step, code: &str, retryable, message: String| ReviewFailure {
            step,
            code: code.to_owned(),
            retryable,
            message,
        };
        Some(match self {
            Self::Prompt(cause) => failure(
                FailedStep::Prompt,
                cause.code(),
                false,
                format!("the action could not be shown to a reviewer whole: {cause}"),
            ),
            Self::NoModel => failure(
                FailedStep::NotConfigured,
                "no_model",
                false,
                "the built-in reviewer cannot decide this action and no model is configured\nhint: name one under `[[reviewer.model]]`"
                    .to_owned(),
            ),
            Self::Model { model, cause } => failure(
                FailedStep::Model,
                cause.code(),
                cause.is_retryable(),
                format!("the model `{}` could not be asked: {cause}", protocol::Printable(model)),
            ),
            Self::Reply { model, cause } => failure(
                FailedStep::Reply,
                cause.code(),
                true,
                format!("the model `{}` did not answer with an assessment: {cause}", protocol::Printable(model)),
            ),
            Self::Budget => failure(
                FailedStep::Budget,
                "budget_exhausted",
                true,
                "the hour's ceiling of calls, tokens or cost is reached\nhint: wait, or raise it under `[reviewer.budget]`"
                    .to_owned(),
            ),
            Self::Deadline => return None,
        })
    }
}
