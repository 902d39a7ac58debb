//! A program as a child process: built up word by word, run with an end, everything it said kept.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::kill;

/// How long one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A run to be started. It has exactly the environment it is given.
#[derive(Debug, Clone)]
pub struct Run {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Option<Vec<u8>>,
    report: Option<PathBuf>,
}

/// A run that ended.
#[derive(Debug)]
pub struct Ran {
    /// How.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// The JSON report it wrote; null where it wrote none.
    pub report: Value,
}

/// A run that goes on. Killed when dropped.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    report: Option<PathBuf>,
    waited: bool,
}

impl Run {
    /// `program` in `folder`, with no argument and no environment.
    #[must_use]
    pub fn new(program: &Path, folder: &Path) -> Self {
        Self {
            words: vec![program.into()],
            environment: Vec::new(),
            folder: folder.to_path_buf(),
            stdin: None,
            report: None,
        }
    }

    /// One more word.
    #[must_use]
    pub fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    /// More words.
    #[must_use]
    pub fn args<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// One variable, in place of what it was.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Without the variable `name`.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// Started in `folder`.
    #[must_use]
    pub fn started_in(mut self, folder: &Path) -> Self {
        self.folder = folder.to_path_buf();
        self
    }

    /// With these bytes on standard input, and its end after them. Without: the end at once.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// With a report written to `path`, which becomes [`Ran::report`].
    #[must_use]
    pub fn report(mut self, path: PathBuf) -> Self {
        self.words.push("--report".into());
        self.words.push(path.clone().into());
        self.report = Some(path);
        self
    }

    /// Started by `launcher` with these words behind it.
    #[must_use]
    pub fn launched_by<W: Into<OsString>>(mut self, launcher: impl IntoIterator<Item = W>) -> Self {
        self.words
            .splice(0..0, launcher.into_iter().map(Into::into));
        self
    }

    /// The child to be, without its standard descriptors.
    pub(crate) fn command(&self) -> Command {
        let (program, arguments) = self.words.split_first().expect("a run has a program");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and goes on.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(self) -> Started {
        let mut command = self.command();
        command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // Whoever ends without reading all of it is not at fault.
            std::thread::spawn(move || pipe.write_all(&bytes).unwrap_or_default());
        }
        let stdout = gather(child.stdout.take());
        let stderr = gather(child.stderr.take());
        Started {
            child,
            stdout,
            stderr,
            report: self.report,
            waited: false,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It did not end in time.
    #[must_use]
    pub fn ran(self) -> Ran {
        self.start().wait()
    }
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).unwrap_or_default();
        }
        // A test that failed meanwhile wants them no more.
        send.send(bytes).unwrap_or_default();
    });
    receive
}

impl Started {
    /// Its number.
    ///
    /// # Panics
    /// Never: the kernel's numbers fit.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number fits")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Whether it goes on.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It did not end in time, or something that it left behind holds its output open.
    #[must_use]
    pub fn wait(mut self) -> Ran {
        let until = Instant::now() + RUN_LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(
                Instant::now() < until,
                "the program did not end within {} s",
                RUN_LIMIT.as_secs()
            );
            std::thread::sleep(Duration::from_millis(3));
        };
        self.waited = true;
        let held = "its output is at an end soon after it; else something that it left behind holds it open";
        let stdout = self
            .stdout
            .recv_timeout(Duration::from_secs(10))
            .expect(held);
        let stderr = self
            .stderr
            .recv_timeout(Duration::from_secs(10))
            .expect(held);
        let report = self
            .report
            .as_deref()
            .and_then(|path| std::fs::read(path).ok());
        let report = report
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Ran {
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            report,
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.waited {
            self.child.kill().unwrap_or_default();
            self.child.wait().map(drop).unwrap_or_default();
        }
    }
}

impl Ran {
    /// Its exit status; 128 and the number where a signal ended it, as a shell tells it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The value at `pointer` (RFC 6901) of the report as a text, empty where there is none.
    #[must_use]
    pub fn reported(&self, pointer: &str) -> String {
        match self.report.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }
}
