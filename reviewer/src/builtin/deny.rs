//! What is plainly not to be done, found in the commands, patches, hosts and grants of an action.
//!
//! Apart from [`super::floor`] because a denial binds by itself. Invariant: a finding needs a certain program and a
//! target that is, or by its pattern may be, what the rule protects; what is merely unknown is left to the floors.

use exec_policy::{Command, Effect, Extent, Location, Options, Redirect, Rest, Word};
use protocol::{AdditionalPermissions, CommandAction, FileChange, NetworkAccess, ToolCall};

use super::places;
use super::scene::Scene;
use super::{Finding, Rule};

type Found = Vec<Finding>;

pub(super) fn add(found: &mut Found, rule: Rule, object: impl ToString) {
    found.push(Finding {
        rule,
        object: object.to_string(),
    });
}

/// Denials in a command.
pub(super) fn command(_: &CommandAction, scene: &Scene, found: &mut Found) {
    let effects = scene.effects();
    for (at, effect) in &effects {
        match effect {
            Effect::Deletes(word, extent) => removal(&scene.locate(*at, word), *extent, scene, found),
            Effect::Writes(word) => write(&scene.locate(*at, word), scene, found),
            Effect::Reads(word) => read(*at, word, scene, found),
            Effect::Sends(word) => send(&scene.locate(*at, word), scene, found),
            Effect::Reaches(Some(word)) => reach(word, found),
            Effect::Reaches(None) | Effect::SendsInput | Effect::Privileged | Effect::ChangesSystem | Effect::Runs => {}
        }
    }
    secrets_and_network(&effects, scene, found);
    for (at, command) in scene.commands() {
        remote_code(at, command, scene, found);
        by_program(at, command, scene, found);
    }
    fetched_then_run(&effects, scene, found);
}

/// A removal of what nothing can bring back, or of a tree that is not the task's.
fn removal(location: &Location, extent: Extent, scene: &Scene, found: &mut Found) {
    let written = location.written();
    if places::is_reviewers(location, scene) {
        add(found, Rule::TampersReviewer, written);
    }
    if places::is_device(location) && extent != Extent::Moved {
        add(found, Rule::WipesDevice, written);
    }
    if extent != Extent::Tree {
        return;
    }
    if is_root_like(location, scene) {
        add(found, Rule::RemovesRoot, written);
    } else if is_tree_outside(location, scene) {
        add(found, Rule::RemovesTreeOutside, written);
    }
}

/// `/`, a home, a workspace root, what holds one, a repository's own folder, a system folder; also by `DIR/*`.
fn is_root_like(location: &Location, scene: &Scene) -> bool {
    let (names, rest) = location.certain_names();
    let folder = format!("/{}", names.join("/"));
    // `/etc/*` takes all of `/etc`; `/home/u/x*` takes only some of it.
    let swept = match rest {
        Rest::Nothing => true,
        Rest::Pattern(pattern) => {
            location.depth() == names.len() + 1 && pattern.trim_start_matches('.').chars().all(|c| matches!(c, '*' | '?' | '[' | '!' | ']' | '^' | '.'))
        }
        Rest::Anything => location.depth() == names.len() + 1 && names.len() <= 1,
    };
    if !swept {
        return location.has_run(&[".git"]) && location.last_may_be(".git");
    }
    let here = scene.locate_text(&folder);
    here.depth() == 0
        || here.holds(&scene.home)
        || scene.roots.iter().any(|root| here.holds(root))
        || ["/home", "/root", "/Users"].iter().any(|home| here.holds(home))
        || (here.depth() == 2 && (here.starts_with(&["home", "*"]) || here.starts_with(&["Users", "*"])))
        || here.has_run(&[".git"])
        || places::is_system(&here)
}

fn is_tree_outside(location: &Location, scene: &Scene) -> bool {
    let (names, rest) = location.certain_names();
    if rest != Rest::Nothing && names.is_empty() {
        return false;
    }
    // Where the workspace itself lies among temporary files, its neighbours are somebody's.
    let temporary = places::is_temporary(location)
        && !scene.roots.iter().any(|root| places::is_temporary(&scene.locate_text(root)));
    !scene.in_workspace(location) && !temporary && !places::is_cache(location, scene)
}

fn write(location: &Location, scene: &Scene, found: &mut Found) {
    let written = location.written();
    if places::is_reviewers(location, scene) {
        add(found, Rule::TampersReviewer, written);
    } else if places::is_protection(location) {
        add(found, Rule::WeakensProtection, written);
    } else if places::is_start_up(location, scene) {
        add(found, Rule::Persistence, written);
    } else if places::is_device(location) {
        add(found, Rule::WipesDevice, written);
    }
}

fn read(at: usize, word: &Word, scene: &Scene, found: &mut Found) {
    let location = scene.locate(at, word);
    let command = scene.reading.commands().get(at);
    let program = command.and_then(Command::program).unwrap_or_default();
    if places::is_reviewers(&location, scene) && !names_only(program) {
        add(found, Rule::TampersReviewer, location.written());
    } else if places::holds_credentials(&location, scene) && !names_only(program) {
        add(found, Rule::ReadsCredentials, location.written());
    }
}

/// Programs that tell names and sizes, not contents.
pub(super) fn names_only(program: &str) -> bool {
    matches!(
        program,
        "ls" | "dir" | "vdir" | "stat" | "du" | "df" | "tree" | "readlink" | "realpath" | "basename" | "dirname" | "test" | "[" | "cd" | "pushd"
            | "popd" | "exa" | "eza" | "find" | "getfacl" | "lsattr"
    )
}

fn send(location: &Location, scene: &Scene, found: &mut Found) {
    let secret = places::holds_credentials(location, scene)
        || places::is_secretive(location)
        || places::is_reviewers(location, scene)
        || places::holds_a_home(location, scene);
    if secret {
        add(found, Rule::SecretToNetwork, location.written());
    }
}

/// Hosts that hand out credentials to whoever asks from inside a machine.
const METADATA_HOSTS: &[&str] = &["169.254.169.254", "metadata.google.internal", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "metadata.azure.com"];

fn reach(word: &Word, found: &mut Found) {
    let text = word.to_string();
    if METADATA_HOSTS.iter().any(|host| text.contains(host)) {
        add(found, Rule::MetadataService, text);
    }
}

/// A secret that is read and a machine that is reached in one action.
fn secrets_and_network(effects: &[(usize, Effect)], scene: &Scene, found: &mut Found) {
    let commands = scene.reading.commands();
    let sinks: Vec<usize> = effects
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Reaches(_) | Effect::SendsInput))
        .map(|(at, _)| *at)
        .collect();
    if sinks.is_empty() {
        return;
    }
    for (at, effect) in effects {
        let Effect::Reads(word) = effect else { continue };
        let location = scene.locate(*at, word);
        let program = commands.get(*at).and_then(Command::program).unwrap_or_default();
        if names_only(program) {
            continue;
        }
        let sent = |sink: &usize| sink == at || scene.is_fed_by(*sink, &|source| source == *at);
        let secret = places::holds_credentials(&location, scene)
            || places::is_reviewers(&location, scene)
            || ((places::is_secretive(&location) || places::holds_a_home(&location, scene)) && sinks.iter().any(sent));
        if secret {
            add(found, Rule::SecretToNetwork, location.written());
        }
    }
    for (at, command) in scene.commands() {
        if prints_secrets(command) && sinks.iter().any(|sink| scene.is_fed_by(*sink, &|source| source == at)) {
            add(found, Rule::SecretToNetwork, spelled(command));
        }
    }
}

/// Commands that print tokens, keys or the environment, in which tokens stand.
fn prints_secrets(command: &Command) -> bool {
    let words: Vec<&str> = command.arguments().iter().map(|word| word.literal().unwrap_or_default()).collect();
    match (command.program().unwrap_or_default(), words.as_slice()) {
        ("printenv", _) | ("export" | "declare" | "typeset", ["-p" | "-x", ..]) => true,
        ("env" | "set" | "export", []) => true,
        _ => dumps_credentials(command),
    }
}

fn dumps_credentials(command: &Command) -> bool {
    let words: Vec<&str> = command.arguments().iter().map(|word| word.literal().unwrap_or_default()).collect();
    match (command.program().unwrap_or_default(), words.as_slice()) {
        ("gpg" | "gpg2", words) => words.iter().any(|word| word.starts_with("--export-secret")),
        ("security", words) => words.iter().any(|word| word.starts_with("find-") || *word == "dump-keychain" || *word == "export"),
        ("secret-tool", ["lookup" | "search", ..]) | ("pass", ["show", ..]) | ("keyctl", ["print" | "read" | "pipe", ..]) => true,
        ("gh", ["auth", "token", ..]) | ("gcloud", ["auth", "print-access-token" | "print-identity-token", ..]) => true,
        ("aws", words) => words.contains(&"get-session-token") || words.contains(&"get-secret-value") || words.contains(&"export-credentials"),
        ("vault", ["read" | "kv" | "token", ..]) | ("git", ["credential", "fill", ..]) | ("op", ["read" | "item", ..]) => true,
        ("kubectl", words) => words.contains(&"secret") || words.contains(&"secrets"),
        ("mimipenguin" | "mimikatz" | "lazagne" | "laZagne", _) => true,
        _ => false,
    }
}

pub(super) fn spelled(command: &Command) -> String {
    let words: Vec<String> = command.words().iter().map(ToString::to_string).collect();
    words.join(" ")
}

const SHELLS: &[&str] = &["sh", "bash", "zsh", "dash", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "rbash", "nu", "elvish", "xonsh"];
const LANGUAGES: &[&str] = &["python", "perl", "ruby", "node", "nodejs", "php", "pwsh", "lua", "deno", "bun", "osascript", "Rscript", "tclsh", "guile", "groovy", "scala", "jshell", "ghci", "irb"];

/// Whether the program runs text as code.
pub(super) fn is_interpreter(program: &str) -> bool {
    SHELLS.contains(&program)
        || LANGUAGES.contains(&program)
        || matches!(program, "eval" | "source" | "." | "exec" | "su" | "runuser" | "at" | "batch" | "crontab" | "psql" | "mysql" | "sqlite3")
        || program.strip_prefix("python").or_else(|| program.strip_prefix("ruby")).or_else(|| program.strip_prefix("php")).is_some_and(|rest| {
            rest.chars().all(|c| c.is_ascii_digit() || c == '.')
        })
}

/// Whether what it is fed is code to it, and not data.
pub(super) fn takes_code(command: &Command) -> bool {
    let program = command.program().unwrap_or_default();
    if !is_interpreter(program) {
        return false;
    }
    let arguments = command.arguments();
    if arguments.iter().any(Word::has_unknown) {
        return true;
    }
    if command.redirects().iter().any(|redirect| matches!(redirect, Redirect::Document(None))) {
        return true;
    }
    let texts: Vec<&str> = arguments.iter().map(|word| word.literal().unwrap_or_default()).collect();
    let from_input = texts.iter().any(|text| matches!(*text, "-" | "/dev/stdin" | "/proc/self/fd/0" | "/dev/fd/0"));
    let given = texts.iter().any(|text| {
        let short = text.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
        short.contains('c') || short.contains('e') || short.contains('m') || !text.starts_with(['-', '+'])
    });
    let shell_input = SHELLS.contains(&program) && texts.iter().any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains('s'));
    from_input || shell_input || !given
}

/// Code that comes from the network.
fn remote_code(at: usize, command: &Command, scene: &Scene, found: &mut Found) {
    let fetches = |source: usize| {
        scene.reading.commands().get(source).is_some_and(|command| {
            command.effects().iter().any(|effect| matches!(effect, Effect::Reaches(_)))
                || matches!(command.program(), Some("lynx" | "w3m" | "fetch" | "aria2c" | "axel" | "lwp-request" | "GET" | "dig" | "host" | "nslookup"))
        })
    };
    if takes_code(command) && scene.is_fed_by(at, &fetches) {
        add(found, Rule::RemoteCode, spelled(command));
    }
}

/// A file that one command of the action fetches and another runs.
fn fetched_then_run(effects: &[(usize, Effect)], scene: &Scene, found: &mut Found) {
    let reaches = |at: usize| effects.iter().any(|(other, effect)| *other == at && matches!(effect, Effect::Reaches(_)));
    let fed = |at: usize| scene.is_fed_by(at, &reaches);
    let fetched: Vec<String> = effects
        .iter()
        .filter_map(|(at, effect)| match effect {
            Effect::Writes(word) if reaches(*at) || fed(*at) => scene.locate(*at, word).certain(),
            _ => None,
        })
        .collect();
    if fetched.is_empty() {
        return;
    }
    for (at, command) in scene.commands() {
        let program = command.program().unwrap_or_default();
        let runs_first = command.program_word().into_iter();
        let runs_operands = command.arguments().iter().filter(|_| is_interpreter(program));
        let runs = runs_first.chain(runs_operands).any(|word| {
            let place = scene.locate(at, word).certain();
            place.is_some_and(|place| fetched.contains(&place))
        });
        if runs {
            add(found, Rule::RemoteCode, spelled(command));
        }
    }
}

/// Programs whose words alone say it.
fn by_program(at: usize, command: &Command, scene: &Scene, found: &mut Found) {
    let Some(program) = command.program() else {
        return;
    };
    let options = Options::split(command.arguments(), &["-u", "-t", "-o"]);
    let texts: Vec<&str> = command.arguments().iter().map(|word| word.literal().unwrap_or_default()).collect();
    if dumps_credentials(command) {
        add(found, Rule::ReadsCredentials, spelled(command));
    }
    match program {
        "crontab" if !options.has(&["-l"]) => add(found, Rule::Persistence, spelled(command)),
        "at" | "batch" => add(found, Rule::Persistence, spelled(command)),
        "kill" | "pkill" | "killall" | "systemctl" | "service" if names_reviewer(&texts) => {
            add(found, Rule::TampersReviewer, spelled(command));
        }
        "wipefs" | "blkdiscard" | "mkswap" | "fdisk" | "sfdisk" | "parted" | "cryptsetup" if texts.iter().any(|text| text.starts_with("/dev/")) => {
            add(found, Rule::WipesDevice, spelled(command));
        }
        name if name.starts_with("mkfs") || name == "mke2fs" => add(found, Rule::WipesDevice, spelled(command)),
        "chmod" | "chown" => opens_up(at, &options, scene, found),
        "git" => force_push(&texts, command, found),
        _ if switches_off(program, &texts) => add(found, Rule::WeakensProtection, spelled(command)),
        _ => {}
    }
}

fn names_reviewer(texts: &[&str]) -> bool {
    texts.iter().any(|text| ["agent-runner", "auto-review"].iter().any(|name| text.contains(name)))
}

/// Set-user-id, or system folders for everybody to write.
fn opens_up(at: usize, options: &Options<'_>, scene: &Scene, found: &mut Found) {
    let Some((mode, targets)) = options.operands.split_first() else {
        return;
    };
    let mode = mode.literal().unwrap_or_default();
    let octal = mode.len() >= 3 && mode.chars().all(|c| c.is_digit(8));
    let set_id = mode.contains("+s") || (octal && mode.len() == 4 && mode.starts_with(['2', '4', '6', '7']));
    let open = matches!(mode, "777" | "0777" | "666" | "0666" | "a+rwx" | "a+w" | "o+w" | "a=rwx" | "ugo+rwx" | "+w");
    for target in targets {
        let location = scene.locate(at, target);
        let machine = places::is_system(&location) || location.depth() == 0 || location.holds(&scene.home) || places::holds_credentials(&location, scene);
        if set_id || (open && machine) {
            add(found, Rule::WeakensProtection, location.written());
        }
    }
}

/// Commands that take a protection of the machine away.
fn switches_off(program: &str, texts: &[&str]) -> bool {
    const GUARDS: &[&str] = &["firewalld", "ufw", "apparmor", "auditd", "selinux", "fail2ban", "iptables", "nftables", "clamav", "falcon", "osquery", "sshguard", "crowdsec"];
    let any = |wanted: &[&str]| texts.iter().any(|text| wanted.contains(text));
    match program {
        "setenforce" => any(&["0", "Permissive", "permissive"]),
        "iptables" | "ip6tables" => any(&["-F", "--flush", "-X"]) || (any(&["-P"]) && any(&["ACCEPT"])),
        "nft" => any(&["flush"]),
        "ufw" => any(&["disable", "reset"]),
        "auditctl" => any(&["-D", "-e"]),
        "systemctl" | "service" | "rc-service" => {
            any(&["stop", "disable", "mask", "kill"]) && texts.iter().any(|text| GUARDS.iter().any(|guard| text.contains(guard)))
        }
        "csrutil" | "spctl" => any(&["disable", "--master-disable", "--global-disable"]),
        "aa-teardown" | "aa-disable" | "aa-complain" => true,
        "passwd" => any(&["-d", "--delete"]),
        "visudo" | "useradd" | "usermod" | "adduser" | "chpasswd" => true,
        "setcap" => texts.iter().any(|text| text.contains("cap_")),
        "sysctl" => texts.iter().any(|text| text.starts_with("kernel.randomize_va_space") || text.starts_with("kernel.yama") || text.starts_with("kernel.kptr")),
        "history" => any(&["-c"]),
        _ => false,
    }
}

const PROTECTED_BRANCHES: &[&str] = &["main", "master", "trunk", "production", "prod", "develop", "default", "stable"];

/// `git push` that rewrites or deletes a protected branch.
fn force_push(texts: &[&str], command: &Command, found: &mut Found) {
    let Some(at) = texts.iter().position(|text| *text == "push") else {
        return;
    };
    let rest: Vec<&str> = texts.iter().skip(at + 1).copied().collect();
    let long = |name: &str| rest.iter().any(|text| text.len() > 4 && name.starts_with(text.split('=').next().unwrap_or(text)));
    let cluster = |letter: char| rest.iter().any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains(letter));
    let force = long("--force") || long("--force-with-lease") || cluster('f');
    let delete = long("--delete") || cluster('d');
    let protected = |branch: &str| {
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        PROTECTED_BRANCHES.contains(&branch) || branch.starts_with("release")
    };
    let hit = rest.iter().filter(|text| !text.starts_with('-')).skip(1).any(|spec| {
        let plus = spec.starts_with('+');
        let (source, target) = spec.trim_start_matches('+').split_once(':').unwrap_or(("-", spec.trim_start_matches('+')));
        protected(target) && (force || delete || plus || source.is_empty())
    });
    if hit || long("--mirror") || (force && long("--all")) {
        add(found, Rule::ForcePushProtected, spelled(command));
    }
}

/// Denials in a patch: by the files that it says it changes and by those that its text names.
pub(super) fn patch(change: &FileChange, scene: &Scene, found: &mut Found) {
    let named = change.files.iter().map(|file| file.as_str());
    for path in named.chain(change.patch.lines().filter_map(patched)) {
        let location = scene.locate_text(path);
        write(&location, scene, found);
        if places::holds_credentials(&location, scene) {
            add(found, Rule::NearCredentials, path);
        } else if places::is_settings(&location, scene) {
            add(found, Rule::WritesSettings, path);
        } else if places::is_system(&location) {
            add(found, Rule::WritesSystem, path);
        } else if !scene.in_workspace(&location) {
            add(found, Rule::WritesOutside, path);
        }
    }
}

/// The file that a header line of a patch names, in the agent's format or the unified one.
fn patched(line: &str) -> Option<&str> {
    let agent = ["*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: "];
    if let Some(path) = agent.iter().find_map(|mark| line.strip_prefix(mark)) {
        return Some(path.trim());
    }
    let unified = line.strip_prefix("+++ ").or_else(|| line.strip_prefix("--- "))?;
    let path = unified.split('\t').next().unwrap_or(unified).trim();
    let path = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path);
    (path != "/dev/null").then_some(path)
}

/// Denials and floors of a host.
pub(super) fn network(access: &NetworkAccess, found: &mut Found) {
    let host = access.host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    if METADATA_HOSTS.contains(&host.as_str()) {
        add(found, Rule::MetadataService, &host);
    } else if is_private(&host) {
        add(found, Rule::PrivateNetwork, &host);
    } else {
        add(found, Rule::ReachesNetwork, &host);
    }
}

fn is_private(host: &str) -> bool {
    use std::net::IpAddr;
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local() || address.is_unspecified() || address.to_ipv4_mapped().is_some()
        }
        Err(_) => !host.contains('.') || [".local", ".internal", ".lan", ".localhost", ".intranet", ".corp"].iter().any(|end| host.ends_with(end)),
    }
}

/// Floors of a tool call: what it does is not known here.
pub(super) fn tool(call: &ToolCall, found: &mut Found) {
    add(found, Rule::SideEffects, format!("{}/{}", call.server, call.tool_name));
}

/// Denials and floors of a grant.
pub(super) fn permissions(wanted: &AdditionalPermissions, scene: &Scene, found: &mut Found) {
    for path in &wanted.write {
        let location = scene.locate_text(path.as_str());
        write(&location, scene, found);
        if is_root_like(&location, scene) && !scene.roots.iter().any(|root| root == path.as_str()) {
            add(found, Rule::WritesSystem, path);
        } else if places::is_settings(&location, scene) {
            add(found, Rule::WritesSettings, path);
        } else {
            add(found, Rule::WritesOutside, path);
        }
    }
    for path in &wanted.read {
        let location = scene.locate_text(path.as_str());
        if places::is_reviewers(&location, scene) {
            add(found, Rule::TampersReviewer, path);
        } else if places::holds_credentials(&location, scene) || places::holds_a_home(&location, scene) {
            add(found, Rule::NearCredentials, path);
        }
    }
    if wanted.network {
        add(found, Rule::WantsNetwork, "network");
    }
}
