//! Policies on their way: judged alongside, staged, in force, taken back; at a running server, by people who are named.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Answered, Folder, Program, Server, SilentModel, harmless, raw, submission, unclear, until, with,
};
use crate::policy::candidate;

/// A server that runs, with what people need to work on its policy.
struct House {
    folder: Folder,
    program: Program,
    server: Server,
    runner: String,
    auditor: String,
    author: String,
}

impl House {
    fn new(settings: &str) -> Self {
        let folder = Folder::new();
        let program = Program::new(&folder, settings);
        let token = |arguments: &[&str]| {
            let (code, out, err) = program.output(&[&["token", "create"], arguments].concat());
            assert_eq!(code, 0, "{err}");
            out.trim().to_owned()
        };
        let runner = token(&[]);
        let auditor = token(&["--role", "auditor"]);
        let author = token(&["--role", "policy-author", "--person", "ana"]);
        let server = program.serve();
        Self {
            folder,
            program,
            server,
            runner,
            auditor,
            author,
        }
    }

    /// A change on the command line; what it says is in force then.
    fn policy(&self, arguments: &[&str]) -> String {
        let by = ["--author", "ana", "--reason", "to see"];
        let (code, out, err) = self.program.output(&[&["policy"], arguments, &by].concat());
        assert_eq!(code, 0, "{err}");
        out
    }

    async fn ask(&self, action: &protocol::Action, session: &str) -> Answered {
        // A turn of its own: nothing here is about too many denials.
        let turn = uuid::Uuid::new_v4().to_string();
        let changes = json!({"session": {"session_id": session, "turn_id": turn}});
        let body = with(submission(action), &changes);
        self.server.post(&self.runner, "/v1/reviews", &body).await
    }

    /// Asks in new sessions until one ends so.
    async fn asked_until(&self, action: &protocol::Action, status: &str) -> Answered {
        let ask = || async {
            let session = uuid::Uuid::new_v4().to_string();
            self.ask(action, &session).await
        };
        until(ask, |told| told.review_status() == status).await
    }

    async fn timeline(&self, token: &str, id: &str) -> Vec<Value> {
        let path = format!("/v1/reviews/{id}?view=full");
        let detail = self.server.get(token, &path).await;
        detail.body["timeline"].as_array().expect("a list").clone()
    }

    /// The sums of what judged alongside, once `wanted` says that they are enough.
    async fn shadows(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let ask = || self.server.get(&self.auditor, "/v1/stats");
        let enough = |told: &Answered| {
            let shadows = told.body["shadows"].as_object().expect("sums");
            shadows.values().next().is_some_and(&wanted)
        };
        let told = until(ask, enough).await.body;
        let shadows = told["shadows"].as_object().expect("sums");
        shadows.values().next().expect("one").clone()
    }
}

const DENIES: &str = "[policy]\ndeny = [\"tool:tickets/close\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_would_allow_what_binds_as_denied_lets_nothing_through() {
    let house = House::new("[policy]\ndeny = [\"program:ls\"]\n");
    let lax = candidate(&house.folder, "");
    let told = house.policy(&["shadow", "--with", &lax]);
    assert!(told.contains("shadow    sha256:"), "{told}");
    let kinds = |timeline: &[Value]| -> Vec<String> {
        let kinds = timeline
            .iter()
            .map(|it| it["kind"].as_str().expect("a kind"));
        kinds.map(str::to_owned).collect()
    };
    // The server takes it up within a second.
    let mut seen = None;
    for _ in 0..100 {
        let denied = house.ask(&harmless(), "s-1").await;
        assert_eq!(denied.review_status(), "denied", "{:?}", denied.body);
        let id = denied.id();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let timeline = house.timeline(&house.auditor, &id).await;
        if kinds(&timeline) == ["opened", "denied", "shadowed"] {
            seen = Some((id, timeline));
            break;
        }
    }
    let (id, timeline) = seen.expect("it judged alongside");
    let body = &timeline[2]["body"];
    assert_eq!(
        (&body["agrees"], &body["verdict"]["status"]),
        (&json!(false), &json!("approved"))
    );
    let own = house.timeline(&house.runner, &id).await;
    assert_eq!(
        kinds(&own),
        ["opened", "denied"],
        "what is to come is not for who asks"
    );
    let path = format!("/v1/reviews/{id}");
    let told = house.server.get(&house.runner, &path).await;
    assert_eq!(
        (told.review_status(), &told.body["outcome"]),
        ("denied", &json!("deny"))
    );
    let spend = json!({"action_digest": harmless().digest(), "session_id": "s-1"});
    let path = format!("/v1/reviews/{id}/redeem");
    let refused = house.server.post(&house.runner, &path, &spend).await;
    assert_eq!(refused.told(), (409, "not_approved"));
    let sums = house
        .shadows(|it| it["flipped"]["denied>approved"].as_i64() >= Some(1))
        .await;
    assert_eq!((&sums["agreed"], &sums["failed"]), (&json!(0), &json!(0)));
    let (code, out, err) = house.program.output(&["verify"]);
    assert_eq!(code, 0, "{out} {err}");
    let table = house.program.output(&["stats"]).1;
    assert!(table.contains("0 agreed, "), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_slows_nothing_changes_nothing_and_is_bounded() {
    let model = SilentModel::new();
    let shadow = model
        .settings()
        .replace("reviewer.model", "shadow.reviewer.model");
    let settings = format!("[shadow]\nat_once = 1\n{shadow}");
    let mut house = House::new(&settings);
    // Under a section of its own, what the built-in rules allow is a model's to judge.
    let own = candidate(
        &house.folder,
        "[policy]\nmode = \"replace\"\nsection = \"Ask about everything.\"\n",
    );
    house.policy(&["shadow", "--with", &own]);
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        let told = house.asked_until(&harmless(), "approved").await;
        slowest = slowest.max(asked.elapsed());
        let timeline = house.timeline(&house.auditor, &told.id()).await;
        assert_eq!(timeline.len(), 2, "{timeline:?}");
    }
    // The model never answers, and a review's time is 90 s.
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    let sums = house.shadows(|it| it["skipped"].as_i64() > Some(0)).await;
    assert_eq!(
        (&sums["agreed"], &sums["flipped"]),
        (&json!(0), &json!({})),
        "what did not come off says nothing either way"
    );
    let begun = Instant::now();
    assert_eq!(house.server.terminate(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it waited for the shadow"
    );
    let (code, out, err) = house.program.output(&["verify"]);
    assert_eq!(code, 0, "{out} {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_staged_for_some_sessions_then_in_force_then_taken_back() {
    let house = House::new("");
    let before = house.ask(&unclear(), "s-0").await;
    assert_eq!(before.end(), "failed/not_configured/no_model");
    let stricter = candidate(&house.folder, DENIES);
    let told = house.policy(&["stage", "--with", &stricter, "--percent", "40"]);
    assert!(told.contains("40 % of sessions"), "{told}");
    let denied = house.asked_until(&unclear(), "denied").await;
    let staged = denied.body["policy_revision"].clone();
    assert_ne!(staged, before.body["policy_revision"]);
    let mut met = std::collections::BTreeMap::new();
    for n in 0..30 {
        let session = format!("s-{n}");
        let first = house.ask(&unclear(), &session).await.body["policy_revision"].clone();
        let again = house.ask(&unclear(), &session).await.body["policy_revision"].clone();
        assert_eq!(first, again, "a session is judged by one policy");
        *met.entry(first.to_string()).or_insert(0) += 1;
    }
    assert_eq!(met.len(), 2, "some meet it, and some do not: {met:?}");

    let told = house.policy(&["activate"]);
    assert!(!told.contains("staged"), "{told}");
    let all = || async {
        let mut last = house.ask(&unclear(), "s-0").await;
        for n in 1..12 {
            let told = house.ask(&unclear(), &format!("s-{n}")).await;
            if told.review_status() != "denied" {
                last = told;
            }
        }
        last
    };
    until(all, |told| told.review_status() == "denied").await;
    house.policy(&["rollback"]);
    let back = until(
        async || house.ask(&unclear(), "s-0").await,
        |told| told.review_status() == "failed",
    )
    .await;
    assert_eq!(back.body["policy_revision"], before.body["policy_revision"]);
    let (code, log, err) = house.program.output(&["policy", "log"]);
    assert_eq!(code, 0, "{err}");
    let steps: Vec<_> = log
        .lines()
        .skip(1)
        .filter_map(|it| it.split_whitespace().nth(2))
        .collect();
    assert_eq!(steps, ["rollback", "activate", "stage", "settings"]);
    assert!(
        log.lines().nth(1).is_some_and(|it| it.contains("ana")),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_somebody_wrote_into_the_database_stops_the_tenant_and_allows_nothing() {
    let house = House::new("[policy]\ndeny = [\"program:ls\"]\n");
    let lax = candidate(&house.folder, "");
    let (code, _, err) = house
        .program
        .output(&["policy", "record", "--author", "eve", "--with", &lax]);
    assert_eq!(code, 0, "{err}");
    house.policy(&[
        "activate",
        "--with",
        &candidate(
            &house.folder,
            "[policy]\ndeny = [\"program:ls\", \"program:dd\"]\n",
        ),
    ]);
    let mut database = raw(&house.folder.database()).await;
    sqlx::query(
        "INSERT INTO policy_changes SELECT c.tenant_id, 3, c.at, c.author, c.reason, c.what, p.revision, c.body_digest, NULL, \
         NULL, c.signature FROM policy_changes c JOIN policies p ON p.author = 'eve' WHERE c.number = 2",
    )
    .execute(&mut database)
    .await
    .expect("written");
    let stopped = until(
        async || house.ask(&harmless(), "s-1").await,
        |told| {
            assert_ne!(told.review_status(), "approved", "{:?}", told.body);
            told.status == 503
        },
    )
    .await;
    assert_eq!(stopped.code(), "store_failed");
    assert_eq!(house.program.output(&["policy", "log"]).0, 1);
    let told = house.server.get(&house.author, "/v1/policies").await;
    assert_eq!(told.told(), (503, "store_failed"));
    for changed in [
        "UPDATE policy_changes SET author = 'x'",
        "DELETE FROM policy_changes",
    ] {
        let refused = sqlx::query(changed).execute(&mut database).await;
        assert!(refused.is_err(), "{changed}");
    }
}

const KEEP: &str = "/v1/policies";
const CHANGE: &str = "/v1/policies/changes";

impl House {
    async fn sent(&self, path: &str, body: &Value) -> Answered {
        self.server.post(&self.author, path, body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_author_does_it_over_http() {
    let house = House::new("");
    let policy = json!({"policy": {"deny": ["tool:tickets/close"]}});
    let kept = house.sent(KEEP, &policy).await;
    assert_eq!(
        (kept.status.as_u16(), &kept.body["author"]),
        (201, &json!("ana"))
    );
    assert_eq!(kept.body["stands"], json!([]), "it binds nobody yet");
    let revision = kept.body["revision"].as_str().expect("a revision");
    assert_eq!(house.ask(&unclear(), "s-1").await.review_status(), "failed");
    let activate = json!({"step": "activate", "revision": revision, "reason": "agreed"});
    let active = house.sent(CHANGE, &activate).await;
    assert_eq!(active.status, 200, "{:?}", active.body);
    assert_eq!(active.body["changes"][0]["author"], "ana");
    // At once, at the server that was told.
    assert_eq!(house.ask(&unclear(), "s-1").await.review_status(), "denied");
    let path = format!("/v1/policies/{revision}");
    let shown = house.server.get(&house.author, &path).await.body;
    assert_eq!(shown["policy"]["stands"], json!(["in_force"]));
    let text = shown["text"].as_str().expect("a text");
    assert!(text.contains("`tool:tickets/close`"), "{text}");
    let rollback = json!({"step": "rollback", "reason": "r"});
    let refused = house.server.post(&house.runner, CHANGE, &rollback).await;
    assert_eq!(refused.told(), (403, "role_missing"));
    assert_eq!(house.sent(CHANGE, &rollback).await.status, 200);
    assert_eq!(house.ask(&unclear(), "s-1").await.review_status(), "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_author_sends_text_and_rules_alone_and_no_step_that_cannot_follow() {
    let house = House::new("");
    for wrong in [
        json!({"policy": {"section_file": "/etc/passwd"}}),
        json!({"policy": {}, "reviewer": {"model": []}}),
        json!({"policy": {"deny": ["rm"]}}),
        json!({"policy": {"section": " "}}),
        json!({"policy": {"mode": "none"}}),
    ] {
        let refused = house.sent(KEEP, &wrong).await;
        assert_eq!(refused.told(), (422, "invalid_body"), "{wrong}");
    }
    let kept = house
        .sent(KEEP, &json!({"policy": {"deny": ["program:dd"]}}))
        .await;
    let kept = kept.body["revision"].clone();
    for (wrong, status) in [
        (json!({"step": "activate", "revision": "sha256:0"}), 404),
        (json!({"step": "activate"}), 409),
        (json!({"step": "rollback"}), 409),
        (json!({"step": "shadow"}), 409),
        (json!({"step": "rollback", "revision": kept}), 422),
        (json!({"step": "stage", "revision": kept}), 422),
        (
            json!({"step": "stage", "revision": kept, "percent": 0}),
            422,
        ),
        (
            json!({"step": "activate", "revision": kept, "reason": " "}),
            422,
        ),
        (
            json!({"step": "activate", "revision": kept, "percent": 5}),
            422,
        ),
    ] {
        let body = with(json!({"reason": "agreed"}), &wrong);
        assert_eq!(house.sent(CHANGE, &body).await.status, status, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_changed_are_in_force_at_the_next_start_and_what_was_activated_outlives_one()
{
    let mut house = House::new("");
    let stricter = candidate(&house.folder, DENIES);
    house.policy(&["activate", "--with", &stricter]);
    house.asked_until(&unclear(), "denied").await;
    assert_eq!(house.server.terminate(), Some(0));
    house.server = house.program.serve();
    assert_eq!(
        house.ask(&unclear(), "s-1").await.review_status(),
        "denied",
        "from the first one on"
    );
    assert_eq!(house.server.terminate(), Some(0));
    house.program = Program::new(&house.folder, "[policy]\ndeny = [\"program:ls\"]\n");
    house.server = house.program.serve();
    assert_eq!(house.ask(&unclear(), "s-1").await.review_status(), "failed");
    assert_eq!(
        house.ask(&harmless(), "s-1").await.review_status(),
        "denied"
    );
    let log = house.program.output(&["policy", "log"]).1;
    let last = log.lines().nth(1).expect("a line");
    assert!(last.contains("settings"), "{log}");
    house.policy(&["rollback"]);
    house.asked_until(&unclear(), "denied").await;
}
