//! Programs that run another program: what they run, from the words behind them.
//!
//! Apart, because a wrapper is the oldest way round a command rule. Invariant: wrapping never makes a reading milder;
//! an option that is not known makes it incomplete, and the inner command is still looked for.

mod layout;

use self::layout::{LAYOUTS, layout};
use crate::word::{Piece, Word};

/// What stands behind a program's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrapped {
    /// The program does its own work.
    Nothing,
    /// It runs these words as a program.
    Command {
        words: Vec<Word>,
        certainty: Certainty,
    },
    /// It runs this text as a shell script; `None` where the text is not certain.
    Script(Option<String>),
    /// It runs what its standard input or a file says, as a shell script.
    Input,
    /// It does its own work and runs these words beside.
    Beside(Vec<Vec<Word>>),
}

/// Whether the words were certainly told apart and nothing but the inner command is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// Yes, and the wrapper changes nothing of what the inner command may do.
    Transparent,
    /// Yes, but the inner command runs otherwise: as another user, elsewhere, with other variables.
    Changed,
    /// No.
    Guessed,
}

/// What `words`, whose first is the program `name`, wraps.
pub(crate) fn unwrap(name: &str, words: &[Word]) -> Wrapped {
    let arguments = words.get(1..).unwrap_or_default();
    match name {
        "bash" | "sh" | "zsh" | "dash" | "ksh" | "mksh" | "ash" | "rbash" => shell(arguments),
        // Other languages: their text is not read.
        "fish" | "csh" | "tcsh" | "nu" | "pwsh" | "elvish" | "xonsh" => Wrapped::Input,
        "eval" => Wrapped::Script(joined(arguments)),
        "trap" => match arguments {
            [] => Wrapped::Nothing,
            [action, ..] => Wrapped::Script(action.literal().map(str::to_owned)),
        },
        "alias" if !arguments.is_empty() => Wrapped::Script(None),
        "su" | "runuser" | "sg" | "script" => after_c(arguments),
        "env" => env(arguments),
        "command" if flags_of(arguments).any(|flag| matches!(flag, "-v" | "-V")) => {
            Wrapped::Nothing
        }
        "xargs" => xargs(arguments),
        "find" => find(arguments),
        "fd" | "fdfind" => fd(arguments),
        _ => LAYOUTS
            .iter()
            .find(|layout| layout.names.contains(&name))
            .map_or(Wrapped::Nothing, |layout| layout.unwrap(arguments)),
    }
}

fn flags_of(arguments: &[Word]) -> impl Iterator<Item = &str> {
    arguments
        .iter()
        .map_while(|word| word.literal().filter(|text| text.starts_with('-')))
}

pub(crate) fn is_assignment(word: &Word) -> bool {
    word.literal_prefix()
        .split_once('=')
        .is_some_and(|(name, _)| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

fn joined(words: &[Word]) -> Option<String> {
    let texts: Option<Vec<&str>> = words.iter().map(Word::literal).collect();
    texts.map(|texts| texts.join(" "))
}

/// `bash [options] -c SCRIPT`, `bash FILE`, `bash < SCRIPT` (bash(1), OPTIONS and INVOCATION).
fn shell(arguments: &[Word]) -> Wrapped {
    let mut rest = arguments;
    let mut script = false;
    let mut input = false;
    while let Some((word, tail)) = rest.split_first() {
        let Some(text) = word.literal() else {
            if word.literal_prefix().starts_with(['-', '+']) || word.has_unknown() {
                return Wrapped::Script(None);
            }
            break;
        };
        if !text.starts_with(['-', '+']) || text == "-" || text == "--" {
            if text == "-" || text == "--" {
                rest = tail;
            }
            break;
        }
        rest = tail;
        match text {
            "--rcfile" | "--init-file" => return Wrapped::Script(None),
            _ if text.starts_with("--") => {}
            _ => {
                script |= text.starts_with('-') && text.contains('c');
                input |= text.starts_with('-') && text.contains('s');
                if text.ends_with(['o', 'O']) {
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
    }
    match (script, rest.first()) {
        (true, Some(text)) => Wrapped::Script(text.literal().map(str::to_owned)),
        (true, None) => Wrapped::Nothing,
        (false, Some(_)) if !input => Wrapped::Nothing,
        (false, _) => Wrapped::Input,
    }
}

/// `su -c SCRIPT user`, `script -c SCRIPT file`.
fn after_c(arguments: &[Word]) -> Wrapped {
    for (at, word) in arguments.iter().enumerate() {
        let text = word.literal_prefix();
        if matches!(text, "-c" | "--command" | "-lc") || text.starts_with("--session-command") {
            let script = arguments.get(at + 1).and_then(Word::literal);
            return Wrapped::Script(script.map(str::to_owned));
        }
        if let Some(script) = word
            .without_prefix("--command=")
            .or_else(|| word.without_prefix("-c"))
        {
            return Wrapped::Script(script.literal().map(str::to_owned));
        }
    }
    // A shell that reads its standard input.
    Wrapped::Input
}

/// `env [-i] [-u NAME] [NAME=value…] [program…]` (env(1)).
fn env(arguments: &[Word]) -> Wrapped {
    let mut certainty = Certainty::Transparent;
    let mut rest = arguments;
    while let Some((word, tail)) = rest.split_first() {
        let text = word.literal_prefix();
        if is_assignment(word) {
            certainty = worse(certainty, Certainty::Changed);
        } else if !text.starts_with('-') {
            break;
        } else {
            match text {
                "--" | "-0" | "--null" | "-v" | "--debug" => {}
                "-i" | "-" | "--ignore-environment" => {
                    certainty = worse(certainty, Certainty::Changed)
                }
                "-u" | "--unset" => {
                    rest = tail.get(1..).unwrap_or_default();
                    certainty = worse(certainty, Certainty::Changed);
                    continue;
                }
                "-C" | "--chdir" => {
                    rest = tail.get(1..).unwrap_or_default();
                    certainty = Certainty::Guessed;
                    continue;
                }
                "-S" | "--split-string" => {
                    let script = tail.first().and_then(Word::literal);
                    return Wrapped::Script(script.map(str::to_owned));
                }
                _ if text.starts_with("-S")
                    || text.starts_with("--split-string=")
                    || text.starts_with("-vS") =>
                {
                    return Wrapped::Script(None);
                }
                _ => certainty = Certainty::Guessed,
            }
        }
        rest = tail;
    }
    if rest.is_empty() {
        return Wrapped::Nothing;
    }
    Wrapped::Command {
        words: rest.to_vec(),
        certainty,
    }
}

fn worse(one: Certainty, other: Certainty) -> Certainty {
    match (one, other) {
        (Certainty::Guessed, _) | (_, Certainty::Guessed) => Certainty::Guessed,
        (Certainty::Changed, _) | (_, Certainty::Changed) => Certainty::Changed,
        (Certainty::Transparent, Certainty::Transparent) => Certainty::Transparent,
    }
}

/// `xargs [options] [program…]`: what it appends comes from its input (xargs(1)).
fn xargs(arguments: &[Word]) -> Wrapped {
    const FLAGS: &[&str] = &[
        "-0",
        "-r",
        "-t",
        "-p",
        "-x",
        "-o",
        "--null",
        "--no-run-if-empty",
        "--verbose",
        "--interactive",
        "--exit",
        "--open-tty",
    ];
    const VALUED: &[&str] = &[
        "-a",
        "-d",
        "-E",
        "-I",
        "-J",
        "-L",
        "-n",
        "-P",
        "-s",
        "--arg-file",
        "--delimiter",
        "--max-lines",
        "--max-args",
        "--max-procs",
        "--max-chars",
        "--replace",
    ];
    let layout = layout(&["xargs"], FLAGS, VALUED, 0, Certainty::Changed);
    let Wrapped::Command { words, certainty } = layout.unwrap(arguments) else {
        return Wrapped::Nothing;
    };
    let replaces = arguments
        .iter()
        .take(arguments.len() - words.len())
        .any(|word| {
            let text = word.literal_prefix();
            text.starts_with("-I")
                || text.starts_with("-i")
                || text.starts_with("-J")
                || text.starts_with("--replace")
        });
    let mut words: Vec<Word> = if replaces {
        // Any word may hold the mark that is replaced; which, depends on the option.
        let program = words.first().cloned();
        program
            .into_iter()
            .chain(words.iter().skip(1).map(marked))
            .collect()
    } else {
        words
    };
    words.push(Word::unknown());
    Wrapped::Command { words, certainty }
}

fn marked(word: &Word) -> Word {
    match word.literal() {
        Some(text) if text.starts_with('-') && !text.contains(['{', '%', '@']) => word.clone(),
        Some(text) => match text.split_once("{}") {
            Some((before, after)) => hole(before, after),
            None => word.clone().joined(&Word::unknown()),
        },
        None => Word::unknown(),
    }
}

fn hole(before: &str, after: &str) -> Word {
    let mut word = Word::from_text(before);
    word.push(Piece::Unknown);
    word.push_text(after);
    word
}

/// `find ROOT… -exec program… ;`: `{}` is something below a root (find(1)).
fn find(arguments: &[Word]) -> Wrapped {
    let roots: Vec<&Word> = arguments
        .iter()
        .skip_while(|word| matches!(word.literal(), Some("-H" | "-L" | "-P")))
        .take_while(|word| !word.literal_prefix().starts_with(['-', '(', '!']))
        .collect();
    let here = Word::from_text(".");
    let root = match roots.as_slice() {
        [] => &here,
        [one, ..] => one,
    };
    let mut commands = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if !matches!(
            word.literal(),
            Some("-exec" | "-execdir" | "-ok" | "-okdir")
        ) {
            continue;
        }
        let inner: Vec<Word> = rest
            .by_ref()
            .take_while(|word| !matches!(word.literal(), Some(";" | "+")))
            .map(|word| below(root, word))
            .collect();
        if !inner.is_empty() {
            commands.push(inner);
        }
    }
    if commands.is_empty() {
        Wrapped::Nothing
    } else {
        Wrapped::Beside(commands)
    }
}

fn below(root: &Word, word: &Word) -> Word {
    match word.literal() {
        Some("{}") => {
            let mut found = root.clone();
            found.push_text("/");
            found.push(Piece::Unknown);
            found
        }
        Some(text) => match text.split_once("{}") {
            Some((before, after)) => hole(before, after),
            None => word.clone(),
        },
        None => word.clone(),
    }
}

/// `fd … -x program…`.
fn fd(arguments: &[Word]) -> Wrapped {
    let at = arguments.iter().position(|word| {
        matches!(
            word.literal(),
            Some("-x" | "-X" | "--exec" | "--exec-batch")
        )
    });
    match at.and_then(|at| arguments.get(at + 1..)) {
        Some(inner) if !inner.is_empty() => {
            let mut words: Vec<Word> = inner
                .iter()
                .map(|word| below(&Word::from_text("."), word))
                .collect();
            words.push(Word::unknown());
            Wrapped::Beside(vec![words])
        }
        _ => Wrapped::Nothing,
    }
}
