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
    ("sqlite3", &[]),
    ("sqlite", &[]),
    ("psql", &[]),
    ("mysql", &[]),
    ("mariadb", &[]),
    ("ftp", &[]),
    ("lftp", &[]),
    ("gdb", &[]),
    ("lldb", &[]),
    ("gnuplot", &[]),
    ("octave", &[]),
    ("julia", &["-e", "-E", "--eval"]),
    ("Rscript", &["-e"]),
    ("osascript", &["-e"]),
    ("guile", &["-c"]),
    ("elixir", &["-e", "--eval"]),
    ("jshell", &[]),
    ("irb", &[]),
    ("view", &["-c", "--cmd"]),
    ("vimdiff", &["-c", "--cmd"]),
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
    "tar", "gtar", "bsdtar", "git", "ssh", "scp", "sftp", "rsync", "make", "gmake", "man", "gdb",
    "zip", "docker", "podman", "npm", "cmake", "ninja", "go", "cargo", "sort", "split",
];

/// Programs with an option whose value is a command line.
const VALUED: &[(&str, &[&str])] = &[
    (
        "tar",
        &[
            "-I",
            "--use-compress-program",
            "-F",
            "--info-script",
            "--new-volume-script",
            "--to-command",
            "--rsh-command",
        ],
    ),
    (
        "gtar",
        &[
            "-I",
            "--use-compress-program",
            "-F",
            "--info-script",
            "--to-command",
        ],
    ),
    ("bsdtar", &["--use-compress-program"]),
    ("rsync", &["-e", "--rsh", "--rsync-path"]),
    ("scp", &["-S"]),
    ("sftp", &["-S"]),
    ("make", &["--eval"]),
    ("gmake", &["--eval"]),
    (
        "man",
        &["-P", "--pager", "-H", "--html", "-p", "--preprocessor"],
    ),
    ("nix-shell", &["--run", "--command"]),
    ("nix", &["--command", "-c"]),
    ("sort", &["--compress-program"]),
    ("split", &["--filter"]),
    ("pg_ctl", &["-p"]),
    ("watchexec", &["-c"]),
    ("nodemon", &["-x", "--exec"]),
    ("go", &["-exec", "-toolexec", "-vettool"]),
    (
        "hyperfine",
        &["-p", "--prepare", "-c", "--cleanup", "-s", "--setup"],
    ),
];

/// Options of git by which one of its commands runs a command line (git(1) and the pages of the commands).
const GIT_VALUED: &[&str] = &[
    "-x",
    "--exec",
    "-O",
    "--open-files-in-pager",
    "--upload-pack",
    "-u",
    "--receive-pack",
    "--upload-archive",
    "--extcmd",
    "--to-cmd",
    "--cc-cmd",
    "--header-cmd",
    "--sendmail-cmd",
    "--smtp-server",
    "--setup",
    "--env-filter",
    "--tree-filter",
    "--index-filter",
    "--parent-filter",
    "--msg-filter",
    "--commit-filter",
    "--tag-name-filter",
    "--trailer",
];

/// Words of git behind which a command line stands.
const GIT_RUNS: &[[&str; 2]] = &[["submodule", "foreach"], ["bisect", "run"]];

/// Programs that run a program of a project's, of another machine's or else of the path, and the words with which they do.
/// Without words: always.
const RUNNING: &[(&str, &[&str])] = &[
    ("zip", &["-TT", "--unzip-command"]),
    ("npx", &[]),
    ("bunx", &[]),
    ("pnpx", &[]),
    ("uvx", &[]),
    ("pipx", &["run"]),
    ("npm", &["exec", "x"]),
    ("pnpm", &["exec", "dlx"]),
    ("yarn", &["exec", "dlx", "run"]),
    ("bun", &["x"]),
    ("pyenv", &["exec"]),
    ("rbenv", &["exec"]),
    ("nodenv", &["exec"]),
    ("goenv", &["exec"]),
    ("jenv", &["exec"]),
    ("plenv", &["exec"]),
    ("tfenv", &["exec"]),
    ("asdf", &["exec"]),
    ("mise", &["exec", "x"]),
    ("rtx", &["exec", "x"]),
    ("volta", &["run"]),
    ("fnm", &["exec"]),
    ("nvm", &["exec"]),
    ("rvm", &["do", "exec"]),
    ("chruby-exec", &[]),
    ("poetry", &["run"]),
    ("pipenv", &["run"]),
    ("pdm", &["run"]),
    ("hatch", &["run"]),
    ("rye", &["run"]),
    ("uv", &["run", "tool"]),
    ("conda", &["run"]),
    ("mamba", &["run"]),
    ("micromamba", &["run"]),
    ("bundle", &["exec"]),
    ("bundler", &["exec"]),
    ("direnv", &["exec"]),
    ("rustup", &["run"]),
    ("opam", &["exec"]),
    ("stack", &["exec"]),
    ("cabal", &["exec"]),
    ("mvn", &["exec:exec"]),
    ("dotenv", &[]),
    ("devbox", &["run"]),
    ("flox", &["activate"]),
    ("guix", &["shell", "environment"]),
    ("nix", &["run", "shell", "develop"]),
    ("kubectl", &["exec", "debug", "run"]),
    ("oc", &["exec", "rsh", "debug", "run"]),
    ("docker", &["exec", "run", "compose"]),
    ("podman", &["exec", "run", "compose"]),
    ("nerdctl", &["exec", "run", "compose"]),
    ("docker-compose", &["exec", "run"]),
    ("lxc", &["exec"]),
    ("incus", &["exec"]),
    ("distrobox", &["enter"]),
    ("toolbox", &["run"]),
    ("flatpak", &["run"]),
    ("machinectl", &["shell"]),
    ("vagrant", &["ssh"]),
    ("fly", &["ssh"]),
    ("heroku", &["run"]),
    ("ssh", &[]),
    ("mosh", &[]),
    ("autossh", &[]),
    ("rsh", &[]),
    ("sshpass", &[]),
    ("pdsh", &[]),
    ("tmux", &[]),
    ("screen", &[]),
    ("dtach", &[]),
    ("abduco", &[]),
    ("expect", &[]),
    ("entr", &[]),
    ("watchexec", &[]),
    ("nodemon", &[]),
    ("hyperfine", &[]),
    ("gdb", &["--args"]),
    ("toybox", &[]),
    ("busybox", &[]),
    ("systemd-run", &[]),
    ("firejail", &[]),
    ("bwrap", &[]),
    ("proot", &[]),
    ("fakechroot", &[]),
    ("dbus-run-session", &[]),
    ("xvfb-run", &[]),
    ("valgrind", &[]),
    ("concurrently", &[]),
    ("cross-env", &[]),
    ("aws-vault", &["exec"]),
    ("op", &["run"]),
    ("doppler", &["run"]),
    ("infisical", &["run"]),
    ("chamber", &["exec"]),
    ("sops", &["exec-env", "exec-file"]),
];

/// Programs whose operands of the form `+COMMAND` or `!COMMAND` are commands of their own, a shell's among them.
const PLUS: &[&str] = &[
    "less", "more", "most", "vim", "vi", "ex", "nvim", "view", "vimdiff", "gvim",
];

/// Programs that obey orders on their input, and so may start anything where nobody wrote the orders on the command line.
const OBEYS_INPUT: &[&str] = &["ed", "red", "ex"];

/// What a command names that may be started.
pub(super) enum Named {
    /// These programs.
    Programs(Vec<String>),
    /// Nobody knows: code that is put together at run time.
    Anything,
}

/// The programs that variables name which steer other programs. `None`: nobody knows.
fn in_environment(command: &Command) -> Option<Vec<String>> {
    let steering = |(name, _): &&(String, Word)| steers(name);
    let mut programs = Vec::new();
    for (_, value) in command.assignments().iter().filter(steering) {
        programs.extend(starts(value.literal()?));
    }
    // Scripts export much that only they know (`PYTHONPATH=$PWD`): what is certain counts.
    for (_, value) in command.exported.iter().filter(steering) {
        programs.extend(value.literal().into_iter().flat_map(starts));
    }
    Some(programs)
}

/// The programs that `command` names indirectly.
pub(super) fn named(command: &Command) -> Named {
    let Some(program) = command.program() else {
        return Named::Programs(Vec::new());
    };
    let Some(mut programs) = in_environment(command) else {
        return Named::Anything;
    };
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
                Some(text) => programs.extend(every(text)),
                None => return Named::Anything,
            }
        }
    }
    if OBEYS_INPUT.contains(&program) {
        return Named::Anything;
    }
    let words = || command.arguments().iter().filter_map(Word::literal);
    if PLUS.contains(&program) {
        let orders = words().filter(|word| word.starts_with(['+', '!']));
        programs.extend(orders.filter(|order| order.contains('!')).flat_map(every));
    }
    let runs = |with: &[&str]| with.is_empty() || words().any(|word| with.contains(&word));
    if RUNNING
        .iter()
        .any(|(name, with)| *name == program && runs(with))
    {
        programs.extend(words().flat_map(every));
    }
    if program == "git" {
        git(command, &mut programs);
    }
    Named::Programs(programs)
}

/// What the options and words of git's commands run.
fn git(command: &Command, programs: &mut Vec<String>) {
    let words: Vec<&str> = command
        .arguments()
        .iter()
        .filter_map(Word::literal)
        .collect();
    let runs = GIT_RUNS
        .iter()
        .any(|form| form.iter().all(|word| words.contains(word)));
    if runs {
        programs.extend(words.iter().copied().flat_map(every));
    }
    for (at, word) in words.iter().enumerate() {
        for option in GIT_VALUED {
            let Some(glued) = word.strip_prefix(option) else {
                continue;
            };
            let next = words.get(at + 1).copied().unwrap_or_default();
            let value = if glued.is_empty() { next } else { glued };
            programs.extend(every(value.trim_start_matches('=')));
        }
        // `-c alias.x=!COMMAND`, `-c core.pager=COMMAND`.
        if let Some((name, value)) = word.split_once('=')
            && name.contains('.')
        {
            programs.extend(every(value));
        }
    }
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

/// Every name in a text that may be a command line: which word of it is the program is not known.
fn every(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !(c.is_alphanumeric() || "_-./+".contains(c)))
        .flat_map(|word| [word, word.trim_start_matches(['+', '-'])])
        .filter(|word| !word.is_empty())
        .map(|word| matching_name(word).to_owned())
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
