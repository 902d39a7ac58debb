//! Programs whose words alone say that they are not to be run.
//!
//! Apart, because it is a list that grows with the programs of the world. Invariant: only certain words count.

use exec_policy::{Command, Options};

use super::super::Rule;
use super::super::places;
use super::super::scene::Scene;
use super::flow::dumps_credentials;
use super::{Found, add, spelled};

/// Programs whose words alone say it.
pub(super) fn by_program(at: usize, command: &Command, scene: &Scene, found: &mut Found) {
    let Some(program) = command.program() else {
        return;
    };
    let options = Options::split(command.arguments(), &["-u", "-t", "-o"]);
    let texts: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    if dumps_credentials(command) {
        add(found, Rule::ReadsCredentials, spelled(command));
    }
    match program {
        "crontab" if !options.has(&["-l"]) => add(found, Rule::Persistence, spelled(command)),
        "ssh-copy-id" => add(found, Rule::Persistence, spelled(command)),
        "at" | "batch" => add(found, Rule::Persistence, spelled(command)),
        "kill" | "pkill" | "killall" | "systemctl" | "service" if names_reviewer(&texts) => {
            add(found, Rule::TampersReviewer, spelled(command));
        }
        "wipefs" | "blkdiscard" | "mkswap" | "fdisk" | "sfdisk" | "parted" | "cryptsetup"
            if texts.iter().any(|text| text.starts_with("/dev/")) =>
        {
            add(found, Rule::WipesDevice, spelled(command));
        }
        name if name.starts_with("mkfs") || name == "mke2fs" => {
            add(found, Rule::WipesDevice, spelled(command))
        }
        "chmod" | "chown" => opens_up(at, &options, scene, found),
        "git" => force_push(&texts, command, found),
        _ if switches_off(program, &texts) => add(found, Rule::WeakensProtection, spelled(command)),
        _ => {}
    }
}

fn names_reviewer(texts: &[&str]) -> bool {
    texts.iter().any(|text| {
        ["agent-runner", "auto-review"]
            .iter()
            .any(|name| text.contains(name))
    })
}

/// Set-user-id, or system folders for everybody to write.
fn opens_up(at: usize, options: &Options<'_>, scene: &Scene, found: &mut Found) {
    let Some((mode, targets)) = options.operands.split_first() else {
        return;
    };
    let mode = mode.literal().unwrap_or_default();
    let octal = mode.len() >= 3 && mode.chars().all(|c| c.is_digit(8));
    let set_id =
        mode.contains("+s") || (octal && mode.len() == 4 && mode.starts_with(['2', '4', '6', '7']));
    let open = matches!(
        mode,
        "777" | "0777" | "666" | "0666" | "a+rwx" | "a+w" | "o+w" | "a=rwx" | "ugo+rwx" | "+w"
    );
    for target in targets {
        let location = scene.locate(at, target);
        let machine = places::is_system(&location, scene)
            || location.depth() == 0
            || location.holds(&scene.home)
            || places::holds_credentials(&location, scene);
        if set_id || (open && machine) {
            add(found, Rule::WeakensProtection, location.written());
        }
    }
}

/// Commands that take a protection of the machine away.
fn switches_off(program: &str, texts: &[&str]) -> bool {
    const GUARDS: &[&str] = &[
        "firewalld",
        "ufw",
        "apparmor",
        "auditd",
        "selinux",
        "fail2ban",
        "iptables",
        "nftables",
        "clamav",
        "falcon",
        "osquery",
        "sshguard",
        "crowdsec",
    ];
    let any = |wanted: &[&str]| texts.iter().any(|text| wanted.contains(text));
    match program {
        "setenforce" => any(&["0", "Permissive", "permissive"]),
        "iptables" | "ip6tables" => {
            any(&["-F", "--flush", "-X"]) || (any(&["-P"]) && any(&["ACCEPT"]))
        }
        "nft" => any(&["flush"]),
        "ufw" => any(&["disable", "reset"]),
        "auditctl" => any(&["-D", "-e"]),
        "systemctl" | "service" | "rc-service" => {
            any(&["stop", "disable", "mask", "kill"])
                && texts
                    .iter()
                    .any(|text| GUARDS.iter().any(|guard| text.contains(guard)))
        }
        "csrutil" | "spctl" => any(&["disable", "--master-disable", "--global-disable"]),
        "aa-teardown" | "aa-disable" | "aa-complain" => true,
        "passwd" => any(&["-d", "--delete"]),
        "visudo" | "useradd" | "usermod" | "adduser" | "chpasswd" => true,
        "setcap" => texts.iter().any(|text| {
            [
                "cap_setuid",
                "cap_setgid",
                "cap_sys_",
                "cap_dac_",
                "cap_chown",
                "cap_fowner",
                "all=",
            ]
            .iter()
            .any(|right| text.contains(right))
        }),
        "sysctl" => texts.iter().any(|text| {
            let guard = ["kernel.randomize_va_space", "kernel.yama", "kernel.kptr"]
                .iter()
                .any(|name| text.starts_with(name));
            guard && text.contains('=')
        }),
        "history" => any(&["-c"]),
        _ => false,
    }
}

const PROTECTED_BRANCHES: &[&str] = &[
    "main",
    "master",
    "trunk",
    "production",
    "prod",
    "develop",
    "default",
    "stable",
];

/// `git push` that rewrites or deletes a protected branch.
fn force_push(texts: &[&str], command: &Command, found: &mut Found) {
    let Some(at) = texts.iter().position(|text| *text == "push") else {
        return;
    };
    let rest: Vec<&str> = texts.iter().skip(at + 1).copied().collect();
    let long = |name: &str| {
        rest.iter()
            .any(|text| text.len() > 4 && name.starts_with(text.split('=').next().unwrap_or(text)))
    };
    let cluster = |letter: char| {
        rest.iter()
            .any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains(letter))
    };
    let force = long("--force") || long("--force-with-lease") || cluster('f');
    let delete = long("--delete") || cluster('d');
    let protected = |branch: &str| {
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        PROTECTED_BRANCHES.contains(&branch) || branch.starts_with("release")
    };
    let hit = rest
        .iter()
        .filter(|text| !text.starts_with('-'))
        .skip(1)
        .any(|spec| {
            let plus = spec.starts_with('+');
            let (source, target) = spec
                .trim_start_matches('+')
                .split_once(':')
                .unwrap_or_else(|| ("-", spec.trim_start_matches('+')));
            protected(target) && (force || delete || plus || source.is_empty())
        });
    if hit || long("--mirror") || (force && long("--all")) {
        add(found, Rule::ForcePushProtected, spelled(command));
    }
}
