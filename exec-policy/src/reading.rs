//! The one reading of an action's words: every command in it, through shells and wrappers (design D5).
//!
//! Invariant: [`Reading::is_complete`] is true only where every script was read whole and every program's name is
//! certain; wrapping a command never makes its reading milder.

use std::sync::Arc;

use crate::command::{Command, Role};
use crate::shell::{MAX_COMMANDS, Redirect, Shape, SimpleCommand, Unread, read_script};
use crate::word::Word;
use crate::wrapper::{Certainty, Wrapped, evaluates, is_assignment, unwrap};

/// How many scripts and wrappers may stand within each other.
const MAX_NESTING: usize = 8;

/// Words that no program is called by where a command begins (bash(1), RESERVED WORDS).
const RESERVED: &[&str] = &[
    "!", "{", "}", "[[", "]]", "case", "do", "done", "elif", "else", "esac", "fi", "for",
    "function", "if", "select", "then", "until", "while",
];

/// Builtins that put `NAME=value` among their arguments into the environment, or may (bash(1), SHELL BUILTIN COMMANDS).
const DECLARES: &[&str] = &["declare", "export", "local", "readonly", "typeset"];

/// What an argument vector does, as far as it can be read without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    commands: Vec<Command>,
    /// While it is read: what commands export.
    exported: Vec<(String, Word)>,
    unread: Option<Unread>,
    shape: Shape,
}

impl Reading {
    /// Reads an argument vector. Total: what is not read says so.
    ///
    /// ```
    /// let argv = ["bash", "-lc", "cd /tmp && git status | head"].map(str::to_owned);
    /// let reading = exec_policy::Reading::of_argv(&argv);
    /// let programs: Vec<_> = reading.commands().iter().filter_map(|command| command.program()).collect();
    /// assert_eq!(programs, ["bash", "cd", "git", "head"]);
    /// assert!(reading.is_complete());
    /// ```
    #[must_use]
    pub fn of_argv(argv: &[String]) -> Self {
        let mut reading = Self {
            commands: Vec::new(),
            exported: Vec::new(),
            unread: None,
            shape: Shape::Plain,
        };
        let whole = SimpleCommand {
            words: argv.iter().map(|word| Word::from_text(word)).collect(),
            ..SimpleCommand::default()
        };
        reading.add(whole, &[]);
        reading.share_exports();
        reading
    }

    /// Tells each command what any of them exports: when and where that happens is the shell's to know.
    fn share_exports(&mut self) {
        let exported: Arc<[(String, Word)]> = self.exported.drain(..).collect();
        if !exported.is_empty() {
            for command in &mut self.commands {
                command.exported = Arc::clone(&exported);
            }
        }
    }

    /// Every command, wrappers before what they wrap.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The commands that do their own work.
    pub fn leaves(&self) -> impl Iterator<Item = &Command> {
        self.commands
            .iter()
            .filter(|command| command.role == Role::Itself)
    }

    /// Whether all of it was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unread.is_none()
    }

    /// Why not all of it was read.
    #[must_use]
    pub fn unread(&self) -> Option<Unread> {
        self.unread
    }

    /// Whether it was read whole and does what its commands do, in their order, and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_complete() && self.shape == Shape::Plain
    }

    /// Whether it only looks: plain, every command known safe, and no file written by a redirect.
    #[must_use]
    pub fn known_safe(&self) -> bool {
        self.is_plain() && self.leaves().next().is_some() && self.leaves().all(Command::only_looks)
    }

    /// Whether a shell in it reads the files of a login (bash(1), INVOCATION), or may: where that is not certain.
    #[must_use]
    pub fn logs_in(&self) -> bool {
        self.commands.iter().any(Command::logs_in)
    }

    /// Adds a command and what it wraps; answers the places of all of them.
    fn add(&mut self, simple: SimpleCommand, via: &[String]) -> Vec<usize> {
        if self.commands.len() >= MAX_COMMANDS {
            self.stop(Unread::TooMany);
            return Vec::new();
        }
        self.exported.extend(simple.declared);
        let mut command = Command {
            words: simple.words,
            assignments: simple.assignments,
            exported: Arc::default(),
            redirects: simple.redirects,
            fed_by: simple.fed_by,
            role: Role::Itself,
            via: via.to_vec(),
        };
        if command.assignments.iter().any(evaluated) {
            self.stop(Unread::Dynamic);
        }
        let Some(name) = command.program().map(str::to_owned) else {
            if command.words.is_empty() {
                self.exported.extend(command.assignments.iter().cloned());
            } else {
                self.stop(Unread::Dynamic);
            }
            self.commands.push(command);
            return vec![self.commands.len() - 1];
        };
        // The grammar took a part of the shell's own structure for a command: what stands in it was not found.
        if RESERVED.contains(&name.as_str()) {
            self.stop(Unread::Syntax);
        }
        if via.len() >= MAX_NESTING {
            self.stop(Unread::TooDeep);
            self.commands.push(command);
            return vec![self.commands.len() - 1];
        }
        let wrapped = unwrap(&name, &command.words);
        if !matches!(wrapped, Wrapped::Nothing | Wrapped::Beside(_)) {
            command.role = Role::Wrapper;
            self.exported.extend(command.assignments.iter().cloned());
        }
        // Of a wrapper, what stands before the words that it runs: `env NAME=value program`.
        let own = match &wrapped {
            Wrapped::Command { words, .. } => command.words.len().saturating_sub(words.len()),
            _ if DECLARES.contains(&name.as_str()) => command.words.len(),
            Wrapped::Nothing | Wrapped::Script(_) | Wrapped::Input | Wrapped::Beside(_) => 0,
        };
        let own = command.words.iter().take(own);
        self.exported.extend(own.filter_map(assigned));
        let inner_via: Vec<String> = via.iter().cloned().chain([name]).collect();
        self.commands.push(command.clone());
        let mut ids = vec![self.commands.len() - 1];
        ids.extend(self.add_wrapped(wrapped, &command, &inner_via));
        ids
    }

    fn add_wrapped(&mut self, wrapped: Wrapped, outer: &Command, via: &[String]) -> Vec<usize> {
        match wrapped {
            Wrapped::Nothing => Vec::new(),
            Wrapped::Command { words, certainty } => {
                match certainty {
                    Certainty::Transparent => {}
                    Certainty::Changed => self.shape = Shape::Compound,
                    Certainty::Guessed => self.stop(Unread::Dynamic),
                }
                self.add(inherit(words, outer), via)
            }
            Wrapped::Beside(commands) => {
                self.shape = Shape::Compound;
                commands
                    .into_iter()
                    .flat_map(|words| self.add(inherit(words, outer), via))
                    .collect()
            }
            Wrapped::Script(Some(text)) => self.add_script(&text, outer, via),
            Wrapped::Script(None) => {
                self.stop(Unread::Dynamic);
                Vec::new()
            }
            Wrapped::Input => match outer.redirects.last() {
                Some(Redirect::Document(Some(text))) => {
                    let text = text.clone();
                    // Whether the text is certain does not say what else its reader was fed.
                    self.shape = Shape::Compound;
                    self.add_script(&text, outer, via)
                }
                _ => {
                    self.stop(Unread::Dynamic);
                    Vec::new()
                }
            },
        }
    }

    fn add_script(&mut self, text: &str, outer: &Command, via: &[String]) -> Vec<usize> {
        let script = match read_script(text) {
            Ok(script) => script,
            Err(unread) => {
                self.stop(unread);
                return Vec::new();
            }
        };
        if script.shape == Shape::Compound {
            self.shape = Shape::Compound;
        }
        // What fed the shell feeds every command in its script, and its redirects hold for them.
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut feeds: Vec<Vec<usize>> = Vec::new();
        for mut simple in script.commands {
            feeds.push(std::mem::take(&mut simple.fed_by));
            simple.fed_by.clone_from(&outer.fed_by);
            simple.redirects.extend(
                outer
                    .redirects
                    .iter()
                    .filter(|redirect| !matches!(redirect, Redirect::Document(_)))
                    .cloned(),
            );
            places.push(self.add(simple, via));
        }
        for (ids, fed_by) in places.iter().zip(feeds) {
            let sources: Vec<usize> = fed_by
                .iter()
                .filter_map(|at| places.get(*at))
                .flatten()
                .copied()
                .collect();
            for id in ids {
                if let Some(command) = self.commands.get_mut(*id) {
                    command.fed_by.extend(&sources);
                }
            }
        }
        places.into_iter().flatten().collect()
    }

    /// The first reason stays.
    fn stop(&mut self, unread: Unread) {
        self.unread.get_or_insert(unread);
    }
}

/// `NAME=value` as an argument.
fn assigned(word: &Word) -> Option<(String, Word)> {
    let (name, _) = word.literal_prefix().split_once('=')?;
    let value = word.without_prefix(&format!("{name}="))?;
    is_assignment(word).then(|| (name.to_owned(), value))
}

/// Whether a shell runs what stands in the value: where the variable is a prompt or a start file, or where the value is
/// used as a number later on.
pub(crate) fn evaluated((name, value): &(String, Word)) -> bool {
    let runs = matches!(name.as_str(), "PS4" | "PROMPT_COMMAND" | "BASH_ENV" | "ENV")
        || name.starts_with("BASH_FUNC");
    let harmless = value
        .literal()
        .is_some_and(|text| text.is_empty() || text == "/dev/null");
    (runs && !harmless) || evaluates(value)
}

fn inherit(words: Vec<Word>, outer: &Command) -> SimpleCommand {
    SimpleCommand {
        declared: Vec::new(),
        assignments: outer.assignments.clone(),
        words,
        redirects: outer.redirects.clone(),
        fed_by: outer.fed_by.clone(),
    }
}

#[cfg(test)]
mod tests;
