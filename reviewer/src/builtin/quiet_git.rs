//! Calls of git in a repository of which the runner found that it runs nothing of its own.
//!
//! Apart from the calls that are allowed whatever the repository holds. Invariant: each form is written here with its
//! options, stays in the workspace's own repository, and loses nothing that is not in it.

use exec_policy::{Command, Word};

use super::facts::Repository;
use super::git_call::GitCall;
use super::listed;
use super::scene::Scene;

/// Options that change only what is shown, by subcommand.
const LOOKS: &[(&str, &str)] = &[
    (
        "status",
        "-s --short -b --branch --porcelain --long -u -uno -uall -unormal --show-stash --ahead-behind",
    ),
    (
        "diff",
        "--stat --staged --cached --name-only --name-status --shortstat --numstat --check -w -b -p --summary --color --no-color --word-diff -U0 -U1 -U3 -U5 -U10",
    ),
    (
        "log",
        "--oneline --stat -p --graph --all --decorate --name-only --name-status --reverse --merges --no-merges --first-parent --follow --patch",
    ),
    (
        "show",
        "--stat -p --name-only --name-status --oneline --no-patch -s",
    ),
    (
        "branch",
        "-a --all -r --remotes -v -vv --list -l --show-current --merged --no-merged",
    ),
    ("tag", "-l --list"),
    ("remote", "-v --verbose"),
    ("blame", "-w -C -M -s"),
    ("describe", "--tags --always --dirty --long --all"),
    ("shortlog", "-s -n -e -sn -sne"),
    ("rev-parse", "--short --abbrev-ref --show-toplevel --verify"),
    (
        "ls-files",
        "-m --modified -o --others --exclude-standard -s --stage -c --cached -d --deleted",
    ),
    ("stash", ""),
    ("reflog", ""),
];

/// Whether a call only looks at, or adds to, a repository that runs nothing of its own.
pub(super) fn is_harmless(at: usize, command: &Command, scene: &Scene) -> bool {
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let Some(call) = texts.as_deref().and_then(GitCall::of) else {
        return false;
    };
    let here = match call.folder {
        Some(folder) => scene.locate(at, &Word::from_text(folder)).certain(),
        None => scene.folder(at).map(str::to_owned),
    };
    let Some(root) = here.filter(|here| scene.roots.contains(here)) else {
        return false;
    };
    let Some(repository) = scene.facts.quiet(&root) else {
        return false;
    };
    let arguments = call.arguments.as_slice();
    !call.overrides
        && match call.subcommand {
            "add" => adds(arguments),
            "commit" => commits(arguments),
            "stash" => stashes(arguments) || looks(&call),
            "checkout" => matches!(arguments, ["-b", name] if is_name(name)),
            "switch" => {
                matches!(arguments, ["-c" | "--create", name] if is_name(name))
            }
            "fetch" => repository.goes_straight() && fetches(arguments, repository),
            "pull" => {
                repository.goes_straight()
                    && arguments.contains(&"--ff-only")
                    && fetches(arguments, repository)
            }
            _ => looks(&call),
        }
}

/// Whether a call of git is of a form that changes neither index nor tree.
pub(super) fn only_looks(command: &Command) -> bool {
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    texts
        .as_deref()
        .and_then(GitCall::of)
        .is_some_and(|call| looks(&call))
}

fn looks(call: &GitCall<'_>) -> bool {
    let Some((_, options)) = LOOKS.iter().find(|(name, _)| *name == call.subcommand) else {
        return false;
    };
    match (call.subcommand, call.arguments.as_slice()) {
        ("stash", words) => return matches!(words, ["list" | "show"] | ["show", "-p"]),
        ("reflog", words) => return words.is_empty(),
        // With a name these make or change something.
        ("branch" | "tag" | "remote", words) if words.iter().any(|word| !word.starts_with('-')) => {
            return false;
        }
        ("tag", []) => return true,
        _ => {}
    }
    let mut words = call.arguments.iter();
    while let Some(word) = words.next() {
        let number = word
            .strip_prefix('-')
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
        let counted = matches!(*word, "-n" | "--max-count");
        if counted {
            if words
                .next()
                .is_none_or(|count| count.parse::<u32>().is_err())
            {
                return false;
            }
        } else if *word == "--" {
            return words.all(|path| is_path(path));
        } else {
            let fine = if word.starts_with('-') {
                number || listed(options, word)
            } else {
                is_path(word)
            };
            if !fine {
                return false;
            }
        }
    }
    true
}

/// A revision or a path: nothing that a shell or git takes for more.
fn is_path(word: &str) -> bool {
    !word.starts_with(['-', ':', '/', '~'])
        && !word.split('/').any(|part| part == "..")
        && word
            .chars()
            .all(|c| c.is_alphanumeric() || "-_./~^@{}+= ".contains(c))
}

/// A branch's own name.
fn is_name(word: &str) -> bool {
    !word.starts_with(['-', '.', '/'])
        && !word.contains("..")
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

fn adds(words: &[&str]) -> bool {
    !words.is_empty()
        && words.iter().all(|word| {
            matches!(
                *word,
                "-A" | "--all" | "-u" | "--update" | "." | "--" | "-N" | "-v"
            ) || is_path(word)
        })
}

/// With a message of its own, so that no editor is started; round no hook, and over no commit.
fn commits(words: &[&str]) -> bool {
    let mut rest = words.iter();
    let mut messages = 0;
    while let Some(word) = rest.next() {
        match *word {
            "-m" | "--message" | "-am" | "-sm" | "-asm" => {
                messages += 1;
                if rest.next().is_none() {
                    return false;
                }
            }
            "-a" | "--all" | "-s" | "--signoff" | "-q" | "--quiet" | "-v" => {}
            _ if word.starts_with("--message=") => messages += 1,
            _ => return false,
        }
    }
    messages > 0
}

fn stashes(words: &[&str]) -> bool {
    match words {
        [] | ["push" | "pop" | "apply"] => true,
        ["push", rest @ ..] => {
            matches!(
                rest,
                ["-m" | "--message", _] | ["-u" | "--include-untracked"]
            )
        }
        _ => false,
    }
}

/// From remotes by their configured names alone: without one git takes `origin`, and a word that is none for a path.
fn fetches(words: &[&str], repository: &Repository) -> bool {
    let names = words.iter().filter(|word| !word.starts_with('-'));
    names.clone().count() <= 2
        && names.clone().all(|name| is_name(name))
        && repository.has_remote(names.into_iter().next().unwrap_or(&"origin"))
        && words
            .iter()
            .filter(|word| word.starts_with('-'))
            .all(|word| {
                matches!(
                    *word,
                    "--all"
                        | "--prune"
                        | "-p"
                        | "--tags"
                        | "-t"
                        | "--ff-only"
                        | "-q"
                        | "--quiet"
                        | "-v"
                )
            })
}

#[cfg(test)]
mod tests {
    use super::{Repository, adds, commits, is_name, stashes};

    #[test]
    fn forms_that_do_more_are_none() {
        assert!(commits(&["-m", "x"]) && commits(&["-am", "x"]));
        for words in [
            &["-m", "x", "--no-verify"][..],
            &["-n", "-m", "x"],
            &["--amend", "-m", "x"],
            &["-a"],
            &["-F", "/etc/passwd"],
            &["--author=x", "-m", "y"],
            &["-m"],
        ] {
            assert!(!commits(words), "{words:?}");
        }
        let repository = Repository::with_remote("origin");
        let fetches = |words: &[&str]| super::fetches(words, &repository);
        for words in [
            &["https://x/y"][..],
            &["ext::sh -c x"],
            &["--upload-pack=x", "origin"],
            &["/srv/repo"],
            &["../x"],
            &["folder"],
            &["origin", "--recurse-submodules"],
        ] {
            assert!(!fetches(words), "{words:?}");
        }
        assert!(fetches(&[]) && fetches(&["origin"]) && fetches(&["--all", "--prune"]));
        let nameless = Repository::with_remote("mine");
        assert!(
            !super::fetches(&[], &nameless),
            "git takes the word for a path"
        );
        assert!(!stashes(&["drop"]) && !stashes(&["clear"]) && stashes(&["pop"]));
        assert!(!adds(&[]) && !adds(&["-f", "x"]) && !adds(&["/etc/x"]) && adds(&["-A"]));
        assert!(!is_name("-f") && !is_name("a..b") && is_name("feature/x"));
    }
}
