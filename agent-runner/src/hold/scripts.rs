//! Which files of a command are scripts that something will read and obey.
//!
//! Found on the one reading of the command, so through wrappers and `sh -c` too. Errs towards holding: a file that is
//! held and is no script stays readable and only cannot be written by that one run.

use std::path::{Path, PathBuf};

use exec_policy::{Command, Reading, Word};

use super::{HoldError, lies_in, shown};

/// Programs that read a script, by the start of their name.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "python", "pypy", "node", "nodejs", "deno", "bun", "perl",
    "ruby", "php", "lua", "tclsh", "Rscript",
];

/// Those of them whose first word may be no file.
const WITH_SUBCOMMANDS: &[&str] = &["node", "nodejs", "deno", "bun"];

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
    let mut found = Vec::new();
    for (place, command) in reading.commands().iter().enumerate() {
        let name = command.program().unwrap_or_default();
        // The first is the program itself, which is held open: what it is counts, and the name by which it goes.
        let own = program
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|_| place == 0);
        if place > 0 {
            found.extend(
                command
                    .program_word()
                    .and_then(|word| file(word, cwd))
                    .filter(|_| by_path(command))
                    .map(|Named(path, _)| Named::started(path)),
            );
        }
        if is_interpreter(name) || own.is_some_and(is_interpreter) {
            found.extend(scripts_of(command, cwd));
        } else if matches!(name, "." | "source") {
            found.extend(command.arguments().first().and_then(|word| file(word, cwd)));
        }
    }
    found
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
fn scripts_of(command: &Command, cwd: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    let mut after_option = false;
    for word in command.arguments() {
        let text = word.literal_prefix();
        if text.starts_with(['-', '+']) && text.len() > 1 {
            let value = word
                .literal()
                .and_then(|text| text.split_once('='))
                .map(|(_, value)| Word::from_text(value));
            found.extend(value.and_then(|value| file(&value, cwd)));
            after_option = true;
            continue;
        }
        if let Some(script) = file(word, cwd) {
            found.push(script);
            if !after_option {
                break;
            }
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

/// The regular file that `word` names, as written.
fn file(word: &Word, cwd: &Path) -> Option<Named> {
    let path = cwd.join(word.literal()?);
    path.is_file().then_some(Named(path, Use::Read))
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
            for name in ["task.sh", "rc", "x.py", "data"] {
                std::fs::write(path.join(name), "").expect("a file");
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
