//! A person's whole folder of settings, as it comes from years of use: everything loads, each value says where it is from,
//! and commands go the way that it says (D2).

use std::fs;

use harness::Stage;
use serde_json::Value;

const CONFIG: &str = r#"
model = "a-model"
model_provider = "corp"
model_reasoning_effort = "high"
personality = "pragmatic"
approval_policy = "on-request"
approvals_reviewer = "auto_review"
allow_login_shell = false
web_search = "cached"
project_root_markers = [".git", ".hg"]
hide_agent_reasoning = true
notify = ["notify-send", "done"]
file_opener = "vscode"

[sandbox_workspace_write]
exclude_slash_tmp = true
writable_roots = ["~/cache"]

[features]
web_search_cached = true
exec_permission_approvals = true

[auto_review]
policy = """
## Our environment
The hosts below example.com are ours.
"""

[shell_environment_policy]
inherit = "core"
exclude = ["*_INTERNAL"]
set = { CI = "1" }

[model_providers.corp]
name = "Corp"
base_url = "https://models.example.com/v1"
env_key = "CORP_KEY"
http_headers = { "x-team" = "not-to-be-shown" }

[mcp_servers.docs]
command = "docs-server"
args = ["--stdio"]
default_tools_approval_mode = "writes"
[mcp_servers.docs.tools.search]
approval_mode = "approve"

[profiles.full_auto]
approval_policy = "on-request"
sandbox_mode = "workspace-write"

[profiles.readonly_quiet]
approval_policy = "never"
sandbox_mode = "read-only"

[tui]
notifications = true
[history]
persistence = "save-all"
max_bytes = 1048576
[notice]
hide_full_access_warning = true
[windows]
sandbox = "unelevated"
[[hooks.PreToolUse]]
matcher = "Bash"
hooks = [{ type = "command", command = "check-it", timeout = 5 }]

[otel]
environment = "staging"
exporter = { otlp-http = {
 endpoint = "https://otel.example.com/v1/logs",
 protocol = "binary",
 headers = { "x-otlp-api-key" = "${OTLP_TOKEN}" }
}}
"#;

const RULES: &str = r#"
TALKS = ["push", "fetch", "pull"]

prefix_rule(
    pattern = ["git", TALKS],
    decision = "prompt",
    justification = "talks to the remote",
    match = ["git push origin main", ["git", "fetch"]],
    not_match = ["git status"],
)
[prefix_rule(pattern = [name], decision = "forbidden") for name in ["shutdown", "mkfs"]]
prefix_rule(["uname", "-s"])
host_executable(name = "git", paths = ["/usr/bin/git"])
network_rule(host = "crates.io", protocol = "https", decision = "allow", justification = "crates")
"#;

fn whole() -> Stage {
    let stage = Stage::new();
    fs::create_dir(stage.home("cache")).expect("a folder");
    let trusted = format!(
        "{CONFIG}\n[projects.\"{}\"]\ntrust_level = \"trusted\"\n",
        stage
            .workspace("")
            .display()
            .to_string()
            .trim_end_matches('/')
    );
    stage.settings(&trusted);
    stage.runner_settings("retry_on_denial = false\nask_person = [\"skill_approval\"]\n[fallback]\non_deny = \"user\"\n");
    fs::create_dir(stage.codex("rules")).expect("a folder");
    fs::write(stage.codex("rules/default.rules"), RULES).expect("rules");
    fs::write(
        stage.codex("ci.config.toml"),
        "approval_policy = \"never\"\n",
    )
    .expect("a profile");
    fs::create_dir(stage.workspace(".codex")).expect("a folder");
    let narrow = "sandbox_mode = \"workspace-write\"\n";
    fs::write(stage.workspace(".codex/config.toml"), narrow).expect("settings");
    stage
}

fn told(stage: &Stage, words: &[&str]) -> String {
    let ran = stage.runner().args(words.iter().copied()).ran();
    assert_eq!(ran.code(), 0, "{words:?}: {}", ran.stderr);
    ran.text()
}

#[test]
fn it_loads_and_every_value_says_where_it_is_from() {
    let stage = whole();
    assert!(told(&stage, &["config", "check"]).contains("can be used"));
    let shown = told(&stage, &["config", "show", "--origin"]);
    for line in shown
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("trust"))
    {
        let origin = line.rsplit_once("  # ").map_or("", |(_, origin)| origin);
        let known = origin == "default"
            || origin == "trusted folder"
            || fs::exists(origin.split(':').next().unwrap_or_default()).unwrap_or_default();
        assert!(known, "{line}");
    }
    for (key, value) in [
        ("approval_policy", "on-request"),
        ("approvals_reviewer", "auto_review"),
        ("sandbox_mode", "workspace-write"),
        ("allow_login_shell", "false"),
    ] {
        assert!(
            shown.contains(&format!("{key} = {value}")),
            "{key}: {shown}"
        );
    }
    // What belongs to other programs may be somebody's secret.
    assert!(!shown.contains("not-to-be-shown") && shown.contains("model_providers.corp"));
    let json = told(&stage, &["config", "show", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let set = json["set"].as_array().expect("a list");
    for top in toml_keys() {
        let named = |setting: &Value| {
            let key = setting["key"].as_str().unwrap_or_default();
            key == top || key.starts_with(&format!("{top}."))
        };
        assert!(set.iter().any(named), "{top} is not shown");
    }
    assert_eq!(json["rules"].as_array().map(Vec::len), Some(4), "{json}");
}

/// The top-level keys of the settings above.
fn toml_keys() -> Vec<String> {
    let mut keys: Vec<String> = CONFIG
        .lines()
        .take_while(|line| !line.starts_with('['))
        .chain(CONFIG.lines().filter(|line| line.starts_with('[')))
        .filter_map(|line| {
            let name = line.trim_start_matches('[');
            let end = name.find([' ', '.', ']'])?;
            name.get(..end)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn the_network_in_force_is_shown_with_the_file_that_decided_it() {
    let stage = Stage::new();
    let text = |flags: &[&str]| told(&stage, &[&["config", "show", "--origin"], flags].concat());
    let unset = text(&[]);
    assert!(unset.contains("network = off  # default"), "{unset}");
    assert!(
        unset.contains("host_approvals = once  # default"),
        "{unset}"
    );
    stage.settings(
        "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nnetwork_access = true\n\
         [features.network_proxy]\nenabled = true\nmode = \"limited\"\n",
    );
    stage.runner_settings("host_approvals = \"session\"\n");
    let shown = text(&[]);
    let (config, own) = (stage.codex("config.toml"), stage.codex("agent-runner.toml"));
    for line in [
        format!("network = door  # {}", config.display()),
        format!("host_approvals = session  # {}", own.display()),
        format!(
            "features.network_proxy.mode = \"limited\"  # {}",
            config.display()
        ),
    ] {
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&told(&stage, &["config", "show", "--json"])).expect("JSON");
    assert_eq!(json["in_force"]["network"]["value"], "door", "{json}");
}

#[test]
fn commands_go_the_way_that_it_says() {
    let stage = whole();
    let route = |flags: &[&str], command: &[&str]| {
        let words: Vec<&str> = [&["explain", "--json"], flags, &["--"], command].concat();
        let text = told(&stage, &words);
        let explained: Value = serde_json::from_str(&text).expect("JSON");
        explained["route"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(route(&[], &["ls"]), "inside");
    assert_eq!(route(&[], &["uname", "-s"]), "allow_rule");
    assert_eq!(route(&[], &["git", "push"]), "ask");
    assert_eq!(route(&[], &["bash", "-lc", "ls"]), "refused");
    assert_eq!(route(&[], &["bash", "-c", "env shutdown now"]), "refused");
    assert_eq!(route(&["--escalate"], &["ls"]), "ask");
    for quiet in [&["--profile", "readonly_quiet"], &["--profile", "ci"]] {
        assert_eq!(route(quiet, &["git", "push"]), "refused", "{quiet:?}");
        assert_eq!(route(quiet, &["ls"]), "inside", "{quiet:?}");
    }
    let tool = told(&stage, &["explain", "--json", "--tool", "docs/search"]);
    let tool: Value = serde_json::from_str(&tool).expect("JSON");
    assert_eq!(tool["route"], "call", "{tool}");
    let ran = stage
        .exec(&[], &["sh", "-c", "echo $CI > made && cat made"])
        .ran();
    assert_eq!(
        (ran.code(), ran.text().as_str()),
        (0, "1\n"),
        "{}",
        ran.stderr
    );
}

/// A file, what is wrong in it, and what the message must name.
const BROKEN: &[(&str, &str, &[&str])] = &[
    (
        "config.toml",
        "\nsandbox_mode = \"wide\"",
        &["config.toml:2", "sandbox_mode"],
    ),
    (
        "config.toml",
        "approval_policy = 7",
        &["config.toml:1", "approval_policy"],
    ),
    (
        "config.toml",
        "\n\nallow_login_shell = \"no\"",
        &["config.toml:3", "allow_login_shell"],
    ),
    (
        "config.toml",
        "approval_policy = { granular = { rules = true } }",
        &["config.toml:1", "sandbox_approval"],
    ),
    (
        "config.toml",
        "[features]\nexec_permission_approvals = \"yes\"",
        &["config.toml:1", "features"],
    ),
    (
        "config.toml",
        "[sandbox_workspace_write]\nnetwork = true",
        &["config.toml:1", "network"],
    ),
    ("config.toml", "x = ", &["config.toml:1"]),
    (
        "config.toml",
        "profile = \"gone\"",
        &["config.toml", "gone"],
    ),
    (
        "config.toml",
        "profile = \"a\"\n[profiles.a]\nprofile = \"a\"",
        &["config.toml", "profile"],
    ),
    (
        "config.toml",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.b]\nextends = \"a\"",
        &["config.toml", "a -> b -> a"],
    ),
    (
        "config.toml",
        "[projects.\"/x\"]\ntrust_level = \"perhaps\"",
        &["config.toml", "trust_level"],
    ),
    (
        "agent-runner.toml",
        "retry_on_denial = \"yes\"",
        &["agent-runner.toml:1", "boolean"],
    ),
    (
        "agent-runner.toml",
        "\nodd = 1",
        &["agent-runner.toml:2", "odd"],
    ),
    (
        "agent-runner.toml",
        "ask_person = [\"all\"]",
        &["agent-runner.toml:1", "all"],
    ),
    (
        "agent-runner.toml",
        "[fallback]\non_deny = \"queue\"",
        &["agent-runner.toml", "server_url"],
    ),
    (
        "rules/a.rules",
        "\nprefix_rule([\"x\"], \"never\")",
        &["a.rules:2", "never"],
    ),
    ("rules/a.rules", "x = 1\nwhile True: pass", &["a.rules:2"]),
    (
        "rules/a.rules",
        "def f():\n  [0 for a in range(10000000)]\nf()",
        &["a.rules"],
    ),
];

#[test]
fn what_cannot_be_used_is_one_message_with_file_key_and_line_and_nothing_runs() {
    for (name, text, wanted) in BROKEN {
        let stage = Stage::new();
        let path = stage.codex(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("written");
        let made = stage.workspace("made");
        let ran = stage.exec(&[], &["touch", "made"]).ran();
        assert_eq!(ran.code(), 125, "{name} {text}: {}", ran.stderr);
        assert!(!made.exists(), "{name} {text}");
        for part in *wanted {
            assert!(
                ran.stderr.contains(part),
                "{part} of {text}: {}",
                ran.stderr
            );
        }
    }
    // Files that cannot be read as files.
    for name in ["config.toml", "agent-runner.toml", "rules/x.rules"] {
        let stage = Stage::new();
        let path = stage.codex(name);
        fs::remove_file(&path).unwrap_or_default();
        fs::create_dir_all(&path).expect("a folder in its place");
        let ran = stage.exec(&[], &["touch", "made"]).ran();
        assert_eq!(ran.code(), 125, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(name) && !stage.workspace("made").exists());
    }
}
