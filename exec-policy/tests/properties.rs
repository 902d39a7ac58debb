//! What holds of every command and every set of rules, thrown together: rules that restrict only ever add up, wrapping
//! makes nothing milder, and what was not read is never taken for safe.

#![expect(clippy::expect_used, reason = "a test")]

use std::time::{Duration, Instant};

use exec_policy::{
    Class, Coverage, LetterCase, MAX_SCRIPT_BYTES, Origin, PrefixRule, RawPrefixRule, Reading,
    RuleSet, Verdict,
};
use proptest::prelude::*;

/// Words of commands and of rules: the same, so that they meet.
const WORDS: &[&str] = &[
    "git", "push", "status", "-C", ".", "rm", "-rf", "-f", "ls", "make", "--force", "x", "tail",
    "cat",
];

/// Words that only a shell knows.
const OPEN: &[&str] = &[
    "$X",
    "\"$X\"",
    "*.c",
    "~/x",
    "{a,b}",
    "$(ls)",
    "`ls`",
    "${X:-git}",
];

/// Programs that run the command behind them: `W` is its place.
const PREFIXES: &[&str] = &[
    "W",
    "env W",
    "nohup W",
    "timeout 5 W",
    "sudo W",
    "nice -n 5 W",
    "stdbuf -o0 W",
    "setsid W",
    "env A=1 W",
    "xargs W",
];

/// What only the shell itself understands before a command: outermost.
const FIRST: &[&str] = &["W", "time W", "A=1 W", "command W", "exec W"];

/// What may stand around any text of commands: `W` is its place.
const WRAPS: &[&str] = &[
    "(W)",
    "{ W; }",
    "! { W; }",
    "true && W",
    "false || W",
    "W; ls",
    "W | cat",
    "cat x | W",
    "echo $(W)",
    "bash -c 'W'",
    "sh -lc 'W'",
    "eval 'W'",
    "if true; then W; fi",
    "while false; do W; done",
    "for i in 1; do W; done",
    "{ W; } > f",
    "W 2>&1",
    "W < f",
    "W &",
    "f() { W; }; f",
    "case x in x) W;; esac",
];

fn command() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        9 => proptest::sample::select(WORDS),
        1 => proptest::sample::select(OPEN),
    ];
    proptest::collection::vec(word, 1..6).prop_map(|words| words.join(" "))
}

fn rule(verdicts: &'static [Verdict]) -> impl Strategy<Value = PrefixRule> {
    let word = proptest::sample::select(WORDS).prop_map(str::to_owned);
    let place = proptest::collection::vec(word, 1..3);
    let letters = prop_oneof![9 => Just(LetterCase::Exact), 1 => Just(LetterCase::Ignored)];
    let verdict = proptest::sample::select(verdicts);
    let pattern = proptest::collection::vec(place, 1..4);
    (pattern, verdict, letters).prop_map(|(pattern, verdict, letters)| {
        let raw = RawPrefixRule {
            pattern,
            verdict,
            justification: None,
            matches: Vec::new(),
            not_matches: Vec::new(),
            letters,
            origin: Origin {
                file: "test.rules".into(),
                line: 1,
            },
        };
        raw.checked().expect("a rule").remove(0)
    })
}

const ANY: &[Verdict] = &[
    Verdict::Allow,
    Verdict::Prompt,
    Verdict::PromptUser,
    Verdict::Forbidden,
];

fn set(rules: &[PrefixRule]) -> RuleSet {
    let mut set = RuleSet::default();
    set.add(rules.iter().cloned());
    set
}

fn read(script: &str) -> Reading {
    Reading::of_argv(&["bash", "-c", script].map(str::to_owned))
}

fn restricts(verdict: Option<Verdict>) -> Option<Verdict> {
    verdict.filter(|verdict| *verdict > Verdict::Allow)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restrictive_rule_more_never_makes_a_ruling_milder(
        rules in proptest::collection::vec(rule(ANY), 0..6),
        more in rule(&[Verdict::Prompt, Verdict::PromptUser, Verdict::Forbidden]),
        at in any::<prop::sample::Index>(),
        command in command(),
        wrap in proptest::sample::select(WRAPS),
    ) {
        let mut many = rules.clone();
        many.insert(at.index(rules.len() + 1), more);
        let (few, many) = (set(&rules), set(&many));
        let reading = read(&wrap.replace('W', &command));
        let (before, after) = (few.judge(&reading), many.judge(&reading));
        prop_assert!(after.verdict() >= before.verdict(), "{command} in {wrap}");
        prop_assert_eq!(after.coverage(), before.coverage());
        prop_assert_eq!(after.rest(), before.rest());
        prop_assert!(after.hits().len() >= before.hits().len());
    }

    #[test]
    fn wrapping_never_makes_a_verdict_milder(
        rules in proptest::collection::vec(rule(ANY), 1..6),
        command in command(),
        prefixes in proptest::collection::vec(proptest::sample::select(PREFIXES), 1..3),
        first in proptest::sample::select(FIRST),
        wraps in proptest::collection::vec(proptest::sample::select(WRAPS), 0..3),
    ) {
        // Bare, `bash -c` would take it for an option of its own, and so it is not read.
        prop_assume!(!command.starts_with('-'));
        let rules = set(&rules);
        let wraps = prefixes.iter().chain([&first]).chain(&wraps);
        let script = wraps.fold(command.clone(), |inner, wrap| {
            // Quotes within quotes are another script.
            if wrap.contains('\'') && inner.contains('\'') { inner } else { wrap.replace('W', &inner) }
        });
        let (bare, wrapped) = (read(&command), read(&script));
        let (before, after) = (rules.judge(&bare), rules.judge(&wrapped));
        prop_assert!(
            restricts(after.verdict()) >= restricts(before.verdict()),
            "{command} in {script}: {:?} after {:?}", after.verdict(), before.verdict()
        );
        prop_assert!(
            before.coverage() == Coverage::Whole || after.coverage() != Coverage::Whole,
            "{script} is allowed and {command} is not"
        );
        prop_assert!(
            bare.known_safe() || !wrapped.known_safe(),
            "{script} is safe and {command} is not"
        );
        prop_assert!(
            before.rest() != Class::Dangerous || after.rest() == Class::Dangerous || !wrapped.is_complete(),
            "{command} is dangerous and {script} is read and is not"
        );
    }

    #[test]
    fn what_is_not_read_is_never_safe_never_allowed_and_ruled_by_the_strictest(
        pieces in proptest::collection::vec(
            proptest::sample::select(&[
                "ls", " ", ";", "|", "&&", "'", "\"", "$(", ")", "`", "((", "))", "${ ", "}", "<<E\n", "\nE\n",
                "if ", "then ", "fi", "\\", "\n", "$X", "case ", " in ", "esac", "[[", "]]", "\u{0}", "é", "<(", "git",
            ][..]),
            1..40,
        ),
    ) {
        let rules = set(&[
            rule_of("ls", Verdict::Allow),
            rule_of("git", Verdict::Allow),
            rule_of("tail", Verdict::Prompt),
            rule_of("rm", Verdict::Forbidden),
        ]);
        let reading = read(&pieces.concat());
        let ruling = rules.judge(&reading);
        if !reading.is_complete() {
            prop_assert!(!reading.known_safe());
            prop_assert_eq!(ruling.verdict(), Some(Verdict::Forbidden));
            prop_assert!(ruling.coverage() != Coverage::Whole);
            prop_assert!(ruling.rest() != Class::KnownSafe);
        }
    }
}

fn rule_of(program: &str, verdict: Verdict) -> PrefixRule {
    let raw = RawPrefixRule {
        pattern: vec![vec![program.to_owned()]],
        verdict,
        justification: None,
        matches: Vec::new(),
        not_matches: Vec::new(),
        letters: LetterCase::Exact,
        origin: Origin {
            file: "test.rules".into(),
            line: 1,
        },
    };
    raw.checked().expect("a rule").remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    /// A megabyte of anything, as a script, as one word and as many words: an answer soon, and no yes to what is too long.
    #[test]
    fn a_megabyte_of_anything_is_answered(
        pieces in proptest::collection::vec(".{1,6}|[;|&<>(){}$'\"`\\\\ \n]{1,4}|ls |rm -rf ", 1..12),
        shape in 0..3_usize,
    ) {
        let rules = set(&[rule_of("ls", Verdict::Allow), rule_of("rm", Verdict::Forbidden)]);
        let seed = pieces.concat();
        let text = seed.repeat(1024 * 1024 / seed.len() + 1);
        let argv: Vec<String> = match shape {
            0 => ["bash", "-lc", text.as_str()].map(str::to_owned).to_vec(),
            1 => vec!["ls".to_owned(), text],
            _ => std::iter::once("ls".to_owned())
                .chain(text.split_inclusive(' ').map(str::to_owned))
                .collect(),
        };
        let begun = Instant::now();
        let reading = Reading::of_argv(&argv);
        let ruling = rules.judge(&reading);
        // Seconds, and not minutes: what grows faster than its input shows itself here, whatever the machine is busy with.
        prop_assert!(begun.elapsed() < Duration::from_secs(60));
        if shape == 0 && argv.iter().any(|word| word.len() > MAX_SCRIPT_BYTES) {
            prop_assert!(!reading.is_complete() && !reading.known_safe());
            prop_assert_eq!(ruling.verdict(), Some(Verdict::Forbidden));
        }
    }
}
