//! Commands that the user asked for: dictated whole, or with every word accounted for.
//!
//! Apart from the reading of sentences because every program accounts for its words in its own way. Invariant: a program
//! that runs code of the workspace is never asked for here, since the words name the program and not the code.

use exec_policy::{Command, Location, Options, Role, Word};
use protocol::CommandAction;

use super::super::deny::is_interpreter;
use super::super::scene::Scene;
use super::super::{Finding, Rule, listed, places};
use super::{Sentence, Wishes, can_be_asked_for, push};

/// Programs that run what the workspace holds. `git` among them: a hook that `core.hooksPath` keeps in the workspace runs
/// with most of what it does, and whoever asked for the push did not ask for the hook.
const RUNS_THE_WORKSPACE: &str = "\
    git make gmake ninja cmake cargo npm npx yarn pnpm bun deno pytest tox nox mvn gradle gradlew mvnw sbt \
    bazel just task rake bundle composer mix go dotnet swift stack cabal poetry uv pdm hatch pre-commit \
    ansible ansible-playbook terraform tofu pulumi vagrant skaffold docker-compose source xargs parallel \
    watch entr awk gdb strace";
/// Subcommands by which a service's tool runs or installs code.
const RUNS_CODE: &str = "\
    run exec apply build up install upgrade api ssh cp eval plugin extension alias compose create-from \
    replace patch edit attach workflow codespace buildx";
/// Tools whose every word is a word of the wish.
const SERVICES: &[&str] = &[
    "gh",
    "glab",
    "docker",
    "podman",
    "kubectl",
    "helm",
    "systemctl",
];

/// The rule by which a command is asked for.
pub(in crate::builtin) fn command(
    action: &CommandAction,
    scene: &Scene,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    if action.tty || action.stdin.is_some() || !scene.reading.is_complete() {
        return None;
    }
    let leaves: Vec<(usize, &Command)> = scene
        .commands()
        .filter(|(_, command)| command.role() == Role::Itself)
        .collect();
    let runs_the_workspace = scene.commands().any(|(_, command)| {
        let name = command.program().unwrap_or_default();
        let path = command
            .program_word()
            .and_then(Word::literal)
            .unwrap_or_default();
        let shell = command.role() == Role::Wrapper;
        (is_interpreter(name) && !shell)
            || listed(RUNS_THE_WORKSPACE, name)
            || path.starts_with('.')
    });
    if runs_the_workspace {
        return push::is_asked_for(action, scene, wishes, found).then_some(Rule::AskedFor);
    }
    let line = line(action);
    let certain = !found
        .iter()
        .any(|finding| matches!(finding.rule, Rule::InputToShell | Rule::NamedByUser));
    if certain && wishes.any(|sentence| sentence.dictates(&line)) {
        return Some(Rule::AskedVerbatim);
    }
    let [(at, leaf)] = leaves.as_slice() else {
        return None;
    };
    let plain = (scene.reading.is_plain() || installs_as_root(&line, leaf))
        && leaf.redirects().is_empty()
        && leaf.assignments().is_empty()
        && found.iter().all(|finding| {
            can_be_asked_for(finding.rule)
                || (finding.rule == Rule::Privileged && installs(leaf).is_some())
        });
    let one = One {
        at: *at,
        command: leaf,
        scene,
    };
    (plain && wishes.any(|sentence| one.is_asked_for(sentence))).then_some(Rule::AskedFor)
}

/// Whether the whole line is `sudo` and an installation, and nothing else.
fn installs_as_root(line: &str, leaf: &Command) -> bool {
    let words: Vec<String> = leaf.words().iter().map(ToString::to_string).collect();
    installs(leaf).is_some() && line == format!("sudo {}", words.join(" "))
}

/// The command line as a person would write it.
fn line(action: &CommandAction) -> String {
    match action.command.as_slice() {
        [shell, flag, script]
            if is_interpreter(shell) && flag.starts_with('-') && flag.ends_with('c') =>
        {
            script.clone()
        }
        words => words.join(" "),
    }
}

/// One command with its place.
struct One<'s> {
    at: usize,
    command: &'s Command,
    scene: &'s Scene,
}

impl One<'_> {
    fn is_asked_for(&self, sentence: &Sentence) -> bool {
        let known = |word: &str| self.is_of_action(word, sentence);
        let orders = |verbs: &[&str]| sentence.orders_only(verbs, &known);
        let program = self.command.program().unwrap_or_default();
        match program {
            "rm" | "unlink" => {
                let verbs = ["remove", "delete", "rm", "clean", "clear"];
                let flags = ["-f", "-v", "-i", "-r", "-R"];
                return (orders(&verbs) && self.paths(&flags, sentence))
                    || (sentence.has_any(&verbs) && self.names_recoverable(&flags, sentence));
            }
            "cp" => return orders(&["copy", "cp"]) && self.copies(sentence),
            _ => {}
        }
        let texts = self.command.arguments().iter().map(Word::literal);
        let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
            return false;
        };
        match program {
            "scp" | "rsync" => {
                let verbs = [
                    "copy", "upload", "send", "sync", "publish", "scp", "rsync", "deploy", "fetch",
                ];
                orders(&verbs)
                    && words(
                        &texts,
                        &["-a", "-v", "-z", "-r", "-av", "-avz", "-az"],
                        sentence,
                    )
            }
            "curl" | "aws" => transfers(program, &texts, sentence, &orders),
            _ if installs(self.command).is_some() => self.is_installed(sentence),
            "kill" => {
                orders(&["kill", "stop", "end"])
                    && words(&texts, &["-15", "-TERM", "-9", "-KILL"], sentence)
            }
            "dropdb" => orders(&["drop"]) && words(&texts, &[], sentence),
            "createdb" => orders(&["create"]) && words(&texts, &[], sentence),
            "chmod" => {
                orders(&["make"])
                    && sentence.has("executable")
                    && texts.first() == Some(&"+x")
                    && self.paths_from(1, sentence)
            }
            name if SERVICES.contains(&name) => {
                let verbs: Vec<&str> = texts
                    .iter()
                    .copied()
                    .chain(texts.iter().flat_map(|text| others(text).iter().copied()))
                    .collect();
                !texts.iter().any(|text| listed(RUNS_CODE, text))
                    && orders(&verbs)
                    && words(&texts, harmless(name, &texts), sentence)
            }
            _ => false,
        }
    }

    /// The packages are all named, and nothing else is ordered.
    fn is_installed(&self, sentence: &Sentence) -> bool {
        let packages = installs(self.command).unwrap_or_default();
        let program = self.command.program().unwrap_or_default();
        let known = |word: &str| {
            packages.contains(&word) || program.split('-').next() == Some(word) || word == program
        };
        sentence.orders_only(&["install"], &known)
            && packages.iter().all(|package| sentence.names(package))
    }

    /// Whether a word of an order is one of the action: a word or a part of one, a flag's name, a path in another spelling.
    fn is_of_action(&self, word: &str, sentence: &Sentence) -> bool {
        let lower = word.to_lowercase();
        let mut all = self.command.words().iter().map(ToString::to_string);
        let same = all.any(|text| {
            let text = text.to_lowercase();
            text == lower
                || text.trim_start_matches('-') == lower
                || text.split(['/', '=', ':', '@']).any(|part| part == lower)
                || others(&text).contains(&lower.as_str())
                || text.strip_prefix("head:refs/heads/") == Some(lower.as_str())
                || (self.command.program() == Some("systemctl") && unit(&text) == lower)
                || text
                    .rsplit_once("=@")
                    .is_some_and(|(_, file)| file == lower)
        });
        same || self.command.arguments().iter().any(|argument| {
            let place = self.scene.locate(self.at, argument);
            word.contains('/') && names_place(&place, self.scene, sentence)
        })
    }

    /// Every operand is a path that the sentence names.
    fn paths(&self, flags: &[&str], sentence: &Sentence) -> bool {
        let options = Options::split(self.command.arguments(), &[]);
        options
            .names
            .iter()
            .all(|name| flags.contains(&name.as_str()))
            && options.values.is_empty()
            && !options.operands.is_empty()
            && options
                .operands
                .iter()
                .all(|word| self.names_path(word, sentence))
    }

    /// Every operand can be brought back from the last commit, and the sentence names it, if only by its last name.
    fn names_recoverable(&self, flags: &[&str], sentence: &Sentence) -> bool {
        let options = Options::split(self.command.arguments(), &[]);
        let fine = |word: &&Word| {
            let path = self.scene.locate(self.at, word).certain();
            path.is_some_and(|path| {
                let name = path.rsplit('/').next().unwrap_or_default();
                self.scene.facts.is_recoverable(&path)
                    && (sentence.names(name) || self.names_path(word, sentence))
            })
        };
        options
            .names
            .iter()
            .all(|name| flags.contains(&name.as_str()))
            && options.values.is_empty()
            && !options.operands.is_empty()
            && options.operands.iter().all(fine)
    }

    fn paths_from(&self, first: usize, sentence: &Sentence) -> bool {
        let paths = self.command.arguments().get(first..).unwrap_or_default();
        !paths.is_empty() && paths.iter().all(|word| self.names_path(word, sentence))
    }

    fn names_path(&self, word: &Word, sentence: &Sentence) -> bool {
        let place = self.scene.locate(self.at, word);
        names_place(&place, self.scene, sentence)
    }

    /// A copy to a plain place outside every workspace: in one, a link could turn it elsewhere.
    fn copies(&self, sentence: &Sentence) -> bool {
        let target = self
            .command
            .arguments()
            .last()
            .map(|word| self.scene.locate(self.at, word));
        target.is_some_and(|target| {
            places::is_plain(&target, self.scene) && !self.scene.in_workspace(&target)
        }) && self.paths(&["-v", "-n", "-p"], sentence)
    }
}

/// Flags of a service's tool that change nothing of weight.
fn harmless(program: &str, texts: &[&str]) -> &'static [&'static str] {
    match (program, texts) {
        ("docker" | "podman", ["rm", ..]) => &["-f", "--force"],
        ("gh", ["pr", "create", ..]) => &["--fill", "--draft", "-f", "-d"],
        // Their own services are less than the machine's.
        ("systemctl", _) => &["--user"],
        _ => &["-n", "--namespace", "-q"],
    }
}

/// The packages that a command installs from the system's own sources.
fn installs(command: &Command) -> Option<Vec<&str>> {
    const FLAGS: &str = "-y --yes -q -qq -qy --no-install-recommends --assume-yes";
    let program = command.program()?;
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let texts = texts?;
    let words: Vec<&str> = texts
        .into_iter()
        .filter(|text| !listed(FLAGS, text))
        .collect();
    let ["install", packages @ ..] = words.as_slice() else {
        return None;
    };
    let plain = packages.iter().all(|package| {
        package.starts_with(|c: char| c.is_ascii_alphanumeric())
            && package
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && ![".deb", ".rpm"].iter().any(|end| package.ends_with(end))
    });
    let fits = matches!(program, "apt" | "apt-get" | "dnf" | "yum") && plain;
    (fits && !packages.is_empty()).then(|| packages.to_vec())
}

/// Whether the sentence names this very place, in whichever spelling.
pub(super) fn names_place(place: &Location, scene: &Scene, sentence: &Sentence) -> bool {
    let Some(path) = place.certain() else {
        return false;
    };
    sentence.words.iter().any(|word| {
        let looks_like_one = word.contains(['/', '.'])
            || word.starts_with('~')
            || path.ends_with(&format!("/{word}"));
        let spelled = match word.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", scene.home)
            }
            Some(_) | None => word.clone(),
        };
        looks_like_one && scene.locate_text(&spelled).certain().as_deref() == Some(path.as_str())
    })
}

/// Every word of the command is a word of the sentence, or a flag that changes nothing of weight.
fn words(texts: &[&str], harmless: &[&str], sentence: &Sentence) -> bool {
    texts.iter().any(|text| !text.starts_with('-'))
        && texts
            .iter()
            .all(|text| harmless.contains(text) || accounted(text, sentence))
}

fn accounted(text: &str, sentence: &Sentence) -> bool {
    if let Some(flag) = text.strip_prefix("--") {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let dashed = name.split('-').all(|part| sentence.has(part));
        let told = matches!(name, "title" | "body" | "message") || dashed || sentence.has(name);
        return told && (value.is_empty() || sentence.says(value));
    }
    if text.starts_with('-') {
        return false;
    }
    sentence.names(text)
        || (unit(text) != text && sentence.names(unit(text)))
        || sentence.has(text) && text.chars().all(|c| c.is_ascii_lowercase())
        || sentence.has_any(others(text))
        || (text.contains(' ') && sentence.says(text))
        || text.split_once('/').is_some_and(|(kind, name)| {
            kind.chars().all(|c| c.is_ascii_lowercase())
                && sentence.has(kind)
                && sentence.names(name)
        })
}

/// A unit's name as people say it.
fn unit(text: &str) -> &str {
    [".service", ".timer", ".socket"]
        .iter()
        .find_map(|end| text.strip_suffix(end))
        .unwrap_or(text)
}

/// What people say for a subcommand.
fn others(text: &str) -> &'static [&'static str] {
    match text {
        "rm" => &["remove", "delete"],
        "rmi" => &["remove", "delete"],
        "pr" => &["pull", "pr"],
        "mr" => &["merge", "mr"],
        "rollout" => &["restart"],
        "create" => &["open", "add"],
        _ => &[],
    }
}

/// A file to a place, or an answer from one, as the sentence orders it.
fn transfers(
    program: &str,
    texts: &[&str],
    sentence: &Sentence,
    orders: &dyn Fn(&[&str]) -> bool,
) -> bool {
    let sends = &["upload", "send", "post", "put"];
    let asks = &[
        "fetch", "download", "get", "call", "query", "open", "test", "read",
    ];
    match program {
        "aws" => {
            orders(&["upload", "copy", "sync", "put", "publish"]) && to_bucket(texts, sentence)
        }
        _ => {
            (orders(sends) && uploads(texts, sentence))
                || (orders(asks) && asks_named(texts, sentence))
        }
    }
}

/// `aws s3 cp FILE s3://…`, with the file and the place named: the place itself, or the folder that the file goes to by its
/// own name.
fn to_bucket(texts: &[&str], sentence: &Sentence) -> bool {
    let ["s3", "cp" | "sync", file, place] = texts else {
        return false;
    };
    let name = file
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let folder = place.strip_suffix(name).unwrap_or(place);
    let said = sentence.names(place) || (folder.ends_with('/') && sentence.names(folder));
    place.starts_with("s3://") && said && !file.contains("://") && sentence.names(file)
}

/// `curl` of one address that the sentence names, to the terminal, with nothing sent.
fn asks_named(texts: &[&str], sentence: &Sentence) -> bool {
    let mut addresses = 0;
    let fine = texts.iter().all(|text| match *text {
        "-s" | "-S" | "-f" | "-L" | "-I" | "-i" | "-v" | "-sS" | "-fsS" | "-fsSL" | "-sL"
        | "-sI" | "-sSL" => true,
        address if address.starts_with("https://") => {
            addresses += 1;
            sentence.names(address)
        }
        _ => false,
    });
    fine && addresses == 1
}

/// `curl -F name=@FILE URL` or `curl -T FILE URL`, with file and address named.
fn uploads(texts: &[&str], sentence: &Sentence) -> bool {
    let mut rest = texts.iter();
    let mut files = 0;
    let mut addresses = 0;
    while let Some(text) = rest.next() {
        match *text {
            "-s" | "-S" | "-f" | "-sS" | "-fsS" | "--fail" => {}
            "-F" | "--form" | "-T" | "--upload-file" => {
                let value = rest.next().copied().unwrap_or_default();
                let file = value.split_once("=@").map_or(value, |(_, file)| file);
                if !sentence.names(file) {
                    return false;
                }
                files += 1;
            }
            _ if text.starts_with("https://") && sentence.names(text) => addresses += 1,
            _ => return false,
        }
    }
    files > 0 && addresses == 1
}
