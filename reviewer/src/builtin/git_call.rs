//! Calls of git, taken apart, and those that only read the history of the workspace's own repository.
//!
//! Apart from [`super::quiet_git`], which needs what the runner found out: these hold whatever the repository holds.
//! Invariant: a call that looks at the work tree, or has an option in front that changes settings, is none of them.

use exec_policy::{Command, Word};

use super::Rule;
use super::scene::Scene;

/// One call of git, taken apart.
#[derive(Debug)]
pub(super) struct GitCall<'c> {
    pub(super) subcommand: &'c str,
    pub(super) arguments: Vec<&'c str>,
    /// Where `-C` moves to.
    pub(super) folder: Option<&'c str>,
    /// Whether an option in front changes settings, folders or programs.
    pub(super) overrides: bool,
    /// Whether git was told to take no folder for a repository that is not called `.git`.
    explicit: bool,
}

impl<'c> GitCall<'c> {
    /// Takes a call apart; `None` where there is no subcommand.
    pub(super) fn of(texts: &[&'c str]) -> Option<Self> {
        let mut rest = texts.iter();
        let mut folder = None;
        let mut overrides = false;
        let mut explicit = false;
        loop {
            let text = *rest.next()?;
            match text {
                "-C" if folder.is_none() => folder = rest.next().copied(),
                "--no-pager" | "-P" | "--no-optional-locks" | "--literal-pathspecs" => {}
                "-c" if rest.as_slice().first() == Some(&"safe.bareRepository=explicit") => {
                    explicit = true;
                    rest.next();
                }
                "-c" | "--config-env" | "--exec-path" | "--git-dir" | "--namespace"
                | "--super-prefix" | "--work-tree" | "-C" => {
                    overrides = true;
                    rest.next();
                }
                _ if text.starts_with('-') => overrides = true,
                _ => {
                    return Some(Self {
                        subcommand: text,
                        arguments: rest.copied().collect(),
                        folder,
                        overrides,
                        explicit,
                    });
                }
            }
        }
    }
}

/// Reads of the history from a workspace root: there `.git` lies behind the walls and holds nothing of the agent's. A
/// root without one could be laid out as a bare repository whose settings name programs, so git has to be told not to
/// take it for one. Calls that look at the work tree are not among them, since they may run what a nested repository's
/// own settings name.
pub(super) fn reads_history(at: usize, command: &Command, scene: &Scene) -> Option<Rule> {
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let call = GitCall::of(&texts?)?;
    if call.subcommand == "config" && call.folder.is_none() {
        return reads_setting(&call).then_some(Rule::GitReads);
    }
    let here = match call.folder {
        Some(folder) => scene.locate(at, &Word::from_text(folder)).certain()?,
        None => scene.folder(at)?.to_owned(),
    };
    if call.overrides || !call.explicit || !scene.roots.contains(&here) {
        return None;
    }
    let listing = |allowed: &[&str]| call.arguments.iter().all(|text| allowed.contains(text));
    let reads = match call.subcommand {
        "log" | "show" | "rev-parse" | "rev-list" | "shortlog" | "cat-file" | "ls-tree"
        | "name-rev" | "merge-base" | "for-each-ref" | "show-ref" | "blame" => {
            !call.arguments.iter().any(|text| writes_or_runs(text))
        }
        "branch" => listing(&[
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
        ]),
        "remote" => listing(&["-v", "--verbose"]),
        "tag" | "stash" => !call.arguments.is_empty() && listing(&["--list", "-l", "list"]),
        "version" => call.arguments.is_empty(),
        _ => false,
    };
    reads.then_some(Rule::GitReads)
}

/// `git config --get NAME` of a setting that says who or how, not where or with which key.
pub(super) fn reads_setting(call: &GitCall<'_>) -> bool {
    let name = match call.arguments.as_slice() {
        ["--get" | "get", name] | ["--global" | "--local", "--get", name] => *name,
        _ => return false,
    };
    !call.overrides
        && [
            "user.", "core.", "init.", "pull.", "push.", "merge.", "rebase.", "branch.", "color.",
        ]
        .iter()
        .any(|start| name.starts_with(start))
}

/// An option of git by which it writes a file or runs a program, also abbreviated as git allows.
fn writes_or_runs(text: &str) -> bool {
    const OPTIONS: &[&str] = &[
        "--output",
        "--ext-diff",
        "--textconv",
        "--exec",
        "--open-files-in-pager",
        "--upload-pack",
        "--show-signature",
    ];
    let name = text.split('=').next().unwrap_or(text);
    let long = name.len() > 2
        && name.starts_with("--")
        && OPTIONS.iter().any(|option| option.starts_with(name));
    // `%G` in a format asks for a signature to be checked, which runs a program.
    long || text.starts_with("-O") || text.contains("%G")
}
