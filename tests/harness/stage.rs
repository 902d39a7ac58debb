//! A user's world in a throw-away folder: home, settings, state, a git workspace, and a place outside it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::folder::Folder;
use crate::programs::runner_program;
use crate::runner::Run;
use crate::server::TestServer;

/// The folders in which the system's own programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user's world.
#[derive(Debug)]
pub struct Stage {
    folder: Folder,
    reports: Cell<u32>,
}

impl Stage {
    /// Makes one: `workspace-write`, `auto_review`, no server and no model.
    #[must_use]
    pub fn new() -> Self {
        Self::made_in(Folder::new())
    }

    /// Makes one under the shared `/tmp`.
    #[must_use]
    pub fn in_tmp() -> Self {
        Self::made_in(Folder::in_tmp())
    }

    fn made_in(folder: Folder) -> Self {
        for (name, mode) in [
            ("home", 0o700),
            ("codex", 0o755),
            ("state", 0o755),
            ("workspace", 0o755),
            ("outside", 0o755),
        ] {
            folder.folder(name, mode);
        }
        let stage = Self {
            folder,
            reports: Cell::new(0),
        };
        stage
            .settings("sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"auto_review\"\n");
        stage.git(&["init", "--quiet", "--initial-branch", "main"]);
        stage
    }

    /// The folder around everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The workspace, or a path in it.
    #[must_use]
    pub fn workspace(&self, name: &str) -> PathBuf {
        self.folder.join("workspace").join(name)
    }

    /// A path outside the workspace.
    #[must_use]
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.join("outside").join(name)
    }

    /// The folder that `CODEX_HOME` names, or a path in it.
    #[must_use]
    pub fn codex(&self, name: &str) -> PathBuf {
        self.folder.join("codex").join(name)
    }

    /// The runner's own folder, or a path in it.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state/auto-review").join(name)
    }

    /// The home folder, or a path in it.
    #[must_use]
    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.join("home").join(name)
    }

    /// Writes `config.toml`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn settings(&self, text: &str) {
        fs::write(self.codex("config.toml"), text).expect("the settings can be written");
    }

    /// Writes `agent-runner.toml`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn runner_settings(&self, text: &str) {
        fs::write(self.codex("agent-runner.toml"), text)
            .expect("the runner's settings can be written");
    }

    /// Makes `server` the reviewer.
    pub fn ask(&self, server: &TestServer) {
        self.ask_at(server, &server.url());
    }

    /// Makes whoever answers at `url` the reviewer, by the key and token of `server`.
    pub fn ask_at(&self, server: &TestServer, url: &str) {
        self.ask_with(url, server.key(), &server.token_file());
    }

    /// Makes whoever answers at `url` the reviewer, by this key and the token in this file.
    pub fn ask_with(&self, url: &str, key: &str, token_file: &Path) {
        let token = token_file.display();
        self.runner_settings(&format!(
            "server_url = \"{url}\"\nserver_key = \"{key}\"\ntoken_file = \"{token}\"\n"
        ));
    }

    /// Writes the file `name` into the workspace.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        self.folder.file(&format!("workspace/{name}"), text)
    }

    /// Runs git in the workspace, as the user would by hand, and returns what it printed.
    ///
    /// # Panics
    /// It does not come off.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
            .args(arguments)
            .current_dir(self.workspace(""))
            .env_clear()
            .envs([("PATH", PATH), ("GIT_CONFIG_NOSYSTEM", "1")])
            .env("HOME", self.home(""))
            .stdin(Stdio::null())
            .output()
            .expect("git can be started");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A script in the workspace that makes the canary, and nothing that the built-in reviewer could judge by itself;
    /// what to run, and the canary.
    pub fn canary_script(&self) -> (Vec<String>, PathBuf) {
        let canary = self.outside("canary");
        self.file("task.sh", &format!("echo sings > '{}'\n", canary.display()));
        (vec!["sh".to_owned(), "task.sh".to_owned()], canary)
    }

    /// `agent-runner` in the workspace, with this world's environment.
    #[must_use]
    pub fn runner(&self) -> Run {
        Run::new(&runner_program(), &self.workspace(""))
            .env("PATH", PATH)
            .env("HOME", self.home("").as_os_str().to_owned())
            .env("CODEX_HOME", self.codex("").as_os_str().to_owned())
            .env("XDG_STATE_HOME", self.folder.join("state"))
            .env("USER", "tester")
            .env("LANG", "C.UTF-8")
    }

    /// `agent-runner exec FLAGS --report … -- COMMAND`.
    pub fn exec<W: AsRef<str>>(&self, flags: &[&str], command: &[W]) -> Run {
        self.reports.set(self.reports.get() + 1);
        let report = self
            .folder
            .join(format!("report-{}.json", self.reports.get()));
        self.runner()
            .arg("exec")
            .args(flags)
            .report(report)
            .arg("--")
            .args(command.iter().map(AsRef::as_ref))
    }

    /// `agent-runner exec --escalate … -- COMMAND`.
    pub fn escalate<W: AsRef<str>>(&self, command: &[W]) -> Run {
        self.exec(
            &["--escalate", "--justification", "the test asks for it"],
            command,
        )
    }

    /// The history as `agent-runner history --json` tells it, newest first.
    ///
    /// # Panics
    /// It does not tell it.
    #[must_use]
    pub fn history(&self) -> Vec<Value> {
        let ran = self.runner().args(["history", "--json"]).ran();
        assert_eq!(ran.code(), 0, "history: {}", ran.stderr);
        ran.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of the history is JSON"))
            .collect()
    }

    /// The runner's journal, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state("journal.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
