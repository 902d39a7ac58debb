//! An unknown host that waits at the server for an approver, who says how long their yes holds.
//!
//! The hosts are names that nobody has (RFC 2606), so that an open one is told by its name's not being found.

use std::fs;

use harness::{Ran, Script, ScriptedModel, Stage, Started, TestServer, assessment, eventually};
use serde_json::{Value, json};

use super::peer::SETTINGS;

const OPEN: &str = "\"reason\":\"dns_failed\"\n";
const USER: &[&str] = &["-c", "approvals_reviewer=user"];
const HOST: &str = "http://nowhere.invalid/";

struct Queue {
    stage: Stage,
    server: TestServer,
    approver: String,
}

impl Queue {
    /// A server with `settings`, and a runner that puts what ends so in its queue.
    fn new(settings: &str, own: &str) -> Self {
        let (stage, server) = (Stage::new(), TestServer::with(settings));
        stage.ask(&server);
        let file = fs::read_to_string(stage.codex("agent-runner.toml")).expect("settings");
        stage.runner_settings(&format!(
            "{own}\n{file}[fallback]\non_failure = \"queue\"\n"
        ));
        stage.settings(SETTINGS);
        let approver = server.create_token_for("approver", "bob");
        Self {
            stage,
            server,
            approver,
        }
    }

    /// Asks for `url` where no terminal is.
    fn asks(&self, flags: &[&str], url: &str) -> Started {
        let script = format!("curl -s -m 60 {url} | grep -o '\"reason\":\"[a-z_]*\"'");
        let run = self.stage.exec(flags, &["sh", "-c", &script]);
        run.launched_by(["setsid", "--wait"]).start()
    }

    /// The same, with an approver's answer to the question that it makes.
    fn answered(&self, flags: &[&str], url: &str, more: &Value) -> Ran {
        let started = self.asks(flags, url);
        let review = eventually("a review waits for an approver", || {
            let told = self.call("GET", "/v1/waiting", None);
            told["reviews"].get(0).cloned()
        });
        assert_eq!(review["question"]["action"]["tool"], "network_access");
        let id = review["review"]["review_id"].as_str().expect("an id");
        let mut body = json!({
            "answer": "allow",
            "reason": "talked about it",
            "action_digest": review["review"]["action_digest"],
        });
        for (name, value) in more.as_object().expect("fields") {
            body[name] = value.clone();
        }
        let path = format!("/v1/reviews/{id}/answer");
        let told = self.call("POST", &path, Some(&body));
        assert_eq!(told["decided_by"], "person", "{told}");
        started.wait()
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.server
            .call_as(&self.approver, method, path, body)
            .value()
    }

    /// What is asked for is open, and nobody was asked.
    fn stands_open(&self, flags: &[&str], url: &str) -> bool {
        let ran = self.asks(flags, url).wait();
        ran.text() == OPEN && ran.reported("/network/reviews/0/holds") == "session"
    }
}

fn session(name: &'static str) -> Vec<&'static str> {
    [USER, &["--session", name]].concat()
}

#[test]
fn an_approvers_yes_holds_for_the_command_or_for_the_session_as_they_say() {
    let queue = Queue::new("", "");
    let same = session("s-1");
    for once in [json!({}), json!({"scope": "once"})] {
        let ran = queue.answered(&same, HOST, &once);
        assert_eq!(ran.text(), OPEN, "{}", ran.stderr);
        assert_eq!(ran.reported("/network/reviews/0/holds"), "command");
    }
    // It was for that command: it is asked again, and now answered for the session.
    let ran = queue.answered(&same, HOST, &json!({"scope": "session"}));
    assert_eq!(ran.text(), OPEN, "{}", ran.stderr);
    assert_eq!(ran.reported("/network/reviews/0/holds"), "session");
    let journal = queue.stage.journal();
    let kept: Vec<_> = journal
        .iter()
        .filter(|entry| entry["event"]["kind"] == "host_allowed")
        .map(|entry| &entry["event"]["holds"])
        .collect();
    assert_eq!(kept, [&json!("session")], "on record before it is kept");
    assert!(queue.stands_open(&same, HOST));
    // Another port and another session are other questions, and a no is a no.
    for (flags, url) in [
        (&same, "http://nowhere.invalid:8080/"),
        (&session("s-2"), HOST),
    ] {
        let ran = queue.answered(flags, url, &json!({"answer": "deny"}));
        assert_eq!(ran.text(), "\"reason\":\"review_denied\"\n", "{url}");
    }
    let rules = queue.stage.codex("rules/default.rules");
    assert!(!rules.exists(), "always is the user's own to say");
}

#[test]
fn a_person_narrows_what_the_settings_give_a_reviewers_yes() {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    let own = "host_approvals = \"session\"";
    // What no model judges waits for a person, whose yes holds as long as they say.
    let queue = Queue::new("", own);
    let auto = ["--session", "s-1"];
    for (scope, holds) in [
        (json!({"scope": "once"}), "command"),
        (json!({}), "command"),
        (json!({"scope": "session"}), "session"),
    ] {
        let ran = queue.answered(&auto, HOST, &scope);
        // How the reviewer left it, and what the person said.
        assert_eq!(ran.reported("/network/reviews/0/status"), "failed");
        assert_eq!(ran.reported("/network/reviews/1/status"), "approved");
        assert_eq!(ran.reported("/network/reviews/1/holds"), holds);
    }
    drop(queue);
    let queue = Queue::new(&model.table("openai-chat"), own);
    let ran = queue.asks(&auto, HOST).wait();
    assert_eq!(ran.text(), OPEN, "{}", ran.stderr);
    assert_eq!(ran.reported("/network/reviews/0/holds"), "session");
}
