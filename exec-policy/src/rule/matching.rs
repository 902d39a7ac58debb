//! Whether a command's words fit a pattern: strictly, for what allows, and with every doubt, for what restricts.
//!
//! Apart, because these two must never be mixed up. Invariant: what fits strictly also fits restrictively, and a word
//! that is not certain fits restrictively wherever a shell could make it fit.

use std::fmt;

use crate::command::Command;
use crate::rule::LetterCase;
use crate::word::Word;

/// The words that a command begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    program: String,
    rest: Vec<Vec<String>>,
    letters: LetterCase,
}

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
    pub(crate) fn new(program: String, rest: Vec<Vec<String>>, letters: LetterCase) -> Self {
        Self {
            program,
            rest,
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
                .all(|(place, word)| place.iter().any(|alternative| self.same(word, alternative)))
    }

    /// Whether the certain words of `command` behind its program begin with the pattern's, place by place.
    pub(crate) fn arguments_begin(&self, arguments: &[Word]) -> bool {
        arguments.len() >= self.rest.len()
            && self.rest.iter().zip(arguments).all(|(place, word)| {
                word.literal().is_some_and(|word| {
                    place.iter().any(|alternative| self.same(word, alternative))
                })
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
        for place in self.rest.iter().filter(|place| is_option(place)) {
            match self.option_fit(place, arguments) {
                Fit::Certain => {}
                Fit::Possible => doubt = true,
                Fit::Not => return Fit::Not,
            }
        }
        let operands: Vec<&[String]> = self
            .rest
            .iter()
            .filter(|place| !is_option(place))
            .map(Vec::as_slice)
            .collect();
        match self.operand_fit(&operands, command) {
            Fit::Certain if doubt => Fit::Possible,
            fit @ (Fit::Certain | Fit::Possible | Fit::Not) => fit,
        }
    }

    /// Whether an option of the pattern stands among `words`: as it is, with a value, abbreviated, or in a cluster.
    fn option_fit(&self, place: &[String], words: &[Word]) -> Fit {
        let mut fit = Fit::Not;
        let before_end = || words.iter().take_while(|word| word.literal() != Some("--"));
        for wanted in place {
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
    fn operand_fit(&self, operands: &[&[String]], command: &Command) -> Fit {
        let Some((leading, rest)) = past_leading_options(command) else {
            return Fit::Possible;
        };
        // The places that may come next; more than one where a word may be an option's value or not.
        let mut next = vec![0_usize];
        let mut before = leading;
        for word in rest {
            if next.iter().any(|at| *at >= operands.len()) {
                return Fit::Certain;
            }
            let skips = is_skippable(before, word);
            let mut after: Vec<usize> = Vec::with_capacity(next.len() + 1);
            for at in next {
                let place = operands.get(at).copied().unwrap_or_default();
                match self.place_fit(place, word) {
                    Fit::Certain => push_once(&mut after, at + 1),
                    // What it becomes, and what comes behind it then, only a shell knows.
                    Fit::Possible => return Fit::Possible,
                    Fit::Not => {}
                }
                if skips {
                    push_once(&mut after, at);
                }
            }
            if after.is_empty() {
                return Fit::Not;
            }
            next = after;
            before = Some(word);
        }
        if next.iter().any(|at| *at >= operands.len()) {
            Fit::Certain
        } else {
            Fit::Not
        }
    }

    fn place_fit(&self, place: &[String], word: &Word) -> Fit {
        match word.literal() {
            Some(literal) if place.iter().any(|wanted| self.same(literal, wanted)) => Fit::Certain,
            Some(_) => Fit::Not,
            // In quotes it stays one word, which may be anything; a value of an option is no subcommand.
            None if word.splits() && word.literal_prefix().is_empty() => Fit::Possible,
            None if place.iter().any(|wanted| self.could_be(word, wanted)) => Fit::Possible,
            None => Fit::Not,
        }
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

/// `/usr/bin/git` is called `git`.
pub(crate) fn name_of(program: &str) -> &str {
    program
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(program)
}

fn push_once(places: &mut Vec<usize>, at: usize) {
    if !places.contains(&at) {
        places.push(at);
    }
}

fn is_option(place: &[String]) -> bool {
    place
        .iter()
        .all(|wanted| wanted.len() > 1 && wanted.starts_with('-') && wanted != "--")
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

/// The words from the first on that may be an operand, with the word before it. `None`: only a shell knows, or an option
/// gives subcommands other names.
fn past_leading_options(command: &Command) -> Option<(Option<&Word>, &[Word])> {
    let program = command.program().unwrap_or_default();
    let arguments = command.arguments();
    let Some((_, valued)) = VALUED.iter().find(|(name, _)| *name == program) else {
        return Some((None, arguments));
    };
    let mut option: Option<&str> = None;
    for (at, word) in arguments.iter().enumerate() {
        let prefix = word.literal_prefix();
        if word.literal().is_none() && (word.splits() || option.is_none()) {
            // It may be an option, an operand, or several words.
            return (!prefix.is_empty() && !word.splits() && !prefix.starts_with('-'))
                .then(|| (None, arguments.get(at..).unwrap_or_default()));
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
            return Some((None, arguments.get(at..).unwrap_or_default()));
        }
    }
    Some((None, &[]))
}

/// `git -c alias.p=push p`: a setting that gives a subcommand another name, or brings one along.
fn renames(option: &str, setting: &str) -> bool {
    let setting = setting.to_ascii_lowercase();
    matches!(option, "-c" | "--config-env" | "--config")
        && ["alias.", "include", "alias="]
            .iter()
            .any(|name| setting.starts_with(name))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for place in &self.rest {
            write!(f, " {}", place.join("|"))?;
        }
        Ok(())
    }
}
