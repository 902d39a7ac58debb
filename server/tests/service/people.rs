//! People in the loop: who may answer for one, about what, until when, and that it is on record.

use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::{Value, json};

use crate::harness::{
    Answered, Folder, Program, bearer, harmful, harmless, redeem_body, submission, unclear, with,
};
use crate::roles::Stage;

fn question(deadline_ms: u64) -> Value {
    let changes = json!({"must_be_human": true, "deadline_ms": deadline_ms});
    with(submission(&unclear()), &changes)
}

fn yes() -> Value {
    json!({"answer": "allow", "reason": "agreed in the release call", "action_digest": unclear().digest()})
}

struct Team {
    stage: Stage,
    runner: String,
    same_person: String,
    approver: String,
    foreign: String,
}

impl Team {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let (code, _, err) = stage.program.output(&["tenant", "create", "acme"]);
        assert_eq!(code, 0, "{err}");
        Self {
            runner: stage.token(&["--person", "ana"]),
            same_person: stage.token(&["--role", "approver", "--person", "ana"]),
            approver: stage.token(&["--role", "approver", "--person", "bob"]),
            foreign: stage.token(&["--role", "approver", "--tenant", "acme"]),
            stage,
        }
    }

    /// Asks without waiting for the end; the review's id, once a person is waited for.
    async fn asked(&self, deadline_ms: u64) -> String {
        let body = question(deadline_ms);
        let path = "/v1/reviews";
        let router = self.stage.service.router();
        let authorization = format!("Bearer {}", self.runner);
        let headers = [("authorization", authorization.as_str())];
        let told = crate::harness::post(&router, path, &headers, &body).await;
        assert_eq!(told.status, 202, "{:?}", told.body);
        for _ in 0..100 {
            if !self.waiting(&self.approver).await.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        told.id()
    }

    async fn waiting(&self, token: &str) -> Vec<Value> {
        let told = self.stage.call(token, "GET", "/v1/waiting", None).await;
        told.body["reviews"].as_array().expect("a list").clone()
    }

    async fn answer(&self, token: &str, id: &str, body: &Value) -> Answered {
        let path = format!("/v1/reviews/{id}/answer");
        self.stage.call(token, "POST", &path, Some(body)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_person_answers_exactly_what_was_asked_once_and_with_a_reason() {
    let team = Team::new().await;
    let id = team.asked(60_000).await;
    let waiting = team.waiting(&team.approver).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["question"]["action"]["tool_name"], "close");
    assert!(team.waiting(&team.foreign).await.is_empty());

    for (token, body, told) in [
        (&team.runner, yes(), (403, "role_missing")),
        (&team.same_person, yes(), (403, "own_question")),
        (&team.foreign, yes(), (404, "not_found")),
        (
            &team.approver,
            with(yes(), &json!({"reason": " "})),
            (422, "invalid_body"),
        ),
        (
            &team.approver,
            with(yes(), &json!({"action_digest": harmless().digest()})),
            (409, "other_action"),
        ),
    ] {
        let refused = team.answer(token, &id, &body).await;
        assert_eq!(refused.told(), told, "{body}");
    }
    let told = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(told.review_status(), "approved", "{:?}", told.body);
    assert_eq!(told.body["decided_by"], "person");
    assert_eq!(told.body["rationale"], "agreed in the release call");
    let again = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(again.told(), (409, "not_waiting"));
    assert!(team.waiting(&team.approver).await.is_empty());

    let path = format!("/v1/reviews/{id}?view=full");
    let detail = team
        .stage
        .call(&team.approver, "GET", &path, None)
        .await
        .body;
    assert_eq!(
        detail["timeline"][1]["body"]["verdict"]["answered_by"],
        "bob"
    );
    let spend = redeem_body(unclear().digest(), Some("s-1"));
    let path = format!("/v1/reviews/{id}/redeem");
    let stolen = team
        .stage
        .call(&team.approver, "POST", &path, Some(&spend))
        .await;
    assert_eq!(
        stolen.told(),
        (403, "role_missing"),
        "an approver runs nothing"
    );
    let spent = team
        .stage
        .call(&team.runner, "POST", &path, Some(&spend))
        .await;
    assert_eq!(spent.status, 200, "{:?}", spent.body);
    team.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_in_time_is_no_yes_and_no_no() {
    let team = Team::new().await;
    let id = team.asked(400).await;
    let path = format!("/v1/reviews/{id}?wait=10");
    let ended = team.stage.call(&team.runner, "GET", &path, None).await;
    assert_eq!(ended.review_status(), "timed_out", "{:?}", ended.body);
    let late = team.answer(&team.approver, &id, &yes()).await;
    assert_eq!(late.told(), (409, "not_waiting"));
    let no = with(yes(), &json!({"answer": "deny"}));
    let id = team.asked(60_000).await;
    let denied = team.answer(&team.approver, &id, &no).await;
    assert_eq!(denied.review_status(), "denied");
    team.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_follows_another_is_in_the_same_hands() {
    let team = Team::new().await;
    let asks = team
        .stage
        .token(&["--role", "runner", "--role", "approver", "--name", "both"]);
    let (_, list, _) = team.stage.program.output(&["token", "list"]);
    let line = list
        .lines()
        .find(|line| line.ends_with("both"))
        .expect("a line");
    let first = line.split_whitespace().next().expect("an id");
    let follow = |id: &str| {
        let (code, token, err) = team.stage.program.output(&["token", "rotate", id]);
        assert_eq!(code, 0, "{err}");
        token.trim().to_owned()
    };
    let second = follow(first);
    let third = follow(
        &protocol::CallerId::of_token(&second)
            .as_str()
            .replace("token:", ""),
    );
    let asked = Team {
        runner: asks.clone(),
        ..team
    };
    let id = asked.asked(60_000).await;
    for token in [&asks, &second, &third] {
        let refused = asked.answer(token, &id, &yes()).await;
        assert_eq!(refused.told(), (403, "own_question"));
    }
    let told = asked.answer(&asked.approver, &id, &yes()).await;
    assert_eq!(told.review_status(), "approved", "{:?}", told.body);
}

/// A server that wants two approvers, and files with tokens.
pub(crate) struct Office {
    folder: Folder,
    pub(crate) program: Program,
    pub(crate) server: crate::harness::Server,
    pub(crate) runner: String,
}

impl Office {
    fn new() -> Self {
        Self::wanting(2)
    }

    /// One where so many must agree.
    pub(crate) fn wanting(approvals: usize) -> Self {
        let folder = Folder::new();
        let program = Program::new(&folder, &format!("[people]\napprovals = {approvals}\n"));
        let runner = create(&program, &["--person", "ana"]);
        let server = program.serve();
        Self {
            folder,
            program,
            server,
            runner,
        }
    }

    /// A private file with a new token.
    pub(crate) fn token_file(&self, name: &str, arguments: &[&str]) -> String {
        let path = self.folder.path(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let token = create(&self.program, arguments);
        std::io::Write::write_all(&mut file.expect("a file"), token.as_bytes()).expect("written");
        path.to_str().expect("a name").to_owned()
    }

    pub(crate) fn run(&self, arguments: &[&str], token_file: &str) -> (i32, String, String) {
        let server = format!("http://{}", self.server.address);
        let at = ["--server", server.as_str(), "--token-file", token_file];
        self.program.output(&[arguments, &at].concat())
    }

    /// Asks what only a person may decide; the review's id.
    async fn asked(&self) -> String {
        self.asked_for(&question(60_000)).await
    }

    /// Asks `question`; the review's id.
    pub(crate) async fn asked_for(&self, question: &Value) -> String {
        let head = format!(
            "POST /v1/reviews HTTP/1.1\r\n{}content-type: application/json\r\n",
            bearer(&self.runner)
        );
        let told = self.server.call(&head, &question.to_string()).await;
        assert_eq!(told.status, 202, "{}", told.text);
        told.id()
    }
}

fn create(program: &Program, arguments: &[&str]) -> String {
    let (code, out, err) =
        program.output(&[&["token", "create", "--name", "x"], arguments].concat());
    assert_eq!(code, 0, "{err}");
    out.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_must_agree_from_their_terminals_and_one_person_is_not_two() {
    let office = Office::new();
    let bob = office.token_file("bob", &["--role", "approver", "--person", "bob"]);
    let too = office.token_file("too", &["--role", "approver", "--person", "bob"]);
    let eve = office.token_file("eve", &["--role", "approver", "--person", "eve"]);
    let own = office.token_file("own", &["--role", "approver", "--person", "ana"]);
    let none = office.token_file("none", &["--role", "auditor"]);
    let id = office.asked().await;
    let (code, table, err) = office.run(&["queue"], &bob);
    assert_eq!(code, 0, "{err}");
    assert!(table.contains(&id) && table.contains("0 of 2"), "{table}");
    let digest = unclear().digest().to_string();
    let shown = digest.get(..19).expect("ASCII");
    let short = digest.get(..12).expect("ASCII");
    assert!(table.contains(shown), "{table}");
    let say = |word: &str, digest: &str, file: &str| {
        office.run(&[word, &id, "--reason", "agreed", "--digest", digest], file)
    };
    for (digest, file, code, told) in [
        ("sha256:000000000000", &bob, 2, "look at the action again"),
        (short, &bob, 2, "12 digits at least"),
        (shown, &none, 1, "role_missing"),
        (shown, &own, 1, "own_question"),
    ] {
        let refused = say("approve", digest, file);
        assert_eq!(refused.0, code, "{}", refused.2);
        assert!(refused.2.contains(told), "{}", refused.2);
    }
    assert!(say("approve", shown, &bob).1.contains("others must agree"));
    for again in [&bob, &too] {
        let refused = say("approve", shown, again);
        assert!(refused.2.contains("agreed_before"), "{}", refused.2);
    }
    let waiting: Value =
        serde_json::from_str(&office.run(&["queue", "--json"], &eve).1).expect("JSON");
    assert_eq!(waiting["agreed"][&id], json!(["bob"]));
    assert!(say("approve", &digest, &eve).1.contains("Approved"));
    let path = format!("/v1/reviews/{id}?view=full");
    let detail = office.server.get(&office.runner, &path).await.body;
    each_vote_stands_for_itself(&detail["timeline"]);
    let late = say("deny", shown, &eve);
    assert_eq!(late.0, 1, "{}", late.2);
    assert!(late.2.contains("does not wait"), "{}", late.2);
}

fn each_vote_stands_for_itself(timeline: &Value) {
    let lines = timeline.as_array().expect("a list");
    let kinds: Vec<_> = lines.iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["opened", "voted", "voted", "approved"]);
    for (at, by) in [(1, "bob"), (2, "eve")] {
        let vote = &timeline[at]["body"];
        let said = [
            &vote["by"],
            &vote["answer"],
            &vote["reason"],
            &vote["wanted"],
        ];
        assert_eq!(
            said,
            [&json!(by), &json!("allow"), &json!("agreed"), &json!(2)]
        );
    }
    let verdict = &timeline[3]["body"]["verdict"];
    assert_eq!(verdict["answered_by"], "bob, eve");
    assert_eq!(verdict["rationale"], "bob: agreed; eve: agreed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_denies_is_enough_and_a_token_file_that_others_can_read_is_refused() {
    let office = Office::new();
    let bob = office.token_file("bob", &["--role", "approver", "--person", "bob"]);
    let eve = office.token_file("eve", &["--role", "approver", "--person", "eve"]);
    let id = office.asked().await;
    let digest = unclear().digest().to_string();
    let arguments = |word: &'static str| {
        [
            word,
            id.as_str(),
            "--reason",
            "not now",
            "--digest",
            digest.as_str(),
        ]
    };
    assert!(
        office
            .run(&arguments("approve"), &bob)
            .1
            .contains("others must agree")
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&eve, mode).expect("opened to others");
    assert_eq!(office.run(&arguments("deny"), &eve).0, 1);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&eve, mode).expect("closed again");
    assert!(office.run(&arguments("deny"), &eve).1.contains("Denied"));
    let told = office
        .server
        .get(&office.runner, &format!("/v1/reviews/{id}"))
        .await;
    assert_eq!(
        (told.review_status(), &told.body["decided_by"]),
        ("denied", &json!("person"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_of_somebody_who_lost_the_role_counts_no_longer() {
    let office = Office::new();
    let bob = office.token_file("bob", &["--role", "approver", "--person", "bob"]);
    let eve = office.token_file("eve", &["--role", "approver", "--person", "eve"]);
    let zoe = office.token_file("zoe", &["--role", "approver", "--person", "zoe"]);
    let id = office.asked().await;
    let digest = unclear().digest().to_string();
    let say = |file: &str| {
        let arguments = ["approve", &id, "--reason", "agreed", "--digest", &digest];
        office.run(&arguments, file)
    };
    assert!(say(&bob).1.contains("others must agree"));
    let listed = office.program.output(&["token", "list", "--json"]);
    let token = std::fs::read_to_string(&bob).expect("a token");
    let caller = protocol::CallerId::of_token(token.trim());
    let token_id = caller.as_str().trim_start_matches("token:");
    let (code, _, err) = office.program.output(&["token", "revoke", token_id]);
    assert_eq!(code, 0, "{err} {listed:?}");
    let second = say(&eve);
    assert!(second.1.contains("others must agree"), "{second:?}");
    let third = say(&zoe);
    assert!(third.1.contains("Approved"), "{third:?}");
    let path = format!("/v1/reviews/{id}?view=full");
    let detail = office.server.get(&office.runner, &path).await.body;
    let timeline = &detail["timeline"];
    assert_eq!(timeline[2]["body"]["no_longer"], json!([caller.as_str()]));
    let verdict = &timeline[4]["body"]["verdict"];
    assert_eq!(verdict["answered_by"], "eve, zoe");
    let (code, out, err) = office.program.output(&["verify"]);
    assert_eq!(code, 0, "{out} {err}");
    // A vote is a line of the chain: whoever takes it away, or gives it to somebody else, is told of.
    for (harm, told) in [
        (
            "DROP TRIGGER review_events_are_not_changed; \
             UPDATE review_events SET body = replace(body, 'bob', 'eve') WHERE kind = 'voted' AND seq = 2",
            "its hash does not cover it",
        ),
        (
            "DROP TRIGGER review_events_are_not_removed; \
             DELETE FROM review_events WHERE kind = 'voted' AND seq = 2",
            "a line is missing before it",
        ),
    ] {
        let mut connection = crate::harness::raw(&office.folder.database()).await;
        let done = sqlx::raw_sql(harm).execute(&mut connection).await;
        assert_eq!(done.expect("done").rows_affected(), 1);
        sqlx::Connection::close(connection).await.expect("closed");
        let (code, out, err) = office.program.output(&["verify"]);
        assert_eq!(code, 1, "{out}");
        assert!(format!("{out}{err}").contains(told), "{out} {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_is_given_from_a_terminal_for_what_was_looked_at_and_lifts_one_denial() {
    let office = Office::wanting(1);
    let bob = office.token_file("bob", &["--role", "approver", "--person", "bob"]);
    let own = office.token_file("own", &["--role", "approver", "--person", "ana"]);
    let none = office.token_file("none", &["--role", "auditor"]);
    let action = crate::harness::command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let ask = || async {
        let body = submission(&action);
        office
            .server
            .post(&office.runner, "/v1/reviews", &body)
            .await
    };
    let denied = ask().await;
    assert_eq!(
        (denied.review_status(), &denied.body["risk_level"]),
        ("denied", &json!("high"))
    );
    let id = denied.id();
    let digest = action.digest().to_string();
    let other = unclear().digest().to_string();
    let leave = |word: &str, id: &str, digest: &str, reason: &str, file: &str| {
        office.run(&[word, id, "--reason", reason, "--digest", digest], file)
    };
    let unknown = "01980000-0000-7000-8000-000000000001";
    for (id, digest, reason, file, code, told) in [
        (
            id.as_str(),
            other.as_str(),
            "why",
            &bob,
            2,
            "look at the action again",
        ),
        (&id, &digest, " ", &bob, 1, "invalid_body"),
        (&id, &digest, "why", &own, 1, "own_question"),
        (&id, &digest, "why", &none, 1, "role_missing"),
        (unknown, &digest, "why", &bob, 1, "not_found"),
    ] {
        let refused = leave("leave", id, digest, reason, file);
        assert_eq!(refused.0, code, "{refused:?}");
        assert!(refused.2.contains(told), "{}", refused.2);
    }
    assert_eq!(
        ask().await.review_status(),
        "denied",
        "nothing was given yet"
    );
    let given = leave("appeal", &id, &digest, "a key of no use any more", &bob);
    assert!(given.1.contains("given by bob"), "{given:?}");
    let again = leave("leave", &id, &digest, "why", &bob);
    assert!(again.2.contains("already_lifted"), "{}", again.2);
    let lifted = ask().await;
    assert_eq!(
        (lifted.review_status(), &lifted.body["decided_by"]),
        ("approved", &json!("person"))
    );
    assert_eq!(ask().await.review_status(), "denied", "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_is_withdrawn_from_a_terminal_with_a_reason_and_lifts_nothing_then() {
    let office = Office::wanting(1);
    let bob = office.token_file("bob", &["--role", "approver", "--person", "bob"]);
    let root = office.token_file("root", &["--role", "admin", "--person", "carol"]);
    let none = office.token_file("none", &["--role", "auditor"]);
    let action = crate::harness::command(&["cat", "/home/u/.ssh/id_ed25519"]);
    let ask = || async {
        let body = submission(&action);
        office
            .server
            .post(&office.runner, "/v1/reviews", &body)
            .await
    };
    let id = ask().await.id();
    let digest = action.digest().to_string();
    let withdraw = |reason: &str, file: &str| {
        office.run(&["leave", "withdraw", &id, "--reason", reason], file)
    };
    let early = withdraw("none yet", &bob);
    assert_eq!(early.0, 1, "{early:?}");
    assert!(early.2.contains("not_found"), "{}", early.2);
    let given = office.run(
        &["leave", &id, "--reason", "an old key", "--digest", &digest],
        &bob,
    );
    assert_eq!(given.0, 0, "{given:?}");
    for (reason, file, told) in [(" ", &root, "invalid_body"), ("why", &none, "role_missing")] {
        let refused = withdraw(reason, file);
        assert_eq!(refused.0, 1, "{refused:?}");
        assert!(refused.2.contains(told), "{}", refused.2);
    }
    let back = withdraw("it is in use; password: hunter5-in-a-withdrawal", &root);
    assert_eq!(back.0, 0, "{back:?}");
    assert!(back.1.contains("withdrawn by carol"), "{back:?}");
    assert_eq!(ask().await.review_status(), "denied");
    let again = withdraw("why", &bob);
    assert!(again.2.contains("already_withdrawn"), "{}", again.2);
    let (_, shown, _) = office.program.output(&["show", &id]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let last = shown["timeline"].as_array().and_then(|it| it.last());
    let last = last.expect("a line");
    assert_eq!(
        (&last["kind"], &last["body"]["by"]),
        (&json!("leave_withdrawn"), &json!("carol"))
    );
    let reason = last["body"]["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("it is in use; password: MASKED."),
        "{reason}"
    );
    let (code, out, err) = office.program.output(&["verify"]);
    assert_eq!(code, 0, "{out}{err}");
    // Nothing is said, and nothing is given or taken back.
    let nothing = office.run(&["leave"], &bob);
    assert_eq!(nothing.0, 2, "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_lifts_nothing_where_two_have_to_agree() {
    let office = Office::new();
    let bob = create(&office.program, &["--role", "approver", "--person", "bob"]);
    let head = |token: &str, path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\n{}content-type: application/json\r\nprefer: wait=30\r\n",
            bearer(token)
        )
    };
    let question = submission(&harmful()).to_string();
    let denied = office
        .server
        .call(&head(&office.runner, "/v1/reviews"), &question)
        .await;
    assert!(denied.text.contains("\"denied\""), "{}", denied.text);
    let leave = json!({"reason": "it is a copy", "action_digest": harmful().digest()}).to_string();
    let path = format!("/v1/reviews/{}/leave", denied.id());
    let told = office.server.call(&head(&bob, &path), &leave).await;
    assert_eq!(told.status, 409, "{}", told.text);
    assert!(told.text.contains("wants_several_people"), "{}", told.text);
}
