//! What is worth knowing about a command, found on its reading: [`inquiries`], as data.
//!
//! Pure but for asking whether a script is a regular file, and apart from the looking. Invariant: what cannot be asked (a path that only a running shell knows) is an inquiry
//! too, so that it is said and not dropped.

use std::path::{Path, PathBuf};

use exec_policy::{Command, Effect, Extent, Location, Reading, Rest, Surroundings, Word};

/// The most paths that are looked at.
const MAX_PATHS: usize = 64;

/// One thing to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inquiry {
    /// What stands at a path, and what the command does to it.
    Path {
        /// The path, absolute; of a pattern, the folder in which it is matched.
        path: PathBuf,
        /// The pattern.
        pattern: Option<String>,
        /// What is done to it.
        done: Done,
    },
    /// What cannot be found out, and why.
    Unknown {
        /// The thing as the command writes it.
        written: String,
        /// Why.
        reason: &'static str,
    },
    /// The repository that a folder lies in.
    Repository {
        /// The folder.
        folder: PathBuf,
        /// What would be pushed, where something would.
        push: Option<Push>,
        /// Paths of which it matters whether they are committed.
        tracked: Vec<PathBuf>,
    },
    /// A host that is reached.
    Host {
        /// As the command writes it.
        written: String,
    },
}

/// What a command does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It is removed, by itself.
    Removed,
    /// It is removed with all below it.
    RemovedWhole,
    /// It is moved away.
    Moved,
    /// It is made, or written over.
    Written,
    /// Its content is sent to a host.
    Sent,
    /// It is read as a script.
    Script,
}

impl Done {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::RemovedWhole => "removed_whole",
            Self::Moved => "moved",
            Self::Written => "written",
            Self::Sent => "sent",
            Self::Script => "script",
        }
    }

    fn is_loss(self) -> bool {
        matches!(
            self,
            Self::Removed | Self::RemovedWhole | Self::Moved | Self::Written
        )
    }
}

/// A `git push` as its words say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Push {
    /// The remote's name or address, where it is named.
    pub(super) remote: Option<String>,
    /// What is pushed where, as written; empty: what the settings say.
    pub(super) refspecs: Vec<String>,
    /// Whether history may be thrown away, things removed, or hooks skipped: the options as written.
    pub(super) options: Vec<String>,
}

/// What is worth knowing about `reading`, run in `cwd` by somebody whose home is `home`.
pub(super) fn inquiries(reading: &Reading, cwd: &Path, home: &Path) -> Vec<Inquiry> {
    let surroundings = Surroundings {
        cwd: moved_to(reading, cwd),
        home: home.to_string_lossy().into_owned(),
    };
    let mut found = Vec::new();
    for command in reading.commands() {
        for effect in command.effects() {
            found.extend(of_effect(&effect, &surroundings));
        }
        found.extend(unusual_script(command, &surroundings));
    }
    dedup(&mut found);
    let paths = found.len();
    if paths > MAX_PATHS {
        found.truncate(MAX_PATHS);
        found.push(Inquiry::Unknown {
            written: format!("{} more paths", paths - MAX_PATHS),
            reason: "too_many",
        });
    }
    found.extend(repository(reading, &found, &surroundings));
    if !reading.is_complete() {
        found.push(Inquiry::Unknown {
            written: "the whole of the command".to_owned(),
            reason: "not_read",
        });
    }
    found
}

/// The folder that relative words are read from: where the command starts, or where one `cd` at its beginning leads. `None`
/// where that is the shell's to know.
fn moved_to(reading: &Reading, cwd: &Path) -> Option<String> {
    let start = cwd.to_str()?.to_owned();
    let moves = |command: &&Command| matches!(command.program(), Some("cd" | "pushd" | "popd"));
    let mut moving = reading.leaves().filter(moves);
    let Some(first) = moving.next() else {
        return Some(start);
    };
    let surroundings = Surroundings {
        cwd: Some(start),
        home: String::new(),
    };
    let leads = reading.leaves().next().is_some_and(|leaf| leaf == first);
    let [word] = first.arguments() else {
        return None;
    };
    word.literal()?;
    let target = Location::of(word, &surroundings).certain();
    target.filter(|_| leads && reading.is_plain() && moving.next().is_none())
}

fn of_effect(effect: &Effect, surroundings: &Surroundings) -> Option<Inquiry> {
    let (word, done) = match effect {
        Effect::Deletes(word, Extent::Tree) => (word, Done::RemovedWhole),
        Effect::Deletes(word, Extent::One) => (word, Done::Removed),
        Effect::Deletes(word, Extent::Moved) => (word, Done::Moved),
        Effect::Writes(word) => (word, Done::Written),
        Effect::Sends(word) => (word, Done::Sent),
        Effect::Reaches(Some(word)) => {
            return Some(Inquiry::Host {
                written: word.to_string(),
            });
        }
        Effect::Reaches(None)
        | Effect::Reads(_)
        | Effect::SendsInput
        | Effect::Privileged
        | Effect::ChangesSystem
        | Effect::Runs => return None,
    };
    if matches!(
        word.literal(),
        Some("/dev/null" | "-" | "/dev/stdout" | "/dev/stderr")
    ) {
        return None;
    }
    Some(at(word, done, surroundings))
}

/// The path that `word` names.
fn at(word: &Word, done: Done, surroundings: &Surroundings) -> Inquiry {
    let unknown = || Inquiry::Unknown {
        written: word.to_string(),
        reason: "known_to_the_shell_only",
    };
    let absolute = word.literal_prefix().starts_with('/')
        || word.pieces().first() == Some(&exec_policy::Piece::Home);
    if !absolute && surroundings.cwd.is_none() {
        return unknown();
    }
    let location = Location::of(word, surroundings);
    let (names, rest) = location.certain_names();
    let path = PathBuf::from(format!("/{}", names.join("/")));
    match rest {
        Rest::Nothing => Inquiry::Path {
            path,
            pattern: None,
            done,
        },
        Rest::Pattern(pattern) => Inquiry::Path {
            path,
            pattern: Some(pattern.to_owned()),
            done,
        },
        Rest::Anything => unknown(),
    }
}

/// A script that is no regular file, so that nobody holds it: a pipe, a device.
fn unusual_script(command: &Command, surroundings: &Surroundings) -> Option<Inquiry> {
    const SHELLS: [&str; 9] = [
        "sh", "bash", "dash", "zsh", "ksh", "python", "python3", "perl", "node",
    ];
    let program = command.program()?;
    if !SHELLS.contains(&program) && !matches!(program, "." | "source") {
        return None;
    }
    let word = command
        .arguments()
        .iter()
        .find(|word| !word.literal_prefix().starts_with(['-', '+']))?;
    word.literal()?;
    let inquiry = at(word, Done::Script, surroundings);
    let is_odd = |path: &Path| path.symlink_metadata().is_ok() && !path.is_file();
    let odd = matches!(&inquiry, Inquiry::Path { path, .. } if is_odd(path));
    odd.then_some(inquiry)
}

/// The repository that matters: where git works, or where something is lost.
fn repository(
    reading: &Reading,
    found: &[Inquiry],
    surroundings: &Surroundings,
) -> Option<Inquiry> {
    let git = reading
        .leaves()
        .find(|command| command.program() == Some("git"));
    let tracked: Vec<PathBuf> = found
        .iter()
        .filter_map(|inquiry| match inquiry {
            Inquiry::Path { path, done, .. } => done.is_loss().then(|| path.clone()),
            Inquiry::Unknown { .. } | Inquiry::Repository { .. } | Inquiry::Host { .. } => None,
        })
        .collect();
    if git.is_none() && tracked.is_empty() {
        return None;
    }
    let cwd = surroundings.cwd.clone();
    let (folder, push) = match git {
        Some(command) => {
            let (folder, words) = subcommand(command, surroundings);
            (folder, push(&words))
        }
        None => (cwd, None),
    };
    Some(match folder {
        Some(folder) => Inquiry::Repository {
            folder: PathBuf::from(folder),
            push,
            tracked,
        },
        None => Inquiry::Unknown {
            written: "the repository".to_owned(),
            reason: "known_to_the_shell_only",
        },
    })
}

/// The folder in which git works (`-C` moves it), and the words from its sub-command on.
fn subcommand<'r>(
    command: &'r Command,
    surroundings: &Surroundings,
) -> (Option<String>, Vec<&'r Word>) {
    let mut folder = surroundings.cwd.clone();
    let mut words = command.arguments().iter();
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        match word.literal() {
            Some("-C") => {
                let from = Surroundings {
                    cwd: folder,
                    home: surroundings.home.clone(),
                };
                folder = words
                    .next()
                    .and_then(|word| Location::of(word, &from).certain());
            }
            Some("-c" | "--namespace" | "--config-env") => {
                words.next();
            }
            Some(option)
                if option.starts_with("--git-dir") || option.starts_with("--work-tree") =>
            {
                folder = None
            }
            Some(option) if option.starts_with('-') => {}
            _ => {
                rest.push(word);
                rest.extend(words);
                break;
            }
        }
    }
    (folder, rest)
}

fn push(words: &[&Word]) -> Option<Push> {
    let (first, rest) = words.split_first()?;
    if first.literal() != Some("push") {
        return None;
    }
    let texts: Vec<String> = rest.iter().map(|word| word.to_string()).collect();
    let (options, mut operands): (Vec<String>, Vec<String>) =
        texts.into_iter().partition(|text| text.starts_with('-'));
    let named = options.iter().any(|option| option.starts_with("--repo="));
    let remote = (!operands.is_empty() && !named).then(|| operands.remove(0));
    Some(Push {
        remote,
        refspecs: operands,
        options,
    })
}

fn dedup(found: &mut Vec<Inquiry>) {
    let mut seen: Vec<Inquiry> = Vec::new();
    for inquiry in found.drain(..) {
        if !seen.contains(&inquiry) {
            seen.push(inquiry);
        }
    }
    *found = seen;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use exec_policy::Reading;

    use super::{Done, Inquiry, inquiries};

    fn asked(script: &str) -> Vec<Inquiry> {
        let words = ["sh", "-c", script].map(str::to_owned);
        inquiries(
            &Reading::of_argv(&words),
            Path::new("/w"),
            Path::new("/home/u"),
        )
    }

    fn paths(script: &str) -> Vec<(String, Done)> {
        asked(script)
            .into_iter()
            .filter_map(|inquiry| match inquiry {
                Inquiry::Path { path, done, .. } => Some((path.display().to_string(), done)),
                Inquiry::Unknown { .. } | Inquiry::Repository { .. } | Inquiry::Host { .. } => None,
            })
            .collect()
    }

    #[test]
    fn what_is_removed_written_and_sent_is_asked_after() {
        assert_eq!(
            paths("rm -rf build/"),
            [("/w/build".to_owned(), Done::RemovedWhole)]
        );
        assert_eq!(paths("rm ~/x"), [("/home/u/x".to_owned(), Done::Removed)]);
        assert_eq!(
            paths("echo x > notes.txt"),
            [("/w/notes.txt".to_owned(), Done::Written)]
        );
        assert_eq!(
            paths("curl -T data.bin https://h.example"),
            [("/w/data.bin".to_owned(), Done::Sent)]
        );
        assert_eq!(
            paths("cd sub && rm x"),
            [("/w/sub/x".to_owned(), Done::Removed)]
        );
    }

    #[test]
    fn what_only_a_shell_knows_is_said_and_not_guessed() {
        for script in [
            "rm -rf \"$X\"",
            "cd \"$Y\"; rm x",
            "rm x; cd y; rm z",
            "rm -rf $(pwd)/x",
        ] {
            assert!(
                asked(script)
                    .iter()
                    .any(|inquiry| matches!(inquiry, Inquiry::Unknown { .. })),
                "{script}: {:?}",
                asked(script)
            );
        }
        assert!(paths("cd \"$Y\" && rm x").is_empty());
    }

    #[test]
    fn a_push_is_asked_after_by_its_words() {
        let found = asked("git -C sub push --force origin main:release");
        let push = found.iter().find_map(|inquiry| match inquiry {
            Inquiry::Repository { folder, push, .. } => Some((folder.clone(), push.clone())),
            Inquiry::Path { .. } | Inquiry::Unknown { .. } | Inquiry::Host { .. } => None,
        });
        let (folder, push) = push.expect("a repository");
        let push = push.expect("a push");
        assert_eq!(folder, Path::new("/w/sub"));
        assert_eq!(push.remote.as_deref(), Some("origin"));
        assert_eq!(push.refspecs, ["main:release"]);
        assert_eq!(push.options, ["--force"]);
    }
}
