//! Every row of the tables of services: what it allows, and what no row may.

use exec_policy::Reading;

use super::looks;
use super::tools::{Forms, Operands, TOOLS};

/// Whether `words` only look, as one command.
fn allows(words: &[&str]) -> bool {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let reading = Reading::of_argv(&words);
    let [command] = reading.commands() else {
        panic!("one command: {words:?}");
    };
    looks(command)
}

/// What no tool's form takes for a word: an option that is not written, a file, an address, and what speaks of secrets.
const NEVER: &[&str] = &[
    "--anything=x",
    "--anything",
    "-Z",
    "-",
    "--config=x.toml",
    "--output-file=x",
    "--server=evil.example",
    "./x",
    "../x",
    "/srv/ws/x",
    "@x",
    "=x",
    "https://evil.example/x",
    "file:///etc/hosts",
    "my-secret",
    "api-token",
    "x;y",
    "$(x)",
    "",
];

/// A value that fits the `kind` of an option.
fn value_of(kind: &str) -> &str {
    match kind {
        "" | "?" | "|" | "~" => "web",
        "/" => "owner/name",
        "#" => "10",
        listed => listed.split('|').next().unwrap_or_default(),
    }
}

/// Every form of a row, as words.
fn forms_of(row: &Forms) -> Vec<Vec<&str>> {
    let forms = row.subcommands.split("; ");
    forms
        .map(|form| {
            std::iter::once(row.program)
                .chain(form.split_whitespace())
                .collect()
        })
        .collect()
}

/// What is wrong with the options of `form`, of `row`.
fn faults(row: &Forms, form: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |wanted: bool, more: &[&str]| {
        if allows(&[form, more].concat()) != wanted {
            faults.push(format!("{form:?} {more:?}"));
        }
    };
    check(true, &[]);
    for flag in row.flags.split_whitespace() {
        check(true, &[flag]);
        check(false, &[flag, "--anything=x"]);
        check(false, &[&format!("{flag}=./x")]);
    }
    for option in row.valued.split_whitespace() {
        let (name, kind) = option.split_once(':').unwrap_or((option, ""));
        check(true, &[name, value_of(kind)]);
        check(true, &[&format!("{name}={}", value_of(kind))]);
        check(false, &[name]);
        for never in ["--anything=x", "-Z", "@x", "https://evil.example/x", ""] {
            check(false, &[name, never]);
            check(false, &[&format!("{name}={never}")]);
        }
    }
    // The path of an API begins with a slash.
    let is_path = |word: &str| form == ["gh", "api"] && word.starts_with('/');
    for never in NEVER.iter().filter(|word| !is_path(word)) {
        check(false, &[never]);
        check(false, &["web", never]);
    }
    faults
}

#[test]
fn each_form_of_each_row_is_allowed_with_each_of_its_options_and_with_nothing_else() {
    let mut found = Vec::new();
    for row in TOOLS {
        for form in forms_of(row) {
            found.extend(faults(row, &form));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_row_takes_as_many_names_as_it_says() {
    let mut found = Vec::new();
    for row in TOOLS {
        let (one, two) = match row.operands {
            Operands::None => (false, false),
            Operands::One => (true, false),
            Operands::Names | Operands::Packages => (true, true),
        };
        for form in forms_of(row) {
            // Images that are here have names with many parts.
            let parts = matches!(
                form.as_slice(),
                ["gh", "api"] | ["docker" | "podman", "images" | "image", ..]
            );
            for (more, wanted) in [
                (&["web"][..], one),
                (&["web", "shop"], two),
                (&["a/b/c/d"], parts),
            ] {
                if allows(&[form.as_slice(), more].concat()) != wanted {
                    found.push(format!("{form:?} {more:?}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// What a tool's manual says of a word that stands in a row, or stood there.
const SHOWS_OR_REACHES_MORE: &[&str] = &[
    // A registry or host of somebody's choosing.
    "docker search evil.example/x",
    "docker search @evil.example/x",
    "gh pr list -R evil.example/o/r",
    "gh pr list --repo=evil.example/o/r",
    "gh run view -R evil.example/o/r --log",
    "gh --repo evil.example/o/r pr list",
    "glab mr list -R evil.example/o/r",
    "glab mr list --repo=https://evil.example/o/r",
    "docker ps -H evil.example:2375",
    "aws --region x@evil.example/ ec2 describe-instances",
    "aws ec2 describe-instances --region=x@evil.example/",
    "aws ec2 describe-instances --region evil.example",
    "aws ec2 describe-instances --endpoint-url x",
    "gcloud compute disks list --zone x@evil.example/",
    // Passwords, keys and environments.
    "crontab -l",
    "docker history --no-trunc web",
    "docker image history web",
    "helm status web",
    "helm get values web",
    "helm repo list",
    "gcloud compute instances describe web-1",
    "gcloud compute instances list --format=json",
    "gcloud compute instances list --format=value(metadata.items)",
    "gcloud compute instances list --format=value(.)",
    "gcloud functions list --format=json",
    "gcloud run services list --format=yaml",
    "gcloud run services list --format=value(spec.template)",
    "gcloud run services describe web",
    "gcloud app versions list --format json",
    "gcloud container clusters describe web",
    "gcloud container clusters list --format=json",
    "gcloud sql instances describe db",
    "doctl databases list -o json",
    "doctl databases list --format URI",
    "doctl apps list --output json",
    "scw container container list -o json",
    "az container list -o json",
    "aws autoscaling describe-launch-configurations",
    "aws ec2 describe-launch-template-versions --filters x",
    "aws ec2 describe-spot-instance-requests",
    "aws ec2 describe-vpn-connections",
    "aws cloudformation describe-stacks",
    "aws cloudformation describe-stack-events --stack-name web",
    "aws cloudformation describe-change-set --stack-name web",
    "aws cloudfront list-distributions",
    "aws iam list-access-keys",
    "aws iam list-service-specific-credentials",
    // Files of the folder.
    "npm ls",
    "docker compose ps",
    "docker compose config",
    "terraform version",
    "fly status",
    "vercel ls",
    "heroku ps",
    "pip freeze",
];

#[test]
fn what_shows_or_reaches_more_is_in_no_row() {
    let allowed: Vec<_> = SHOWS_OR_REACHES_MORE
        .iter()
        .filter(|line| allows(&line.split_whitespace().collect::<Vec<_>>()))
        .collect();
    assert!(allowed.is_empty(), "{allowed:#?}");
}

#[test]
fn its_everyday_neighbours_are() {
    let missed: Vec<_> = [
        "docker search nginx",
        "docker ps -a",
        "gh pr list -R owner/name",
        "gh pr list --repo=owner/name",
        "glab mr list -R owner/name",
        "helm history web",
        "helm list -n shop",
        "gcloud compute instances list --format=table(name,status)",
        "gcloud compute instances list --format=value(name)",
        "gcloud compute disks list --format=json",
        "gcloud compute disks describe data-1 --zone us-east1-b",
        "gcloud run services list --region europe-west1",
        "gcloud container clusters list",
        "hcloud server list -o json",
        "hcloud server describe web",
        "doctl compute droplet list --format ID,Name",
        "doctl databases list",
        "linode-cli linodes list",
        "nomad job status web",
        "eksctl nodegroup list",
        "aws --region eu-west-1 ec2 describe-instances --output json",
        "aws ec2 describe-instances --region=eu-west-1 --query Reservations[].Instances[].State",
        "aws cloudformation describe-stack-resources --stack-name web",
        "aws cloudformation list-stacks",
        "aws iam list-roles",
        "aws ecs describe-services --cluster web",
        "aws logs tail /aws/lambda/web --since 1h",
        "aws sts get-caller-identity",
    ]
    .into_iter()
    .filter(|line| !allows(&line.split_whitespace().collect::<Vec<_>>()))
    .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
