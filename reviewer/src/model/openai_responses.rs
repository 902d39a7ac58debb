//! OpenAI Responses: body and answer, as pure functions.
//!
//! Apart from the call so that both can be read side by side with the provider's reference. Invariant: a completed
//! response with exactly one message of exactly one text is an answer.

use protocol::parse_strict;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Completion, ModelError};
use crate::exhibit::Tokens;
use crate::reply;
use crate::settings::OutputForm;

/// The request's body. Nothing is kept at the provider.
pub(super) fn body(ask: &Ask<'_>) -> Value {
    let said = |role: &str, kind: &str, text: &str| json!({ "role": role, "content": [{ "type": kind, "text": text }] });
    let mut input = Vec::new();
    for round in ask.prompt.earlier() {
        input.push(said("user", "input_text", &round.user));
        input.push(said("assistant", "output_text", &round.reply));
    }
    input.push(said("user", "input_text", ask.prompt.user()));
    let mut body = json!({
        "model": ask.model,
        "stream": ask.stream,
        "store": false,
        "instructions": ask.prompt.system(),
        "input": input,
    });
    let Some(fields) = body.as_object_mut() else {
        return body;
    };
    if ask.form == OutputForm::JsonSchema {
        let format = json!({ "type": "json_schema", "name": "assessment", "strict": true, "schema": reply::schema() });
        fields.insert("text".to_owned(), json!({ "format": format }));
    }
    if let Some(effort) = ask.effort {
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
    #[serde(default)]
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

/// One event of a streamed answer.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// A part of the text.
    Delta(String),
    /// The whole answer; nothing may follow.
    End(Value),
    /// Nothing that matters here.
    Other,
}

/// Reads the data of one frame.
pub(super) fn event(data: &str) -> Result<Event, ModelError> {
    let value: Value = parse_strict(data.as_bytes()).map_err(|_| ModelError::WrongShape)?;
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .ok_or(ModelError::WrongShape)?;
    match kind {
        "response.output_text.delta" => {
            let delta = value
                .get("delta")
                .and_then(Value::as_str)
                .ok_or(ModelError::WrongShape)?;
            Ok(Event::Delta(delta.to_owned()))
        }
        "response.completed" | "response.incomplete" => {
            let answer = value.get("response").ok_or(ModelError::WrongShape)?;
            // The event and what it holds have to say the same.
            let status = answer.get("status").and_then(Value::as_str);
            if status != kind.strip_prefix("response.") {
                return Err(ModelError::WrongShape);
            }
            Ok(Event::End(answer.clone()))
        }
        "response.failed" => Err(ModelError::ServerError(200)),
        "error" => Err(ModelError::ServerError(200)),
        "response.refusal.delta" | "response.refusal.done" => Err(ModelError::Declined),
        _ => Ok(Event::Other),
    }
}

/// Reads the answer's body.
pub(super) fn read(bytes: &[u8]) -> Result<Completion, ModelError> {
    if bytes.is_empty() {
        return Err(ModelError::Empty);
    }
    answer(parse_strict(bytes).map_err(|_| ModelError::WrongShape)?)
}

/// Reads the answer itself, whichever way it came.
pub(super) fn answer(value: Value) -> Result<Completion, ModelError> {
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
            cached_input: usage
                .input_tokens_details
                .and_then(|details| details.cached_tokens)
                .unwrap_or(0),
        }),
        first_token_ms: None,
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
