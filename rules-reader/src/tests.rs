use exec_policy::{MAX_RULES_BYTES, RuleSet, RulesError, Verdict};

use super::load_rules;

fn load(text: &str) -> Result<RuleSet, RulesError> {
    let mut rules = RuleSet::default();
    load_rules(&mut rules, "f.rules", text, "/home/u").map(|()| rules)
}

fn error(text: &str) -> String {
    load(text).expect_err("an error").to_string()
}

#[test]
fn the_documented_forms_load() {
    let rules = load(
        r#"
# a comment
TOOLS = ["npm", "pnpm"]

def forbid(name):
    prefix_rule([name], "forbidden", justification = f"no {name}")

prefix_rule(
    pattern = ["git", ["push", "fetch"]],
    decision = "prompt",
    justification = "talks to the remote",
    match = ["git push origin", ["git", "fetch"]],
    not_match = ["git status"],
)
prefix_rule(pattern = [TOOLS, "publish"], canonical_matching = True)
[forbid(name) for name in ["dd", "mkfs"]]
host_executable(name = "git", paths = ["/usr/bin/git", "~/bin/git"])
network_rule(host = "api.example.com", protocol = "https", decision = "allow", justification = "ci")
network_rule(host = "::1", protocol = "socks5_tcp", decision = "deny")
"#,
    )
    .expect("rules");
    let found: Vec<_> = rules
        .rules()
        .iter()
        .map(|rule| (rule.pattern(), rule.verdict(), rule.origin().to_string()))
        .collect();
    let wanted = [
        ("git push|fetch", Verdict::Prompt, "f.rules:8"),
        ("npm publish", Verdict::Allow, "f.rules:15"),
        ("pnpm publish", Verdict::Allow, "f.rules:15"),
        ("dd", Verdict::Forbidden, "f.rules:6"),
        ("mkfs", Verdict::Forbidden, "f.rules:6"),
    ]
    .map(|(pattern, verdict, origin)| (pattern.to_owned(), verdict, origin.to_owned()));
    assert_eq!(found, wanted);
    assert_eq!(rules.network().len(), 2);
    assert_eq!(rules.network()[1].verdict, Verdict::Forbidden);
}

/// What is wrong, and what its message says.
const WRONG: &[(&str, &str)] = &[
    ("prefix_rule(", "f.rules:1:"),
    (
        "\n\nprefix_rule(pattern = [])",
        "f.rules:3:1`: `pattern` is empty",
    ),
    (
        "prefix_rule(pattern = [\"a\"], decision = \"deny\")",
        "f.rules:1:1`: `deny` is not a decision",
    ),
    ("prefix_rule(pattern = [\"a\", []])", "place 2"),
    (
        "prefix_rule(pattern = [\"a\"], justification = \" \")",
        "blank",
    ),
    (
        "prefix_rule(pattern = [\"a\"], match = [\"b\"])",
        "the example `b`",
    ),
    (
        "prefix_rule(pattern = [\"a\"], not_match = [\"a x\"])",
        "counter-example `a x`",
    ),
    (
        "prefix_rule(pattern = [\"a\"], match = [\"'\"])",
        "not shell words",
    ),
    ("prefix_rule(pattern = [1])", "f.rules:1:1"),
    ("prefix_rule(pattern = \"a\")", "f.rules:1:"),
    (
        "prefix_rule(pattern = [\"a\"], decison = \"allow\")",
        "decison",
    ),
    ("  x = 1", "f.rules:1:"),
    ("y", "f.rules:1:1"),
    ("load(\"x\", \"y\")", "f.rules:1:"),
    (
        "host_executable(name = \"a/b\", paths = [])",
        "not a bare program name",
    ),
    (
        "host_executable(name = \"a\", paths = [\"bin/a\"])",
        "absolute",
    ),
    (
        "host_executable(name = \"a\", paths = [\"/bin/b\"])",
        "ends in `a`",
    ),
    (
        "host_executable(name = \"a\", paths = [\"/x/../a\"])",
        "absolute",
    ),
    (
        "network_rule(host = \"*.x\", protocol = \"http\", decision = \"allow\")",
        "wildcard",
    ),
    (
        "network_rule(host = \"http://x\", protocol = \"http\", decision = \"allow\")",
        "one host",
    ),
    (
        "network_rule(host = \"x\", protocol = \"ftp\", decision = \"allow\")",
        "not a protocol",
    ),
    ("def f():\n    f()\nf()", "f.rules:"),
    ("fail(\"no\")", "f.rules:1:1"),
];

#[test]
fn an_error_names_file_line_and_column() {
    for (text, wanted) in WRONG {
        let message = error(text);
        assert!(
            message.contains("f.rules") && message.contains(wanted),
            "{text}: {message}"
        );
    }
}

#[test]
fn nothing_of_a_file_that_does_not_load_counts() {
    let mut rules = RuleSet::default();
    let text = "prefix_rule(pattern = [\"a\"])\nprefix_rule(pattern = [])";
    assert!(load_rules(&mut rules, "f.rules", text, "/home/u").is_err());
    assert!(rules.rules().is_empty());
    let text = "prefix_rule(pattern = [\"b\"])";
    load_rules(&mut rules, "g.rules", text, "/home/u").expect("rules");
    assert_eq!(rules.rules().len(), 1);
}

#[test]
fn a_file_that_is_too_long_loops_or_swells_is_an_error_soon() {
    let long = " ".repeat(MAX_RULES_BYTES + 1);
    assert!(matches!(load(&long), Err(RulesError::TooLong { .. })));
    for text in [
        "[x for x in range(1000000000)]",
        "def f():\n    for a in range(100000):\n        for b in range(100000):\n            pass\nf()",
        "def f(s):\n    for a in range(60):\n        s = s + s\n    return s\nf(\"xx\")",
        "def f(s):\n    for a in range(60):\n        s.extend(s)\nf([1, 2])",
        "def f():\n    r = []\n    for a in range(100000000):\n        r.append([a, a])\nf()",
        "[prefix_rule([\"a\", str(x)]) for x in range(100000000)]",
    ] {
        let before = std::time::Instant::now();
        let message = error(text);
        assert!(message.contains("f.rules"), "{message}");
        assert!(before.elapsed().as_secs() < 30, "{text}");
    }
}

#[test]
fn a_file_that_nests_deep_is_an_error_and_no_crash() {
    for text in [
        "(".repeat(100_000),
        "[".repeat(100_000),
        format!("x = {}1", "-".repeat(100_000)),
        format!("x = {}1", "1 + ".repeat(50_000)),
        format!("x = a{}", ".b".repeat(50_000)),
        format!("x = {}1", "not ".repeat(50_000)),
        format!("x = {}1", "1 if 1 else ".repeat(50_000)),
        format!("x = {}1", "lambda: ".repeat(50_000)),
        (0..3_000)
            .map(|at| format!("{}if 1:\n", " ".repeat(at)))
            .collect(),
        format!("if 1:\n    pass\n{}", "elif 1:\n    pass\n".repeat(40_000)),
        format!("x = 1 \\\n{}1", " + 1 \\\n".repeat(40_000)),
    ] {
        assert!(load(&text).is_err(), "{:?}", text.get(..40));
    }
}
