//! Telemetry against a collector of the test's own, over real sockets: HTTP with JSON, HTTP with protobuf, gRPC; what is
//! told, what is not, and that nobody waits for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{Folder, Program, Server, bearer, harmful, harmless, submission, unclear};

/// What stands in what is asked and may be told to nobody.
const CANARY: &str = "canary-7f3a9";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// One export.
#[derive(Debug, Clone)]
struct Export {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

type Exports = Arc<Mutex<Vec<Export>>>;

/// A collector.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: Exports,
    _serving: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn http() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let exports = Exports::default();
        let router = Router::new()
            .fallback(post(Self::take))
            .with_state(Arc::clone(&exports));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self {
            address,
            exports,
            _serving: serving,
        }
    }

    async fn take(
        State(exports): State<Exports>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let path = uri.path().to_owned();
        let export = Export {
            path,
            headers,
            body,
        };
        exports.lock().expect("whole").push(export);
        StatusCode::OK
    }

    async fn grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let exports = Exports::default();
        let mut serving = JoinSet::new();
        let taken = Arc::clone(&exports);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                connections.spawn(async move {
                    let mut calls = JoinSet::new();
                    let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
                    while let Some(Ok((request, answer))) = connection.accept().await {
                        calls.spawn(Self::call(Arc::clone(&taken), request, answer));
                    }
                });
            }
        });
        Self {
            address,
            exports,
            _serving: serving,
        }
    }

    async fn call(
        exports: Exports,
        request: http::Request<h2::RecvStream>,
        mut answer: h2::server::SendResponse<Bytes>,
    ) {
        let (head, mut body) = request.into_parts();
        let mut framed = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.expect("a chunk");
            let flow = body.flow_control();
            flow.release_capacity(chunk.len()).expect("room");
            framed.extend_from_slice(&chunk);
        }
        let length = u32::from_be_bytes(framed[1..5].try_into().expect("a length"));
        assert_eq!((framed[0], length as usize), (0, framed.len() - 5));
        let export = Export {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body: Bytes::from(framed.split_off(5)),
        };
        exports.lock().expect("whole").push(export);
        let fine = http::Response::builder().header("content-type", "application/grpc");
        let fine = fine.body(()).expect("an answer");
        let mut stream = answer.send_response(fine, false).expect("sent");
        let empty = Bytes::from_static(&[0, 0, 0, 0, 0]);
        stream.send_data(empty, false).expect("sent");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        stream.send_trailers(trailers).expect("sent");
    }

    /// What was told at `path`, as text.
    pub(crate) fn bodies(&self, path: &str) -> Vec<String> {
        let told = self.exports(path).into_iter();
        told.map(|export| String::from_utf8_lossy(&export.body).into_owned())
            .collect()
    }

    fn exports(&self, path: &str) -> Vec<Export> {
        let all = self.exports.lock().expect("whole");
        all.iter().filter(|it| it.path == path).cloned().collect()
    }
}

/// Attributes, in either spelling, as one map from name to value.
fn attributes(list: &Value) -> Value {
    let pairs = list.as_array().into_iter().flatten().map(|pair| {
        let value = pair["value"].as_object().expect("a value");
        let value = value.values().next().expect("one").clone();
        (pair["key"].as_str().expect("a key").to_owned(), value)
    });
    Value::Object(pairs.collect())
}

/// The records of exports in JSON, each with its attributes as a map.
fn told(exports: &[Export], [outer, inner, list]: [&str; 3]) -> Vec<Value> {
    let mut all = Vec::new();
    for export in exports {
        let body: Value = serde_json::from_slice(&export.body).expect("JSON");
        for resource in body[outer].as_array().expect("resources") {
            let resource_attributes = attributes(&resource["resource"]["attributes"]);
            for scope in resource[inner].as_array().expect("scopes") {
                for record in scope[list].as_array().expect("records") {
                    let mut record = record.clone();
                    record["attributes"] = attributes(&record["attributes"]);
                    record["resource"] = resource_attributes.clone();
                    all.push(record);
                }
            }
        }
    }
    all
}

/// A model that refuses, and remembers in which trace it was asked.
async fn refusing_model(serving: &mut JoinSet<()>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let traces = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&traces);
    let router = Router::new().fallback(post(async move |headers: HeaderMap| {
        let trace = headers.get("traceparent").and_then(|it| it.to_str().ok());
        seen.lock()
            .expect("whole")
            .push(trace.unwrap_or_default().to_owned());
        StatusCode::UNAUTHORIZED
    }));
    serving.spawn(async move { axum::serve(listener, router).await.expect("served") });
    let settings = format!(
        "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://{address}/v1\"\nmodel = \"m-1\"\n"
    );
    (settings, traces)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_is_told_in_logs_traces_and_measures_and_its_trace_reaches_the_model() {
    let mut serving = JoinSet::new();
    let (model, traces) = refusing_model(&mut serving).await;
    let collector = Collector::http().await;
    let at = collector.address;
    let exporter = |path: &str| {
        format!(
            "{{ otlp-http = {{ endpoint = \"http://{at}{path}\", protocol = \"json\", headers = {{ \"x-key\" = \"${{COLLECTOR_KEY}}\" }} }} }}"
        )
    };
    let settings = format!(
        "{model}[otel]\nenvironment = \"test\"\nexporter = {}\ntrace_exporter = {}\nmetrics_exporter = {}\n",
        exporter("/v1/logs"),
        exporter("/v1/traces"),
        exporter("/v1/metrics"),
    );
    let folder = Folder::new();
    let program = Program::new(&folder, &settings);
    let token = program.token();
    let mut serve = program.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Server::start(serve.env("COLLECTOR_KEY", "k-1"));
    let mut asked = submission(&unclear());
    asked["retry_reason"] = json!(CANARY);
    let head = format!(
        "POST /v1/reviews HTTP/1.1\r\n{}prefer: wait=30\r\ncontent-type: application/json\r\n\
         traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n",
        bearer(&token)
    );
    let failed = server.call(&head, &asked.to_string()).await;
    assert_eq!(failed.review_status(), "failed", "{}", failed.text);
    // Everything is told before the process is gone.
    assert_eq!(server.terminate(), Some(0));

    check_logs(&collector, &failed.id());
    check_trace(&collector, &traces.lock().expect("whole"));
    let measures = collector.exports("/v1/metrics");
    let text = String::from_utf8_lossy(&measures[0].body).into_owned();
    assert!(
        text.contains("codex.guardian.review\"") && text.contains("failed_closed"),
        "{text}"
    );
    assert!(text.contains("explicitBounds") && text.contains("\"aggregationTemporality\":1"));
    for export in collector.exports.lock().expect("whole").iter() {
        assert_eq!(export.headers["x-key"], "k-1");
        let text = String::from_utf8_lossy(&export.body).into_owned();
        for secret in [CANARY, token.as_str(), "tickets"] {
            assert!(!text.contains(secret), "`{secret}` was told: {text}");
        }
    }
}

fn check_logs(collector: &Collector, id: &str) {
    let logs = told(
        &collector.exports("/v1/logs"),
        ["resourceLogs", "scopeLogs", "logRecords"],
    );
    let named = |name: &str| -> Vec<&Value> {
        let it = logs.iter();
        it.filter(|record| record["attributes"]["event.name"] == name)
            .collect()
    };
    let [review] = named("codex.guardian_assessment")[..] else {
        panic!("one review: {logs:?}")
    };
    assert_eq!(review["attributes"]["status"], "failed");
    assert_eq!(review["attributes"]["review.id"], json!(id));
    assert_eq!(review["traceId"], TRACE);
    assert_eq!(review["attributes"]["attempt_count"], "1");
    assert_eq!(review["severityNumber"], 9);
    assert_eq!(review["resource"]["env"], "test");
    assert_eq!(review["resource"]["service.name"], "auto-review-server");
    let call = named("codex.api_request");
    assert_eq!(call[0]["attributes"]["model"], "m-1");
    assert_eq!(call[0]["attributes"]["attempt"], "0");
}

fn check_trace(collector: &Collector, traces: &[String]) {
    let spans = told(
        &collector.exports("/v1/traces"),
        ["resourceSpans", "scopeSpans", "spans"],
    );
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0]["traceId"], TRACE);
    assert_eq!(spans[0]["parentSpanId"], "00f067aa0ba902b7");
    let span = spans[0]["spanId"].as_str().expect("an id");
    // The question whether the model is there at all belongs to no review.
    let of_reviews: Vec<_> = traces.iter().filter(|trace| !trace.is_empty()).collect();
    assert_eq!(of_reviews[0], &format!("00-{TRACE}-{span}-01"));
}

/// The fields of a protobuf message, read without the code that wrote it: number and bytes, or the value of a number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => varint(&mut bytes).to_be_bytes().to_vec(),
            1 => bytes.split_off(..8).expect("8 bytes").to_vec(),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                bytes.split_off(..length).expect("its bytes").to_vec()
            }
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, value));
    }
    all
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().expect("a byte");
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The messages at the end of a path of field numbers.
fn at(message: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
    path.iter().fold(vec![message.to_vec()], |found, number| {
        let all = found.iter().flat_map(|it| fields(it));
        all.filter(|(it, _)| it == number)
            .map(|(_, value)| value)
            .collect()
    })
}

/// Names and texts of the attributes of every log record of `ExportLogsServiceRequest`.
fn texts(exports: &[Export]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for export in exports {
        for attribute in at(&export.body, &[1, 2, 2, 6]) {
            let text = |path: &[u64]| {
                let found = at(&attribute, path).into_iter().next().unwrap_or_default();
                String::from_utf8_lossy(&found).into_owned()
            };
            all.push((text(&[1]), text(&[2, 1])));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_and_grpc_carry_the_same() {
    let (binary, grpc) = (Collector::http().await, Collector::grpc().await);
    for (collector, path, exporter) in [
        (
            &binary,
            "/logs",
            format!(
                "[otel.exporter.otlp-http]\nendpoint = \"http://{}/logs\"\nprotocol = \"binary\"\n",
                binary.address
            ),
        ),
        (
            &grpc,
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            format!(
                "[otel.exporter.otlp-grpc]\nendpoint = \"http://{}\"\nheaders = {{ x-meta = \"m\" }}\n",
                grpc.address
            ),
        ),
    ] {
        let folder = Folder::new();
        let program = Program::new(&folder, &exporter);
        let token = program.token();
        let mut server = program.serve();
        let denied = server
            .post(&token, "/v1/reviews", &submission(&harmful()))
            .await;
        assert_eq!(server.terminate(), Some(0));
        let exports = collector.exports(path);
        assert!(!exports.is_empty(), "{exporter}");
        let texts = texts(&exports);
        let told = |name: &str, value: &str| texts.contains(&(name.to_owned(), value.to_owned()));
        assert!(told("event.name", "codex.guardian_assessment"), "{texts:?}");
        assert!(told("review.id", &denied.id()) && told("status", "denied"));
        // A rationale is told where the settings say so, and they do not.
        assert!(!texts.iter().any(|(name, _)| name == "rationale"));
    }
    let first = &grpc.exports("/opentelemetry.proto.collector.logs.v1.LogsService/Export")[0];
    assert_eq!(first.headers["x-meta"], "m");
    assert_eq!(first.headers["content-type"], "application/grpc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_slows_no_review_and_holds_up_no_end() {
    // The kernel accepts; nobody reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let exporter = format!(
        "{{ otlp-http = {{ endpoint = \"http://{address}/v1/logs\", protocol = \"binary\" }} }}"
    );
    let folder = Folder::new();
    let settings = format!("[otel]\nexporter = {exporter}\ntrace_exporter = {exporter}\n");
    let program = Program::new(&folder, &settings);
    let token = program.token();
    let mut server = program.serve();
    for _ in 0..40 {
        let begun = Instant::now();
        let body = submission(&harmless());
        let answered = server.post(&token, "/v1/reviews", &body).await;
        assert_eq!(answered.review_status(), "approved");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "it waited for the collector"
        );
    }
    let begun = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measures_are_the_tenants_own() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    assert_eq!(program.output(&["tenant", "create", "acme"]).0, 0);
    let token = |arguments: &[&str]| {
        let made = program.output(&[&["token", "create"], arguments].concat());
        made.1.trim().to_owned()
    };
    let (runner, auditor) = (token(&[]), token(&["--role", "auditor"]));
    let theirs = token(&["--tenant", "acme", "--role", "auditor"]);
    let server = program.serve();
    server
        .post(&runner, "/v1/reviews", &submission(&harmful()))
        .await;
    let page = server.get(&auditor, "/metrics").await;
    assert!(
        page.content_type.starts_with("text/plain"),
        "{}",
        page.content_type
    );
    let line = "auto_review_reviews_total{status=\"denied\",decided_by=\"built_in\",";
    assert!(page.text.contains(line), "{}", page.text);
    assert!(
        page.text
            .contains("auto_review_review_duration_seconds_count 1")
    );
    let page = server.get(&theirs, "/metrics").await;
    assert!(!page.text.contains("status=\"denied\""), "{}", page.text);
    assert_eq!(
        server.get(&runner, "/metrics").await.told(),
        (403, "role_missing")
    );
}
