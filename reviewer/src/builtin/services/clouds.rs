//! Command lines of clouds: what is looked at, and by which word.
//!
//! Apart from [`super::tools`], because their subcommands are too many to be listed: here the resources are listed that may
//! stand before the word that looks, so that no word that acts does. Invariant: the word that looks is the first word that is
//! no resource; what shows environments, passwords or keys is no resource here.

use super::super::listed;
use super::{Line, is_name, only_narrows};

/// Clouds whose command lines read `RESOURCE… VERB [NAME]`.
const CLOUDS: &str = "gcloud az doctl hcloud linode-cli scw oci ibmcloud eksctl nomad aliyun";

/// Resources that may be listed.
const LISTED: &str = "\
    account acr addresses aks app apps appservice artifacts bastion builds certificate cluster clusters compute \
    container containers database databases db deployment disk disks dns domain domains droplet droplets firewall \
    firewall-rule firewall-rules firewalls fip floating-ip forwarding-rules functionapp functions group groups iam image \
    images instance instances is job jobs k8s kubernetes lb linodes load-balancer load-balancers location locations \
    machine-types managed-zones namespace network networks node node-pool node-pools nodegroup nodepool nodes nsg operations \
    plan primary-ip project projects public-ip pubsub rdb record record-sets records redis region regions registry \
    repositories reserved-ip resource reserved-ips revisions roles routers rg run server server-type servers service services \
    size sizes snapshot snapshots sql ssl-cert storage subnet subnets subscriptions target topics version versions vm \
    vms vnet volume volumes vpc vpcs webapp zone zones";
/// Of these, those of which one may be looked at: it has no environment, no password and no key. (An instance of gcloud has
/// metadata, a cluster the key of its master.)
const SHOWN: &str = "\
    addresses aks compute disk disks dns domain domains droplet droplets firewall firewall-rules \
    firewalls floating-ip group groups image images instance instances lb linodes load-balancer load-balancers \
    managed-zones network networks node node-pool node-pools nodes nsg operations plan primary-ip projects project \
    public-ip record-sets region regions reserved-ip routers server server-type servers snapshot snapshots subnet subnets \
    vm vnet volume volumes vpc vpcs zone zones";
const OPTIONS: (&str, &str) = (
    "--no-header --no-headers --wide --all-regions --no-color",
    "--project --region:~ --zone:~ --location:~ --filter:? --filters:? --limit:# --format:| --output:table|wide|name|tsv|human \
     -o:table|wide|name|tsv|human -g --resource-group --subscription --sort-by:? --page-size:#",
);

/// The same for what may be looked at whole.
const WHOLE: (&str, &str) = (
    "--no-color",
    "--project --region:~ --zone:~ --location:~ --filter:? --filters:? --limit:# --format:json|yaml --output:json|yaml \
     -o:json|yaml -g --resource-group --subscription --page-size:#",
);

/// Services of AWS of which lists and descriptions show no environment, no user data and no key.
const AWS: &str = "\
    ec2 rds eks elb elbv2 autoscaling cloudwatch logs route53 dynamodb sqs sns ecr acm cloudfront efs elasticache \
    s3api cloudformation organizations ecs";
const NOT_OF_AWS: &str = "\
    describe-task-definition describe-tasks describe-launch-template-versions describe-instance-attribute \
    describe-user-data describe-export-tasks describe-launch-configurations describe-spot-instance-requests \
    describe-spot-fleet-requests describe-scheduled-instances describe-import-image-tasks describe-conversion-tasks \
    describe-bundle-tasks describe-vpn-connections describe-verified-access-trust-providers list-distributions";
const AWS_OPTIONS: (&str, &str) = (
    "--no-paginate --no-cli-pager --recursive --human-readable --summarize",
    "--query:? --output:json|yaml|yaml-stream|text|table --region:~ --profile --max-items:# --page-size:# --filters:? --filter:? --instance-ids --group-ids --names \
     --cluster --clusters --cluster-name --name --stack-name --log-group-name --log-group-name-prefix --table-name \
     --db-instance-identifier --auto-scaling-group-names --vpc-ids --subnet-ids --volume-ids --image-ids --owners \
     --repository-name --bucket --since --hosted-zone-id --services",
);

/// `gcloud compute instances list`, `az vm list`, `aws ec2 describe-instances`.
pub(super) fn looks(program: &str, words: &[&str]) -> bool {
    let count = words
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .count();
    let (subcommands, rest) = words.split_at(count);
    if program == "aws" {
        return of_aws(subcommands, rest);
    }
    if !listed(CLOUDS, program) {
        return false;
    }
    let verb = subcommands
        .iter()
        .position(|word| !listed(LISTED, word))
        .unwrap_or(subcommands.len());
    let (before, from) = subcommands.split_at(verb);
    // What an instance is given to begin with may hold anything.
    let with_metadata = matches!(program, "gcloud" | "oci" | "aliyun")
        && before
            .iter()
            .any(|word| matches!(*word, "instance" | "instances"));
    // Told whole, whatever the options.
    if with_metadata && program == "oci" {
        return false;
    }
    let shown = || !with_metadata && before.iter().all(|word| listed(SHOWN, word));
    let narrows = narrow(OPTIONS, rest) || (shown() && narrow(WHOLE, rest));
    if !narrows {
        return false;
    }
    match (program, before, from) {
        ("gcloud", [], ["config" | "auth", "list"]) => true,
        ("az", ["account"], ["show"]) => true,
        (_, [], _) => false,
        (_, _, ["list" | "ls"]) => true,
        ("nomad", ["job" | "node" | "deployment"], ["status"]) => true,
        ("nomad", ["job" | "node" | "deployment"], ["status", name]) => is_name(name),
        (_, _, ["describe" | "show" | "get"]) => shown(),
        (_, _, ["describe" | "show" | "get", name]) => shown() && is_name(name),
        _ => false,
    }
}

fn of_aws(subcommands: &[&str], rest: &[&str]) -> bool {
    narrow(AWS_OPTIONS, rest)
        && match subcommands {
            ["s3", "ls", places @ ..] => places.iter().all(|place| is_bucket(place)),
            ["sts", "get-caller-identity"] => true,
            ["logs", "tail", group] => is_name(group.trim_start_matches('/')),
            ["iam", verb] => {
                verb.starts_with("list-") && !verb.contains("key") && !verb.contains("credential")
            }
            ["ecs", verb] if verb.starts_with("describe-") => {
                matches!(*verb, "describe-clusters" | "describe-services")
            }
            // Parameters, outputs and properties hold what a template was given.
            ["cloudformation", verb] => matches!(
                *verb,
                "describe-stack-resources" | "list-stacks" | "list-stack-resources"
            ),
            [service, verb] => {
                listed(AWS, service)
                    && (verb.starts_with("describe-") || verb.starts_with("list-"))
                    && !listed(NOT_OF_AWS, verb)
                    && is_name(verb)
            }
            _ => false,
        }
}

/// A bucket alone: what is asked for in it goes to whoever owns it.
fn is_bucket(place: &str) -> bool {
    let name = place
        .strip_prefix("s3://")
        .map(|name| name.trim_end_matches('/'));
    name.is_some_and(|name| {
        (3..=63).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    })
}

fn narrow((flags, valued): (&str, &str), rest: &[&str]) -> bool {
    // What follows an option with several values is more of them.
    only_narrows(&Line { flags, valued }, rest, is_name)
}
