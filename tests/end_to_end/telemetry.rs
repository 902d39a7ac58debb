//! What is told to a collector: of a run, of its review, in one trace from the runner to the model; and what is not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness::{
    Answer, Loopback, Reply, Request, Script, ScriptedModel, Stage, TestServer, assessment,
};
use serde_json::{Value, json};

/// What is typed and may be told to nobody.
const CANARY: &str = "canary-5d1c";

/// A collector of `otlp-http` in JSON.
struct Collector {
    loopback: Loopback,
    exports: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    fn start() -> Self {
        let exports: Arc<Mutex<Vec<Request>>> = Arc::default();
        let taken = Arc::clone(&exports);
        let loopback = Loopback::start(move |request| {
            let mut all = taken.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(request);
            Answer::Reply(Reply::json(200, &json!({})))
        });
        Self { loopback, exports }
    }

    /// The `[otel]` that leads here.
    fn table(&self) -> String {
        let exporter = |signal: &str| {
            let url = self.loopback.url();
            format!(
                "{{ otlp-http = {{ endpoint = \"{url}/v1/{signal}\", protocol = \"json\", headers = {{ x-key = \"${{COLLECTOR_KEY}}\" }} }} }}"
            )
        };
        format!(
            "[otel]\nexporter = {}\ntrace_exporter = {}\nmetrics_exporter = {}\n",
            exporter("logs"),
            exporter("traces"),
            exporter("metrics")
        )
    }

    fn exports(&self) -> Vec<Request> {
        let all = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// Each log record, as name to value of its attributes.
    fn events(&self) -> Vec<Value> {
        let exports = self.exports();
        let logs = exports.iter().filter(|it| it.target == "/v1/logs");
        let records = logs.flat_map(|it| {
            let body = it.json();
            let records = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
            records.as_array().cloned().unwrap_or_default()
        });
        let maps = records.map(|record| {
            let pairs = record["attributes"].as_array().into_iter().flatten();
            let pairs = pairs.map(|pair| {
                let key = pair["key"].as_str().unwrap_or_default().to_owned();
                (key, pair["value"]["stringValue"].clone())
            });
            let mut map: serde_json::Map<String, Value> = pairs.collect();
            map.insert("trace".to_owned(), record["traceId"].clone());
            Value::Object(map)
        });
        maps.collect()
    }

    fn event(&self, name: &str) -> Value {
        let events = self.events();
        let found = events.iter().find(|event| event["event.name"] == name);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no `{name}` in {events:#?}"))
    }
}

#[test]
fn a_run_and_its_review_are_told_in_one_trace_without_what_was_typed() {
    let (of_runner, of_server) = (Collector::start(), Collector::start());
    let model = ScriptedModel::start(Script::Says(assessment("deny", "high", "low")));
    let server_table = of_server.table().replace("${COLLECTOR_KEY}", "k-2");
    let server = TestServer::with(&format!("{}{server_table}", model.table("openai-chat")));
    let stage = Stage::new();
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\napproval_policy = \"on-request\"\napprovals_reviewer = \"auto_review\"\n{}",
        of_runner.table()
    ));
    stage.ask(&server);
    let (mut command, _) = stage.canary_script();
    command.push(CANARY.to_owned());
    let ran = stage.escalate(&command).env("COLLECTOR_KEY", "k-1").ran();
    assert_eq!(ran.code(), 126, "{}", ran.text());

    let decision = of_runner.event("codex.tool_decision");
    assert_eq!(
        (&decision["decision"], &decision["source"]),
        (&json!("denied"), &json!("AutomatedReviewer"))
    );
    let result = of_runner.event("codex.tool_result");
    assert_eq!(
        (&result["success"], &result["arguments"]),
        (&json!("false"), &json!("[REDACTED]"))
    );
    assert_eq!(
        of_runner.event("codex.conversation_starts")["approval_policy"],
        "on-request"
    );
    let trace = decision["trace"].as_str().expect("a trace").to_owned();
    let asked = model.asked();
    let at_model = asked.first().and_then(|it| it.header("traceparent"));
    assert!(
        at_model.is_some_and(|it| it.contains(&trace)),
        "{at_model:?}"
    );
    let mut server = server;
    server.terminate();
    let review = of_server.event("codex.guardian_assessment");
    assert_eq!(review["trace"], json!(trace));
    assert_eq!(review["review.id"], decision["review.id"]);
    for (collector, key) in [(&of_runner, "k-1"), (&of_server, "k-2")] {
        let exports = collector.exports();
        for signal in ["/v1/logs", "/v1/traces", "/v1/metrics"] {
            assert!(exports.iter().any(|it| it.target == signal), "{signal}");
        }
        for export in exports {
            assert_eq!(export.header("x-key"), Some(key));
            let text = String::from_utf8_lossy(&export.body).into_owned();
            assert!(!text.contains(CANARY), "{text}");
        }
    }
}

#[test]
fn a_command_runs_the_same_with_a_collector_that_hangs_and_never_has_its_key() {
    // The kernel accepts; nobody reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let stage = Stage::new();
    let settings = format!(
        "sandbox_mode = \"workspace-write\"\n[otel]\nexporter = {{ otlp-http = {{ endpoint = \"http://{address}/v1/logs\", protocol = \"binary\", \
         headers = {{ x-key = \"${{COLLECTOR_KEY}}\" }} }} }}\n"
    );
    stage.settings(&settings);
    let begun = Instant::now();
    let ran = stage
        .exec(&[], &["/usr/bin/env"])
        .env("COLLECTOR_KEY", CANARY)
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.text());
    assert!(!ran.text().contains(CANARY), "{}", ran.text());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    // A variable that is not set is told, and stops nothing.
    let ran = stage.exec(&[], &["true"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.text());
    assert!(
        ran.reported("/notes").contains("COLLECTOR_KEY"),
        "{}",
        ran.reported("/notes")
    );
}

#[test]
fn each_tool_of_the_runner_is_told_by_its_name() {
    let collector = Collector::start();
    let stage = Stage::new();
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\napproval_policy = \"never\"\n\
         [features]\nrequest_permissions_tool = true\n{}",
        collector.table()
    ));
    let run = |arguments: &[&str], input: &str| {
        let run = stage.runner().args(arguments).env("COLLECTOR_KEY", "k-1");
        run.stdin(input).ran()
    };
    let patch = format!("*** Begin Patch\n*** Add File: new.txt\n+{CANARY}\n*** End Patch\n");
    std::fs::create_dir_all(stage.home("x")).expect("a folder");
    let wanted = format!(
        "{{\"file_system\":{{\"write\":[\"{}\"]}}}}",
        stage.home("x").display()
    );
    for (tool, arguments, input, code) in [
        (
            "exec_command",
            &["sandbox", "--", "sh", "-c", "exit 3"][..],
            "",
            3,
        ),
        ("apply_patch", &["apply-patch"], patch.as_str(), 0),
        (
            "request_permissions",
            &[
                "request-permissions",
                "--session",
                "s-1",
                "--scope",
                "session",
                "--permissions",
                &wanted,
            ],
            "",
            126,
        ),
    ] {
        let before = collector.events().len();
        let ran = run(arguments, input);
        assert_eq!(ran.code(), code, "{tool}: {}", ran.stderr);
        let told = collector.events().split_off(before);
        let named = |name: &str| {
            let mut events = told.iter();
            let found = events.find(|event| event["event.name"] == name);
            found
                .cloned()
                .unwrap_or_else(|| panic!("no `{name}` in {told:#?}"))
        };
        let result = named("codex.tool_result");
        assert_eq!(result["tool_name"], tool);
        assert_eq!(result["success"], json!((code == 0).to_string()), "{tool}");
        assert_eq!(named("codex.tool_decision")["tool_name"], tool);
    }
    let told = format!("{:?}", collector.events());
    assert!(!told.contains(CANARY), "{told}");
}

#[test]
fn what_the_door_decides_is_told_without_paths() {
    let collector = Collector::start();
    let stage = Stage::new();
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\napproval_policy = \"never\"\n\
         [sandbox_workspace_write]\nnetwork_access = true\n\
         [features.network_proxy]\nenabled = true\ndomains = {{ \"denied.test\" = \"deny\" }}\n{}",
        collector.table()
    ));
    let script = format!("curl -s -m 20 -o /dev/null http://denied.test:8080/{CANARY}");
    let ran = stage
        .exec(&[], &["sh", "-c", &script])
        .env("COLLECTOR_KEY", "k-1")
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let told = collector.event("codex.network_proxy.policy_decision");
    for (name, value) in [
        ("network.policy.scope", "domain"),
        ("network.policy.decision", "deny"),
        ("network.policy.source", "baseline_policy"),
        ("network.policy.reason", "denied"),
        ("network.policy.rule", "denied.test"),
        ("network.transport.protocol", "http"),
        ("server.address", "denied.test"),
        ("server.port", "8080"),
        ("http.request.method", "GET"),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    assert_eq!(told["execution.id"], ran.report["network"]["execution"]);
    assert!(!told.to_string().contains(CANARY), "{told}");
}
