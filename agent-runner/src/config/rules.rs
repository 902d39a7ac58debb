//! The command rules of every layer: which files are read, in which order, and what of them counts.
//!
//! Apart from the settings' tables because rules are files of their own. Invariant: a rules file that cannot be read or
//! does not load stops everything; a project's rules only restrict.

use std::path::{Path, PathBuf};

use exec_policy::{LetterCase, Origin, RawPrefixRule, RuleSet, Verdict};
use serde::Deserialize;

use super::Environment;
use super::error::{ConfigError, held, read_project_text, read_text};
use crate::rules_file::Memory;

/// Where administrators put rules.
const SYSTEM: &str = "/etc/codex/rules";

/// `[[rules.prefix_rules]]` of the managed file and of our own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RulesTable {
    prefix_rules: Vec<TableRule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableRule {
    pattern: Vec<Place>,
    decision: String,
    justification: Option<String>,
    #[serde(default)]
    canonical_matching: bool,
}

/// One place of a pattern.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    token: Option<String>,
    any_of: Option<Vec<String>>,
}

/// Which rules may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All that they say counts.
    Whole,
    /// Only what restricts counts.
    Restricting,
}

/// Reads the rules of the system, of the user, and of the trusted project whose root is `project`, in this order.
///
/// # Errors
/// A folder or file cannot be read, or a file does not load.
pub(super) fn read_rules(
    environment: &Environment,
    state_dir: &Path,
    project: Option<&Path>,
    notes: &mut Vec<String>,
) -> Result<RuleSet, ConfigError> {
    let source = Source {
        home: environment.home.to_string_lossy().into_owned(),
        memory: Memory::in_state(state_dir),
    };
    let mut rules = RuleSet::default();
    let own = environment.codex_home.join("rules");
    for folder in [Path::new(SYSTEM), &own] {
        let files = rules_files(folder)?;
        if !files.is_empty() {
            let metadata = std::fs::metadata(folder);
            let checked = metadata.and_then(|metadata| held(&metadata));
            checked.map_err(|source| ConfigError::Read {
                path: folder.to_owned(),
                source,
            })?;
        }
        for file in files {
            source.read_file(&mut rules, &file, Reach::Whole)?;
        }
    }
    if let Some(root) = project {
        for file in projects_rules_files(&root.join(".codex/rules"))? {
            let dropped = source.read_file(&mut rules, &file, Reach::Restricting)?;
            if dropped > 0 {
                notes.push(format!(
                    "`{}` may only restrict; {dropped} of its rules allow and are not used",
                    file.display()
                ));
            }
        }
    }
    Ok(rules)
}

/// The same of a project, where what should be the folder around it may be a name that is kept free.
fn projects_rules_files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    match rules_files(folder) {
        Err(ConfigError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The files `*.rules` in `folder`, by name.
fn rules_files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "rules")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What the reading of every file takes.
struct Source {
    home: String,
    memory: Memory,
}

impl Source {
    /// Adds the rules of `file`; answers how many were not used.
    fn read_file(
        &self,
        rules: &mut RuleSet,
        file: &Path,
        reach: Reach,
    ) -> Result<usize, ConfigError> {
        let text = match reach {
            Reach::Whole => read_text(file)?,
            Reach::Restricting => read_project_text(file)?,
        };
        let text = text.ok_or_else(|| ConfigError::Read {
            path: file.to_owned(),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        })?;
        let name = file.display().to_string();
        match reach {
            Reach::Whole => {
                self.memory.load_rules(rules, &name, &text, &self.home)?;
                Ok(0)
            }
            Reach::Restricting => {
                let mut all = RuleSet::default();
                self.memory.load_rules(&mut all, &name, &text, &self.home)?;
                let restricts = |verdict: Verdict| verdict > Verdict::Allow;
                let (prefix, network) = (all.rules().iter(), all.network().iter());
                let dropped = prefix.clone().filter(|r| !restricts(r.verdict())).count()
                    + network.clone().filter(|r| !restricts(r.verdict)).count();
                rules.add(prefix.filter(|rule| restricts(rule.verdict())).cloned());
                rules.add_network(network.filter(|rule| restricts(rule.verdict)).cloned());
                Ok(dropped)
            }
        }
    }
}

impl RulesTable {
    /// Adds the table's rules, which stand in `file`. They restrict: an allow rule is an error here.
    pub(super) fn add_to(self, rules: &mut RuleSet, file: &str) -> Result<(), ConfigError> {
        for (number, rule) in self.prefix_rules.into_iter().enumerate() {
            let invalid = |reason: String| ConfigError::Value {
                file: file.to_owned(),
                key: "rules.prefix_rules",
                reason: format!("rule {}: {reason}", number + 1),
            };
            let raw = rule.raw(file).map_err(invalid)?;
            let checked = raw.checked().map_err(|error| invalid(error.to_string()))?;
            rules.add(checked);
        }
        Ok(())
    }
}

impl TableRule {
    fn raw(self, file: &str) -> Result<RawPrefixRule, String> {
        let verdict = Verdict::parse(&self.decision).map_err(|error| error.to_string())?;
        if verdict == Verdict::Allow {
            return Err("`allow` has no place here: these rules restrict".to_owned());
        }
        let place = |place: Place| match (place.token, place.any_of) {
            (Some(token), None) => Ok(vec![token]),
            (None, Some(any_of)) => Ok(any_of),
            (Some(_), Some(_)) | (None, None) => {
                Err("a place of `pattern` is either `token` or `any_of`".to_owned())
            }
        };
        Ok(RawPrefixRule {
            pattern: self
                .pattern
                .into_iter()
                .map(place)
                .collect::<Result<_, _>>()?,
            verdict,
            justification: self.justification,
            matches: Vec::new(),
            not_matches: Vec::new(),
            letters: if self.canonical_matching {
                LetterCase::Ignored
            } else {
                LetterCase::Exact
            },
            origin: Origin {
                file: file.into(),
                line: 0,
            },
        })
    }
}
