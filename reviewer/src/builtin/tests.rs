use protocol::RiskLevel;
use serde_json::{Value, json};

use super::{BuiltIn, Rule, Verdict};
use crate::reviewer::tests::escalation;

mod floors;
mod steered;
mod swallowed;

fn judge(fields: Value) -> Verdict {
    BuiltIn::new().judge(&escalation(fields))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "called with a literal everywhere"
)]
fn action(action: Value) -> Verdict {
    judge(json!({ "action": action }))
}

fn run(script: &str, permissions: &str) -> Verdict {
    action(
        json!({ "tool": "exec_command", "command": ["bash", "-c", script], "cwd": "/home/u/code/app", "sandbox_permissions": permissions }),
    )
}

#[test]
fn inside_the_walls_what_only_looks_is_allowed_and_what_destroys_is_still_denied() {
    assert_eq!(run("git status", "use_default").rule(), Rule::InsideWalls);
    assert_eq!(
        run("cat ~/.ssh/id_rsa", "use_default").rule(),
        Rule::ReadsCredentials
    );
    assert_eq!(run("rm -rf /", "use_default").rule(), Rule::RemovesRoot);
    assert!(matches!(
        run("make", "use_default"),
        Verdict::Undecided { .. }
    ));
}

#[test]
fn a_workspace_in_a_folder_of_the_machine_is_a_workspace() {
    let rule = |command: Value| {
        judge(json!({
            "action": { "tool": "exec_command", "command": command, "cwd": "/srv/app", "sandbox_permissions": "require_escalated" },
            "environment": { "host": "h", "user": "u", "cwd": "/srv/app", "workspace_roots": ["/srv/app"],
                             "sandbox_mode": "workspace-write", "approval_policy": "on-request" },
        }))
        .rule()
    };
    assert_eq!(
        rule(json!(["rm", "-rf", "target"])),
        Rule::RemovesBuildOutput
    );
    assert_eq!(rule(json!(["rm", "-rf", "."])), Rule::RemovesRoot);
    assert_eq!(rule(json!(["rm", "-rf", "/srv/app"])), Rule::RemovesRoot);
    assert_eq!(rule(json!(["rm", "-rf", "/srv/other"])), Rule::RemovesRoot);
}

#[test]
fn without_walls_nothing_is_allowed() {
    assert_eq!(
        run("ls", "require_unconfined"),
        Verdict::Undecided {
            rule: Rule::Unconfined,
            floor: RiskLevel::Medium
        }
    );
    assert_eq!(
        run("rm -rf /", "require_unconfined").rule(),
        Rule::RemovesRoot
    );
}

#[test]
fn a_command_with_a_terminal_or_an_input_of_its_own_is_not_allowed() {
    let with = |field: &str, value: Value| {
        let mut action = json!({ "tool": "exec_command", "command": ["ls"], "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" });
        action[field] = value;
        judge(json!({ "action": action }))
    };
    assert!(matches!(with("tty", json!(false)), Verdict::Allow { .. }));
    assert!(matches!(
        with("tty", json!(true)),
        Verdict::Undecided { .. }
    ));
    assert!(matches!(
        with("stdin", json!({ "bytes": 1, "sha256": "0".repeat(64) })),
        Verdict::Undecided { .. }
    ));
}

#[test]
fn added_permissions_are_judged_with_the_command() {
    let with = |permissions: Value| {
        action(
            json!({ "tool": "exec_command", "command": ["mkdir", "/data/x"], "cwd": "/home/u/code/app", "sandbox_permissions": "with_additional_permissions", "additional_permissions": permissions }),
        )
    };
    assert_eq!(
        with(json!({ "write": ["/home/u/.ssh/authorized_keys"] })).rule(),
        Rule::Persistence
    );
    assert_eq!(with(json!({ "network": true })).rule(), Rule::WantsNetwork);
    assert_eq!(
        with(json!({ "read": ["/home/u/.codex"] })).rule(),
        Rule::TampersReviewer
    );
    assert_eq!(with(json!({})).rule(), Rule::MakesNew);
}

#[test]
fn a_neighbour_of_a_workspace_among_temporary_files_is_somebodys() {
    let at = |root: &str, path: &str| {
        judge(json!({
            "action": { "tool": "exec_command", "command": ["rm", "-rf", path], "cwd": root, "sandbox_permissions": "require_escalated" },
            "environment": { "host": "box", "user": "u", "cwd": root, "workspace_roots": [root], "sandbox_mode": "workspace-write", "approval_policy": "on-request" },
        }))
        .rule()
    };
    assert_eq!(
        at("/tmp/demo/work", "/tmp/demo/precious"),
        Rule::RemovesTreeOutside
    );
    assert_eq!(
        at("/tmp/demo/work", "../precious"),
        Rule::RemovesTreeOutside
    );
    assert_eq!(at("/tmp/demo/work", "/tmp/demo"), Rule::RemovesRoot);
    assert_eq!(at("/home/u/code/app", "/tmp/x"), Rule::RemovesTemporary);
    assert_eq!(
        at("/home/u/code/app", "/home/u/old"),
        Rule::RemovesTreeOutside
    );
    assert_eq!(at("/home/u/code/app", "src"), Rule::RemovesWorkspaceTree);
}

#[test]
fn the_home_is_the_environments_where_it_says_so() {
    let with = |home: &str| {
        action(json!({
            "tool": "exec_command", "command": ["bash", "-c", "cat ~/.aws/credentials"], "cwd": "/w", "sandbox_permissions": "require_escalated",
            "env": [{ "name": "HOME", "value": home }],
        }))
        .rule()
    };
    assert_eq!(with("/data/people/u"), Rule::ReadsCredentials);
}

#[test]
fn a_patch_is_judged_by_the_files_it_names_and_those_in_its_text() {
    let patch = |files: &[&str], text: &str| {
        action(json!({ "tool": "apply_patch", "cwd": "/home/u/code/app", "files": files, "patch": text })).rule()
    };
    assert_eq!(
        patch(&["/home/u/.bashrc"], "*** Update File: /home/u/.bashrc\n"),
        Rule::Persistence
    );
    assert_eq!(
        patch(
            &["/home/u/code/app/a"],
            "*** Add File: ../../.ssh/authorized_keys\n"
        ),
        Rule::Persistence
    );
    assert_eq!(
        patch(&["/home/u/code/app/a"], "--- a/x\n+++ /etc/sudoers.d/x\n"),
        Rule::WeakensProtection
    );
    assert_eq!(
        patch(
            &["/home/u/code/app/a"],
            "*** Move to: /home/u/.codex/config.toml\n"
        ),
        Rule::TampersReviewer
    );
    assert_eq!(
        patch(&["/home/u/code/app/.git/hooks/pre-commit"], ""),
        Rule::WritesSettings
    );
    assert_eq!(
        patch(
            &["/home/u/code/lib/a"],
            "*** Update File: /home/u/code/lib/a\n"
        ),
        Rule::WritesOutside
    );
    assert_eq!(
        patch(&["/home/u/code/app/a"], "*** Update File: a\n"),
        Rule::NothingKnown
    );
}

#[test]
fn hosts_have_floors_and_metadata_services_are_denied() {
    let host = |host: &str| {
        action(json!({ "tool": "network_access", "host": host, "port": 443, "protocol": "https" }))
            .rule()
    };
    assert_eq!(host("169.254.169.254"), Rule::MetadataService);
    assert_eq!(host("Metadata.Google.Internal."), Rule::MetadataService);
    for private in [
        "10.1.2.3",
        "127.0.0.1",
        "::1",
        "fe80::1",
        "printer",
        "git.corp",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(host(private), Rule::PrivateNetwork, "{private}");
    }
    assert_eq!(host("crates.io"), Rule::ReachesPublic);
    assert_eq!(host("x.example"), Rule::ReachesNetwork);
    assert_eq!(host("abc.webhook.site"), Rule::SendsToCollector);
}

#[test]
fn grants_and_tools_are_never_allowed_here() {
    let grant = |permissions: Value| {
        action(json!({ "tool": "request_permissions", "permissions": permissions })).rule()
    };
    assert_eq!(grant(json!({ "write": ["/"] })), Rule::WeakensProtection);
    assert_eq!(grant(json!({ "write": ["/etc"] })), Rule::WeakensProtection);
    assert_eq!(grant(json!({ "write": ["/home/u"] })), Rule::WritesSystem);
    assert_eq!(
        grant(json!({ "write": ["/home/u/.config/systemd/user"] })),
        Rule::Persistence
    );
    assert_eq!(
        grant(json!({ "write": ["/data/out"] })),
        Rule::WritesOutside
    );
    assert_eq!(
        grant(json!({ "read": ["/home/u/.ssh"] })),
        Rule::NearCredentials
    );
    assert_eq!(grant(json!({ "network": true })), Rule::WantsNetwork);
    assert_eq!(
        action(
            json!({ "tool": "mcp_tool_call", "server": "s", "tool_name": "t", "arguments": {} })
        )
        .rule(),
        Rule::SideEffects
    );
}

#[test]
fn what_the_users_words_ask_for_is_not_given_for_a_whole_session() {
    let of = |scope: &str| {
        judge(json!({
            "action": { "tool": "request_permissions", "permissions": { "write": ["/home/u/code/docs"] }, "scope": scope },
            "trigger": { "kind": "permission_requested" },
            "transcript": { "complete": true, "entries": [
                { "n": 1, "author": "user", "trust": "trusted", "text": "also update the pages in /home/u/code/docs" },
            ] },
        }))
    };
    assert!(matches!(of("turn"), Verdict::Allow { .. }));
    assert!(matches!(of("session"), Verdict::Undecided { .. }));
}

fn said(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow { rationale, .. } | Verdict::Deny { rationale, .. } => rationale,
        Verdict::Undecided { .. } => String::new(),
    }
}

#[test]
fn a_rationale_says_what_and_why_and_shows_no_control_characters() {
    let words = ["rm", "-rf", "/home/u/x\u{1b}[2J"];
    let verdict = action(
        json!({ "tool": "exec_command", "command": words, "cwd": "/w", "sandbox_permissions": "require_escalated" }),
    );
    let Verdict::Deny { rationale, .. } = verdict else {
        panic!("not denied: {verdict:?}")
    };
    assert!(!rationale.contains('\u{1b}'), "{rationale}");
    insta::assert_snapshot!(said(run("rm -rf ../precious", "require_escalated")), @"`../precious`: Removes a whole tree outside the workspace. Remove single named files, or ask the user to remove the folder.");
    insta::assert_snapshot!(said(run("mkdir ../x", "require_escalated")), @"`bash -c mkdir ../x` only makes new, empty or copied files in a plain folder, and replaces nothing.");
}

#[test]
fn without_walls_only_questions_are_allowed() {
    assert_eq!(
        run("podman info", "require_unconfined").rule(),
        Rule::AsksService
    );
    for script in [
        "podman info; ls",
        "podman info && ./x",
        "sudo podman info",
        "podman info > /tmp/x",
        "cat /etc/hostname",
        "curl -s https://crates.io",
        "mkdir ../x",
    ] {
        assert!(
            matches!(run(script, "require_unconfined"), Verdict::Undecided { .. }),
            "{script}"
        );
    }
}

#[test]
fn within_widened_walls_the_workspace_may_be_read() {
    let with = |script: &str, permissions: Value| {
        action(
            json!({ "tool": "exec_command", "command": ["bash", "-c", script], "cwd": "/home/u/code/app", "sandbox_permissions": "with_additional_permissions", "additional_permissions": permissions }),
        )
        .rule()
    };
    let beside = || json!({ "read": ["/home/u/code/lib"] });
    assert_eq!(with("diff -ru src ../lib/src", beside()), Rule::Looks);
    assert_eq!(
        with("docker ps", json!({ "network": true })),
        Rule::AsksService
    );
    for script in [
        "cat .env",
        "cat id_rsa",
        "cat ~/.ssh/id_rsa",
        "diff -ru src ../lib/src > out",
        "cat src/a && ./x",
    ] {
        assert_ne!(with(script, beside()), Rule::Looks, "{script}");
    }
    assert_ne!(
        with("cat src/a", json!({ "read": ["/home/u"] })),
        Rule::Looks
    );
    assert_ne!(
        with("diff src ../lib", json!({ "read": ["/home/u/.ssh"] })),
        Rule::Looks
    );
    // With no walls a link in the workspace may lead anywhere.
    assert!(matches!(
        run("diff -ru src ../lib/src", "require_escalated"),
        Verdict::Undecided { .. }
    ));
}

#[test]
fn a_word_is_listed_whole_or_not_at_all() {
    let list = "git\n    git-lfs  hg svn";
    for word in ["git", "git-lfs", "hg", "svn"] {
        assert!(super::listed(list, word), "{word}");
    }
    for word in ["", " ", "gi", "it", "lfs", "hg svn", "sv", "gitgit", "git-"] {
        assert!(!super::listed(list, word), "{word}");
    }
}
