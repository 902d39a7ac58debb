//! Whole stores that a service or the machine would lose: databases, buckets, namespaces, volumes, snapshots, accounts of
//! a cloud.
//!
//! Apart from the floors, because here a word of the user makes the difference: who orders a removal is asked again,
//! who orders nothing of the kind is refused. Invariant: forms, each with its program and its words; an option that only
//! shows what would happen takes the form away.

use exec_policy::{Command, Role};

use super::super::Rule;
use super::super::listed;
use super::{Found, add, spelled};

/// What a cloud's tool deletes whole.
const GROUPS: &str = "\
    projects project sql instances instance clusters cluster group vm vms disk disks database databases db \
    bucket buckets snapshot snapshots droplet volume kubernetes app apps repo service-accounts keyvault";

/// Denials of what destroys a whole store.
pub(super) fn stores(command: &Command, found: &mut Found) {
    if command.role() != Role::Itself {
        return;
    }
    let program = command.program().unwrap_or_default();
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    if !only_shows(program, &words) && destroys(program, &words) {
        add(found, Rule::DestroysStore, spelled(command));
    }
}

/// Whether it is told to show what it would do, and nothing takes that back: of two the last one counts.
pub(in crate::builtin) fn only_shows(program: &str, words: &[&str]) -> bool {
    let words = words.split(|word| *word == "--").next().unwrap_or_default();
    let dry = |word: &&&str| {
        word.starts_with("--dry-run")
            || word.starts_with("--dryrun")
            || word.starts_with("--no-dry")
    };
    let mut said = words.iter().filter(dry);
    let once = said.next().is_some_and(|word| {
        matches!(
            *word,
            "--dry-run" | "--dry-run=client" | "--dry-run=server" | "--dryrun"
        )
    }) && said.next().is_none();
    // As the value of an option it is none.
    let helps = match words {
        [.., before, last] => {
            !before.starts_with('-') && matches!(*last, "--help" | "-h" | "--what-if")
        }
        _ => false,
    };
    // To these `-h` names a host.
    let names_host = matches!(program, "redis-cli" | "dropdb" | "mongosh" | "mongo");
    (once || helps) && !names_host
}

fn destroys(program: &str, words: &[&str]) -> bool {
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    let text = || words.join(" ").to_ascii_lowercase();
    match program {
        "terraform" | "tofu" | "pulumi" | "terragrunt" | "vagrant" => has(&["destroy", "-destroy"]),
        "kubectl" | "oc" => {
            has(&["delete"])
                && has(&[
                    "namespace",
                    "namespaces",
                    "ns",
                    "pvc",
                    "pv",
                    "project",
                    "--all",
                    "-A",
                    "persistentvolume",
                    "persistentvolumeclaim",
                ])
        }
        "helm" => has(&["uninstall", "delete"]),
        "aws" => of_aws(words),
        "gcloud" | "az" | "doctl" | "hcloud" | "scw" | "linode-cli" | "oci" | "flyctl" | "fly" => {
            has(&["delete", "destroy"]) && words.iter().any(|word| listed(GROUPS, word))
        }
        "gsutil" => has(&["rb"]) || (has(&["rm"]) && has(&["-r", "-R"])),
        "eksctl" => has(&["delete"]),
        "gh" | "glab" => words.starts_with(&["repo", "delete"]),
        "heroku" => has(&["apps:destroy", "pg:reset", "addons:destroy"]),
        "docker" | "podman" => of_containers(words),
        "docker-compose" => has(&["down"]) && has(&["-v", "--volumes"]),
        "dropdb" => true,
        "mongosh" | "mongo" => {
            let text = text();
            [
                "dropdatabase(",
                ".drop(",
                "deletemany({})",
                "remove({})",
                "dropcollection(",
                "dropallusers",
            ]
            .iter()
            .any(|part| text.contains(part))
        }
        "redis-cli" => text().contains("flushall") || text().contains("flushdb"),
        "zfs" | "zpool" => has(&["destroy"]),
        "lvremove" | "vgremove" | "pvremove" => true,
        "btrfs" => words.starts_with(&["subvolume", "delete"]),
        "vssadmin" | "wbadmin" => has(&["delete"]),
        "tmutil" => has(&["delete", "deletelocalsnapshots"]),
        "restic" => has(&["forget"]) && has(&["--prune"]),
        "borg" => has(&["delete"]),
        _ => false,
    }
}

fn of_aws(words: &[&str]) -> bool {
    match words {
        ["s3", "rb", rest @ ..] => rest.contains(&"--force"),
        ["s3", "rm", rest @ ..] => rest.contains(&"--recursive"),
        [_, verb, ..] => {
            matches!(
                *verb,
                "delete-db-instance"
                    | "delete-db-cluster"
                    | "delete-table"
                    | "delete-stack"
                    | "delete-cluster"
                    | "delete-file-system"
                    | "delete-user-pool"
                    | "delete-hosted-zone"
                    | "delete-backup-vault"
                    | "terminate-instances"
                    | "delete-volume"
                    | "delete-snapshot"
                    | "schedule-key-deletion"
            )
        }
        _ => false,
    }
}

fn of_containers(words: &[&str]) -> bool {
    let has = |wanted: &str| words.contains(&wanted);
    match words {
        ["system", "prune", ..] => has("--volumes"),
        ["volume", "rm" | "prune", ..] => true,
        ["compose", rest @ ..] => rest.contains(&"down") && (has("-v") || has("--volumes")),
        _ => false,
    }
}
