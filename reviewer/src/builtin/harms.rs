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
