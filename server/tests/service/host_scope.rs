//! How long an approver's yes about a host holds: said by them, kept in the chain, and told in a signed receipt to a runner
//! that knows of it.

use protocol::{Action, NetworkAccess, NetworkProtocol, ReceiptScope, RedeemAnswer};
use serde_json::{Value, json};

use crate::api::caller;
use crate::harness::{
    AlikeModel, Answered, Folder, bearer, embedded, expected, post, redeem_body, submission,
    submit, unclear, with,
};
use crate::people::Office;

fn host() -> Action {
    Action::NetworkAccess(NetworkAccess {
        host: "files.example.com".to_owned(),
        port: 443,
        protocol: NetworkProtocol::Https,
    })
}

fn question(action: &Action) -> Value {
    let changes = json!({"must_be_human": true, "deadline_ms": 60_000});
    with(submission(action), &changes)
}

/// An approver's token file.
fn approver(office: &Office, name: &str) -> String {
    office.token_file(name, &["--role", "approver", "--person", name])
}

/// Says yes to `id` about `action`, with more words.
fn say(
    office: &Office,
    (word, id): (&str, &str),
    file: &str,
    more: &[&str],
) -> (i32, String, String) {
    let digest = host().digest().to_string();
    let words = [word, id, "--reason", "agreed", "--digest", digest.as_str()];
    office.run(&[&words, more].concat(), file)
}

/// Spends the approval as a runner that sends `preference`.
async fn spent(office: &Office, id: &str, preference: Option<&str>) -> Answered {
    let body = redeem_body(host().digest(), Some("s-1")).to_string();
    let prefer = preference.map_or_else(String::new, |it| format!("prefer: {it}\r\n"));
    let head = format!(
        "POST /v1/reviews/{id}/redeem HTTP/1.1\r\n{}{prefer}content-type: application/json\r\n",
        bearer(&office.runner)
    );
    office.server.call(&head, &body).await
}

async fn timeline(office: &Office, id: &str) -> Value {
    let path = format!("/v1/reviews/{id}?view=full");
    let told = office.server.get(&office.runner, &path).await;
    told.body.get("timeline").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scope_is_on_record_and_a_signed_receipt_says_it_to_who_asks() {
    let office = Office::wanting(1);
    let bob = approver(&office, "bob");
    for (scope, preference, told, kept) in [
        (
            Some("session"),
            Some("host-scope"),
            Some("session"),
            Some("session"),
        ),
        // A runner that knows of no scope is told what it always was: once.
        (Some("session"), None, None, Some("session")),
        (Some("session"), Some("wait=3"), None, Some("session")),
        (Some("once"), Some("host-scope"), None, None),
        (None, Some("host-scope"), None, None),
    ] {
        let id = office.asked_for(&question(&host())).await;
        let more: Vec<&str> = scope.iter().flat_map(|it| ["--scope", *it]).collect();
        let said = say(&office, ("approve", &id), &bob, &more);
        assert!(said.1.contains("Approved"), "{said:?}");
        let receipt = spent(&office, &id, preference).await;
        assert_eq!(receipt.status, 200, "{}", receipt.text);
        assert_eq!(receipt.body.get("scope").and_then(Value::as_str), told);
        let lines = timeline(&office, &id).await;
        assert_eq!(lines[1]["body"]["verdict"]["scope"].as_str(), kept);
        assert_eq!(lines[2]["body"]["scope"].as_str(), told, "{lines}");
        let nonce = lines[0]["body"]["nonce"].clone();
        let caller = protocol::CallerId::of_token(&office.runner);
        let nonce = serde_json::from_value(nonce).expect("a nonce");
        let answer: RedeemAnswer = serde_json::from_value(receipt.body).expect("a receipt");
        let (key, held) = (office.program.key(), expected(&host(), &caller, nonce));
        let believed = key.read_receipt(&answer, answer.review_id, &held);
        let scope = believed.expect("signed").scope();
        let wanted = told.map_or(ReceiptScope::Once, |_| ReceiptScope::Session);
        assert_eq!(scope, wanted);
        // What is spent is spent; it is not told again by another preference.
        let again = spent(&office, &id, Some("host-scope")).await;
        assert_eq!(again.told(), (409, "already_redeemed"));
    }
    let (code, out, err) = office.program.output(&["verify"]);
    assert_eq!(code, 0, "{out} {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reviewers_yes_is_told_as_one_so_that_no_persons_can_be_made_to_look_like_it() {
    let folder = Folder::new();
    let model = AlikeModel::new("allow", "low").await;
    model.let_go();
    let service = embedded(&folder, &model.settings()).await;
    let router = service.embedded_router(caller());
    for (preference, told) in [("host-scope", Some("reviewer")), ("wait=3", None)] {
        let asked = submit(&router, &submission(&host())).await;
        assert_eq!(asked.end(), "approved", "{}", asked.text);
        let path = format!("/v1/reviews/{}/redeem", asked.id());
        let spend = redeem_body(host().digest(), Some("s-1"));
        let receipt = post(&router, &path, &[("prefer", preference)], &spend).await;
        assert_eq!(receipt.status, 200, "{}", receipt.text);
        assert_eq!(receipt.body.get("scope").and_then(Value::as_str), told);
    }
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_is_refused_where_there_is_nothing_that_it_could_be_for() {
    let office = Office::wanting(1);
    let bob = approver(&office, "bob");
    let token = std::fs::read_to_string(&bob).expect("a token");
    let without = with(question(&host()), &json!({"session": {}}));
    let yes = |action: &Action, scope: Value| json!({"answer": "allow", "reason": "agreed", "action_digest": action.digest(), "scope": scope});
    let no = with(yes(&host(), json!("once")), &json!({"answer": "deny"}));
    for (question, body, told) in [
        (
            question(&unclear()),
            yes(&unclear(), json!("session")),
            (409, "scope_not_possible"),
        ),
        (
            question(&unclear()),
            yes(&unclear(), json!("once")),
            (409, "scope_not_possible"),
        ),
        (without, yes(&host(), json!("session")), (409, "no_session")),
        (
            question(&host()),
            yes(&host(), json!("always")),
            (422, "invalid_body"),
        ),
        (
            question(&host()),
            yes(&host(), json!(["session"])),
            (400, "invalid_json"),
        ),
        (question(&host()), no, (422, "invalid_body")),
    ] {
        let id = office.asked_for(&question).await;
        let path = format!("/v1/reviews/{id}/answer");
        let refused = office.server.post(token.trim(), &path, &body).await;
        assert_eq!(refused.told(), told, "{body}");
        let path = format!("/v1/reviews/{id}");
        let stands = office.server.get(&office.runner, &path).await;
        assert_eq!(stands.review_status(), "reviewing", "{body}");
    }
    let id = office.asked_for(&question(&host())).await;
    for (word, scope) in [("approve", "always"), ("deny", "session")] {
        let refused = say(&office, (word, &id), &bob, &["--scope", scope]);
        assert_eq!(refused.0, 2, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_votes_the_narrowest_scope_counts() {
    let office = Office::wanting(2);
    let (bob, eve) = (approver(&office, "bob"), approver(&office, "eve"));
    for (first, second, held) in [
        (Some("session"), Some("session"), Some("session")),
        (Some("session"), Some("once"), None),
        (Some("once"), Some("session"), None),
        (None, Some("session"), None),
        (Some("session"), None, None),
    ] {
        let id = office.asked_for(&question(&host())).await;
        let more = |scope: Option<&'static str>| -> Vec<&str> {
            scope.into_iter().flat_map(|it| ["--scope", it]).collect()
        };
        let said = say(&office, ("approve", &id), &bob, &more(first));
        assert!(said.1.contains("others must agree"), "{said:?}");
        let said = say(&office, ("approve", &id), &eve, &more(second));
        assert!(said.1.contains("Approved"), "{said:?}");
        let receipt = spent(&office, &id, Some("host-scope")).await;
        assert_eq!(receipt.body.get("scope").and_then(Value::as_str), held);
        // Each vote stands as it was given.
        let lines = timeline(&office, &id).await;
        let said = [1, 2].map(|at| lines[at]["body"]["scope"].as_str().unwrap_or("once"));
        assert_eq!(said, [first.unwrap_or("once"), second.unwrap_or("once")]);
        assert_eq!(lines[3]["body"]["verdict"]["scope"].as_str(), held);
    }
}
