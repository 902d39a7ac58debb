//! OpenAI Responses: body and answer, as pure functions.
//!
//! Apart from the call so that both can be read side by side with the provider's reference. Invariant: a completed
//! response with exactly one message of exactly one text is an answer.

use protocol::parse_strict;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Completion, ModelError};
use crate::exhibit::Tokens;
use crate::prompt::Prompt;
use crate::reply;

/// The request's body. Nothing is kept at the provider.
pub(super) fn body(model: &str, effort: Option<&str>, prompt: &Prompt) -> Value {
    let mut body = json!({
        "model": model,
        "stream": false,
        "store": false,
        "text": {
            "format": { "type": "json_schema", "name": "assessment", "strict": true, "schema": reply::schema() },
        },
        "instructions": prompt.system(),
        "input": [
            { "role": "user", "content": [{ "type": "input_text", "text": prompt.user() }] },
        ],
    });
    if let (Some(effort), Some(fields)) = (effort, body.as_object_mut()) {
        fields.insert("reasoning".to_owned(), json!({ "effort": effort }));
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    output: Vec<Item>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
}

/// Reads the answer's body.
pub(super) fn read(bytes: &[u8]) -> Result<Completion, ModelError> {
    if bytes.is_empty() {
        return Err(ModelError::Empty);
    }
    let value: Value = parse_strict(bytes).map_err(|_| ModelError::WrongShape)?;
    let answer: Answer = serde_json::from_value(value).map_err(|_| ModelError::WrongShape)?;
    match answer.status.as_str() {
        "completed" => {}
        "incomplete" => {
            let reason = answer.incomplete_details.and_then(|details| details.reason);
            return Err(match reason.as_deref() {
                Some("content_filter") => ModelError::Declined,
                _ => ModelError::CutOff,
            });
        }
        "failed" => return Err(ModelError::ServerError(200)),
        _ => return Err(ModelError::WrongShape),
    }
    Ok(Completion {
        text: one_text(answer.output)?,
        tokens: answer.usage.map(|usage| Tokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
        }),
    })
}

fn one_text(items: Vec<Item>) -> Result<String, ModelError> {
    let mut texts = Vec::new();
    for item in items {
        match item.kind.as_str() {
            "reasoning" => {}
            "message" => {
                for part in item.content.unwrap_or_default() {
                    match part.kind.as_str() {
                        "output_text" => texts.push(part.text.unwrap_or_default()),
                        "refusal" => return Err(ModelError::Declined),
                        _ => return Err(ModelError::WrongShape),
                    }
                }
            }
            _ => return Err(ModelError::WrongShape),
        }
    }
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next()) {
        (Some(text), None) if !text.trim().is_empty() => Ok(text),
        (_, Some(_)) => Err(ModelError::WrongShape),
        (_, None) => Err(ModelError::Empty),
    }
}
