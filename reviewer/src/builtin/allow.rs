//! What is provably low risk.
//!
//! Apart, because every line here is a yes. Invariant: the action was read whole, is plain, and every command in it is
//! one of the forms written here with nothing left over; an option that is not named is not allowed.

use exec_policy::{Class, Command, Effect, Location, Options, Piece, Redirect, Word};
use protocol::{CommandAction, SandboxPermissions};

use super::fetch::Walls;
use super::scene::Scene;
use super::{Finding, Rule, fetch, git_call, open, places, quiet_git, services, steered};

/// Folders that a build makes again, directly in a workspace root. Names that also hold people's work are not here.
const BUILD_OUTPUT: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".next",
    ".turbo",
    ".parcel-cache",
    ".nyc_output",
    ".venv",
    ".eggs",
    ".svelte-kit",
    ".nuxt",
    ".angular",
    ".ipynb_checkpoints",
];

/// What a form that is written here may have by its program alone.
fn is_explained(finding: &Finding, action: &CommandAction) -> bool {
    // Each git call and each removal of a plain name still has to be of a form that is written here.
    let by_form = matches!(
        finding.rule,
        Rule::GitOther | Rule::RemovesFiles | Rule::RemovesWorkspaceTree | Rule::RemovesTemporary
    );
    let widened = action.additional_permissions.is_some()
        && matches!(finding.rule, Rule::WantsNetwork | Rule::WritesOutside);
    // Nothing but questions are allowed without walls, each of them by a form that is written here.
    let asks_only = finding.rule == Rule::Unconfined;
    services::explains(finding.rule) || by_form || widened || asks_only
}

/// The rule by which a command is low risk.
pub(super) fn command(action: &CommandAction, scene: &Scene, found: &[Finding]) -> Option<Rule> {
    let confined = match action.sandbox_permissions {
        SandboxPermissions::UseDefault => true,
        SandboxPermissions::WithAdditionalPermissions | SandboxPermissions::RequireEscalated => {
            false
        }
        SandboxPermissions::RequireUnconfined => false,
    };
    let no_walls = action.sandbox_permissions == SandboxPermissions::RequireUnconfined;
    let judged_here = scene.reading.is_plain() && !action.tty && action.stdin.is_none();
    if !judged_here || !found.iter().all(|finding| is_explained(finding, action)) {
        return None;
    }
    if confined && scene.reading.known_safe() {
        return found.is_empty().then_some(Rule::InsideWalls);
    }
    if !confined && (!goes_by_its_name(action) || steered::by_environment(action, scene)) {
        return None;
    }
    let leaves: Vec<(usize, &Command)> = scene
        .commands()
        .filter(|(_, command)| command.role() == exec_policy::Role::Itself)
        .collect();
    if no_walls && !leaves.iter().all(|(_, command)| services::looks(command)) {
        return None;
    }
    if let Some(wanted) = &action.additional_permissions
        && !open::widens_little(wanted, &leaves, scene)
    {
        return None;
    }
    let walls = match action.sandbox_permissions {
        SandboxPermissions::RequireEscalated | SandboxPermissions::RequireUnconfined => Walls::Gone,
        SandboxPermissions::UseDefault | SandboxPermissions::WithAdditionalPermissions => {
            Walls::Stand
        }
    };
    each(scene, walls)
}

/// Every command of the reading in one of the forms written here.
fn each(scene: &Scene, walls: Walls) -> Option<Rule> {
    let asks = scene
        .commands()
        .any(|(_, command)| services::looks(command));
    // What a service tells may hold secrets; to sift it for them is to look for them.
    if asks
        && scene
            .commands()
            .any(|(_, command)| services::speaks_of_secrets(command))
    {
        return None;
    }
    let mut rule = Rule::Looks;
    let mut moved = false;
    let mut git_calls = steered::GitCalls::default();
    for (at, command) in scene.commands() {
        if command.role() == exec_policy::Role::Wrapper {
            if !plain_wrapper(command) {
                return None;
            }
            continue;
        }
        moved |= matches!(command.program(), Some("cd" | "pushd" | "popd"));
        let found = one(at, command, scene, walls)?;
        if steered::is_steered(at, command, scene, found) {
            return None;
        }
        git_calls.note(command, found);
        // Where a `cd` may have failed, what changes something would do it somewhere else.
        if moved && !matches!(found, Rule::Looks) {
            return None;
        }
        if rule == Rule::Looks {
            rule = found;
        }
    }
    if git_calls.build_on_each_other() {
        return None;
    }
    scene.reading.leaves().next().map(|_| rule)
}

/// Whether the program is the system's own and nothing in the environment makes it do something else.
fn goes_by_its_name(action: &CommandAction) -> bool {
    let steered = action
        .env
        .iter()
        .flatten()
        .any(|entry| exec_policy::steers(&entry.name));
    let own = action.program.as_ref().is_none_or(|program| {
        let path = program.path.as_str();
        [
            "/usr/bin/",
            "/usr/sbin/",
            "/usr/lib/",
            "/usr/local/bin/",
            "/bin/",
            "/sbin/",
            "/nix/store/",
        ]
        .iter()
        .any(|folder| path.starts_with(folder))
    });
    own && !steered
}

/// A wrapper by a bare or system name that takes nothing but a command.
fn plain_wrapper(command: &Command) -> bool {
    named_plainly(command)
        && matches!(
            command.program(),
            Some("bash" | "sh" | "dash" | "time" | "nice" | "timeout" | "command" | "env")
        )
        && command.assignments().is_empty()
}

/// A bare name, which the runner resolves outside every writable folder, or a path in a system folder.
fn named_plainly(command: &Command) -> bool {
    command
        .program_word()
        .and_then(Word::literal)
        .is_some_and(|name| {
            !name.contains('/')
                || ["/bin/", "/usr/bin/", "/usr/local/bin/"]
                    .iter()
                    .any(|folder| {
                        name.strip_prefix(folder)
                            .is_some_and(|rest| !rest.contains('/'))
                    })
        })
}

/// The rule by which one command is allowed.
fn one(at: usize, command: &Command, scene: &Scene, walls: Walls) -> Option<Rule> {
    let quiet = command.redirects().iter().all(|redirect| match redirect {
        Redirect::Duplicate | Redirect::Document(Some(_)) => true,
        Redirect::Write(word) => word.literal() == Some("/dev/null"),
        Redirect::Read(word) => readable(&scene.locate(at, word), scene, walls),
        Redirect::Document(None) => false,
    });
    if !quiet || !named_plainly(command) || !command.assignments().is_empty() {
        return None;
    }
    if asks_version(command) {
        return Some(Rule::Looks);
    }
    match command.program()? {
        "git" => git_call::reads_history(at, command, scene)
            .or_else(|| quiet_git::is_harmless(at, command, scene).then_some(Rule::GitQuiet))
            .or_else(|| fetch::fetches(at, command, scene, walls).then_some(Rule::FetchesPublic)),
        "mkdir" | "touch" | "cp" => makes_new(at, command, scene, walls),
        "rm" => removes(at, command, scene),
        _ if looks(at, command, scene, walls) => Some(Rule::Looks),
        _ if services::looks(command) => Some(Rule::AsksService),
        _ if fetch::fetches(at, command, scene, walls) => Some(Rule::FetchesPublic),
        _ => None,
    }
}

/// `PROGRAM --version`, but for programs of which the workspace says which version runs: what it names is run.
fn asks_version(command: &Command) -> bool {
    const BY_WORKSPACE: &str =
        "cargo rustc rustup rustfmt rust-analyzer go yarn pnpm corepack bundle terraform";
    let alone =
        matches!(command.arguments(), [word] if matches!(word.literal(), Some("--version" | "-V")));
    alone
        && command
            .program()
            .is_some_and(|name| !super::listed(BY_WORKSPACE, name))
}

/// A search over names for what holds secrets.
pub(super) fn seeks_secrets(command: &Command) -> bool {
    const NAMES: &str = "id_rsa id_ed25519 id_ecdsa id_dsa .pem .key .kdbx .p12 .pfx .jks .keystore .env .netrc .pgpass \
                         password passwd secret token credential wallet keychain shadow .ssh .aws .gnupg";
    matches!(command.program(), Some("find" | "fd" | "fdfind" | "locate"))
        && command.arguments().iter().any(|word| {
            let word = word.to_string().to_ascii_lowercase();
            NAMES.split_whitespace().any(|name| word.contains(name))
        })
}

/// A filter of jq that shows the environment, or reads another file of filters.
fn filters_the_environment(command: &Command) -> bool {
    command.program() == Some("jq")
        && command.arguments().iter().any(|word| {
            word.to_string()
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .any(|part| {
                    matches!(
                        part,
                        "env" | "ENV" | "import" | "include" | "input_filename"
                    )
                })
        })
}

/// Known safe, or one of a few more that only look, on files that hold no secrets.
fn looks(at: usize, command: &Command, scene: &Scene, walls: Walls) -> bool {
    if seeks_secrets(command) || filters_the_environment(command) {
        return false;
    }
    if command.class() != Class::KnownSafe && !looks_too(command) {
        return false;
    }
    // jq's first operand is its filter.
    let filter = usize::from(command.program() == Some("jq"));
    let number = |word: &Word| {
        word.literal()
            .is_some_and(|text| text.chars().all(|c| c.is_ascii_digit()))
    };
    command
        .effects()
        .iter()
        .skip(filter)
        .all(|effect| match effect {
            Effect::Reads(word) if command.program() == Some("tree") && number(word) => true,
            Effect::Reads(word)
                if super::deny::names_only(command.program().unwrap_or_default()) =>
            {
                is_listable(&scene.locate(at, word), scene, walls)
            }
            Effect::Reads(word) => readable(&scene.locate(at, word), scene, walls),
            Effect::Writes(word) => word.literal() == Some("/dev/null"),
            // The class says that `sed -n` prints and does no more.
            Effect::Runs => command.class() == Class::KnownSafe,
            Effect::Deletes(..)
            | Effect::Reaches(_)
            | Effect::Sends(_)
            | Effect::SendsInput
            | Effect::Privileged
            | Effect::ChangesSystem => false,
        })
}

fn looks_too(command: &Command) -> bool {
    // The home folder is certain; a pattern could become an option, but for one below a folder.
    let certain = |word: &Word| {
        let below = word.literal_prefix().starts_with('/')
            || matches!(word.pieces().first(), Some(Piece::Home));
        !word.has_unknown() && (!word.has_glob() || below)
    };
    if !command.arguments().iter().all(certain) {
        return false;
    }
    let words: Vec<String> = command
        .arguments()
        .iter()
        .map(ToString::to_string)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let dashed = |allowed: &str| {
        words.iter().all(|word| {
            word.strip_prefix('-').is_none_or(|rest| {
                !rest.starts_with('-') && rest.chars().all(|c| allowed.contains(c))
            })
        })
    };
    match command.program().unwrap_or_default() {
        "true" | "false" | ":" | "nproc" | "arch" => true,
        "du" => dashed("abchklmsx0123456789d"),
        "df" => dashed("aBhiHklPT"),
        "readlink" | "realpath" => dashed("efmnqsvz"),
        "basename" | "dirname" => dashed("asz"),
        "cmp" | "comm" | "diff" => dashed("abBiqrNuwsy123"),
        "md5sum" | "sha1sum" | "sha256sum" | "sha512sum" | "b2sum" | "cksum" => dashed("bt"),
        "sort" => dashed("bcdfghikMnrRsuVz0123456789,."),
        "hostname" => words.is_empty(),
        "date" => words
            .iter()
            .all(|word| word.starts_with('+') || *word == "-u"),
        "test" | "[" => true,
        "tree" => dashed("adfhpsugDiL0123456789"),
        "file" => dashed("bikLz"),
        "jq" => dashed("rceSMs"),
        "sed" => false,
        _ => false,
    }
}

/// Whether a file may be read. With no walls, one in a workspace may be a link that the agent put there, to whatever; and
/// there is no need to leave the walls to read it.
fn readable(location: &Location, scene: &Scene, walls: Walls) -> bool {
    let path = location.certain();
    let device = location.starts_with(&["dev"]) && path.as_deref() != Some("/dev/null");
    let told_to_all = path.as_deref().is_some_and(|path| {
        matches!(
            path,
            "/proc/cpuinfo"
                | "/proc/meminfo"
                | "/proc/version"
                | "/proc/loadavg"
                | "/proc/uptime"
                | "/proc/stat"
                | "/proc/filesystems"
        )
    });
    told_to_all
        || !device
            && (walls == Walls::Stand || !scene.in_workspace(location))
            && !location.starts_with(&["sys"])
            && !location.starts_with(&["proc"])
            && !places::holds_credentials(location, scene)
            && !places::is_secretive(location)
            && !places::is_reviewers(location, scene)
            && !places::is_anothers(location, scene)
            && !location.to_string().contains('…')
}

/// Whether names and sizes may be told: as [`readable`], and in the workspace where the name is certain. A link there can
/// lead to other names, and no further.
fn is_listable(location: &Location, scene: &Scene, walls: Walls) -> bool {
    let shown = places::shown_by_name(location, scene);
    let location = &shown;
    if location.starts_with(&["dev"]) {
        return true;
    }
    let named = scene.in_workspace(location)
        && location.certain().is_some()
        && !places::holds_credentials(location, scene)
        && !places::is_reviewers(location, scene);
    named || readable(location, scene, walls)
}

/// `mkdir`, `touch` and `cp -n` of certain paths into plain folders.
fn makes_new(at: usize, command: &Command, scene: &Scene, walls: Walls) -> Option<Rule> {
    let options = Options::split(command.arguments(), &[]);
    let program = command.program()?;
    let known: &[&str] = match program {
        "mkdir" => &["-p", "-v", "--parents", "--verbose"],
        // `-c` is not here: a later `touch` may not change the times of what exists, but it makes nothing either.
        "touch" => &[],
        // Nothing that exists is replaced, and a link's content is copied, not the link: a link placed in a plain folder
        // would make the next copy go elsewhere.
        _ => &["-n", "-v", "--no-clobber", "--verbose"],
    };
    let named = options
        .names
        .iter()
        .all(|name| known.contains(&name.as_str()));
    if !named || !options.values.is_empty() || options.uncertain || options.operands.is_empty() {
        return None;
    }
    let mut targets: Vec<&Word> = options.operands.clone();
    if program == "cp" {
        if !options.has(&["-n", "--no-clobber"]) || targets.len() < 2 {
            return None;
        }
        let target = targets.pop()?;
        let sources = std::mem::replace(&mut targets, vec![target]);
        if !sources
            .iter()
            .all(|word| word.literal().is_some() && readable(&scene.locate(at, word), scene, walls))
        {
            return None;
        }
    }
    let plain = targets.iter().all(|word| {
        let location = scene.locate(at, word);
        // In a folder that the agent may write it may have placed a link to anywhere.
        places::is_plain(&location, scene)
            && !scene.in_workspace(&location)
            && (word.literal().is_some() || !word.has_glob())
    });
    plain.then_some(Rule::MakesNew)
}

/// `rm -r` of build output.
fn removes(at: usize, command: &Command, scene: &Scene) -> Option<Rule> {
    let options = Options::split(command.arguments(), &[]);
    let known = [
        "-r",
        "-R",
        "-f",
        "-v",
        "--recursive",
        "--force",
        "--verbose",
    ];
    let named = options
        .names
        .iter()
        .all(|name| known.contains(&name.as_str()))
        && options.values.is_empty()
        && !options.uncertain;
    // With a slash behind it `rm` would follow a link.
    let plain = |word: &Word| {
        word.literal()
            .is_some_and(|text| !text.ends_with('/') && !text.ends_with("/."))
    };
    let mut rule = Rule::RemovesNothing;
    for word in &options.operands {
        let place = scene.locate(at, word);
        if is_build_output(&place, scene) {
            rule = Rule::RemovesBuildOutput;
        } else if !place
            .certain()
            .is_some_and(|path| scene.facts.is_missing(&path))
        {
            return None;
        }
    }
    let whole =
        named && !options.operands.is_empty() && options.operands.iter().copied().all(plain);
    whole.then_some(rule)
}

/// A build's own folder, directly in a workspace root.
pub(super) fn is_build_output(location: &Location, scene: &Scene) -> bool {
    let Some(path) = location.certain() else {
        return false;
    };
    scene.roots.iter().any(|root| {
        path.strip_prefix(root.trim_end_matches('/'))
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| BUILD_OUTPUT.contains(&name))
    })
}
