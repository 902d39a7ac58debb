//! What the tests stand on: private folders, submissions, the embedded service, the real program, a plain HTTP client.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use protocol::{Action, ActionDigest, CallerId, Expected, Nonce, ReviewResource, ServerKey};
use reviewer::{Reviewer, ReviewerSettings};
use serde_json::{Value, json};
use server::{Limits, Service, ServiceSettings, SigningKey};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

/// A private folder, removed when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("auto-review-{}", uuid::Uuid::new_v4()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("reviews.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A model that takes the call and never answers, until it is dropped.
pub(crate) struct SilentModel {
    listener: TcpListener,
}

impl SilentModel {
    pub(crate) fn new() -> Self {
        // The kernel accepts; nobody reads.
        Self {
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
        }
    }

    pub(crate) fn settings(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!(
            "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://{address}/v1\"\nmodel = \"m\"\n"
        )
    }
}

/// A model that answers everything alike, once it is let.
pub(crate) struct AlikeModel {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    let_go: tokio::sync::watch::Sender<bool>,
    /// Ends with it.
    _serving: tokio::task::JoinSet<()>,
}

impl AlikeModel {
    pub(crate) async fn new(outcome: &str, risk: &str) -> Self {
        let content = json!({"risk_level": risk, "user_authorization": "high", "outcome": outcome,
                             "rationale": "so it was told"});
        let reply = json!({"model": "m", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": content.to_string()}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}});
        let (let_go, held) = tokio::sync::watch::channel(false);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = move || {
            let (reply, counted, mut held) = (reply.clone(), Arc::clone(&counted), held.clone());
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                held.wait_for(|free| *free).await.expect("a test");
                axum::Json(reply)
            }
        };
        let router = Router::new().route("/v1/chat/completions", axum::routing::post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self {
            address,
            asked,
            let_go,
            _serving: serving,
        }
    }

    pub(crate) fn settings(&self) -> String {
        let address = self.address;
        format!(
            "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://{address}/v1\"\nmodel = \"m\"\n"
        )
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until it was asked more than `before` times: who asks has the slot for it by then.
    pub(crate) async fn asked_beyond(&self, before: usize) {
        for _ in 0..1_000 {
            if self.asked() > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the model was not asked within ten seconds");
    }

    /// From now on it answers.
    pub(crate) fn let_go(&self) {
        self.let_go.send_replace(true);
    }
}

/// The service inside this process.
pub(crate) async fn embedded(folder: &Folder, settings: &str) -> Service {
    with_limits(folder, settings, Limits::default()).await
}

pub(crate) async fn with_limits(folder: &Folder, settings: &str, limits: Limits) -> Service {
    let settings: ReviewerSettings = toml::from_str(settings).expect("settings");
    let reviewer = Reviewer::new(&settings, &|_| None).expect("a reviewer");
    Service::open(ServiceSettings {
        database: folder.database(),
        tenants: std::collections::BTreeMap::new(),
        signing_key: SigningKey::ephemeral().expect("a key"),
        reviewer: Arc::new(reviewer),
        speaks_for_user: BTreeSet::from(["adapter".to_owned()]),
        limits,
    })
    .await
    .expect("a service")
}

/// What the built-in reviewer allows.
pub(crate) fn harmless() -> Action {
    command(&["ls", "/usr"])
}

/// What the built-in reviewer denies.
pub(crate) fn harmful() -> Action {
    command(&["rm", "-rf", "/"])
}

/// What only a model or a person can judge.
pub(crate) fn unclear() -> Action {
    serde_json::from_value(json!({
        "tool": "mcp_tool_call", "server": "tickets", "tool_name": "close", "arguments": {"id": 7},
    }))
    .expect("an action")
}

pub(crate) fn command(words: &[&str]) -> Action {
    serde_json::from_value(json!({
        "tool": "exec_command", "command": words, "cwd": "/srv/app",
        "sandbox_permissions": "require_escalated", "justification": "to look around",
    }))
    .expect("an action")
}

pub(crate) fn submission(action: &Action) -> Value {
    json!({
        "version": 1,
        "client": {"name": "test", "version": "0", "channel": "runner"},
        "session": {"session_id": "s-1"},
        "environment": {
            "host": "h", "user": "u", "cwd": "/srv/app", "workspace_roots": ["/srv/app"],
            "sandbox_mode": "workspace-write", "approval_policy": "on-request",
        },
        "action": action,
        "action_digest": action.digest(),
        "trigger": {"kind": "escalation_requested"},
    })
}

/// The same with some fields changed.
pub(crate) fn with(mut body: Value, changes: &Value) -> Value {
    let changes = changes.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(changes);
    body
}

/// An answer as far as the tests look at it.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("-")
    }

    pub(crate) fn review_status(&self) -> &str {
        self.body["status"].as_str().unwrap_or("-")
    }

    pub(crate) fn id(&self) -> String {
        self.body["review_id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn resource(&self) -> ReviewResource {
        serde_json::from_value(self.body.clone()).expect("a review")
    }

    /// Status and code of a refusal; status alone of anything else.
    pub(crate) fn told(&self) -> (u16, &str) {
        (self.status.as_u16(), self.code())
    }

    /// `status/step/code` of a failed review, the bare status otherwise.
    pub(crate) fn end(&self) -> String {
        let part = |name: &str| self.body["failure"][name].as_str().map(str::to_owned);
        match (part("step"), part("code")) {
            (Some(step), Some(code)) => format!("{}/{step}/{code}", self.review_status()),
            (None, _) | (_, None) => self.review_status().to_owned(),
        }
    }
}

/// What a client that asked `nonce` as `caller` in session `s-1` expects.
pub(crate) fn expected(action: &Action, caller: &CallerId, nonce: Nonce) -> Expected {
    Expected {
        action_digest: action.digest(),
        session_id: Some("s-1".to_owned()),
        caller: caller.clone(),
        nonce,
    }
}

pub(crate) fn redeem_body(digest: ActionDigest, session: Option<&str>) -> Value {
    json!({"action_digest": digest, "session_id": session})
}

/// Calls a router in this process.
pub(crate) async fn call(router: &Router, request: Request<Body>) -> Answered {
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    Answered {
        status: parts.status,
        location: header("location"),
        content_type: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after"),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

pub(crate) async fn get(router: &Router, path: &str) -> Answered {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    call(router, request).await
}

pub(crate) async fn post(
    router: &Router,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answered {
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::from(body.to_string());
    call(router, request.body(body).expect("a request")).await
}

/// Submits and waits for the end.
pub(crate) async fn submit(router: &Router, body: &Value) -> Answered {
    post(router, "/v1/reviews", &[("prefer", "wait=30")], body).await
}

/// The program `auto-review-server`, with a settings file of its own.
pub(crate) struct Program {
    pub(crate) config: PathBuf,
}

impl Program {
    pub(crate) fn new(folder: &Folder, settings: &str) -> Self {
        let config = folder.path("settings.toml");
        let database = folder.database();
        let text = format!(
            "database_url = \"sqlite:{}\"\n{settings}",
            database.display()
        );
        std::fs::write(&config, text).expect("settings");
        Self { config }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(&self.config);
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().expect("it ran");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    pub(crate) fn token(&self) -> String {
        let (code, out, err) = self.output(&["token", "create", "--name", "test"]);
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    }

    pub(crate) fn key(&self) -> ServerKey {
        let (code, out, err) = self.output(&["key", "show"]);
        assert_eq!(code, 0, "{err}");
        out.trim().parse().expect("a key")
    }

    pub(crate) fn serve(&self) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        Server::start(&mut command)
    }
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_auto-review-server"))
}

/// A server that runs, killed when the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        stdout.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.and_then(|text| text.parse().ok());
        Self {
            address: address.unwrap_or_else(|| panic!("not ready: {line:?}")),
            child,
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.end_by(rustix::process::Signal::TERM).code()
    }

    /// How it ends by `signal`.
    pub(crate) fn end_by(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signalled");
        self.child.wait().expect("gone")
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("gone").code()
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answered {
        self.call(&format!("GET {path} HTTP/1.1\r\n{}", bearer(token)), "")
            .await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answered {
        self.call(&post_head(token, path), &body.to_string()).await
    }

    /// `None` where the server ended instead of answering.
    pub(crate) async fn try_post(&self, token: &str, path: &str, body: &Value) -> Option<Answered> {
        try_call_at(self.address, &post_head(token, path), &body.to_string()).await
    }

    /// Sends `head` and what every call has, then `body`; reads the answer.
    pub(crate) async fn call(&self, head: &str, body: &str) -> Answered {
        call_at(self.address, head, body).await
    }
}

fn post_head(token: &str, path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\n{}prefer: wait=30\r\ncontent-type: application/json\r\n",
        bearer(token)
    )
}

pub(crate) async fn call_at(address: SocketAddr, head: &str, body: &str) -> Answered {
    // A server that dies in the middle answers nothing.
    read_answer(&exchange(address, head, body).await.unwrap_or_default())
}

/// `None` where the server died instead of answering.
pub(crate) async fn try_call_at(address: SocketAddr, head: &str, body: &str) -> Option<Answered> {
    let text = exchange(address, head, body).await.ok()?;
    (!text.is_empty()).then(|| read_answer(&text))
}

fn read_answer(text: &str) -> Answered {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    Answered {
        status: status.unwrap_or(StatusCode::IM_A_TEAPOT),
        location: header("location"),
        content_type: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after"),
        body: serde_json::from_str(body).unwrap_or_default(),
        text: body.to_owned(),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

async fn exchange(address: SocketAddr, head: &str, body: &str) -> std::io::Result<String> {
    let request = format!(
        "{head}host: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchanging = async {
        let mut connection = tokio::net::TcpStream::connect(address).await?;
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), exchanging).await;
    answer.expect("an answer in time")
}

/// Asks again until `wanted` says yes; the last answer.
pub(crate) async fn until<F: Future<Output = Answered>>(
    ask: impl Fn() -> F,
    wanted: impl Fn(&Answered) -> bool,
) -> Answered {
    for _ in 0..300 {
        let answered = ask().await;
        if wanted(&answered) {
            return answered;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to that in 15 s");
}

/// Recomputes the chain of the record, without the code that wrote it; how many lines it has. Panics where it breaks.
pub(crate) async fn chain_length(database: &Path) -> usize {
    let mut connection = raw(database).await;
    let rows =
        sqlx::query("SELECT seq, review_id, kind, at, body, hash FROM review_events ORDER BY seq");
    let rows = rows.fetch_all(&mut connection).await.expect("rows");
    let mut before = vec![0_u8; 32];
    for (index, row) in rows.iter().enumerate() {
        let seq: i64 = row.get(0);
        assert_eq!(usize::try_from(seq), Ok(index + 1));
        let mut bytes = protocol::Canonical::new("auto-review event v1");
        bytes
            .bytes(&before)
            .text("default")
            .bytes(&seq.to_be_bytes());
        bytes.bytes(row.get::<&[u8], _>(1)).text(row.get(2));
        bytes
            .bytes(&row.get::<i64, _>(3).to_be_bytes())
            .text(row.get(4));
        before = bytes.sha256().to_vec();
        assert_eq!(before, row.get::<&[u8], _>(5), "line {seq}");
    }
    rows.len()
}

/// A connection of its own to the database.
pub(crate) async fn raw(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database);
    options.connect().await.expect("a connection")
}

/// What a door may have decided during the run `execution`.
pub(crate) fn network_report(execution: &str) -> Value {
    let decision = |host: &str, verdict: &str| {
        json!({"host": host, "port": 443, "protocol": "https_connect", "method": null, "verdict": verdict,
               "by": "policy", "rule": null, "addresses": ["198.51.100.7"], "times": 2, "sent": 10, "received": 2_000})
    };
    json!({"execution": execution, "action_digest": harmless().digest(), "program": "curl",
           "session": {"session_id": "s-1", "turn_id": null, "item_id": null, "parent_session_id": null},
           "review_id": null, "unlisted": 0, "refused": 2,
           "decisions": [decision("a.example", "allowed"), decision("b.example", "not_allowed")]})
}
