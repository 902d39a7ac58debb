//! Attacks, one promise each: what a command, a transcript, an answer or a folder could do to cross without leave.

use std::path::PathBuf;

use harness::{Proxy, Ran, Script, ScriptedModel, Stage, TestServer, assessment};

mod approvals;
mod descriptors;
mod environment;
mod folders;
mod forgery;
mod secrets;
mod swaps;

/// A stage whose reviewer is a server with a model that says yes to everything, and a recorder between.
struct Trusting {
    stage: Stage,
    server: TestServer,
    proxy: Proxy,
    model: ScriptedModel,
}

impl Trusting {
    fn new() -> Self {
        Self::with(Script::Says(assessment("allow", "low", "unknown")))
    }

    fn with(script: Script) -> Self {
        let (stage, model) = (Stage::new(), ScriptedModel::start(script));
        let tables = format!(
            "[reviewer]\ndeadline_secs = 40\n{}",
            model.table("openai-chat")
        );
        let server = TestServer::with(&tables);
        let proxy = Proxy::recording(server.address());
        stage.ask_at(&server, &proxy.url());
        Self {
            stage,
            server,
            proxy,
            model,
        }
    }

    /// A script that says `ran` once more in a file, each time it runs; the words to run it, and the file.
    fn counting_script(&self) -> (Vec<String>, PathBuf) {
        let count = self.stage.outside("count");
        self.stage
            .file("count.sh", &format!("echo ran >> '{}'\n", count.display()));
        (vec!["sh".to_owned(), "count.sh".to_owned()], count)
    }
}

/// How often the counting script ran.
fn count(file: &std::path::Path) -> usize {
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .count()
}

/// Holds that nothing ran and that the answer was not believed.
fn not_believed(stage: &Stage, ran: &Ran) {
    assert_eq!(ran.code(), 126, "{}", ran.stderr);
    assert_eq!(
        ran.reported("/status"),
        "failed",
        "a forged answer is no verdict: {}",
        ran.stderr
    );
    let journal = stage.journal();
    let last = journal.last().expect("the journal names it");
    let code = last
        .pointer("/event/failure/code")
        .and_then(serde_json::Value::as_str);
    assert_eq!(code, Some("not_believed"), "{last}");
}
