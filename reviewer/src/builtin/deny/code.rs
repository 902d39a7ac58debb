//! Code in a command's own words, of languages that are not read here: what it plainly names.
//!
//! Apart from [`super::flow`], which follows what was read. Invariant: two things have to stand in one text, a store of
//! credentials or code that is run, and a way out or in; each alone is left to others.

use exec_policy::{Command, Effect, Redirect, Word};
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

/// How code runs a text that it made itself.
const RUNS_TEXT: &[&str] = &[
    "exec(",
    "eval(",
    "eval ",
    "os.system(",
    "Function(",
    "instance_eval",
    "system(",
];
/// How code makes text of what nobody reads.
const DECODES: &[&str] = &[
    "b64decode",
    "b32decode",
    "atob(",
    "'base64')",
    "\"base64\")",
    "fromhex(",
    "unhexlify(",
    "decode_base64",
    "decode64(",
    "base64_decode(",
    "unpack('m",
    "unpack(\"m",
    "decompress(",
    "marshal.loads(",
    "rot13",
    "rot_13",
];
/// How code opens a bare connection.
const CONNECTS: &[&str] = &[
    "socket.socket(",
    "use Socket",
    "IO::Socket",
    "TCPSocket",
    "fsockopen(",
    "net.connect(",
    "net.Socket(",
    "createConnection(",
    "Net.Sockets.TCPClient",
    "/dev/tcp/",
    "require('net')",
    "require(\"net\")",
    "-rsocket",
];
/// How code starts a shell, or makes one of a connection.
const SHELLS: &[&str] = &[
    "dup2(",
    "pty.spawn(",
    "/bin/sh",
    "/bin/bash",
    "/bin/zsh",
    "spawn('sh'",
    "spawn(\"sh\"",
    "spawn('bash'",
    "spawn(\"bash\"",
    "exec \"sh",
    "iex ",
    "cmd.exe",
];
/// Parts of the names of variables that hold secrets.
const SECRET_NAMES: &[&str] = &[
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
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
    sent_by_variable(action, scene, found);
}

/// A file that only a running shell knows is sent, and the text names a store of credentials: a loop over keys.
fn sent_by_variable(action: &CommandAction, scene: &Scene, found: &mut Found) {
    let sends = scene.effects().into_iter().any(|(_, effect)| {
        matches!(effect, Effect::Sends(word) if word.has_unknown() || word.to_string().contains("{}"))
    });
    let types = scene.commands().any(|(_, command)| {
        matches!(command.program(), Some("sftp" | "lftp" | "ftp"))
            && command
                .redirects()
                .iter()
                .any(|redirect| matches!(redirect, Redirect::Document(_)))
    });
    if !sends && !types {
        return;
    }
    let key_to_log_in = ["-i ", "IdentityFile=", "IdentityFile "];
    for text in &action.command {
        let named = CREDENTIALS
            .iter()
            .chain([&"*.pem", &"*.key", &"id_rsa", &"id_ed25519"])
            .any(|part| {
                text.match_indices(part).any(|(at, _)| {
                    let before = text.get(..at).unwrap_or_default();
                    let word = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
                    let option = before.get(..word).unwrap_or_default();
                    !key_to_log_in.iter().any(|flag| option.ends_with(flag))
                })
            });
        if named {
            add(found, Rule::SecretToNetwork, text);
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
    if holds(CONNECTS) && holds(SHELLS) {
        add(found, Rule::OpensShell, text);
    }
    // What is decoded is run only where it stands behind what runs it.
    let first = |list: &[&str]| list.iter().filter_map(|part| text.find(part)).min();
    let last = |list: &[&str]| list.iter().filter_map(|part| text.rfind(part)).max();
    if first(RUNS_TEXT)
        .zip(last(DECODES))
        .is_some_and(|(runs, decodes)| runs < decodes)
    {
        add(found, Rule::HiddenCode, text);
    }
    if holds(NETWORK) {
        secret_variables(text, found);
    }
}

/// A secret of the environment that code with a connection names: in an address it goes to whoever is asked, elsewhere
/// it may be the login that it is for.
fn secret_variables(text: &str, found: &mut Found) {
    const READS: &[&str] = &[
        "process.env.",
        "process.env[",
        "os.environ[",
        "os.environ.get(",
        "os.getenv(",
        "ENV[",
        "getenv(",
        "$ENV{",
    ];
    for read in READS {
        for (at, _) in text.match_indices(read) {
            let name: String = text
                .get(at + read.len()..)
                .unwrap_or_default()
                .trim_start_matches(['"', '\''])
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let name = name.to_ascii_uppercase();
            if !SECRET_NAMES.iter().any(|part| name.contains(part)) {
                continue;
            }
            let before = text.get(..at).unwrap_or_default();
            let call = before.rsplit(['(', ',', ';']).next().unwrap_or_default();
            let rule = if call.contains("://") {
                Rule::SecretToNetwork
            } else {
                Rule::NearCredentials
            };
            add(found, rule, name);
        }
    }
}

/// A text that could not be read as shell: one that opens a connection by the shell's own means and names a store of
/// credentials, or one that makes a shell of a connection.
fn judge_unread(text: &str, found: &mut Found) {
    let opens = text.contains("/dev/tcp/") || text.contains("/dev/udp/");
    if opens && CREDENTIALS.iter().any(|part| text.contains(part)) {
        add(found, Rule::SecretToNetwork, text);
    }
    let waits = opens && text.contains("sh -i");
    if waits || (text.contains("/inet/") && text.contains("getline")) {
        add(found, Rule::OpensShell, text);
    }
    let connects = CONNECTS.iter().any(|part| text.contains(part));
    if connects
        && ["dup2(", "pty.spawn("]
            .iter()
            .any(|part| text.contains(part))
    {
        add(found, Rule::OpensShell, text);
    }
}
