//! What flows from one command of an action into another: secrets into the network, the network into a shell.
//!
//! Apart, because these rules need the whole action and not one command. Invariant: a flow over any number of commands
//! counts like a direct one.

use exec_policy::{Command, Effect, Redirect, Word};

use super::super::Rule;
use super::super::places;
use super::super::scene::Scene;
use super::{Found, add, names_only, spelled};

/// A secret that is read and a machine that is reached in one action.
pub(in crate::builtin) fn secrets_and_network(
    effects: &[(usize, Effect)],
    scene: &Scene,
    found: &mut Found,
) {
    let commands = scene.reading.commands();
    let sinks: Vec<usize> = effects
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Reaches(_) | Effect::SendsInput))
        .map(|(at, _)| *at)
        .collect();
    if sinks.is_empty() {
        return;
    }
    for (at, effect) in effects {
        let Effect::Reads(word) = effect else {
            continue;
        };
        let location = scene.locate(*at, word);
        let program = commands
            .get(*at)
            .and_then(Command::program)
            .unwrap_or_default();
        if names_only(program) {
            continue;
        }
        let sent = |sink: &usize| sink == at || scene.is_fed_by(*sink, &|source| source == *at);
        let secret = places::holds_credentials(&location, scene)
            || places::is_reviewers(&location, scene)
            || ((places::is_secretive(&location) || places::holds_a_home(&location, scene))
                && sinks.iter().any(sent));
        if secret {
            add(found, Rule::SecretToNetwork, location.written());
        }
    }
    for (at, command) in scene.commands() {
        if prints_secrets(command)
            && sinks
                .iter()
                .any(|sink| scene.is_fed_by(*sink, &|source| source == at))
        {
            add(found, Rule::SecretToNetwork, spelled(command));
        }
    }
}

/// Commands that print tokens, keys or the environment, in which tokens stand.
fn prints_secrets(command: &Command) -> bool {
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    match (command.program().unwrap_or_default(), words.as_slice()) {
        ("printenv", _) | ("export" | "declare" | "typeset", ["-p" | "-x", ..]) => true,
        ("env" | "set" | "export", []) => true,
        _ => dumps_credentials(command),
    }
}

pub(in crate::builtin) fn dumps_credentials(command: &Command) -> bool {
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    match (command.program().unwrap_or_default(), words.as_slice()) {
        ("gpg" | "gpg2", words) => words.iter().any(|word| word.starts_with("--export-secret")),
        ("security", words) => words
            .iter()
            .any(|word| word.starts_with("find-") || *word == "dump-keychain" || *word == "export"),
        ("secret-tool", ["lookup" | "search", ..])
        | ("pass", ["show", ..])
        | ("keyctl", ["print" | "read" | "pipe", ..]) => true,
        ("gh", ["auth", "token", ..])
        | ("gcloud", ["auth", "print-access-token" | "print-identity-token", ..]) => true,
        ("gh", ["auth", "status", rest @ ..]) => {
            rest.contains(&"--show-token") || rest.contains(&"-t")
        }
        ("gcloud", words) => {
            words.starts_with(&["secrets", "versions", "access"])
                || words.contains(&"print-access-token")
        }
        ("az", words) => {
            words.starts_with(&["keyvault", "secret", "show"])
                || words.starts_with(&["keyvault", "secret", "download"])
                || words.starts_with(&["account", "get-access-token"])
        }
        ("aws", words) => {
            words.contains(&"get-session-token")
                || words.contains(&"get-secret-value")
                || words.contains(&"export-credentials")
                || words.contains(&"get-login-password")
                || words.contains(&"--with-decryption")
                || words.starts_with(&["configure", "get", "aws_secret_access_key"])
        }
        (
            "vault",
            ["read", ..] | ["kv", "get" | "export", ..] | ["token", "create" | "lookup", ..],
        )
        | ("git", ["credential", "fill", ..])
        | ("op", ["read" | "item", ..])
        | ("bw" | "rbw", ["get" | "list" | "export", ..])
        | ("gopass", ["show" | "cat", ..])
        | ("doppler", ["secrets", "get" | "download", ..])
        | ("ansible-vault", ["view" | "decrypt", ..])
        | ("getent", ["shadow" | "gshadow", ..]) => true,
        ("kubectl" | "oc", words) => prints_cluster_secrets(words),
        (
            "hydra" | "medusa" | "ncrack" | "patator" | "crowbar" | "john" | "hashcat" | "unshadow",
            _,
        ) => true,
        (name, ["get" | "list", ..]) if name.starts_with("docker-credential-") => true,
        ("mimipenguin" | "mimikatz" | "lazagne" | "laZagne", _) => true,
        _ => false,
    }
}

/// Whether the values of a cluster's secrets are shown: their names and sizes are no secrets.
fn prints_cluster_secrets(words: &[&str]) -> bool {
    let of_secrets = words.iter().any(|word| {
        word.split([',', '/', '.'])
            .any(|part| matches!(part, "secret" | "secrets"))
    });
    let verb = |wanted: &str| words.contains(&wanted);
    // What a word holds that is not certain may be a form with values.
    let laid_out = words.iter().enumerate().any(|(at, word)| {
        let value = match *word {
            "-o" | "--output" => words.get(at + 1).copied().unwrap_or_default(),
            _ => match word
                .strip_prefix("--output=")
                .or_else(|| word.strip_prefix("-o"))
            {
                Some(value) => value.trim_start_matches('='),
                None => {
                    return word.is_empty()
                        || word.starts_with("--template")
                        || word.starts_with("--raw");
                }
            },
        };
        !matches!(value, "name" | "wide")
    });
    of_secrets && (verb("edit") || (verb("get") && laid_out))
}

const SHELLS: &[&str] = &[
    "sh", "bash", "zsh", "dash", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "rbash", "nu",
    "elvish", "xonsh",
];

const LANGUAGES: &[&str] = &[
    "python",
    "perl",
    "ruby",
    "node",
    "nodejs",
    "php",
    "pwsh",
    "lua",
    "deno",
    "bun",
    "osascript",
    "Rscript",
    "tclsh",
    "guile",
    "groovy",
    "scala",
    "jshell",
    "ghci",
    "irb",
];

/// Whether the program is a shell.
pub(super) fn is_shell(program: &str) -> bool {
    SHELLS.contains(&program)
}

/// Whether the program runs text as code.
pub(in crate::builtin) fn is_interpreter(program: &str) -> bool {
    is_shell(program)
        || is_language(program)
        || matches!(
            program,
            "eval"
                | "source"
                | "."
                | "exec"
                | "su"
                | "runuser"
                | "at"
                | "batch"
                | "crontab"
                | "psql"
                | "mysql"
                | "sqlite3"
        )
}

/// Whether the program is a language's own, by any version's name.
pub(super) fn is_language(program: &str) -> bool {
    LANGUAGES.contains(&program)
        || program
            .strip_prefix("python")
            .or_else(|| program.strip_prefix("ruby"))
            .or_else(|| program.strip_prefix("php"))
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Whether what it is fed is code to it, and not data.
pub(in crate::builtin) fn takes_code(command: &Command) -> bool {
    let program = command.program().unwrap_or_default();
    if !is_interpreter(program) {
        return false;
    }
    let arguments = command.arguments();
    if arguments.iter().any(Word::has_unknown) {
        return true;
    }
    if command
        .redirects()
        .iter()
        .any(|redirect| matches!(redirect, Redirect::Document(None)))
    {
        return true;
    }
    let texts: Vec<&str> = arguments
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    let from_input = texts
        .iter()
        .any(|text| matches!(*text, "-" | "/dev/stdin" | "/proc/self/fd/0" | "/dev/fd/0"));
    let given = texts.iter().any(|text| {
        let short = text
            .strip_prefix('-')
            .filter(|rest| !rest.starts_with('-'))
            .unwrap_or_default();
        short.contains('c')
            || short.contains('e')
            || short.contains('m')
            || !text.starts_with(['-', '+'])
    });
    let shell_input = SHELLS.contains(&program)
        && texts
            .iter()
            .any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains('s'));
    from_input || shell_input || !given
}

/// Code that comes from the network.
pub(in crate::builtin) fn remote_code(
    at: usize,
    command: &Command,
    scene: &Scene,
    found: &mut Found,
) {
    let fetches = |source: usize| {
        scene.reading.commands().get(source).is_some_and(|command| {
            command
                .effects()
                .iter()
                .any(|effect| matches!(effect, Effect::Reaches(_)))
                || matches!(
                    command.program(),
                    Some(
                        "lynx"
                            | "w3m"
                            | "fetch"
                            | "aria2c"
                            | "axel"
                            | "lwp-request"
                            | "GET"
                            | "dig"
                            | "host"
                            | "nslookup"
                    )
                )
        })
    };
    if takes_code(command) && scene.is_fed_by(at, &fetches) {
        add(found, Rule::RemoteCode, spelled(command));
    }
}

/// A file that one command of the action fetches and another runs.
pub(in crate::builtin) fn fetched_then_run(
    effects: &[(usize, Effect)],
    scene: &Scene,
    found: &mut Found,
) {
    let reaches = |at: usize| {
        effects
            .iter()
            .any(|(other, effect)| *other == at && matches!(effect, Effect::Reaches(_)))
    };
    let fed = |at: usize| scene.is_fed_by(at, &reaches);
    let fetched: Vec<String> = effects
        .iter()
        .filter_map(|(at, effect)| {
            let Effect::Writes(word) = effect else {
                return None;
            };
            let comes_from_network = reaches(*at) || fed(*at);
            comes_from_network.then(|| scene.locate(*at, word).certain())?
        })
        .collect();
    if fetched.is_empty() {
        return;
    }
    for (at, command) in scene.commands() {
        let program = command.program().unwrap_or_default();
        let runs_first = command.program_word().into_iter();
        let runs_operands = command
            .arguments()
            .iter()
            .filter(|_| is_interpreter(program));
        let runs = runs_first.chain(runs_operands).any(|word| {
            let place = scene.locate(at, word).certain();
            place.is_some_and(|place| fetched.contains(&place))
        });
        if runs {
            add(found, Rule::RemoteCode, spelled(command));
        }
    }
}
