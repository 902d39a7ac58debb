//! Which files of a command are scripts that something will read and obey.
//!
//! Found on the one reading of the command, so through wrappers and `sh -c` too, from every folder that the command names:
//! which of them a shell stands in by then only it knows. Errs towards holding: a file that is held and is no script stays
//! readable and only cannot be written by that one run.

use std::path::{Path, PathBuf};

use exec_policy::{Command, Reading, Redirect, Word};

use super::{HoldError, lies_in, shown};

/// Programs that read a script, by the start of their name.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "python", "pypy", "node", "nodejs", "deno", "bun", "perl",
    "ruby", "php", "lua", "tclsh", "Rscript",
];

/// Those of them whose first word may be no file.
const WITH_SUBCOMMANDS: &[&str] = &["node", "nodejs", "deno", "bun"];

/// From how many folders a name is looked for.
const MOST_FOLDERS: usize = 32;

/// A file as the command names it.
pub(super) struct Named(PathBuf, Use);

/// What becomes of a named file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The kernel starts it, by its first line where it is a script.
    Started,
    /// An interpreter reads it, whatever its first line says.
    Read,
}

impl Named {
    /// The file at `path`, which is absolute, and started.
    pub(super) fn started(path: PathBuf) -> Self {
        Self(path, Use::Started)
    }

    /// What becomes of it.
    pub(super) fn is(&self) -> Use {
        self.1
    }

    /// The file itself.
    ///
    /// # Errors
    /// A link on the way lies where commands may write: it could be turned after the review.
    pub(super) fn resolved(&self, writable_roots: &[PathBuf]) -> Result<PathBuf, HoldError> {
        for link in self.0.ancestors().filter(|path| path.is_symlink()) {
            // Where the link itself lies, whatever links lead there.
            let parent = link.parent().and_then(|parent| parent.canonicalize().ok());
            if parent.is_none_or(|parent| lies_in(&parent, writable_roots)) {
                return Err(HoldError::Turnable(shown(&self.0)));
            }
        }
        self.0
            .canonicalize()
            .map_err(|source| HoldError::Unreadable {
                path: shown(&self.0),
                source,
            })
    }
}

/// The files that `reading` says will be read as scripts, or run by a command within the command.
pub(super) fn named(program: &Path, reading: &Reading, cwd: &Path) -> Vec<Named> {
    let folders = folders(reading, cwd);
    let mut found = Vec::new();
    let mut reads_input = false;
    for (place, command) in reading.commands().iter().enumerate() {
        let name = command.program().unwrap_or_default();
        // The first is the program itself, which is held open: what it is counts, and the name by which it goes.
        let own = program
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|_| place == 0);
        if place > 0
            && by_path(command)
            && let Some(word) = command.program_word()
        {
            let started = files(word, &folders).map(|Named(path, _)| Named::started(path));
            found.extend(started);
        }
        if is_interpreter(name) || own.is_some_and(is_interpreter) {
            found.extend(scripts_of(command, &folders));
            reads_input |= has_no_script(command);
        } else if matches!(name, "." | "source") {
            let script = command.arguments().first();
            found.extend(script.into_iter().flat_map(|word| files(word, &folders)));
        }
    }
    if reads_input {
        // A wrapper hands its own input on, so whose redirect it is does not matter.
        let redirects = reading.commands().iter().flat_map(Command::redirects);
        for redirect in redirects {
            if let Redirect::Read(word) = redirect {
                found.extend(files(word, &folders));
            }
        }
    }
    found
}

/// The folders that relative names may be meant from: the start, and each that a word names from one of them, as `cd sub` and
/// `env -C sub` do.
fn folders(reading: &Reading, cwd: &Path) -> Vec<PathBuf> {
    let mut folders = vec![cwd.to_owned()];
    let words = reading.commands().iter().flat_map(Command::arguments);
    for text in words.filter_map(Word::literal) {
        let glued = text
            .strip_prefix("-C")
            .or_else(|| text.split_once('=').map(|(_, value)| value));
        for name in [Some(text), glued].into_iter().flatten() {
            let more: Vec<_> = folders
                .iter()
                .map(|folder| folder.join(name))
                .filter(|path| !name.is_empty() && path.is_dir() && !folders.contains(path))
                .collect();
            folders.extend(more);
            folders.truncate(MOST_FOLDERS);
        }
    }
    folders
}

/// Whether an interpreter is given no file to read, so that it reads its input.
fn has_no_script(command: &Command) -> bool {
    command
        .arguments()
        .iter()
        .all(|word| word.literal_prefix().starts_with(['-', '+']))
        || command
            .arguments()
            .iter()
            .any(|word| matches!(word.literal(), Some("-s" | "-" | "/dev/stdin")))
}

/// The script that the command itself gives its interpreter, as `sh gen.sh`, where it is not there: what comes to lie there
/// by the time it runs was reviewed by nobody. Behind an option a word may be its value, so only the plain form is told;
/// within a script a command may well make what the next one reads.
pub(super) fn absent(reading: &Reading, cwd: &Path) -> Option<PathBuf> {
    let command = reading.commands().first()?;
    let plain = command
        .program()
        .is_some_and(|name| is_interpreter(name) && !WITH_SUBCOMMANDS.contains(&name));
    let word = command.arguments().first().filter(|_| plain)?.literal()?;
    let path = cwd.join(word);
    let named = !word.is_empty() && !word.starts_with(['-', '+']);
    (named && path.symlink_metadata().is_err()).then_some(path)
}

/// The operand that names a file, and every file that an option brings along.
fn scripts_of(command: &Command, folders: &[PathBuf]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut after_option = false;
    for word in command.arguments() {
        let text = word.literal_prefix();
        if text.starts_with(['-', '+']) && text.len() > 1 {
            let value = word
                .literal()
                .and_then(|text| text.split_once('='))
                .map(|(_, value)| Word::from_text(value));
            found.extend(value.iter().flat_map(|value| files(value, folders)));
            after_option = true;
            continue;
        }
        let before = found.len();
        found.extend(files(word, folders));
        if found.len() > before && !after_option {
            break;
        }
        after_option = false;
    }
    found
}

fn by_path(command: &Command) -> bool {
    command
        .program_word()
        .and_then(Word::literal)
        .is_some_and(|word| word.contains('/'))
}

fn is_interpreter(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&stem)
}

/// The regular files that `word` names, as written, from one of `folders`.
fn files<'a>(word: &'a Word, folders: &'a [PathBuf]) -> impl Iterator<Item = Named> + 'a {
    word.literal().into_iter().flat_map(move |name| {
        let mut paths: Vec<PathBuf> = folders.iter().map(|folder| folder.join(name)).collect();
        paths.dedup();
        paths
            .into_iter()
            .filter(|path| path.is_file())
            .map(|path| Named(path, Use::Read))
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use exec_policy::Reading;

    use super::named;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("auto-review-scripts-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&path).expect("a folder");
            for name in [
                "task.sh",
                "rc",
                "x.py",
                "data",
                "sub/deep.sh",
                "sub/in/deeper.sh",
            ] {
                let path = path.join(name);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, "").expect("a file");
            }
            Self(path.canonicalize().expect("a path"))
        }

        fn found(&self, program: &str, words: &[&str]) -> Vec<String> {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = named(Path::new(program), &Reading::of_argv(&words), &self.0);
            found
                .iter()
                .map(|file| {
                    file.0
                        .file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned()
                })
                .collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("the folder is removed");
        }
    }

    #[test]
    fn a_script_is_found_behind_options_wrappers_and_shells() {
        let scratch = Scratch::new();
        for words in [
            &["sh", "task.sh"][..],
            &["sh", "-e", "task.sh"],
            &["sh", "-eu", "./task.sh", "x.py"],
            &["bash", "-o", "errexit", "task.sh"],
            &["bash", "--norc", "task.sh"],
            &["env", "sh", "task.sh"],
            &["timeout", "20", "sh", "task.sh"],
            &["sh", "-c", "sh task.sh"],
            &["sh", "-c", ". ./task.sh"],
            &["sh", "-c", "./task.sh > data"],
        ] {
            assert!(
                scratch
                    .found("/bin/x", words)
                    .contains(&"task.sh".to_owned()),
                "{words:?}"
            );
        }
        assert_eq!(
            scratch.found("/usr/bin/python3.11", &["python3", "x.py", "data"]),
            ["x.py"]
        );
        assert_eq!(
            scratch.found("/bin/bash", &["bash", "--rcfile", "rc", "task.sh"]),
            ["rc", "task.sh"]
        );
        assert_eq!(
            scratch.found("/bin/bash", &["bash", "--rcfile=rc", "task.sh"]),
            ["rc", "task.sh"]
        );
    }

    #[test]
    fn a_script_is_found_from_every_folder_that_the_command_goes_to() {
        let scratch = Scratch::new();
        for (words, name) in [
            (&["sh", "-c", "cd sub && ./deep.sh"][..], "deep.sh"),
            (&["sh", "-c", "cd sub; . ./deep.sh"], "deep.sh"),
            (&["sh", "-c", "cd ./sub/ && sh deep.sh"], "deep.sh"),
            (
                &["sh", "-c", "pushd sub; (cd in; sh ./deeper.sh)"],
                "deeper.sh",
            ),
            (
                &["sh", "-c", "if true; then cd sub; fi; ./deep.sh"],
                "deep.sh",
            ),
            (&["sh", "-c", "env -C sub ./deep.sh"], "deep.sh"),
            (&["env", "-C", "sub", "./deep.sh"], "deep.sh"),
            (&["env", "-Csub", "./deep.sh"], "deep.sh"),
            (&["env", "--chdir=sub", "sh", "deep.sh"], "deep.sh"),
            (&["sh", "-c", "sh < sub/deep.sh"], "deep.sh"),
            (
                &["sh", "-c", "cd sub; timeout 5 bash -s < deep.sh"],
                "deep.sh",
            ),
            (&["sh", "-c", "env python3 - < x.py"], "x.py"),
        ] {
            let found = scratch.found("/bin/x", words);
            assert!(found.contains(&name.to_owned()), "{words:?}: {found:?}");
        }
        let data = scratch.found("/bin/x", &["sh", "-c", "python3 x.py < data"]);
        assert_eq!(data, ["x.py"], "an input of data is no script");
    }

    #[test]
    fn what_is_no_script_is_left_alone() {
        let scratch = Scratch::new();
        assert!(scratch.found("/bin/cat", &["cat", "data"]).is_empty());
        assert!(scratch.found("/bin/sh", &["sh", "missing.sh"]).is_empty());
        assert!(
            scratch
                .found("/bin/cp", &["cp", "task.sh", "data"])
                .is_empty()
        );
    }
}
