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
        _ if is_shell(name) => shell(arguments),
        // Other languages: their text is not read.
        "fish" | "csh" | "tcsh" | "nu" | "pwsh" | "elvish" | "xonsh" => Wrapped::Input,
        _ if name.starts_with("ld-linux") || name == "ld.so" => loader(arguments),
        "su" | "runuser" | "sg" | "script" => after_c(arguments),
        "env" => env(arguments),
        "xargs" => xargs(arguments),
        "find" => find(arguments),
        "fd" | "fdfind" => fd(arguments),
        "at" | "batch" | "newgrp" | "crontab" => fed(name, arguments),
        _ => builtin(name, arguments).unwrap_or_else(|| laid_out(name, arguments)),
    }
}

/// What a builtin of the shell's wraps (bash(1), SHELL BUILTIN COMMANDS). `None`: by these words it runs nothing of its own.
fn builtin(name: &str, arguments: &[Word]) -> Option<Wrapped> {
    let has = |letter: char| flags_of(arguments).any(|flag| flag.contains(letter));
    Some(match name {
        "eval" => Wrapped::Script(joined(arguments)),
        "trap" => match arguments {
            [] => Wrapped::Nothing,
            [action, ..] => Wrapped::Script(action.literal().map(str::to_owned)),
        },
        "alias" if !arguments.is_empty() => Wrapped::Script(None),
        // Another file under a name, or code from a library.
        "hash" if has('p') => Wrapped::Script(None),
        "enable" if has('f') => Wrapped::Script(None),
        "bind" if has('x') => Wrapped::Script(None),
        "mapfile" | "readarray" => callback(arguments),
        "complete" | "compgen" if has('C') => callback(arguments),
        "source" | "." => sourced(arguments),
        "command" if has('v') || has('V') => Wrapped::Nothing,
        "let" | "test" | "[" | "declare" | "typeset" | "local" | "export" | "readonly"
        | "unset" | "read" | "printf" | "getopts" | "wait"
            if arguments.iter().any(evaluates) =>
        {
            Wrapped::Script(None)
        }
        _ => return None,
    })
}

/// Jobs and shells whose text comes by their input.
fn fed(name: &str, arguments: &[Word]) -> Wrapped {
    let lists = flags_of(arguments).any(|flag| matches!(flag, "-l" | "-r" | "-d"));
    match name {
        "at" | "crontab" if lists => Wrapped::Nothing,
        // A table of jobs is no script.
        "crontab" => Wrapped::Script(None),
        _ => Wrapped::Input,
    }
}

/// What a wrapper whose words follow one plan wraps.
fn laid_out(name: &str, arguments: &[Word]) -> Wrapped {
    let Some(layout) = LAYOUTS.iter().find(|layout| layout.names.contains(&name)) else {
        return Wrapped::Nothing;
    };
    let wrapped = layout.unwrap(arguments);
    // Without a program, a shell that reads its input.
    let shell = matches!(name, "sudo" | "doas") && starts_shell(arguments);
    if shell && matches!(wrapped, Wrapped::Nothing) {
        Wrapped::Input
    } else {
        wrapped
    }
}

/// `sudo -s`, `sudo -i`.
fn starts_shell(arguments: &[Word]) -> bool {
    flags_of(arguments).any(|flag| {
        matches!(flag, "--shell" | "--login")
            || (!flag.starts_with("--") && flag.contains(['s', 'i']))
    })
}

/// Whether `name` is a shell whose language is read.
pub(crate) fn is_shell(name: &str) -> bool {
    matches!(
        name,
        "bash" | "sh" | "zsh" | "dash" | "ksh" | "mksh" | "ash" | "rbash"
    )
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

/// Whether a shell that takes `word` for a number or a name would run a command in it: a subscript is expanded once more.
pub(crate) fn evaluates(word: &Word) -> bool {
    word.pieces().iter().any(
        |piece| matches!(piece, Piece::Text(text) if text.contains("$(") || text.contains('`')),
    )
}

/// `mapfile -C CALLBACK` (bash(1), SHELL BUILTIN COMMANDS).
fn callback(arguments: &[Word]) -> Wrapped {
    let at = arguments.iter().position(|word| {
        word.literal_prefix().starts_with('-') && word.literal_prefix().contains('C')
    });
    match at {
        None => Wrapped::Nothing,
        Some(at) => match arguments.get(at) {
            Some(word) if word.literal_prefix().ends_with('C') => {
                let script = arguments.get(at + 1).and_then(Word::literal);
                Wrapped::Script(script.map(str::to_owned))
            }
            _ => Wrapped::Script(None),
        },
    }
}

/// `source FILE`: a file is run as any script is; what is no file on disk was put together just now.
fn sourced(arguments: &[Word]) -> Wrapped {
    match arguments.first().map(Word::literal) {
        None => Wrapped::Nothing,
        Some(Some(file)) if file.starts_with("/dev/") || file.starts_with("/proc/") => {
            Wrapped::Input
        }
        Some(Some(_)) => Wrapped::Nothing,
        Some(None) => Wrapped::Script(None),
    }
}

/// `ld-linux-x86-64.so.2 [options] PROGRAM…` (ld.so(8)).
fn loader(arguments: &[Word]) -> Wrapped {
    let at = arguments
        .iter()
        .position(|word| word.literal_prefix().contains('/'));
    match at.and_then(|at| arguments.get(at..)) {
        Some(words) if !words.is_empty() => Wrapped::Command {
            words: words.to_vec(),
            certainty: Certainty::Guessed,
        },
        _ => Wrapped::Nothing,
    }
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
        // Shells say that a script is missing; which of the words they took for options is theirs to know.
        (true, None) => Wrapped::Script(None),
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
            let found = if evaluates(word) {
                Certainty::Guessed
            } else {
                Certainty::Changed
            };
            certainty = worse(certainty, found);
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
    let options = arguments
        .get(..arguments.len() - words.len())
        .unwrap_or_default();
    let mut words: Vec<Word> = match replaced(options) {
        // Any word may hold the mark that is replaced; the program's own only where it does.
        Some(mark) => {
            let program = words.first().map(|program| {
                let holds = program
                    .literal()
                    .is_none_or(|name| mark.is_empty() || name.contains(mark));
                if holds {
                    Word::unknown()
                } else {
                    program.clone()
                }
            });
            program
                .into_iter()
                .chain(words.iter().skip(1).map(marked))
                .collect()
        }
        None => words,
    };
    words.push(Word::unknown());
    Wrapped::Command { words, certainty }
}

/// What `xargs` replaces by its input, where its options say so; empty where that is not certain.
fn replaced(options: &[Word]) -> Option<&str> {
    options.iter().enumerate().find_map(|(at, word)| {
        let text = word.literal_prefix();
        if matches!(text, "-I" | "-J") {
            let next = options.get(at + 1);
            return Some(next.and_then(Word::literal).unwrap_or_default());
        }
        if matches!(text, "-i" | "--replace") {
            return Some("{}");
        }
        ["-I", "-J", "-i", "--replace="]
            .iter()
            .find_map(|option| text.strip_prefix(option))
    })
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
