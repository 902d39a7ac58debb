//! Code in a command's own words, of languages that are not read here: what it plainly names.
//!
//! Apart from [`super::flow`], which follows what was read. Invariant: two things have to stand in one text, a store of
//! credentials or code that is run, and a way out or in; each alone is left to others.

use exec_policy::{Command, Word};
use protocol::CommandAction;

use super::super::Rule;
use super::super::listed;
use super::super::scene::Scene;
use super::{Found, add};

/// How files of credentials are spelled in code.
const CREDENTIALS: &[&str] = &[
    ".ssh/id_",
    ".aws/credentials",
    ".netrc",
    ".pgpass",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".docker/config.json",
    ".kube/config",
    ".gnupg",
    ".password-store",
    "/etc/shadow",
    "os.environ)",
    "os.environ.items",
    "process.env)",
    "Cookies'",
];
/// How code reaches another machine.
const NETWORK: &[&str] = &[
    "urlopen",
    "requests.",
    "http",
    "socket",
    "fetch(",
    "axios",
    "Net::",
    "LWP",
    "/dev/tcp/",
    "/dev/udp/",
    "curl",
    "wget",
    "ftplib",
    "smtplib",
    "paramiko",
];
/// How code runs a text as code.
const RUNS: &[&str] = &[
    "exec(",
    "eval(",
    "os.system(",
    "Function(",
    "subprocess",
    "instance_eval",
];
/// How code fetches a text.
const FETCHES: &[&str] = &[
    "urlopen(",
    "requests.get(",
    "fetch(",
    "Net::HTTP.get",
    "URI.open",
    "LWP::Simple",
];

const LANGUAGES: &str =
    "python python2 python3 pypy3 node nodejs deno bun ruby perl php lua Rscript osascript";

/// Denials in the code that a command carries, and in a text that could not be read as shell.
pub(super) fn code(action: &CommandAction, scene: &Scene, found: &mut Found) {
    for (_, command) in scene.commands() {
        if let Some(text) = carried(command) {
            judge(text, found);
        }
    }
    if !scene.reading.is_complete() {
        for word in &action.command {
            judge_unread(word, found);
        }
    }
}

/// The code that an interpreter is given in its words.
fn carried(command: &Command) -> Option<&str> {
    let program = command.program()?;
    let versioned = program.starts_with("python3.");
    if !listed(LANGUAGES, program) && !versioned {
        return None;
    }
    let mut words = command.arguments().iter();
    while let Some(word) = words.next() {
        let flag = word.literal().unwrap_or_default();
        if matches!(
            flag,
            "-c" | "-e" | "-E" | "-r" | "--eval" | "-p" | "--print" | "eval"
        ) {
            return words.next().and_then(Word::literal);
        }
    }
    None
}

fn judge(text: &str, found: &mut Found) {
    let holds = |list: &[&str]| list.iter().any(|part| text.contains(part));
    if holds(CREDENTIALS) && holds(NETWORK) {
        add(found, Rule::SecretToNetwork, text);
    } else if holds(CREDENTIALS) {
        add(found, Rule::NearCredentials, text);
    }
    if holds(RUNS) && holds(FETCHES) {
        add(found, Rule::RemoteCode, text);
    }
}

/// A text that opens a connection by the shell's own means and names a store of credentials.
fn judge_unread(text: &str, found: &mut Found) {
    let opens = text.contains("/dev/tcp/") || text.contains("/dev/udp/");
    if opens && CREDENTIALS.iter().any(|part| text.contains(part)) {
        add(found, Rule::SecretToNetwork, text);
    }
}
