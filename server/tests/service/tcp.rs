//! The real program on a real port: tokens, addresses, settings, exit codes.

use protocol::{CallerId, Decision};
use serde_json::{Value, json};

use crate::harness::{Folder, Program, bearer, expected, harmless, redeem_body, submission, with};

const NOBODY: &str = "arv_0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn a_token_s_holder_gets_answers_signed_by_the_shown_key() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let (key, token, other) = (program.key(), program.token(), program.token());
    let server = program.serve();
    let approved = server
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await;
    let resource = approved.resource();
    let mine = expected(
        &harmless(),
        &CallerId::of_token(&token),
        resource.nonce.clone(),
    );
    assert!(matches!(
        key.read_decision(&resource, &mine),
        Ok(Decision::Approved(_))
    ));
    let theirs = expected(
        &harmless(),
        &CallerId::of_token(&other),
        resource.nonce.clone(),
    );
    assert!(
        key.read_decision(&resource, &theirs).is_err(),
        "it is worthless to another caller"
    );
    let path = format!("/v1/reviews/{}/redeem", resource.review_id);
    let redeem = redeem_body(harmless().digest(), Some("s-1"));
    assert_eq!(
        server.post(&other, &path, &redeem).await.told(),
        (404, "not_found")
    );
    assert_eq!(server.post(&token, &path, &redeem).await.status, 200);
    assert_eq!(
        server.post(&token, &path, &redeem).await.told(),
        (409, "already_redeemed")
    );
}

#[tokio::test]
async fn every_endpoint_but_health_wants_a_token_and_none_says_more_without_one() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    let id = server
        .post(&token, "/v1/reviews", &submission(&harmless()))
        .await
        .id();
    let verbs = [
        ("POST", "/v1/reviews".to_owned()),
        ("GET", "/v1/reviews".to_owned()),
        ("GET", format!("/v1/reviews/{id}")),
        ("POST", format!("/v1/reviews/{id}/abort")),
        ("POST", format!("/v1/reviews/{id}/redeem")),
        ("POST", format!("/v1/reviews/{id}/answer")),
        ("GET", "/v1/nothing".to_owned()),
        ("DELETE", "/v1/reviews".to_owned()),
        ("GET", "/".to_owned()),
    ];
    let credentials = [
        String::new(),
        bearer(NOBODY),
        bearer(""),
        bearer(&token.replace("arv_", "")),
        bearer(&format!("{token}0")),
        bearer(&token.to_uppercase()),
        format!("{}{}", bearer(&token), bearer(&token)),
        format!("authorization: Basic {token}\r\n"),
        format!("authorization: {token}\r\n"),
    ];
    for (verb, path) in &verbs {
        for credential in &credentials {
            let answered = server
                .call(&format!("{verb} {path} HTTP/1.1\r\n{credential}"), "{}")
                .await;
            assert_eq!(
                answered.told(),
                (401, "unauthorized"),
                "{verb} {path} {credential:?}"
            );
        }
    }
    for path in ["/healthz", "/readyz"] {
        let answered = server.call(&format!("GET {path} HTTP/1.1\r\n"), "").await;
        assert_eq!(answered.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_revoked_token_stops_working_while_the_server_runs_and_a_new_one_starts() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    assert_eq!(server.get(&token, "/v1/reviews").await.status, 200);
    let (_, listed, _) = program.output(&["token", "list"]);
    let id = listed
        .lines()
        .nth(1)
        .and_then(|line| line.split(' ').next())
        .expect("an id");
    assert!(!listed.contains(&token) && CallerId::of_token(&token).as_str().ends_with(id));
    assert_eq!(program.output(&["token", "revoke", id]).0, 0);
    assert_eq!(program.output(&["token", "revoke", "nobody"]).0, 2);
    let fresh = program.token();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(server.get(&token, "/v1/reviews").await.status, 401);
    assert_eq!(server.get(&fresh, "/v1/reviews").await.status, 200);
}

#[tokio::test]
async fn over_tcp_no_runner_answers_for_a_person() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    let body = with(submission(&harmless()), &json!({"must_be_human": true}));
    let failed = server.post(&token, "/v1/reviews", &body).await;
    assert_eq!(failed.end(), "failed/not_configured/no_person");
    let path = format!("/v1/reviews/{}/answer", failed.id());
    let answered = server
        .post(&token, &path, &json!({"answer": "allow"}))
        .await;
    assert_eq!(answered.told(), (403, "role_missing"));
    let trusted = json!({"complete": true, "entries": [{"n": 1, "author": "user", "trust": "trusted", "text": "yes"}]});
    let body = with(submission(&harmless()), &json!({"transcript": trusted}));
    let refused = server.post(&token, "/v1/reviews", &body).await;
    assert_eq!(
        refused.told(),
        (422, "trust_refused"),
        "no channel speaks for the user by default"
    );
}

#[test]
fn no_port_is_opened_without_a_token_or_for_others_without_saying_so() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let (code, out, err) = program.output(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("token create"), "{err}");
    program.token();
    let (code, out, err) = program.output(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("dangerously_allow_plain_http"), "{err}");
}

#[test]
fn wrong_calls_and_settings_are_2_and_say_where() {
    let folder = Folder::new();
    for (settings, key) in [
        (
            "tls_cert = \"c\"\n",
            "`tls_cert`: is not supported by this version",
        ),
        ("listn = \"127.0.0.1:1\"\n", "`listn`: is not a setting"),
        ("[reviewer]\ndeadline_secs = 0\n", "deadline_secs"),
        (
            "[[reviewer.model]]\nprovider = \"openai-chat\"\nbase_url = \"http://127.0.0.1:1\"\nmodel = \"m\"\napi_key_env = \"AUTO_REVIEW_TEST_UNSET\"\n",
            "AUTO_REVIEW_TEST_UNSET",
        ),
    ] {
        let (code, _, err) = Program::new(&folder, settings).output(&["serve"]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(key), "{err}");
    }
    let program = Program::new(&folder, "");
    assert_eq!(program.output(&["serv"]).0, 2);
    assert_eq!(program.output(&["--help"]).0, 0);
    let (code, _, err) = program.output(&["token", "create", "--name", "a\u{202e}b"]);
    assert_eq!(code, 2, "{err}");
}

#[tokio::test]
async fn a_taken_port_is_1_and_the_secrets_stay_home() {
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let mut command = program.command(&["serve", "--listen", "127.0.0.1:0"]);
    let log = folder.path("log");
    command.env("AUTO_REVIEW_LOG", "trace");
    command.stderr(std::fs::File::create(&log).expect("a log"));
    let mut server = crate::harness::Server::start(&mut command);
    let secret = "canary-7f3a";
    let body = with(submission(&harmless()), &json!({"retry_reason": secret}));
    server.post(&token, "/v1/reviews", &body).await;
    server.post(NOBODY, "/v1/reviews", &body).await;
    let address = server.address.to_string();
    let (code, _, err) = program.output(&["serve", "--listen", &address]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&address), "{err}");
    assert_eq!(server.terminate(), Some(0));
    let logged = std::fs::read_to_string(&log).expect("a log");
    assert!(
        !logged.contains(&token) && !logged.contains(NOBODY) && !logged.contains(secret),
        "{logged}"
    );
    let kept = [folder.database(), folder.path("reviews.db-wal")];
    for file in kept {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes
            .windows(token.len())
            .any(|window| window == token.as_bytes());
        assert!(!found, "the token stands in {file:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_or_never_ends_is_given_up_on() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = Folder::new();
    let program = Program::new(&folder, "");
    let token = program.token();
    let server = program.serve();
    let mut endless = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("connected");
    let head = format!(
        "POST /v1/reviews HTTP/1.1\r\nhost: t\r\n{}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        bearer(&token)
    );
    endless.write_all(head.as_bytes()).await.expect("sent");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..40 {
        if endless.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 64];
    let read = endless.read(&mut answer).await.unwrap_or(0);
    let told = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(read == 0 || told.starts_with("HTTP/1.1 413"), "{told}");
    assert_eq!(
        server.get(&token, "/v1/reviews").await.body["reviews"],
        Value::Array(Vec::new())
    );
}
