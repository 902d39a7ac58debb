//! Whether a command's words fit a pattern: strictly, for what allows, and with every doubt, for what restricts.
//!
//! Apart, because these two must never be mixed up. Invariant: what fits strictly also fits restrictively, and a word
//! that is not certain fits restrictively wherever a shell could make it fit.

use std::fmt;

use super::npm;
use crate::command::Command;
use crate::rule::LetterCase;
use crate::word::Word;

/// The words that a command begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    program: String,
    rest: Vec<Place>,
    letters: LetterCase,
}

/// One place of a pattern: the words that may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    words: Vec<String>,
    kind: PlaceKind,
}

/// Where a place's word is looked for by what restricts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    /// Anywhere among the arguments.
    Option,
    /// In its order.
    Operand,
}

/// The most words of a pattern behind its program: a set of places is one number.
pub(super) const MAX_PLACES: usize = 63;

/// How a command fits a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Its words do.
    Certain,
    /// A running shell may make words of it that do.
    Possible,
    /// No.
    Not,
}

/// Options that take a value in the next word, before a subcommand, of programs whose other options take none there.
/// For programs that are not listed every option may take one.
const VALUED: &[(&str, &[&str])] = &[
    (
        "git",
        &[
            "-C",
            "-c",
            "--config-env",
            "--exec-path",
            "--git-dir",
            "--namespace",
            "--super-prefix",
            "--work-tree",
            "--attr-source",
        ],
    ),
    (
        "cargo",
        &["-C", "-Z", "--color", "--config", "--manifest-path"],
    ),
];

impl Pattern {
    /// `rest` has at most [`MAX_PLACES`] places.
    pub(super) fn new(program: String, rest: &[Vec<String>], letters: LetterCase) -> Self {
        Self {
            program,
            rest: rest.iter().map(|words| Place::new(words)).collect(),
            letters,
        }
    }

    /// The name that the program's file has.
    pub(crate) fn program_name(&self) -> &str {
        name_of(&self.program)
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    pub(crate) fn words(&self) -> usize {
        1 + self.rest.len()
    }

    pub(crate) fn letters(&self) -> LetterCase {
        self.letters
    }

    /// The places behind the program.
    pub(crate) fn rest(&self) -> &[Place] {
        &self.rest
    }

    /// The places that words fill in their order.
    fn operands(&self) -> impl Iterator<Item = &Place> {
        self.rest.iter().filter(|place| !place.is_option())
    }

    /// Whether `words` begin with the pattern, place by place.
    pub(crate) fn begins(&self, words: &[String]) -> bool {
        let Some((program, arguments)) = words.split_first() else {
            return false;
        };
        self.same(program, &self.program)
            && arguments.len() >= self.rest.len()
            && self
                .rest
                .iter()
                .zip(arguments)
                .all(|(place, word)| self.is_one_of(word, place))
    }

    /// Whether the certain words of `command` behind its program begin with the pattern's, place by place.
    pub(crate) fn arguments_begin(&self, arguments: &[Word]) -> bool {
        arguments.len() >= self.rest.len()
            && self.rest.iter().zip(arguments).all(|(place, word)| {
                word.literal()
                    .is_some_and(|word| self.is_one_of(word, place))
            })
    }

    /// How `command`, whose program fits, fits a pattern that restricts: options between the words are looked through,
    /// options of the pattern may stand anywhere, and doubt is a fit.
    pub(crate) fn restricts(&self, command: &Command) -> Fit {
        if self.rest.is_empty() {
            return Fit::Certain;
        }
        let arguments = command.arguments();
        let mut doubt = false;
        for place in self.rest.iter().filter(|place| place.is_option()) {
            match self.option_fit(place, arguments) {
                Fit::Certain => {}
                Fit::Possible => doubt = true,
                Fit::Not => return Fit::Not,
            }
        }
        match self.operand_fit(command) {
            Fit::Certain if doubt => Fit::Possible,
            fit @ (Fit::Certain | Fit::Possible | Fit::Not) => fit,
        }
    }

    /// Whether an option of the pattern stands among `words`: as it is, with a value, abbreviated, or in a cluster.
    fn option_fit(&self, place: &Place, words: &[Word]) -> Fit {
        let mut fit = Fit::Not;
        let before_end = || words.iter().take_while(|word| word.literal() != Some("--"));
        for wanted in &place.words {
            if before_end().any(|word| word.literal().is_some_and(|w| self.is(w, wanted))) {
                return Fit::Certain;
            }
            if clustered(wanted, before_end()) {
                return Fit::Certain;
            }
            let prefix_fits = |word: &Word| {
                let prefix = word.literal_prefix();
                word.literal().is_none()
                    && (prefix.is_empty()
                        || wanted.starts_with(prefix)
                        || prefix.starts_with(wanted.as_str()))
            };
            if before_end().any(prefix_fits) {
                fit = Fit::Possible;
            }
        }
        fit
    }

    /// Whether `word` is the option `wanted`, with or without a value, or an abbreviation of it (`getopt_long(3)`).
    fn is(&self, word: &str, wanted: &str) -> bool {
        let name = word.split('=').next().unwrap_or(word);
        self.same(word, wanted)
            || self.same(name, wanted)
            || (wanted.starts_with("--")
                && name.len() > 2
                && name.starts_with("--")
                && wanted.starts_with(name))
    }

    /// Whether the operands of the pattern stand in their order, with only options and their values between them.
    fn operand_fit(&self, command: &Command) -> Fit {
        let Some(rest) = past_leading_options(command) else {
            return Fit::Possible;
        };
        let all = 1_u64 << self.operands().count();
        // The places that may come next, a bit each; more than one where a word may be an option's value or not.
        let mut next = 1_u64;
        let mut before = None;
        for word in rest {
            if next & all != 0 {
                return Fit::Certain;
            }
            let mut after = if is_skippable(before, word) { next } else { 0 };
            for (at, place) in self.operands().enumerate() {
                if next & (1 << at) == 0 {
                    continue;
                }
                match self.place_fit((at, place), word) {
                    Fit::Certain => after |= 1 << (at + 1),
                    // What it becomes, and what comes behind it then, only a shell knows.
                    Fit::Possible => return Fit::Possible,
                    Fit::Not => {}
                }
            }
            if after == 0 {
                return Fit::Not;
            }
            next = after;
            before = Some(word);
        }
        if next & all != 0 {
            Fit::Certain
        } else {
            Fit::Not
        }
    }

    fn place_fit(&self, (at, place): (usize, &Place), word: &Word) -> Fit {
        let is_npms = at == 0 && self.may_be_abbreviated();
        let npm_takes = |literal: &str| place.words.iter().any(|one| npm::same(literal, one));
        match word.literal() {
            Some(literal) if self.is_one_of(literal, place) => Fit::Certain,
            Some(literal) if is_npms && npm_takes(literal) => Fit::Certain,
            Some(_) => Fit::Not,
            // In quotes it stays one word, which may be anything; a value of an option is no subcommand.
            None if word.splits() && word.literal_prefix().is_empty() => Fit::Possible,
            None if place.words.iter().any(|wanted| self.could_be(word, wanted)) => Fit::Possible,
            None if is_npms && npm_takes(word.literal_prefix()) => Fit::Possible,
            None => Fit::Not,
        }
    }

    /// Whether the program takes beginnings and aliases for its subcommands.
    pub(crate) fn may_be_abbreviated(&self) -> bool {
        self.program_name().eq_ignore_ascii_case("npm")
    }

    fn is_one_of(&self, word: &str, place: &Place) -> bool {
        place.words.iter().any(|wanted| self.same(word, wanted))
    }

    fn same(&self, one: &str, other: &str) -> bool {
        match self.letters {
            LetterCase::Exact => one == other,
            LetterCase::Ignored => one.eq_ignore_ascii_case(other),
        }
    }

    fn could_be(&self, word: &Word, wanted: &str) -> bool {
        // Where case does not count, an uncertain word is looked at by its length alone.
        self.letters == LetterCase::Ignored || word.could_be(wanted)
    }
}

impl Place {
    fn new(words: &[String]) -> Self {
        let is_option =
            |wanted: &String| wanted.len() > 1 && wanted.starts_with('-') && wanted != "--";
        Self {
            kind: if words.iter().all(is_option) {
                PlaceKind::Option
            } else {
                PlaceKind::Operand
            },
            words: words.to_vec(),
        }
    }

    /// The words that may stand there: at least one.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether all of them are options.
    pub(crate) fn is_option(&self) -> bool {
        self.kind == PlaceKind::Option
    }
}

/// Whether it is known where the operands of `command` begin.
pub(crate) fn operands_are_certain(command: &Command) -> bool {
    past_leading_options(command).is_some()
}

/// `/usr/bin/git` is called `git`.
pub(crate) fn name_of(program: &str) -> &str {
    program
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(program)
}

/// `-rf` where `-r` and `-f`, or `-fr`, stand.
fn clustered<'w>(wanted: &str, words: impl Iterator<Item = &'w Word>) -> bool {
    let Some(letters) = cluster(wanted).filter(|letters| letters.len() <= 3) else {
        return false;
    };
    let given: Vec<&str> = words
        .filter_map(|word| word.literal().and_then(cluster))
        .collect();
    letters
        .chars()
        .all(|letter| given.iter().any(|cluster| cluster.contains(letter)))
}

/// The letters of a word of short options.
fn cluster(word: &str) -> Option<&str> {
    word.strip_prefix('-').filter(|letters| {
        !letters.is_empty() && letters.chars().all(|letter| letter.is_ascii_alphabetic())
    })
}

/// Whether `word` may stand before an operand without being one: an option, or the value of the option `before` it.
fn is_skippable(before: Option<&Word>, word: &Word) -> bool {
    let prefix = word.literal_prefix();
    let is_value = before.is_some_and(|before| {
        let option = before.literal_prefix();
        option.len() > 1 && option.starts_with('-') && !option.contains('=')
    });
    prefix.starts_with(['-', '+']) || is_value || (word.literal().is_none() && prefix.is_empty())
}

/// The words from the first on that may be an operand. `None`: only a shell knows, or an option gives subcommands other
/// names.
fn past_leading_options(command: &Command) -> Option<&[Word]> {
    let program = command.program().unwrap_or_default();
    let arguments = command.arguments();
    let Some((_, valued)) = VALUED.iter().find(|(name, _)| *name == program) else {
        return Some(arguments);
    };
    if program == "git" && brings_settings(command) {
        return None;
    }
    let mut option: Option<&str> = None;
    for (at, word) in arguments.iter().enumerate() {
        let prefix = word.literal_prefix();
        if word.literal().is_none() && (word.splits() || option.is_none()) {
            // It may be an option, an operand, or several words.
            return (!prefix.is_empty() && !word.splits() && !prefix.starts_with('-'))
                .then(|| arguments.get(at..).unwrap_or_default());
        }
        if let Some(name) = option.take() {
            if renames(name, prefix) || (word.literal().is_none() && name.starts_with("-c")) {
                return None;
            }
        } else if prefix.starts_with(['-', '+']) {
            let glued = prefix.strip_prefix("-c").filter(|glued| !glued.is_empty());
            let setting = glued.or_else(|| prefix.strip_prefix("--config-env="));
            if setting.is_some_and(|setting| renames("-c", setting)) {
                return None;
            }
            option = valued.contains(&prefix).then_some(prefix);
        } else {
            return Some(arguments.get(at..).unwrap_or_default());
        }
    }
    Some(&[])
}

/// Whether a variable of this call says where git finds its settings, or some of them (git-config(1), "ENVIRONMENT").
fn brings_settings(command: &Command) -> bool {
    command.environment().any(|(name, _)| {
        name.starts_with("GIT_CONFIG") || matches!(name.as_str(), "HOME" | "XDG_CONFIG_HOME")
    })
}

/// `git -c alias.p=push p`: a setting that gives a subcommand another name, or brings one along.
fn renames(option: &str, setting: &str) -> bool {
    let setting = setting.to_ascii_lowercase();
    matches!(option, "-c" | "--config-env" | "--config")
        && ["alias.", "include", "alias=", "help.autocorrect"]
            .iter()
            .any(|name| setting.starts_with(name))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for place in &self.rest {
            write!(f, " {}", place.words.join("|"))?;
        }
        Ok(())
    }
}
