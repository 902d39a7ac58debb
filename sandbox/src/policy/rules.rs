//! Access by path: [`Rule`]s, and the one question they answer, [`Ruling`].
//!
//! Pure, and apart from the policy because commands and the runner's own file writes ask the same question of it. The
//! deepest rule around a path wins; of two rules for one path the stricter. Paths here are absolute and resolved.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What may be done with a path and everything beneath it, strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Neither read nor written, nor listed.
    Deny,
    /// Read and executed.
    Read,
    /// Read, executed and changed.
    Write,
}

/// What holds where no rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// The whole disk may be read.
    #[default]
    Everything,
    /// Only what a rule names may be read.
    Listed,
}

/// Access to one path and everything beneath it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Absolute and resolved.
    pub path: PathBuf,
    /// What may be done there.
    pub access: Access,
}

/// What a policy says of one path, and which part of it says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// What may be done.
    pub access: Access,
    /// By what.
    pub by: Reason,
}

/// The part of a policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Reason {
    /// No rule names the path: outside the writable roots, or not among what may be read.
    Default,
    /// The rule for this path.
    Path {
        /// The rule's path.
        path: PathBuf,
    },
    /// A pattern of denied reads.
    Pattern {
        /// As it was written.
        pattern: String,
    },
    /// A name that only a person may write, because it decides what runs later.
    ProtectedName {
        /// The protected path.
        path: PathBuf,
    },
    /// No command may touch it: the runner's own state and secrets.
    NeverTouched {
        /// The covered path.
        path: PathBuf,
    },
    /// No command may change it: the runner and what steers it.
    NeverChanged {
        /// The kept path.
        path: PathBuf,
    },
    /// One of the command's own private folders, or the kernel's.
    OwnFolder,
}

/// The rules of one policy, sorted by path, each path once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    /// Of two for one path the stricter stays.
    pub(crate) fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|one, other| (&one.path, one.access).cmp(&(&other.path, other.access)));
        rules.dedup_by(|later, kept| later.path == kept.path);
        Self(rules)
    }

    pub(crate) fn all(&self) -> &[Rule] {
        &self.0
    }

    /// The deepest rule whose path is `path` or lies around it.
    pub(crate) fn nearest(&self, path: &Path) -> Option<&Rule> {
        let around = self.0.iter().filter(|rule| path.starts_with(&rule.path));
        around.max_by_key(|rule| depth(&rule.path))
    }

    /// The deepest rule around `path` that is not for `path` itself.
    pub(crate) fn enclosing(&self, path: &Path) -> Option<&Rule> {
        self.nearest(path.parent()?)
    }

    /// Whether something beneath `path` may be reached.
    pub(crate) fn opens_beneath(&self, path: &Path) -> bool {
        self.0.iter().any(|rule| {
            rule.access > Access::Deny && rule.path != path && rule.path.starts_with(path)
        })
    }

    pub(crate) fn paths(&self, access: Access) -> impl Iterator<Item = &PathBuf> {
        let wanted = move |rule: &&Rule| rule.access == access;
        self.0.iter().filter(wanted).map(|rule| &rule.path)
    }
}

/// How many names a path has.
pub(crate) fn depth(path: &Path) -> usize {
    path.components().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, access: Access) -> Rule {
        let path = path.into();
        Rule { path, access }
    }

    #[test]
    fn the_deepest_rule_wins_at_every_level() {
        let rules = Rules::new(vec![
            rule("/w", Access::Write),
            rule("/w/a", Access::Deny),
            rule("/w/a/b", Access::Write),
            rule("/w/a/b/c", Access::Read),
        ]);
        let found = ["/w/x", "/w/a/x", "/w/a/b/x", "/w/a/b/c", "/x", "/w/ab"]
            .map(|path| rules.nearest(Path::new(path)).map(|rule| rule.access));
        assert_eq!(
            found,
            [
                Some(Access::Write),
                Some(Access::Deny),
                Some(Access::Write),
                Some(Access::Read),
                None,
                Some(Access::Write)
            ]
        );
    }

    #[test]
    fn of_two_rules_for_one_path_the_stricter_stays() {
        for order in [[Access::Write, Access::Deny], [Access::Deny, Access::Write]] {
            let rules = Rules::new(order.map(|access| rule("/w", access)).to_vec());
            assert_eq!(rules.all(), [rule("/w", Access::Deny)]);
        }
    }
}
