use super::super::error::ConfigError;
use super::super::requirements::Requirements;
use super::super::{ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode};
use super::{Overrides, RunnerSettings, Settings, parse_override};

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

    fn load(&self, overrides: &Overrides) -> Result<Settings, String> {
        let environment = Environment {
            home: self.0.clone(),
            codex_home: self.0.clone(),
            state_dir: self.0.join("state"),
            path: Vec::new(),
            user: "ana".to_owned(),
            session: None,
            turn: None,
            all: Vec::new(),
        };
        Settings::load(&environment, overrides, &self.project()).map_err(|error| error.to_string())
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
        "[features]\nnetwork_proxy = true",
        "[features.network_proxy]\ndomains = { \"example.com\" = \"allow\" }",
        "profile = \"work\"",
        "[shell_environment_policy]\ninherit = \"most\"",
        "sandbox_mode = \"workspace\"",
        "approval_policy = \"always\"",
        "approval_policy = { granular = { sandbox_approval = true } }",
        "[sandbox_workspace_write]\nnetwork = true",
        "sandbox_mode = ",
    ] {
        assert!(
            Home::new(config).load(&Overrides::default()).is_err(),
            "{config} was accepted"
        );
    }
    let rules = Home::new("");
    rules.write("rules/default.rules", "");
    assert!(
        rules
            .load(&Overrides::default())
            .expect_err("refused")
            .contains("command rules")
    );
    assert!(
        Home::new("")
            .load(&values(&["features.network_proxy.enabled=true"]))
            .is_err()
    );
    assert!(
        Home::new("[features]\nnetwork_proxy = false")
            .load(&Overrides::default())
            .is_ok()
    );
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
fn managed_requirements_bind() {
    let mut settings = Home::new("").load(&Overrides::default()).expect("valid");
    let hold = |settings: &mut Settings, text: &str| {
        settings
            .hold(toml::from_str::<Requirements>(text).expect("requirements"))
            .map_err(|error| match error {
                ConfigError::Forbidden { key, .. } => key,
                other @ (ConfigError::Read { .. }
                | ConfigError::Syntax { .. }
                | ConfigError::Value { .. }
                | ConfigError::Permissions(_)
                | ConfigError::Unsupported { .. }) => panic!("another error: {other}"),
            })
    };
    assert_eq!(
        hold(
            &mut settings,
            "allowed_sandbox_modes = [\"workspace-write\"]"
        ),
        Err("sandbox_mode")
    );
    assert_eq!(
        hold(&mut settings, "allowed_approval_policies = [\"never\"]"),
        Err("approval_policy")
    );
    assert_eq!(
        hold(
            &mut settings,
            "allowed_approvals_reviewers = [\"auto_review\"]"
        ),
        Err("approvals_reviewer")
    );
    settings.policy_section = Some("local".to_owned());
    assert_eq!(
        hold(&mut settings, "guardian_policy_config = \"managed\""),
        Ok(())
    );
    assert_eq!(settings.policy_section.as_deref(), Some("managed"));
    assert!(toml::from_str::<Requirements>("allowed_web_search_modes = []").is_err());
    let _: &RunnerSettings = &settings.runner;
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
    let wanted: Requirements =
        toml::from_str("allowed_sandbox_modes = [\"read-only\"]").expect("valid");
    assert!(settings.hold(wanted).is_err());
}
