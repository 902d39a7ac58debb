//! OpenAI Chat Completions: body and answer, as pure functions.
//!
//! Apart from the call so that both can be read side by side with the provider's reference. Invariant: exactly one
//! finished choice with exactly one text is an answer.

use protocol::parse_strict;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Completion, ModelError};
use crate::exhibit::Tokens;
use crate::reply;
use crate::settings::OutputForm;

/// The request's body.
pub(super) fn body(ask: &Ask<'_>) -> Value {
    let mut messages = vec![json!({ "role": "system", "content": ask.prompt.system() })];
    for round in ask.prompt.earlier() {
        messages.push(json!({ "role": "user", "content": round.user }));
        messages.push(json!({ "role": "assistant", "content": round.reply }));
    }
    messages.push(json!({ "role": "user", "content": ask.prompt.user() }));
    let mut body = json!({ "model": ask.model, "stream": false, "messages": messages });
    let Some(fields) = body.as_object_mut() else {
        return body;
    };
    if ask.form == OutputForm::JsonSchema {
        let schema = json!({ "name": "assessment", "strict": true, "schema": reply::schema() });
        fields.insert(
            "response_format".to_owned(),
            json!({ "type": "json_schema", "json_schema": schema }),
        );
    }
    if let Some(effort) = ask.effort {
        fields.insert("reasoning_effort".to_owned(), Value::from(effort));
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

/// Reads the answer's body.
pub(super) fn read(bytes: &[u8]) -> Result<Completion, ModelError> {
    if bytes.is_empty() {
        return Err(ModelError::Empty);
    }
    // Read strictly first: of two keys with one name, another reader might take the other one.
    let value: Value = parse_strict(bytes).map_err(|_| ModelError::WrongShape)?;
    let answer: Answer = serde_json::from_value(value).map_err(|_| ModelError::WrongShape)?;
    let [choice] = <[Choice; 1]>::try_from(answer.choices).map_err(|_| ModelError::WrongShape)?;
    if choice.message.refusal.is_some_and(|text| !text.is_empty()) {
        return Err(ModelError::Declined);
    }
    match choice.finish_reason.as_deref() {
        Some("stop") | None => {}
        Some("length") => return Err(ModelError::CutOff),
        Some("content_filter") => return Err(ModelError::Declined),
        Some(_) => return Err(ModelError::WrongShape),
    }
    if choice
        .message
        .tool_calls
        .is_some_and(|calls| !calls.is_empty())
    {
        return Err(ModelError::WrongShape);
    }
    let text = choice
        .message
        .content
        .filter(|text| !text.trim().is_empty());
    Ok(Completion {
        text: text.ok_or(ModelError::Empty)?,
        tokens: answer.usage.map(|usage| Tokens {
            input: usage.prompt_tokens,
            output: usage.completion_tokens,
            cached_input: usage
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens)
                .unwrap_or(0),
        }),
        first_token_ms: None,
    })
}
