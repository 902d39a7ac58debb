//! Floors for what opens this machine, a cloud or a project to others, and for what looks where it has no business.
//!
//! Apart from [`super::harms`], whose words say what a service loses. Invariant: floors only; each needs a certain word,
//! and what is not certain is left to the floors of its program.

use exec_policy::{Command, Role, Word};

use super::deny::{add, spelled};
use super::scene::Scene;
use super::{Finding, Rule, fetch, listed};

/// Packages that open a port of this machine to the world, by whichever tool they are started.
const TUNNELS: &str = "\
    localtunnel lt ngrok cloudflared serveo bore tunnelmole tmole localxpose loclx zrok pinggy telebit \
    pagekite devtunnel expose tailscale-funnel chisel frpc rathole gsocket gs-netcat sshuttle";
/// Words that open a cloud's resource to more than had it.
const OPENS: &str = "\
    0.0.0.0/0 ::/0 allUsers allAuthenticatedUsers firewall-rules put-user-policy put-role-policy \
    put-group-policy attach-group-policy create-policy-version set-iam-policy create-login-profile \
    create-role-binding clusterrolebinding rolebinding --publicly-accessible --no-deletion-protection \
    put-key-policy add-permission create-user update-assume-role-policy \
    modify-snapshot-attribute modify-image-attribute reset-windows-password serial-port-access \
    metadata add-member --visibility=public";
/// Command lines of clouds, clusters and code hosts.
const CLOUDS: &str = "aws gcloud az gsutil kubectl oc oci doctl hcloud linode-cli scw gh glab heroku vercel netlify fly flyctl";
/// Tools that act on a service whose name a word may hold.
const ON_SERVICES: &str = "\
    kubectl oc helm aws gcloud gsutil az terraform tofu pulumi ansible ansible-playbook heroku fly flyctl vercel \
    netlify psql mysql mariadb mongosh mongo redis-cli cqlsh clickhouse-client sqlcmd ssh scp rails rake \
    bin/rails prisma knex alembic flyway liquibase kustomize argocd nomad consul vault cf wrangler";

/// Floors of one command.
pub(super) fn command(command: &Command, scene: &Scene, found: &mut Vec<Finding>) {
    let program = command.program().unwrap_or_default();
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    let mut floor = |rule| add(found, rule, spelled(command));
    if listens_in(program, &words, command) || super::allow::seeks_secrets(command) {
        floor(Rule::NearCredentials);
    }
    // A name that is looked up is told to whoever serves it.
    let looks_up = listed(
        "dig host nslookup drill ping ping6 resolvectl getent",
        program,
    );
    if looks_up && command.arguments().iter().any(Word::has_unknown) {
        floor(Rule::SendsFile);
    }
    if command.role() != Role::Itself {
        return;
    }
    if tunnels(program, &words) || shares(program, &words) {
        floor(Rule::Publishes);
    }
    if listed(CLOUDS, program)
        && !super::services::looks(command)
        && words.iter().any(|word| opens(word))
    {
        floor(Rule::Publishes);
    }
    if comes_from_strangers(program, &words) {
        floor(Rule::ForeignSource);
    }
    if is_of_many_machines(program, &words) {
        floor(Rule::ChangesSystem);
    }
    if names_production(command) && !super::services::looks(command) {
        floor(Rule::Production);
    }
    elsewhere(program, &words, scene, found);
}

/// A port of this machine for others, by a tunnel or from the other end of a connection.
fn tunnels(program: &str, words: &[&str]) -> bool {
    let starts_packages = matches!(
        program,
        "npx" | "bunx" | "pnpx" | "uvx" | "pipx" | "npm" | "pnpm" | "yarn" | "bun" | "go" | "cargo"
    );
    let named = |word: &&&str| {
        let bare = word.split('@').next().unwrap_or(word);
        listed(TUNNELS, bare)
    };
    let package = starts_packages && words.iter().take(4).any(|word| named(&word));
    let reverse = matches!(program, "ssh" | "autossh")
        && words.iter().any(|word| {
            word.starts_with("-R")
                || (word.starts_with('-') && !word.starts_with("--") && word.ends_with('R'))
                || word.starts_with("RemoteForward")
                || word.starts_with("-oRemoteForward")
        });
    listed(TUNNELS, program)
        || package
        || reverse
        || (program == "tailscale"
            && words
                .first()
                .is_some_and(|word| matches!(*word, "funnel" | "serve")))
}

/// A file or a page for whoever has the link.
fn shares(program: &str, words: &[&str]) -> bool {
    match program {
        "croc" => words.contains(&"send"),
        "wormhole" | "magic-wormhole" => words
            .first()
            .is_some_and(|word| matches!(*word, "send" | "tx")),
        "ipfs" => words.contains(&"add"),
        "surge" | "now" | "ffsend" | "wetransfer" | "transfer" | "pastebinit" | "termbin" => true,
        "netlify" | "vercel" | "firebase" | "wrangler" => words
            .iter()
            .any(|word| matches!(*word, "--prod" | "deploy" | "publish")),
        "gh" => words.iter().any(|word| {
            matches!(
                *word,
                "--public" | "--add-collaborator" | "deploy-key" | "ssh-key" | "gpg-key"
            ) || word.contains("/collaborators/")
                || word.contains("/keys")
                || word.contains("/hooks")
        }),
        _ => false,
    }
}

fn opens(word: &str) -> bool {
    listed(OPENS, word)
        || word.starts_with("public-read")
        || word
            .rsplit_once('=')
            .is_some_and(|(_, value)| listed(OPENS, value))
        || word.split(['/', ',']).any(|part| listed(OPENS, part))
}

/// Packages from an address, a repository or an index that is no known registry.
fn comes_from_strangers(program: &str, words: &[&str]) -> bool {
    const INSTALLERS: &str = "\
        pip pip3 pipx uv uvx poetry pdm conda mamba npm npx pnpm yarn bun bunx cargo go gem bundle composer \
        apt apt-get dnf yum rpm dpkg brew helm code cursor codium winget choco snap flatpak";
    const SOURCES: &str = "\
        -i --index-url --extra-index-url --index --default-index -f --find-links --registry --source \
        --channel -c --repo --git --index-server --trusted-host";
    if !listed(INSTALLERS, program) {
        return false;
    }
    let strange = |address: &str| {
        let Some((scheme, rest)) = address.split_once("://") else {
            return address.starts_with("git@");
        };
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or(host);
        let own = matches!(host, "localhost" | "127.0.0.1");
        !own && (!(fetch::is_known(host) || host == "ghcr.io") || scheme == "http")
    };
    let behind_flag = words.windows(2).any(|pair| {
        matches!(pair, [flag, value] if listed(SOURCES, flag) && (strange(value) || *flag == "--trusted-host"))
    });
    let glued = words.iter().any(|word| {
        word.split_once('=').is_some_and(|(flag, value)| {
            listed(SOURCES, flag) && (strange(value) || flag == "--trusted-host")
        })
    });
    let direct = words
        .iter()
        .any(|word| !word.starts_with('-') && word.contains("://") && strange(word));
    let extension = matches!(program, "code" | "cursor" | "codium")
        && words
            .iter()
            .any(|word| word.starts_with("--install-extension"));
    behind_flag || glued || direct || extension
}

/// What others type, send or hold in memory.
fn listens_in(program: &str, words: &[&str], command: &Command) -> bool {
    let attaches = words.iter().any(|word| {
        *word == "-p" || *word == "--pid" || word.starts_with("--pid=") || word.starts_with("-p")
    });
    match program {
        "gcore" | "procdump" | "ngrep" | "dsniff" | "ettercap" | "bettercap" | "logkeys"
        | "xinput" | "xspy" | "sshpass" => true,
        "tcpdump" | "tshark" | "dumpcap" => !words
            .iter()
            .any(|word| matches!(*word, "-D" | "--version" | "--list-interfaces")),
        "strace" | "ltrace" | "gdb" | "lldb" | "perf-trace" | "reptyr" => attaches,
        "ssh-keygen" => words.contains(&"-p") || words.contains(&"-y"),
        "docker" | "podman" => {
            words.contains(&"inspect")
                && command
                    .arguments()
                    .iter()
                    .any(|word| word.to_string().contains(".Config"))
        }
        "trufflehog" | "gitleaks" | "detect-secrets" | "lsass" => {
            words
                .iter()
                .any(|word| word.starts_with('/') || word.starts_with('~'))
                || command
                    .arguments()
                    .iter()
                    .any(|word| word.literal().is_none())
        }
        _ => false,
    }
}

/// The same change on many machines at once.
fn is_of_many_machines(program: &str, words: &[&str]) -> bool {
    let looks = words.iter().any(|word| {
        matches!(
            *word,
            "--check"
                | "-C"
                | "--syntax-check"
                | "--list-hosts"
                | "--list-tasks"
                | "--list-tags"
                | "--version"
        )
    });
    match program {
        "ansible" => {
            !looks
                && !words
                    .windows(2)
                    .any(|pair| matches!(pair, ["-m", "ping" | "setup" | "debug"]))
        }
        "ansible-playbook" | "pssh" | "parallel-ssh" | "pdsh" | "clush" | "salt" | "fab"
        | "cap" => !looks,
        _ => false,
    }
}

/// Whether a word of a tool that acts on a service names production.
pub(super) fn names_production(command: &Command) -> bool {
    let program = command.program().unwrap_or_default();
    let of_service = listed(ON_SERVICES, program)
        || command
            .arguments()
            .first()
            .and_then(Word::literal)
            .is_some_and(|first| {
                matches!(program, "npx" | "bundle" | "poetry") && listed(ON_SERVICES, first)
            });
    of_service
        && (command
            .words()
            .iter()
            .any(|word| is_production(&word.to_string()))
            || command
                .assignments()
                .iter()
                .any(|(_, value)| is_production(&value.to_string())))
}

/// Whether `prod` or `production` is one of the names in a text.
pub(super) fn is_production(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic()).any(|part| {
        ["prod", "production", "prd"]
            .iter()
            .any(|name| part.eq_ignore_ascii_case(name))
    })
}

/// What a remote machine is told to do, read like a script.
fn elsewhere(program: &str, words: &[&str], scene: &Scene, found: &mut Vec<Finding>) {
    let text = match program {
        "ssh" => remote_command(words),
        "ansible" => words.windows(2).find_map(|pair| match pair {
            ["-a" | "--args", text] => Some((*text).to_owned()),
            _ => None,
        }),
        _ => None,
    };
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return;
    };
    let inner = scene.within(&["bash".to_owned(), "-c".to_owned(), text.clone()]);
    let mut inside = Vec::new();
    super::deny::command(&inner, &mut inside);
    if inside.iter().any(|finding| finding.rule.denies()) {
        add(found, Rule::ScriptHarms, &text);
    }
    let privileged = inner.effects().iter().any(|(_, effect)| {
        matches!(
            effect,
            exec_policy::Effect::Privileged | exec_policy::Effect::ChangesSystem
        )
    });
    if privileged
        && !inner
            .commands()
            .all(|(_, command)| super::services::looks(command) || command.role() == Role::Wrapper)
    {
        add(found, Rule::ChangesSystem, text);
    }
}

/// The words behind the host, as the other machine's shell gets them.
fn remote_command(words: &[&str]) -> Option<String> {
    const VALUED: &str = "-b -c -D -E -e -F -I -i -J -L -l -m -O -o -p -Q -R -S -W -w";
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if listed(VALUED, word) {
            rest.next();
        } else if !word.starts_with('-') {
            return Some(rest.copied().collect::<Vec<_>>().join(" "));
        }
    }
    None
}
