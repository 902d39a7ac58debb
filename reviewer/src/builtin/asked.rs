//! What the user's own words ask for, so plainly that code can hold an action against them.
//!
//! Apart, because it is the one place where a conversation counts for the built-in reviewer. Invariant: only trusted
//! entries of a person count; a sentence that asks, negates or sets a condition counts for nothing; an action is asked
//! for only where every word of it is accounted for by one short sentence, or was dictated whole.

mod command;
mod forbidden;
mod other;
mod push;

use protocol::{Author, Transcript, Trust};

use super::scene::Scene;
use super::{Finding, Rule, listed, openings};

pub(super) use self::command::command;
pub(super) use self::forbidden::is_forbidden;
pub(super) use self::other::{network, patch, permissions, tool};

/// The longest entry that is read, in bytes. What is longer was pasted, not said.
const MAX_ENTRY_BYTES: usize = 2_000;
/// How many sentences an order may stand among. More are a text that was pasted: a ticket, a guide, a log.
const MAX_SENTENCES: usize = 5;
/// How many of the newest entries are read.
const MAX_ENTRIES: usize = 20;
/// The longest sentence that can ask for something, in words: in a long one words stand together by chance.
const MAX_WORDS: usize = 24;

/// Words that take something back or forbid it. An entry with one of them asks for nothing, and nothing before it does.
const NEGATIONS: &str = "\
    not dont never no nor neither without avoid except unless instead wait hold cancel abort cannot cant \
    won't leave forbidden undo revert";
/// Words by which a sentence asks, supposes or sets a condition.
const SUPPOSITIONS: &str = "\
    why how what which who where whether if when after once until before should would could might maybe \
    perhaps later says said tells told wrote prints printed claims suggests suggested output example";
/// Words by which a sentence that opens with one of them is a question, or asks for a look.
const OPENINGS: &str = "\
    is are does did do has have was were may can explain describe check review summarise summarize draft \
    plan";

/// Words that may stand in an order beside its deed and its objects, and change neither.
const FILLERS: &str = "\
    the a an my our this that these those it its to on in of at with from for into onto by via using as please now too \
    also again here there up out down off away branch branches container containers image images file files folder \
    folders directory dir pod pods deployment service issue issues pr pull request requests mr merge release tag tags \
    remote repo repository process server job database db table local old new merged stale test temporary tmp unused \
    empty dev staging namespace called named user unit executable well me";
/// Words that may stand before the deed.
const BEFORE: &str = "please then and now also ok okay just so next finally thanks great good yes";

/// What the user asked for.
#[derive(Debug, Default)]
pub(super) struct Wishes(Vec<Sentence>);

/// One sentence that asks for something.
#[derive(Debug)]
pub(super) struct Sentence {
    whole: String,
    text: String,
    words: Vec<String>,
    dictated: Vec<String>,
}

impl Wishes {
    /// Reads what a person said by a channel that speaks for them.
    pub(super) fn of(transcript: &Transcript) -> Self {
        let mut sentences = Vec::new();
        let said = transcript
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.trust == Trust::Trusted && entry.author == Author::User);
        for entry in said.take(MAX_ENTRIES) {
            let read = split(entry.text.get(..MAX_ENTRY_BYTES).unwrap_or(&entry.text));
            if read.iter().any(Sentence::takes_back) {
                break;
            }
            if entry.text.len() <= MAX_ENTRY_BYTES && read.len() <= MAX_SENTENCES {
                sentences.extend(read.into_iter().filter(Sentence::asks));
            }
        }
        Self(sentences)
    }

    /// Whether one sentence meets `test`.
    fn any(&self, test: impl FnMut(&Sentence) -> bool) -> bool {
        self.0.iter().any(test)
    }
}

impl Sentence {
    fn new(text: &str) -> Self {
        let dictated = text.split('`').skip(1).step_by(2).map(plain).collect();
        let mut words = Vec::new();
        for word in text.split(|c: char| c.is_whitespace() || c == '`') {
            let bare = trimmed(word);
            words.extend((!bare.is_empty()).then(|| bare.to_owned()));
            if word.ends_with([',', ':']) {
                words.push(CLAUSE_END.to_owned());
            }
        }
        Self {
            whole: text.trim().to_owned(),
            text: text.to_lowercase(),
            words,
            dictated,
        }
    }

    fn takes_back(&self) -> bool {
        self.words.iter().any(|word| {
            let word = word.to_lowercase();
            listed(NEGATIONS, word.as_str()) || word.ends_with("n't") || word.ends_with("n’t")
        })
    }

    fn asks(&self) -> bool {
        let opening = self.words.first().map(|word| word.to_lowercase());
        !self.text.trim_end().ends_with('?')
            && !opening.is_some_and(|word| listed(OPENINGS, word.as_str()))
            && !SUPPOSITIONS.split_whitespace().any(|word| self.has(word))
            && (self.words.iter().filter(|word| *word != CLAUSE_END).count() <= MAX_WORDS
                || !self.dictated.is_empty())
    }

    /// Its clauses that open with one of `verbs`, without what may stand before it: each as its words behind the verb.
    fn orders(&self, verbs: &[&str]) -> Vec<&[String]> {
        let opens = |clause: &&[String]| {
            clause
                .first()
                .is_some_and(|word| verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb)))
        };
        self.clauses()
            .into_iter()
            .map(|clause| {
                let before = clause
                    .iter()
                    .take_while(|word| listed(BEFORE, &word.to_lowercase()))
                    .count();
                clause.get(before..).unwrap_or_default()
            })
            .filter(opens)
            .map(|clause| clause.get(1..).unwrap_or_default())
            .collect()
    }

    /// Whether it orders one of `verbs`, and nothing but what `is_of_action` knows.
    fn orders_only(&self, verbs: &[&str], is_of_action: &dyn Fn(&str) -> bool) -> bool {
        self.orders(verbs).iter().any(|words| {
            words
                .iter()
                .all(|word| is_of_action(word) || listed(FILLERS, &word.to_lowercase()))
        })
    }

    /// The parts between words that join orders.
    fn clauses(&self) -> Vec<&[String]> {
        self.words
            .split(|word| {
                matches!(
                    word.to_lowercase().as_str(),
                    "and" | "then" | "so" | "because" | "since" | "but" | CLAUSE_END
                )
            })
            .collect()
    }

    /// Whether a word stands in it, upper and lower case as the same.
    fn has(&self, wanted: &str) -> bool {
        self.words
            .iter()
            .any(|word| word.eq_ignore_ascii_case(wanted))
    }

    fn has_any(&self, wanted: &[&str]) -> bool {
        wanted.iter().any(|word| self.has(word))
    }

    /// Whether exactly this stands in it: a name, a path, a number.
    fn names(&self, wanted: &str) -> bool {
        !wanted.is_empty() && self.words.iter().any(|word| word == wanted)
    }

    /// Whether the text holds this, at the edges of words.
    fn says(&self, wanted: &str) -> bool {
        let wanted = wanted.to_lowercase();
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        !wanted.trim().is_empty()
            && self.text.match_indices(wanted.as_str()).any(|(at, found)| {
                edge(
                    self.text
                        .get(..at)
                        .and_then(|text| text.chars().next_back()),
                ) && edge(
                    self.text
                        .get(at + found.len()..)
                        .and_then(|text| text.chars().next()),
                )
            })
    }

    /// Whether it dictates exactly this command line and says to run it, or is nothing but the line.
    fn dictates(&self, line: &str) -> bool {
        let line = plain(line);
        let bare = line.contains(' ')
            && (plain(&self.whole) == line
                || self
                    .whole
                    .rsplit_once(": ")
                    .is_some_and(|(before, last)| plain(last) == line && !quotes(before)));
        bare || (self.has_any(&["run", "execute"]) && self.dictated.contains(&line))
    }
}

/// Whether what stands before a colon is a program's word and not a person's.
fn quotes(before: &str) -> bool {
    const PROGRAMS: &str =
        "error err err! warning warn hint note fatal failed stderr stdout log info debug usage tip";
    before
        .split(|c: char| !(c.is_alphanumeric() || c == '!'))
        .any(|word| listed(PROGRAMS, &word.to_lowercase()))
}

/// Stands among the words where a comma or a colon stood.
const CLAUSE_END: &str = ",";

/// A command line with its quotes taken off and its blanks made one.
fn plain(line: &str) -> String {
    let bare: String = line.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn trimmed(word: &str) -> &str {
    word.trim_start_matches(['"', '\'', '(', '['])
        .trim_end_matches(['"', '\'', ')', ']', '.', ':', ';', '!', '?', ','])
}

/// Sentences end at a line's end, or at a mark with a blank behind it, outside of what is dictated.
fn split(text: &str) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut from = 0;
    let mut quoted = false;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next_blank = characters.peek().is_none_or(|(_, c)| c.is_whitespace());
        quoted ^= character == '`';
        let ends = character == '\n' || (matches!(character, '.' | '!' | '?' | ';') && next_blank);
        if ends && !quoted {
            let end = at + character.len_utf8();
            sentences.extend(text.get(from..end).map(Sentence::new));
            from = end;
        }
    }
    sentences.extend(text.get(from..).map(Sentence::new));
    sentences.retain(|sentence| !sentence.words.is_empty());
    sentences
}

/// Denials that the user's own words turn into a question for somebody else, and the verbs that do.
const GRAVE: &[(Rule, &str)] = &[
    (Rule::RemovesTreeOutside, "remove delete rm"),
    (
        Rule::DestroysStore,
        "destroy delete remove drop tear flush clear wipe reset prune clean purge empty uninstall rm down \
         terminate free reclaim forget fresh recreate scratch deprovision decommission nuke erase stop",
    ),
    (
        Rule::SendsToCollector,
        "upload send post share put paste use open test connect run push give",
    ),
    (Rule::ReadsCredentials, "show read print open cat get list"),
    (Rule::ForcePushProtected, "force force-push delete"),
    (
        Rule::WeakensProtection,
        "disable stop turn run change add edit",
    ),
    (
        Rule::DestroysDatabase,
        "drop truncate delete empty clear reset",
    ),
    (
        Rule::Persistence,
        "add append put set install enable write schedule edit update copy ssh-copy-id",
    ),
];

/// Whether the user's own words can turn a denial into a question.
pub(super) fn can_be_named(rule: Rule) -> bool {
    GRAVE.iter().any(|(grave, _)| *grave == rule)
}

/// What the user named is no longer denied out of hand: somebody else judges it, at high risk. What is critical by
/// everybody's measure (the root, devices, secrets to strangers, the reviewer itself) stays denied.
pub(super) fn soften(found: &mut [Finding], scene: &Scene, wishes: &Wishes) {
    for finding in found
        .iter_mut()
        .filter(|finding| can_be_named(finding.rule))
    {
        if wishes.any(|sentence| names_grave(finding, scene, sentence)) {
            finding.rule = Rule::NamedByUser;
        }
    }
}

fn names_grave(finding: &Finding, scene: &Scene, sentence: &Sentence) -> bool {
    let verbs = GRAVE
        .iter()
        .filter(|(rule, _)| *rule == finding.rule)
        .flat_map(|(_, verbs)| verbs.split_whitespace());
    let verbs: Vec<&str> = verbs.collect();
    let words: Vec<&str> = finding.object.split_whitespace().collect();
    let named = match words.as_slice() {
        // The verb is enough for a question: that it is this very store is for whoever is asked. But production is
        // nobody's slip of the tongue.
        words if finding.rule == Rule::DestroysStore => {
            let mut live = words
                .iter()
                .filter(|word| openings::is_production(word))
                .peekable();
            live.peek().is_none()
                || sentence
                    .words
                    .iter()
                    .any(|word| openings::is_production(word))
                || live.any(|word| sentence.names(word))
        }
        _ if finding.rule == Rule::DestroysDatabase => {
            words.last().is_some_and(|name| sentence.names(name))
        }
        [path] => {
            command::names_place(&scene.locate_text(&at_home(path, scene)), scene, sentence)
                || path
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.len() > 4 && sentence.names(name))
        }
        [program, rest @ ..] => {
            let told = rest.iter().filter(|word| !word.starts_with('-'));
            sentence.dictates(&finding.object)
                || (sentence.names(program) && told.clone().all(|word| sentence.names(word)))
                || (finding.rule == Rule::ForcePushProtected
                    && told.skip(1).all(|word| {
                        sentence.names(word.trim_start_matches('+')) || *word == "origin"
                    }))
        }
        [] => false,
    };
    named && sentence.has_any(&verbs)
}

/// A path with its `~` spelled out.
fn at_home(path: &str, scene: &Scene) -> String {
    path.strip_prefix("~/")
        .map_or_else(|| path.to_owned(), |rest| format!("{}/{rest}", scene.home))
}

/// What an action may hold that the user's words can carry.
fn can_be_asked_for(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::ReachesNetwork
            | Rule::PrivateNetwork
            | Rule::SendsFile
            | Rule::RemovesFiles
            | Rule::RemovesTemporary
            | Rule::RemovesWorkspaceTree
            | Rule::GitPush
            | Rule::PushesElsewhere
            | Rule::ForcePush
            | Rule::GitOther
            | Rule::DestroysGitWork
            | Rule::DestroysService
            | Rule::Publishes
            | Rule::RunsPrograms
            | Rule::ChangesSystem
            | Rule::WritesOutside
            | Rule::SideEffects
            | Rule::WantsNetwork
            | Rule::NothingKnown
    )
}

#[cfg(test)]
mod tests;
