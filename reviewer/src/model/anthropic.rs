//! Anthropic Messages: body and answer, as pure functions.
//!
//! Apart from the call so that both can be read side by side with the provider's reference. Invariant: a finished answer
//! with exactly one call of the one tool, or in the plain form exactly one text, is an answer.

use protocol::parse_strict;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Completion, ModelError};
use crate::exhibit::Tokens;
use crate::reply;
use crate::settings::OutputForm;

/// The version of the API that body and answer are written for.
pub(super) const VERSION: &str = "2023-06-01";
/// The tool that a model is held to: its arguments are the assessment.
const TOOL: &str = "assessment";
/// The most that an answer may take, in tokens: a rationale of two sentences, and room to reason.
const MAX_OUTPUT_TOKENS: u32 = 4_096;

/// The request's body. The policy is marked for the provider's cache.
pub(super) fn body(ask: &Ask<'_>) -> Value {
    let mut messages = Vec::new();
    for round in ask.prompt.earlier() {
        messages
            .push(json!({ "role": "user", "content": [{ "type": "text", "text": round.user }] }));
        messages.push(
            json!({ "role": "assistant", "content": [{ "type": "text", "text": round.reply }] }),
        );
    }
    // The last question is marked too: the next one of the session begins with it.
    messages.push(json!({
        "role": "user",
        "content": [{ "type": "text", "text": ask.prompt.user(), "cache_control": { "type": "ephemeral" } }],
    }));
    let mut body = json!({
        "model": ask.model,
        "max_tokens": MAX_OUTPUT_TOKENS,
        "system": [{ "type": "text", "text": ask.prompt.system(), "cache_control": { "type": "ephemeral" } }],
        "messages": messages,
    });
    let Some(fields) = body.as_object_mut() else {
        return body;
    };
    if ask.form == OutputForm::JsonSchema {
        fields.insert(
            "tools".to_owned(),
            json!([{ "name": TOOL, "description": "Answers with the assessment.", "input_schema": reply::schema() }]),
        );
        fields.insert(
            "tool_choice".to_owned(),
            json!({ "type": "tool", "name": TOOL }),
        );
    }
    if let Some(effort) = ask.effort {
        fields.insert("output_config".to_owned(), json!({ "effort": effort }));
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    content: Vec<Block>,
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Value>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

/// Reads the answer's body.
pub(super) fn read(bytes: &[u8], form: OutputForm) -> Result<Completion, ModelError> {
    if bytes.is_empty() {
        return Err(ModelError::Empty);
    }
    let value: Value = parse_strict(bytes).map_err(|_| ModelError::WrongShape)?;
    let answer: Answer = serde_json::from_value(value).map_err(|_| ModelError::WrongShape)?;
    if answer.kind != "message" {
        return Err(ModelError::WrongShape);
    }
    match (answer.stop_reason.as_deref(), form) {
        (Some("tool_use"), OutputForm::JsonSchema) | (Some("end_turn"), OutputForm::Text) => {}
        (Some("max_tokens" | "model_context_window_exceeded"), _) => {
            return Err(ModelError::CutOff);
        }
        (Some("refusal"), _) => return Err(ModelError::Declined),
        _ => return Err(ModelError::WrongShape),
    }
    let usage = answer.usage;
    Ok(Completion {
        text: one_answer(answer.content, form)?,
        tokens: usage.map(|usage| {
            let cached = usage.cache_read_input_tokens.unwrap_or(0);
            Tokens {
                input: usage
                    .input_tokens
                    .saturating_add(cached)
                    .saturating_add(usage.cache_creation_input_tokens.unwrap_or(0)),
                output: usage.output_tokens,
                cached_input: cached,
            }
        }),
        first_token_ms: None,
    })
}

fn one_answer(blocks: Vec<Block>, form: OutputForm) -> Result<String, ModelError> {
    let mut answers = Vec::new();
    for block in blocks {
        match (block.kind.as_str(), form) {
            ("thinking" | "redacted_thinking", _) => {}
            ("tool_use", OutputForm::JsonSchema) if block.name.as_deref() == Some(TOOL) => {
                answers.push(block.input.ok_or(ModelError::WrongShape)?.to_string());
            }
            ("text", OutputForm::Text) => answers.push(block.text.unwrap_or_default()),
            // Words beside the tool's call are not the answer; whoever must answer by the tool has nothing to add.
            _ => return Err(ModelError::WrongShape),
        }
    }
    match <[String; 1]>::try_from(answers) {
        Ok([text]) if text.trim().is_empty() => Err(ModelError::Empty),
        Ok([text]) => Ok(text),
        Err(answers) if answers.is_empty() => Err(ModelError::Empty),
        Err(_) => Err(ModelError::WrongShape),
    }
}
