//! `auto-review-server` as a child process with a database, a key and a token of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use rustix::process::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::http::{Reply, Request, call};
use crate::process::kill;
use crate::programs::server_program;
use crate::wait::LIMIT;

/// How a server is to be.
#[derive(Debug, Clone, Default)]
pub struct ServerSettings {
    /// The tables of `auto-review-server.toml` behind the database.
    pub tables: String,
    /// What starts it: these words stand in front of the program's own.
    pub launcher: Vec<std::ffi::OsString>,
}

/// A server. Killed when dropped.
#[derive(Debug)]
pub struct TestServer {
    folder: Folder,
    settings: ServerSettings,
    child: Option<Child>,
    address: SocketAddr,
    key: String,
    token: String,
}

impl TestServer {
    /// Makes key and token, starts it and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn start(settings: ServerSettings) -> Self {
        let mut server = Self::unstarted(settings);
        server.restart();
        server
    }

    /// With these tables in its settings.
    #[must_use]
    pub fn with(tables: &str) -> Self {
        Self::start(ServerSettings {
            tables: tables.to_owned(),
            launcher: Vec::new(),
        })
    }

    /// Makes key and token.
    ///
    /// # Panics
    /// They cannot be made.
    #[must_use]
    pub fn unstarted(settings: ServerSettings) -> Self {
        let folder = Folder::new();
        let data = folder.folder("data", 0o700);
        let text = format!(
            "database_url = \"sqlite:{}\"\n{}",
            data.join("reviews.sqlite").display(),
            settings.tables
        );
        let config = folder.file("auto-review-server.toml", &text);
        fs::set_permissions(config, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            folder,
            settings,
            child: None,
            address,
            key: String::new(),
            token: String::new(),
        };
        server.token = server.create_token();
        server.key = server.printed(&["key", "show"]);
        let file = server.folder.file("token", &server.token);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
        server
    }

    /// Starts it again, on another port, with the record it has.
    ///
    /// # Panics
    /// It does not listen in time.
    pub fn restart(&mut self) {
        self.end(Signal::KILL);
        let words: Vec<_> = self
            .settings
            .launcher
            .iter()
            .cloned()
            .chain([server_program().into_os_string()])
            .collect();
        let (program, launched) = words.split_first().expect("there is a program");
        let mut child = Command::new(program)
            .args(launched)
            .arg("--config")
            .arg(self.folder.join("auto-review-server.toml"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(
                fs::File::create(self.log()).expect("a log can be made"),
            ))
            .spawn()
            .expect("the server starts");
        let stdout = child.stdout.take().expect("its output is a pipe");
        self.child = Some(child);
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap_or_default();
            send.send(line).unwrap_or_default();
            // Read on, so that it is never held up by a full pipe.
            reader.read_to_end(&mut Vec::new()).unwrap_or_default();
        });
        let line = receive
            .recv_timeout(LIMIT)
            .expect("the server says something in time");
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|address| address.parse().ok());
        self.address = address
            .unwrap_or_else(|| panic!("the server does not listen: `{line}` {}", self.said()));
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// What it said on standard error.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Makes one more token.
    #[must_use]
    pub fn create_token(&self) -> String {
        self.printed(&["token", "create", "--name", "test"])
    }

    /// Makes a token of another role, for another person.
    #[must_use]
    pub fn create_token_for(&self, role: &str, person: &str) -> String {
        let words = ["token", "create", "--name", person, "--role", role];
        self.printed(&[&words[..], &["--person", person]].concat())
    }

    fn printed(&self, arguments: &[&str]) -> String {
        let output = Command::new(server_program())
            .arg("--config")
            .arg(self.folder.join("auto-review-server.toml"))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("the server's program starts");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            kill(
                i32::try_from(child.id()).expect("a process number fits"),
                signal,
            );
            child.wait().expect("a child can be waited for");
        }
    }

    /// Its number.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("the server runs");
        i32::try_from(child.id()).expect("a process number fits")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that runners pin.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A token that it knows.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The file that holds the token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// The folder of its database.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data().join("reviews.sqlite")
    }

    /// A call with its own token.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Reply {
        self.call_as(&self.token, method, target, body)
    }

    /// A call with another token.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn call_as(&self, token: &str, method: &str, target: &str, body: Option<&Value>) -> Reply {
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let body = body
            .map(|body| body.to_string().into_bytes())
            .unwrap_or_default();
        let request = Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body,
        };
        call(self.address, &request).unwrap_or_else(|error| {
            panic!("no answer to {method} {target}: {error}; {}", self.said())
        })
    }

    /// The history, newest first.
    ///
    /// # Panics
    /// It does not tell it.
    #[must_use]
    pub fn history(&self) -> Vec<Value> {
        let reply = self.call("GET", "/v1/reviews?limit=200", None);
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        reply
            .value()
            .get("reviews")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    }

    /// Puts the data folder on a file system in memory of `size` (as `tmpfs(5)` takes it), holding what it holds now:
    /// the launcher for that, or `None` where no mount namespace can be made.
    #[must_use]
    pub fn memory_launcher(&self, size: &str) -> Option<Vec<std::ffi::OsString>> {
        memory_launcher(&self.data(), size)
    }

    /// Sets what starts it from the next start on.
    pub fn launched_by(&mut self, launcher: Vec<std::ffi::OsString>) {
        self.settings.launcher = launcher;
    }

    /// A path as the running server sees it.
    #[must_use]
    pub fn seen_by_it(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside)
    }
}

/// The words that start a program with `folder` on a file system in memory of `size`, holding what it holds now.
pub(crate) fn memory_launcher(folder: &Path, size: &str) -> Option<Vec<std::ffi::OsString>> {
    const SCRIPT: &str = "folder=$1 size=$2 && shift 2 && rm -rf \"$folder.seed\" && cp -a \"$folder\" \"$folder.seed\" \
        && mount -t tmpfs -o \"size=$size,mode=0700\" none \"$folder\" && cp -a \"$folder.seed/.\" \"$folder/\" && exec \"$@\"";
    let mut words = crate::capability::mount_namespace()?;
    words.extend(["sh", "-ec", SCRIPT, "sh"].map(Into::into));
    words.push(folder.into());
    words.push(size.into());
    Some(words)
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}
