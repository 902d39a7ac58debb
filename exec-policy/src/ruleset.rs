//! All rules in force, and what they say of one reading: the strictest wins.
//!
//! Restrictive rules are held against every literal command found anywhere and against every doubt; allow rules only
//! against plain words (design D5). Invariants: adding a restrictive rule never makes a ruling milder, and what was not
//! read is ruled by the strictest rule there is. Pure.

mod indirect;
mod sieve;
mod spellings;

use std::collections::HashMap;
use std::path::Path;

use self::indirect::{Named, named};
use self::sieve::{Marks, Sieve};
use self::spellings::Spelling;
use crate::command::{Class, Command, Role};
use crate::reading::Reading;
use crate::rule::{Fit, HostExecutable, LetterCase, NetworkRule, PrefixRule, Verdict};

/// The folders whose programs an allow rule means by their bare name.
const SYSTEM_FOLDERS: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"];

/// All rules in force.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<PrefixRule>,
    /// The rules about each program, by its name in lower case.
    by_name: HashMap<String, Sieve>,
    executables: HashMap<String, HostExecutable>,
    network: Vec<NetworkRule>,
    /// The strictest rule that restricts.
    strictest: Option<usize>,
}

/// A rule that matched.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'r> {
    /// The rule.
    pub rule: &'r PrefixRule,
    /// Which command: its place in [`Reading::commands`]. `None`: what could not be read.
    pub command: Option<usize>,
    /// Whether it matched for certain.
    pub certainty: HitCertainty,
}

/// Whether a rule matched for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitCertainty {
    /// The words are the rule's.
    Certain,
    /// They may become the rule's when they run.
    Possible,
}

/// How much of a reading the allow rules cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing.
    None,
    /// Some of its commands.
    Partial,
    /// All of them, in plain words: it may leave the walls.
    Whole,
}

/// What the rules say of one reading.
#[derive(Debug, Clone)]
pub struct Ruling<'r> {
    hits: Vec<Hit<'r>>,
    coverage: Coverage,
    rest: Class,
}

impl RuleSet {
    /// Adds prefix rules.
    pub fn add(&mut self, rules: impl IntoIterator<Item = PrefixRule>) {
        for rule in rules {
            let at = self.rules.len();
            let stricter = self
                .strictest
                .and_then(|strictest| self.rules.get(strictest))
                .is_none_or(|strictest| rule.verdict > strictest.verdict);
            if rule.verdict > Verdict::Allow && stricter {
                self.strictest = Some(at);
            }
            let name = rule.pattern.program_name().to_ascii_lowercase();
            self.by_name.entry(name).or_default().add(at, &rule);
            self.rules.push(rule);
        }
    }

    /// Adds where a program may lie; several for one name add up.
    pub fn add_executable(&mut self, executable: HostExecutable) {
        match self.executables.get_mut(&executable.name) {
            Some(known) => known.paths.extend(executable.paths),
            None => {
                self.executables.insert(executable.name.clone(), executable);
            }
        }
    }

    /// Adds rules about hosts.
    pub fn add_network(&mut self, rules: impl IntoIterator<Item = NetworkRule>) {
        self.network.extend(rules);
    }

    /// The prefix rules, as they came.
    #[must_use]
    pub fn rules(&self) -> &[PrefixRule] {
        &self.rules
    }

    /// The rules about hosts, as they came.
    #[must_use]
    pub fn network(&self) -> &[NetworkRule] {
        &self.network
    }

    /// What the rules say of `reading`.
    #[must_use]
    pub fn judge<'r>(&'r self, reading: &Reading) -> Ruling<'r> {
        let mut hits = Vec::new();
        let mut covered = vec![false; reading.commands().len()];
        if !reading.is_complete()
            && let Some(rule) = self.strictest.and_then(|at| self.rules.get(at))
        {
            hits.push(Hit {
                rule,
                command: None,
                certainty: HitCertainty::Possible,
            });
        }
        for (at, command) in reading.commands().iter().enumerate() {
            let first = hits.len();
            hits.extend(self.indirect(command).map(|rule| Hit {
                rule,
                command: Some(at),
                certainty: HitCertainty::Possible,
            }));
            for rule in self.candidates(command) {
                if let Some(certainty) = self.hit(rule, command, reading) {
                    if rule.verdict == Verdict::Allow
                        && let Some(covered) = covered.get_mut(at)
                    {
                        *covered = true;
                    }
                    hits.push(Hit {
                        rule,
                        command: Some(at),
                        certainty,
                    });
                }
            }
            if let Some(other) = spellings::other(command) {
                let before: Vec<_> = hits.iter().skip(first).map(|hit| hit.rule).collect();
                let new = |hit: &Hit<'_>| !before.iter().any(|rule| std::ptr::eq(*rule, hit.rule));
                let hit = |(rule, certainty)| Hit {
                    rule,
                    command: Some(at),
                    certainty,
                };
                hits.extend(self.restricting(&other).map(hit).filter(new));
            }
        }
        let coverage = coverage(reading, &covered);
        let rest = rest(reading, &covered, coverage);
        Ruling {
            hits,
            coverage,
            rest,
        }
    }

    /// The rules about the program of `command` that may match it.
    fn candidates(&self, command: &Command) -> Vec<&PrefixRule> {
        let name = command.program().unwrap_or_default().to_ascii_lowercase();
        let Some(sieve) = self.by_name.get(&name) else {
            return Vec::new();
        };
        let marks = Marks::of(command);
        let places = sieve.through(&marks);
        places.filter_map(|at| self.rules.get(at)).collect()
    }

    /// The restrictive rules about programs that `command` names inside its words.
    fn indirect<'r>(&'r self, command: &Command) -> impl Iterator<Item = &'r PrefixRule> {
        let restricts = |at: &usize| {
            self.rules
                .get(*at)
                .is_some_and(|rule| rule.verdict > Verdict::Allow)
        };
        let places: Vec<usize> = match (self.strictest, named(command)) {
            (None, _) => Vec::new(),
            (Some(strictest), Named::Anything) => vec![strictest],
            (Some(_), Named::Programs(names)) => names
                .iter()
                .filter_map(|name| self.by_name.get(&name.to_ascii_lowercase()))
                .flat_map(Sieve::all)
                .filter(restricts)
                .collect(),
        };
        places.into_iter().filter_map(|at| self.rules.get(at))
    }

    /// The restrictive rules that match another spelling of a command, and how surely.
    fn restricting<'r>(
        &'r self,
        other: &Spelling,
    ) -> impl Iterator<Item = (&'r PrefixRule, HitCertainty)> {
        let indirect = self.indirect(&other.command);
        let indirect = indirect.map(|rule| (rule, HitCertainty::Possible));
        let named = self.candidates(&other.command).into_iter();
        let restricts = named.filter(|rule| rule.verdict > Verdict::Allow);
        let direct = restricts.filter_map(|rule| {
            match (rule.pattern.restricts(&other.command), other.certainty) {
                (Fit::Not, _) => None,
                (Fit::Certain, certainty) => Some((rule, certainty)),
                (Fit::Possible, _) => Some((rule, HitCertainty::Possible)),
            }
        });
        indirect.chain(direct).collect::<Vec<_>>().into_iter()
    }

    fn hit(&self, rule: &PrefixRule, command: &Command, reading: &Reading) -> Option<HitCertainty> {
        let name = command.program()?;
        let exact = rule.pattern.letters() == LetterCase::Exact;
        if exact && name != rule.pattern.program_name() {
            return None;
        }
        if rule.verdict == Verdict::Allow {
            return self
                .allows(rule, command, reading)
                .then_some(HitCertainty::Certain);
        }
        match rule.pattern.restricts(command) {
            Fit::Certain => Some(HitCertainty::Certain),
            Fit::Possible => Some(HitCertainty::Possible),
            Fit::Not => None,
        }
    }

    /// Plain words alone, of a program that the rule means.
    fn allows(&self, rule: &PrefixRule, command: &Command, reading: &Reading) -> bool {
        let Some(program) = command.words().first().and_then(|word| word.literal()) else {
            return false;
        };
        reading.is_complete()
            && command.assignments().is_empty()
            && command.redirects().is_empty()
            && command.words().iter().all(|word| word.literal().is_some())
            && self.means(rule.pattern.program(), program)
            && rule.pattern.arguments_begin(command.arguments())
    }

    /// Whether an allow rule for `token` means the program written as `program`.
    fn means(&self, token: &str, program: &str) -> bool {
        if token == program {
            // A relative path is whatever lies there now.
            return !token.contains('/') || token.starts_with('/');
        }
        if token.contains('/') || !program.starts_with('/') {
            return false;
        }
        let path = Path::new(program);
        match self.executables.get(token) {
            Some(executable) => executable.paths.iter().any(|listed| listed == path),
            None => path.parent().is_some_and(|folder| {
                SYSTEM_FOLDERS
                    .iter()
                    .any(|system| folder == Path::new(system))
            }),
        }
    }
}

impl<'r> Ruling<'r> {
    /// Every rule that matched.
    #[must_use]
    pub fn hits(&self) -> &[Hit<'r>] {
        &self.hits
    }

    /// The strictest of what the matching rules want.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.hits.iter().map(|hit| hit.rule.verdict).max()
    }

    /// The rule that decides: of the strictest the one with the longest pattern.
    #[must_use]
    pub fn deciding(&self) -> Option<&Hit<'r>> {
        let certain = |hit: &Hit<'_>| hit.certainty == HitCertainty::Certain;
        self.hits
            .iter()
            .max_by_key(|hit| (hit.rule.verdict, certain(hit), hit.rule.words()))
    }

    /// How much the allow rules cover.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// What the commands are that no allow rule covers: as dangerous as the most dangerous, safe only where all are.
    #[must_use]
    pub fn rest(&self) -> Class {
        self.rest
    }
}

fn coverage(reading: &Reading, covered: &[bool]) -> Coverage {
    let of = |at: usize| covered.get(at).copied().unwrap_or_default();
    let commands = reading.commands();
    // A rule for the words as they were given covers what they run; a shell's words are its script's.
    let outermost = commands
        .first()
        .is_some_and(|command| !command.is_shell() && of(0));
    let leaves = || {
        commands
            .iter()
            .enumerate()
            .filter(|(_, command)| command.role() == Role::Itself)
    };
    let all = reading.is_plain() && leaves().next().is_some() && leaves().all(|(at, _)| of(at));
    if (outermost && reading.is_complete()) || all {
        Coverage::Whole
    } else if leaves().any(|(at, _)| of(at)) {
        Coverage::Partial
    } else {
        Coverage::None
    }
}

fn rest(reading: &Reading, covered: &[bool], coverage: Coverage) -> Class {
    if coverage == Coverage::Whole {
        return Class::KnownSafe;
    }
    let uncovered = || {
        let marked = reading.commands().iter().zip(covered);
        marked
            .filter(|(_, covered)| !**covered)
            .map(|(command, _)| command)
    };
    if uncovered().any(|command| command.class() == Class::Dangerous) {
        return Class::Dangerous;
    }
    let safe = reading.is_plain()
        && reading.leaves().next().is_some()
        && uncovered()
            .filter(|command| command.role() == Role::Itself)
            .all(Command::only_looks);
    if safe {
        Class::KnownSafe
    } else {
        Class::Unknown
    }
}

#[cfg(test)]
mod tests;
