//! Who may do what over TCP: every endpoint with every role, and the walls between tenants and callers.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use server::Service;

use crate::harness::{
    Answered, Folder, Program, call, embedded, harmless, network_report, redeem_body, submission,
    with,
};

/// Every call of the API; `{id}` is another caller's approved review.
const CALLS: [(&str, &str); 28] = [
    ("POST", "/v1/reviews"),
    ("GET", "/v1/reviews"),
    ("GET", "/v1/reviews/{id}"),
    ("POST", "/v1/reviews/{id}/abort"),
    ("POST", "/v1/reviews/{id}/redeem"),
    ("POST", "/v1/reviews/{id}/ran"),
    ("POST", "/v1/reviews/{id}/answer"),
    ("POST", "/v1/reviews/{id}/leave"),
    ("POST", "/v1/reviews/{id}/leave/withdraw"),
    ("POST", "/v1/network-reports"),
    ("GET", "/v1/network-reports"),
    ("GET", "/v1/sessions/s-1"),
    ("GET", "/v1/waiting"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/export"),
    ("GET", "/v1/verify"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/none"),
    ("GET", "/v1/webhooks"),
    ("DELETE", "/v1/webhooks/none"),
    ("GET", "/v1/policies"),
    ("POST", "/v1/policies"),
    ("GET", "/v1/policies/none"),
    // A service that follows no record: a change would bind nobody.
    ("POST", "/v1/policies/changes"),
    ("GET", "/metrics"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/nothing"),
];

const ROLES: [&str; 5] = ["runner", "auditor", "policy-author", "approver", "admin"];

pub(crate) struct Stage {
    pub(crate) folder: Folder,
    pub(crate) program: Program,
    pub(crate) service: Service,
    router: Router,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With the `[reviewer]` and `[policy]` tables `settings`.
    pub(crate) async fn with(settings: &str) -> Self {
        let folder = Folder::new();
        let program = Program::new(&folder, "");
        let service = embedded(&folder, settings).await;
        Self {
            router: service.router(),
            folder,
            program,
            service,
        }
    }

    pub(crate) fn token(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self
            .program
            .output(&[&["token", "create"], arguments].concat());
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    }

    pub(crate) async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answered {
        let mut request = Request::builder()
            .method(method.parse::<Method>().expect("a method"))
            .uri(path)
            .header("prefer", "wait=30");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        call(&self.router, request.body(body).expect("a request")).await
    }

    /// An approved review of the holder of `token`.
    async fn review(&self, token: &str) -> String {
        let body = submission(&harmless());
        let answered = self.call(token, "POST", "/v1/reviews", Some(&body)).await;
        assert_eq!(answered.review_status(), "approved", "{:?}", answered.body);
        answered.id()
    }
}

fn body_of(method: &str, path: &str) -> Option<Value> {
    match path {
        "/v1/reviews" if method == "POST" => Some(with(
            submission(&harmless()),
            &json!({"session": {"session_id": uuid::Uuid::new_v4().to_string()}}),
        )),
        "/v1/reviews/{id}/redeem" => Some(redeem_body(harmless().digest(), Some("s-1"))),
        "/v1/reviews/{id}/ran" => {
            Some(json!({"action_digest": harmless().digest(), "exit_code": 0}))
        }
        "/v1/reviews/{id}/answer" => {
            Some(json!({"answer": "allow", "reason": "r", "action_digest": harmless().digest()}))
        }
        "/v1/reviews/{id}/leave" => {
            Some(json!({"reason": "r", "action_digest": harmless().digest()}))
        }
        "/v1/reviews/{id}/leave/withdraw" => Some(json!({"reason": "r"})),
        "/v1/network-reports" if method == "POST" => Some(with(
            network_report("run-1"),
            // Not the other caller's session.
            &json!({"session": {"session_id": "s-of-its-own"}}),
        )),
        "/v1/policies" if method == "POST" => Some(json!({"policy": {"deny": ["program:dd"]}})),
        "/v1/policies/changes" => Some(json!({"step": "rollback", "reason": "r"})),
        "/v1/tokens" if method == "POST" => Some(json!({"roles": ["runner"], "name": "n"})),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_answers_every_role_as_this_table_says() {
    let stage = Stage::new().await;
    // All before the first call: tokens are remembered for a second.
    let asker = stage.token(&["--name", "asker"]);
    let mut table = String::new();
    let mut tokens: Vec<_> = ROLES
        .iter()
        .map(|role| ((*role).to_owned(), stage.token(&["--role", role])))
        .collect();
    tokens.push(("nobody".to_owned(), String::new()));
    let id = stage.review(&asker).await;
    for (method, path) in CALLS {
        table.push_str(&format!("{method} {path}:"));
        for (role, token) in &tokens {
            let body = body_of(method, path);
            let at = path.replace("{id}", &id);
            let answered = stage.call(token, method, &at, body.as_ref()).await;
            table.push_str(&format!(" {role} {}", answered.status.as_u16()));
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table, @r"
    POST /v1/reviews: runner 200 auditor 403 policy-author 403 approver 403 admin 403 nobody 401
    GET /v1/reviews: runner 200 auditor 200 policy-author 200 approver 200 admin 200 nobody 401
    GET /v1/reviews/{id}: runner 404 auditor 200 policy-author 200 approver 200 admin 200 nobody 401
    POST /v1/reviews/{id}/abort: runner 404 auditor 403 policy-author 403 approver 403 admin 403 nobody 401
    POST /v1/reviews/{id}/redeem: runner 404 auditor 403 policy-author 403 approver 403 admin 403 nobody 401
    POST /v1/reviews/{id}/ran: runner 404 auditor 403 policy-author 403 approver 403 admin 403 nobody 401
    POST /v1/reviews/{id}/answer: runner 403 auditor 403 policy-author 403 approver 409 admin 403 nobody 401
    POST /v1/reviews/{id}/leave: runner 403 auditor 403 policy-author 403 approver 409 admin 403 nobody 401
    POST /v1/reviews/{id}/leave/withdraw: runner 403 auditor 403 policy-author 403 approver 404 admin 404 nobody 401
    POST /v1/network-reports: runner 204 auditor 403 policy-author 403 approver 403 admin 403 nobody 401
    GET /v1/network-reports: runner 200 auditor 200 policy-author 200 approver 200 admin 200 nobody 401
    GET /v1/sessions/s-1: runner 404 auditor 200 policy-author 200 approver 200 admin 200 nobody 401
    GET /v1/waiting: runner 403 auditor 403 policy-author 403 approver 200 admin 403 nobody 401
    GET /v1/stats: runner 403 auditor 200 policy-author 403 approver 403 admin 200 nobody 401
    GET /v1/export: runner 403 auditor 200 policy-author 403 approver 403 admin 200 nobody 401
    GET /v1/verify: runner 403 auditor 200 policy-author 403 approver 403 admin 200 nobody 401
    GET /v1/tokens: runner 403 auditor 403 policy-author 403 approver 403 admin 200 nobody 401
    POST /v1/tokens: runner 403 auditor 403 policy-author 403 approver 403 admin 201 nobody 401
    DELETE /v1/tokens/none: runner 403 auditor 403 policy-author 403 approver 403 admin 404 nobody 401
    GET /v1/webhooks: runner 403 auditor 403 policy-author 403 approver 403 admin 200 nobody 401
    DELETE /v1/webhooks/none: runner 403 auditor 403 policy-author 403 approver 403 admin 404 nobody 401
    GET /v1/policies: runner 403 auditor 403 policy-author 200 approver 403 admin 200 nobody 401
    POST /v1/policies: runner 403 auditor 403 policy-author 201 approver 403 admin 201 nobody 401
    GET /v1/policies/none: runner 403 auditor 403 policy-author 404 approver 403 admin 404 nobody 401
    POST /v1/policies/changes: runner 403 auditor 403 policy-author 404 approver 403 admin 404 nobody 401
    GET /metrics: runner 403 auditor 404 policy-author 403 approver 403 admin 404 nobody 401
    GET /v1/openapi.json: runner 200 auditor 200 policy-author 200 approver 200 admin 200 nobody 401
    GET /v1/nothing: runner 404 auditor 404 policy-author 404 approver 404 admin 404 nobody 401
    ");
    stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_share_nothing() {
    let stage = Stage::new().await;
    let (code, _, err) = stage.program.output(&["tenant", "create", "acme"]);
    assert_eq!(code, 0, "{err}");
    let ours = stage.token(&["--role", "runner", "--role", "auditor", "--role", "admin"]);
    let theirs = stage.token(&[
        "--tenant", "acme", "--role", "runner", "--role", "auditor", "--role", "admin",
    ]);
    let (our_review, their_review) = (stage.review(&ours).await, stage.review(&theirs).await);
    for (token, sees, other) in [
        (&ours, &our_review, &their_review),
        (&theirs, &their_review, &our_review),
    ] {
        let page = stage.call(token, "GET", "/v1/reviews", None).await;
        let listed = page.body["reviews"].as_array().expect("a list");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["review"]["review_id"], **sees);
        let nothing = "01980000-0000-7000-8000-000000000001";
        for path in ["", "/abort", "/redeem"] {
            let method = if path.is_empty() { "GET" } else { "POST" };
            let body = (path == "/redeem").then(|| redeem_body(harmless().digest(), Some("s-1")));
            let told = |id: &str| format!("/v1/reviews/{id}{path}");
            let hidden = stage.call(token, method, &told(other), body.as_ref()).await;
            let missing = stage
                .call(token, method, &told(nothing), body.as_ref())
                .await;
            assert_eq!(hidden.told(), (404, "not_found"), "{path}");
            assert_eq!(
                hidden.body, missing.body,
                "a review that is there looks like none"
            );
        }
        let tokens = stage.call(token, "GET", "/v1/tokens", None).await;
        assert_eq!(tokens.body["tokens"].as_array().map(Vec::len), Some(1));
    }
    let listed = stage.call(&theirs, "GET", "/v1/tokens", None).await;
    let id = listed.body["tokens"][0]["id"].as_str().expect("an id");
    let path = format!("/v1/tokens/{id}");
    let stolen = stage.call(&ours, "DELETE", &path, None).await;
    assert_eq!(stolen.told(), (404, "not_found"));
    let refused = stage
        .program
        .output(&["token", "create", "--tenant", "none"]);
    assert_eq!(refused.0, 2, "{}", refused.2);
    stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_when_it_expires_is_revoked_or_is_followed_by_another() {
    let stage = Stage::new().await;
    let admin = stage.token(&["--role", "admin"]);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1_500);
    let wanted = json!({"roles": ["auditor"], "name": "brief", "expires_at": soon});
    let made = stage
        .call(&admin, "POST", "/v1/tokens", Some(&wanted))
        .await;
    assert_eq!(made.status, 201);
    let brief = made.body["token"].as_str().expect("a token").to_owned();
    // Tokens are remembered for a second: until then the new one may not be known.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let look = |token: String| {
        let stage = &stage;
        async move {
            stage
                .call(&token, "GET", "/v1/reviews", None)
                .await
                .status
                .as_u16()
        }
    };
    assert_eq!(look(brief.clone()).await, 200);
    tokio::time::sleep(std::time::Duration::from_millis(450)).await;
    assert_eq!(
        look(brief).await,
        401,
        "it expires on time, whatever is remembered"
    );
    let runner = stage.token(&["--role", "runner", "--name", "laptop"]);
    let listed = stage.program.output(&["token", "list"]).1;
    let line = listed.lines().find(|line| line.ends_with("laptop"));
    let id = line.and_then(|line| line.split(' ').next()).expect("an id");
    let (code, out, err) = stage
        .program
        .output(&["token", "rotate", id, "--overlap", "0"]);
    assert_eq!(code, 0, "{err}");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(look(runner).await, 401);
    assert_eq!(look(out.trim().to_owned()).await, 200);
    let again = stage.program.output(&["token", "rotate", id]);
    assert_eq!(again.0, 2, "a token is followed once: {}", again.2);
    for wrong in [
        json!({"roles": []}),
        json!({"roles": ["root"]}),
        json!({"roles": ["runner"], "name": "a\u{1b}b"}),
        json!({"roles": ["runner"], "expires_at": "2020-01-01T00:00:00Z"}),
        json!({"roles": ["runner"], "tenant": "acme"}),
    ] {
        let refused = stage.call(&admin, "POST", "/v1/tokens", Some(&wrong)).await;
        assert_eq!(refused.told(), (422, "invalid_body"), "{wrong}");
    }
    stage.service.close().await;
}
