//! What runners tell of their doors: once, within bounds, in the chain, and seen by nobody whom it does not concern.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{harmless, network_report, submission, with};
use crate::roles::Stage;

const PATH: &str = "/v1/network-reports";

fn runs(body: &Value) -> Vec<&str> {
    let reports = body["reports"].as_array().expect("reports");
    let runs = reports.iter().map(|it| it["report"]["execution"].as_str());
    runs.map(|run| run.expect("a name")).collect()
}

#[tokio::test]
async fn a_run_is_told_once_and_seen_by_who_told_it_and_by_auditors_of_the_tenant() {
    let stage = Stage::new().await;
    let (code, _, err) = stage.program.output(&["tenant", "create", "acme"]);
    assert_eq!(code, 0, "{err}");
    let mine = stage.token(&["--name", "mine"]);
    let other = stage.token(&["--name", "other"]);
    let auditor = stage.token(&["--role", "auditor"]);
    let stranger = stage.token(&["--tenant", "acme", "--role", "auditor", "--role", "runner"]);
    let tell = async |token: &str, body: &Value| stage.call(token, "POST", PATH, Some(body)).await;
    let report = network_report("run-1");
    for _again in 0..2 {
        assert_eq!(tell(&mine, &report).await.status, StatusCode::NO_CONTENT);
    }
    let otherwise = with(report.clone(), &json!({"refused": 0}));
    assert_eq!(
        tell(&mine, &otherwise).await.told(),
        (409, "reported_before")
    );
    // The same name of another caller or tenant is another run.
    for token in [&other, &stranger] {
        assert_eq!(tell(token, &otherwise).await.status, StatusCode::NO_CONTENT);
    }
    let list = async |token: &str, query: &str| {
        let path = format!("{PATH}{query}");
        stage.call(token, "GET", &path, None).await.body
    };
    assert_eq!(runs(&list(&mine, "").await), ["run-1"]);
    assert_eq!(runs(&list(&auditor, "").await), ["run-1", "run-1"]);
    assert_eq!(runs(&list(&stranger, "").await), ["run-1"]);
    let seen = list(&auditor, "?refused=true").await;
    assert_eq!(runs(&seen).len(), 1);
    assert_eq!(seen["reports"][0]["report"], report);
    for (query, found) in [
        ("?host=b.example", 2),
        ("?host=c.example", 0),
        ("?session=s-1", 2),
        ("?session=s-2", 0),
        ("?refused=false", 2),
    ] {
        assert_eq!(runs(&list(&auditor, query).await).len(), found, "{query}");
    }
    let (code, out, err) = stage.program.output(&["verify"]);
    assert_eq!(code, 0, "{out}{err}");
    stage.service.close().await;
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let stage = Stage::new().await;
    let token = stage.token(&[]);
    for run in ["a", "b", "c", "d", "e"] {
        let told = stage
            .call(&token, "POST", PATH, Some(&network_report(run)))
            .await;
        assert_eq!(told.status, StatusCode::NO_CONTENT);
    }
    let mut found = Vec::new();
    let mut path = format!("{PATH}?limit=2");
    for _page in 0..5 {
        let page = stage.call(&token, "GET", &path, None).await.body;
        found.extend(runs(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("{PATH}?limit=2&before={next}");
    }
    assert_eq!(found, ["e", "d", "c", "b", "a"]);
    for wrong in [
        "?limit=0",
        "?limit=201",
        "?before=0",
        "?host=",
        "?unknown=1",
    ] {
        let path = format!("{PATH}{wrong}");
        let refused = stage.call(&token, "GET", &path, None).await;
        assert_eq!(refused.told(), (400, "invalid_parameter"), "{wrong}");
    }
    let (code, out, err) = stage.program.output(&["network", "--limit", "2"]);
    assert_eq!((code, out.lines().count()), (0, 5), "{out}{err}");
    assert!(out.contains("b.example:443"), "{out}");
    let (_, out, _) = stage
        .program
        .output(&["network", "--json", "--host", "a.example"]);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(runs(&listed).len(), 5);
    stage.service.close().await;
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_leaves_nothing() {
    let stage = Stage::new().await;
    let token = stage.token(&[]);
    let one = network_report("r")["decisions"][0].clone();
    let long = "x".repeat(321);
    let many: Vec<_> = std::iter::repeat_n(one.clone(), 65).collect();
    let addresses: Vec<_> = std::iter::repeat_n("198.51.100.7", 9).collect();
    for wrong in [
        json!({"decisions": many}),
        json!({"program": long}),
        json!({"execution": long}),
        json!({"decisions": [with(one.clone(), &json!({"host": long}))]}),
        json!({"decisions": [with(one.clone(), &json!({"addresses": addresses}))]}),
        json!({"decisions": [with(one.clone(), &json!({"port": 70_000}))]}),
        json!({"decisions": [with(one.clone(), &json!({"url": "https://a.example/secret"}))]}),
        json!({"program": "a\u{1b}[2J"}),
        json!({"decisions": [with(one.clone(), &json!({"host": "a\nb.example"}))]}),
        json!({"decisions": std::iter::repeat_n(with(one.clone(), &json!({"rule": "x".repeat(320), "host": "x".repeat(320)})), 60).collect::<Vec<_>>()}),
        json!({"review_id": "0190e1e0-0000-7000-8000-000000000000"}),
        json!({"refused": -1}),
        json!({"more": 1}),
    ] {
        let body = with(network_report("r"), &wrong);
        let refused = stage.call(&token, "POST", PATH, Some(&body)).await;
        assert_eq!(refused.status.as_u16() / 100, 4, "{wrong}");
    }
    let page = stage.call(&token, "GET", PATH, None).await.body;
    assert_eq!(page, json!({"reports": [], "next": null}));
    stage.service.close().await;
}

/// A report of about 30 KB.
fn long_report(run: &str) -> Value {
    let one = network_report(run)["decisions"][0].clone();
    let decisions: Vec<_> = (0..60)
        .map(|number| {
            let host = format!("{number}.{}.example", "x".repeat(230));
            with(one.clone(), &json!({"host": host}))
        })
        .collect();
    with(network_report(run), &json!({"decisions": decisions}))
}

#[tokio::test]
async fn pages_end_by_their_bytes_and_the_log_does_not_grow_by_reports_alone() {
    const REPORTS: usize = 500;
    let stage = Stage::new().await;
    let token = stage.token(&[]);
    for run in 0..REPORTS {
        let body = long_report(&run.to_string());
        let told = stage.call(&token, "POST", PATH, Some(&body)).await;
        assert_eq!(told.status, StatusCode::NO_CONTENT, "{:?}", told.body);
    }
    let mut wal = stage.folder.database().into_os_string();
    wal.push("-wal");
    let log = std::fs::metadata(&wal).expect("a log").len();
    assert!(log < 12 << 20, "{log} bytes of log");
    let (mut found, mut pages) = (0, 0);
    let mut path = format!("{PATH}?limit=200");
    loop {
        let page = stage.call(&token, "GET", &path, None).await.body;
        assert!(page.to_string().len() < 2 << 20);
        found += runs(&page).len();
        pages += 1;
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("{PATH}?limit=200&before={next}");
    }
    assert_eq!(found, REPORTS);
    assert!(pages > 3, "{pages}");
    stage.service.close().await;
}

#[tokio::test]
async fn nobody_reports_into_anothers_session() {
    let stage = Stage::new().await;
    let [mine, other] = ["mine", "other"].map(|name| stage.token(&["--name", name]));
    let question = submission(&harmless());
    let asked = with(question, &json!({"session": {"session_id": "s-1"}}));
    let asked = stage.call(&mine, "POST", "/v1/reviews", Some(&asked)).await;
    let id = asked.body["review_id"].clone();
    assert!(id.is_string(), "{}", asked.body);
    let report = network_report("r");
    let refused = stage.call(&other, "POST", PATH, Some(&report)).await;
    assert_eq!(refused.told(), (403, "session_taken"));
    let about = with(
        report,
        &json!({"review_id": id, "session": {"session_id": "s-2"}}),
    );
    let refused = stage.call(&other, "POST", PATH, Some(&about)).await;
    assert_eq!(refused.told(), (422, "invalid_body"));
    let own = stage.call(&mine, "POST", PATH, Some(&about)).await;
    assert_eq!(own.status, StatusCode::NO_CONTENT);
    stage.service.close().await;
}
