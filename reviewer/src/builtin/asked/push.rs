//! A push that the user asked for, in a repository of which the runner found that it runs nothing of its own.
//!
//! Apart from other commands, because it needs both: the words, and the facts that make the words mean no more than they
//! say. Invariant: one branch, to the configured remote's one address, never by force; a protected branch only by its name.

use exec_policy::{Role, Word};
use protocol::CommandAction;

use super::super::facts::Repository;
use super::super::git_call::GitCall;
use super::super::scene::Scene;
use super::super::{Finding, Rule, listed};
use super::{Sentence, Wishes};

/// Names of branches that others build on.
const PROTECTED: &str =
    "main master trunk develop development production prod stable release staging gh-pages";

/// One push.
struct Pushed<'p> {
    remote: &'p str,
    branch: &'p str,
}

/// Whether it is asked for.
pub(super) fn is_asked_for(
    action: &CommandAction,
    scene: &Scene,
    wishes: &Wishes,
    found: &[Finding],
) -> bool {
    let mut leaves = scene
        .commands()
        .filter(|(_, command)| command.role() == Role::Itself);
    let (Some((at, leaf)), None) = (leaves.next(), leaves.next()) else {
        return false;
    };
    let only_pushes = found
        .iter()
        .all(|finding| matches!(finding.rule, Rule::GitPush | Rule::ReachesNetwork));
    let steered = action
        .env
        .iter()
        .flatten()
        .any(|entry| exec_policy::steers(&entry.name));
    let plain = scene.reading.is_plain()
        && leaf.redirects().is_empty()
        && leaf.assignments().is_empty()
        && leaf.program_word().and_then(Word::literal) == Some("git");
    let texts: Option<Vec<&str>> = leaf.arguments().iter().map(Word::literal).collect();
    let call = texts.as_deref().and_then(GitCall::of);
    let (Some(call), Some(here)) = (call, scene.folder(at)) else {
        return false;
    };
    if !only_pushes || steered || !plain || call.overrides || call.folder.is_some() {
        return false;
    }
    let repository = scene.facts.quiet(here).filter(|repository| {
        scene.roots.iter().any(|root| root == here) && repository.goes_straight()
    });
    let pushed = repository.and_then(|repository| pushed(&call, repository));
    pushed.is_some_and(|pushed| wishes.any(|sentence| pushed.is_wished(sentence)))
}

/// What is pushed: the branch of the work tree, or the one that is named.
fn pushed<'p>(call: &GitCall<'p>, repository: &'p Repository) -> Option<Pushed<'p>> {
    if call.subcommand != "push" {
        return None;
    }
    let current = repository.branch.as_deref()?;
    let mut operands = Vec::new();
    for word in &call.arguments {
        match *word {
            "-u" | "--set-upstream" | "-q" | "--quiet" | "-v" => {}
            _ if word.starts_with('-') => return None,
            operand => operands.push(operand),
        }
    }
    let (remote, branch) = match operands.as_slice() {
        // Without a remote the branch's own decides.
        [] if follows(repository, "origin", current) => ("origin", current),
        [remote] => (*remote, current),
        [remote, "HEAD"] => (*remote, current),
        [remote, branch] => (*remote, *branch),
        _ => return None,
    };
    let plain = branch
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let known = repository
        .push
        .as_ref()
        .is_some_and(|push| push.is_to_remote(remote));
    (plain && known).then_some(Pushed { remote, branch })
}

fn follows(repository: &Repository, remote: &str, branch: &str) -> bool {
    let upstream = repository.upstream.as_deref();
    upstream.and_then(|upstream| upstream.strip_prefix("refs/remotes/"))
        == Some(format!("{remote}/{branch}").as_str())
}

impl Pushed<'_> {
    fn is_wished(&self, sentence: &Sentence) -> bool {
        let known = |word: &str| {
            word == self.branch || word == self.remote || word.eq_ignore_ascii_case("changes")
        };
        let guarded = listed(PROTECTED, self.branch) || self.branch.starts_with("release");
        sentence.orders_only(&["push"], &known) && (!guarded || sentence.names(self.branch))
    }
}
