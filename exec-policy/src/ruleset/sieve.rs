//! Which of many rules about one program may match a command: a sieve that lets some through in vain and keeps none back
//! that matches.
//!
//! Apart from the matching because it is only about time: thousands of rules about one program lie in one run of memory
//! and are told apart by twelve bits of each word. Invariant: a rule that the sieve keeps back matches by no meaning of
//! [`crate::rule::Pattern`], strict or restrictive.

use crate::command::Command;
use crate::rule::{PrefixRule, Verdict};

/// How many bits of a word's hash are looked at: enough that a command of a hundred words lets one rule in forty through
/// in vain.
const MARK_BITS: u32 = 12;

/// The rules about one program.
#[derive(Debug, Clone, Default)]
pub(super) struct Sieve {
    rules: Vec<Entry>,
    /// For each place of each rule that a word must fill: how many words may, and the mark of each.
    marks: Vec<u16>,
}

/// One rule in a [`Sieve`].
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its place among all rules.
    at: usize,
    /// Whether it allows.
    allows: bool,
    /// Where its places begin in `marks`.
    begin: usize,
    /// Where they end.
    end: usize,
}

/// What is known of a command's words, for a [`Sieve`].
#[derive(Debug)]
pub(super) struct Marks {
    /// One bit for each mark that a word has.
    words: [u64; 1 << (MARK_BITS - 6)],
    /// Whether the words are all that a restrictive rule is held against.
    certainty: Certainty,
}

/// How much the marks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// A rule with a place that no word fills does not match.
    Words,
    /// A word may be anything, so that only allow rules can be kept back.
    Open,
}

impl Sieve {
    /// Adds `rule`, which stands `at` a place among all rules.
    pub(super) fn add(&mut self, at: usize, rule: &PrefixRule) {
        let allows = rule.verdict == Verdict::Allow;
        let begin = self.marks.len();
        let mut abbreviated = !allows && rule.pattern.may_be_abbreviated();
        for place in rule.pattern.rest() {
            // A subcommand by any of its names or their beginnings: no mark holds for all of them.
            if abbreviated && !place.is_option() {
                abbreviated = false;
                continue;
            }
            // Options of a restrictive rule are found inside clusters, abbreviated and with values.
            let mark: fn(&str) -> u16 = if place.is_option() && !allows {
                option_mark
            } else {
                mark
            };
            // A count that does not fit is no count: nothing is kept back by such a place.
            if let Ok(count) = u16::try_from(place.words().len()) {
                self.marks.push(count);
                self.marks
                    .extend(place.words().iter().map(|word| mark(word)));
            }
        }
        self.rules.push(Entry {
            at,
            allows,
            begin,
            end: self.marks.len(),
        });
    }

    /// The places of the rules that may match a command with these `marks`, in their order.
    pub(super) fn through<'s>(&'s self, marks: &'s Marks) -> impl Iterator<Item = usize> + 's {
        let passes = |entry: &&Entry| match (entry.allows, marks.certainty) {
            (false, Certainty::Open) => true,
            (true, _) | (false, Certainty::Words) => {
                self.places(entry).all(|place| marks.fill(place))
            }
        };
        self.rules.iter().filter(passes).map(|entry| entry.at)
    }

    /// The places of all its rules.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|entry| entry.at)
    }

    /// The marks for each place of `entry`.
    fn places(&self, entry: &Entry) -> impl Iterator<Item = &[u16]> {
        let mut rest = self.marks.get(entry.begin..entry.end).unwrap_or_default();
        std::iter::from_fn(move || {
            let (count, after) = rest.split_first()?;
            let (place, after) = after.split_at_checked(usize::from(*count))?;
            rest = after;
            Some(place)
        })
    }
}

impl Marks {
    /// The marks of what `command` is given.
    pub(super) fn of(command: &Command) -> Self {
        let mut marks = Self {
            words: [0; 1 << (MARK_BITS - 6)],
            certainty: if crate::rule::operands_are_certain(command) {
                Certainty::Words
            } else {
                Certainty::Open
            },
        };
        for word in command.arguments() {
            match word.literal() {
                Some(text) => {
                    marks.set(mark(text));
                    if text.starts_with('-') {
                        marks.set(option_mark(text));
                    }
                }
                None => marks.certainty = Certainty::Open,
            }
        }
        marks
    }

    fn set(&mut self, mark: u16) {
        if let Some(word) = self.words.get_mut(usize::from(mark >> 6)) {
            *word |= 1 << (mark & 63);
        }
    }

    /// Whether one of `place` is among the words.
    fn fill(&self, place: &[u16]) -> bool {
        place.iter().any(|mark| {
            self.words
                .get(usize::from(mark >> 6))
                .is_none_or(|word| word >> (mark & 63) & 1 == 1)
        })
    }
}

/// The mark of an option and of all that may stand for it: whatever abbreviates a long one shares its first letter; a short
/// one stands in any cluster.
fn option_mark(option: &str) -> u16 {
    let mut letters = option.char_indices().skip(3);
    match letters.next() {
        Some((end, _)) if option.starts_with("--") => mark(option.get(..end).unwrap_or("-")),
        None if option.starts_with("--") => mark(option),
        _ => mark("-"),
    }
}

/// Twelve bits of `word`, the same for both cases of a letter: FNV-1a. Equal words have equal marks; nothing else hangs
/// on it.
fn mark(word: &str) -> u16 {
    const PRIME: u32 = 0x0100_0193;
    let hash = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(PRIME)
    });
    let folded = (hash >> MARK_BITS) ^ hash ^ (hash >> (2 * MARK_BITS));
    u16::try_from(folded & ((1 << MARK_BITS) - 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Marks, Sieve};
    use crate::command::{Command, Role};
    use crate::rule::{Fit, LetterCase, Origin, PrefixRule, RawPrefixRule, Verdict};
    use crate::word::{Piece, Word};

    const WORDS: [&str; 14] = [
        "push",
        "PUSH",
        "a",
        "b",
        "-C",
        "-f",
        "-rf",
        "--force",
        "--fo",
        "--",
        "x=y",
        "-c",
        "alias.p=push",
        "",
    ];

    fn word() -> impl Strategy<Value = Word> {
        prop_oneof![
            12 => proptest::sample::select(&WORDS[..]).prop_map(Word::from_text),
            1 => Just(Word::unknown()),
            1 => proptest::sample::select(&WORDS[..]).prop_map(|text| {
                let mut word = Word::from_text(text);
                word.push(Piece::Glob('*'));
                word
            }),
        ]
    }

    fn rule() -> impl Strategy<Value = PrefixRule> {
        let text = proptest::sample::select(&WORDS[..13]).prop_map(str::to_owned);
        let place = proptest::collection::vec(text, 1..3);
        let letters = proptest::sample::select(&[LetterCase::Exact, LetterCase::Ignored][..]);
        let verdict = proptest::sample::select(&[Verdict::Allow, Verdict::Forbidden][..]);
        let rest = proptest::collection::vec(place, 0..4);
        (rest, letters, verdict).prop_map(|(rest, letters, verdict)| {
            let raw = RawPrefixRule {
                pattern: std::iter::once(vec!["git".to_owned()])
                    .chain(rest)
                    .collect(),
                verdict,
                justification: None,
                matches: Vec::new(),
                not_matches: Vec::new(),
                letters,
                origin: Origin {
                    file: "f.rules".into(),
                    line: 1,
                },
            };
            raw.checked().expect("a rule").remove(0)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_rule_that_matches_is_kept_back(
            rule in rule(),
            arguments in proptest::collection::vec(word(), 0..6),
        ) {
            let command = Command {
                words: std::iter::once(Word::from_text("git")).chain(arguments).collect(),
                assignments: Vec::new(),
                exported: std::sync::Arc::default(),
                redirects: Vec::new(),
                fed_by: Vec::new(),
                role: Role::Itself,
                via: Vec::new(),
            };
            let matches = match rule.verdict {
                Verdict::Allow => rule.pattern.arguments_begin(command.arguments()),
                Verdict::Prompt | Verdict::PromptUser | Verdict::Forbidden => {
                    rule.pattern.restricts(&command) != Fit::Not
                }
            };
            let mut sieve = Sieve::default();
            sieve.add(0, &rule);
            let through = sieve.through(&Marks::of(&command)).next().is_some();
            prop_assert!(through || !matches, "{} on {:?}", rule.pattern(), command.words);
        }
    }
}
