//! Runs a command inside the walls: `confine [--read-only | --network] -- COMMAND…`.
//!
//! The workspace is the working directory; what is called `*.env` in it may not be read, nor a directory named in
//! `ESC_SECRET_DIR`. Ends with the
//! command's own code (128 and the number for a signal), 127 for a program that is not there, 126 for one that cannot
//! be executed, 125 where the sandbox refuses. `SANDBOX_REPORT` set: one line of what stood, on standard error.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sandbox::{
    Command, Ending, Network, Plan, Program, Sandbox, SandboxError, SandboxPolicy, Stdin,
    WorkingDirectory,
};

/// What of the caller's environment the command gets: nothing that loads code or carries a secret.
const PASSED: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TERM",
    "TZ",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "PYENV_ROOT",
    "ESC_WS",
    "ESC_SECRET_DIR",
    "ESC_BASE",
    "ESC_PROGS",
    "GOPATH",
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // What it was, why, and on a line of its own what would help.
            let text = error.to_string();
            let (what, hint) = text.split_once('\n').unwrap_or((&text, ""));
            let mut line = format!("confine: {what}");
            let mut source = error.source();
            while let Some(cause) = source {
                line = format!("{line}: {cause}");
                source = cause.source();
            }
            writeln!(std::io::stderr(), "{line}\n{hint}").ok();
            ExitCode::from(match error.downcast_ref::<SandboxError>() {
                Some(SandboxError::NotFound { .. }) => 127,
                Some(SandboxError::NotExecutable { .. }) => 126,
                _ => 125,
            })
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let (flags, words) = arguments();
    let variable = |name: &str| {
        std::env::vars_os()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    };
    let here = std::env::current_dir()?;
    let read_only = flags.iter().any(|flag| flag == "--read-only");
    let mut policy = if read_only {
        SandboxPolicy::read_only().readable(&here)
    } else {
        SandboxPolicy::workspace_write(&here)
    };
    if flags.iter().any(|flag| flag == "--network") {
        policy = policy.network(Network::Full);
    }
    if let Some(secret) = variable("ESC_SECRET_DIR") {
        policy = policy.deny_read(secret);
    }
    let policy = policy.deny_matching(&here, "**/*.env");
    let policy = policy.build()?;
    let first = words.first().ok_or("no command")?;
    let program = Program::open(
        resolve(first, &variable("PATH").unwrap_or_default()).ok_or("no such program")?,
    )?;
    let environment =
        std::env::vars_os().filter(|(name, _)| PASSED.iter().any(|passed| name == passed));
    let command = Command::new(words, program, WorkingDirectory::open(&here)?)?
        .with_environment(environment)?
        .with_stdin(Stdin::Inherit);
    let plan = Plan::confined(&policy, &command)?;
    let run = Sandbox::start(&plan, command)?.wait()?;
    if variable("SANDBOX_REPORT").is_some() {
        writeln!(std::io::stderr(), "{}", run.confinement)?;
        writeln!(
            std::io::stderr(),
            "{}",
            serde_json::to_string(&run.denials)?
        )?;
    }
    Ok(match run.ending {
        Ending::Exited(code) => code,
        Ending::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    })
}

fn arguments() -> (Vec<OsString>, Vec<OsString>) {
    let mut arguments = std::env::args_os().skip(1);
    let mut flags = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            return (flags, arguments.collect());
        }
        if !argument.as_bytes().starts_with(b"--") {
            return (flags, std::iter::once(argument).chain(arguments).collect());
        }
        flags.push(argument);
    }
    (flags, Vec::new())
}

fn resolve(name: &OsString, path: &OsString) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Path::new(name).canonicalize().ok();
    }
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
