//! The least risk of what is neither plainly wrong nor provably harmless.
//!
//! Apart from [`super::deny`] because a floor leaves the verdict to somebody else. Invariant: what could not be read has
//! a floor of at least `medium`.

use exec_policy::{Command, Effect, Extent, Location, Rest, Role, Word};
use protocol::{CommandAction, SandboxPermissions};

use super::deny::{add, is_interpreter, names_only, spelled, takes_code};
use super::places;
use super::scene::Scene;
use super::{Finding, Rule};

type Found = Vec<Finding>;

/// Words by which a text that could not be read may do grave harm.
const GRAVE_WORDS: &[&str] = &[
    "rm",
    "dd",
    "mkfs",
    "shred",
    "curl",
    "wget",
    "nc",
    "ssh",
    "scp",
    "sudo",
    "su",
    "eval",
    "base64",
    "xxd",
    "chmod",
    "chown",
    "crontab",
    "authorized_keys",
    "kill",
    "pkill",
    "shadow",
    "id_rsa",
    "unlink",
    "rmdir",
    "truncate",
    "find",
    "python",
    "python3",
    "perl",
    "socat",
    "openssl",
    "systemctl",
    "rsync",
];

/// Floors of a command.
pub(super) fn command(action: &CommandAction, scene: &Scene, found: &mut Found) {
    if action.sandbox_permissions == SandboxPermissions::RequireUnconfined {
        add(found, Rule::Unconfined, "require_unconfined");
    }
    if !scene.reading.is_complete() {
        unread(action, found);
    }
    let asks: Vec<bool> = scene
        .commands()
        .map(|(_, command)| super::services::looks(command))
        .collect();
    for (at, effect) in scene.effects() {
        // What asks a service and nothing more was told by its words, not by what its program could do.
        let by_program = matches!(
            effect,
            Effect::Reaches(_)
                | Effect::Sends(_)
                | Effect::SendsInput
                | Effect::ChangesSystem
                | Effect::Runs
        );
        if by_program && asks.get(at) == Some(&true) {
            continue;
        }
        of_effect(at, &effect, scene, found);
    }
    for (at, command) in scene.commands() {
        if takes_code(command) && scene.is_fed_by(at, &|_| true) {
            add(found, Rule::InputToShell, spelled(command));
        }
        if command.program() == Some("git") {
            git(command, found);
        }
        hidden_credentials(at, command, scene, found);
        super::harms::command(command, found);
        super::openings::command(command, scene, found);
        if command.role() == Role::Itself && command.program().is_some_and(is_interpreter) {
            add(found, Rule::RunsPrograms, spelled(command));
        }
        if runs_unseen(at, command, scene) {
            add(found, Rule::ScriptUnseen, spelled(command));
        }
        for (name, _) in command.assignments() {
            if steers_programs(name) {
                add(found, Rule::InputToShell, name);
            }
        }
    }
    by_facts(scene, found);
    if let Some(wanted) = &action.additional_permissions {
        super::deny::permissions(wanted, scene, found);
    }
}

/// Whether a script is run whose file no runner could hold: its name, or the folder that it is meant from, is known only when
/// the shell runs.
fn runs_unseen(at: usize, command: &Command, scene: &Scene) -> bool {
    let program = command.program().unwrap_or_default();
    let of_an_interpreter = command.role() == Role::Itself && is_interpreter(program);
    let script = if of_an_interpreter || matches!(program, "." | "source") {
        let mut words = command.arguments().iter();
        let first = words.next();
        first.filter(|word| !word.literal_prefix().starts_with('-'))
    } else {
        let by_path = |word: &&Word| word.literal_prefix().contains('/');
        command.program_word().filter(by_path)
    };
    let somewhere = scene.folder(at).is_none();
    script.is_some_and(|word| match word.literal() {
        Some(path) => somewhere && !path.starts_with('/'),
        None => word.has_unknown() || word.has_glob(),
    })
}

/// What the runner found out: production, and scripts that do what would be denied by itself.
fn by_facts(scene: &Scene, found: &mut Found) {
    let changes = found
        .iter()
        .find(|finding| finding.rule.floor() >= protocol::RiskLevel::Medium);
    if let Some(object) = changes.map(|finding| finding.object.clone())
        && scene.facts.production
    {
        add(found, Rule::Production, object);
    }
    for script in &scene.facts.scripts {
        let words = ["bash".to_owned(), "-c".to_owned(), script.text.clone()];
        let mut inside = Vec::new();
        super::deny::command(&scene.within(&words), &mut inside);
        if inside.iter().any(|finding| finding.rule.denies()) {
            add(found, Rule::ScriptHarms, &script.path);
        }
    }
}

/// Words that name a credential, of programs of which is not known what they do with it.
fn hidden_credentials(at: usize, command: &Command, scene: &Scene, found: &mut Found) {
    // They use a key or a login with the service that it belongs to.
    const USES: &str = "\
        ssh scp sftp rsync ssh-add ssh-keygen git gpg gpg2 kubectl helm oc curl wget ansible \
        ansible-playbook mosh autossh age sops openssl";
    let program = command.program().unwrap_or_default();
    if command.role() != Role::Itself || names_only(program) || super::listed(USES, program) {
        return;
    }
    for word in command.arguments() {
        let path = match word.literal() {
            Some(text) => {
                let value = text.rsplit_once('=').map_or(text, |(_, value)| value);
                Word::from_text(value.trim_start_matches('@'))
            }
            // The home folder is certain enough.
            None if !word.has_unknown() && !word.has_glob() => word.clone(),
            None => continue,
        };
        let written = path.to_string();
        if !written.contains('/') || written.contains(char::is_whitespace) {
            continue;
        }
        let place = scene.locate(at, &path);
        if places::holds_credentials(&place, scene) {
            add(found, Rule::NearCredentials, written);
        }
    }
}

fn unread(action: &CommandAction, found: &mut Found) {
    let grave = action.command.iter().any(|word| {
        word.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|part| GRAVE_WORDS.contains(&part))
            || word.contains("/dev/")
            || word.contains("\\x")
    });
    let rule = if grave {
        Rule::UnreadGrave
    } else {
        Rule::UnreadShell
    };
    add(found, rule, action.command.join(" "));
}

/// Variables by which a program is made to run something else.
fn steers_programs(name: &str) -> bool {
    matches!(
        name,
        "PATH"
            | "BASH_ENV"
            | "ENV"
            | "IFS"
            | "PROMPT_COMMAND"
            | "PYTHONPATH"
            | "PYTHONSTARTUP"
            | "PERL5OPT"
            | "PERL5LIB"
            | "RUBYOPT"
            | "NODE_OPTIONS"
            | "EDITOR"
            | "VISUAL"
            | "PAGER"
            | "SHELLOPTS"
            | "BASHOPTS"
            | "HOME"
    ) || ["LD_", "DYLD_", "GIT_", "BASH_FUNC"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn of_effect(at: usize, effect: &Effect, scene: &Scene, found: &mut Found) {
    let command = scene.reading.commands().get(at);
    let shown = || command.map(spelled).unwrap_or_default();
    match effect {
        Effect::Deletes(word, extent) => removal(&scene.locate(at, word), *extent, scene, found),
        Effect::Writes(word) => write(&scene.locate(at, word), scene, found),
        Effect::Reads(word) => {
            let location = scene.locate(at, word);
            read(&location, command, scene, found);
        }
        Effect::Sends(_) => add(found, Rule::SendsFile, shown()),
        Effect::Reaches(_) | Effect::SendsInput => add(found, Rule::ReachesNetwork, shown()),
        Effect::Privileged => add(found, Rule::Privileged, shown()),
        Effect::ChangesSystem => add(found, Rule::ChangesSystem, shown()),
        Effect::Runs
            if command.is_some_and(|command| {
                command.role() == Role::Itself && command.program() != Some("git")
            }) =>
        {
            add(found, Rule::RunsPrograms, shown());
        }
        Effect::Runs => {}
    }
}

fn removal(location: &Location, extent: Extent, scene: &Scene, found: &mut Found) {
    let (_, rest) = location.certain_names();
    let written = location.written();
    if extent == Extent::Moved {
        write(location, scene, found);
        if !scene.in_workspace(location) && !places::is_temporary(location) {
            add(found, Rule::WritesOutside, written);
        }
        return;
    }
    if places::holds_credentials(location, scene)
        || location.has_run(&[".git"])
        || places::is_settings(location, scene)
    {
        add(found, Rule::WritesSettings, written);
    } else if places::is_system(location, scene) {
        add(found, Rule::WritesSystem, written);
    }
    if rest != Rest::Nothing {
        add(found, Rule::RemovesManyFiles, written);
    } else if extent == Extent::One {
        add(found, Rule::RemovesFiles, written);
    } else if scene.in_workspace(location) {
        if !super::allow::is_build_output(location, scene) {
            add(found, Rule::RemovesWorkspaceTree, written);
        }
    } else {
        add(found, Rule::RemovesTemporary, written);
    }
}

fn write(location: &Location, scene: &Scene, found: &mut Found) {
    let written = location.written();
    if location.certain().as_deref() == Some("/dev/null") {
        return;
    }
    if places::holds_credentials(location, scene) {
        add(found, Rule::NearCredentials, written);
    } else if places::is_settings(location, scene) {
        add(found, Rule::WritesSettings, written);
    } else if places::is_system(location, scene) {
        add(found, Rule::WritesSystem, written);
    } else if !scene.in_workspace(location) && !places::is_plain(location, scene) {
        add(found, Rule::WritesOutside, written);
    }
}

fn read(location: &Location, command: Option<&Command>, scene: &Scene, found: &mut Found) {
    let program = command.and_then(Command::program).unwrap_or_default();
    let sweeps = matches!(
        program,
        "grep"
            | "egrep"
            | "fgrep"
            | "rg"
            | "ag"
            | "ack"
            | "tar"
            | "zip"
            | "cp"
            | "rsync"
            | "7z"
            | "cpio"
    ) && places::holds_a_home(location, scene);
    let near = !names_only(program) && places::is_secretive(location);
    let shown = places::shown_by_name(location, scene);
    let names = names_only(program)
        && (places::holds_credentials(&shown, scene) || places::is_reviewers(&shown, scene));
    let device = !names_only(program) && places::is_device(location);
    if sweeps || near || names || device {
        add(found, Rule::NearCredentials, location.written());
    }
}

/// What git does, by its subcommand.
fn git(command: &Command, found: &mut Found) {
    let texts: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    let Some(call) = super::git_call::GitCall::of(&texts) else {
        if !texts.is_empty() && texts != ["--version"] {
            add(found, Rule::GitSettings, spelled(command));
        }
        return;
    };
    let has = |wanted: &[&str]| call.arguments.iter().any(|text| wanted.contains(text));
    let rule = match call.subcommand {
        _ if call.overrides => Rule::GitSettings,
        "config" if super::git_call::reads_setting(&call) => return,
        _ if bypasses(call.subcommand, &call.arguments) => Rule::BypassesHooks,
        "push" => push(&call.arguments),
        "clean" | "filter-branch" | "filter-repo" | "reflog" | "gc" | "prune" | "update-ref"
        | "replace" => Rule::DestroysGitWork,
        "reset" if has(&["--hard", "--merge", "--keep"]) => Rule::DestroysGitWork,
        "checkout" | "restore"
            if has(&["--", ".", "-f", "--force"]) || call.subcommand == "restore" =>
        {
            Rule::DestroysGitWork
        }
        "branch" | "tag" if has(&["-D", "-d", "--delete", "-f", "--force", "-M"]) => {
            Rule::DestroysGitWork
        }
        "stash" if has(&["drop", "clear"]) => Rule::DestroysGitWork,
        "worktree" if has(&["remove", "prune"]) => Rule::DestroysGitWork,
        "config" | "credential" | "hook" | "difftool" | "mergetool" | "bisect"
        | "filter-process" | "send-email" | "instaweb" | "daemon" => Rule::GitSettings,
        "rebase" if has(&["-x", "--exec", "-i", "--interactive"]) => Rule::GitSettings,
        "submodule" if has(&["foreach"]) => Rule::InputToShell,
        "remote" if has(&["add", "set-url", "remove", "rename"]) => Rule::GitSettings,
        "fetch" | "pull" | "clone" | "ls-remote" | "submodule" | "lfs" => Rule::ReachesNetwork,
        "remote" if has(&["show", "update", "prune"]) => Rule::ReachesNetwork,
        "log" | "show" | "status" | "diff" | "branch" | "tag" | "remote" | "rev-parse"
        | "rev-list" | "ls-files" | "describe" | "blame" | "grep" | "version" => return,
        _ => Rule::GitOther,
    };
    add(found, rule, spelled(command));
}

/// Whether the repository's hooks are told to keep quiet.
fn bypasses(subcommand: &str, arguments: &[&str]) -> bool {
    let says = |word: &str| arguments.contains(&word);
    match subcommand {
        "commit" => says("--no-verify") || says("-n") || says("-nm") || says("-anm"),
        "push" | "merge" | "am" => says("--no-verify"),
        _ => false,
    }
}

fn push(arguments: &[&str]) -> Rule {
    if force(arguments) {
        Rule::ForcePush
    } else if elsewhere(arguments) {
        Rule::PushesElsewhere
    } else {
        Rule::GitPush
    }
}

/// Whether the first operand is an address and no remote's name.
fn elsewhere(arguments: &[&str]) -> bool {
    let remote = arguments.iter().find(|text| !text.starts_with('-'));
    remote.is_some_and(|text| text.contains([':', '/']) || text.starts_with('.'))
}

fn force(arguments: &[&str]) -> bool {
    arguments.iter().any(|text| {
        text.starts_with("--force")
            || text.starts_with('+')
            || text.starts_with("--delete")
            || *text == "--mirror"
            || *text == "--prune"
            || text.starts_with(':')
            || (text.starts_with('-') && !text.starts_with("--") && text.contains(['f', 'd']))
    })
}
