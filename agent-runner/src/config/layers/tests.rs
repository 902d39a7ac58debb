use super::super::requirements::Required;
use super::super::{ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode};
use super::{Overrides, Settings, parse_override};
use protocol::TriggerKind;

mod managed;
mod network;
mod profiles;

struct Home(std::path::PathBuf);

impl Home {
    fn new(config: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("auto-review-config-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("project/.codex")).expect("a folder");
        let home = Self(folder);
        home.write("config.toml", config);
        home
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(
            path,
            text.replace("$PROJECT", self.project().to_str().expect("text")),
        )
        .expect("a file");
    }

    fn project(&self) -> std::path::PathBuf {
        self.0.join("project")
    }

    fn environment(&self) -> Environment {
        Environment {
            home: self.0.clone(),
            codex_home: self.0.clone(),
            state_dir: self.0.join("state"),
            path: Vec::new(),
            user: "ana".to_owned(),
            session: None,
            turn: None,
            all: Vec::new(),
        }
    }

    fn load(&self, overrides: &Overrides) -> Result<Settings, String> {
        Settings::load(&self.environment(), overrides, &self.project())
            .map_err(|error| error.to_string())
    }

    fn load_required(&self, required: Required) -> Result<Settings, String> {
        let (environment, flags) = (self.environment(), Overrides::default());
        Settings::load_under(&environment, &flags, &self.project(), "", required)
            .map_err(|error| error.to_string())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder is removed");
    }
}

fn values(values: &[&str]) -> Overrides {
    Overrides {
        values: values.iter().map(|text| (*text).to_owned()).collect(),
        ..Overrides::default()
    }
}

#[test]
fn an_unknown_folder_starts_read_only_and_a_trusted_one_may_be_written() {
    let unknown = Home::new("").load(&Overrides::default()).expect("valid");
    assert_eq!(unknown.sandbox, SandboxMode::ReadOnly);
    let trusted = Home::new("[projects.\"$PROJECT\"]\ntrust_level = \"trusted\"");
    assert_eq!(
        trusted.load(&Overrides::default()).expect("valid").sandbox,
        SandboxMode::WorkspaceWrite
    );
}

#[test]
fn flags_beat_values_and_values_beat_the_file() {
    let home = Home::new(
        "sandbox_mode = \"read-only\"\napproval_policy = \"never\"\napprovals_reviewer = \"auto_review\"",
    );
    let by_value = home
        .load(&values(&[
            "sandbox_mode=workspace-write",
            "approval_policy=\"untrusted\"",
        ]))
        .expect("valid");
    assert_eq!(
        (by_value.sandbox, by_value.approval),
        (SandboxMode::WorkspaceWrite, ApprovalPolicy::Untrusted)
    );
    assert_eq!(by_value.reviewer, ApprovalsReviewer::AutoReview);
    let flags = Overrides {
        sandbox: Some(SandboxMode::ReadOnly),
        ..values(&["sandbox_mode=workspace-write"])
    };
    assert_eq!(
        home.load(&flags).expect("valid").sandbox,
        SandboxMode::ReadOnly
    );
}

#[test]
fn a_project_narrows_and_never_widens_and_only_when_it_is_trusted() {
    let wider = "sandbox_mode = \"danger-full-access\"\napproval_policy = \"on-request\"\napprovals_reviewer = \"auto_review\"\n[sandbox_workspace_write]\nnetwork_access = true";
    let user = "sandbox_mode = \"workspace-write\"\napproval_policy = \"untrusted\"\n[projects.\"$PROJECT\"]\ntrust_level = \"trusted\"";
    let home = Home::new(user);
    home.write("project/.codex/config.toml", wider);
    let settings = home.load(&Overrides::default()).expect("valid");
    assert_eq!(
        (settings.sandbox, settings.approval),
        (SandboxMode::WorkspaceWrite, ApprovalPolicy::Untrusted)
    );
    assert_eq!(settings.reviewer, ApprovalsReviewer::User);
    assert!(!settings.workspace_write.network_access);
    assert_eq!(settings.notes.len(), 2, "{:?}", settings.notes);

    home.write(
        "project/.codex/config.toml",
        "sandbox_mode = \"read-only\"\napproval_policy = \"never\"",
    );
    let settings = home.load(&Overrides::default()).expect("valid");
    assert_eq!(
        (settings.sandbox, settings.approval),
        (SandboxMode::ReadOnly, ApprovalPolicy::Never)
    );

    let untrusted = Home::new("sandbox_mode = \"workspace-write\"");
    untrusted.write("project/.codex/config.toml", "sandbox_mode = \"read-only\"");
    assert_eq!(
        untrusted
            .load(&Overrides::default())
            .expect("valid")
            .sandbox,
        SandboxMode::WorkspaceWrite
    );
}

#[test]
fn what_cannot_be_enforced_refuses() {
    for config in [
        "default_permissions = \"workspace\"",
        "[permissions.workspace.filesystem]\n\":root\" = \"read\"",
        "[features.network_proxy]\ndomains = { \"a b\" = \"allow\" }",
        "[features.network_proxy]\nmitm_hooks = [{ host = \"a.b\", methods = [\"GET\"], path_prefixes = [\"/\"] }]",
        "[shell_environment_policy]\ninherit = \"most\"",
    ] {
        assert!(
            Home::new(config).load(&Overrides::default()).is_err(),
            "{config} was accepted"
        );
    }
    // Where commands have no network, there is nothing that a network policy could narrow.
    for config in [
        "[features]\nnetwork_proxy = false",
        "[features]\nnetwork_proxy = true",
        "[features.network_proxy]\nenabled = true\ndomains = { \"api.example.com\" = \"allow\" }",
    ] {
        assert!(
            Home::new(config).load(&Overrides::default()).is_ok(),
            "{config} was refused"
        );
    }
}

/// What is wrong, and what its message names.
const WRONG: &[(&str, &str)] = &[
    ("sandbox_mode = \"workspace\"", "sandbox_mode"),
    ("approval_policy = \"always\"", "approval_policy"),
    (
        "approval_policy = { granular = { sandbox_approval = true } }",
        "rules",
    ),
    (
        "approval_policy = { granular = { sandbox_approval = true, rules = 1, mcp_elicitations = true } }",
        "approval_policy",
    ),
    ("approvals_reviewer = \"nobody\"", "approvals_reviewer"),
    ("[sandbox_workspace_write]\nnetwork = true", "network"),
    (
        "[sandbox_workspace_write]\nnetwork_access = \"yes\"",
        "network_access",
    ),
    ("allow_login_shell = 1", "allow_login_shell"),
    ("web_search = \"sometimes\"", "web_search"),
    ("[features]\nnetwork_proxy = \"on\"", "network_proxy"),
    ("model = \"x\"\nsandbox_mode = ", "config.toml:2"),
    ("a = 1\na = 2", "config.toml:2"),
    ("profile = \"none\"", "profiles.none"),
    ("profile = \"../x\"", "profile"),
    ("profile = 1", "profile"),
    ("profile = \"a\"\n[profiles.a]\nprofile = \"a\"", "profile"),
    (
        "profile = \"a\"\n[profiles.a]\nsandbox_mode = \"x\"",
        "profiles.a",
    ),
    (
        "[projects.\"$PROJECT\"]\ntrust_level = \"maybe\"",
        "trust_level",
    ),
    ("[projects.\"$PROJECT\"]\ntrust_level = true", "trust_level"),
];

#[test]
fn a_wrong_setting_names_its_file_and_key() {
    for (config, named) in WRONG {
        let message = Home::new(config)
            .load(&Overrides::default())
            .expect_err(config);
        assert!(
            message.contains(named) && message.contains("config.toml"),
            "{config}: {message}"
        );
    }
}

#[test]
fn rules_files_are_read_in_order_and_a_projects_only_restrict() {
    let home = Home::new("[projects.\"$PROJECT\"]\ntrust_level = \"trusted\"");
    home.write("rules/b.rules", "prefix_rule([\"b\"], \"prompt\")");
    home.write("rules/a.rules", "prefix_rule([\"a\"])");
    home.write("rules/c.txt", "no rules");
    home.write(
        "project/.codex/rules/p.rules",
        "prefix_rule([\"rm\"])\nprefix_rule([\"p\"], \"forbidden\")",
    );
    home.write("agent-runner.toml", "[[rules.prefix_rules]]\npattern = [{ token = \"x\" }, { any_of = [\"y\", \"z\"] }]\ndecision = \"prompt-user\"");
    let settings = home.load(&Overrides::default()).expect("valid");
    let patterns: Vec<_> = settings
        .rules
        .rules()
        .iter()
        .map(exec_policy::PrefixRule::pattern)
        .collect();
    assert_eq!(patterns, ["a", "b", "p", "x y|z"]);
    assert!(
        settings
            .notes
            .iter()
            .any(|note| note.contains("1 of its rules allow"))
    );
}

#[test]
fn a_rules_file_that_does_not_load_stops_everything() {
    for (name, text, named) in [
        ("rules/d.rules", "prefix_rule([])", "d.rules:1:1"),
        ("rules/d.rules", "while True: pass", "d.rules:1:"),
        (
            "agent-runner.toml",
            "[[rules.prefix_rules]]\npattern = [{ token = \"x\" }]\ndecision = \"allow\"",
            "rule 1",
        ),
        (
            "agent-runner.toml",
            "[[rules.prefix_rules]]\npattern = [{}]\ndecision = \"prompt\"",
            "any_of",
        ),
        (
            "agent-runner.toml",
            "[fallback]\non_deny = \"queue\"",
            "queue",
        ),
        (
            "agent-runner.toml",
            "[fallback]\non_deny = \"allow\"",
            "agent-runner.toml",
        ),
    ] {
        let home = Home::new("");
        home.write(name, text);
        let message = home.load(&Overrides::default()).expect_err(text);
        assert!(message.contains(named), "{text}: {message}");
    }
    let folder = Home::new("");
    folder.write("rules/x.rules/inner", "");
    assert!(folder.load(&Overrides::default()).is_err());
    let long = Home::new("");
    long.write("rules/long.rules", &"# ten megabytes\n".repeat(655_360));
    assert!(
        long.load(&Overrides::default())
            .expect_err("refused")
            .contains("long.rules")
    );
}

#[test]
fn a_profile_lies_over_the_file_and_under_the_flags() {
    let home = Home::new(
        "approval_policy = \"never\"\nsandbox_mode = \"read-only\"\n[profiles.full_auto]\napproval_policy = \"on-request\"\nsandbox_mode = \"workspace-write\"\n[profiles.other]\nsandbox_mode = \"danger-full-access\"",
    );
    let of = |name: &str, values: &[&str]| {
        let overrides = Overrides {
            profile: Some(name.to_owned()),
            ..self::values(values)
        };
        let settings = home.load(&overrides).expect("valid");
        (settings.approval, settings.sandbox)
    };
    assert_eq!(
        of("full_auto", &[]),
        (ApprovalPolicy::OnRequest, SandboxMode::WorkspaceWrite)
    );
    assert_eq!(
        of("full_auto", &["sandbox_mode=read-only"]),
        (ApprovalPolicy::OnRequest, SandboxMode::ReadOnly)
    );
    // A file of the name wins over the table.
    home.write("other.config.toml", "approval_policy = \"untrusted\"");
    assert_eq!(
        of("other", &[]),
        (ApprovalPolicy::Untrusted, SandboxMode::ReadOnly)
    );
}

#[test]
fn relative_folders_are_the_files_and_added_ones_the_working_directorys() {
    let home = Home::new(
        "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nwritable_roots = [\"a\", \"~/b\", \"/c\"]",
    );
    let overrides = Overrides {
        add_dirs: vec!["d".into()],
        ..Overrides::default()
    };
    let settings = home.load(&overrides).expect("valid");
    let wanted = [
        home.0.join("a"),
        home.0.join("b"),
        "/c".into(),
        home.project().join("d"),
    ];
    assert_eq!(settings.workspace_write.writable_roots, wanted);
}

#[test]
fn an_untrusted_folder_asks_the_person_about_everything() {
    let home = Home::new("[projects.\"$PROJECT\"]\ntrust_level = \"untrusted\"");
    home.write("project/.codex/config.toml", "sandbox_mode = ");
    let settings = home
        .load(&Overrides::default())
        .expect("its file is not read");
    assert_eq!(settings.approval, ApprovalPolicy::Untrusted);
    assert_eq!(settings.sandbox, SandboxMode::WorkspaceWrite);
}

#[test]
fn an_unknown_key_of_the_shared_file_is_one_note_and_of_our_own_an_error() {
    let home = Home::new("model = \"x\"\nodd = 1\nodder = 2");
    let notes = home.load(&Overrides::default()).expect("valid").notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].ends_with("odd, odder"), "{notes:?}");
    home.write("agent-runner.toml", "server_ulr = \"https://x\"");
    assert!(
        home.load(&Overrides::default())
            .expect_err("refused")
            .contains("server_ulr")
    );
}

#[test]
fn a_server_needs_its_key_and_a_token() {
    let home = Home::new("");
    home.write(
        "agent-runner.toml",
        "server_url = \"https://reviewer.example.com\"",
    );
    assert!(
        home.load(&Overrides::default())
            .expect_err("refused")
            .contains("server_key")
    );
}

#[test]
fn granular_reads_its_table() {
    let config = "[approval_policy.granular]\nsandbox_approval = true\nrules = false\nmcp_elicitations = false";
    let settings = Home::new(config)
        .load(&Overrides::default())
        .expect("valid");
    assert!(
        matches!(settings.approval, ApprovalPolicy::Granular(granular) if granular.sandbox_approval)
    );
}

#[test]
fn a_person_answers_the_kinds_that_the_user_names() {
    let home = Home::new("approvals_reviewer = \"auto_review\"");
    home.write(
        "agent-runner.toml",
        "ask_person = [\"permission_requested\", \"sandbox_denied\"]",
    );
    let settings = home.load(&Overrides::default()).expect("valid");
    for kind in [TriggerKind::PermissionRequested, TriggerKind::SandboxDenied] {
        assert_eq!(settings.asks(kind), ApprovalsReviewer::User);
    }
    let other = settings.asks(TriggerKind::EscalationRequested);
    assert_eq!(other, ApprovalsReviewer::AutoReview);
}

/// Every TOML block of the page, as printed.
const PAGE: &[&str] = &[
    "[sandbox_workspace_write]\nnetwork_access = true\n",
    "[features.network_proxy]\nenabled = true\ndomains = { \"api.openai.com\" = \"allow\", \"example.com\" = \"deny\" }\n",
    "web_search = \"cached\" # default\n# web_search = \"disabled\"\n# web_search = \"live\" # same as --search\n",
    "approvals_reviewer = \"user\"\n",
    "approval_policy = \"on-request\"\napprovals_reviewer = \"auto_review\"\n",
    "# Always ask for approval mode\napproval_policy = \"untrusted\"\nsandbox_mode = \"read-only\"\nallow_login_shell = false # optional hardening\n\n# Optional: Allow network in workspace-write mode\n[sandbox_workspace_write]\nnetwork_access = true\n",
    "approval_policy = { granular = {\nsandbox_approval = true,\nrules = true,\nmcp_elicitations = true,\nrequest_permissions = false,\nskill_approval = false\n} }\n",
    "default_permissions = \"workspace\"\n\n[permissions.workspace.filesystem]\n\":project_roots\" = { \".\" = \"write\", \"**/*.env\" = \"none\" }\nglob_scan_max_depth = 3\n",
    "[profiles.full_auto]\napproval_policy = \"on-request\"\nsandbox_mode = \"workspace-write\"\n\n[profiles.readonly_quiet]\napproval_policy = \"never\"\nsandbox_mode = \"read-only\"\n",
    "[windows]\nsandbox = \"unelevated\" # or \"elevated\"\n# sandbox_private_desktop = true\n",
    "[otel]\nenvironment = \"staging\" # dev | staging | prod\nexporter = \"none\" # none | otlp-http | otlp-grpc\nlog_user_prompt = false\n",
    "[otel]\nexporter = { otlp-http = {\n endpoint = \"https://otel.example.com/v1/logs\",\n protocol = \"binary\",\n headers = { \"x-otlp-api-key\" = \"${OTLP_TOKEN}\" }\n}}\n",
    "[otel]\nexporter = { otlp-grpc = {\n endpoint = \"https://otel.example.com:4317\",\n headers = { \"x-otlp-meta\" = \"abc123\" }\n}}\n",
];

#[test]
fn every_block_of_the_page_loads_and_each_key_is_shown_with_its_origin() {
    for block in PAGE {
        let home = Home::new(block);
        let settings = home.load(&Overrides::default()).expect(block);
        assert!(settings.notes.is_empty(), "{block}: {:?}", settings.notes);
        assert!(!settings.shown.is_empty(), "{block}");
        let file = home.0.join("config.toml").display().to_string();
        assert!(settings.shown.iter().all(|setting| setting.origin == file));
        // What is not this program's may be somebody's secret.
        assert!(!format!("{:?}", settings.shown).contains("abc123"));
    }
}

#[test]
fn an_override_is_toml_or_plain_text() {
    assert_eq!(
        parse_override("a.b=1").expect("valid").to_string(),
        "[a]\nb = 1\n"
    );
    assert_eq!(
        parse_override("a=on-request").expect("valid").to_string(),
        "a = \"on-request\"\n"
    );
    assert!(parse_override("a").is_err());
    assert!(parse_override("=1").is_err());
}
