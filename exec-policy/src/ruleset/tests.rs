use super::{Coverage, RuleSet};
use crate::command::Class;
use crate::reading::Reading;
use crate::rule::Verdict;
use crate::written::load_rules;

fn rules(text: &str) -> RuleSet {
    let mut rules = RuleSet::default();
    load_rules(&mut rules, "f.rules", text, "/home/u").expect("rules");
    rules
}

fn read(words: &[&str]) -> Reading {
    Reading::of_argv(
        &words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>(),
    )
}

mod carried;
mod spellings;

fn script(text: &str) -> Reading {
    read(&["bash", "-lc", text])
}

#[test]
fn the_strictest_rule_wins_whatever_the_order() {
    let rules = rules(
        "prefix_rule([\"git\", \"push\"], \"forbidden\")\nprefix_rule([\"git\"], \"allow\")\nprefix_rule([\"git\", \"push\"], \"prompt\")",
    );
    let of = |words: &[&str]| rules.judge(&read(words)).verdict();
    assert_eq!(of(&["git", "push", "x"]), Some(Verdict::Forbidden));
    assert_eq!(of(&["git", "status"]), Some(Verdict::Allow));
    assert_eq!(of(&["gitk"]), None);
    let reading = read(&["git", "push"]);
    let ruling = rules.judge(&reading);
    let deciding = ruling.deciding().expect("a rule");
    assert_eq!(deciding.rule.origin().to_string(), "f.rules:1");
    assert_eq!(ruling.hits().len(), 3);
}

#[test]
fn an_allow_rule_covers_plain_words_and_nothing_else() {
    let rules = rules("prefix_rule([\"make\"])\nprefix_rule([\"cargo\", [\"test\", \"build\"]])");
    let of = |text: &str| rules.judge(&script(text)).coverage();
    for covered in [
        "make",
        "make all",
        "cargo test -p x",
        "make && cargo build",
        "make | make",
        "env make",
        "nohup make",
        "'make' \"all\"",
    ] {
        assert_eq!(of(covered), Coverage::Whole, "{covered}");
    }
    for not in [
        "make > f",
        "make 2>&1",
        "make < f",
        "A=1 make",
        "make $X",
        "make *.c",
        "make ~/x",
        "make $(x)",
        "make `x`",
        "make &",
        "(make)",
        "make; $X",
        "if make; then make; fi",
        "make <<< x",
        "sudo make",
        "env A=1 make",
        "xargs make",
        "./make",
        "/tmp/make",
        "cargo run",
        "cargo -q test",
        "make {a,b}",
        "f() { make; }; make",
        "exec make",
        "! make",
    ] {
        assert_ne!(of(not), Coverage::Whole, "{not}");
    }
    assert_eq!(of("make && ls"), Coverage::Partial);
    assert_eq!(rules.judge(&script("make && ls")).rest(), Class::KnownSafe);
    assert_eq!(rules.judge(&script("make && foo")).rest(), Class::Unknown);
    assert_eq!(
        rules.judge(&script("make && rm -f x")).rest(),
        Class::Dangerous
    );
}

#[test]
fn an_allow_rule_for_a_shell_allows_no_script_and_one_for_a_forced_removal_lifts_it() {
    let rules = rules("prefix_rule([\"bash\"])\nprefix_rule([\"rm\", \"-rf\", \"target\"])");
    assert_eq!(rules.judge(&script("foo")).coverage(), Coverage::None);
    assert_eq!(
        rules.judge(&read(&["bash", "x.sh"])).coverage(),
        Coverage::Whole
    );
    let removal = read(&["rm", "-rf", "target"]);
    let removal = rules.judge(&removal);
    assert_eq!(
        (removal.coverage(), removal.rest()),
        (Coverage::Whole, Class::KnownSafe)
    );
    assert_eq!(
        rules.judge(&read(&["rm", "-rf", "x"])).rest(),
        Class::Dangerous
    );
}

#[test]
fn where_a_program_may_lie_limits_what_is_allowed_and_never_what_is_forbidden() {
    let rules = rules(
        "prefix_rule([\"git\", \"status\"])\nprefix_rule([\"git\", \"push\"], \"forbidden\")\nhost_executable(\"git\", [\"/opt/git/git\"])\nprefix_rule([\"make\"])",
    );
    let coverage = |words: &[&str]| rules.judge(&read(words)).coverage();
    assert_eq!(coverage(&["git", "status"]), Coverage::Whole);
    assert_eq!(coverage(&["/opt/git/git", "status"]), Coverage::Whole);
    assert_eq!(coverage(&["/usr/bin/git", "status"]), Coverage::None);
    assert_eq!(coverage(&["./git", "status"]), Coverage::None);
    assert_eq!(coverage(&["/usr/bin/make"]), Coverage::Whole);
    assert_eq!(coverage(&["/home/u/make"]), Coverage::None);
    for path in ["/usr/bin/git", "/home/u/git", "./git", "/opt/git/git"] {
        let verdict = rules.judge(&read(&[path, "push"])).verdict();
        assert_eq!(verdict, Some(Verdict::Forbidden), "{path}");
    }
}

#[test]
fn what_is_not_read_is_ruled_by_the_strictest_rule_and_by_no_allow_rule() {
    let rules = rules(
        "prefix_rule([\"a\"])\nprefix_rule([\"b\"], \"prompt\")\nprefix_rule([\"c\"], \"prompt-user\")",
    );
    let of = |text: &str| rules.judge(&script(text)).verdict();
    assert_eq!(of("x=b; $x"), Some(Verdict::PromptUser));
    assert_eq!(of("if ("), Some(Verdict::PromptUser));
    let only_allow = self::rules("prefix_rule([\"a\"])");
    assert_eq!(only_allow.judge(&script("$x")).verdict(), None);
}

#[test]
fn letters_of_either_case_are_the_same_where_a_rule_says_so() {
    let rules = rules(
        "prefix_rule([\"Tool\", \"Run\"], \"forbidden\", canonical_matching = True)\nprefix_rule([\"other\"], \"forbidden\")",
    );
    let of = |words: &[&str]| rules.judge(&read(words)).verdict();
    assert_eq!(of(&["tool", "RUN"]), Some(Verdict::Forbidden));
    assert_eq!(of(&["OTHER"]), None);
}

#[test]
fn no_text_hangs_or_breaks_the_ruling() {
    let rules = rules(
        "prefix_rule([\"tail\"], \"forbidden\")\nprefix_rule([\"a\", \"b\", \"--c\"], \"prompt\")\nprefix_rule([\"ls\"])",
    );
    let seeds = [
        "a ",
        "a -",
        "(",
        "$(",
        "`",
        "'",
        "\"",
        "a|",
        "a;",
        "${",
        "<<E\n",
        "\\",
        "{",
        "[[ ",
        "a b --c ",
        "$x ",
        "\u{202e}",
        "\0",
        "é",
        "case x in ",
        "if a;",
    ];
    for seed in seeds {
        for count in [1, 7, 300, 1024 * 1024 / seed.len()] {
            let text = seed.repeat(count);
            let before = std::time::Instant::now();
            let ruling = rules.judge(&script(&text)).verdict();
            let unread = !script(&text).is_complete();
            assert!(before.elapsed().as_secs() < 10, "{seed} {count}");
            assert!(
                !unread || ruling == Some(Verdict::Forbidden),
                "{seed} {count}"
            );
            assert!(!unread || !script(&text).known_safe(), "{seed} {count}");
        }
    }
    // Many words for few rules.
    let many: Vec<String> = std::iter::once("a".to_owned())
        .chain((0..100_000).map(|at| format!("-{at}")))
        .collect();
    assert!(rules.judge(&Reading::of_argv(&many)).verdict().is_none());
}
