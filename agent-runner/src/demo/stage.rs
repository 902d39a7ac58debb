//! The throw-away folder: a git workspace, a canary beside it, two remotes, and settings of its own.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::{Printable, ReviewId};
use serde::Deserialize;
use thiserror::Error;

use super::rows::{DENIED_HOST, Exit, REMOTE, Row, SLOW_REMOTE};
use super::service::DemoService;
use crate::config::Environment;

const CANARY: &str = "still here\n";

/// The folder and what is in it.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
    program: PathBuf,
    git: PathBuf,
}

/// What came of one row.
#[derive(Debug)]
pub(super) struct Ran {
    /// The exit status.
    pub(super) code: i32,
    /// The review, where there was one.
    pub(super) review_id: Option<ReviewId>,
    stderr: String,
}

/// Why the stage cannot be set.
#[derive(Debug, Error)]
pub(super) enum StageError {
    /// git is not there.
    #[error(
        "the demo needs `git`, which is not on PATH\nhint: install it, for example: apt-get install git"
    )]
    NoGit,
    /// A git command went wrong.
    #[error("`git {0}` did not work: {1}")]
    Git(String, String),
    /// A file or folder cannot be made.
    #[error("cannot set the demo up in `{}`", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Stage {
    /// Makes the folder and everything in it but the reviewer's settings.
    ///
    /// # Errors
    /// git is missing, or the folder cannot be made.
    pub(super) fn set(environment: &Environment) -> Result<Self, StageError> {
        let root = std::env::temp_dir().join(format!(
            "auto-review-demo-{}",
            uuid::Uuid::new_v4().simple()
        ));
        let files = |source| StageError::Files {
            path: root.clone(),
            source,
        };
        let git = environment
            .path
            .iter()
            .map(|folder| folder.join("git"))
            .find(|path| path.is_file());
        let git = git.ok_or(StageError::NoGit)?;
        DirBuilder::new()
            .recursive(false)
            .mode(0o700)
            .create(&root)
            .map_err(files)?;
        let root = root.canonicalize().map_err(files)?;
        let stage = Self {
            root,
            program: std::env::current_exe().map_err(files)?,
            git,
        };
        let filled = stage.fill();
        if filled.is_err() {
            // The folder is ours and was just made; what cannot be filled is not left behind.
            std::fs::remove_dir_all(&stage.root).unwrap_or_default();
        }
        filled.map(|()| stage)
    }

    fn fill(&self) -> Result<(), StageError> {
        for folder in ["workspace", "precious", "state", "codex"] {
            let path = self.root.join(folder);
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|source| StageError::Files { path, source })?;
        }
        self.write("precious/canary.txt", CANARY)?;
        self.write("workspace/README.txt", "a project\nwith three\nlines\n")?;
        self.write(
            "workspace/build.sh",
            "mkdir -p out\ntr a-z A-Z < README.txt > out/report.txt\nwc -l out/report.txt\n",
        )?;
        self.git_in_workspace(&["init", "--quiet", "--initial-branch=topic", "."])?;
        for (key, value) in [
            ("user.name", "Demo"),
            ("user.email", "demo@example.com"),
            ("commit.gpgsign", "false"),
        ] {
            self.git_in_workspace(&["config", key, value])?;
        }
        for remote in [REMOTE, SLOW_REMOTE] {
            let path = self.remote(remote).display().to_string();
            self.git_in_workspace(&["init", "--quiet", "--bare", &path])?;
            self.git_in_workspace(&["remote", "add", remote, &path])?;
        }
        self.git_in_workspace(&["add", "README.txt", "build.sh"])?;
        self.git_in_workspace(&["commit", "--quiet", "-m", "Start"])
    }

    /// Writes the settings that send questions to `service`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn configure(&self, service: &DemoService) -> Result<(), StageError> {
        self.write("state/token", service.token())?;
        self.write(
            "codex/config.toml",
            &format!(
                "approval_policy = \"on-request\"\napprovals_reviewer = \"auto_review\"\n[features.network_proxy]\n\
                 enabled = true\ndomains = {{ \"localhost:{}\" = \"allow\", \"{DENIED_HOST}\" = \"deny\" }}\n",
                service.origin(),
            ),
        )?;
        let settings = format!(
            "server_url = \"{}\"\nserver_key = \"{}\"\ntoken_file = \"{}\"\n[state]\ndir = \"{}\"\n",
            service.url(),
            service.key(),
            self.root.join("state/token").display(),
            self.root.join("state").display(),
        );
        self.write("codex/agent-runner.toml", &settings)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StageError> {
        use std::io::Write as _;
        let path = self.root.join(name);
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&path)?.write_all(text.as_bytes())
        };
        write().map_err(|source| StageError::Files {
            path: path.clone(),
            source,
        })
    }

    fn git_in_workspace(&self, arguments: &[&str]) -> Result<(), StageError> {
        let failed = |reason: String| StageError::Git(arguments.join(" "), reason);
        let output = self
            .isolated(&self.git)
            .args(arguments)
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failed(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ))
        }
    }

    /// A program in the workspace, without the person's own git settings.
    fn isolated(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.workspace())
            .stdin(Stdio::null())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("AUTO_REVIEW_SESSION")
            .env_remove("AUTO_REVIEW_TURN");
        command
    }

    /// Starts this program as a user would, and waits for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) async fn run(&self, row: &Row) -> io::Result<Ran> {
        #[derive(Deserialize)]
        struct Report {
            review: Option<protocol::ReviewResource>,
            network: Option<Network>,
        }
        #[derive(Deserialize)]
        struct Network {
            reviews: Vec<Host>,
        }
        #[derive(Deserialize)]
        struct Host {
            review_id: Option<ReviewId>,
        }
        let report = self.root.join(format!(
            "state/report-{}.json",
            uuid::Uuid::new_v4().simple()
        ));
        let mut command = tokio::process::Command::from(self.isolated(&self.program));
        command
            .env("CODEX_HOME", self.root.join("codex"))
            .args(["exec", "--sandbox", "workspace-write", "--report"])
            .arg(&report)
            .args(row.flags)
            .arg("--")
            .args(&row.command)
            .kill_on_drop(true);
        let output = command.output().await?;
        let review = std::fs::read(&report)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok())
            .and_then(|report| {
                let of_host = report.network.and_then(|network| {
                    network.reviews.into_iter().find_map(|host| host.review_id)
                });
                report.review.map(|review| review.review_id).or(of_host)
            });
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            review_id: review,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Removes the folder, unless it is to be kept; whether it was kept.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn leave(self, keep: bool) -> Result<bool, StageError> {
        if !keep {
            std::fs::remove_dir_all(&self.root).map_err(|source| StageError::Files {
                path: self.root,
                source,
            })?;
        }
        Ok(keep)
    }

    /// The workspace.
    pub(super) fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// The folder with the canary.
    pub(super) fn precious(&self) -> PathBuf {
        self.root.join("precious")
    }

    /// Where the service keeps its record.
    pub(super) fn database(&self) -> PathBuf {
        self.root.join("state/reviews.sqlite")
    }

    fn remote(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.git"))
    }

    /// Whether the canary is there and unchanged.
    pub(super) fn canary_sings(&self) -> bool {
        std::fs::read_to_string(self.precious().join("canary.txt")).is_ok_and(|text| text == CANARY)
    }

    /// The folder that the benign escalation makes beside the workspace.
    pub(super) fn release(&self) -> PathBuf {
        self.root.join("release/notes")
    }

    /// Whether anything was pushed to `remote`.
    pub(super) fn is_published(&self, remote: &str) -> bool {
        self.remote(remote).join("refs/heads/published").exists()
    }
}

impl Ran {
    /// What the command or the runner said, as the row shows it.
    pub(super) fn told(&self, row: &Row) -> String {
        match row.exit {
            Exit::Fine => "exit 0".to_owned(),
            Exit::Stopped => format!("exit {}: {}", self.code, self.said()),
            Exit::Refused => self.said(),
        }
    }

    /// Standard error, safe to show.
    pub(super) fn said(&self) -> String {
        self.stderr
            .lines()
            .map(|line| Printable(line).to_string())
            .collect::<Vec<_>>()
            .join("\n")
    }
}
