//! What the tools of services destroy, publish or open.
//!
//! Apart from [`super::services`], which tells the forms that only look: here a word is enough. Invariant: floors, and
//! denials only where a whole database goes or a container gets the whole machine.

use exec_policy::{Command, Word};

use super::deny::{add, spelled};
use super::sql::{self, Harm};
use super::{Finding, Rule, listed};

/// Tools that speak to a service.
const TOOLS: &str = "\
    kubectl oc helm docker podman aws gcloud gsutil az doctl hcloud linode-cli eksctl flyctl fly heroku \
    vercel netlify wrangler firebase supabase gh glab terraform tofu pulumi vagrant nomad consul vault \
    redis-cli mongosh mongo rabbitmqctl stripe bq s3cmd mc rclone restic borg tmutil virsh ansible \
    ansible-playbook";
/// Words by which they remove, replace or stop.
const DESTROYS: &str = "\
    delete destroy rm rb remove terminate-instances prune down uninstall purge drop flushall flushdb \
    drain scale taint apply replace reset forget deletelocalsnapshots dropdatabase() stop rollback \
    restart rollout refunds refund edit force-unlock state disable";
/// Words by which they publish, deploy or open to others.
const PUBLISHES: &str = "\
    deploy merge release publish upgrade promote visibility update-function-code deploy-key \
    collaborators add-iam-policy-binding attach-user-policy attach-role-policy create-access-key \
    put-bucket-policy put-bucket-acl authorize-security-group-ingress clusterrolebinding protection \
    run-instances hooks gist";

/// Denials and floors of a command's service.
pub(super) fn command(command: &Command, found: &mut Vec<Finding>) {
    let program = command.program().unwrap_or_default();
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    for statement in sql::statements(program, &words) {
        match sql::harm(statement) {
            Some(Harm::Whole) => add(found, Rule::DestroysDatabase, statement),
            Some(Harm::Part) => add(found, Rule::DestroysService, statement),
            None => {}
        }
    }
    if gives_the_machine(program, &words) {
        add(found, Rule::WeakensProtection, spelled(command));
    }
    if is_privileged(program, &words) {
        add(found, Rule::Privileged, spelled(command));
    }
    if copies_to_cloud(program, &words) {
        add(found, Rule::SendsFile, spelled(command));
    }
    if shows_environment(program, &words) {
        add(found, Rule::NearCredentials, spelled(command));
    }
    if changes_settings(program, &words) {
        add(found, Rule::WritesSettings, spelled(command));
    }
    if matches!(program, "dropdb" | "dropuser" | "mysqladmin") {
        add(found, Rule::DestroysService, spelled(command));
    }
    if releases(program, &words) {
        add(found, Rule::Publishes, spelled(command));
    }
    if !listed(TOOLS, program) || super::services::looks(command) {
        return;
    }
    let any = |wanted: &str| {
        words.iter().any(|word| {
            let lower = word.trim_start_matches('-').to_ascii_lowercase();
            listed(wanted, &lower)
                || wanted.split_whitespace().any(|verb| {
                    verb.len() > 4 && lower.split(['/', '=', '.']).any(|part| part == verb)
                })
                || ["delete-", "terminate-", "remove-", "revoke-"]
                    .iter()
                    .any(|start| lower.starts_with(start))
        })
    };
    if any(DESTROYS) {
        add(found, Rule::DestroysService, spelled(command));
    } else if any(PUBLISHES) || command.arguments().iter().any(Word::has_unknown) {
        add(found, Rule::Publishes, spelled(command));
    }
}

/// A file or folder of this machine that goes to a bucket, or a bucket's content that goes on.
fn copies_to_cloud(program: &str, words: &[&str]) -> bool {
    let bucket = |word: &&&str| {
        ["s3://", "gs://", "az://", "b2://", "oss://"]
            .iter()
            .any(|start| word.starts_with(start))
    };
    let copies = words.iter().any(|word| {
        matches!(
            *word,
            "cp" | "mv" | "sync" | "rsync" | "copy" | "move" | "upload"
        )
    });
    let target_last = words.iter().rev().find(|word| !word.starts_with('-'));
    match program {
        "aws" | "gsutil" | "gcloud" | "s5cmd" | "s3cmd" | "mc" => {
            copies && target_last.as_ref().is_some_and(bucket)
                || words.contains(&"put-object")
                || words.iter().any(|word| word.starts_with("public-read"))
        }
        "az" => copies && words.contains(&"upload"),
        "rclone" => copies,
        _ => false,
    }
}

/// The environment of a running service, which holds its secrets.
fn shows_environment(program: &str, words: &[&str]) -> bool {
    let inside = match program {
        "docker" | "podman" | "nerdctl" => {
            words.contains(&"exec") || words.starts_with(&["compose", "exec"])
        }
        "kubectl" | "oc" => words.contains(&"exec"),
        "heroku" => return words.starts_with(&["config"]),
        _ => false,
    };
    inside
        && words
            .iter()
            .any(|word| matches!(*word, "env" | "printenv" | "export" | "set"))
}

/// Settings of package tools, which decide where code comes from and who is believed.
fn changes_settings(program: &str, words: &[&str]) -> bool {
    matches!(
        program,
        "npm" | "yarn" | "pnpm" | "pip" | "pip3" | "conda" | "bundle" | "gem"
    ) && words.iter().any(|word| matches!(*word, "config" | "set"))
        && words.iter().any(|word| {
            matches!(
                *word,
                "set" | "delete" | "edit" | "unset" | "--add" | "--global"
            )
        })
}

/// A container that gets the whole machine: its root, or all of its rights.
fn gives_the_machine(program: &str, words: &[&str]) -> bool {
    if !matches!(program, "docker" | "podman" | "nerdctl")
        || !words
            .iter()
            .any(|word| matches!(*word, "run" | "create" | "exec"))
    {
        return false;
    }
    words.iter().any(|word| {
        let mount = word
            .trim_start_matches("-v")
            .trim_start_matches("--volume=");
        mount.starts_with("/:") || word.contains("source=/,") || word.contains("src=/,")
    })
}

/// A container with more rights than a container has.
fn is_privileged(program: &str, words: &[&str]) -> bool {
    matches!(program, "docker" | "podman" | "nerdctl")
        && words.iter().any(|word| {
            matches!(
                *word,
                "--privileged" | "--pid=host" | "--net=host" | "--network=host" | "--ipc=host"
            ) || word.starts_with("--cap-add")
                || word.starts_with("--device")
                || word.contains("docker.sock")
                || word.trim_start_matches("-v").starts_with("/etc:")
        })
}

/// Registries of packages.
fn releases(program: &str, words: &[&str]) -> bool {
    let first = words
        .iter()
        .find(|word| !word.starts_with('-'))
        .copied()
        .unwrap_or_default();
    match program {
        "npm" | "yarn" | "pnpm" | "bun" => matches!(
            first,
            "publish" | "unpublish" | "deprecate" | "owner" | "token" | "access"
        ),
        "cargo" => {
            matches!(first, "publish" | "yank" | "owner" | "login") && !words.contains(&"--dry-run")
        }
        "twine" => first == "upload",
        "gem" => matches!(first, "push" | "yank" | "owner"),
        "poetry" | "uv" | "flit" | "hatch" => first == "publish",
        "ngrok" | "cloudflared" | "lt" | "localtunnel" => true,
        "docker" | "podman" => first == "push",
        _ => false,
    }
}
