use std::path::{Path, PathBuf};

use super::{Access, Grants, Named, PermissionTables, Places, Profile, ProfileNetwork, Reads, Tmp};
use crate::config::SandboxMode;

/// The tables of `layers`, weakest first.
fn tables(layers: &[&str]) -> Result<PermissionTables, String> {
    let mut tables = PermissionTables::default();
    for (place, text) in layers.iter().enumerate() {
        let table: toml::Table = text.parse().expect("TOML");
        let file = format!("layer-{place}");
        if let Some(value) = table.get("permissions") {
            tables
                .apply(value, &file)
                .map_err(|error| error.to_string())?;
        }
        if let Some(value) = table.get("default_permissions") {
            tables
                .apply_default(value, &file)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(tables)
}

fn named(layers: &[&str]) -> Result<Named, String> {
    let tables = tables(layers)?;
    let chosen = tables.default.clone().expect("a default");
    tables.named(&chosen).map_err(|error| error.to_string())
}

fn profile(layers: &[&str]) -> Profile {
    match named(layers).expect("valid") {
        Named::Profile(profile) => *profile,
        Named::Mode(mode) => panic!("{mode:?} is no profile"),
    }
}

/// The profile `p` of `text`, in `/w` with the home `/h`.
fn grants(text: &str) -> Grants {
    let default = format!("default_permissions = \"p\"\n{text}");
    profile(&[&default]).grants(Places {
        workspace: Path::new("/w"),
        added: &[],
        home: Path::new("/h"),
    })
}

/// The profile `p` of `text`.
fn chosen(text: &str) -> Profile {
    profile(&[&format!("default_permissions = \"p\"\n{text}")])
}

fn fault(text: &str) -> String {
    let default = format!("default_permissions = \"p\"\n{text}");
    match named(&[&default]) {
        Err(error) => error,
        Ok(named) => panic!("it was taken: {named:?}"),
    }
}

fn path(path: &str, access: Access) -> (PathBuf, Access) {
    (PathBuf::from(path), access)
}

#[test]
fn the_documented_example_hides_files_in_a_workspace_that_stays_writable() {
    let grants = grants(
        "[permissions.p.filesystem]\n\
         \":project_roots\" = { \".\" = \"write\", \"**/*.env\" = \"none\" }\n\
         glob_scan_max_depth = 3",
    );
    assert_eq!(grants.paths, [path("/w", Access::Write)]);
    assert_eq!(grants.globs.len(), 1);
    assert_eq!(grants.globs[0].base, Path::new("/w"));
    assert_eq!(grants.globs[0].pattern, "**/*.env");
    assert_eq!(grants.glob_depth.map(std::num::NonZeroU32::get), Some(3));
    assert_eq!(
        grants.reads,
        Reads::Minimal,
        "nothing starts without its libraries"
    );
    assert_eq!(grants.network, ProfileNetwork::Off);
}

#[test]
fn a_whole_profile_reads_as_it_is_written() {
    let grants = grants(
        r#"
[permissions.p]
description = "edit repo, hide env files"
extends = ":workspace"
[permissions.p.workspace_roots]
"~/code/shared" = true
"/srv/asleep" = false
[permissions.p.filesystem]
"/etc/secret" = "deny"
"~/notes" = "read"
[permissions.p.filesystem.":workspace_roots"]
"." = "write"
"docs" = "read"
"docs/drafts/**" = "write"
"**/*.env" = "deny"
[permissions.p.network]
enabled = true
"#,
    );
    assert_eq!(
        grants.paths,
        [
            path("/w", Access::Write),
            path("/etc/secret", Access::Deny),
            path("/h/notes", Access::Read),
            path("/w/docs", Access::Read),
            path("/h/code/shared", Access::Write),
            path("/w/docs/drafts", Access::Write),
            path("/h/code/shared/docs", Access::Read),
            path("/h/code/shared/docs/drafts", Access::Write),
        ]
    );
    let bases: Vec<_> = grants
        .globs
        .iter()
        .map(|glob| glob.base.display().to_string())
        .collect();
    assert_eq!(bases, ["/h/code/shared", "/w"]);
    assert_eq!(
        (grants.reads, grants.tmp),
        (Reads::Everything, Tmp::Private)
    );
    assert_eq!(grants.network, ProfileNetwork::On);
}

#[test]
fn what_is_read_beside_follows_from_root_and_minimal() {
    for (root, minimal, reads) in [
        (Some("read"), None, Reads::Everything),
        (Some("read"), Some("deny"), Reads::Everything),
        (Some("deny"), Some("read"), Reads::Minimal),
        (Some("deny"), None, Reads::Minimal),
        (None, None, Reads::Minimal),
        (None, Some("read"), Reads::Minimal),
        (None, Some("none"), Reads::Nothing),
        (Some("deny"), Some("deny"), Reads::Nothing),
    ] {
        let entry = |name: &str, access: Option<&str>| {
            access
                .map(|access| format!("\"{name}\" = \"{access}\"\n"))
                .unwrap_or_default()
        };
        let text = format!(
            "[permissions.p.filesystem]\n{}{}\"/x\" = \"read\"",
            entry(":root", root),
            entry(":minimal", minimal)
        );
        assert_eq!(grants(&text).reads, reads, "{root:?} {minimal:?}");
    }
}

#[test]
fn tmp_is_private_unless_one_of_its_names_is_denied_or_it_may_only_be_read() {
    for (entries, tmp) in [
        ("\":slash_tmp\" = \"write\"", Tmp::Private),
        ("\":tmpdir\" = \"write\"", Tmp::Private),
        ("\"/tmp\" = \"write\"", Tmp::Private),
        ("\":tmpdir\" = { \".\" = \"write\" }", Tmp::Private),
        (
            "\":slash_tmp\" = \"deny\"\n\":tmpdir\" = \"write\"",
            Tmp::Closed,
        ),
        ("\":slash_tmp\" = \"read\"", Tmp::Closed),
        ("\"/x\" = \"read\"", Tmp::Private),
    ] {
        let text = format!("[permissions.p.filesystem]\n{entries}");
        assert_eq!(grants(&text).tmp, tmp, "{entries}");
    }
}

#[test]
fn at_one_path_deny_beats_write_beats_read_and_a_child_profile_beats_its_parent() {
    let same = grants(
        "[permissions.p.filesystem]\n\"/w\" = \"deny\"\n\":workspace_roots\" = { \".\" = \"write\", \"x/**\" = \"read\", \"x\" = \"write\" }",
    );
    assert_eq!(
        same.paths,
        [path("/w", Access::Deny), path("/w/x", Access::Write)]
    );
    let child = profile(&[
        "default_permissions = \"p\"\n[permissions.base.filesystem]\n\"/a\" = \"deny\"\n\"/b\" = \"write\"\n[permissions.p]\nextends = \"base\"\n[permissions.p.filesystem]\n\"/a\" = \"read\"",
    ]);
    let places = Places {
        workspace: Path::new("/w"),
        added: &[],
        home: Path::new("/h"),
    };
    let given = child.grants(places).paths;
    assert_eq!(given, [path("/a", Access::Read), path("/b", Access::Write)]);
}

#[test]
fn layers_extend_a_profile_key_by_key() {
    let merged = profile(&[
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n[permissions.p.filesystem]\n\"/a\" = \"read\"\n\"/b\" = \"read\"",
        "[permissions.p.filesystem]\n\"/a\" = \"deny\"",
    ]);
    let places = Places {
        workspace: Path::new("/w"),
        added: &[PathBuf::from("/more")],
        home: Path::new("/h"),
    };
    assert_eq!(
        merged.grants(places).paths,
        [
            path("/a", Access::Deny),
            path("/b", Access::Read),
            path("/more", Access::Write),
            path("/w", Access::Write),
        ]
    );
}

#[test]
fn the_built_in_names_are_modes_and_need_no_table() {
    for (name, mode) in [
        (":read-only", SandboxMode::ReadOnly),
        (":workspace", SandboxMode::WorkspaceWrite),
        (":danger-full-access", SandboxMode::DangerFullAccess),
    ] {
        let text = format!("default_permissions = \"{name}\"");
        assert_eq!(named(&[&text]), Ok(Named::Mode(mode)));
    }
}

#[test]
fn the_mode_that_a_profile_comes_nearest_to_is_never_stricter_than_it() {
    let mode = |text: &str| profile(&[&format!("default_permissions = \"p\"\n{text}")]).mode();
    assert_eq!(
        mode("[permissions.p]\nextends = \":read-only\""),
        SandboxMode::ReadOnly
    );
    assert_eq!(
        mode("[permissions.p]\nextends = \":workspace\""),
        SandboxMode::WorkspaceWrite
    );
    assert_eq!(
        mode("[permissions.p.filesystem]\n\"/x\" = \"write\""),
        SandboxMode::WorkspaceWrite
    );
    let mut narrowed = profile(&[
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\nnetwork = { enabled = true }",
    ]);
    narrowed.narrowed_to_reading();
    assert_eq!(narrowed.mode(), SandboxMode::ReadOnly);
    assert_eq!(narrowed.network, ProfileNetwork::Off);
}

#[test]
fn circles_unknown_parents_and_full_access_are_named() {
    let circle = "[permissions.p]\nextends = \"q\"\n[permissions.q]\nextends = \"r\"\n[permissions.r]\nextends = \"p\"";
    insta::assert_snapshot!(fault(circle), @"`permissions.r.extends` in `layer-0`: goes round in a circle: p -> q -> r -> p");
    insta::assert_snapshot!(fault("[permissions.p]\nextends = \"p\""), @"`permissions.p.extends` in `layer-0`: goes round in a circle: p -> p");
    insta::assert_snapshot!(fault("[permissions.p]\nextends = \"gone\""), @"`permissions.p.extends` in `layer-0`: there is no profile `gone`");
    insta::assert_snapshot!(fault("[permissions.p]\nextends = \":danger-full-access\""), @"`permissions.p.extends` in `layer-0`: full access has no walls that another profile could change");
    insta::assert_snapshot!(fault("[permissions.p]\nextends = \":wide\""), @r"
    `permissions.p.extends` in `layer-0`: there is no built-in profile `:wide`
    hint: known: :read-only, :workspace
    ");
    insta::assert_snapshot!(fault("[permissions.q]"), @r"
    `default_permissions` in `layer-0`: there is no profile `p`
    hint: known: :read-only, :workspace, :danger-full-access, q
    ");
}

#[test]
fn what_is_not_as_it_must_be_refuses_and_says_where() {
    let entry = |line: &str| fault(&format!("[permissions.p.filesystem]\n{line}"));
    let nested = |line: &str| {
        fault(&format!(
            "[permissions.p.filesystem.\":workspace_roots\"]\n{line}"
        ))
    };
    for (said, wanted) in [
        (entry("\"docs\" = \"read\""), "is relative"),
        (entry("\"./docs\" = \"read\""), "is relative"),
        (entry("\"/a/../b\" = \"read\""), "has `..` in it"),
        (entry("\"~/../b\" = \"read\""), "has `..` in it"),
        (nested("\"../b\" = \"read\""), "has `..` in it"),
        (nested("\"a/./b\" = \"read\""), "has `.` in it"),
        (nested("\"a/*/../b\" = \"deny\""), "has `.` or `..` in it"),
        (nested("\"/etc\" = \"read\""), "not a path below another"),
        (nested("\"\" = \"read\""), "the path is empty"),
        (nested("\"a\\u0000b\" = \"read\""), "no NUL"),
        (nested("\"*.env\" = \"read\""), "can only deny"),
        (nested("\"src/*\" = \"write\""), "can only deny"),
        (entry("\"/**/*.env\" = \"deny\""), "the whole disk"),
        (entry("\"/*\" = \"deny\""), "the whole disk"),
        (entry("\":root\" = \"write\""), "no wall"),
        (entry("\"/\" = \"write\""), "no wall"),
        (
            entry("\":minimal\" = { \"x\" = \"read\" }"),
            "takes no path below it",
        ),
        (entry("\"/a\" = \"full\""), "`full` is no access"),
        (entry("\"/a\" = true"), "a text is wanted, not boolean"),
        (entry("\"/a\" = [\"read\"]"), "a text is wanted, not array"),
        (entry("glob_scan_max_depth = 0"), "0 is not at least 1"),
        (entry("glob_scan_max_depth = -1"), "-1 is not at least 1"),
        (
            entry("glob_scan_max_depth = \"3\""),
            "a number is wanted, not string",
        ),
        (entry("\":vault\" = \"deny\""), "leave open what it closes"),
        (
            entry("\":vault\" = { \"a\" = \"read\", \"b\" = \"none\" }"),
            "leave open what it closes",
        ),
        (
            fault("[permissions]\np = 1"),
            "a table is wanted, not integer",
        ),
        (
            fault("[permissions.p]\nextend = \":workspace\""),
            "is no key of a profile",
        ),
        (
            fault("[permissions.p]\nextends = 1"),
            "a text is wanted, not integer",
        ),
        (
            fault("[permissions.p.workspace_roots]\n\"shared\" = true"),
            "is relative",
        ),
        (
            fault("[permissions.p.workspace_roots]\n\"/shared\" = \"yes\""),
            "true or false is wanted",
        ),
        (fault("[permissions.\":p\"]"), "cannot begin with `:`"),
        (
            fault("[permissions.p.network]\nenabled = \"yes\""),
            "true or false is wanted",
        ),
        (
            fault("[permissions.p.network]\nmode = \"most\""),
            "is no mode",
        ),
        (
            fault("[permissions.p.network.domains]\n\"a.b\" = \"none\""),
            "neither `allow` nor `deny`",
        ),
        (
            fault("[permissions.p.network.unix_sockets]\n\"/s\" = \"none\""),
            "neither `allow` nor `deny`",
        ),
        (
            fault("[permissions.p.network]\nproxy = true"),
            "no key of a profile's network",
        ),
    ] {
        assert!(
            said.contains(wanted) && said.contains("layer-0"),
            "`{wanted}` is not in: {said}"
        );
    }
}

#[test]
fn a_profiles_network_with_rules_wants_a_door_and_is_nothing_where_the_network_is_off() {
    for (rule, wants) in [
        ("domains = { \"api.example.com\" = \"allow\" }", true),
        ("unix_sockets = { \"/run/x.sock\" = \"allow\" }", true),
        ("mode = \"limited\"", true),
        ("proxy_url = \"http://127.0.0.1:3128\"", true),
        ("mode = \"full\"", false),
        ("enable_socks5 = false", false),
    ] {
        let on = chosen(&format!("[permissions.p.network]\nenabled = true\n{rule}"));
        assert_eq!(
            (on.network, on.wants_door()),
            (ProfileNetwork::On, wants),
            "{rule}"
        );
        let off = chosen(&format!("[permissions.p.network]\n{rule}"));
        assert_eq!(off.network, ProfileNetwork::Off, "{rule}");
    }
    let child = chosen(
        "[permissions.base.network.domains]\n\"a.b\" = \"allow\"\n[permissions.p]\nextends = \"base\"\nnetwork = { enabled = true, domains = { \"c.d\" = \"deny\" } }",
    );
    let domains = child.network_rules["domains"].to_string();
    assert!(
        child.wants_door() && domains.contains("a.b") && domains.contains("c.d"),
        "{domains}"
    );
}

#[test]
fn what_is_skipped_or_bounded_by_nothing_is_told() {
    let text = "default_permissions = \"p\"\n[permissions.p.filesystem]\n\":vault\" = \"read\"\n\":workspace_roots\" = { \"**/*.env\" = \"deny\" }";
    insta::assert_snapshot!(profile(&[text]).notes.join("\n"), @r"
    the profile `p` names places that mean nothing to this version: :vault
    the pattern `**/*.env` of the profile `p` is looked for at any depth; glob_scan_max_depth would bound the search
    ");
    let empty =
        profile(&["default_permissions = \"p\"\n[permissions.p]\ndescription = \"nothing\""]);
    assert_eq!(empty.notes.len(), 1, "{:?}", empty.notes);
}

#[test]
fn a_fault_in_a_file_names_the_line() {
    let folder = std::env::temp_dir().join(format!("auto-review-profile-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("config.toml");
    let text = "# one\ndefault_permissions = \"p\"\n\n[permissions.p.filesystem]\n\"/a\" = \"read\"\n\"/b\" = \"sing\"\n";
    std::fs::write(&file, text).expect("a file");
    let table: toml::Table = text.parse().expect("TOML");
    let said = PermissionTables::default()
        .apply(&table["permissions"], &file.display().to_string())
        .expect_err("no access")
        .to_string();
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(said.contains("config.toml:6`"), "{said}");
    assert!(
        said.starts_with("`permissions.p.filesystem.\"/b\"` in"),
        "{said}"
    );
}
