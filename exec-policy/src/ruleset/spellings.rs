//! Other spellings of one command: `git-push` for `git push`, `terraform apply -destroy` for `terraform destroy`.
//!
//! Apart from the matching, because these are facts about single programs. Invariant: another spelling is held against
//! rules that restrict, beside the words as they were given; it allows nothing.

use super::HitCertainty;
use crate::command::Command;
use crate::word::Word;

/// The programs that read `apply -destroy` as `destroy`.
const TERRAFORM: &[&str] = &["terraform", "tofu", "terragrunt"];

/// How else a command could have been written.
#[derive(Debug)]
pub(super) struct Spelling {
    pub(super) command: Command,
    /// Whether it surely means that.
    pub(super) certainty: HitCertainty,
}

/// The other spelling of `command`, if it has one.
pub(super) fn other(command: &Command) -> Option<Spelling> {
    let program = command.program()?;
    if let Some(subcommand) = program.strip_prefix("git-") {
        return of_git(command, subcommand);
    }
    let known = TERRAFORM
        .iter()
        .any(|name| program.eq_ignore_ascii_case(name));
    if known { destroys(command) } else { None }
}

/// Git keeps its commands, and finds other people's, as programs of such names (git(1), `--exec-path`).
fn of_git(command: &Command, subcommand: &str) -> Option<Spelling> {
    if subcommand.is_empty() {
        return None;
    }
    let words = [Word::from_text("git"), Word::from_text(subcommand)];
    let arguments = command.arguments().iter().cloned();
    Some(Spelling {
        command: Command {
            words: words.into_iter().chain(arguments).collect(),
            ..command.clone()
        },
        certainty: HitCertainty::Certain,
    })
}

/// `apply` with the option `-destroy`, among the words or in a variable that terraform adds to them.
fn destroys(command: &Command) -> Option<Spelling> {
    let applies = |word: &Word| word.literal() == Some("apply");
    if !command.arguments().iter().any(applies) {
        return None;
    }
    let by_words = command.arguments().iter().filter_map(says_destroy);
    let by_variables = command
        .environment()
        .filter(|(name, _)| matches!(name.as_str(), "TF_CLI_ARGS" | "TF_CLI_ARGS_apply"))
        .filter_map(|(_, value)| match value.literal() {
            None => Some(HitCertainty::Possible),
            // Terraform takes quotation marks away as a shell does.
            Some(text) if text.contains(['"', '\'', '\\']) => Some(HitCertainty::Possible),
            Some(text) => text
                .split_whitespace()
                .filter_map(|word| says_destroy(&Word::from_text(word)))
                .next(),
        });
    let found: Vec<_> = by_words.chain(by_variables).collect();
    let certainty = if found.contains(&HitCertainty::Certain) {
        HitCertainty::Certain
    } else {
        *found.first()?
    };
    let words = command.words().iter().map(|word| {
        if applies(word) {
            Word::from_text("destroy")
        } else {
            word.clone()
        }
    });
    Some(Spelling {
        command: Command {
            words: words.collect(),
            ..command.clone()
        },
        certainty,
    })
}

/// Whether `word` is the option `-destroy`, as Go's `flag` package reads it: one dash or two, with a truth value or without.
fn says_destroy(word: &Word) -> Option<HitCertainty> {
    let Some(text) = word.literal() else {
        let prefix = word.literal_prefix();
        let may = ["-destroy", "--destroy"].iter().any(|wanted| {
            prefix.is_empty() || wanted.starts_with(prefix) || prefix.starts_with(wanted)
        });
        return may.then_some(HitCertainty::Possible);
    };
    let name = text.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    let value = name.strip_prefix("destroy")?;
    let off = ["=0", "=f", "=F", "=false", "=FALSE", "=False"];
    let on = value.is_empty() || (value.starts_with('=') && !off.contains(&value));
    on.then_some(HitCertainty::Certain)
}
