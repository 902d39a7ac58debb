//! Reading the command line: the two commands that run something by themselves first.
//!
//! `exec` and `sandbox` start once for every command of an agent, and describing all of the others takes longer than
//! reading the settings. Invariant: what the short way reads, the whole description reads likewise; whatever the short way
//! does not take (help, mistakes) goes the long way, so that there is one text for it.

use std::ffi::{OsStr, OsString};

use clap::error::Result;
use clap::{Args, FromArgMatches, Parser as _};

use super::{Cli, Command, Exec, Sandbox};

/// Flags with which `exec` does not begin inside the walls.
const OUTSIDE: [&str; 3] = ["--escalate", "--unconfined", "--additional-permissions"];

/// What was typed, the program's own name first.
///
/// # Errors
/// It is no command line of this program, or asks for help.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Cli> {
    let command = match words.get(1).and_then(|word| word.to_str()) {
        Some("exec") => alone::<Exec>(&words).map(Command::Exec),
        Some("sandbox") => alone::<Sandbox>(&words).map(Command::Sandbox),
        _ => None,
    };
    match command {
        Some(command) => Ok(Cli { command }),
        None => Cli::try_parse_from(words),
    }
}

/// The command line of one command, whose name stands for the program's.
fn alone<A: Args + FromArgMatches>(words: &[OsString]) -> Option<A> {
    let described = A::augment_args(clap::Command::new("agent-runner"));
    let matches = described.try_get_matches_from(words.iter().skip(1)).ok()?;
    A::from_arg_matches(&matches).ok()
}

/// Whether it looks as if a command will be started inside the walls. A guess: nothing but time hangs on it.
pub(crate) fn starts_inside(words: &[OsString]) -> bool {
    let flags = || words.iter().skip(2).take_while(|word| *word != "--");
    match words.get(1).and_then(|word| word.to_str()) {
        Some("exec") => !flags().any(|word| leads_outside(word)),
        Some("sandbox") => flags().all(|word| word != "--help" && word != "-h"),
        _ => false,
    }
}

fn leads_outside(word: &OsStr) -> bool {
    let word = word.to_str().unwrap_or_default();
    let flag = word.split_once('=').map_or(word, |(flag, _)| flag);
    OUTSIDE.contains(&flag) || matches!(flag, "--help" | "-h")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser as _;

    use super::super::Cli;
    use super::{parse, starts_inside};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        for line in [
            "a exec -- ls -l",
            "a exec --sandbox read-only -a never -c a=b -c c=d -C /tmp --tty -- sh -c x",
            "a exec --escalate --justification why --session s --turn t -- ls",
            "a exec --profile p --add-dir /x --search --enable e --disable d -- ls --help",
            "a exec --yolo -- ls",
            "a exec --additional-permissions {} --report 3 --intent i -- ls",
            "a exec --version -- ls",
            "a exec",
            "a exec --",
            "a exec --help",
            "a exec --sandbox nowhere -- ls",
            "a exec --escalate --unconfined -- ls",
            "a sandbox ls -l",
            "a sandbox --sandbox workspace-write --log-denials --json -- ls --json",
            "a sandbox -P :read-only ls",
            "a sandbox --platform=macos ls",
            "a sandbox --best-effort --cd /x -- ls",
            "a sandbox -h",
            "a sandbox --nothing",
            "a doctor",
            "a",
        ] {
            let short = parse(words(line)).map_err(|error| error.to_string());
            let long = Cli::try_parse_from(words(line)).map_err(|error| error.to_string());
            assert_eq!(format!("{short:?}"), format!("{long:?}"), "{line}");
        }
    }

    #[test]
    fn only_what_starts_inside_is_begun_ahead() {
        for line in [
            "a exec -- ls --escalate",
            "a sandbox ls",
            "a exec -c a=b -- ls",
        ] {
            assert!(starts_inside(&words(line)), "{line}");
        }
        for line in [
            "a exec --escalate -- ls",
            "a exec --additional-permissions={} -- ls",
            "a exec --help",
            "a sandbox -h",
            "a history",
            "a",
        ] {
            assert!(!starts_inside(&words(line)), "{line}");
        }
    }
}
