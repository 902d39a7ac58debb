//! What admins look at: filters, pages, details, sums, exports, and whether the record holds.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use protocol::Action;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tower::ServiceExt as _;

use crate::harness::{
    Answered, command, harmful, harmless, redeem_body, submission, unclear, with,
};
use crate::roles::Stage;

/// Three reviews of two callers in two tenants, and who may look at two of them.
struct Told {
    stage: Stage,
    runner: String,
    auditor: String,
    approved: String,
    denied: String,
}

const HOSTILE: &str = "=1+1\u{1b}[31m \"NEAR(a, b)\" OR *";

async fn told() -> Told {
    let stage = Stage::new().await;
    let (code, _, err) = stage.program.output(&["tenant", "create", "acme"]);
    assert_eq!(code, 0, "{err}");
    let runner = stage.token(&[]);
    let auditor = stage.token(&["--role", "auditor"]);
    let foreign = stage.token(&["--tenant", "acme"]);
    let ask = async |token: &str, action: &Action, user: &str| {
        let mut body = submission(action);
        body["environment"]["user"] = json!(user);
        body["session"] = json!({"session_id": format!("s-{user}")});
        let answered = stage.call(token, "POST", "/v1/reviews", Some(&body)).await;
        assert_eq!(answered.status, 200, "{:?}", answered.body);
        answered.id()
    };
    let approved = ask(&runner, &harmless(), "ana").await;
    let denied = ask(&runner, &harmful(), HOSTILE).await;
    ask(&runner, &unclear(), "ana").await;
    ask(&foreign, &harmless(), "ana").await;
    Told {
        stage,
        runner,
        auditor,
        approved,
        denied,
    }
}

impl Told {
    async fn get(&self, path: &str) -> Answered {
        self.stage.call(&self.auditor, "GET", path, None).await
    }

    async fn found(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/reviews?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {:?}", page.body);
        let reviews = page.body["reviews"].as_array().expect("a list");
        reviews
            .iter()
            .map(|entry| {
                entry["review"]["review_id"]
                    .as_str()
                    .expect("an id")
                    .to_owned()
            })
            .collect()
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_found_by_what_they_are_and_by_their_words() {
    let told = told().await;
    assert_eq!(told.found("").await.len(), 3, "one tenant's, newest first");
    let one = |id: &String| vec![id.clone()];
    for (query, expected) in [
        ("status=approved".to_owned(), one(&told.approved)),
        (
            "status=denied&tool=exec_command".to_owned(),
            one(&told.denied),
        ),
        ("status=denied&user=ana".to_owned(), vec![]),
        (format!("user={}", encoded(HOSTILE)), one(&told.denied)),
        ("program=ls".to_owned(), one(&told.approved)),
        (
            "decided_by=built_in&risk=low".to_owned(),
            one(&told.approved),
        ),
        (
            "session=s-ana&status=approved".to_owned(),
            one(&told.approved),
        ),
        ("q=usr".to_owned(), one(&told.approved)),
        ("q=look+around+rm".to_owned(), one(&told.denied)),
        (format!("q={}", encoded("\" OR text:ls")), vec![]),
        ("until=2020-01-01T00:00:00Z".to_owned(), vec![]),
        (
            "since=2020-01-01T00:00:00Z&program=ls".to_owned(),
            one(&told.approved),
        ),
    ] {
        assert_eq!(told.found(&query).await, expected, "{query}");
    }
    assert_eq!(told.found("since=2020-01-01T00:00:00Z").await.len(), 3);
    let first = told.get("/v1/reviews?limit=2&count=true").await.body;
    assert_eq!((&first["count"], &first["behind"]), (&json!(3), &json!(0)));
    let before = first["next_before"].as_str().expect("more");
    let rest = told.found(&format!("limit=2&before={before}")).await;
    assert_eq!(rest, one(&told.approved));
    let open = told.get("/v1/reviews?user=ana&nonsense=1").await;
    assert_eq!(open.told(), (400, "invalid_parameter"));
    told.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_s_whole_time_is_told_and_its_run_is_reported_once() {
    let told = told().await;
    let path = |rest: &str| format!("/v1/reviews/{}{rest}", told.approved);
    let report = json!({"action_digest": harmless().digest(), "exit_code": 3, "duration_ms": 12});
    let send = async |body: &Value| {
        let stage = &told.stage;
        let path = path("/ran");
        stage.call(&told.runner, "POST", &path, Some(body)).await
    };
    assert_eq!(send(&report).await.told(), (409, "not_redeemed"));
    let spend = redeem_body(harmless().digest(), Some("s-ana"));
    let spent = told
        .stage
        .call(&told.runner, "POST", &path("/redeem"), Some(&spend))
        .await;
    assert_eq!(spent.status, 200, "{:?}", spent.body);
    let other = with(
        report.clone(),
        &json!({"action_digest": harmful().digest()}),
    );
    assert_eq!(send(&other).await.told(), (409, "other_action"));
    let both = with(report.clone(), &json!({"signal": 9}));
    assert_eq!(send(&both).await.told(), (422, "invalid_body"));
    assert_eq!(send(&report).await.status, 204);
    assert_eq!(
        send(&report).await.status,
        204,
        "the same again changes nothing"
    );
    let again = with(report.clone(), &json!({"exit_code": 0}));
    assert_eq!(send(&again).await.told(), (409, "reported_before"));

    let detail = told.get(&path("?view=full")).await.body;
    let kinds: Vec<_> = detail["timeline"]
        .as_array()
        .expect("a timeline")
        .iter()
        .map(|event| event["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["opened", "approved", "redeemed", "ran"]);
    assert_eq!(detail["timeline"][3]["body"]["exit_code"], 3);
    assert_eq!(
        detail["question"]["action"]["command"],
        json!(["ls", "/usr"])
    );
    assert_eq!(detail["exhibit"]["built_in"]["outcome"], "allow");
    assert_eq!(detail["context"]["must_be_human"], false);
    // A chain goes on after what was reported, by the writer that did not know of it.
    let body = submission(&command(&["ls", "/"]));
    let body = with(body, &json!({"session": {"session_id": "s-ana"}}));
    let more = told
        .stage
        .call(&told.runner, "POST", "/v1/reviews", Some(&body))
        .await;
    assert_eq!(more.review_status(), "approved");
    assert_eq!(told.get("/v1/verify").await.body["holds"], true);
    told.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_count_each_review_once_however_often_they_are_asked_for() {
    let told = told().await;
    for _ in 0..3 {
        let stats = told.get("/v1/stats").await.body;
        assert_eq!(stats["reviews"], 3);
        assert_eq!(
            stats["by_status"],
            json!({"approved": 1, "denied": 1, "failed": 1})
        );
        assert_eq!(stats["denied_programs"], json!([["rm", 1]]));
        assert_eq!(stats["by_failed_step"], json!({"not_configured": 1}));
    }
    let narrowed = told.get("/v1/stats?user=ana").await;
    assert_eq!(
        narrowed.told(),
        (400, "invalid_parameter"),
        "never sums of something else"
    );
    let before = told.get("/v1/stats?until=2020-01-01T00:00:00Z").await.body;
    assert_eq!(
        (&before["reviews"], &before["not_judged_share"]),
        (&json!(0), &json!(null))
    );
    told.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_one_line_a_review_in_each_of_its_shapes() {
    let told = told().await;
    let export = async |query: &str| {
        let answered = told.get(&format!("/v1/export{query}")).await;
        assert_eq!(answered.status, 200, "{:?}", answered.body);
        answered.text
    };
    for format in ["jsonl", "ocsf", "opa"] {
        let text = export(&format!("?format={format}")).await;
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 3, "{format}");
        let id = match format {
            "jsonl" => &lines[1]["review_id"],
            "ocsf" => &lines[1]["metadata"]["uid"],
            _ => &lines[1]["decision_id"],
        };
        assert_eq!(id, &json!(told.denied), "{format}");
    }
    let ocsf: Value =
        serde_json::from_str(export("?format=ocsf&status=denied").await.trim()).expect("one line");
    // What the class "API Activity" (6003) of OCSF 1.3 requires.
    for required in [
        "activity_id",
        "actor",
        "api",
        "category_uid",
        "class_uid",
        "metadata",
        "severity_id",
        "src_endpoint",
        "time",
        "type_uid",
    ] {
        assert!(!ocsf[required].is_null(), "{required}");
    }
    assert_eq!(ocsf["type_uid"], 600_399);
    let csv = export("?format=csv&status=denied").await;
    let lines: Vec<_> = csv.split("\r\n").collect();
    assert_eq!((lines.len(), lines[2]), (3, ""));
    assert!(lines[1].contains("\"'=1+1"), "{}", lines[1]);
    assert!(!lines[1].contains('\u{1b}'));
    let wrong = told.get("/v1/export?format=xml").await;
    assert_eq!(wrong.told(), (400, "invalid_parameter"));
    told.stage.service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_by_force_shows() {
    for (what, sql) in [
        (
            "its hash",
            "DROP TRIGGER review_events_are_not_changed; UPDATE review_events SET body = replace(body, 'low', 'high') WHERE seq = 2",
        ),
        (
            "a line is missing",
            "DROP TRIGGER review_events_are_not_removed; DELETE FROM review_events WHERE seq = 3",
        ),
        (
            "a payload is not",
            "UPDATE review_requests SET context = '{}' WHERE review_no = 1",
        ),
        (
            "signed head is not this server's",
            "INSERT INTO signed_heads VALUES ('default', 1000, zeroblob(32), 0, 'forged')",
        ),
        (
            "does not stand",
            "UPDATE reviews SET status = 'approved' WHERE status = 'denied'",
        ),
    ] {
        let told = told().await;
        assert_eq!(told.get("/v1/verify").await.body["holds"], true);
        let options = SqliteConnectOptions::new().filename(told.stage.folder.database());
        let mut connection = options.connect().await.expect("a connection");
        sqlx::raw_sql(sql)
            .execute(&mut connection)
            .await
            .expect("forced");
        let verified = told.get("/v1/verify").await.body;
        assert_eq!(verified["holds"], false, "{sql}");
        let broken = verified["broken"][1].as_str().expect("a reason");
        assert!(broken.contains(what), "{broken}");
        told.stage.service.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_the_same_while_the_server_runs_and_a_copy_can_take_its_place() {
    let told = told().await;
    let run = |arguments: &[&str]| {
        let (code, out, err) = told.stage.program.output(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    };
    let table = run(&["history", "--where", "status=denied"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines[1].contains(&told.denied) && !table.contains('\u{1b}'),
        "{table}"
    );
    let page: Value = serde_json::from_str(&run(&["history", "--json"])).expect("JSON");
    assert_eq!(page["reviews"].as_array().map(Vec::len), Some(3));
    let shown: Value = serde_json::from_str(&run(&["show", &told.denied])).expect("JSON");
    assert_eq!(shown["timeline"][1]["kind"], "denied");
    assert_eq!(run(&["export", "--tenant", "acme"]).lines().count(), 1);
    assert!(run(&["stats"]).starts_with("reviews            3\n"));
    assert!(run(&["verify"]).contains("the record holds: 8 lines"));
    let copy = told.stage.folder.path("copy.db");
    let name = copy.to_str().expect("a name");
    assert!(run(&["backup", name]).contains("verified: 8 lines"));
    let (code, _, err) = told.stage.program.output(&["backup", name]);
    assert_eq!(code, 1, "an older copy is never written over: {err}");
    // The drill: what happens after the copy is lost, and all that was before is there.
    let last = submission(&command(&["ls", "/var"]));
    told.stage
        .call(&told.runner, "POST", "/v1/reviews", Some(&last))
        .await;
    told.stage.service.close().await;
    std::fs::rename(&copy, told.stage.folder.database()).expect("restored");
    for left in ["reviews.db-wal", "reviews.db-shm"] {
        std::fs::remove_file(told.stage.folder.path(left)).unwrap_or_default();
    }
    assert!(told.stage.program.output(&["verify"]).1.contains("8 lines"));
    let found = told.stage.program.output(&["history"]).1;
    assert_eq!(found.lines().count(), 4, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_nobody_reads_does_not_hold_the_server_up() {
    // Many times what is read ahead.
    const REVIEWS: usize = 24;
    let long = "/a".repeat(100_000);
    let stage = Stage::new().await;
    let (runner, auditor) = (stage.token(&[]), stage.token(&["--role", "auditor"]));
    for number in 0..REVIEWS {
        let session = json!({"session": {"session_id": format!("s-{number}")}});
        let asked = with(submission(&command(&["ls", &long])), &session);
        let answered = stage
            .call(&runner, "POST", "/v1/reviews", Some(&asked))
            .await;
        assert_eq!(answered.status, 200, "{}", answered.text);
    }
    let request = Request::get("/v1/export").header("authorization", format!("Bearer {auditor}"));
    let request = request.body(Body::empty()).expect("a request");
    let unread = stage.service.router().oneshot(request).await;
    let unread = unread.expect("an answer");
    assert_eq!(unread.status(), 200);
    // As much is read ahead as there is room for.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let closed = tokio::time::timeout(Duration::from_secs(5), stage.service.close()).await;
    assert!(closed.is_ok(), "it waits for a reader that does not read");
    drop(unread);
}

/// One list from its first page to its last: how many there are on each page, and all of them.
async fn listed(stage: &Stage, token: &str, query: &str) -> (Vec<usize>, Vec<String>) {
    let (mut pages, mut ids) = (Vec::new(), Vec::new());
    let mut cursor = String::new();
    for _ in 0..40 {
        let path = format!("/v1/reviews?{query}{cursor}");
        let page = stage.call(token, "GET", &path, None).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let reviews = page.body["reviews"].as_array().expect("a list");
        pages.push(reviews.len());
        ids.extend(reviews.iter().map(|entry| {
            let id = entry["review"]["review_id"].as_str().expect("an id");
            id.to_owned()
        }));
        match page.body["next_before"].as_str() {
            Some(before) => cursor = format!("&before={before}"),
            None => return (pages, ids),
        }
    }
    panic!("a list without an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_reviews_and_unread_exports_of_one_tenant_do_not_keep_anothers_list_waiting() {
    const LARGE: usize = 7;
    let told = told().await;
    let stage = &told.stage;
    let theirs = stage.token(&["--tenant", "acme"]);
    let auditor = stage.token(&["--tenant", "acme", "--role", "auditor"]);
    for token in [&theirs, &auditor] {
        // A new token counts as soon as the tokens are read again.
        let ask = || stage.call(token, "GET", "/v1/reviews", None);
        crate::harness::until(ask, |answered| answered.status == 200).await;
    }
    let long = "/a".repeat(350_000);
    for number in 0..LARGE {
        let session = json!({"session": {"session_id": format!("s-{number}")}});
        let asked = with(submission(&command(&["ls", &long])), &session);
        let answered = stage
            .call(&theirs, "POST", "/v1/reviews", Some(&asked))
            .await;
        assert_eq!(answered.status, 200, "{}", answered.text);
    }
    // A page ends where its bytes do, and the next one goes on behind it.
    for (token, query) in [
        (&auditor, "limit=200"),
        (&theirs, "limit=200"),
        (&auditor, "limit=200&host=h"),
    ] {
        let (pages, ids) = listed(stage, token, query).await;
        assert!(pages.iter().all(|page| (1..=6).contains(page)), "{pages:?}");
        assert!(ids.is_sorted_by(|newer, older| newer > older), "{query}");
        assert!(ids.len() >= LARGE, "{query}: {}", ids.len());
    }
    let mut unread = Vec::new();
    let mut refused = 0;
    for _ in 0..32 {
        let request = Request::get("/v1/export");
        let request = request.header("authorization", format!("Bearer {auditor}"));
        let request = request.body(Body::empty()).expect("a request");
        let answer = stage.service.router().oneshot(request).await;
        let answer = answer.expect("an answer");
        if answer.status() == 200 {
            unread.push(answer);
        } else {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
            refused += 1;
        }
    }
    assert_eq!((unread.len(), refused), (8, 24));
    // Others read as if nothing were: lists, words, exports, the chain.
    assert_eq!(told.found("user=ana").await.len(), 2);
    assert_eq!(told.get("/v1/export").await.text.lines().count(), 3);
    assert_eq!(told.get("/v1/verify").await.status, 200);
    // So does the tenant itself, but for what takes long.
    let (_, ids) = listed(stage, &auditor, "limit=200").await;
    assert!(ids.len() >= LARGE);
    drop(unread);
    let verify = crate::harness::until(
        || stage.call(&auditor, "GET", "/v1/verify", None),
        |answered| answered.status == 200,
    );
    assert_eq!(verify.await.body["holds"], true);
}
