//! What an administrator requires, laid over what the user says: the stricter holds, and requirements that cannot be read whole
//! stop everything.

use super::super::super::error::ConfigError;
use super::super::super::requirements::Requirements;
use super::super::super::{ApprovalPolicy, ApprovalsReviewer, SandboxMode};
use super::super::{Overrides, Settings};
use super::Home;

pub(super) const MANAGED: &str = "requirements.toml";

pub(super) fn held(config: &str, requirements: &str) -> Result<Settings, String> {
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
