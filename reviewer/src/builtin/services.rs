//! Tools that ask a service or the machine, in the forms by which they only look.
//!
//! Apart from [`super::allow`] because it is a table that grows with the tools of the world. Invariant: a form is a
//! program, a subcommand and options that are written here; any other option, and any word that speaks of secrets, takes
//! the form away. What a folder of the agent could steer to run a program (`cargo`, `terraform plan`) is not here.

use exec_policy::{Command, Word};

use super::{listed, machine, sql, stores};

/// Words that speak of secrets, wherever they stand in a call.
const SECRETS: &str = "\
    secret token password passwd credential keyvault private-key userdata user-data environ .env \
    config.env getenv kubeconfig --raw dockerconfigjson";
/// Options that narrow or lay out what is shown.
const FLAGS: &str = "\
    -A --all-namespaces -a --all -l -q --quiet -v --verbose --no-headers --show-labels --no-stream \
    --no-pager --no-trunc --installed --upgradable --log --log-failed --user --system --long --short \
    --client --failed --comments --name-only --stat --paginate --no-legend --outdated --json --size \
    --no-paginate --wide --leaves --recursive --human-readable --summarize --versions --local --global --draft --web=false --timestamps \
    --previous -p --reverse -x -e -r -k -b --no-color --no-log-prefix --show-kind --ignore-not-found";
/// Options with a value that narrow or lay out what is shown.
const VALUED: &str = "\
    -n --namespace -l --selector -o --output --format --query -L --limit --label --state --author \
    --assignee --repo -R --json -q --jq --region --since --until --tail -c --container --project \
    --sort-by --field-selector --group-ids --instance-ids --names --filters --filter --max-items --depth \
    -a --app -u --unit -t --type -g --resource-group --stack-name --log-group-name --branch --search -s \
    --zone --profile --context --cluster --subscription --account --workflow --status --lines -p \
    --priority --max-count --milestone -S --timeout --keyid-format --max-log-requests --container-name";

/// Options that may stand before the subcommand.
const LEADING: &str = "--user --system --no-pager";
/// Options with a value that may stand before the subcommand.
const LEADING_VALUED: &str =
    "-n --namespace --context --cluster --region --profile --project --output -R --repo --account";

/// Tools, each with the subcommands by which it only looks.
const TOOLS: &[(&str, &str)] = &[
    (
        "kubectl",
        "get; describe; logs; top; explain; version; api-resources; api-versions; cluster-info; auth can-i; auth whoami; config current-context; config get-contexts; rollout status; rollout history",
    ),
    ("oc", "get; describe; logs; status; whoami"),
    (
        "helm",
        "list; ls; status; history; version; repo list; search",
    ),
    (
        "docker",
        "ps; images; image ls; container ls; volume ls; network ls; context ls; system df; version; info; logs; stats; top; port; history; compose ps; compose ls; compose logs; compose images; compose top; diff; search",
    ),
    (
        "podman",
        "ps; images; image ls; volume ls; network ls; version; info; logs; stats; top; port",
    ),
    (
        "gh",
        "pr list; pr view; pr diff; pr checks; pr status; issue list; issue view; issue status; run list; run view; release list; release view; repo view; repo list; workflow list; workflow view; auth status; gist list; label list; search; api; ruleset list; cache list",
    ),
    (
        "glab",
        "mr list; mr view; mr diff; issue list; issue view; ci status; ci list; pipeline list; auth status; repo view",
    ),
    (
        "systemctl",
        "status; is-active; is-enabled; is-failed; list-units; list-unit-files; list-timers; list-sockets; list-dependencies; show; cat",
    ),
    ("journalctl", ""),
    (
        "brew",
        "list; info; search; outdated; deps; leaves; doctor; config",
    ),
    ("apt", "list; show; search; policy"),
    (
        "apt-cache",
        "policy; show; search; depends; rdepends; madison",
    ),
    ("apt-mark", "showmanual; showhold"),
    ("snap", "list; info; find"),
    ("dnf", "list; info; search; repolist"),
    (
        "pip",
        "list; show; freeze; check; index versions; config list",
    ),
    (
        "pip3",
        "list; show; freeze; check; index versions; config list",
    ),
    ("pipx", "list"),
    ("gem", "list; search; info; outdated"),
    (
        "npm",
        "ls; list; view; info; search; root; prefix; whoami; ping; config get registry; config get prefix; config get cache",
    ),
    ("heroku", "ps; apps; logs; releases; status"),
    ("flyctl", "status; logs; apps list; releases"),
    ("fly", "status; logs; apps list; releases"),
    ("vercel", "ls; list; inspect; whoami"),
    ("vault", "status"),
    ("terraform", "version"),
    (
        "ufw",
        "status; status verbose; status numbered; app list; show listening; show added",
    ),
    (
        "firewall-cmd",
        "--state; --list-all; --list-ports; --list-services; --get-default-zone; --get-active-zones",
    ),
    ("nft", "list ruleset; list tables"),
    ("crontab", "-l"),
    ("ssh-add", "-l"),
    ("gpg", "--list-keys; -k; --fingerprint; --version"),
    ("hostnamectl", "status"),
    ("timedatectl", "status"),
    ("loginctl", "list-sessions; list-users"),
    ("gpg2", "--list-keys; -k"),
];
/// Command lines of clouds whose last subcommand says what they do.
const CLOUDS: &str = "\
    gcloud az doctl hcloud linode-cli scw oci ibmcloud eksctl nomad aliyun";

/// Whether a call only looks.
pub(super) fn looks(command: &Command) -> bool {
    // The home folder is certain, and no option.
    let texts: Option<Vec<String>> = command
        .arguments()
        .iter()
        .map(|word| match word.literal() {
            Some(text) => Some(text.to_owned()),
            None if word.has_unknown() || word.has_glob() => None,
            None => Some(word.to_string()),
        })
        .collect();
    let Some(texts) = texts else {
        return false;
    };
    let words: Vec<&str> = texts.iter().map(String::as_str).collect();
    let program = command.program().unwrap_or_default();
    if speaks_of_secrets(command) {
        return false;
    }
    if names_secrets(command) {
        return true;
    }
    let leading = leading_options(&words);
    let words = words.get(leading..).unwrap_or_default();
    machine::looks(program, words)
        || stores::looks(program, words)
        || clouds(program, words)
        || sql::looks(program, words)
        || TOOLS
            .iter()
            .filter(|(name, _)| *name == program)
            .flat_map(|(_, forms)| forms.split("; "))
            .any(|form| is_form(program, form, words))
        || (program == "docker" && inspects(words))
}

/// Whether a call speaks of secrets anywhere in its words.
pub(super) fn speaks_of_secrets(command: &Command) -> bool {
    // Wrappers repeat what they wrap; account names in `getent passwd` are no passwords.
    command.role() == exec_policy::Role::Itself
        && command.program() != Some("getent")
        && !names_secrets(command)
        && command.arguments().iter().any(|word| {
            let word = word.to_string().to_ascii_lowercase();
            SECRETS
                .split_whitespace()
                .any(|secret| word.contains(secret))
        })
}

/// A list of secrets by their names, in a store that gives no value back to anybody.
fn names_secrets(command: &Command) -> bool {
    let words: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let Some(words) = words else { return false };
    let words = words.get(leading_options(&words)..).unwrap_or_default();
    let program = command.program().unwrap_or_default();
    let (("gh", ["secret", "list", rest @ ..]) | ("docker", ["secret", "ls", rest @ ..])) =
        (program, words)
    else {
        return false;
    };
    let plain = rest.iter().all(|word| {
        let word = word.to_ascii_lowercase();
        !SECRETS.split_whitespace().any(|part| word.contains(part))
    });
    plain && options_only_narrow(program, &[], rest)
}

/// How many words stand before the subcommand: options that narrow, with their values.
fn leading_options(words: &[&str]) -> usize {
    let mut count = 0;
    while let Some(word) = words.get(count) {
        let name = word.split('=').next().unwrap_or(word);
        if listed(LEADING, word) || (word.contains('=') && listed(LEADING_VALUED, name)) {
            count += 1;
        } else if listed(LEADING_VALUED, word) && words.len() > count + 1 {
            count += 2;
        } else {
            break;
        }
    }
    count
}

fn is_form(program: &str, form: &str, words: &[&str]) -> bool {
    let form: Vec<&str> = form.split_whitespace().collect();
    words
        .strip_prefix(form.as_slice())
        .is_some_and(|rest| options_only_narrow(program, &form, rest))
}

fn options_only_narrow(program: &str, form: &[&str], rest: &[&str]) -> bool {
    let mut words = rest.iter();
    let operands_are_free = !matches!(program, "journalctl" | "crontab" | "ssh-add");
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or(word);
        let glued_number = word
            .strip_prefix("-n")
            .or_else(|| word.strip_prefix('-'))
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
        if !word.starts_with('-') {
            // Of an address or a folder npm asks git, and a project's settings name which.
            let foreign = program == "npm" && !is_package(word);
            if foreign
                || !operands_are_free
                || (program == "gh" && form == ["api"] && *word == "graphql")
            {
                return false;
            }
        } else if word.contains('=') && listed(VALUED, name) || glued_number {
            // The value stands in the same word.
        } else if takes_value(program, word) {
            if words.next().is_none() {
                return false;
            }
        } else if !listed(FLAGS, word) {
            return false;
        }
    }
    // `-k` and `-e` mean other things to tools that change something.
    program == "journalctl" || !rest.iter().any(|word| matches!(*word, "-k" | "-e" | "-x"))
}

/// A package by its name in a registry, with a version or a tag.
fn is_package(word: &str) -> bool {
    let (scope, name) = match word.strip_prefix('@') {
        Some(rest) => rest.split_once('/').unwrap_or(("", "")),
        None => ("x", word),
    };
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.@^~".contains(c))
    };
    plain(scope) && plain(name) && !name.contains("@git")
}

fn takes_value(program: &str, word: &str) -> bool {
    // To package tools these two mean settings.
    const LAYS_OUT: &[&str] = &[
        "kubectl", "oc", "helm", "az", "gcloud", "aws", "gh", "doctl",
    ];
    if matches!(word, "-o" | "-c" | "-s" | "-S") && !LAYS_OUT.contains(&program) {
        return false;
    }
    let flag_only = match program {
        "kubectl" | "oc" | "helm" => matches!(word, "-a" | "-q"),
        "docker" | "podman" => matches!(word, "-a" | "-q" | "-l" | "-s"),
        "systemctl" => matches!(word, "-l" | "-a" | "-q"),
        "gh" | "glab" => matches!(word, "-c"),
        "brew" | "apt" | "pip" | "pip3" | "npm" => {
            matches!(word, "-l" | "-g" | "-a" | "-q" | "-v" | "--json")
        }
        "journalctl" => matches!(word, "-l" | "-a" | "-q" | "-k" | "-b" | "-r" | "-x" | "-e"),
        _ => matches!(word, "-l"),
    };
    !flag_only && listed(VALUED, word)
}

/// `docker inspect` shows the environment, but for one named field that is not it.
fn inspects(words: &[&str]) -> bool {
    let ["inspect", "--format" | "-f", format, names @ ..] = words else {
        return false;
    };
    !names.is_empty()
        && names.iter().all(|name| !name.starts_with('-'))
        && [
            "{{.State",
            "{{.NetworkSettings",
            "{{.Image",
            "{{.Name",
            "{{.Created",
            "{{.Id",
        ]
        .iter()
        .any(|start| format.starts_with(start))
        && format.matches("{{").count() == 1
}

/// `gcloud compute instances list`, `az vm list`, `aws ec2 describe-instances`.
fn clouds(program: &str, words: &[&str]) -> bool {
    let subcommands: Vec<&str> = words
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .copied()
        .collect();
    let rest = words.get(subcommands.len()..).unwrap_or_default();
    let plain = |words: &[&str]| {
        words.iter().all(|word| {
            word.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        })
    };
    let narrow = options_only_narrow(program, &[], rest);
    let holds_keys = subcommands.iter().any(|word| {
        [
            "key",
            "auth",
            "credential",
            "login",
            "connection-string",
            "sas",
            "access",
        ]
        .iter()
        .any(|part| word.contains(part))
    });
    match (program, subcommands.as_slice()) {
        ("aws", ["s3", "ls", places @ ..]) => {
            narrow && places.iter().all(|place| place.starts_with("s3://"))
        }
        ("aws", ["sts", "get-caller-identity"]) => narrow,
        ("aws", ["logs", "tail", _]) => narrow,
        ("aws", ["secretsmanager" | "ssm" | "kms", ..]) => false,
        ("aws", [_, verb]) => {
            narrow
                && (verb.starts_with("describe-") || verb.starts_with("list-"))
                && !verb.contains("attribute")
                && !verb.contains("access-key")
        }
        (name, [.., "list" | "ls"])
            if listed(CLOUDS, name) && (!holds_keys || subcommands == ["auth", "list"]) =>
        {
            narrow && plain(&subcommands)
        }
        ("az", ["account", "show"]) => narrow,
        (
            name,
            [_, .., "describe" | "show" | "get" | "status", _] | [_, .., "show" | "describe"],
        ) if listed(CLOUDS, name) && !holds_keys => narrow && plain(&subcommands),
        _ => false,
    }
}

/// Whether one of the effects that a form has by its program alone counts against it.
pub(super) fn explains(rule: super::Rule) -> bool {
    use super::Rule;
    matches!(
        rule,
        Rule::ReachesNetwork
            | Rule::PrivateNetwork
            | Rule::RunsPrograms
            | Rule::ChangesSystem
            | Rule::NothingKnown
    )
}
