//! Rules as they stand in a rules file, before they are checked: data that a reader of rules files hands over.
//!
//! Apart from [`crate::rule`] because the language of rules files is read by a program of its own (the crate
//! `rules-reader`), and what comes from there is checked here like anything else that comes from outside. Invariant: a
//! file gives all of its rules or an error that names file, line and column.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rule::{
    HostExecutable, InvalidRule, LetterCase, NetworkRule, Origin, PrefixRule, RawPrefixRule,
    Verdict,
};
use crate::ruleset::RuleSet;

/// The longest rules file, in bytes: room for about 15,000 rules.
pub const MAX_RULES_BYTES: usize = 1024 * 1024;

/// Why a rules file cannot be used. Nothing runs then.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulesError {
    /// Past [`MAX_RULES_BYTES`].
    #[error("`{file}` is longer than {MAX_RULES_BYTES} bytes")]
    TooLong {
        /// The file.
        file: String,
    },
    /// Something in it is not as it must be.
    #[error("`{file}:{line}:{column}`: {reason}")]
    At {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something about all of it.
    #[error("`{file}`: {reason}")]
    Whole {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where a call stands in its file, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A call of `prefix_rule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPrefix {
    /// Where it stands.
    pub at: Place,
    /// For each place the words that may stand there.
    pub pattern: Vec<Vec<String>>,
    /// What it wants.
    pub decision: String,
    /// Why, for people.
    pub justification: Option<String>,
    /// Commands that it must match.
    pub matches: Vec<Vec<String>>,
    /// Commands that it must not match.
    pub not_matches: Vec<Vec<String>>,
    /// Whether upper and lower case of a letter count as the same.
    pub canonical_matching: bool,
}

/// A call of `host_executable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenExecutable {
    /// Where it stands.
    pub at: Place,
    /// The program's name.
    pub name: String,
    /// Where it may lie; `~` is expanded.
    pub paths: Vec<String>,
}

/// A call of `network_rule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenHost {
    /// Where it stands.
    pub at: Place,
    /// The host.
    pub host: String,
    /// By which protocol.
    pub protocol: String,
    /// What it wants.
    pub decision: String,
    /// Why, for people.
    pub justification: Option<String>,
}

/// All calls of one file, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenRules {
    /// Calls of `prefix_rule`.
    pub prefixes: Vec<WrittenPrefix>,
    /// Calls of `host_executable`.
    pub executables: Vec<WrittenExecutable>,
    /// Calls of `network_rule`.
    pub hosts: Vec<WrittenHost>,
}

impl WrittenPrefix {
    /// The rules that it makes in `file`.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn checked(&self, file: &Arc<str>) -> Result<Vec<PrefixRule>, InvalidRule> {
        let raw = RawPrefixRule {
            pattern: self.pattern.clone(),
            verdict: Verdict::parse(&self.decision)?,
            justification: self.justification.clone(),
            matches: self.matches.clone(),
            not_matches: self.not_matches.clone(),
            letters: if self.canonical_matching {
                LetterCase::Ignored
            } else {
                LetterCase::Exact
            },
            origin: self.at.origin(file),
        };
        raw.checked()
    }
}

impl WrittenExecutable {
    /// What it says.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn checked(&self) -> Result<HostExecutable, InvalidRule> {
        HostExecutable::new(&self.name, self.paths.clone())
    }
}

impl WrittenHost {
    /// The rule that it makes in `file`.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn checked(&self, file: &Arc<str>) -> Result<NetworkRule, InvalidRule> {
        NetworkRule::new(
            &self.host,
            &self.protocol,
            &self.decision,
            self.justification.clone(),
            self.at.origin(file),
        )
    }
}

impl Place {
    fn origin(self, file: &Arc<str>) -> Origin {
        Origin {
            file: Arc::clone(file),
            line: self.line,
        }
    }

    /// `error` at this place of `file`.
    #[must_use]
    pub fn error(self, file: &str, error: &InvalidRule) -> RulesError {
        RulesError::At {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            reason: error.to_string(),
        }
    }
}

impl RuleSet {
    /// Adds what stands in the file named `file`.
    ///
    /// # Errors
    /// Something is not a rule; nothing is added then.
    pub fn add_written(&mut self, file: &str, written: &WrittenRules) -> Result<(), RulesError> {
        let name: Arc<str> = Arc::from(file);
        let mut prefixes = Vec::with_capacity(written.prefixes.len());
        for rule in &written.prefixes {
            let checked = rule.checked(&name);
            prefixes.extend(checked.map_err(|error| rule.at.error(file, &error))?);
        }
        let executable = |rule: &WrittenExecutable| {
            let checked = rule.checked();
            checked.map_err(|error| rule.at.error(file, &error))
        };
        let host = |rule: &WrittenHost| {
            let checked = rule.checked(&name);
            checked.map_err(|error| rule.at.error(file, &error))
        };
        let executables: Result<Vec<_>, _> = written.executables.iter().map(executable).collect();
        let hosts: Result<Vec<_>, _> = written.hosts.iter().map(host).collect();
        let (executables, hosts) = (executables?, hosts?);
        self.add(prefixes);
        for executable in executables {
            self.add_executable(executable);
        }
        self.add_network(hosts);
        Ok(())
    }
}

/// The rules that stand in `text`, for tests: by way of the program's own form, since what tests are compiled with is
/// another copy of this crate.
#[cfg(test)]
pub(crate) fn load_rules(
    rules: &mut RuleSet,
    file: &str,
    text: &str,
    home: &str,
) -> Result<(), RulesError> {
    let answer = serde_json::to_string(&rules_reader::read(file, text, home)).expect("JSON");
    let written: Result<WrittenRules, RulesError> = serde_json::from_str(&answer).expect("rules");
    rules.add_written(file, &written?)
}

#[cfg(test)]
mod tests {
    use super::{Place, RulesError, WrittenHost, WrittenRules};
    use crate::ruleset::RuleSet;

    #[test]
    fn what_is_handed_over_is_checked_and_added_whole_or_not_at_all() {
        let host = |host: &str, line| WrittenHost {
            at: Place { line, column: 3 },
            host: host.to_owned(),
            protocol: "https".to_owned(),
            decision: "allow".to_owned(),
            justification: None,
        };
        let mut rules = RuleSet::default();
        let wrong = WrittenRules {
            hosts: vec![host("example.com", 1), host("https://example.com", 2)],
            ..WrittenRules::default()
        };
        let error = rules.add_written("f.rules", &wrong).expect_err("a scheme");
        assert!(
            matches!(
                error,
                RulesError::At {
                    line: 2,
                    column: 3,
                    ..
                }
            ),
            "{error}"
        );
        assert!(rules.network().is_empty());
        let right = WrittenRules {
            hosts: vec![host("example.com", 1)],
            ..WrittenRules::default()
        };
        rules.add_written("f.rules", &right).expect("one host");
        assert_eq!(rules.network().len(), 1);
    }

    #[test]
    fn nothing_that_is_not_known_is_handed_over() {
        for text in [
            r#"{"prefixes":[],"executables":[],"hosts":[],"more":1}"#,
            r#"{"prefixes":[{"at":{"line":1,"column":1}}],"executables":[],"hosts":[]}"#,
            r#"{"prefixes":[]}"#,
        ] {
            assert!(
                serde_json::from_str::<WrittenRules>(text).is_err(),
                "{text}"
            );
        }
    }
}
