//! "Do not ask again": the rules that would let a command run next time, graded from exactly this to the program alone.
//!
//! Apart from judging because it makes rules. Invariants: with what is proposed the same command is covered whole, held
//! against all rules in force; no prefix is proposed that would allow any code at all.

mod host;

use crate::command::Role;
use crate::reading::Reading;
use crate::rule::{LetterCase, Origin, PrefixRule, RawPrefixRule, Verdict};
use crate::ruleset::{Coverage, RuleSet};
use crate::wrapper::{Wrapped, unwrap};

pub use host::HostProposal;

/// Prefixes that allow any code, whatever follows. A rule may be longer than they are, never as short.
const BANNED: &[&[&str]] = &[
    &["python"],
    &["python", "-"],
    &["python", "-c"],
    &["python", "-m"],
    &["py"],
    &["py", "-3"],
    &["pythonw"],
    &["pyw"],
    &["pypy"],
    &["git"],
    &["git", "-c"],
    &["git", "-C"],
    &["git", "config"],
    &["pwsh"],
    &["pwsh", "-c"],
    &["pwsh", "-Command"],
    &["powershell"],
    &["node"],
    &["node", "-e"],
    &["node", "-p"],
    &["deno"],
    &["deno", "eval"],
    &["deno", "run"],
    &["bun"],
    &["bun", "-e"],
    &["npx"],
    &["npm"],
    &["npm", "exec"],
    &["pnpm"],
    &["yarn"],
    &["perl"],
    &["perl", "-e"],
    &["ruby"],
    &["ruby", "-e"],
    &["php"],
    &["php", "-r"],
    &["lua"],
    &["lua", "-e"],
    &["osascript"],
    &["awk"],
    &["gawk"],
    &["mawk"],
    &["sed"],
    &["ed"],
    &["vi"],
    &["vim"],
    &["nvim"],
    &["emacs"],
    &["rm"],
    &["dd"],
    &["chmod"],
    &["chown"],
    &["mv"],
    &["cp"],
    &["ln"],
    &["tee"],
    &["kill"],
    &["ssh"],
    &["scp"],
    &["rsync"],
    &["curl"],
    &["wget"],
    &["nc"],
    &["socat"],
    &["docker"],
    &["docker", "run"],
    &["docker", "exec"],
    &["podman"],
    &["kubectl"],
    &["make"],
    &["gdb"],
    &["tar"],
    &["crontab"],
    &["at"],
    &["systemctl"],
    &["mount"],
    &["install"],
];

/// One choice: rules that together cover the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The words that each of the rules begins with.
    pub prefixes: Vec<Vec<String>>,
}

/// How much of the words a rule keeps.
#[derive(Debug, Clone, Copy)]
enum Grade {
    /// All of them.
    Exact,
    /// The program and two more, where there are more.
    Three,
    /// The program and one more.
    Two,
    /// The program.
    Program,
}

impl RuleSet {
    /// What may be proposed for `reading`, narrowest first. Empty where no allow rule could cover it: it is not plain
    /// words, a rule asks or forbids, or nothing but a banned prefix would do.
    #[must_use]
    pub fn proposals(&self, reading: &Reading) -> Vec<Proposal> {
        let mut proposals: Vec<Proposal> = Vec::new();
        for grade in [Grade::Exact, Grade::Three, Grade::Two, Grade::Program] {
            let Some(proposal) = self.proposal(reading, grade) else {
                continue;
            };
            if !proposals.contains(&proposal) && self.with(&proposal).covers(reading) {
                proposals.push(proposal);
            }
        }
        proposals
    }

    fn proposal(&self, reading: &Reading, grade: Grade) -> Option<Proposal> {
        let mut prefixes: Vec<Vec<String>> = Vec::new();
        for command in reading.leaves() {
            let words: Option<Vec<&str>> =
                command.words().iter().map(|word| word.literal()).collect();
            let words = words?;
            let prefix: Vec<String> = words
                .get(..grade.count(words.len()))?
                .iter()
                .map(|word| (*word).to_owned())
                .collect();
            let alone = Reading::of_argv(
                &words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            );
            if self.covers(&alone) || prefixes.contains(&prefix) {
                continue;
            }
            if command.role() == Role::Wrapper || is_banned(&prefix) {
                return None;
            }
            prefixes.push(prefix);
        }
        (!prefixes.is_empty()).then_some(Proposal { prefixes })
    }

    fn covers(&self, reading: &Reading) -> bool {
        let ruling = self.judge(reading);
        ruling.coverage() == Coverage::Whole && ruling.verdict() == Some(Verdict::Allow)
    }

    fn with(&self, proposal: &Proposal) -> Self {
        let mut rules = self.clone();
        rules.add(proposal.rules());
        rules
    }
}

impl Proposal {
    /// The lines that say it in a rules file, one for each rule.
    ///
    /// ```
    /// let reading = exec_policy::Reading::of_argv(&["touch", "a\"b"].map(str::to_owned));
    /// let proposals = exec_policy::RuleSet::default().proposals(&reading);
    /// assert_eq!(proposals[0].lines(), [r#"prefix_rule(pattern=["touch", "a\"b"], decision="allow")"#]);
    /// ```
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |prefix: &Vec<String>| {
            let words: Vec<String> = prefix.iter().map(|word| quoted(word)).collect();
            format!(
                "prefix_rule(pattern=[{}], decision=\"allow\")",
                words.join(", ")
            )
        };
        self.prefixes.iter().map(line).collect()
    }

    fn rules(&self) -> Vec<PrefixRule> {
        let rule = |prefix: &Vec<String>| {
            let raw = RawPrefixRule {
                pattern: prefix.iter().map(|word| vec![word.clone()]).collect(),
                verdict: Verdict::Allow,
                justification: None,
                matches: Vec::new(),
                not_matches: Vec::new(),
                letters: LetterCase::Exact,
                origin: Origin {
                    file: "proposed".into(),
                    line: 0,
                },
            };
            // A prefix that is no rule covers nothing, and is then not proposed.
            raw.checked().unwrap_or_default()
        };
        self.prefixes.iter().flat_map(rule).collect()
    }
}

impl Grade {
    fn count(self, words: usize) -> usize {
        match self {
            Self::Exact => words,
            Self::Three => words.min(3),
            Self::Two => words.min(2),
            Self::Program => words.min(1),
        }
    }
}

/// Whether a rule with this prefix would allow any code: a banned one, an interpreter by another version's name, or a
/// program that runs other programs.
fn is_banned(prefix: &[String]) -> bool {
    let Some((program, rest)) = prefix.split_first() else {
        return true;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    let version = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let listed = BANNED.iter().any(|banned| {
        let Some((wanted, tail)) = banned.split_first() else {
            return false;
        };
        (*wanted == name || *wanted == version)
            && tail.len() == rest.len()
            && tail.iter().zip(rest).all(|(one, other)| one == other)
    });
    let words = [
        crate::word::Word::from_text(name),
        crate::word::Word::from_text("x"),
    ];
    let wraps = unwrap(name, &words) != Wrapped::Nothing || crate::wrapper::is_shell(name);
    // A subcommand is a word; an option that is left open is not one.
    let ends_in_option = rest.last().is_some_and(|word| word.starts_with('-')) && rest.len() == 1;
    listed || (wraps && rest.len() < 2) || (ends_in_option && is_banned_alone(name, version))
}

fn is_banned_alone(name: &str, version: &str) -> bool {
    BANNED
        .iter()
        .any(|banned| *banned == [name] || *banned == [version])
}

/// A Starlark string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use crate::reading::Reading;
    use crate::ruleset::RuleSet;
    use crate::written::load_rules;

    fn read(words: &[&str]) -> Reading {
        Reading::of_argv(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn proposed(words: &[&str]) -> Vec<Vec<String>> {
        let proposals = RuleSet::default().proposals(&read(words));
        proposals
            .iter()
            .map(|proposal| {
                proposal
                    .prefixes
                    .iter()
                    .map(|prefix| prefix.join(" "))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn choices_are_graded_and_banned_prefixes_are_left_out() {
        assert_eq!(
            proposed(&["cargo", "test", "-p", "x"]),
            [
                ["cargo test -p x"],
                ["cargo test -p"],
                ["cargo test"],
                ["cargo"]
            ]
        );
        assert_eq!(
            proposed(&["git", "push", "origin", "x"]),
            [["git push origin x"], ["git push origin"], ["git push"]]
        );
        assert_eq!(proposed(&["python3", "x.py"]), [["python3 x.py"]]);
        assert_eq!(
            proposed(&["python3.12", "-c", "print()"]),
            [["python3.12 -c print()"]]
        );
        assert_eq!(proposed(&["bash", "x.sh"]), Vec::<Vec<String>>::new());
        assert_eq!(proposed(&["rm", "-rf", "target"]), [["rm -rf target"]]);
        assert_eq!(
            proposed(&["bash", "-lc", "cargo test && touch x"]),
            [vec!["cargo test", "touch x"], vec!["cargo", "touch"]]
        );
        for none in [
            "touch > f",
            "touch $X",
            "A=1 touch x",
            "./x",
            "if true; then x; fi",
            "sudo x",
        ] {
            assert!(proposed(&["bash", "-lc", none]).is_empty(), "{none}");
        }
    }

    #[test]
    fn what_is_written_down_covers_the_same_command_next_time() {
        for words in [
            &["touch", "a b", "c\"d", "e\\f", "g\nh", "é", "\u{7f}"][..],
            &["bash", "-lc", "cargo test && touch 'x y'"],
            &["git", "push", "origin"],
        ] {
            let proposals = RuleSet::default().proposals(&read(words));
            assert!(!proposals.is_empty(), "{words:?}");
            for proposal in proposals {
                let mut rules = RuleSet::default();
                load_rules(&mut rules, "f", &proposal.lines().join("\n"), "/home/u")
                    .expect("rules");
                assert!(rules.covers(&read(words)), "{words:?} {proposal:?}");
            }
        }
    }

    #[test]
    fn nothing_is_proposed_where_a_rule_asks() {
        let mut rules = RuleSet::default();
        load_rules(
            &mut rules,
            "f",
            "prefix_rule([\"git\", \"push\"], \"prompt\")",
            "/home/u",
        )
        .expect("rules");
        assert!(rules.proposals(&read(&["git", "push"])).is_empty());
        assert!(!rules.proposals(&read(&["git", "fetch"])).is_empty());
    }
}
