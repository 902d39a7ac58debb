//! What CI runs, each step a command of its own: `cargo xtask fmt | lint | arrows | doc | test | ci`; `soak`, the long forms
//! of some tests; and `yardsticks`, which installs the programs that benchmarks compare with.
//!
//! Needs a Rust toolchain and a C compiler. `git` and a POSIX shell are used by the tests and looked for first.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "progress is what this program is for")]

use std::process::{Command, ExitCode};

/// A step and what it runs.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: [Step; 5] = [
    ("fmt", fmt),
    ("lint", lint),
    ("arrows", arrows),
    ("doc", doc),
    ("test", test),
];

/// What the tests run inside the walls and beside them, with Debian's package of it.
const NEEDED: [(&str, &str); 20] = [
    ("git", "git"),
    ("make", "make"),
    ("cc", "gcc"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("bwrap", "bubblewrap"),
    ("nft", "nftables"),
    ("dig", "bind9-dnsutils"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("bash", "bash"),
    ("perl", "perl-base"),
    ("ps", "procps"),
    ("setsid", "util-linux"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("stty", "coreutils"),
    ("strace", "strace"),
];

/// What benchmarks compare with, with Debian's package of it.
const YARDSTICKS: [(&str, &str); 2] = [("tinyproxy", "tinyproxy-bin"), ("squid", "squid")];

/// Which crate alone may depend on what: the map in ARCHITECTURE.md, enforced.
const ONLY_UNDER: [(&str, &[&str]); 14] = [
    ("telemetry", &["server", "agent-runner"]),
    ("sqlx", &["server", "end-to-end"]),
    ("landlock", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("starlark", &["rules-reader"]),
    ("rules-reader", &["exec-policy"]),
    ("tree-sitter", &["exec-policy"]),
    ("tree-sitter-bash", &["exec-policy"]),
    ("sandbox", &["agent-runner", "benches", "end-to-end"]),
    ("network-proxy", &["agent-runner", "benches", "end-to-end"]),
    ("rcgen", &["network-proxy", "server", "end-to-end"]),
    ("server", &["agent-runner", "benches", "end-to-end"]),
    ("reviewer", &["server", "agent-runner", "benches"]),
    ("libc", &["sandbox", "end-to-end"]),
];

/// The folders of the crates that may hold no `unsafe`: all but `sandbox`.
const SAFE: [&str; 10] = [
    "protocol/src/lib.rs",
    "exec-policy/src/lib.rs",
    "reviewer/src/lib.rs",
    "server/src/lib.rs",
    "network-proxy/src/lib.rs",
    "rules-reader/src/lib.rs",
    "telemetry/src/lib.rs",
    "rules-reader/src/main.rs",
    "agent-runner/src/main.rs",
    "xtask/src/main.rs",
];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let steps: Vec<Step> = match wanted.as_str() {
        "ci" => STEPS.to_vec(),
        "yardsticks" => vec![("yardsticks", yardsticks)],
        "soak" => vec![("soak", soak as fn() -> Result<(), String>)],
        name => STEPS
            .into_iter()
            .filter(|(step, _)| *step == name)
            .collect(),
    };
    if steps.is_empty() {
        eprintln!("usage: cargo xtask fmt|lint|arrows|doc|test|ci|soak|yardsticks");
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

/// Holds the crates' dependencies against the map.
fn arrows() -> Result<(), String> {
    for file in SAFE {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {file}: {error}"))?;
        if !text.contains("#![forbid(unsafe_code)]") {
            return Err(format!("{file} does not forbid unsafe code"));
        }
    }
    let manifests =
        std::fs::read_dir(".").map_err(|error| format!("cannot list the crates: {error}"))?;
    for folder in manifests.flatten() {
        let Ok(text) = std::fs::read_to_string(folder.path().join("Cargo.toml")) else {
            continue;
        };
        check_manifest(&text)?;
    }
    Ok(())
}

/// A line `name.workspace = true` or `name = { workspace = true … }` below a dependency heading is an arrow.
fn check_manifest(text: &str) -> Result<(), String> {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .unwrap_or_default()
        .trim_matches('"');
    if text.contains("[workspace.dependencies]") {
        return Ok(());
    }
    for line in text.lines() {
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let rule = ONLY_UNDER
            .iter()
            .find(|(only, _)| *only == dependency && line.contains("workspace = true"));
        if let Some((only, allowed)) = rule.filter(|(_, allowed)| !allowed.contains(&name)) {
            return Err(format!(
                "`{name}` depends on `{only}`, which only {} may",
                allowed.join(", ")
            ));
        }
    }
    Ok(())
}

fn doc() -> Result<(), String> {
    cargo(
        &["doc", "--workspace", "--no-deps", "--quiet"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

/// The end-to-end tests start the real programs, so these are built first.
fn test() -> Result<(), String> {
    for (program, package) in NEEDED {
        needs(program, package)?;
    }
    // With the tests, so that every dependency is built once, with the features that the tests bring along.
    let programs = ["build", "--workspace", "--bins", "--examples", "--tests"];
    cargo(&programs, &[])?;
    cargo(&["test", "--workspace"], &[])
}

/// Installs what benchmarks compare with, where it is not there yet.
fn yardsticks() -> Result<(), String> {
    for (program, package) in YARDSTICKS {
        needs(program, package)?;
    }
    Ok(())
}

/// The long forms of tests that `test` runs short: minutes each, and no part of `ci`.
fn soak() -> Result<(), String> {
    cargo(&["build", "--workspace", "--bins", "--examples"], &[])?;
    cargo(&["test", "--workspace", "--", "--ignored"], &[])?;
    // The door's readers of hostile bytes: a million of each.
    cargo(
        &["test", "-p", "network-proxy", "--lib", "hostile"],
        &[("PROPTEST_CASES", "1000000")],
    )
}

/// Installs a system package where this may (root, Debian's packages), and otherwise says the one command.
fn needs(program: &str, package: &str) -> Result<(), String> {
    // Not every program knows `--version`, and some lie where only root looks.
    let look = format!("PATH=$PATH:/usr/sbin:/sbin command -v {program} >/dev/null");
    let there = Command::new("sh")
        .args(["-c", &look])
        .status()
        .is_ok_and(|status| status.success());
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

#[cfg(test)]
mod tests {
    use super::check_manifest;

    #[test]
    fn an_arrow_that_the_map_does_not_have_is_refused() {
        let manifest = |name: &str, line: &str| {
            format!("[package]\nname = \"{name}\"\n[dependencies]\n{line}\n")
        };
        assert!(check_manifest(&manifest("protocol", "sqlx.workspace = true")).is_err());
        assert!(check_manifest(&manifest("server", "sandbox = { workspace = true }")).is_err());
        assert!(check_manifest(&manifest("server", "sqlx.workspace = true")).is_ok());
    }
}
