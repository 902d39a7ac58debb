//! What CI runs, each step a command of its own: `cargo xtask fmt | lint | doc | test | ci`.
//!
//! Needs a Rust toolchain and a C compiler. `git` and a POSIX shell are used by the tests and looked for first.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "progress is what this program is for")]

use std::process::{Command, ExitCode};

/// A step and what it runs.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: [Step; 4] = [("fmt", fmt), ("lint", lint), ("doc", doc), ("test", test)];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let steps: Vec<Step> = match wanted.as_str() {
        "ci" => STEPS.to_vec(),
        name => STEPS
            .into_iter()
            .filter(|(step, _)| *step == name)
            .collect(),
    };
    if steps.is_empty() {
        eprintln!("usage: cargo xtask fmt|lint|doc|test|ci");
        return ExitCode::from(2);
    }
    for (name, step) in steps {
        eprintln!("== {name}");
        if let Err(reason) = step() {
            eprintln!("xtask: {name} failed: {reason}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn fmt() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])
}

fn lint() -> Result<(), String> {
    cargo(
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )
}

fn doc() -> Result<(), String> {
    cargo(
        &["doc", "--workspace", "--no-deps", "--quiet"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

/// The end-to-end tests start the real programs, so these are built first.
fn test() -> Result<(), String> {
    needs("git", "git")?;
    cargo(&["build", "--workspace", "--bins", "--examples"], &[])?;
    cargo(&["test", "--workspace"], &[])
}

/// Installs a system package where this may (root, Debian's packages), and otherwise says the one command.
fn needs(program: &str, package: &str) -> Result<(), String> {
    let there = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if there {
        return Ok(());
    }
    eprintln!("xtask: `{program}` is not installed; trying apt-get");
    let installed = run(Command::new("apt-get").args(["update"])).and_then(|()| {
        run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends", package]))
    });
    installed.map_err(|_| {
        format!("`{program}` is needed\nhint: as root, run: apt-get install {package}")
    })
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    run(Command::new(cargo)
        .args(arguments)
        .envs(environment.iter().copied()))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "{} ended with {status}",
            command.get_program().display()
        )),
        Err(error) => Err(format!(
            "{} cannot be started: {error}",
            command.get_program().display()
        )),
    }
}
