//! What is plainly not to be done, found in the commands, patches, hosts and grants of an action.
//!
//! Apart from [`super::floor`] because a denial binds by itself. Invariant: a finding needs a certain program and a
//! target that is, or by its pattern may be, what the rule protects; what is merely unknown is left to the floors.

mod code;
mod disks;
mod flow;
mod guards;
mod hidden;
mod other;
mod programs;
mod stores;

use exec_policy::{Command, Effect, Extent, Location, Rest, Word};
use protocol::CommandAction;

use self::flow::{fetched_then_run, remote_code, secrets_and_network};
pub(super) use self::flow::{is_interpreter, takes_code};
pub(super) use self::other::{network, patch, patched_files, permissions};
use self::programs::by_program;

use super::places;
use super::scene::Scene;
use super::{Finding, Rule};

type Found = Vec<Finding>;

pub(super) fn add(found: &mut Found, rule: Rule, object: impl std::fmt::Display) {
    found.push(Finding {
        rule,
        object: object.to_string(),
    });
}

/// Denials in a command.
pub(super) fn command(scene: &Scene, found: &mut Found) {
    let effects = scene.effects();
    for (at, effect) in &effects {
        match effect {
            Effect::Deletes(word, extent) => {
                removal(&scene.locate(*at, word), *extent, scene, found)
            }
            Effect::Writes(word) => write(&scene.locate(*at, word), scene, found),
            Effect::Reads(word) => read(*at, word, scene, found),
            Effect::Sends(word) => send(&scene.locate(*at, word), scene, found),
            Effect::Reaches(Some(word)) => reach(word, found),
            Effect::Reaches(None)
            | Effect::SendsInput
            | Effect::Privileged
            | Effect::ChangesSystem
            | Effect::Runs => {}
        }
    }
    secrets_and_network(&effects, scene, found);
    for (at, command) in scene.commands() {
        remote_code(at, command, scene, found);
        hidden::hidden(at, command, scene, found);
        by_program(at, command, scene, found);
        stores::stores(command, found);
    }
    for (_, command) in scene.commands() {
        looks_up_collector(command, found);
    }
    fetched_then_run(&effects, scene, found);
    to_collector(&effects, scene, found);
}

/// Denials in code that a command carries in its words.
pub(super) fn carried_code(action: &CommandAction, scene: &Scene, found: &mut Found) {
    code::code(action, scene, found);
}

/// Content that goes to a place that is made to receive what strangers put there.
fn to_collector(effects: &[(usize, Effect)], scene: &Scene, found: &mut Found) {
    let sends = |at: usize| {
        effects.iter().any(|(from, effect)| {
            *from == at && matches!(effect, Effect::Sends(_) | Effect::SendsInput)
        })
    };
    for (at, effect) in effects {
        let Effect::Reaches(Some(word)) = effect else {
            continue;
        };
        let text = word.to_string();
        let rest = text
            .split_once("://")
            .map_or(text.as_str(), |(_, rest)| rest);
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        if super::fetch::collects(host) && (sends(*at) || scene.is_fed_by(*at, &|_| true)) {
            add(found, Rule::SendsToCollector, host);
        }
    }
}

/// A look-up of a name below a place that records what strangers ask it.
fn looks_up_collector(command: &Command, found: &mut Found) {
    let program = command.program().unwrap_or_default();
    if !super::listed("dig host nslookup drill ping ping6 resolvectl", program) {
        return;
    }
    for word in command.arguments() {
        let name = word.to_string();
        if super::fetch::collects(name.trim_end_matches('.')) {
            add(found, Rule::SendsToCollector, name);
        }
    }
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
            location.depth() == names.len() + 1
                && pattern
                    .trim_start_matches('.')
                    .chars()
                    .all(|c| matches!(c, '*' | '?' | '[' | '!' | ']' | '^' | '.'))
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
        || ["/home", "/root", "/Users"]
            .iter()
            .any(|home| here.holds(home))
        || (here.depth() == 2
            && (here.starts_with(&["home", "*"]) || here.starts_with(&["Users", "*"])))
        || here.has_run(&[".git"])
        || places::is_system(&here, scene)
}

fn is_tree_outside(location: &Location, scene: &Scene) -> bool {
    let (names, rest) = location.certain_names();
    if rest != Rest::Nothing && names.is_empty() {
        return false;
    }
    // Where the workspace itself lies among temporary files, its neighbours are somebody's.
    let temporary = places::is_temporary(location)
        && !scene
            .roots
            .iter()
            .any(|root| places::is_temporary(&scene.locate_text(root)));
    !scene.in_workspace(location) && !temporary && !places::is_cache(location, scene)
}

pub(super) fn write(location: &Location, scene: &Scene, found: &mut Found) {
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
        "ls" | "dir"
            | "vdir"
            | "stat"
            | "du"
            | "df"
            | "tree"
            | "readlink"
            | "realpath"
            | "basename"
            | "dirname"
            | "test"
            | "["
            | "cd"
            | "pushd"
            | "popd"
            | "exa"
            | "eza"
            | "find"
            | "getfacl"
            | "lsattr"
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
const METADATA_HOSTS: &[&str] = &[
    "169.254.169.254",
    "metadata.google.internal",
    "169.254.170.2",
    "fd00:ec2::254",
    "100.100.100.200",
    "metadata.azure.com",
];

fn reach(word: &Word, found: &mut Found) {
    let text = word.to_string();
    if METADATA_HOSTS.iter().any(|host| text.contains(host)) {
        add(found, Rule::MetadataService, text);
    }
}

pub(super) fn spelled(command: &Command) -> String {
    let words: Vec<String> = command.words().iter().map(ToString::to_string).collect();
    words.join(" ")
}
