//! Reading what programs tell as JSON.

use serde_json::Value;

/// The text at `pointer` (RFC 6901); empty where there is none.
pub(crate) fn text_at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A review or a line of the history without what differs from one time to the next: ids, times, nonce, signature.
pub(crate) fn same_but_for_chance(told: &Value) -> Value {
    const CHANCE: [&str; 6] = [
        "review_id",
        "created_at",
        "completed_at",
        "expires_at",
        "nonce",
        "signature",
    ];
    match told {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| {
                let value = match name.as_str() {
                    "redeemed_at" => Value::Bool(!value.is_null()),
                    name if CHANCE.contains(&name) => Value::Bool(!value.is_null()),
                    _ => same_but_for_chance(value),
                };
                (name.clone(), value)
            });
            Value::Object(kept.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            told.clone()
        }
    }
}

/// A value without the fields that are null: whether they are spelled out or left out says the same.
pub(crate) fn without_nulls(told: &Value) -> Value {
    match told {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => told.clone(),
    }
}
