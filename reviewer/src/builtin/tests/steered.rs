//! What a workspace could steer: repositories, services' tools and variables that obey files of the workspace.

use serde_json::json;

use super::{Rule, Verdict, action, judge, run};

/// An action outside the walls in a workspace root whose repository runs nothing of its own.
fn in_a_quiet_repository(script: &str) -> Rule {
    judge(json!({
        "action": { "tool": "exec_command", "command": ["bash", "-c", script], "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated" },
        "environment": { "host": "h", "user": "u", "cwd": "/home/u/code/app", "workspace_roots": ["/home/u/code/app"],
                         "sandbox_mode": "workspace-write", "approval_policy": "on-request" },
        "evidence": [{ "kind": "repository", "obtained": "git", "value": {
            "root": "/home/u/code/app", "git_dir": "/home/u/code/app/.git", "common_dir": "/home/u/code/app/.git", "branch": "b",
            "hooks": [], "settings_that_run_programs": [], "settings_that_redirect": [], "settings_not_known": [],
            "attributes_that_name_drivers": [], "nested_repositories": 0, "remotes": ["origin"] } }],
    }))
    .rule()
}

#[test]
fn after_a_call_of_git_that_changes_something_no_other_is_allowed() {
    for script in [
        "git add -A",
        "git status -s",
        "git status -s && git diff --stat",
        "git commit -am x",
        "git fetch",
    ] {
        assert_eq!(in_a_quiet_repository(script), Rule::GitQuiet, "{script}");
    }
    for script in [
        "git add -A && git status -s",
        "git status -s && git add -A",
        "git add -A; git commit -m x",
        "git add n; git add -A",
        "git checkout -b x && git -c safe.bareRepository=explicit show",
        "git pull --ff-only && git log",
        "for i in 1 2; do git add -A; done",
        "while true; do git add -A; done",
        "git fetch elsewhere",
    ] {
        assert_ne!(in_a_quiet_repository(script), Rule::GitQuiet, "{script}");
        assert_ne!(in_a_quiet_repository(script), Rule::GitReads, "{script}");
    }
}

#[test]
fn the_history_is_read_only_where_the_repository_runs_nothing() {
    for script in [
        "git -c safe.bareRepository=explicit show",
        "git -c safe.bareRepository=explicit log --oneline",
        "git -c safe.bareRepository=explicit rev-list HEAD",
        "git -c safe.bareRepository=explicit cat-file -p HEAD",
    ] {
        assert_eq!(in_a_quiet_repository(script), Rule::GitReads, "{script}");
        assert!(
            matches!(run(script, "require_escalated"), Verdict::Undecided { .. }),
            "{script}"
        );
    }
}

#[test]
fn settings_that_a_variable_places_in_the_workspace_are_left_to_others() {
    let rule = |value: &str| {
        action(json!({
            "tool": "exec_command", "command": ["kubectl", "get", "pods"], "cwd": "/home/u/code/app", "sandbox_permissions": "require_escalated",
            "env": [{ "name": "KUBECONFIG", "value": value }],
        }))
        .rule()
    };
    for value in ["/home/u/.kube/config", "/home/u/.kube/a:/etc/kube/b", ""] {
        assert_eq!(rule(value), Rule::AsksService, "{value}");
    }
    for value in [
        "kubeconfig",
        "./k",
        "/home/u/code/app/k",
        "/home/u/.kube/config:/home/u/code/app/k",
        "/home/u/code/other/../app/k",
    ] {
        assert_ne!(rule(value), Rule::AsksService, "{value}");
    }
}

#[test]
fn a_service_s_tool_that_obeys_files_of_the_workspace_is_left_to_others() {
    let undecided = |script: &str| {
        assert!(
            matches!(run(script, "require_escalated"), Verdict::Undecided { .. }),
            "{script}"
        );
    };
    for script in [
        "npm view git+https://127.0.0.1:9/x/y.git",
        "npm info git+ssh://git@127.0.0.1/x.git",
        "npm view left-pad",
        "npm ls",
        "npm ping",
        "npm config get registry",
        "docker compose ps",
        "docker --context x compose ls",
        "az vm list",
        "terraform version",
        "vercel ls",
        "fly status",
        "heroku ps",
        "pip freeze",
        "sqlite3 app.db .tables",
        "brew info ./x.rb",
        "brew info some/tap/formula",
        "brew deps x.rb",
        "apt list -o=Dir::Bin::dpkg=/home/u/code/app/pwn.sh",
        "apt-cache show -c=apt.conf",
        "apt show ./x.deb",
        "pip index versions x --index-url=http://h",
        "gh api https://git.example/x",
        "cd sub && gh pr list",
        "aws ec2 describe-instances --filters file:///home/u/x",
        "mvn --version",
        "hg --version",
        "rails --version",
        "dotnet --version",
        "ansible --version",
    ] {
        undecided(script);
    }
    for script in [
        "gh pr list",
        "kubectl get pods",
        "docker ps",
        "aws s3 ls s3://bucket/",
        "pip list",
        "apt list --installed",
        "node --version",
        "git --version",
    ] {
        assert!(
            matches!(run(script, "require_escalated"), Verdict::Allow { .. }),
            "{script}"
        );
    }
}
