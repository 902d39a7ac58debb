//! A folder to work in, a policy and a way to run a shell line inside and see what came of it.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::{Action, FullAccessByName, PermittedAction};
use sandbox::{
    Command, Ending, Plan, PolicyBuilder, Program, Run, Running, Sandbox, SandboxError,
    SandboxPolicy, Stdin, Terminal, WorkingDirectory,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Held by tests that bind sockets where commands can see them, and shared by tests whose command lasts: such a socket is
/// covered for every command that starts while it is there, and a command whose cover goes with it is ended.
pub(crate) static HOST_SOCKETS: std::sync::RwLock<()> = std::sync::RwLock::new(());

/// A folder outside the shared temporary one where this user may have one, removed at the end.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) base: PathBuf,
    pub(crate) workspace: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) output: String,
    pub(crate) run: Run,
}

impl Seen {
    pub(crate) fn code(&self) -> Option<u8> {
        match self.run.ending {
            Ending::Exited(code) => Some(code),
            Ending::Signalled(_) => None,
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Lab {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandbox-test-{}-{number}", std::process::id());
        let above = if is_root() {
            PathBuf::from("/var/lib")
        } else {
            std::env::home_dir().unwrap()
        };
        let base = above.join(name);
        let workspace = base.join("workspace");
        fs::create_dir_all(&workspace).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            base: base.canonicalize().unwrap(),
            workspace: workspace.canonicalize().unwrap(),
        }
    }

    pub(crate) fn policy(&self) -> PolicyBuilder {
        SandboxPolicy::workspace_write(&self.workspace)
    }

    /// A file beside the workspace.
    pub(crate) fn outside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.base.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.words(&["sh", "-c", line])
    }

    pub(crate) fn words(&self, words: &[&str]) -> Command {
        let program = find(words[0]);
        Command::new(
            words.iter().copied(),
            Program::open(program).unwrap(),
            self.directory(),
        )
        .unwrap()
        .with_environment([("PATH", path().as_str()), ("HOME", "/nonexistent")])
        .unwrap()
    }

    pub(crate) fn directory(&self) -> WorkingDirectory {
        WorkingDirectory::open(&self.workspace).unwrap()
    }

    /// Runs `line` in the plain confined plan.
    pub(crate) fn confined(&self, line: &str) -> Seen {
        self.under(&self.policy().build().unwrap(), line)
    }

    pub(crate) fn under(&self, policy: &SandboxPolicy, line: &str) -> Seen {
        let (command, output) = captured(self.command(line));
        let plan = Plan::confined(policy, &command).unwrap();
        finish(Sandbox::start(&plan, command).unwrap(), output)
    }

    /// Runs `line` by leave of full access, with the walls that `permissions` names.
    pub(crate) fn permitted(&self, policy: &SandboxPolicy, permissions: &str, line: &str) -> Seen {
        let (command, output) = captured(self.command(line));
        let plan = Plan::permitted(policy, leave(&command, permissions, "{}"), &command).unwrap();
        finish(Sandbox::start(&plan, command).unwrap(), output)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.base).ok();
    }
}

pub(crate) fn path() -> String {
    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()
}

pub(crate) fn find(name: &str) -> PathBuf {
    if name.starts_with('/') {
        return PathBuf::from(name);
    }
    let path = path();
    let mut found = path.split(':').map(|folder| Path::new(folder).join(name));
    found
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("the tests need `{name}`"))
}

/// The command with standard output and error on a pseudo-terminal whose other side is read here.
pub(crate) fn captured(command: Command) -> (Command, Output) {
    let (master, slave) = terminal();
    (command.with_terminal(Terminal::Pty(slave)), Output(master))
}

/// The reading side of a pseudo-terminal.
pub(crate) struct Output(OwnedFd);

impl Output {
    /// Reads until the command's side is closed.
    pub(crate) fn text(self) -> String {
        let mut bytes = Vec::new();
        // The end shows as an error on a terminal.
        fs::File::from(self.0).read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }
}

pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    (master, slave)
}

pub(crate) fn finish(running: Running, output: Output) -> Seen {
    let reader = std::thread::spawn(move || output.text());
    let run = running.wait().unwrap();
    Seen {
        output: reader.join().unwrap(),
        run,
    }
}

/// Leave to run exactly `command`, by full access.
pub(crate) fn leave(command: &Command, permissions: &str, additional: &str) -> PermittedAction {
    let words: Vec<_> = command
        .words()
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let mut action = serde_json::json!({
        "tool": "exec_command",
        "command": words,
        "cwd": command.directory().path(),
        "sandbox_permissions": permissions,
        "tty": true,
        "program": { "path": command.program().path(), "sha256": "0".repeat(64) },
    });
    if additional != "{}" {
        action["additional_permissions"] = serde_json::from_str(additional).unwrap();
    }
    let action: Action = serde_json::from_value(action).unwrap();
    PermittedAction::by_full_access(
        FullAccessByName::parse("danger-full-access").unwrap(),
        action,
    )
}

pub(crate) fn start_error(plan: &Plan, command: Command) -> SandboxError {
    match Sandbox::start(plan, command.with_stdin(Stdin::Null)) {
        Ok(running) => panic!("it started: {running:?}"),
        Err(error) => error,
    }
}
