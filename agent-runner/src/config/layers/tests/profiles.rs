//! Permission profiles beside the older sandbox settings: which of them holds, and that a project may only narrow it.

use super::super::super::SandboxMode;
use super::super::super::requirements::Requirements;
use super::super::Overrides;
use super::Home;
use super::managed::MANAGED;

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
