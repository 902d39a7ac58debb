use super::super::error::ConfigError;
use super::super::requirements::{Required, Requirements};
use super::super::{ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode};
use super::{Overrides, Settings, parse_override};
use protocol::TriggerKind;

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
    assert_eq!(settings.notes.len(), 1);

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

#[test]
fn the_documented_table_of_network_and_door_holds() {
    use network_proxy::Routing;
    let write = "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nnetwork_access = ";
    let door = "\n[features]\nnetwork_proxy = true";
    for (config, routing, by_grant) in [
        (format!("{write}false"), Routing::Off, Routing::Direct),
        (format!("{write}false{door}"), Routing::Off, Routing::Door),
        (format!("{write}true"), Routing::Direct, Routing::Direct),
        (format!("{write}true{door}"), Routing::Door, Routing::Door),
        (
            "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\ndomains = { \"a.b\" = \"allow\" }".to_owned(),
            Routing::Door,
            Routing::Door,
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true".to_owned(),
            Routing::Direct,
            Routing::Direct,
        ),
    ] {
        let settings = Home::new(&config).load(&Overrides::default()).expect("valid");
        assert_eq!(settings.routing(), routing, "{config}");
        assert_eq!(settings.routing_by_grant(), by_grant, "{config}");
        let loud = settings.notes.iter().any(|note| note.starts_with("NETWORK: commands reach every host"));
        assert_eq!(loud, routing == Routing::Direct, "{config}");
    }
}

#[test]
fn a_table_of_hosts_is_put_together_key_by_key_and_a_rule_file_adds_to_it() {
    let home = Home::new(
        "sandbox_mode = \"workspace-write\"\nfeatures.network_proxy = { enabled = true, domains = { \"a.example.com\" = \"allow\" } }",
    );
    home.write(
        "rules/default.rules",
        "network_rule(host = \"c.example.com\", protocol = \"https\", decision = \"allow\")\n\
         network_rule(host = \"d.example.com\", protocol = \"https\", decision = \"deny\")\n",
    );
    let overrides = Overrides {
        values: vec![
            "features.network_proxy.domains={ \"b.example.com\" = \"allow\" }".to_owned(),
            "sandbox_workspace_write.network_access=true".to_owned(),
        ],
        ..Overrides::default()
    };
    let settings = home.load(&overrides).expect("valid");
    let policy = settings.network_policy().policy().expect("valid").policy;
    let allowed = |host: &str, port| {
        let to = network_proxy::Destination::parse(host, Some(port)).expect("a host");
        matches!(policy.check(&to), network_proxy::Access::Allowed { .. })
    };
    assert!(allowed("a.example.com", 443) && allowed("b.example.com", 443));
    assert!(allowed("c.example.com", 443) && !allowed("c.example.com", 80));
    assert!(!allowed("d.example.com", 443));
}

#[test]
fn no_reviewer_is_asked_about_hosts_where_a_person_would_be_or_nobody_may() {
    use network_proxy::Misses;
    for (config, misses) in [
        ("approvals_reviewer = \"auto_review\"", Misses::Ask),
        ("approvals_reviewer = \"user\"", Misses::Refuse),
        (
            "approvals_reviewer = \"auto_review\"\napproval_policy = \"never\"",
            Misses::Refuse,
        ),
        (
            "approvals_reviewer = \"auto_review\"\napproval_policy = \"untrusted\"",
            Misses::Refuse,
        ),
    ] {
        let settings = Home::new(config)
            .load(&Overrides::default())
            .expect("valid");
        assert_eq!(settings.network_policy().misses, misses, "{config}");
    }
}

#[test]
fn who_is_asked_about_a_host_follows_from_policy_reviewer_and_terminal() {
    use crate::ask::Holds;
    use crate::door::{Asker, TerminalIs};
    use crate::prepare::UnknownHosts;
    let reviewer = Asker::Reviewer(Holds::Command);
    let auto = "approvals_reviewer = \"auto_review\"";
    // Under each: at a terminal of the person's own, at one that the command has a part of.
    for (config, free, taken) in [
        (auto.to_owned(), reviewer, reviewer),
        (
            "approvals_reviewer = \"user\"".to_owned(),
            Asker::Person,
            Asker::Nobody,
        ),
        (
            format!("{auto}\napproval_policy = \"untrusted\""),
            Asker::Person,
            Asker::Nobody,
        ),
        (
            format!("{auto}\napproval_policy = \"never\""),
            Asker::Nobody,
            Asker::Nobody,
        ),
        (
            "approvals_reviewer = \"user\"\napproval_policy = \"never\"".to_owned(),
            Asker::Nobody,
            Asker::Nobody,
        ),
    ] {
        let home = Home::new(&config);
        let settings = home.load(&Overrides::default()).expect("valid");
        let of = |unknown, terminal| Asker::of(&settings, unknown, terminal);
        assert_eq!(of(UnknownHosts::AsSet, TerminalIs::Free), free, "{config}");
        assert_eq!(
            of(UnknownHosts::AsSet, TerminalIs::Taken),
            taken,
            "{config}"
        );
        assert_eq!(
            of(UnknownHosts::Closed, TerminalIs::Free),
            Asker::Nobody,
            "`agent-runner sandbox` asks nobody: {config}"
        );
    }
    let home = Home::new(auto);
    home.write("agent-runner.toml", "host_approvals = \"session\"");
    let settings = home.load(&Overrides::default()).expect("valid");
    assert_eq!(
        Asker::of(&settings, UnknownHosts::AsSet, TerminalIs::Taken),
        Asker::Reviewer(Holds::Session)
    );
}

#[test]
fn hosts_that_an_administrator_names_for_review_are_put_to_nobody_where_nobody_may_be_asked() {
    use crate::door::DoorPolicy;
    use crate::prepare::UnknownHosts;
    let managed = |more: &str| {
        format!(
            "[experimental_network]\nenabled = true\nreview_domains = [\"*.example.com\"]\n{more}"
        )
    };
    let auto = "approvals_reviewer = \"auto_review\"\nsandbox_mode = \"workspace-write\"";
    let never = format!("{auto}\napproval_policy = \"never\"");
    let environment = Home::new("").environment();
    for (config, more, unknown, asked) in [
        (auto, "", UnknownHosts::AsSet, true),
        (auto, "", UnknownHosts::Closed, false),
        (&never, "", UnknownHosts::AsSet, false),
        (
            auto,
            "managed_allowed_domains_only = true",
            UnknownHosts::AsSet,
            false,
        ),
    ] {
        let settings = held(config, &managed(more)).expect("held");
        let door = DoorPolicy::of(&settings, unknown, &environment).expect("a policy");
        let to = network_proxy::Destination::parse("a.example.com", Some(443)).expect("a host");
        assert_eq!(
            door.policy().asks(&to),
            asked,
            "{config} {more} {unknown:?}"
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

const MANAGED: &str = "requirements.toml";

fn held(config: &str, requirements: &str) -> Result<Settings, String> {
    let mut settings = Home::new(config).load(&Overrides::default())?;
    Requirements::parse(MANAGED, requirements)
        .and_then(|wanted| settings.hold(wanted, MANAGED))
        .map(|()| settings)
        .map_err(|error: ConfigError| error.to_string())
}

#[test]
fn a_value_that_is_not_allowed_becomes_the_strictest_that_is_with_a_note() {
    let open = "sandbox_mode = \"danger-full-access\"\napproval_policy = \"on-request\"\napprovals_reviewer = \"auto_review\"\nweb_search = \"live\"";
    let settings = held(open, "allowed_sandbox_modes = [\"workspace-write\", \"read-only\", \"external-sandbox\"]\nallowed_approval_policies = [\"untrusted\", \"never\"]\nallowed_approvals_reviewers = [\"user\"]\nallowed_web_search_modes = [\"cached\"]\nallow_login_shell = false\nguardian_policy_config = \"managed\"").expect("held");
    assert_eq!(settings.sandbox, SandboxMode::ReadOnly);
    assert_eq!(settings.approval, ApprovalPolicy::Never);
    assert_eq!(settings.reviewer, ApprovalsReviewer::User);
    assert_eq!(settings.web_search().as_str(), "disabled");
    assert!(!settings.allow_login_shell);
    assert_eq!(settings.policy_section.as_deref(), Some("managed"));
    assert_eq!(settings.notes.len(), 4, "{:?}", settings.notes);
    for note in &settings.notes {
        assert!(note.contains(MANAGED), "{note}");
    }
    // What is allowed stays.
    let settings = held(open, "allowed_sandbox_modes = [\"read-only\", \"danger-full-access\"]\nallowed_approval_policies = [\"on-failure\", \"on-request\"]").expect("held");
    assert_eq!(settings.sandbox, SandboxMode::DangerFullAccess);
    assert_eq!(settings.approval, ApprovalPolicy::OnRequest);
    assert_eq!(settings.notes.len(), 0);
}

#[test]
fn a_granular_policy_is_allowed_by_one_that_switches_as_much_on() {
    let policy = |rules| {
        format!(
            "granular = {{ sandbox_approval = true, rules = {rules}, mcp_elicitations = true }}"
        )
    };
    let own = format!("approval_policy = {{ {} }}", policy(true));
    let same = format!(
        "allowed_approval_policies = [\"never\", {{ {} }}]",
        policy(true)
    );
    let less = format!(
        "allowed_approval_policies = [\"never\", {{ {} }}]",
        policy(false)
    );
    assert!(matches!(
        held(&own, &same).expect("held").approval,
        ApprovalPolicy::Granular(_)
    ));
    assert_eq!(
        held(&own, &less).expect("held").approval,
        ApprovalPolicy::Never
    );
}

#[test]
fn denied_reads_take_full_access_away_and_managed_rules_restrict() {
    let settings = held(
        "sandbox_mode = \"danger-full-access\"",
        "[permissions.filesystem]\ndeny_read = [\"/etc/secret\", \"**/*.env\"]",
    )
    .expect("held");
    assert_eq!(settings.sandbox, SandboxMode::ReadOnly);
    assert_eq!(settings.denied_reads, ["/etc/secret", "**/*.env"]);
    assert!(settings.denies_reads());
    let settings = held("", "[[rules.prefix_rules]]\npattern = [{ token = \"git\" }, { any_of = [\"push\"] }]\ndecision = \"forbidden\"").expect("held");
    assert_eq!(settings.managed_rules.rules().len(), 1);
}

/// The settings of `config` under `requirements` as a managed file, its profiles included.
fn required(config: &str, requirements: &str) -> Result<Settings, String> {
    let home = Home::new(config);
    let wanted = || Requirements::parse(MANAGED, requirements).map_err(|error| error.to_string());
    home.load_required(vec![(wanted()?, MANAGED)])
}

#[test]
fn the_administrators_profiles_are_put_together_with_the_users_and_listed_ones_alone_hold() {
    let team = "[permissions.team]\nextends = \":workspace\"\n[permissions.team.filesystem]\n\"/srv/secret\" = \"deny\"\n";
    let list = |names: &str| format!("allowed_permission_profiles = {{ {names} }}\n");
    let name = |settings: &Settings| {
        let own = settings
            .profile
            .as_ref()
            .map(|profile| profile.name.clone());
        own.unwrap_or_else(|| settings.sandbox.as_str().to_owned())
    };
    let both = format!(
        "default_permissions = \"team\"\n{}{team}",
        list("team = true, \":read-only\" = true")
    );
    // Nobody chose: the administrator's holds.
    let settings = required("", &both).expect("held");
    assert_eq!(name(&settings), "team");
    assert!(settings.denies_reads());
    // What is not allowed becomes `:read-only`, whatever way it was chosen.
    for chosen in [
        "default_permissions = \":workspace\"",
        "sandbox_mode = \"workspace-write\"",
        "sandbox_mode = \"danger-full-access\"",
        "default_permissions = \"own\"\n[permissions.own]\nextends = \":workspace\"",
    ] {
        let settings = required(chosen, &both).expect("held");
        assert_eq!(name(&settings), "read-only", "{chosen}");
        assert!(
            settings
                .notes
                .iter()
                .any(|note| note.contains("not allowed")),
            "{chosen}"
        );
    }
    // A profile that was chosen beats a mode, where profiles are listed.
    let settings = required(
        "sandbox_mode = \"danger-full-access\"\ndefault_permissions = \"team\"",
        &both,
    )
    .expect("held");
    assert_eq!(name(&settings), "team");
    let settings = required("sandbox_mode = \"read-only\"", &both).expect("held");
    assert_eq!(name(&settings), "read-only");
    // Two profiles of one name leave open which holds.
    let clash = required(
        "default_permissions = \"team\"\n[permissions.team]\nextends = \":workspace\"",
        &both,
    );
    assert!(clash.expect_err("refused").contains("`team`"));
    let usual = list("\":workspace\" = true, \":read-only\" = true");
    let settings = required("sandbox_mode = \"workspace-write\"", &usual).expect("held");
    assert_eq!(name(&settings), "workspace-write");
}

#[test]
fn a_wish_that_is_switched_off_is_off_and_a_pin_is_the_last_word() {
    use super::super::Feature::{AdditionalPermissions, RequestPermissions};
    let on = |settings: &Settings| {
        [AdditionalPermissions, RequestPermissions].map(|feature| settings.is_on(feature))
    };
    let of = |config: &str, pins: &str| held(config, pins).expect("held");
    assert_eq!(on(&of("", "")), [true, true]);
    let off = "[features]\nexec_permission_approvals = false\nrequest_permissions_tool = true";
    assert_eq!(on(&of(off, "")), [false, true]);
    let pinned = of(
        off,
        "[features]\nexec_permission_approvals = true\nrequest_permissions_tool = false\nodd = true",
    );
    assert_eq!(on(&pinned), [true, false]);
    let notes = pinned.notes.join("\n");
    for told in [
        "exec_permission_approvals = false` is not allowed",
        "request_permissions_tool = true` is not allowed",
        "mean nothing here: odd",
    ] {
        assert!(notes.contains(told), "{notes}");
    }
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

#[test]
fn modes_may_hang_on_the_host_and_the_first_that_names_it_holds() {
    let entry = |pattern: &str, mode: &str| {
        format!(
            "[[remote_sandbox_config]]\nhostname_patterns = [\"{pattern}\"]\nallowed_sandbox_modes = [\"read-only\", \"{mode}\"]\n"
        )
    };
    let open = "sandbox_mode = \"danger-full-access\"";
    let of = |text: &str| held(open, text).expect("held").sandbox;
    let here = entry("*", "danger-full-access");
    let elsewhere = entry("no-such-host-*", "workspace-write");
    let listed = "allowed_sandbox_modes = [\"read-only\"]\n";
    assert_eq!(
        of(&format!("{listed}{elsewhere}{here}")),
        SandboxMode::DangerFullAccess
    );
    assert_eq!(of(&format!("{listed}{elsewhere}")), SandboxMode::ReadOnly);
    let first = entry("?*", "workspace-write");
    assert_eq!(of(&format!("{first}{here}")), SandboxMode::ReadOnly);
}

#[test]
fn what_is_required_of_tools_lies_over_what_the_user_says() {
    let config = "[mcp_servers.docs]\ncommand = \"docs-server\"\n[mcp_servers.web]\nurl = \"https://mcp.example.com\"\n[mcp_servers.both]\ncommand = \"docs-server\"\nurl = \"https://x.example.com\"\n[apps.mail]\nenabled = true\n[apps.mail.tools.send]\napproval_mode = \"approve\"\n";
    let settings = held(config, "[mcp_servers.docs]\nidentity = { command = \"docs-server\" }\n[mcp_servers.web]\nidentity = { url = \"https://other.example.com\" }\n[mcp_servers.both]\nidentity = { command = \"docs-server\" }\n[apps.mail.tools.send]\napproval_mode = \"prompt\"\n").expect("held");
    let of = |server: &str| {
        let table = settings.tools["mcp_servers"][server]
            .as_table()
            .expect("a table");
        table.get("enabled").and_then(toml::Value::as_bool)
    };
    assert_eq!(
        (of("docs"), of("web"), of("both")),
        (None, Some(false), Some(false))
    );
    let mode = &settings.tools["apps"]["mail"]["tools"]["send"]["approval_mode"];
    assert_eq!(mode.as_str(), Some("prompt"));
    let none = held(config, "mcp_servers = {}").expect("held");
    assert!(none.tools["mcp_servers"]["docs"]["enabled"].as_bool() == Some(false));
}

#[test]
fn requirements_that_cannot_be_read_whole_stop_everything() {
    for (text, named) in [
        ("allowed_sandbox_modes = [\"workspace-write\"]", "read-only"),
        ("allowed_sandbox_modes = [\"none\"]", "requirements.toml:1"),
        ("allowed_approval_policies = []", "empty"),
        (
            "allowed_approval_policies = [\"granular\"]",
            "requirements.toml:1",
        ),
        ("allowed_approvals_reviewers = []", "empty"),
        ("\nodd = 1", "requirements.toml:2`"),
        (
            "[[rules.prefix_rules]]\npattern = [{ token = \"x\" }]\ndecision = \"allow\"",
            "allow",
        ),
        (
            "[[rules.prefix_rules]]\npattern = []\ndecision = \"prompt\"",
            "empty",
        ),
        ("[experimental_network]\nenabled = true\nodd = 1", "odd"),
        (
            "[experimental_network]\ndomains = { \"*\" = \"deny\" }",
            "experimental_network",
        ),
        (
            "[experimental_network]\ndomains = {}\nallowed_domains = []",
            "experimental_network",
        ),
        ("x = ", "requirements.toml:1"),
    ] {
        let message = held("", text).expect_err(text);
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn requirements_of_profiles_hosts_and_tools_that_contradict_themselves_stop_everything() {
    for (text, named) in [
        ("guardian_extra_policy = \"x\"", "guardian_policy_config"),
        (
            "allowed_permission_profiles = { \":workspace\" = true }",
            "default_permissions",
        ),
        (
            "default_permissions = \":workspace\"\nallowed_permission_profiles = { \":read-only\" = true }",
            "`:workspace` is not among",
        ),
        (
            "default_permissions = \"x\"\nallowed_permission_profiles = { x = true }",
            "no profile `x`",
        ),
        (
            "[[remote_sandbox_config]]\nhostname_patterns = [\"*\"]\nallowed_sandbox_modes = [\"workspace-write\"]",
            "read-only",
        ),
        (
            "[[remote_sandbox_config]]\nhostname_patterns = [\"\"]\nallowed_sandbox_modes = [\"read-only\"]",
            "remote_sandbox_config",
        ),
        (
            "[mcp_servers.a]\nidentity = { command = { executable = \"x\" } }",
            "requirements.toml:2",
        ),
    ] {
        let message = held("", text).expect_err(text);
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn in_the_older_form_each_value_is_the_only_one_allowed() {
    let legacy = Requirements::from_legacy(
        MANAGED,
        "sandbox_mode = \"workspace-write\"\napproval_policy = \"never\"",
    );
    let mut settings = Home::new("sandbox_mode = \"danger-full-access\"")
        .load(&Overrides::default())
        .expect("valid");
    settings
        .hold(legacy.expect("legacy"), MANAGED)
        .expect("held");
    assert_eq!(
        (settings.sandbox, settings.approval),
        (SandboxMode::ReadOnly, ApprovalPolicy::Never)
    );
    assert!(Requirements::from_legacy(MANAGED, "model = \"x\"").is_err());
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

const PROFILE: &str = "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n";

#[test]
fn a_profile_holds_unless_an_older_sandbox_setting_stands_anywhere() {
    let alone = Home::new(PROFILE)
        .load(&Overrides::default())
        .expect("valid");
    assert_eq!(alone.sandbox, SandboxMode::WorkspaceWrite);
    assert_eq!(alone.profile.expect("in force").name, "p");
    let older = Home::new(&format!("sandbox_mode = \"read-only\"\n{PROFILE}"));
    let older = older.load(&Overrides::default()).expect("valid");
    assert_eq!(older.sandbox, SandboxMode::ReadOnly);
    assert_eq!(older.profile, None);
    assert!(
        older.notes.iter().any(|note| note.contains("beats it")),
        "{:?}",
        older.notes
    );
    let flag = Overrides {
        sandbox: Some(SandboxMode::ReadOnly),
        ..Overrides::default()
    };
    assert_eq!(Home::new(PROFILE).load(&flag).expect("valid").profile, None);
}

#[test]
fn a_profile_named_on_the_command_line_beats_every_older_setting() {
    let home = Home::new(&format!("sandbox_mode = \"danger-full-access\"\n{PROFILE}"));
    let named = |name: &str| Overrides {
        permissions_profile: Some(name.to_owned()),
        ..Overrides::default()
    };
    let settings = home.load(&named("p")).expect("valid");
    assert_eq!(settings.sandbox, SandboxMode::WorkspaceWrite);
    assert!(settings.profile.is_some());
    let built_in = home.load(&named(":read-only")).expect("valid");
    assert_eq!(
        (built_in.sandbox, built_in.profile),
        (SandboxMode::ReadOnly, None)
    );
    assert!(
        home.load(&named("gone"))
            .expect_err("unknown")
            .contains("there is no profile `gone`")
    );
}

#[test]
fn a_profile_beats_what_the_folders_trust_alone_would_give() {
    let home = Home::new(
        "default_permissions = \":read-only\"\n[projects.\"$PROJECT\"]\ntrust_level = \"trusted\"\n",
    );
    assert_eq!(
        home.load(&Overrides::default()).expect("valid").sandbox,
        SandboxMode::ReadOnly
    );
}

#[test]
fn a_project_brings_no_profile_and_may_narrow_the_one_in_force() {
    let home = Home::new(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[projects.\"$PROJECT\"]\ntrust_level = \"trusted\"\n",
    );
    home.write(
        "project/.codex/config.toml",
        "default_permissions = \":danger-full-access\"\n[permissions.p.filesystem]\n\"/etc\" = \"write\"\n[shell_environment_policy]\nignore_default_excludes = true\n",
    );
    let settings = home.load(&Overrides::default()).expect("valid");
    assert_eq!(settings.sandbox, SandboxMode::WorkspaceWrite);
    assert_eq!(
        settings.shell_environment,
        super::super::ShellEnvironment::default()
    );
    home.write("project/.codex/config.toml", "sandbox_mode = \"read-only\"");
    let narrowed = home.load(&Overrides::default()).expect("valid");
    assert_eq!(narrowed.sandbox, SandboxMode::ReadOnly);
    assert_eq!(
        narrowed.profile.expect("still there").mode(),
        SandboxMode::ReadOnly
    );
}

#[test]
fn managed_modes_bind_a_profile_too() {
    let mut settings = Home::new(PROFILE)
        .load(&Overrides::default())
        .expect("valid");
    let wanted = Requirements::parse(MANAGED, "allowed_sandbox_modes = [\"read-only\"]");
    settings
        .hold(wanted.expect("requirements"), MANAGED)
        .expect("held");
    assert_eq!(settings.sandbox, SandboxMode::ReadOnly);
    let profile = settings.profile.expect("still there");
    assert_eq!(profile.mode(), SandboxMode::ReadOnly);
}
