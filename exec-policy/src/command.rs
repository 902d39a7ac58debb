//! One command found in an action, and what class it is of.
//!
//! Apart from the reading because rules, reviewers and evidence ask commands one by one. Invariant: [`Class::KnownSafe`]
//! is given by [`crate::safe`] alone, and only to words that are certain.

use std::sync::Arc;

use crate::safe;
use crate::shell::Redirect;
use crate::word::Word;
use crate::wrapper::is_shell;

/// One command found in an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub(crate) words: Vec<Word>,
    pub(crate) assignments: Vec<(String, Word)>,
    /// What the whole reading exports, or gives to shells and wrappers: each command's environment may hold it.
    pub(crate) exported: Arc<[(String, Word)]>,
    pub(crate) redirects: Vec<Redirect>,
    pub(crate) fed_by: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) via: Vec<String>,
}

/// Whether a command does its own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Itself,
    /// It runs another command, which stands in the reading too.
    Wrapper,
}

/// What is known of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It only looks, whatever it is given.
    KnownSafe,
    /// It removes without asking.
    Dangerous,
    /// Neither is certain.
    Unknown,
}

impl Command {
    /// The program's name without its folder, where it is certain.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        let name = self.words.first()?.literal()?;
        Some(name.rsplit('/').next().unwrap_or(name)).filter(|name| !name.is_empty())
    }

    /// The program as written.
    #[must_use]
    pub fn program_word(&self) -> Option<&Word> {
        self.words.first()
    }

    /// Program and arguments.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    /// `NAME=value` in front of it.
    #[must_use]
    pub fn assignments(&self) -> &[(String, Word)] {
        &self.assignments
    }

    /// What may stand in its environment by this reading: `NAME=value` in front of it, in front of a wrapper around it, or
    /// exported anywhere, for rules that restrict.
    pub(crate) fn environment(&self) -> impl Iterator<Item = &(String, Word)> {
        self.assignments.iter().chain(self.exported.iter())
    }

    /// Where its descriptors go.
    #[must_use]
    pub fn redirects(&self) -> &[Redirect] {
        &self.redirects
    }

    /// Which commands' output reaches it: places in [`crate::Reading::commands`].
    #[must_use]
    pub fn fed_by(&self) -> &[usize] {
        &self.fed_by
    }

    /// Whether it does its own work.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The wrappers around it, outermost first.
    #[must_use]
    pub fn via(&self) -> &[String] {
        &self.via
    }

    /// What is known of it by itself; its redirects do not count.
    #[must_use]
    pub fn class(&self) -> Class {
        if safe::is_dangerous(self) {
            Class::Dangerous
        } else if safe::is_known_safe(self) {
            Class::KnownSafe
        } else {
            Class::Unknown
        }
    }

    /// Whether it is known safe and no redirect of it writes a file.
    pub(crate) fn only_looks(&self) -> bool {
        self.class() == Class::KnownSafe && self.redirects.iter().all(harmless)
    }

    /// Whether it is a shell with `-l` or `--login`, or with options that are not certain.
    pub(crate) fn logs_in(&self) -> bool {
        let is_option = |word: &&Word| {
            word.literal()
                .is_none_or(|text| text.starts_with(['-', '+']))
        };
        let login = |word: &Word| match word.literal() {
            Some(text) if text.starts_with("--") => "--login".starts_with(text) && text.len() > 2,
            Some(text) => text.starts_with('-') && text.contains('l'),
            None => true,
        };
        self.program().is_some_and(is_shell)
            && self.arguments().iter().take_while(is_option).any(login)
    }

    /// Whether it is a shell that runs a script: what counts is what stands in the script.
    pub(crate) fn is_shell(&self) -> bool {
        self.role == Role::Wrapper && self.program().is_some_and(is_shell)
    }
}

/// A redirect that writes no file.
fn harmless(redirect: &Redirect) -> bool {
    match redirect {
        Redirect::Duplicate | Redirect::Document(_) => true,
        Redirect::Write(target) => target.literal() == Some("/dev/null"),
        Redirect::Read(source) => source
            .literal()
            .is_some_and(|path| !path.starts_with("/dev/")),
    }
}
