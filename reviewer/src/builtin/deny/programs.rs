//! Programs whose words alone say that they are not to be run.
//!
//! Apart, because it is a list that grows with the programs of the world. Invariant: only certain words count.

use exec_policy::{Command, Location, Options, Word};

use super::super::Rule;
use super::super::places;
use super::super::scene::Scene;
use super::flow::dumps_credentials;
use super::{Found, add, is_root_like, spelled};

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
    if hands_out(program, &texts) {
        for word in command.arguments() {
            let location = named_place(at, word, scene);
            let named = word.to_string().contains(['/', '.']);
            if named && places::holds_credentials(&location, scene) {
                add(found, Rule::SecretToNetwork, location.written());
            }
        }
    }
    match program {
        "crontab" if !options.has(&["-l"]) => add(found, Rule::Persistence, spelled(command)),
        "ssh-copy-id" => add(found, Rule::Persistence, spelled(command)),
        "at" | "batch" => add(found, Rule::Persistence, spelled(command)),
        "kill" | "pkill" | "killall" | "systemctl" | "service" if names_reviewer(&texts) => {
            add(found, Rule::TampersReviewer, spelled(command));
        }
        _ if super::disks::wipes(program, &texts) => {
            add(found, Rule::WipesDevice, spelled(command));
        }
        name if name.starts_with("mkfs") || name == "mke2fs" => {
            add(found, Rule::WipesDevice, spelled(command))
        }
        "chmod" | "chown" => opens_up(at, &options, scene, found),
        "git" => force_push(&texts, command, found),
        "rsync" => mirrors(at, &texts, command, scene, found),
        _ if super::guards::switches_off(program, &texts) => {
            add(found, Rule::WeakensProtection, spelled(command))
        }
        _ => {}
    }
}

/// Where a word points; of a pattern the folder, since any name may be one of a key's.
fn named_place(at: usize, word: &Word, scene: &Scene) -> Location {
    let location = scene.locate(at, word);
    if !word.has_glob() {
        return location;
    }
    let (names, _) = location.certain_names();
    scene.locate_text(&format!("/{}", names.join("/")))
}

/// Programs that give a named file to others: a gist, a release, an issue, a share.
fn hands_out(program: &str, texts: &[&str]) -> bool {
    let first = texts.iter().find(|text| !text.starts_with('-'));
    match program {
        "gh" | "glab" => first.is_some_and(|first| {
            matches!(
                *first,
                "gist" | "release" | "issue" | "pr" | "mr" | "snippet"
            )
        }),
        "croc" | "wormhole" | "ipfs" | "surge" | "ffsend" | "pastebinit" | "twine" => true,
        _ => false,
    }
}

/// A mirror of one folder over another: what only the target holds is gone.
fn mirrors(at: usize, texts: &[&str], command: &Command, scene: &Scene, found: &mut Found) {
    let deletes = texts.iter().any(|text| {
        text.starts_with("--delete") || *text == "--del" || text.starts_with("--remove-source")
    });
    let target = command.arguments().last();
    let target = target.filter(|word| deletes && !word.to_string().contains(':'));
    if let Some(location) = target.map(|word| scene.locate(at, word))
        && is_root_like(&location, scene)
    {
        add(found, Rule::RemovesRoot, location.written());
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
