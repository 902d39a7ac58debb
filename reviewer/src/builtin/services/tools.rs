//! The tools and the forms by which each only looks: a table that grows with the tools of the world.
//!
//! Apart from [`super`], which walks a command line by it. Invariant: an option stands at its own tool only, as that tool
//! reads it: what takes no value is a flag there, and what is not written here takes the form away. None of them names a
//! file, a server, a program or settings of somebody's choosing, or shows environments.

/// What may stand in a form beside options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operands {
    /// Nothing.
    None,
    /// At most one name.
    One,
    /// Names of resources; a slash stands between kind and name, or owner and name.
    Names,
    /// Names of packages, that no folder and no archive has.
    Packages,
}

/// Forms of a tool that share their options.
#[derive(Debug)]
pub(super) struct Forms {
    pub(super) program: &'static str,
    /// Subcommands, set apart by `; `; one that is empty is the tool by itself.
    pub(super) subcommands: &'static str,
    pub(super) flags: &'static str,
    /// Options with a value. Behind a colon: `#` a number, `?` an expression that selects or lays out, `/` a repository as
    /// `OWNER/NAME` (with a third part the first is a host), `~` letters, digits and `-` alone, `|` columns, or the values that
    /// it may have; without one, a plain name.
    pub(super) valued: &'static str,
    pub(super) operands: Operands,
}

const fn forms(
    program: &'static str,
    subcommands: &'static str,
    (flags, valued): (&'static str, &'static str),
    operands: Operands,
) -> Forms {
    Forms {
        program,
        subcommands,
        flags,
        valued,
        operands,
    }
}

const KUBE_FLAGS: &str = "\
    -A --all-namespaces --no-headers --show-labels --show-kind --ignore-not-found -owide -oname --client";
const KUBE_VALUED: &str = "\
    -n --namespace --context -l --selector -L --label-columns --field-selector:? --sort-by:? --limit:# \
    --timeout --chunk-size:# -o:wide|name --output:wide|name";
const GH_FLAGS: &str = "\
    --comments --log --log-failed --verbose --name-only --draft --required --stat --no-color";
const GH_VALUED: &str = "\
    -L:# --limit:# -l --label -s --state -a --assignee -A --author -R:/ --repo:/ -q:? --jq:? --json -b --branch \
    -S:? --search:? --milestone --workflow --status --job --attempt:# --base --head --created";

/// Every form.
pub(super) const TOOLS: &[Forms] = &[
    forms(
        "kubectl",
        "get; top; explain; version; api-resources; api-versions; auth can-i; auth whoami; config current-context; config get-contexts; rollout status; rollout history",
        (KUBE_FLAGS, KUBE_VALUED),
        Operands::Names,
    ),
    forms("kubectl", "cluster-info", ("", ""), Operands::None),
    // Pods and what makes them show environments.
    forms(
        "kubectl",
        "describe node; describe nodes; describe svc; describe service; describe services; describe ingress; describe pvc; describe pv; describe hpa; describe namespace; describe ns; describe quota; describe networkpolicy",
        (
            "-A --all-namespaces",
            "-n --namespace --context -l --selector",
        ),
        Operands::Names,
    ),
    forms(
        "kubectl",
        "logs",
        (
            "-p --previous --timestamps --all-containers --prefix",
            "-n --namespace --context -l --selector -c --container --since --since-time --tail:# --limit-bytes:# --max-log-requests:#",
        ),
        Operands::Names,
    ),
    forms(
        "oc",
        "get; status; whoami",
        (KUBE_FLAGS, KUBE_VALUED),
        Operands::Names,
    ),
    forms(
        "helm",
        "list; ls; version; search repo; search hub",
        (
            "-A --all-namespaces -a --all --short --versions --devel --deployed --failed --pending",
            "-n --namespace -m:# --max:# --filter:? -o:table|json|yaml --output:table|json|yaml",
        ),
        Operands::Names,
    ),
    forms(
        // Notes of a release (`status`) and addresses of repositories (`repo list`) may hold passwords.
        "helm",
        "history",
        ("", "-n --namespace --max:# --revision:#"),
        Operands::One,
    ),
    forms(
        "docker",
        "ps; images; image ls; container ls; volume ls; network ls; context ls; system df; version; info; stats; port; diff",
        (
            "-a --all -q --quiet --no-trunc -s --size --no-stream --digests -l --latest -v --verbose",
            "-f:? --filter:? --format:? -n:# --last:#",
        ),
        Operands::Names,
    ),
    forms(
        "docker",
        "logs",
        (
            "-t --timestamps",
            "-n:# --tail:all|1|5|10|20|30|40|50|100|150|200|250|300|400|500|1000|2000 --since --until",
        ),
        Operands::One,
    ),
    // An image's `history` shows what was set while it was built. Behind the container of `top` stand options of `ps`, by
    // which it shows environments.
    forms("docker", "top", ("", ""), Operands::One),
    // What stands before a slash is a registry that is asked.
    forms(
        "docker",
        "search",
        ("--no-trunc", "--limit:#"),
        Operands::One,
    ),
    forms(
        "podman",
        "ps; images; image ls; volume ls; network ls; version; info; stats; port",
        (
            "-a --all -q --quiet --no-trunc -s --size --no-stream",
            "-f:? --filter:? --format:?",
        ),
        Operands::Names,
    ),
    forms(
        "podman",
        "logs",
        ("-t --timestamps", "--tail:# --since --until"),
        Operands::One,
    ),
    forms("podman", "top", ("", ""), Operands::One),
    forms(
        "gh",
        "pr list; pr view; pr diff; pr checks; pr status; issue list; issue view; issue status; run list; run view; release list; release view; repo view; repo list; workflow list; workflow view; gist list; label list; search repos; search issues; search prs; search commits; search code; ruleset list; cache list",
        (GH_FLAGS, GH_VALUED),
        Operands::Names,
    ),
    forms("gh", "auth status", ("", ""), Operands::None),
    forms(
        "gh",
        "api",
        ("--paginate --silent", "-q:? --jq:? -X:GET --method:GET"),
        Operands::One,
    ),
    forms(
        "glab",
        "mr list; mr view; mr diff; issue list; issue view; ci status; ci list; pipeline list; repo view",
        (
            "--comments",
            "-R:/ --repo:/ -l --label --author --assignee --state",
        ),
        Operands::Names,
    ),
    forms("glab", "auth status", ("", ""), Operands::None),
    forms(
        "systemctl",
        "status; is-active; is-enabled; is-failed; list-units; list-unit-files; list-timers; list-sockets; list-dependencies",
        (
            "-l --full -a --all -q --quiet --no-pager --no-legend --failed --user --system --plain --reverse",
            "-n:# --lines:# -t --type --state",
        ),
        Operands::Names,
    ),
    // A unit's own text and all of its properties hold its environment.
    forms(
        "journalctl",
        "",
        (
            "-k --dmesg -b --boot -r --reverse -x -e -q --quiet -a --all -l --full --no-pager --utc --user --system --list-boots --disk-usage --no-hostname",
            "-u --unit -p --priority -S:? --since:? -U:? --until:? -t --identifier -o --output -g:? --grep:? -n:# --lines:#",
        ),
        Operands::None,
    ),
    forms(
        "brew",
        "list; info; search; outdated; deps; leaves; doctor; config",
        (
            "--versions --cask --formula -1 --installed --tree --json=v1 --json=v2 --verbose",
            "",
        ),
        Operands::Packages,
    ),
    forms(
        "apt",
        "list; show; search; policy",
        (
            "-a --all-versions --installed --upgradable --names-only --full",
            "",
        ),
        Operands::Packages,
    ),
    forms(
        "apt-cache",
        "policy; show; search; depends; rdepends; madison",
        ("--installed --names-only --no-all-versions", ""),
        Operands::Packages,
    ),
    forms(
        "apt-mark",
        "showmanual; showhold",
        ("", ""),
        Operands::Packages,
    ),
    forms(
        "snap",
        "list; find",
        ("--all --verbose", ""),
        Operands::Packages,
    ),
    forms(
        "dnf",
        "list; info; search; repolist",
        ("-q --quiet --installed --available --upgrades --all", ""),
        Operands::Packages,
    ),
    forms(
        "pip",
        "list; show; check; index versions",
        PIP,
        Operands::Packages,
    ),
    forms(
        "pip3",
        "list; show; check; index versions",
        PIP,
        Operands::Packages,
    ),
    forms("pipx", "list", ("--short --json", ""), Operands::None),
    forms(
        "gem",
        "list; search; info; outdated",
        ("-a --all -l --local -r --remote", ""),
        Operands::Packages,
    ),
    forms("vault", "status", ("", ""), Operands::None),
    forms(
        "ufw",
        "status; status verbose; status numbered; app list; show listening; show added",
        ("", ""),
        Operands::None,
    ),
    forms(
        "firewall-cmd",
        "--state; --list-all; --list-ports; --list-services; --get-default-zone; --get-active-zones",
        ("--permanent", "--zone"),
        Operands::None,
    ),
    forms("nft", "list ruleset; list tables", ("", ""), Operands::None),
    forms("ssh-add", "-l", ("", ""), Operands::None),
    forms(
        "gpg",
        "--list-keys; -k; --fingerprint",
        GPG,
        Operands::Packages,
    ),
    forms(
        "gpg2",
        "--list-keys; -k; --fingerprint",
        GPG,
        Operands::Packages,
    ),
    forms("gpg", "--version", ("", ""), Operands::None),
    forms("hostnamectl", "status", ("", ""), Operands::None),
    forms("timedatectl", "status", ("", ""), Operands::None),
    forms(
        "loginctl",
        "list-sessions; list-users",
        ("--no-legend --no-pager", ""),
        Operands::None,
    ),
];

const PIP: (&str, &str) = (
    "-o --outdated -l --local -q --quiet --not-required --files",
    "--format:columns|freeze|json",
);
const GPG: (&str, &str) = ("", "--keyid-format:short|long|0xshort|0xlong|none");
