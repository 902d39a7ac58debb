//! Programs that are named inside another program's words: inline code of other languages, options and variables that
//! name a command.
//!
//! Apart from the shell's reading because this is no reading: it finds names where a command may start, and what it finds
//! is only ever a doubt, held against rules that restrict. Invariant: it allows nothing.

use crate::command::Command;
use crate::options::Options;
use crate::rule::matching_name;
use crate::steering::steers;
use crate::word::Word;

/// Interpreters by the option that takes their code. A version may follow the name.
const INTERPRETERS: &[(&str, &[&str])] = &[
    ("python", &["-c"]),
    ("pypy", &["-c"]),
    ("perl", &["-e", "-E"]),
    ("ruby", &["-e"]),
    ("node", &["-e", "--eval", "-p", "--print"]),
    ("deno", &["eval"]),
    ("bun", &["-e", "--eval"]),
    ("php", &["-r"]),
    ("lua", &["-e"]),
    ("tclsh", &["-c"]),
    ("expect", &["-c"]),
    ("awk", &[]),
    ("gawk", &[]),
    ("mawk", &[]),
    ("nawk", &[]),
    ("sed", &[]),
    ("vim", &["-c", "--cmd"]),
    ("nvim", &["-c", "--cmd"]),
    ("vi", &["-c"]),
    ("ex", &["-c"]),
    ("emacs", &["--eval", "-eval"]),
    ("ed", &[]),
];

/// What code looks like that starts programs.
const STARTS: &[&str] = &[
    "system",
    "exec",
    "spawn",
    "popen",
    "Popen",
    "subprocess",
    "check_output",
    "check_call",
    "`",
    "qx",
    "pty",
    "!",
    "|",
    "pipe",
    "call-process",
    "shell",
    "run(",
];

/// Programs with options of the form `name=COMMAND`.
const NAMING: &[&str] = &[
    "tar", "bsdtar", "git", "ssh", "scp", "sftp", "rsync", "make", "gmake", "man", "gdb", "zip",
    "docker", "podman", "npm", "cmake", "ninja", "go", "cargo", "sort", "split",
];

/// Programs with an option whose value is a command line.
const VALUED: &[(&str, &[&str])] = &[
    (
        "tar",
        &["-I", "--use-compress-program", "-F", "--info-script"],
    ),
    ("bsdtar", &["--use-compress-program"]),
    ("rsync", &["-e", "--rsh"]),
    ("scp", &["-S"]),
    ("sftp", &["-S"]),
];

/// Programs that run a program of a project's, or else of the path, and the words with which they do. Without words:
/// always.
const RUNNING: &[(&str, &[&str])] = &[
    ("npx", &[]),
    ("bunx", &[]),
    ("pnpx", &[]),
    ("npm", &["exec", "x"]),
    ("pnpm", &["exec", "dlx"]),
    ("yarn", &["exec", "dlx", "run"]),
];

/// What a command names that may be started.
pub(super) enum Named {
    /// These programs.
    Programs(Vec<String>),
    /// Nobody knows: code that is put together at run time.
    Anything,
}

/// The programs that `command` names indirectly.
pub(super) fn named(command: &Command) -> Named {
    let Some(program) = command.program() else {
        return Named::Programs(Vec::new());
    };
    let mut programs = Vec::new();
    for (name, value) in command.assignments() {
        if steers(name) {
            match value.literal() {
                Some(text) => programs.extend(starts(text)),
                None => return Named::Anything,
            }
        }
    }
    if let Some((name, flags)) = interpreter(program) {
        let inline = code(command, name, flags);
        for word in inline {
            match word.literal() {
                Some(text) => programs.extend(in_code(name, text)),
                None if starts_programs(word) => return Named::Anything,
                None => {}
            }
        }
    }
    if NAMING.contains(&program) {
        let values = command.arguments().iter().filter_map(Word::literal);
        programs.extend(
            values
                .filter_map(|word| word.rsplit_once('='))
                .flat_map(|(_, value)| starts(value)),
        );
    }
    if let Some((_, options)) = VALUED.iter().find(|(name, _)| *name == program) {
        let split = Options::split(command.arguments(), options);
        for value in split.values_of(options) {
            match value.literal() {
                Some(text) => programs.extend(starts(text)),
                None => return Named::Anything,
            }
        }
    }
    if let Some((_, words)) = RUNNING.iter().find(|(name, _)| *name == program) {
        let given = || command.arguments().iter().filter_map(Word::literal);
        if words.is_empty() || given().any(|word| words.contains(&word)) {
            programs.extend(given().flat_map(starts));
        }
    }
    Named::Programs(programs)
}

fn interpreter(program: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    INTERPRETERS.iter().find(|(name, _)| {
        program.strip_prefix(name).is_some_and(|version| {
            version
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'))
        })
    })
}

/// The words that hold code.
fn code<'c>(command: &'c Command, name: &str, flags: &[&str]) -> Vec<&'c Word> {
    let arguments = command.arguments();
    if flags.is_empty() {
        // awk and sed take it as an operand or behind `-e`: every word may be it.
        return arguments.iter().collect();
    }
    if name == "deno" {
        let at = arguments
            .iter()
            .position(|word| word.literal() == Some("eval"));
        return at
            .and_then(|at| arguments.get(at + 1..))
            .into_iter()
            .flatten()
            .collect();
    }
    let options = Options::split(arguments, flags);
    let has = options.has(flags);
    if !has {
        return Vec::new();
    }
    // Which word holds it depends on what else is in the cluster; all of them are looked at.
    arguments.iter().collect()
}

/// An uncertain word that may start a program: all of it is unknown, or what is known of it does.
fn starts_programs(word: &Word) -> bool {
    let known: String = word
        .pieces()
        .iter()
        .filter_map(|piece| match piece {
            crate::word::Piece::Text(text) => Some(text.as_str()),
            crate::word::Piece::Home
            | crate::word::Piece::WorkingDirectory
            | crate::word::Piece::Glob(_)
            | crate::word::Piece::Unknown => None,
        })
        .collect();
    known.is_empty() && word.has_unknown() || STARTS.iter().any(|mark| known.contains(mark))
}

/// The names in code that starts programs.
fn in_code(interpreter: &str, code: &str) -> Vec<String> {
    let starts = match interpreter {
        // `e COMMAND` and the flag `e` of `s`, which has no word of its own.
        "sed" => code.contains("e ") || code.ends_with('e'),
        _ => STARTS.iter().any(|mark| code.contains(mark)),
    };
    if !starts {
        return Vec::new();
    }
    code.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+')))
        .filter(|word| !word.is_empty())
        .map(|word| matching_name(word).to_owned())
        .collect()
}

/// The program that a command line begins with, and those behind its separators.
fn starts(text: &str) -> impl Iterator<Item = String> {
    text.split(['|', ';', '&', '\n', '`', '('])
        .filter_map(|part| {
            part.trim_start_matches(['!', ' ', '$', '"', '\''])
                .split_whitespace()
                .next()
        })
        .map(|word| matching_name(word.trim_matches(['"', '\''])).to_owned())
}
