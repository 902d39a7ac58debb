//! Ways around a rule, and sentences that only look like one: the first are refused, the second judged as before.
//!
//! The rule is `forbidden` on `tail`, `git push` and `rm -rf`; the ways are written as an attacker would. Each stands as
//! a script of `bash -lc`, as agents send it.

#![expect(clippy::expect_used, reason = "a test")]

use exec_policy::{Reading, RuleSet, Verdict};
use rules_reader::load_rules;

fn rules(text: &str) -> RuleSet {
    let mut rules = RuleSet::default();
    load_rules(&mut rules, "test.rules", text, "/home/u").expect("rules");
    rules
}

fn forbidding() -> RuleSet {
    rules(
        r#"
prefix_rule(pattern = ["tail"], decision = "forbidden")
prefix_rule(pattern = ["git", "push"], decision = "forbidden")
prefix_rule(pattern = ["rm", "-rf"], decision = "forbidden")
prefix_rule(pattern = ["deploy", ["prod", "staging"]], decision = "forbidden")
"#,
    )
}

fn verdict(rules: &RuleSet, script: &str) -> Option<Verdict> {
    let argv = ["bash", "-lc", script].map(str::to_owned);
    rules.judge(&Reading::of_argv(&argv)).verdict()
}

/// The documented ways, one by one.
const KNOWN: &[&str] = &[
    "tail x > f",
    "tail < x",
    "tail <<< hi",
    "tail *.txt",
    "tail ~/x",
    "tail \"$HOME/x\"",
    "X=1 tail x",
    "env tail x",
    "command tail x",
    "exec tail x",
    "time tail x",
    "timeout 5 tail x",
    "xargs tail",
    "eval tail x",
    "bash -c \"tail x\"",
    "$(tail x)",
    "(tail x)",
    "{ tail x; }",
    "! tail x",
    "tail x &",
    "if true; then tail x; fi",
    "for f in a b; do tail $f; done",
    "f() { tail x; }; f",
    "\"tail\" x",
    "t'ai'l x",
    "\\tail x",
    "a=tail; $a x",
    "[ -f x ] && tail x",
    "tail x #c",
    "tail x",
    "ls | tail -3",
    "ls && tail x",
    "ls || tail x",
    "ls; tail x",
    "ls\ntail x",
    "/usr/bin/tail x",
    "./tail x",
];

/// Our own.
const FURTHER: &[&str] = &[
    "ta\\il x",
    "$'tail' x",
    "$'\\x74ail' x",
    "$'\\164ail' x",
    "$\"tail\" x",
    "/usr/bin/t?il x",
    "/usr/bin/ta* x",
    "{tail,x}",
    "ta{il,} x",
    "~/../../usr/bin/tail x",
    "/usr//bin/./tail x",
    "../../bin/tail x",
    "busybox tail x",
    "nohup tail x",
    "nice -n 5 tail x",
    "nice -5 tail x",
    "stdbuf -oL tail x",
    "setsid tail x",
    "sudo tail x",
    "sudo -u u tail x",
    "doas tail x",
    "env -i tail x",
    "env -u HOME A=1 tail x",
    "env -S 'tail x'",
    "env -C /tmp tail x",
    "builtin command tail x",
    "command -p tail x",
    "exec -a ls tail x",
    "timeout -k 1 5 nice tail x",
    "find . -name x -exec tail {} \\;",
    "find . -execdir tail {} +",
    "fd -x tail",
    "echo x | xargs -n1 tail",
    "echo tail | xargs -I{} {} x",
    "echo 'tail x' | bash",
    "echo 'tail x' | sh -s",
    "bash <<< 'tail x'",
    "bash <<'E'\ntail x\nE",
    "bash < x.sh",
    "bash -c 'bash -c \"tail x\"'",
    "sh -c \"$(echo tail x)\"",
    "eval \"$(echo tail x)\"",
    "eval 'ta''il x'",
    "source /dev/stdin <<< 'tail x'",
    ". <(echo tail x)",
    "cat <(tail x)",
    "diff <(ls) >(tail x)",
    "echo \"$(tail x)\"",
    "echo `tail x`",
    "a=$(tail x)",
    "a=(x $(tail x))",
    "while tail x; do :; done",
    "until ! tail x; do :; done",
    "case x in *) tail x;; esac",
    "if tail x; then :; fi",
    "select x in a; do tail x; done",
    "trap 'tail x' EXIT",
    "trap \"tail x\" DEBUG; :",
    "alias t=tail; t x",
    "hash -p /usr/bin/tail t; t x",
    "enable -f ./x.so t; t",
    "mapfile -C 'tail x' -c 1 a < f",
    "coproc tail x",
    "PS4='$(tail x)'; set -x; :",
    "export PS4='$(tail x)'; bash -x y",
    "BASH_ENV=./x bash y",
    "a='x[$(tail y)]'; [[ $a -eq 1 ]]",
    "printf -v 'x[$(tail y)]' 1",
    "unset 'x[$(tail y)]'",
    "test -v 'x[$(tail y)]'",
    "a='$(tail x)'; echo \"${a@P}\"",
    "echo ${x:-$(tail y)}",
    "cat <<E\n$(tail x)\nE",
    "/lib64/ld-linux-x86-64.so.2 /usr/bin/tail x",
    "python3 -c \"import os; os.system('tail x')\"",
    "perl -e 'exec \"tail\", \"x\"'",
    "awk 'BEGIN{system(\"tail x\")}'",
    "ruby -e '`tail x`'",
    "node -e 'require(\"child_process\").execSync(\"tail x\")'",
    "python3 -c \"$CODE\"",
    "vim -c ':!tail x' -c q",
    "tar cf a --checkpoint=1 --checkpoint-action=exec=tail b",
    "git -c core.pager='tail x' log",
    "GIT_PAGER='tail x' git log",
    "ssh -o ProxyCommand='tail x' h",
    "PAGER=tail man ls",
    "strace -f tail x",
    "watch tail x",
    "flock l tail x",
    "parallel tail ::: x",
    "unshare -r tail x",
    "script -c 'tail x' /dev/null",
    "su -c 'tail x'",
    "TAIL x; tail x",
    "true;tail x",
    "true&&tail x",
    "true|tail",
    "true\\\n&& tail x",
    "A=1 B=2 tail x",
    "2>/dev/null tail x",
    "<x tail",
    ">f tail x",
    "git -C . push",
    "git --no-pager push",
    "git --git-dir=.git push",
    "git --git-dir .git push origin",
    "git -C -c push",
    "git -c user.name=x push",
    "git -c alias.p=push p",
    "git $X push",
    "git \"$SUB\"",
    "\"git\" 'push'",
    "git pu\\sh",
    "rm -fr x",
    "rm -r -f x",
    "rm -f -r x",
    "rm x -rf",
    "rm -rfv x",
    "rm -vrf -- x",
    "deploy --verbose prod",
    "deploy -v 2 staging",
    "deploy 'prod'",
    "deploy $TARGET",
];

/// Sentences in which the words stand and nothing of the kind is done.
const BENIGN: &[&str] = &[
    "grep tail x",
    "echo 'rm -rf'",
    "echo tail",
    "echo \"tail x\"",
    "ls tail",
    "cat tail.txt",
    "cat ./tail/x",
    "head -5 tail",
    "which tail",
    "command -v tail",
    "type tail",
    "man tail",
    "touch tail",
    "mkdir -p tail",
    "cd tail",
    "cp tail head",
    "sed -n 1,5p tail",
    "find . -name tail",
    "find tail -type f",
    "git add tail",
    "git commit -m 'tail the log'",
    "git commit -m push",
    "git log --grep push",
    "git log --grep=push",
    "git branch push",
    "git checkout push",
    "git stash list",
    "git status",
    "git -C push status",
    "git -C \"$dir\" status",
    "git --no-pager log",
    "git diff -- push",
    "git remote -v",
    "git fetch origin",
    "git config push.default simple",
    "git show push:tail",
    "git commit -am \"$MSG\"",
    "rm x",
    "rm -r x",
    "rm -f x",
    "rm -i -f x",
    "rmdir rm",
    "echo rm -rf x",
    "grep -rf patterns x",
    "ls -rf",
    "tar rf a.tar x",
    "tailor x",
    "tails x",
    "retail x",
    "./tailscale up",
    "npm run tail",
    "make tail",
    "make push",
    "cargo test tail",
    "docker push x",
    "python3 tail.py",
    "python3 -c 'print(1)'",
    "awk '{print $1}' tail",
    "sed s/tail/head/ x",
    "deploy dev",
    "deploy dev prod",
    "deploy --help",
    "echo deploy prod",
    "TAIL=1 make",
    "tail=1; echo x",
    "for tail in a b; do echo x; done",
    "echo x > tail",
    "cat < tail",
    "cat <<'E'\ntail x\nE",
    "# tail x\nls",
    "ls # tail x",
    "case tail in *) ls;; esac",
    "[ -f tail ] && ls",
    "test -x /usr/bin/tail",
    "echo $(ls tail)",
    "printf '%s\\n' tail",
    "export EDITOR_NOTE=tail; ls",
    "ssh h uptime",
];

#[test]
fn every_known_way_round_a_rule_is_refused() {
    let rules = forbidding();
    let through: Vec<_> = KNOWN
        .iter()
        .filter(|script| verdict(&rules, script) != Some(Verdict::Forbidden))
        .collect();
    assert!(through.is_empty(), "{through:#?}");
}

#[test]
fn every_way_of_our_own_is_refused() {
    let rules = forbidding();
    let through: Vec<_> = FURTHER
        .iter()
        .filter(|script| verdict(&rules, script) != Some(Verdict::Forbidden))
        .collect();
    assert!(FURTHER.len() >= 60 && through.is_empty(), "{through:#?}");
}

#[test]
fn what_only_looks_like_it_is_judged_as_before() {
    let rules = forbidding();
    let changed: Vec<_> = BENIGN
        .iter()
        .filter(|script| verdict(&rules, script).is_some())
        .collect();
    assert!(BENIGN.len() >= 60 && changed.is_empty(), "{changed:#?}");
}

#[test]
fn wrapping_never_makes_a_ruling_milder() {
    let rules = rules(
        r#"
prefix_rule(pattern = ["make"])
prefix_rule(pattern = ["ls"])
prefix_rule(pattern = ["curl"], decision = "prompt")
prefix_rule(pattern = ["tail"], decision = "forbidden")
"#,
    );
    let wraps = [
        "env W",
        "nohup W",
        "time W",
        "timeout 5 W",
        "sudo W",
        "(W)",
        "{ W; }",
        "! W",
        "true && W",
        "W | cat",
        "echo $(W)",
        "bash -c 'W'",
        "if true; then W; fi",
        "W > f",
        "xargs W",
        "A=1 W",
    ];
    for inner in ["make", "ls x", "curl x", "tail x", "other", "rm -rf x"] {
        let bare = Reading::of_argv(&["bash", "-lc", inner].map(str::to_owned));
        let bare = rules.judge(&bare);
        for wrap in wraps {
            let script = wrap.replace('W', inner);
            let wrapped = Reading::of_argv(&["bash", "-lc", &script].map(str::to_owned));
            let wrapped = rules.judge(&wrapped);
            let restricts = |verdict: Option<Verdict>| verdict.filter(|v| *v > Verdict::Allow);
            assert!(
                restricts(wrapped.verdict()) >= restricts(bare.verdict()),
                "{script}"
            );
            let whole = exec_policy::Coverage::Whole;
            assert!(
                bare.coverage() == whole || wrapped.coverage() != whole,
                "{script} is allowed and {inner} is not"
            );
        }
    }
}

#[test]
fn a_restrictive_rule_more_never_makes_a_ruling_milder() {
    let allow = "prefix_rule(pattern = [\"git\"])\nprefix_rule(pattern = [\"tail\"])\n";
    let more = [
        "prefix_rule(pattern = [\"git\", \"push\"], decision = \"prompt\")\n",
        "prefix_rule(pattern = [\"tail\"], decision = \"forbidden\")\n",
        "prefix_rule(pattern = [\"rm\", \"-rf\"], decision = \"prompt\")\n",
    ];
    for added in more {
        let (few, many) = (rules(allow), rules(&format!("{allow}{added}")));
        for script in KNOWN.iter().chain(FURTHER).chain(BENIGN) {
            assert!(
                verdict(&many, script) >= verdict(&few, script),
                "{script} with {added}"
            );
        }
    }
}
