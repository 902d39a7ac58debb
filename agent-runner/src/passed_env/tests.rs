use super::{PassedEnv, carries_secret};
use crate::config::{Environment, ShellEnvironment, shell_environment};
use crate::state::MaskKey;

const SECRETS: [&str; 11] = [
    "OPENAI_API_KEY",
    "aws_secret_access_key",
    "GITHUB_TOKEN",
    "PGPASSWORD",
    "DB_PASS",
    "MYSQL_PWD",
    "GITHUB_PAT",
    "GPG_PASSPHRASE",
    "SENTRY_DSN",
    "NPM_CONFIG__AUTH",
    "SESSION_COOKIE",
];
const STEERING: [&str; 6] = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "BASH_ENV",
    "BASH_FUNC_ls%%",
    "AUTO_REVIEW_TOKEN",
    "AUTO_REVIEW_SESSION",
];
const PLAIN: [&str; 9] = [
    "PATH",
    "PWD",
    "HOME",
    "LANG",
    "LC_ALL",
    "TERM",
    "SSH_AUTH_SOCK",
    "CARGO_HOME",
    "GIT_AUTHOR_NAME",
];

fn policy(text: &str) -> ShellEnvironment {
    shell_environment(text).expect("valid")
}

fn environment(names: &[&str]) -> Environment {
    Environment {
        home: "/h".into(),
        codex_home: "/h/.codex".into(),
        state_dir: "/h/state".into(),
        path: Vec::new(),
        user: "ana".to_owned(),
        session: None,
        turn: None,
        all: names
            .iter()
            .map(|name| ((*name).into(), "v".into()))
            .collect(),
    }
}

fn passed(policy_text: &str, names: &[&str]) -> Vec<String> {
    let passed = PassedEnv::of(
        &environment(names),
        &policy(policy_text),
        &["MY_MODEL".to_owned()],
    );
    let names = passed
        .pairs()
        .iter()
        .map(|(name, _)| name.to_string_lossy().into_owned());
    names.collect()
}

fn all() -> Vec<&'static str> {
    SECRETS
        .iter()
        .chain(&STEERING)
        .chain(&PLAIN)
        .chain(&["MY_MODEL"])
        .copied()
        .collect()
}

#[test]
fn a_name_that_speaks_of_a_secret_is_not_passed_unless_the_user_wrote_so() {
    let mut plain = PLAIN.map(str::to_owned).to_vec();
    plain.sort();
    assert_eq!(passed("", &all()), plain);
    assert_eq!(passed("ignore_default_excludes = false", &all()), plain);
    let with_secrets = passed("ignore_default_excludes = true", &all());
    for name in SECRETS {
        assert!(with_secrets.iter().any(|passed| passed == name), "{name}");
    }
}

#[test]
fn no_setting_passes_what_steers_loaders_or_is_the_runners_own() {
    let everything = "ignore_default_excludes = true\nfilters = { \"*\" = \"include\" }";
    let passed = passed(everything, &all());
    for name in STEERING.iter().chain(&["MY_MODEL"]) {
        assert!(
            !passed.iter().any(|passed| passed == name),
            "{name} was passed"
        );
    }
}

#[test]
fn core_and_none_are_where_one_starts_and_set_comes_after_exclude() {
    assert_eq!(
        passed("inherit = \"core\"", &all()),
        ["HOME", "LANG", "LC_ALL", "PATH", "PWD", "TERM"]
    );
    assert_eq!(passed("inherit = \"none\"", &all()), Vec::<String>::new());
    let set = "inherit = \"none\"\nexclude = [\"A*\"]\nset = { AX = \"1\", B = \"2\" }";
    assert_eq!(passed(set, &all()), ["AX", "B"]);
    assert_eq!(
        passed(
            "exclude = [\"*HOME\", \"lc_*\"]",
            &["HOME", "CARGO_HOME", "LC_ALL", "PATH"]
        ),
        ["PATH"]
    );
}

#[test]
fn what_is_to_be_included_alone_may_drop_what_was_set() {
    let text = "inherit = \"none\"\nset = { A = \"1\", B = \"2\" }\ninclude_only = [\"A\"]";
    assert_eq!(passed(text, &[]), ["A"]);
}

#[test]
fn a_variable_that_is_set_has_that_value_alone() {
    let env = PassedEnv::of(&environment(&["A"]), &policy("set = { A = \"mine\" }"), &[]);
    assert_eq!(env.pairs(), [("A".into(), "mine".into())]);
}

#[test]
fn the_value_of_a_secret_that_may_pass_is_shown_to_nobody() {
    let text = "inherit = \"none\"\nset = { MY_TOKEN = \"hunter2\", PLAIN = \"seen\" }";
    let env = PassedEnv::of(&environment(&[]), &policy(text), &[]);
    let shown = env.shown(&MaskKey::for_tests()).expect("UTF-8");
    let json = serde_json::to_string(&shown).expect("JSON");
    assert!(json.contains("MY_TOKEN") && json.contains("seen"), "{json}");
    assert!(!json.contains("hunter2"), "{json}");
}

#[test]
fn a_url_with_credentials_is_masked_and_one_without_is_shown() {
    assert!(carries_secret("http://user:pass@proxy:3128/"));
    assert!(carries_secret("x postgres://u:p@h/db"));
    assert!(!carries_secret("https://example.com/@scope"));
    assert!(!carries_secret("ana@example.com"));
}
