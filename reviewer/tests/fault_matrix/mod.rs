//! The fault matrix (P2, P5): three wire formats, one of them also streamed, over real HTTP, with an endpoint that
//! misbehaves at every place. Whatever it does, nothing is approved, and nothing is called a denial.

use std::time::Duration;

use protocol::ReviewStatus;
use reviewer::{Reviewer, ReviewerSettings};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::{command, escalation};
use crate::scripted::{Behaviour, Scripted};

const ALLOW: &str = r#"{"risk_level":"low","user_authorization":"high","outcome":"allow","rationale":"an ordinary build"}"#;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Chat,
    Responses,
    Streamed,
    Messages,
    MessagesAsText,
}

const FORMS: [Form; 5] = [
    Form::Chat,
    Form::Responses,
    Form::Streamed,
    Form::Messages,
    Form::MessagesAsText,
];

impl Form {
    fn settings(self, url: &str) -> ReviewerSettings {
        let provider = match self {
            Self::Chat => "openai-chat",
            Self::Responses | Self::Streamed => "openai-responses",
            Self::Messages | Self::MessagesAsText => "anthropic",
        };
        let output = if self == Self::MessagesAsText {
            "text"
        } else {
            "json-schema"
        };
        serde_json::from_value(json!({ "reviewer": { "model": [{
            "provider": provider, "base_url": url, "model": "m", "output": output, "stream": self == Self::Streamed,
        }] } }))
        .expect("settings")
    }

    fn content_type(self) -> &'static str {
        if self == Self::Streamed {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    /// A proper body around a text, as the provider would send it.
    fn wrap(self, text: &str) -> String {
        let response = |text: &str| json!({ "status": "completed", "output": [{ "type": "message", "content": [{ "type": "output_text", "text": text }] }], "usage": { "input_tokens": 7, "output_tokens": 3 } });
        match self {
            Self::Chat => json!({ "choices": [{ "finish_reason": "stop", "message": { "content": text } }], "usage": { "prompt_tokens": 7, "completion_tokens": 3 } }).to_string(),
            Self::Responses => response(text).to_string(),
            Self::Streamed => {
                let (head, tail) = text.split_at(text.len() / 2);
                frames(&[
                    json!({ "type": "response.created" }),
                    json!({ "type": "response.output_text.delta", "delta": head }),
                    json!({ "type": "response.output_text.delta", "delta": tail }),
                    json!({ "type": "response.completed", "response": response(text) }),
                ])
            }
            Self::Messages => {
                let input: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
                messages("tool_use", &json!([{ "type": "tool_use", "id": "t", "name": "assessment", "input": input }]))
            }
            Self::MessagesAsText => messages("end_turn", &json!([{ "type": "text", "text": text }])),
        }
    }
}

fn messages(stop: &str, content: &Value) -> String {
    json!({ "type": "message", "role": "assistant", "content": content, "stop_reason": stop, "usage": { "input_tokens": 7, "output_tokens": 3 } }).to_string()
}

fn frames(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("event: x\ndata: {event}\n\n"))
        .collect()
}

fn answer(status: u16, content_type: &str, body: &[u8], promised: usize) -> Behaviour {
    let mut bytes = format!("HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {promised}\r\nconnection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Behaviour::Raw(bytes)
}

fn whole(form: Form, body: &str) -> Behaviour {
    answer(200, form.content_type(), body.as_bytes(), body.len())
}

/// Every reply that is no assessment, in a proper body.
fn bad_texts() -> Vec<String> {
    let mut texts = vec![
        String::new(),
        " \n".to_owned(),
        "allow".to_owned(),
        "Sure, allow it.".to_owned(),
        format!("{ALLOW} Done."),
        format!("My verdict: {ALLOW}"),
        format!("```json\n{ALLOW}\n```"),
        format!("{ALLOW}{ALLOW}"),
        format!("[{ALLOW}]"),
        "null".to_owned(),
        "{}".to_owned(),
        r#"{"outcome":"allow"}"#.to_owned(),
        format!("\u{feff}{ALLOW}"),
        "{".repeat(5_000),
    ];
    for (from, to) in [
        ("\"allow\"", "\"approve\""),
        ("\"allow\"", "\"ALLOW\""),
        ("\"allow\"", "true"),
        ("\"low\"", "\"none\""),
        ("\"low\"", "0"),
        ("\"high\"", "\"certain\""),
        ("\"an ordinary build\"", "\" \""),
        ("\"an ordinary build\"", "null"),
        ("{\"risk", "{\"extra\":1,\"risk"),
        (",\"rationale\":\"an ordinary build\"", ""),
    ] {
        texts.push(ALLOW.replacen(from, to, 1));
    }
    texts
}

/// Faults of the transport and of the provider's own shape, for one format.
fn faults(form: Form) -> Vec<(String, Behaviour)> {
    let good = form.wrap(ALLOW);
    let mut all: Vec<(String, Behaviour)> = Vec::new();
    // Cut at many places, the length promised; and the same with no length, where only the shape can tell.
    for part in 0..20 {
        let at = good.len() * part / 20;
        let head = good.as_bytes().get(..at).unwrap_or_default();
        all.push((
            format!("cut at {at}"),
            answer(200, form.content_type(), head, good.len()),
        ));
        if part % 4 == 1 {
            all.push((
                format!("ends at {at}"),
                answer(200, form.content_type(), head, at),
            ));
        }
    }
    let last = good.as_bytes().get(..good.len() - 1).unwrap_or_default();
    all.push((
        "cut before the last byte".to_owned(),
        answer(200, form.content_type(), last, good.len()),
    ));
    all.extend(odd_answers(form, &good));
    all.push(("closes at once".to_owned(), Behaviour::Close));
    all.push(("hangs".to_owned(), Behaviour::Hang));
    all.push(("drips".to_owned(), Behaviour::Drip));
    all.push(("is endless".to_owned(), Behaviour::Endless(3 * 1024 * 1024)));
    all.push((
        "is doubled".to_owned(),
        whole(form, &format!("{good}{good}")),
    ));
    for text in bad_texts() {
        let shown: String = text.chars().take(40).collect();
        all.push((format!("says {shown:?}"), whole(form, &form.wrap(&text))));
    }
    for body in misshapen(form) {
        let shown: String = body
            .chars()
            .rev()
            .take(200)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        all.push((format!("ends in {shown}"), whole(form, &body)));
    }
    all
}

/// Answers with another status, another content type or a broken frame around a proper body.
fn odd_answers(form: Form, good: &str) -> Vec<(String, Behaviour)> {
    let mut all = Vec::new();
    for status in [
        100, 201, 204, 206, 301, 302, 307, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 451,
        500, 502, 503, 504, 529,
    ] {
        all.push((
            format!("status {status}"),
            answer(status, form.content_type(), good.as_bytes(), good.len()),
        ));
    }
    for kind in [
        "text/html",
        "text/plain",
        "application/octet-stream",
        "",
        "application/jsonp",
        "multipart/mixed",
    ] {
        all.push((
            format!("content type `{kind}`"),
            answer(200, kind, good.as_bytes(), good.len()),
        ));
    }
    for (name, bytes) in [
        ("no HTTP", b"hello\r\n\r\n".to_vec()),
        ("a head without an end", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n".to_vec()),
        ("a broken chunk", format!("HTTP/1.1 200 x\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{good}\r\n0\r\n\r\n", form.content_type()).into_bytes()),
        ("a chunk that never ends", format!("HTTP/1.1 200 x\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{good}\r\n", form.content_type(), good.len()).into_bytes()),
        ("two lengths", format!("HTTP/1.1 200 x\r\ncontent-type: {}\r\ncontent-length: 3\r\ncontent-length: {}\r\n\r\n{good}", form.content_type(), good.len()).into_bytes()),
        ("bytes that are no text", [b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n".as_slice(), &[0xff, 0xfe, 0x00, 0x7b]].concat()),
    ] {
        all.push((name.to_owned(), Behaviour::Raw(bytes)));
    }
    all
}

/// Bodies that a provider might send, none of which is a finished answer.
fn misshapen(form: Form) -> Vec<String> {
    let good = form.wrap(ALLOW);
    let swapped = |pairs: &[(&str, &str)]| swap(&good, pairs);
    match form {
        Form::Chat => swapped(&[
            ("\"stop\"", "\"length\""),
            ("\"stop\"", "\"content_filter\""),
            ("\"stop\"", "\"tool_calls\""),
            ("\"message\":{", "\"message\":{\"refusal\":\"no\","),
            (
                "\"message\":{",
                "\"message\":{\"tool_calls\":[{\"id\":\"x\"}],",
            ),
            (
                "\"choices\":[",
                "\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"x\"}},",
            ),
            ("{\"choices\"", "{\"choices\":[],\"choices\""),
            ("\"content\":", "\"content\":\"no\",\"content\":"),
            ("\"choices\"", "\"choice\""),
            ("\"prompt_tokens\":7", "\"prompt_tokens\":-7"),
        ]),
        Form::Responses | Form::Streamed => misshapen_responses(form, &good),
        Form::Messages | Form::MessagesAsText => misshapen_messages(form, &good),
    }
}

fn misshapen_responses(form: Form, good: &str) -> Vec<String> {
    let swapped = |pairs: &[(&str, &str)]| swap(good, pairs);

    let mut all = swapped(&[
        ("\"status\":\"completed\"", "\"status\":\"in_progress\""),
        ("\"status\":\"completed\"", "\"status\":\"failed\""),
        (
            "\"status\":\"completed\"",
            "\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"}",
        ),
        ("\"output_text\",", "\"refusal\","),
        ("\"output\":[", "\"output\":[{\"type\":\"function_call\"},"),
        (
            "\"output\":[",
            "\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"x\"}]},",
        ),
        ("\"status\":", "\"status\":\"completed\",\"status\":"),
        ("\"input_tokens\":7", "\"input_tokens\":\"7\""),
    ]);
    if form == Form::Streamed {
        all.extend(swapped(&[
            ("response.completed", "response.failed"),
            ("response.completed", "response.done"),
            ("response.created", "error"),
            ("response.created", "response.refusal.delta"),
            ("\"delta\":\"{", "\"delta\":\"x{"),
            ("\"delta\":", "\"delta\":1,\"x\":"),
            ("data: {\"type\":\"response.created\"}", "data: {\"type\":"),
            ("data: {\"type\":\"response.created\"}", "data: [DONE]"),
        ]));
        all.push(format!(
            "{good}data: {{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}}\n\n"
        ));
        all.push(format!("{good}data: half"));
    }
    all
}

fn misshapen_messages(form: Form, good: &str) -> Vec<String> {
    let swapped = |pairs: &[(&str, &str)]| swap(good, pairs);

    let stop = if form == Form::Messages {
        "\"tool_use\",\"usage\""
    } else {
        "\"end_turn\",\"usage\""
    };
    let with = |reason: &str| good.replacen(stop, &format!("{reason},\"usage\""), 1);
    let mut all: Vec<String> = [
        "\"max_tokens\"",
        "\"refusal\"",
        "\"pause_turn\"",
        "\"stop_sequence\"",
        "null",
        "7",
    ]
    .iter()
    .map(|reason| with(reason))
    .collect();
    all.extend(swapped(&[
        ("\"type\":\"message\"", "\"type\":\"error\""),
        (
            "\"content\":[",
            "\"content\":[{\"type\":\"server_tool_use\",\"name\":\"x\"},",
        ),
        ("\"content\":[", "\"content\":[],\"content\":["),
        ("\"input_tokens\":7", "\"input_tokens\":null"),
    ]));
    if form == Form::Messages {
        all.extend(swapped(&[
        ("\"name\":\"assessment\"", "\"name\":\"run\""),
        ("\"content\":[", "\"content\":[{\"type\":\"text\",\"text\":\"I allow it\"},"),
        ("\"content\":[", &format!("\"content\":[{{\"type\":\"tool_use\",\"name\":\"assessment\",\"input\":{ALLOW}}},")),
        ("\"outcome\":\"allow\"", "\"outcome\":\"deny\",\"outcome\":\"allow\""),
    ]));
    }
    all
}

/// The body with one thing in it changed, for each pair.
fn swap(good: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(from, to)| {
            assert!(good.contains(from), "{from} is not in {good}");
            good.replacen(from, to, 1)
        })
        .collect()
}

async fn judge(form: Form, behaviour: Behaviour) -> (ReviewStatus, String) {
    let model = Scripted::start(vec![behaviour]);
    let reviewer = Reviewer::new(&form.settings(&model.base_url), &|_| None).expect("a reviewer");
    let case = escalation(command(&["make".to_owned()]));
    let reviewed = reviewer
        .review(&case, Instant::now() + Duration::from_millis(700))
        .await;
    (
        reviewed.decision.status(),
        format!("{:?}", reviewed.decision),
    )
}

#[tokio::test]
async fn the_proper_answer_is_an_approval_in_every_format() {
    for form in FORMS {
        let (status, decision) = judge(form, whole(form, &form.wrap(ALLOW))).await;
        assert_eq!(status, ReviewStatus::Approved, "{form:?}: {decision}");
    }
}

#[tokio::test]
async fn no_fault_is_an_approval_and_none_is_a_denial() {
    let mut count = 0;
    for form in FORMS {
        let mut running = tokio::task::JoinSet::new();
        for (name, behaviour) in faults(form) {
            count += 1;
            running.spawn(async move {
                let (status, decision) = judge(form, behaviour).await;
                assert!(
                    matches!(status, ReviewStatus::Failed | ReviewStatus::TimedOut),
                    "{form:?} {name}: {decision}"
                );
                assert!(
                    !decision.contains("ordinary build"),
                    "{form:?} {name}: {decision}"
                );
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("the fault fails closed");
        }
    }
    assert!(count >= 400, "{count} faults");
}
