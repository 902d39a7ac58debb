//! A model on loopback that does what a script says, over the real protocols of both supported providers.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};

use crate::http::{Answer, Loopback, Reply, Request};
use crate::wait::LIMIT;

/// What the model does with every question.
#[derive(Debug, Clone)]
pub enum Script {
    /// Answers with this text, in the provider's own envelope.
    Says(String),
    /// Does this, envelope and all.
    Does(Answer),
    /// Waits until the gate opens, then answers with this text.
    Waits(Gate, String),
    /// Takes no connection at all.
    Refuses,
}

/// An assessment as the reply contract wants it.
#[must_use]
pub fn assessment(outcome: &str, risk: &str, authorization: &str) -> String {
    json!({
        "risk_level": risk,
        "user_authorization": authorization,
        "outcome": outcome,
        "rationale": "scripted by the test",
    })
    .to_string()
}

/// A gate that starts closed. What waits at it longer than a test may take goes on.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    reached: u32,
    open: bool,
}

impl Gate {
    /// Lets through what waits and what will come.
    pub fn open(&self) {
        self.lock().open = true;
        self.0.1.notify_all();
    }

    /// Waits until somebody stands at it.
    ///
    /// # Panics
    /// Nobody came in time.
    pub fn reached(&self) {
        let (state, result) = self
            .0
            .1
            .wait_timeout_while(self.lock(), LIMIT, |state| state.reached == 0)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!result.timed_out(), "the model was never asked");
    }

    fn pass(&self) {
        self.lock().reached += 1;
        self.0.1.notify_all();
        let limit = LIMIT + Duration::from_secs(30);
        let passed = self
            .0
            .1
            .wait_timeout_while(self.lock(), limit, |state| !state.open);
        drop(passed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Listening {
    Yes(#[expect(dead_code, reason = "held, so that it listens")] Loopback),
    No(#[expect(dead_code, reason = "held, so that nobody else gets the port")] OwnedFd),
}

/// The model, listening.
#[derive(Debug)]
pub struct ScriptedModel {
    _listening: Listening,
    url: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl ScriptedModel {
    /// Starts one.
    #[must_use]
    pub fn start(script: Script) -> Self {
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let taken = Arc::clone(&asked);
        if matches!(script, Script::Refuses) {
            let (socket, address) = refusing_port();
            return Self {
                _listening: Listening::No(socket),
                url: format!("http://{address}/v1"),
                asked,
            };
        }
        let loopback = Loopback::start(move |request| {
            if is_probe(&request) {
                return Answer::Reply(envelope(&request, &assessment("deny", "low", "unknown")));
            }
            taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request.clone());
            match &script {
                Script::Says(text) => Answer::Reply(envelope(&request, text)),
                Script::Does(answer) => answer.clone(),
                Script::Waits(gate, text) => {
                    gate.pass();
                    Answer::Reply(envelope(&request, text))
                }
                Script::Refuses => Answer::Close,
            }
        });
        let url = format!("{}/v1", loopback.url());
        Self {
            _listening: Listening::Yes(loopback),
            url,
            asked,
        }
    }

    /// The base address for a `[[reviewer.model]]`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request that came, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Request> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The `[[reviewer.model]]` table that leads here.
    #[must_use]
    pub fn table(&self, provider: &str) -> String {
        format!(
            "[[reviewer.model]]\nprovider = \"{provider}\"\nbase_url = \"{}\"\nmodel = \"scripted\"\n",
            self.url
        )
    }
}

/// Whether a server asks, as it starts, if there is a model. That is no review and stands in no script.
fn is_probe(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).contains("rationale\\\":\\\"probe\\\"")
}

/// A port that is bound and not listened on: it refuses every connection, and nobody else gets it.
fn refusing_port() -> (OwnedFd, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
        .expect("a socket can be made");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    rustix::net::bind(&socket, &any).expect("a loopback port is free");
    let bound = rustix::net::getsockname(&socket).expect("a bound socket has an address");
    let address = SocketAddr::try_from(bound).expect("it is an internet address");
    (socket, address)
}

/// `text` as the provider that was asked would send it.
fn envelope(request: &Request, text: &str) -> Reply {
    let body = if request.target.ends_with("/responses") {
        responses(text)
    } else {
        chat(text)
    };
    Reply::json(200, &body)
}

fn chat(text: &str) -> Value {
    json!({
        "id": "scripted",
        "object": "chat.completion",
        "model": "scripted",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 },
    })
}

fn responses(text: &str) -> Value {
    json!({
        "id": "scripted",
        "object": "response",
        "status": "completed",
        "model": "scripted",
        "output": [{
            "type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }],
        "usage": { "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 },
    })
}
