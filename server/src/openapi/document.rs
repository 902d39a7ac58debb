//! The OpenAPI 3.1 document that follows from a list of operations.
//!
//! Apart and pure. Invariant: what every call of a shape may answer (a token is missing, a body is too large) follows
//! from the shape here, so that no description can forget it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{Access, Answer, Content, Kind, Operation, Parameter, Place, Verb};
use crate::role::Role;

const INFO: &str = "Reviews what coding agents want to do outside their sandbox, and keeps the record. Every error is a \
                    problem document (RFC 9457) with a stable `code`. Request bodies may be `gzip`; at most 1 MiB once inflated.";

/// Describes `operations`.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = reference::<protocol::Problem>(&mut schemas);
    let mut paths = Map::new();
    for operation in operations {
        let path = paths
            .entry(operation.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(path) = path {
            let verb = match operation.verb {
                Verb::Get => "get",
                Verb::Post => "post",
                Verb::Delete => "delete",
            };
            path.insert(verb.to_owned(), describe(operation, &mut schemas));
        }
    }
    let mut schemas = Value::Object(schemas.take_definitions(true));
    without_links(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Auto-review",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INFO,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "It is not done. `code` says why.",
                "content": {"application/problem+json": {"schema": problem}},
            }},
            "schemas": schemas,
        },
    })
}

fn reference<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn describe(operation: &Operation, schemas: &mut SchemaGenerator) -> Value {
    let mut described = Map::new();
    described.insert("operationId".to_owned(), json!(operation.id));
    described.insert("summary".to_owned(), json!(operation.summary));
    match operation.access {
        Access::Everybody => {
            described.insert("security".to_owned(), json!([]));
        }
        Access::Right(right) => {
            let roles = Role::ALL.into_iter().filter(|role| role.allows(right));
            let roles: Vec<_> = roles.map(Role::as_str).collect();
            described.insert("x-roles".to_owned(), json!(roles));
        }
    }
    let parameters: Vec<_> = operation.parameters.iter().map(parameter).collect();
    if !parameters.is_empty() {
        described.insert("parameters".to_owned(), json!(parameters));
    }
    if let Some(body) = operation.request {
        let schema = (body.0)(schemas).to_value();
        let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        described.insert("requestBody".to_owned(), body);
    }
    let mut responses = Map::new();
    for told in operation.answers {
        responses.insert(told.status.to_string(), answer(told, schemas));
    }
    for status in refusals(operation) {
        let problem = json!({"$ref": "#/components/responses/Problem"});
        responses.insert(status.to_string(), problem);
    }
    described.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(described)
}

/// The statuses by which a call may be refused, in order.
fn refusals(operation: &Operation) -> Vec<u16> {
    let mut statuses = operation.refusals.to_vec();
    if operation.access != Access::Everybody {
        statuses.extend([401, 403, 503]);
    }
    if operation.request.is_some() {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    for parameter in operation.parameters {
        statuses.push(match parameter.place {
            Place::Path => 404,
            Place::Query | Place::Header => 400,
        });
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let schema = match parameter.kind {
        Kind::Text(most) => json!({"type": "string", "minLength": 1, "maxLength": most}),
        Kind::Form(pattern) => json!({"type": "string", "pattern": pattern}),
        Kind::Integer(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::OneOf(values) => json!({"type": "string", "enum": values}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Uuid => json!({"type": "string", "format": "uuid"}),
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.place == Place::Path,
        "description": parameter.summary,
        "schema": schema,
    })
}

fn answer(answer: &Answer, schemas: &mut SchemaGenerator) -> Value {
    let content = match answer.content {
        Content::Nothing => return json!({"description": answer.summary}),
        Content::Json(bodies) => {
            let mut shapes: Vec<_> = bodies
                .iter()
                .map(|body| (body.0)(schemas).to_value())
                .collect();
            let schema = match shapes.pop() {
                Some(only) if shapes.is_empty() => only,
                Some(last) => {
                    shapes.push(last);
                    json!({"anyOf": shapes})
                }
                None => json!({}),
            };
            json!({"application/json": {"schema": schema}})
        }
        Content::Text(kinds) => {
            let kinds = kinds
                .iter()
                .map(|kind| ((*kind).to_owned(), json!({"schema": {"type": "string"}})));
            Value::Object(kinds.collect())
        }
        Content::Events(data) => {
            let schema = (data.0)(schemas).to_value();
            let events = json!({"type": "string", "contentMediaType": "text/event-stream", "contentSchema": schema});
            json!({"text/event-stream": {"schema": events}})
        }
    };
    json!({"description": answer.summary, "content": content})
}

/// Descriptions are written for the code as well; outside of it a link is its text.
fn without_links(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.contains("[`") {
                *text = plain(text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_links),
        Value::Object(map) => map.values_mut().for_each(without_links),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("`]") else {
            out.push_str("[`");
            rest = after;
            continue;
        };
        out.push('`');
        out.push_str(name);
        out.push('`');
        rest = match after.strip_prefix('(').and_then(|it| it.split_once(')')) {
            Some((_target, after)) => after,
            None => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_link_becomes_its_text() {
        assert_eq!(
            plain("see [`A`](crate::A), [`B`] and [c](d)"),
            "see `A`, `B` and [c](d)"
        );
    }
}
