//! Known safe and dangerous: the two lists of the documented approval policy.
//!
//! Apart, because approval policy asks for exactly these two. Invariant: a program on the conditional list is safe only
//! where every one of its words is certain and none of them is an option that writes or runs something.

use crate::command::Command;
use crate::word::Word;

/// Programs that only look, whatever their arguments.
const ALWAYS: &[&str] = &[
    "cat", "cd", "cut", "echo", "expr", "false", "grep", "head", "id", "ls", "nl", "numfmt",
    "paste", "pwd", "rev", "seq", "stat", "tac", "tail", "tr", "true", "uname", "wc", "which",
    "whoami",
];

/// `rm` that does not ask, also behind `sudo`.
pub(crate) fn is_dangerous(command: &Command) -> bool {
    command.program() == Some("rm")
        && command
            .arguments()
            .iter()
            .take_while(|word| word.literal() != Some("--"))
            .any(|word| {
                let text = word.literal_prefix();
                text == "--force"
                    || (text.starts_with('-') && !text.starts_with("--") && text.contains('f'))
            })
}

/// Whether the command only looks.
pub(crate) fn is_known_safe(command: &Command) -> bool {
    if !command.assignments().is_empty() || !named_plainly(command) {
        return false;
    }
    let Some(program) = command.program() else {
        return false;
    };
    let arguments = command.arguments();
    if ALWAYS.contains(&program) {
        return !arguments.iter().any(Word::has_unknown);
    }
    let certain: Option<Vec<&str>> = arguments.iter().map(Word::literal).collect();
    certain.is_some_and(|words| conditionally(program, &words))
}

/// A bare name, or a path in a system folder: `./ls` is somebody else's `ls`.
fn named_plainly(command: &Command) -> bool {
    command
        .program_word()
        .and_then(Word::literal)
        .is_some_and(|name| {
            !name.contains('/')
                || [
                    "/bin/",
                    "/usr/bin/",
                    "/usr/local/bin/",
                    "/sbin/",
                    "/usr/sbin/",
                ]
                .iter()
                .any(|folder| {
                    name.strip_prefix(folder)
                        .is_some_and(|rest| !rest.contains('/'))
                })
        })
}

fn conditionally(program: &str, words: &[&str]) -> bool {
    let none = |bad: &dyn Fn(&str) -> bool| !words.iter().any(|word| bad(word));
    match program {
        "base64" => none(&|word| word.starts_with("-o") || option(word, "--output")),
        // `uniq IN OUT` writes OUT.
        "uniq" => words.iter().filter(|word| !word.starts_with('-')).count() <= 1,
        "find" => none(&|word| {
            [
                "-exec", "-execdir", "-ok", "-okdir", "-delete", "-fls", "-fprint", "-fprint0",
                "-fprintf",
            ]
            .contains(&word)
        }),
        "rg" => none(&|word| {
            option(word, "--pre")
                || option(word, "--hostname-bin")
                || option(word, "--search-zip")
                || (word.starts_with('-') && !word.starts_with("--") && word.contains('z'))
        }),
        "sed" => sed(words),
        "git" => git(words),
        _ => false,
    }
}

/// `--name`, `--name=value`, or an abbreviation that getopt would take for it.
fn option(word: &str, name: &str) -> bool {
    let given = word.split('=').next().unwrap_or(word);
    given.len() > 2 && given.starts_with("--") && name.starts_with(given)
}

/// `sed -n Np [FILE]` and `sed -n M,Np [FILE]`.
fn sed(words: &[&str]) -> bool {
    let (["-n", range] | ["-n", range, _]) = words else {
        return false;
    };
    if words.get(2).is_some_and(|file| file.starts_with('-')) {
        return false;
    }
    range.strip_suffix('p').is_some_and(|range| {
        range.split(',').count() <= 2
            && range
                .split(',')
                .all(|line| !line.is_empty() && line.chars().all(|c| c.is_ascii_digit()))
    })
}

/// `git status|log|diff|show`, and `git branch` that lists.
fn git(words: &[&str]) -> bool {
    const VALUED: &[&str] = &[
        "-C",
        "--exec-path",
        "--git-dir",
        "--namespace",
        "--super-prefix",
        "--work-tree",
    ];
    if words.iter().any(|word| config_override(word)) {
        return false;
    }
    let mut rest = words.iter();
    let subcommand = loop {
        match rest.next() {
            None => return false,
            Some(word) if VALUED.contains(word) => {
                rest.next();
            }
            Some(word) if word.starts_with('-') => {}
            Some(word) => break *word,
        }
    };
    let arguments: Vec<&str> = rest.copied().collect();
    let bad = |word: &str| {
        [
            "--output",
            "--ext-diff",
            "--textconv",
            "--exec",
            "--paginate",
        ]
        .iter()
        .any(|name| option(word, name))
            || word.starts_with("-O")
    };
    match subcommand {
        "status" | "log" | "diff" | "show" => !arguments.iter().any(|word| bad(word)),
        "branch" => arguments.iter().all(|word| {
            [
                "--list",
                "-l",
                "--show-current",
                "-a",
                "--all",
                "-r",
                "--remotes",
                "-v",
                "-vv",
                "--verbose",
            ]
            .contains(word)
                || word.starts_with("--format=")
        }),
        _ => false,
    }
}

fn config_override(word: &str) -> bool {
    (word.starts_with("-c") && !word.starts_with("--"))
        || word.starts_with("--config-env")
        || word.starts_with("-p")
}

#[cfg(test)]
mod tests;
