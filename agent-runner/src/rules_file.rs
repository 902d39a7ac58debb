//! From the text of a rules file to its rules: the reader that this program carries is started from memory, and what it said
//! of an unchanged file is remembered in the state folder.
//!
//! Apart from [`crate::config`] because a program is started here. The reader is a process of its own because the language
//! is larger than this program (see `build.rs`). Invariant: what comes back is checked by `exec_policy` before it is a rule;
//! a reader that fails stops everything, and nothing but a whole answer of this very reader for this very text is remembered.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use exec_policy::{MAX_RULES_BYTES, RuleSet, RulesError, WrittenRules};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::own_file;

/// The reader, as `build.rs` made it.
const READER: &[u8] = include_bytes!(env!("RULES_READER"));
/// Which reader it is.
const READER_ID: &str = env!("RULES_READER_ID");

/// The longest answer that is taken, in bytes: what fifty thousand calls can say.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// How many files' answers are remembered.
const MOST_REMEMBERED: usize = 64;

/// Why a rules file cannot be used. Nothing runs then.
#[derive(Debug, Error)]
pub(crate) enum RulesFileError {
    /// It is not as it must be.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The reader did not do its work.
    #[error("cannot run the reader of rules for `{file}`")]
    Reader {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where what the reader said is remembered: a folder that no command can write (design D16).
#[derive(Debug)]
pub(crate) struct Memory(PathBuf);

#[derive(Serialize)]
struct Question<'a> {
    file: &'a str,
    text: &'a str,
    home: &'a str,
}

/// What was said of one file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// Of which reader, file and text.
    key: String,
    rules: WrittenRules,
}

/// Adds the rules of the file named `file`, which holds `text`. `home` is what `~` stands for in it.
///
/// # Errors
/// See [`RulesFileError`]; `rules` is unchanged then.
pub(crate) fn load_rules(
    rules: &mut RuleSet,
    file: &str,
    text: &str,
    home: &str,
) -> Result<(), RulesFileError> {
    let written = read(&Question { file, text, home })?;
    Ok(rules.add_written(file, &written)?)
}

impl Memory {
    /// Below the state folder `dir`.
    pub(crate) fn in_state(dir: &Path) -> Self {
        Self(dir.join("rules"))
    }

    /// The same as [`load_rules`], without the reader where the file has not changed since.
    ///
    /// # Errors
    /// See [`RulesFileError`]; `rules` is unchanged then.
    pub(crate) fn load_rules(
        &self,
        rules: &mut RuleSet,
        file: &str,
        text: &str,
        home: &str,
    ) -> Result<(), RulesFileError> {
        let question = Question { file, text, home };
        let key = key(&question);
        let written = match self.recall(file, &key) {
            Some(written) => written,
            None => {
                let written = read(&question)?;
                // Read again the next time where it cannot be kept.
                self.keep(file, key, &written).unwrap_or_default();
                written
            }
        };
        Ok(rules.add_written(file, &written)?)
    }

    fn place(&self, file: &str) -> PathBuf {
        self.0.join(format!("{}.json", hex(&Sha256::digest(file))))
    }

    fn recall(&self, file: &str, key: &str) -> Option<WrittenRules> {
        // This is asked before the state folder is checked: who could write here could rule here.
        let folder = self.0.symlink_metadata().ok()?;
        let me = rustix::process::geteuid().as_raw();
        if !folder.is_dir() || folder.uid() != me || folder.mode() & 0o022 != 0 {
            return None;
        }
        let text = own_file::read(&self.place(file), MAX_ANSWER).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.key == key).then_some(remembered.rules)
    }

    fn keep(&self, file: &str, key: String, rules: &WrittenRules) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        self.forget_old()?;
        let place = self.place(file);
        let beside = place.with_extension(format!("new-{}", uuid::Uuid::new_v4()));
        let remembered = Remembered {
            key,
            rules: rules.clone(),
        };
        let write = || -> io::Result<()> {
            let mut new = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            new.write_all(&serde_json::to_vec(&remembered)?)?;
            std::fs::rename(&beside, &place)
        };
        write().inspect_err(|_| std::fs::remove_file(&beside).unwrap_or_default())
    }
}

impl Memory {
    /// Removes the oldest of what is remembered, so that one more has room.
    fn forget_old(&self) -> io::Result<()> {
        let mut known: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&self.0)?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        known.sort();
        let over = (known.len() + 1).saturating_sub(MOST_REMEMBERED);
        for (_, path) in known.iter().take(over) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// What an answer depends on: the reader, and all that it is given.
fn key(question: &Question<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [READER_ID, question.file, question.home, question.text] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(question: &Question<'_>) -> Result<WrittenRules, RulesFileError> {
    if question.text.len() > MAX_RULES_BYTES {
        return Err(RulesError::TooLong {
            file: question.file.to_owned(),
        }
        .into());
    }
    let failed = |source| RulesFileError::Reader {
        file: question.file.to_owned(),
        source,
    };
    let said = ask(question).map_err(failed)?;
    let answer: Result<WrittenRules, RulesError> =
        serde_json::from_slice(&said).map_err(|error| failed(error.into()))?;
    Ok(answer?)
}

/// Starts the reader, without environment and with nothing open but its two pipes.
fn ask(question: &Question<'_>) -> io::Result<Vec<u8>> {
    let program = File::from(sandbox::sealed_in_memory("rules-reader", READER)?);
    let mut reader = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // It reads everything before it says anything, so the two pipes never wait for each other.
    let asked = match reader.stdin.take() {
        Some(stdin) => serde_json::to_writer(io::BufWriter::new(stdin), question),
        None => Ok(()),
    };
    let mut said = Vec::new();
    let heard = match reader.stdout.take() {
        Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut said).map(drop),
        None => Ok(()),
    };
    let ended = reader.wait()?;
    asked?;
    heard?;
    if ended.success() {
        Ok(said)
    } else {
        Err(io::Error::other(format!("it ended with {ended}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use exec_policy::RuleSet;

    use super::{Memory, Question, key, load_rules};

    const TEXT: &str = "[prefix_rule([name], \"forbidden\") for name in [\"dd\", \"mkfs\"]]";

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("rules-file-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn the_carried_reader_reads_rules_and_names_the_place_of_a_fault() {
        let mut rules = RuleSet::default();
        load_rules(&mut rules, "f.rules", TEXT, "/home/u").expect("rules");
        assert_eq!(rules.rules().len(), 2);
        let error =
            load_rules(&mut rules, "f.rules", "\nnothing()", "/home/u").expect_err("a fault");
        assert!(error.to_string().starts_with("`f.rules:2:1`: "), "{error}");
        assert_eq!(rules.rules().len(), 2);
    }

    #[test]
    fn what_is_remembered_is_used_for_the_same_text_alone() {
        let folder = folder("same");
        let memory = Memory::in_state(&folder);
        let count = |text: &str| {
            let mut rules = RuleSet::default();
            memory
                .load_rules(&mut rules, "f.rules", text, "/home/u")
                .map(|()| rules.rules().len())
        };
        assert_eq!(count(TEXT).expect("rules"), 2);
        let place = memory.place("f.rules");
        let kept = std::fs::read_to_string(&place).expect("it is kept");
        // Were it not used, this would not be seen.
        std::fs::write(&place, kept.replace("mkfs", "shred")).expect("written");
        let mut rules = RuleSet::default();
        memory
            .load_rules(&mut rules, "f.rules", TEXT, "/home/u")
            .expect("rules");
        let patterns: Vec<_> = rules
            .rules()
            .iter()
            .map(exec_policy::PrefixRule::pattern)
            .collect();
        assert_eq!(patterns, ["dd", "shred"]);
        assert_eq!(count("prefix_rule([\"x\"])").expect("rules"), 1);
        for spoiled in ["", "{}", "{\"key\":\"\",\"rules\":{}}"] {
            std::fs::write(&place, spoiled).expect("written");
            assert_eq!(count(TEXT).expect("rules"), 2, "{spoiled}");
        }
        std::fs::write(&place, "").expect("written");
        count("nothing()").expect_err("a fault");
        assert_eq!(
            std::fs::read_to_string(&place).expect("there"),
            "",
            "a fault is not kept"
        );
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_another_could_have_written_is_not_believed_and_old_answers_go() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder("others");
        let memory = Memory::in_state(&folder);
        let first = || {
            let mut rules = RuleSet::default();
            memory
                .load_rules(&mut rules, "f.rules", TEXT, "/home/u")
                .expect("rules");
            rules.rules()[1].pattern()
        };
        assert_eq!(first(), "mkfs");
        let place = memory.place("f.rules");
        let kept = std::fs::read_to_string(&place).expect("it is kept");
        let open = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        std::fs::write(&place, kept.replace("mkfs", "shred")).expect("written");
        assert_eq!(first(), "shred");
        open(&memory.0, 0o777);
        assert_eq!(first(), "mkfs");
        open(&memory.0, 0o700);
        std::fs::write(&place, kept.replace("mkfs", "shred")).expect("written");
        open(&place, 0o622);
        assert_eq!(first(), "mkfs");

        for number in 0..super::MOST_REMEMBERED + 3 {
            std::fs::write(memory.0.join(format!("{number}.json")), "").expect("written");
        }
        memory.forget_old().expect("removed");
        let left = std::fs::read_dir(&memory.0).expect("a folder").count();
        assert_eq!(left, super::MOST_REMEMBERED - 1);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn another_home_or_name_is_another_question() {
        let of = |file, home| {
            key(&Question {
                file,
                text: "",
                home,
            })
        };
        assert_ne!(of("a", "/home/u"), of("a", "/home/v"));
        assert_ne!(of("a", "b"), of("ab", ""));
    }
}
