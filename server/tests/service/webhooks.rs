//! Webhooks over real sockets: signed, tried again, given up, sent again, kept across a crash, and never sent inside.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{
    Folder, Program, Server, bearer, harmful, harmless, submission, unclear, until, with,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a receiver was told.
struct Told {
    headers: HeaderMap,
    body: Bytes,
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Whether the signature is that of the secret, worked out without the code that made it.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").expect("a secret");
        let key = STANDARD.decode(key).expect("base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
        mac.update(self.header("webhook-id").as_bytes());
        mac.update(b".");
        mac.update(self.header("webhook-timestamp").as_bytes());
        mac.update(b".");
        mac.update(&self.body);
        let code = STANDARD.encode(mac.finalize().into_bytes());
        self.header("webhook-signature") == format!("v1,{code}")
    }
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<u16>>>,
    told: mpsc::UnboundedSender<Told>,
}

/// Somebody who is told, and answers what it was given to answer, and 204 after that.
struct Receiver {
    address: std::net::SocketAddr,
    told: mpsc::UnboundedReceiver<Told>,
    _serving: JoinSet<()>,
}

impl Receiver {
    async fn answering(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener, answers)
    }

    fn on(listener: TcpListener, answers: &[u16]) -> Self {
        let address = listener.local_addr().expect("an address");
        let (sender, told) = mpsc::unbounded_channel();
        let script = Script {
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
            told: sender,
        };
        let router = Router::new()
            .route("/hook", post(Self::take))
            .with_state(script);
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self {
            address,
            told,
            _serving: serving,
        }
    }

    async fn take(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> StatusCode {
        script.told.send(Told { headers, body }).expect("a test");
        let next = script.answers.lock().expect("whole").pop_front();
        StatusCode::from_u16(next.unwrap_or(204)).expect("a status")
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    async fn next(&mut self) -> Told {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
        told.expect("in time").expect("told")
    }
}

struct Stage {
    program: Program,
    admin: String,
    runner: String,
    approver: String,
    _folder: Folder,
}

const SETTINGS: &str =
    "[webhooks]\nallowed_hosts = [\"127.0.0.1\"]\nattempts = 3\nfirst_pause_ms = 20\n";

impl Stage {
    fn new(settings: &str) -> Self {
        let folder = Folder::new();
        let program = Program::new(&folder, settings);
        let token = |arguments: &[&str]| {
            let (code, out, err) = program.output(&[&["token", "create"], arguments].concat());
            assert_eq!(code, 0, "{err}");
            out.trim().to_owned()
        };
        Self {
            admin: token(&["--role", "admin"]),
            runner: token(&["--role", "runner"]),
            approver: token(&["--role", "approver"]),
            program,
            _folder: folder,
        }
    }

    /// Makes a webhook; its path and secret.
    async fn hook(&self, server: &Server, url: &str, events: &[&str]) -> (String, String) {
        let wanted = json!({"url": url, "events": events});
        let made = server.post(&self.admin, "/v1/webhooks", &wanted).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let text = |name: &str| made.body[name].as_str().expect("text").to_owned();
        (format!("/v1/webhooks/{}", text("id")), text("secret"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_signed_and_once_and_the_secret_is_shown_once() {
    let stage = Stage::new(SETTINGS);
    let mut server = stage.program.serve();
    let mut receiver = Receiver::answering(&[]).await;
    let before = server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    assert_eq!(before.review_status(), "denied");
    let (_, secret) = stage
        .hook(&server, &receiver.url(), &["denied", "waiting"])
        .await;
    let approved = submission(&harmless());
    server.post(&stage.runner, "/v1/reviews", &approved).await;
    let denied = server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    let told = receiver.next().await;
    assert!(told.is_signed_with(&secret));
    let message = told.json();
    assert_eq!(
        (&message["event"], &message["tenant"]),
        (&json!("denied"), &json!("default"))
    );
    // Neither what was before it, nor what it did not ask for.
    assert_eq!(message["review"]["review_id"], json!(denied.id()));
    assert_eq!(message["review"]["signature"], denied.body["signature"]);
    let listed = server.get(&stage.admin, "/v1/webhooks").await;
    assert_eq!(listed.body["webhooks"].as_array().map(Vec::len), Some(1));
    assert!(!listed.text.contains(&secret));
    let now = jiff::Timestamp::now().as_second();
    let at: i64 = told.header("webhook-timestamp").parse().expect("seconds");
    assert!((now - at).abs() < 60);
    // A review that waits for a person.
    let asked = with(
        submission(&unclear()),
        &json!({"must_be_human": true, "deadline_ms": 20_000}),
    );
    let head = format!(
        "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
        bearer(&stage.runner)
    );
    let waiting = server.call(&head, &asked.to_string()).await;
    let message = receiver.next().await.json();
    assert_eq!(message["event"], "waiting");
    assert_eq!(message["review"]["review_id"], json!(waiting.id()));
    assert_eq!(message["review"]["status"], "reviewing");
    let answer =
        json!({"answer": "deny", "reason": "not today", "action_digest": unclear().digest()});
    let path = format!("/v1/reviews/{}/answer", waiting.id());
    server.post(&stage.approver, &path, &answer).await;
    assert_eq!(receiver.next().await.json()["event"], "denied");
    assert_eq!(server.terminate(), Some(0));
    assert!(receiver.told.try_recv().is_err(), "each is told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_tried_again_then_given_up_and_can_be_sent_again() {
    let stage = Stage::new(SETTINGS);
    let server = stage.program.serve();
    // A redirect is no success, and is not followed.
    let mut receiver = Receiver::answering(&[500, 302, 429]).await;
    let (path, _) = stage.hook(&server, &receiver.url(), &["denied"]).await;
    server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    let first = receiver.next().await;
    for _ in 0..2 {
        let again = receiver.next().await;
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
    }
    let list = format!("{path}/deliveries");
    let dead = until(
        || server.get(&stage.admin, &list),
        |answered| answered.body["deliveries"][0]["status"] == "dead",
    )
    .await;
    let delivery = &dead.body["deliveries"][0];
    assert_eq!(delivery["attempts"], 3);
    assert_eq!(delivery["last_error"], "the answer was 429");
    let resend = format!("{list}/{}/resend", delivery["id"]);
    let sent = server.post(&stage.admin, &resend, &json!({})).await;
    assert_eq!(sent.status, 204);
    assert_eq!(
        receiver.next().await.header("webhook-id"),
        first.header("webhook-id")
    );
    let empty = until(
        || server.get(&stage.admin, &list),
        |answered| answered.body["deliveries"] == json!([]),
    )
    .await;
    assert_eq!(empty.status, 200);
    let again = server.post(&stage.admin, &resend, &json!({})).await;
    assert_eq!(
        again.told(),
        (404, "not_found"),
        "what was delivered is not dead"
    );
    let head = format!("DELETE {path} HTTP/1.1\r\n{}", bearer(&stage.admin));
    assert_eq!(server.call(&head, "").await.status, 204);
    assert_eq!(server.get(&stage.admin, &list).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_nobody_could_be_told_is_told_after_a_crash() {
    let stage = Stage::new(SETTINGS);
    let mut server = stage.program.serve();
    // Nobody listens there until later.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://{address}/hook");
    stage.hook(&server, &url, &["denied"]).await;
    let denied = server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    server.kill();
    let mut receiver = Receiver::on(listener, &[]);
    let server = stage.program.serve();
    let told = receiver.next().await.json();
    assert_eq!(told["review"]["review_id"], json!(denied.id()));
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_inside_and_nobody_reaches_anothers_webhooks() {
    let stage = Stage::new("[webhooks]\nattempts = 1\n");
    assert_eq!(stage.program.output(&["tenant", "create", "acme"]).0, 0);
    let (_, theirs, _) = stage
        .program
        .output(&["token", "create", "--tenant", "acme", "--role", "admin"]);
    let server = stage.program.serve();
    let mut receiver = Receiver::answering(&[]).await;
    let port = receiver.address.port();
    for url in [
        receiver.url(),
        format!("https://127.0.0.1:{port}/hook"),
        format!("https://[::ffff:127.0.0.1]:{port}/hook"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "ftp://hooks.example/".to_owned(),
    ] {
        let wanted = json!({"url": url, "events": ["denied"]});
        let refused = server.post(&stage.admin, "/v1/webhooks", &wanted).await;
        assert_eq!(refused.told(), (422, "invalid_body"), "{url}");
    }
    // A name is looked at when it is dialled.
    let url = format!("https://localhost:{port}/hook");
    let (path, _) = stage.hook(&server, &url, &["denied"]).await;
    server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    let list = format!("{path}/deliveries");
    let dead = until(
        || server.get(&stage.admin, &list),
        |answered| answered.body["deliveries"][0]["status"] == "dead",
    )
    .await;
    let why = &dead.body["deliveries"][0]["last_error"];
    assert_eq!(*why, "the host has an address that is not public");
    assert!(receiver.told.try_recv().is_err());
    let number = &dead.body["deliveries"][0]["id"];
    let theirs = theirs.trim();
    assert_eq!(server.get(theirs, &list).await.status, 404);
    let resend = format!("{list}/{number}/resend");
    assert_eq!(server.post(theirs, &resend, &json!({})).await.status, 404);
    let head = format!("DELETE {path} HTTP/1.1\r\n{}", bearer(theirs));
    assert_eq!(server.call(&head, "").await.status, 404);
    let listed = server.get(theirs, "/v1/webhooks").await;
    assert_eq!(listed.body["webhooks"], json!([]));
    assert_eq!(server.get(&stage.runner, "/v1/webhooks").await.status, 403);
}

/// Somebody at a terminal, with a token in a private file.
struct Terminal<'a> {
    stage: &'a Stage,
    address: String,
    token_file: String,
}

impl<'a> Terminal<'a> {
    fn of(stage: &'a Stage, server: &Server, (name, token): (&str, &str)) -> Self {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = stage._folder.path(name);
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).expect("a file");
        std::io::Write::write_all(&mut file, token.as_bytes()).expect("written");
        Self {
            stage,
            address: format!("http://{}", server.address),
            token_file: path.to_str().expect("a name").to_owned(),
        }
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let at = ["--server", &self.address, "--token-file", &self.token_file];
        let program = &self.stage.program;
        program.output(&[&["webhook"], arguments, &at].concat())
    }

    fn is_refused(&self, arguments: &[&str], code: i32, told: &str) {
        let refused = self.run(arguments);
        assert_eq!(refused.0, code, "{refused:?}");
        assert!(refused.2.contains(told), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_looks_after_webhooks_from_a_terminal() {
    let stage = Stage::new(SETTINGS);
    let server = stage.program.serve();
    let mut receiver = Receiver::answering(&[500, 500, 500]).await;
    let url = receiver.url();
    let approver = Terminal::of(&stage, &server, ("approver", &stage.approver));
    approver.is_refused(&["create", &url, "--event", "denied"], 1, "role_missing");
    let admin = Terminal::of(&stage, &server, ("admin", &stage.admin));
    let private = "http://10.0.0.1/hook";
    admin.is_refused(&["create", private, "--event", "denied"], 1, "invalid_body");
    let (code, made, err) = admin.run(&["create", &url, "--event", "denied"]);
    assert_eq!(code, 0, "{err}");
    let mut words = made.split_whitespace();
    let id = words.nth(1).expect("an id").to_owned();
    let secret = words.nth(1).expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"), "{made}");
    let list = admin.run(&["list"]).1;
    assert!(list.contains(&id) && list.contains(&url), "{list}");
    assert!(!list.contains(&secret), "told once");

    let body = submission(&harmful());
    server.post(&stage.runner, "/v1/reviews", &body).await;
    for _ in 0..3 {
        receiver.next().await;
    }
    let path = format!("/v1/webhooks/{id}/deliveries");
    let ask = || server.get(&stage.admin, &path);
    until(ask, |told| told.body["deliveries"][0]["status"] == "dead").await;
    let letters = admin.run(&["dead-letters", &id]).1;
    assert!(letters.contains("dead"), "{letters}");
    admin.is_refused(&["resend", &id, "999999"], 1, "not_found");
    admin.is_refused(&["dead-letters", "none"], 1, "not_found");
    admin.is_refused(&["delete", "../tokens/x"], 2, "letters and digits");
    let (code, sent, err) = admin.run(&["resend", &id]);
    assert!(code == 0 && sent.starts_with("1 "), "{sent} {err}");
    receiver.next().await;
    until(ask, |told| told.body["deliveries"] == serde_json::json!([])).await;
    assert_eq!(admin.run(&["delete", &id]).0, 0);
    assert!(!admin.run(&["list"]).1.contains(&id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_target_hangs_keeps_no_other_tenant_from_being_told() {
    const HANGING: usize = 40;
    let stage = Stage::new(SETTINGS);
    assert_eq!(stage.program.output(&["tenant", "create", "acme"]).0, 0);
    let theirs = |role: &str| {
        let arguments = ["token", "create", "--tenant", "acme", "--role", role];
        let (code, out, err) = stage.program.output(&arguments);
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    };
    let (admin, runner) = (theirs("admin"), theirs("runner"));
    let server = stage.program.serve();
    // It takes connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", silent.local_addr().expect("an address"));
    let wanted = json!({"url": url, "events": ["denied"]});
    let made = server.post(&admin, "/v1/webhooks", &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut receiver = Receiver::answering(&[]).await;
    stage.hook(&server, &receiver.url(), &["denied"]).await;
    for number in 0..HANGING {
        // Each in a turn of its own: a turn that is denied too often is stopped.
        let session = json!({"session": {"session_id": format!("s-{number}")}});
        let asked = with(submission(&harmful()), &session);
        let denied = server.post(&runner, "/v1/reviews", &asked).await;
        assert_eq!(denied.review_status(), "denied");
    }
    let id = made.body["id"].as_str().expect("text");
    let list = format!("/v1/webhooks/{id}/deliveries");
    let tried = |answered: &crate::harness::Answered| {
        let deliveries = answered.body["deliveries"].as_array().expect("a list");
        let tried = deliveries.iter().filter(|it| it["attempts"] != json!(0));
        (deliveries.len(), tried.count())
    };
    let queued = until(
        || server.get(&admin, &list),
        |answered| tried(answered).0 == HANGING && tried(answered).1 >= 4,
    )
    .await;
    assert_eq!(tried(&queued).1, 4, "no more than four hang at once");
    server
        .post(&stage.runner, "/v1/reviews", &submission(&harmful()))
        .await;
    // Less than an attempt may hang.
    let told = tokio::time::timeout(Duration::from_secs(5), receiver.told.recv()).await;
    let told = told.expect("in time").expect("told");
    assert_eq!(told.json()["tenant"], "default");
}
