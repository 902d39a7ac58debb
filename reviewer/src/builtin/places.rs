//! What lies where: credentials, start-up files, system folders, devices, the reviewer's own state.
//!
//! Apart, because reads, writes, patches and grants all ask it. Invariant: a pattern that may match a sensitive name
//! counts as that name; upper and lower case count as the same, since some file systems hold them so.

use exec_policy::{Location, Rest};

use super::scene::Scene;

/// Folders and files below a home folder that hold credentials.
const CREDENTIALS_AT_HOME: &[&[&str]] = &[
    &[".ssh"],
    &[".gnupg"],
    &[".aws"],
    &[".azure"],
    &[".config", "gcloud"],
    &[".kube"],
    &[".docker", "config.json"],
    &[".netrc"],
    &[".git-credentials"],
    &[".config", "git", "credentials"],
    &[".config", "gh"],
    &[".config", "hub"],
    &[".npmrc"],
    &[".pypirc"],
    &[".cargo", "credentials*"],
    &[".gem", "credentials"],
    &[".terraform.d", "credentials*"],
    &[".vault-token"],
    &[".pgpass"],
    &[".my.cnf"],
    &[".password-store"],
    &[".local", "share", "keyrings"],
    &[".local", "share", "kwalletd"],
    &[".config", "op"],
    &[".config", "rclone"],
    &[".mozilla"],
    &[".config", "google-chrome*"],
    &[".config", "chromium"],
    &[".config", "BraveSoftware"],
    &[".config", "microsoft-edge*"],
    &["Library", "Keychains"],
    &["Library", "Cookies"],
    &["Library", "Application Support", "Google", "Chrome"],
    &["Library", "Application Support", "Firefox"],
    &[".config", "doctl"],
    &[".config", "heroku"],
    &[".s3cfg"],
    &[".boto"],
    &[".oci"],
    &[".config", "Slack"],
    &[".bash_history"],
    &[".zsh_history"],
    &[".claude", ".credentials.json"],
    &[".gemini", "oauth_creds.json"],
    &[".thunderbird"],
    &[".electrum"],
    &[".bitcoin"],
];
/// The same, from the root.
const CREDENTIALS_AT_ROOT: &[&[&str]] = &[
    &["etc", "shadow*"],
    &["etc", "gshadow*"],
    &["etc", "ssh", "ssh_host_*"],
    &["etc", "krb5.keytab"],
    &["etc", "ssl", "private"],
    &["var", "run", "secrets"],
    &["run", "secrets"],
    &["etc", "kubernetes"],
    &["var", "lib", "kubelet"],
    &["etc", "NetworkManager", "system-connections"],
    &["etc", "wireguard"],
    &["etc", "openvpn"],
    &["etc", "sudoers*"],
    &["var", "lib", "docker"],
];
/// File names that hold credentials wherever they lie.
const CREDENTIAL_NAMES: &[&str] = &[
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    ".netrc",
    ".pgpass",
    ".git-credentials",
    "credentials.json",
    "logins.json",
    "key4.db",
    "cookies.sqlite",
    "login.keychain-db",
    "service-account.json",
    "kubeconfig",
    ".htpasswd",
    "secrets.yml",
    "secrets.yaml",
    "master.key",
];
/// Folders that hold credentials in whosever home they lie.
const STORES: &[&str] = &[".ssh", ".gnupg", ".aws", ".kube", ".password-store"];
/// File names of a project that often hold secrets and are read every day all the same.
const SECRETIVE_NAMES: &[&str] = &[
    ".env",
    ".env.local",
    ".env.production",
    ".env.development",
    ".envrc",
    "terraform.tfstate",
    ".npmrc",
    ".pypirc",
];
/// Files and folders below a home folder that run at a login, at a start, or let somebody in.
const START_UP_AT_HOME: &[&[&str]] = &[
    &[".bashrc"],
    &[".bash_profile"],
    &[".bash_login"],
    &[".bash_logout"],
    &[".bash_aliases"],
    &[".profile"],
    &[".zshrc"],
    &[".zshenv"],
    &[".zprofile"],
    &[".zlogin"],
    &[".zlogout"],
    &[".kshrc"],
    &[".config", "fish"],
    &[".xinitrc"],
    &[".xprofile"],
    &[".xsession"],
    &[".xsessionrc"],
    &[".config", "autostart"],
    &[".config", "systemd"],
    &[".local", "share", "systemd"],
    &[".config", "environment.d"],
    &[".pam_environment"],
    &["Library", "LaunchAgents"],
    &["Library", "LaunchDaemons"],
    &[".ssh", "authorized_keys*"],
    &[".ssh", "rc"],
    &[".ssh", "environment"],
    &[".ssh", "config"],
    &[".config", "cron"],
    &[".oh-my-zsh"],
];
/// The same, from the root.
const START_UP_AT_ROOT: &[&[&str]] = &[
    &["etc", "profile*"],
    &["etc", "bash.bashrc"],
    &["etc", "bashrc"],
    &["etc", "zsh*"],
    &["etc", "cron*"],
    &["etc", "anacrontab"],
    &["var", "spool", "cron"],
    &["var", "spool", "at"],
    &["etc", "systemd"],
    &["usr", "lib", "systemd"],
    &["lib", "systemd"],
    &["usr", "local", "lib", "systemd"],
    &["run", "systemd"],
    &["etc", "init.d"],
    &["etc", "rc.local"],
    &["etc", "rc*"],
    &["etc", "ld.so.preload"],
    &["etc", "ld.so.conf*"],
    &["etc", "environment"],
    &["etc", "udev"],
    &["etc", "xdg", "autostart"],
    &["Library", "LaunchDaemons"],
    &["Library", "LaunchAgents"],
    &["etc", "init"],
    &["etc", "update-motd.d"],
    &["etc", "modules*"],
    &["etc", "NetworkManager", "dispatcher.d"],
];
/// Files from the root that decide who may do what.
const PROTECTIONS: &[&[&str]] = &[
    &["etc", "sudoers*"],
    &["etc", "pam*"],
    &["etc", "passwd*"],
    &["etc", "shadow*"],
    &["etc", "group*"],
    &["etc", "gshadow*"],
    &["etc", "ssh"],
    &["etc", "selinux"],
    &["sys", "fs", "selinux"],
    &["sys", "kernel", "security"],
    &["proc", "sys", "kernel"],
    &["etc", "apparmor*"],
    &["etc", "security"],
    &["etc", "audit"],
    &["etc", "doas.conf"],
    &["etc", "polkit-1"],
    &["etc", "nftables*"],
    &["etc", "iptables"],
    &["etc", "ca-certificates*"],
    &["usr", "local", "share", "ca-certificates"],
    &["etc", "ssl", "certs"],
];
/// Below a home folder: settings and programs that other programs act on.
const SETTINGS_AT_HOME: &[&[&str]] = &[
    &[".gitconfig"],
    &[".config", "git"],
    &[".vimrc"],
    &[".vim"],
    &[".config", "nvim"],
    &[".emacs*"],
    &[".inputrc"],
    &[".tmux.conf"],
    &[".screenrc"],
    &[".local", "bin"],
    &["bin"],
    &[".cargo", "bin"],
    &[".cargo", "config*"],
    &[".rustup"],
    &[".npm-global"],
    &[".pyenv"],
    &[".nvm"],
    &[".config", "pip"],
    &[".pip"],
    &[".m2", "settings.xml"],
    &[".gradle", "init*"],
    &[".vscode"],
    &[".config", "Code"],
    &[".mcp.json"],
    &[".claude"],
    &[".gemini"],
    &[".cursor"],
    &[".config", "direnv"],
    &[".curlrc"],
    &[".wgetrc"],
    &[".gdbinit"],
    &[".psqlrc"],
    &[".pythonrc*"],
    &[".config", "containers"],
    &[".docker"],
    &[".editorconfig"],
];
/// Folders whose files are run or loaded by name.
const RUN_FROM: &[&str] = &[
    "bin",
    "sbin",
    "site-packages",
    "dist-packages",
    "node_modules",
    "hooks",
    "plugins",
    "extensions",
    "autostart",
    "Startup",
];
/// Folders from the root that belong to the machine.
const SYSTEM: &[&str] = &[
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt",
    "proc",
    "run",
    "sbin",
    "srv",
    "sys",
    "usr",
    "var",
    "System",
    "Library",
    "Applications",
    "private",
    "cores",
];
/// Names of devices whose content is a disk or memory.
const DEVICES: &[&str] = &[
    "sd*", "hd*", "vd*", "xvd*", "nvme*", "mmcblk*", "disk*", "rdisk*", "dm-*", "mapper", "md*",
    "loop*", "mem", "kmem", "port", "ram*", "zd*", "sr*", "nbd*", "mtd*",
];
/// Files below `$CODEX_HOME` and the runner's own folders that no agent may touch.
const REVIEWERS: &[&[&str]] = &[
    &[".codex"],
    &[".local", "state", "auto-review"],
    &[".config", "auto-review"],
    &[".local", "share", "auto-review"],
    &[".cache", "auto-review"],
];

/// The names of `location` below a home folder, as a location again: the user's own or anybody's.
fn at_home(location: &Location, scene: &Scene, wanted: &[&[&str]]) -> bool {
    let own: Vec<&str> = scene
        .home
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let homes: [&[&str]; 5] = [
        &own,
        &["home", "*"],
        &["Users", "*"],
        &["root"],
        &["var", "home", "*"],
    ];
    wanted.iter().any(|wanted| {
        homes.iter().any(|home| {
            let path: Vec<&str> = home.iter().chain(wanted.iter()).copied().collect();
            location.starts_with(&path)
        })
    })
}

fn at_root(location: &Location, wanted: &[&[&str]]) -> bool {
    wanted.iter().any(|wanted| location.starts_with(wanted))
}

/// A store of credentials, or a file in one. What is public by its nature is not.
pub(super) fn holds_credentials(location: &Location, scene: &Scene) -> bool {
    let public = location.last().is_some_and(|name| {
        name.ends_with(".pub") || name.starts_with("known_hosts") || name == "config.example"
    }) || at_home(location, scene, &[&[".aws", "config"]]);
    if public {
        return false;
    }
    at_home(location, scene, CREDENTIALS_AT_HOME)
        || at_root(location, CREDENTIALS_AT_ROOT)
        || CREDENTIAL_NAMES
            .iter()
            .any(|name| location.last_may_be(name))
        || location.last().is_some_and(|name| {
            [".key", ".p12", ".pfx", ".keystore", ".jks", ".kdbx", ".ppk"]
                .iter()
                .any(|end| name.ends_with(end))
                && !location.starts_with(&["usr", "share"])
                && !location.starts_with(&["etc", "ssl", "certs"])
        })
        || (is_pem(location) && !scene.in_workspace(location))
        || (!scene.in_workspace(location) && STORES.iter().any(|name| location.has_run(&[name])))
        || process_secrets(location)
        || is_packed_store(location)
}

/// Where a word points for a program that shows names and sizes: of all names in a folder, the folder.
pub(super) fn shown_by_name(location: &Location, scene: &Scene) -> Location {
    let (names, rest) = location.certain_names();
    let all = matches!(rest, Rest::Pattern(pattern) if pattern.chars().all(|c| c == '*'));
    if all && !names.is_empty() && location.depth() == names.len() + 1 {
        scene.locate_text(&format!("/{}", names.join("/")))
    } else {
        location.clone()
    }
}

/// A store of private keys or passwords that no tool needs to be read by hand, in whosever home it lies.
pub(super) fn holds_keys(location: &Location) -> bool {
    [
        ".ssh",
        ".gnupg",
        ".password-store",
        "keyrings",
        "Keychains",
        ".mozilla",
    ]
    .iter()
    .any(|name| location.has_run(&[name]))
}

/// A store of credentials, packed into one file.
fn is_packed_store(location: &Location) -> bool {
    location.last().is_some_and(|name| {
        STORES.iter().any(|store| {
            name.strip_prefix(store).is_some_and(|rest| {
                [".tar", ".tgz", ".zip", ".gz", ".7z", ".txz"]
                    .iter()
                    .any(|end| rest.starts_with(end))
            })
        })
    })
}

/// A file of keys or certificates in the one form for both. Its name tells a certificate; a project's own may be a test's.
fn is_pem(location: &Location) -> bool {
    location.last().is_some_and(|name| {
        name.strip_suffix(".pem").is_some_and(|stem| {
            !["cert", "chain", "ca", "bundle", "crt", "pub"]
                .iter()
                .any(|word| stem.contains(word))
        }) && !location.starts_with(&["usr", "share"])
            && !location.starts_with(&["etc", "ssl", "certs"])
    })
}

/// Another process's memory or environment.
fn process_secrets(location: &Location) -> bool {
    location.starts_with(&["proc"])
        && ["environ", "mem", "maps", "fd", "auxv", "kcore"]
            .iter()
            .any(|name| location.has_run(&[name]))
}

/// A file of a project that often holds secrets.
pub(super) fn is_secretive(location: &Location) -> bool {
    is_pem(location)
        || location.has_run(&[".aws"])
        || SECRETIVE_NAMES
            .iter()
            .any(|name| location.last_may_be(name))
}

/// Whether credentials lie somewhere below: a home folder, what holds one, or a folder of settings in one.
pub(super) fn holds_a_home(location: &Location, scene: &Scene) -> bool {
    ["/home", "/root", "/Users", "/etc/shadow", "/proc/self"]
        .iter()
        .any(|place| location.holds(place))
        || [
            "",
            "/.config/gcloud",
            "/.local/share/keyrings",
            "/Library/Keychains",
        ]
        .iter()
        .any(|below| location.holds(&format!("{}{below}", scene.home)))
}

/// What runs at a login or a start, or lets somebody in.
pub(super) fn is_start_up(location: &Location, scene: &Scene) -> bool {
    at_home(location, scene, START_UP_AT_HOME) || at_root(location, START_UP_AT_ROOT)
}

/// What decides who may do what.
pub(super) fn is_protection(location: &Location) -> bool {
    at_root(location, PROTECTIONS)
}

/// Settings and programs in a home folder that other programs act on, and a repository's own settings and hooks.
pub(super) fn is_settings(location: &Location, scene: &Scene) -> bool {
    at_home(location, scene, SETTINGS_AT_HOME)
        || [&[".git"], &[".agents"], &[".codex"], &[".husky"]]
            .iter()
            .any(|name| location.has_run(*name))
}

/// A folder of the machine. The folders for temporary files are not, and what lies in a workspace is the workspace's,
/// wherever that lies (`/srv/app`).
pub(super) fn is_system(location: &Location, scene: &Scene) -> bool {
    SYSTEM.iter().any(|name| location.starts_with(&[name]))
        && !is_temporary(location)
        && !scene.in_workspace(location)
}

/// A device that holds a disk or memory.
pub(super) fn is_device(location: &Location) -> bool {
    location.starts_with(&["dev"])
        && DEVICES
            .iter()
            .any(|name| location.starts_with(&["dev", name]))
}

/// What belongs to somebody else on the machine: another home, or what services keep.
pub(super) fn is_anothers(location: &Location, scene: &Scene) -> bool {
    let home = [
        &["home", "*"][..],
        &["Users", "*"],
        &["root"],
        &["var", "home", "*"],
    ]
    .iter()
    .any(|home| location.starts_with(home));
    let kept = [
        &["var", "lib"][..],
        &["var", "spool"],
        &["var", "mail"],
        &["var", "backups"],
    ]
    .iter()
    .any(|kept| location.starts_with(kept));
    (home && !location.is_within(&scene.home) && !scene.in_workspace(location)) || kept
}

/// A place for files that nobody keeps.
pub(super) fn is_temporary(location: &Location) -> bool {
    [
        &["tmp"][..],
        &["var", "tmp"],
        &["dev", "shm"],
        &["private", "tmp"],
        &["var", "folders"],
    ]
    .iter()
    .any(|path| location.starts_with(path) && location.depth() > path.len())
}

/// A cache in a home folder, which its tool fills again.
pub(super) fn is_cache(location: &Location, scene: &Scene) -> bool {
    at_home(
        location,
        scene,
        &[
            &[".cache", "*"],
            &[".npm", "_cacache"],
            &[".cargo", "registry"],
            &[".gradle", "caches"],
            &["Library", "Caches", "*"],
        ],
    )
}

/// What reviews and confines the agent.
pub(super) fn is_reviewers(location: &Location, scene: &Scene) -> bool {
    at_home(location, scene, REVIEWERS)
        || at_root(
            location,
            &[
                &["etc", "codex"],
                &["etc", "auto-review"],
                &["var", "lib", "auto-review"],
            ],
        )
        || [
            "agent-runner",
            "auto-review-server",
            "agent-runner.toml",
            "auto-review-server.toml",
        ]
        .iter()
        .any(|name| location.last_may_be(name) && !scene.in_workspace(location))
}

/// Whether nothing speaks against a new file there: no hidden name, no system folder, no settings.
pub(super) fn is_plain(location: &Location, scene: &Scene) -> bool {
    let Some(path) = location.certain() else {
        return false;
    };
    let hidden = path.split('/').any(|name| name.starts_with('.'));
    // What is put there is run by its name or its place.
    let run_from = RUN_FROM.iter().any(|name| location.has_run(&[name]));
    // Below the root itself only known folders are somebody's to write.
    let deep = location.depth() >= 2;
    !hidden
        && !run_from
        && deep
        && !is_system(location, scene)
        && !is_start_up(location, scene)
        && !is_settings(location, scene)
        && !is_reviewers(location, scene)
        && !holds_credentials(location, scene)
}
