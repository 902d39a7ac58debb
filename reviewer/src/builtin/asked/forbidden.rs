//! What the user's own words forbid.
//!
//! Apart from what they ask for, because here a no counts and everything else does not. Invariant: it only ever denies;
//! the newest sentence that speaks of the deed decides; a question, a condition and a no to something else are no
//! prohibition of this.

use exec_policy::{Command, Role};
use protocol::{Action, Author, Escalation, Trust};

use super::super::git_call::GitCall;
use super::super::scene::Scene;
use super::super::tools::parts;
use super::super::{Finding, Rule, listed};
use super::{MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_SENTENCES, OPENINGS, trimmed};

/// Words by which a sentence forbids, where the deed follows.
const NO: &str = "don't don’t dont never without no avoid";
/// Words that may stand between the no and the deed.
const BETWEEN: &str =
    "to any yet ever please actually just again even do go and using use the with over";
/// Words behind the deed that name nothing.
const NOTHING: &str = "\
    it them anything this that these those yet now please today for the my any a an changes commits commit code at all \
    here just work ok thanks to on in stuff thing things everything something access connection pls";
/// Words that make a condition or a question of it.
const OPEN: &str = "if when until unless before after why how whether should would could might may";
/// Deeds that a sentence can forbid by their name.
const DEEDS: &str = "\
    push commit merge rebase reset pull fetch tag publish release deploy install upgrade delete remove drop destroy \
    send post email close approve restart scale apply network internet online upload force-push stash";

/// Tools whose first words say what they do.
const TOOLS: &str = "\
    gh glab npm yarn pnpm bun cargo docker podman kubectl oc helm terraform tofu pulumi aws gcloud az pip pip3 uv \
    poetry gem brew apt apt-get dnf make just task flyctl fly vercel netlify heroku wrangler twine firebase argocd";

/// Whether the user said not to do this.
pub(in crate::builtin) fn is_forbidden(
    escalation: &Escalation,
    scene: &Scene,
    found: &[Finding],
) -> bool {
    let said: Vec<&str> = escalation
        .transcript
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.trust == Trust::Trusted && entry.author == Author::User)
        .take(MAX_ENTRIES)
        .map(|entry| entry.text.as_str())
        .filter(|text| text.len() <= MAX_ENTRY_BYTES)
        .collect();
    if !said.iter().any(|text| holds_a_no(text)) {
        return false;
    }
    let deeds = deeds(&escalation.action, scene, found);
    let named = names(&escalation.action);
    deeds.iter().any(|deed| forbids(&said, deed, &named))
}

fn holds_a_no(text: &str) -> bool {
    words(text)
        .iter()
        .any(|word| word == "not" || listed(NO, word))
}

/// What the action does, in words that people have for it.
fn deeds(action: &Action, scene: &Scene, found: &[Finding]) -> Vec<String> {
    let mut deeds: Vec<String> = Vec::new();
    let mut add = |words: &str| {
        deeds.extend(words.split_whitespace().map(str::to_owned));
    };
    match action {
        Action::Command(_) => {
            for (_, command) in scene
                .commands()
                .filter(|(_, one)| one.role() == Role::Itself)
            {
                subcommands(command)
                    .into_iter()
                    .filter(|text| listed(DEEDS, text))
                    .for_each(&mut add);
            }
        }
        Action::NetworkAccess(_) => add("network internet online"),
        Action::PermissionRequest(request) if request.permissions.network => {
            add("network internet online");
        }
        Action::ToolCall(call) => {
            for part in parts(&call.tool_name) {
                if listed(DEEDS, &part) {
                    add(&part);
                }
            }
        }
        Action::FileChange(_) | Action::PermissionRequest(_) => {}
    }
    let removes = |rule| {
        matches!(
            rule,
            Rule::RemovesFiles
                | Rule::RemovesManyFiles
                | Rule::RemovesWorkspaceTree
                | Rule::DestroysService
                | Rule::ToolDestroys
        )
    };
    if found.iter().any(|finding| finding.rule == Rule::Publishes) {
        add("publish");
    }
    if found.iter().any(|finding| removes(finding.rule)) {
        add("delete remove");
    }
    deeds.sort_unstable();
    deeds.dedup();
    deeds
}

/// The words by which a tool is told what to do. Of another program they are its data.
fn subcommands(command: &Command) -> Vec<&str> {
    let texts: Vec<&str> = command
        .arguments()
        .iter()
        .map(|word| word.literal().unwrap_or_default())
        .collect();
    let program = command.program().unwrap_or_default();
    if program == "git" {
        return GitCall::of(&texts)
            .map(|call| call.subcommand)
            .into_iter()
            .collect();
    }
    let operands = texts.into_iter().filter(|text| !text.starts_with('-'));
    operands
        .take(if listed(TOOLS, program) { 2 } else { 0 })
        .collect()
}

/// The words of an action by which a sentence can name it.
fn names(action: &Action) -> Vec<String> {
    let text = match action {
        Action::Command(command) => command.command.join(" "),
        Action::NetworkAccess(access) => access.host.clone(),
        Action::ToolCall(call) => format!("{} {}", call.tool_name, call.arguments),
        Action::FileChange(_) | Action::PermissionRequest(_) => String::new(),
    };
    text.split(|c: char| c.is_whitespace() || "\"'{}[](),:".contains(c))
        .map(str::to_lowercase)
        .collect()
}

/// The newest sentence that speaks of the deed decides.
fn forbids(said: &[&str], deed: &str, named: &[String]) -> bool {
    for text in said {
        let sentences: Vec<&str> = text
            .split_inclusive(['.', '!', '?', ';', '\n'])
            .filter(|sentence| !sentence.trim().is_empty())
            .collect();
        if sentences.len() > MAX_SENTENCES {
            continue;
        }
        for sentence in sentences.iter().rev() {
            match speaks(sentence, deed, named) {
                Speech::Forbids => return true,
                Speech::Asks => return false,
                Speech::Nothing => {}
            }
        }
    }
    false
}

/// What a sentence says of a deed.
enum Speech {
    Forbids,
    Asks,
    Nothing,
}

fn speaks(sentence: &str, deed: &str, named: &[String]) -> Speech {
    let words = words(sentence);
    let orders_not = words.starts_with(&["do".to_owned(), "not".to_owned()]);
    let opens = !orders_not && words.first().is_some_and(|word| listed(OPENINGS, word));
    let is_question = sentence.trim_end().ends_with('?') || opens;
    let is_open = is_question || words.iter().any(|word| listed(OPEN, word));
    let mut speech = Speech::Nothing;
    for (at, word) in words.iter().enumerate() {
        if !is_form(word, deed) {
            continue;
        }
        if !is_denied(words.get(..at).unwrap_or_default()) {
            // A deed that is named without a no: asked for, or spoken of.
            if matches!(speech, Speech::Nothing) && !is_question {
                speech = Speech::Asks;
            }
            continue;
        }
        let behind = words.get(at + 1..).unwrap_or_default();
        let mut objects = behind
            .iter()
            .take_while(|word| !matches!(word.as_str(), "," | "but" | "and" | "or" | "so"))
            .filter(|word| !listed(NOTHING, word))
            .peekable();
        let anything = objects.peek().is_none();
        let this = objects.all(|object| named.contains(object));
        if this && !is_open && (!anything || !matches!(speech, Speech::Asks)) {
            return Speech::Forbids;
        }
    }
    speech
}

/// Whether a no stands before the deed, with nothing of weight between.
fn is_denied(before: &[String]) -> bool {
    let mut before = before.iter().rev().skip_while(|word| listed(BETWEEN, word));
    match before.next().map(String::as_str) {
        Some("not") => before.next().is_none_or(|word| {
            matches!(
                word.as_str(),
                "do" | "please" | "but" | "and" | "," | "or" | "must" | "also"
            )
        }),
        Some(word) => listed(NO, word),
        None => false,
    }
}

/// `push`, `pushing`, `pushes`; `commit`, `committing`; `merge`, `merging`.
fn is_form(word: &str, deed: &str) -> bool {
    let Some(rest) = word.strip_prefix(deed.trim_end_matches('e')) else {
        return false;
    };
    let last = deed.chars().next_back().unwrap_or_default();
    matches!(rest, "" | "e" | "s" | "es" | "ing")
        && (word != deed.trim_end_matches('e') || word == deed)
        || rest.strip_prefix(last).is_some_and(|rest| rest == "ing")
}

/// Lower-case words, and the commas between them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == '`') {
        let bare = trimmed(word);
        if !bare.is_empty() {
            words.push(bare.to_lowercase());
        }
        if word.ends_with([',', ':']) {
            words.push(",".to_owned());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{forbids, is_form};

    fn said(text: &str, deed: &str, named: &[&str]) -> bool {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        forbids(&[text], deed, &named)
    }

    #[test]
    fn a_no_before_the_deed_forbids_it() {
        for text in [
            "commit the fix locally, do not push",
            "Don't push yet.",
            "fix it without pushing anything",
            "never push to main",
            "no pushing please",
            "commit but do not push",
            "please do not ever push this",
        ] {
            assert!(
                said(text, "push", &["git", "push", "origin", "main"]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_no_to_something_else_or_a_condition_forbids_nothing() {
        for text in [
            "push fix-7",
            "don't push to main",
            "why did it not push",
            "don't push if the tests fail",
            "do not push until CI is green",
            "don't forget to push",
            "don't stop, push it",
            "did you not push?",
            "push fix-7, but don't push main",
            "do not wait and push",
        ] {
            assert!(
                !said(text, "push", &["git", "push", "origin", "fix-7"]),
                "{text}"
            );
        }
    }

    #[test]
    fn the_newest_word_counts() {
        let named: Vec<String> = Vec::new();
        assert!(!forbids(
            &["ok, push it now", "do not push yet"],
            "push",
            &named
        ));
        assert!(forbids(&["wait, don't push", "push it"], "push", &named));
        assert!(forbids(
            &["how is it going", "do not push yet"],
            "push",
            &named
        ));
    }

    #[test]
    fn forms_of_a_word_are_the_word() {
        for (word, deed) in [
            ("pushing", "push"),
            ("committing", "commit"),
            ("merging", "merge"),
            ("deletes", "delete"),
        ] {
            assert!(is_form(word, deed), "{word}");
        }
        for (word, deed) in [
            ("pushed", "push"),
            ("pushback", "push"),
            ("commitment", "commit"),
            ("delet", "delete"),
        ] {
            assert!(!is_form(word, deed), "{word}");
        }
    }
}
