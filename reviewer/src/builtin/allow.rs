//! What is provably low risk.
//!
//! Apart, because every line here is a yes. Invariant: the action was read whole, is plain, and every command in it is
//! one of the forms written here with nothing left over; an option that is not named is not allowed.

use exec_policy::{Class, Command, Effect, Location, Options, Redirect, Word};
use protocol::{CommandAction, SandboxPermissions};

use super::fetch::Walls;
use super::scene::Scene;
use super::{Finding, Rule, fetch, open, places, quiet_git, services, steered};

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
    services::explains(finding.rule) || by_form || widened
}

/// The rule by which a command is low risk.
pub(super) fn command(action: &CommandAction, scene: &Scene, found: &[Finding]) -> Option<Rule> {
    let confined = match action.sandbox_permissions {
        SandboxPermissions::UseDefault => true,
        SandboxPermissions::WithAdditionalPermissions | SandboxPermissions::RequireEscalated => {
            false
        }
        SandboxPermissions::RequireUnconfined => return None,
    };
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
        Redirect::Read(word) => readable(&scene.locate(at, word), scene),
        Redirect::Document(None) => false,
    });
    if !quiet || !named_plainly(command) || !command.assignments().is_empty() {
        return None;
    }
    if asks_version(command) {
        return Some(Rule::Looks);
    }
    match command.program()? {
        "git" => git(at, command, scene)
            .or_else(|| quiet_git::is_harmless(at, command, scene).then_some(Rule::GitQuiet))
            .or_else(|| fetch::fetches(at, command, scene, walls).then_some(Rule::FetchesPublic)),
        "mkdir" | "touch" | "cp" => makes_new(at, command, scene),
        "rm" => removes(at, command, scene),
        _ if looks(at, command, scene) => Some(Rule::Looks),
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
fn seeks_secrets(command: &Command) -> bool {
    const NAMES: &str = "id_rsa id_ed25519 id_ecdsa id_dsa .pem .key .kdbx .p12 .pfx .jks .keystore .env .netrc .pgpass \
                         password passwd secret token credential wallet keychain shadow .ssh .aws .gnupg";
    matches!(command.program(), Some("find" | "fd" | "fdfind" | "locate"))
        && command.arguments().iter().any(|word| {
            let word = word.to_string().to_ascii_lowercase();
            NAMES.split_whitespace().any(|name| word.contains(name))
        })
}

/// Known safe, or one of a few more that only look, on files that hold no secrets.
fn looks(at: usize, command: &Command, scene: &Scene) -> bool {
    if seeks_secrets(command) {
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
                is_listable(&scene.locate(at, word), scene)
            }
            Effect::Reads(word) => readable(&scene.locate(at, word), scene),
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
    // The home folder is certain; a pattern could become an option.
    let certain = |word: &Word| !word.has_unknown() && !word.has_glob();
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

/// A file that is certain, or a pattern, and holds no secret.
/// Whether a file may be read outside the walls. One in a workspace may be a link that the agent put there, to whatever;
/// and there is no need to leave the walls to read it.
fn readable(location: &Location, scene: &Scene) -> bool {
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
            && !scene.in_workspace(location)
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
fn is_listable(location: &Location, scene: &Scene) -> bool {
    let named = scene.in_workspace(location)
        && location.certain().is_some()
        && !places::holds_credentials(location, scene)
        && !places::is_reviewers(location, scene);
    named || readable(location, scene)
}

/// `mkdir`, `touch` and `cp -n` of certain paths into plain folders.
fn makes_new(at: usize, command: &Command, scene: &Scene) -> Option<Rule> {
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
            .all(|word| word.literal().is_some() && readable(&scene.locate(at, word), scene))
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

/// One call of git, taken apart.
#[derive(Debug)]
pub(super) struct GitCall<'c> {
    pub(super) subcommand: &'c str,
    pub(super) arguments: Vec<&'c str>,
    /// Where `-C` moves to.
    pub(super) folder: Option<&'c str>,
    /// Whether an option in front changes settings, folders or programs.
    pub(super) overrides: bool,
    /// Whether git was told to take no folder for a repository that is not called `.git`.
    explicit: bool,
}

impl<'c> GitCall<'c> {
    /// Takes a call apart; `None` where there is no subcommand.
    pub(super) fn of(texts: &[&'c str]) -> Option<Self> {
        let mut rest = texts.iter();
        let mut folder = None;
        let mut overrides = false;
        let mut explicit = false;
        loop {
            let text = *rest.next()?;
            match text {
                "-C" if folder.is_none() => folder = rest.next().copied(),
                "--no-pager" | "-P" | "--no-optional-locks" | "--literal-pathspecs" => {}
                "-c" if rest.as_slice().first() == Some(&"safe.bareRepository=explicit") => {
                    explicit = true;
                    rest.next();
                }
                "-c" | "--config-env" | "--exec-path" | "--git-dir" | "--namespace"
                | "--super-prefix" | "--work-tree" | "-C" => {
                    overrides = true;
                    rest.next();
                }
                _ if text.starts_with('-') => overrides = true,
                _ => {
                    return Some(Self {
                        subcommand: text,
                        arguments: rest.copied().collect(),
                        folder,
                        overrides,
                        explicit,
                    });
                }
            }
        }
    }
}

/// Reads of the history from a workspace root: there `.git` lies behind the walls and holds nothing of the agent's. A
/// root without one could be laid out as a bare repository whose settings name programs, so git has to be told not to
/// take it for one. Calls that look at the work tree are not among them, since they may run what a nested repository's
/// own settings name.
fn git(at: usize, command: &Command, scene: &Scene) -> Option<Rule> {
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let call = GitCall::of(&texts?)?;
    if call.subcommand == "config" && call.folder.is_none() {
        return reads_setting(&call).then_some(Rule::GitReads);
    }
    let here = match call.folder {
        Some(folder) => scene.locate(at, &Word::from_text(folder)).certain()?,
        None => scene.folder(at)?.to_owned(),
    };
    if call.overrides || !call.explicit || !scene.roots.contains(&here) {
        return None;
    }
    let listing = |allowed: &[&str]| call.arguments.iter().all(|text| allowed.contains(text));
    let reads = match call.subcommand {
        "log" | "show" | "rev-parse" | "rev-list" | "shortlog" | "cat-file" | "ls-tree"
        | "name-rev" | "merge-base" | "for-each-ref" | "show-ref" | "blame" => {
            !call.arguments.iter().any(|text| writes_or_runs(text))
        }
        "branch" => listing(&[
            "--list",
            "-l",
            "--show-current",
            "-a",
            "--all",
            "-r",
            "--remotes",
            "-v",
            "-vv",
            "--verbose",
        ]),
        "remote" => listing(&["-v", "--verbose"]),
        "tag" | "stash" => !call.arguments.is_empty() && listing(&["--list", "-l", "list"]),
        "version" => call.arguments.is_empty(),
        _ => false,
    };
    reads.then_some(Rule::GitReads)
}

/// `git config --get NAME` of a setting that says who or how, not where or with which key.
pub(super) fn reads_setting(call: &GitCall<'_>) -> bool {
    let name = match call.arguments.as_slice() {
        ["--get" | "get", name] | ["--global" | "--local", "--get", name] => *name,
        _ => return false,
    };
    !call.overrides
        && [
            "user.", "core.", "init.", "pull.", "push.", "merge.", "rebase.", "branch.", "color.",
        ]
        .iter()
        .any(|start| name.starts_with(start))
}

/// An option of git by which it writes a file or runs a program, also abbreviated as git allows.
fn writes_or_runs(text: &str) -> bool {
    const OPTIONS: &[&str] = &[
        "--output",
        "--ext-diff",
        "--textconv",
        "--exec",
        "--open-files-in-pager",
        "--upload-pack",
        "--show-signature",
    ];
    let name = text.split('=').next().unwrap_or(text);
    let long = name.len() > 2
        && name.starts_with("--")
        && OPTIONS.iter().any(|option| option.starts_with(name));
    // `%G` in a format asks for a signature to be checked, which runs a program.
    long || text.starts_with("-O") || text.contains("%G")
}
