//! `auto-review-server prompt`: the exact model request for one escalation, nothing sent.
//!
//! Apart from serving, so that a policy can be read as a model gets it. Invariant: no key stands in what is printed.

use std::path::{Path, PathBuf};

use clap::Args;
use protocol::Escalation;
use reviewer::{Provider, Reviewer};
use serde_json::Value;

use crate::cli::CommandError;

/// The largest request that is read, in bytes.
const MAX_REQUEST_BYTES: u64 = 8 * 1024 * 1024;

/// Which request to show, and for whom.
#[derive(Debug, Args)]
pub(crate) struct PromptArguments {
    /// A file with a body of `POST /v1/reviews`; its digest is computed where it is missing.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// The API that it is shown for. The first model of the settings where not given, else `openai-responses`.
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    pub(crate) provider: Option<Provider>,
}

fn provider(text: &str) -> Result<Provider, String> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| "one of `openai-responses`, `openai-chat`, `anthropic`".to_owned())
}

/// Reads the request.
pub(crate) fn read(path: &Path) -> Result<Escalation, CommandError> {
    let fault = |problem: String| CommandError::Request {
        path: path.to_owned(),
        problem,
    };
    let size = std::fs::metadata(path)
        .map_err(|cause| fault(cause.to_string()))?
        .len();
    if size > MAX_REQUEST_BYTES {
        return Err(fault("it is larger than 8 MiB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|cause| fault(cause.to_string()))?;
    let value: Value =
        protocol::parse_strict(text.as_bytes()).map_err(|cause| fault(cause.to_string()))?;
    crate::eval::escalation(value).map_err(fault)
}

/// The request as text: indented JSON.
pub(crate) fn show(
    arguments: &PromptArguments,
    reviewer: &Reviewer,
) -> Result<String, CommandError> {
    let escalation = read(&arguments.request)?;
    let request = reviewer
        .request(&escalation, arguments.provider)
        .map_err(CommandError::Prompt)?;
    serde_json::to_string_pretty(&request).map_err(|cause| CommandError::Request {
        path: arguments.request.clone(),
        problem: cause.to_string(),
    })
}
