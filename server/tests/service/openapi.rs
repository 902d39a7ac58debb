//! The document of the API: as it is committed, and as the server keeps it under calls made from it, right and wrong.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::harness::{
    Answered, Folder, Program, Server, bearer, command, harmless, submission, try_call_at,
};
use crate::shapes::{Random, Shapes};

const ROLES: [&str; 5] = ["runner", "auditor", "policy-author", "approver", "admin"];
/// How many calls are made to each operation.
const ROUNDS: usize = 60;
/// How many bytes of an answer that does not fit are shown.
const SHOWN: usize = 400;

#[test]
fn the_committed_document_is_what_the_code_says() {
    let folder = Folder::new();
    let (code, printed, err) = Program::new(&folder, "").output(&["openapi"]);
    assert_eq!(code, 0, "{err}");
    let committed = include_str!("../../../docs/openapi.json");
    // The first line that differs, and not two documents.
    let mut lines = printed.lines().zip(committed.lines());
    let differs = lines.find(|(printed, committed)| printed != committed);
    let length = printed.len().cmp(&committed.len());
    assert_eq!(
        (differs, length),
        (None, std::cmp::Ordering::Equal),
        "write it anew: `cargo run -p server -- openapi > docs/openapi.json`"
    );
}

/// One operation of the document.
struct Call<'a> {
    method: String,
    path: &'a str,
    operation: &'a Value,
}

fn calls(document: &Value) -> Vec<Call<'_>> {
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, verbs)| {
        let verbs = verbs.as_object().expect("verbs");
        verbs.iter().map(move |(verb, operation)| Call {
            method: verb.to_uppercase(),
            path,
            operation,
        })
    });
    all.collect()
}

/// What there is at the server that is called.
struct Known {
    tokens: Vec<String>,
    /// An approval that can be spent, a denial that leave lifts, and what waits for a person.
    approved: String,
    denied: String,
    policy: String,
    webhook: String,
    /// A webhook that may be taken away.
    doomed: String,
}

impl Known {
    async fn at(server: &Server, tokens: Vec<String>) -> Self {
        let text = |told: &Answered, name: &str| told.body[name].as_str().map(str::to_owned);
        let approved = server
            .post(&tokens[0], "/v1/reviews", &submission(&harmless()))
            .await;
        let denied = server
            .post(&tokens[0], "/v1/reviews", &submission(&liftable()))
            .await;
        assert_eq!(
            (approved.review_status(), denied.review_status()),
            ("approved", "denied")
        );
        let policy = json!({"policy": {"deny": ["program:dd"]}});
        let policy = server.post(&tokens[2], "/v1/policies", &policy).await;
        let wanted = json!({"url": "https://127.0.0.1:9/hook", "events": ["waiting"]});
        let doomed = server.post(&tokens[4], "/v1/webhooks", &wanted).await;
        let webhook = server.post(&tokens[4], "/v1/webhooks", &wanted).await;
        Self {
            approved: approved.id(),
            denied: denied.id(),
            policy: text(&policy, "revision").expect("a policy"),
            webhook: text(&webhook, "id").expect("a webhook"),
            doomed: text(&doomed, "id").expect("a webhook"),
            tokens,
        }
    }

    /// The name of something that is there, for the parameter `name` of `path`.
    fn name(&self, random: &mut Random, path: &str, name: &str) -> String {
        match (path, name) {
            (_, "revision") => self.policy.clone(),
            (_, "delivery") => "1".to_owned(),
            ("/v1/sessions/{id}", _) => SESSION.to_owned(),
            ("/v1/reviews/{id}/leave", _) => self.denied.clone(),
            ("/v1/webhooks/{id}", _) => self.doomed.clone(),
            (path, _) if path.starts_with("/v1/webhooks/") => self.webhook.clone(),
            _ => (*random.pick(&[&self.approved, &self.denied])).clone(),
        }
    }
}

/// The session of every submission here.
const SESSION: &str = "s-1";

/// What is denied, and below critical.
fn liftable() -> protocol::Action {
    command(&["cat", "/home/u/.ssh/id_ed25519"])
}

/// A call as it goes over the wire.
struct Sent {
    /// The role of its token.
    role: Option<&'static str>,
    head: String,
    body: String,
}

impl Call<'_> {
    fn make(&self, random: &mut Random, shapes: &Shapes<'_>, known: &Known) -> Sent {
        let mut path = self.path.to_owned();
        let mut query = Vec::new();
        let mut headers = String::new();
        for parameter in self.operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let name = parameter["name"].as_str().expect("a name");
            let value = random.parameter(&parameter["schema"]);
            match parameter["in"].as_str() {
                Some("path") => {
                    // Without any name it would be another path.
                    let value = if random.one_in(3) && !value.is_empty() {
                        value
                    } else {
                        known.name(random, self.path, name)
                    };
                    path = path.replace(&format!("{{{name}}}"), &escaped(&value));
                }
                Some("query") if random.one_in(4) => {
                    query.push(format!("{name}={}", escaped(&value)));
                }
                Some("header") if random.one_in(2) => {
                    let value: String = value.chars().filter(|it| !it.is_control()).collect();
                    headers.push_str(&format!("{name}: {value}\r\n"));
                }
                _ => {}
            }
        }
        if random.one_in(12) {
            query.push("nothing=1".to_owned());
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let body = self.body(random, shapes, known);
        if !body.is_empty() && !random.one_in(20) {
            headers.push_str("content-type: application/json\r\n");
        }
        if random.one_in(25) {
            headers.push_str("content-encoding: gzip\r\n");
        }
        let role = self.role(random);
        if let Some(role) = role {
            headers.push_str(&bearer(&known.tokens[role]));
        }
        Sent {
            role: role.map(|role| ROLES[role]),
            head: format!("{} {path} HTTP/1.1\r\n{headers}", self.method),
            body,
        }
    }

    /// Whose token is sent: mostly one that may call, sometimes another or none.
    fn role(&self, random: &mut Random) -> Option<usize> {
        if random.one_in(15) {
            return None;
        }
        let may = |role: &usize| self.lets_in(ROLES[*role]);
        let fit: Vec<usize> = (0..ROLES.len()).filter(may).collect();
        Some(if random.one_in(6) || fit.is_empty() {
            random.below(ROLES.len())
        } else {
            *random.pick(&fit)
        })
    }

    fn lets_in(&self, role: &str) -> bool {
        let roles = self.operation["x-roles"].as_array();
        roles.is_none_or(|roles| roles.iter().any(|it| it == role))
    }

    fn body(&self, random: &mut Random, shapes: &Shapes<'_>, known: &Known) -> String {
        let schema = &self.operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            return String::new();
        }
        let mut body = match self.path {
            // A review that is really made, every other time: its digest is none that chance finds.
            "/v1/reviews" if random.one_in(2) => submission(&harmless()),
            // What only fits one action, in one state.
            "/v1/reviews/{id}/leave" if random.one_in(2) => {
                json!({"reason": "r", "action_digest": liftable().digest()})
            }
            "/v1/reviews/{id}/redeem" if random.one_in(2) => {
                json!({"action_digest": harmless().digest(), "session_id": SESSION})
            }
            "/v1/policies/changes" if random.one_in(2) => {
                let step = *random.pick(&["shadow", "activate", "rollback"]);
                let revision = (step != "rollback").then_some(&known.policy);
                json!({"step": step, "revision": revision, "reason": "r"})
            }
            _ => random.value(shapes, schema, 0),
        };
        if random.one_in(3) {
            random.spoil(&mut body);
        }
        let mut text = body.to_string();
        if random.one_in(10) {
            let cut = random.below(text.len());
            text = text.chars().take(cut).collect();
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What the document says is told where the answer is `status`.
fn described<'a>(document: &'a Value, operation: &'a Value, status: u16) -> Option<&'a Value> {
    let told = operation["responses"].get(status.to_string())?;
    Some(match told["$ref"].as_str() {
        Some(_) => &document["components"]["responses"]["Problem"],
        None => told,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fifty seeds take minutes: `cargo xtask soak`"]
async fn whatever_is_sent_with_fifty_seeds_the_answer_is_one_that_the_document_knows() {
    let mut seen = Map::new();
    for seed in 100..150 {
        send_everything(seed, &mut seen).await;
    }
    each_worked(&seen);
}

/// Calls of nobody in particular, made from the document, over real sockets: each is answered in time, by what the
/// document says, and never by an error of the server's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_the_answer_is_one_that_the_document_knows() {
    let mut seen = Map::new();
    send_everything(7, &mut seen).await;
    each_worked(&seen);
}

/// Sends every call many times; how often each was answered with what goes to `seen`.
async fn send_everything(seed: u64, seen: &mut Map<String, Value>) {
    let folder = Folder::new();
    let settings = "[reviewer]\ndeadline_secs = 2\n[webhooks]\nallowed_hosts = [\"127.0.0.1\"]\n";
    let program = Program::new(&folder, settings);
    let tokens: Vec<_> = ROLES
        .iter()
        .map(|role| {
            program
                .output(&["token", "create", "--role", role])
                .1
                .trim()
                .to_owned()
        })
        .collect();
    let server = program.serve();
    let known = Known::at(&server, tokens).await;
    let tokens = &known.tokens;
    let document = server.get(&tokens[0], "/v1/openapi.json").await.body;
    let shapes = Shapes::of(&document);
    let mut random = Random::new(seed);
    for call in calls(&document) {
        for round in 0..ROUNDS {
            let sent = call.make(&mut random, &shapes, &known);
            let at = format!("seed {seed}, round {round}: {}", sent.head);
            let status = check(server.address, &document, &call, &sent, &at).await;
            let key = format!("{} {}", call.method, call.path);
            let statuses = seen.entry(key).or_insert_with(|| json!({}));
            let count = statuses[status.to_string()].as_u64().unwrap_or(0) + 1;
            statuses[status.to_string()] = json!(count);
        }
    }
}

/// It is no test of the refusals alone.
fn each_worked(seen: &Map<String, Value>) {
    for (call, statuses) in seen {
        let fine = ["200", "201", "202", "204"]
            .iter()
            .any(|it| statuses.get(it).is_some());
        // What only fits a review in one state, or the caller's own review and session, is seldom hit by chance.
        let rare = [
            "/ran",
            "/answer",
            "/abort",
            "/resend",
            "POST /v1/network-reports",
        ]
        .iter()
        .any(|it| call.ends_with(it));
        assert!(
            fine || rare || call.starts_with("DELETE"),
            "{call} never worked: {statuses}"
        );
    }
}

async fn check(
    address: SocketAddr,
    document: &Value,
    call: &Call<'_>,
    sent: &Sent,
    at: &str,
) -> u16 {
    if call.path.ends_with("/events") {
        return crate::events::first_status(address, &sent.head).await;
    }
    let begun = Instant::now();
    let answered = try_call_at(address, &sent.head, &sent.body).await;
    let answered = answered.unwrap_or_else(|| panic!("no answer to {at}"));
    let status = answered.status.as_u16();
    let shown: String = answered.text.chars().take(SHOWN).collect();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{at} took too long"
    );
    assert!(status < 500 || status == 503, "{at}: {status} {shown}");
    assert_ne!(answered.body["code"], "store_failed", "{at}: {shown}");
    if let Some(role) = sent.role {
        let refused = answered.body["code"] == "role_missing";
        assert_eq!(refused, !call.lets_in(role), "{at} as {role}: {shown}");
    }
    let described = described(document, call.operation, status)
        .unwrap_or_else(|| panic!("{at}: {status} is not in the document: {shown}"));
    let kinds = described["content"].as_object();
    let kind = answered.content_type.split(';').next().unwrap_or_default();
    let Some(kinds) = kinds else {
        assert_eq!(answered.text, "", "{at}: {status} has no body");
        return status;
    };
    let told = kinds
        .get(kind)
        .unwrap_or_else(|| panic!("{at}: {status} `{kind}` is not in the document"));
    if kind.ends_with("json") {
        let misfit = Shapes::of(document).misfit(&told["schema"], &answered.body);
        assert_eq!(misfit, None, "{at}: {status} {shown}");
    }
    status
}
