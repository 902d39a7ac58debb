//! Code that nobody can read before it runs, and shells on this machine for somebody elsewhere.
//!
//! Apart from [`super::flow`], which follows secrets and the network: here neither has to be in sight. Invariant: a
//! finding needs a program that runs what it is given, and a decoder in front of it or a connection on it; a decoder
//! whose output is data, and a connection that only shows that a port is open, are neither.

use exec_policy::{Command, Redirect, Role, Word};

use super::super::scene::Scene;
use super::super::{Rule, listed};
use super::flow::{is_language, is_shell, takes_code};
use super::{Found, add, spelled};

/// Programs that open a bare connection and hand it their input and output.
const CONNECTS: &str = "nc ncat netcat nc.openbsd nc.traditional telnet socat";

/// Denials in one command and what feeds it.
pub(super) fn hidden(at: usize, command: &Command, scene: &Scene, found: &mut Found) {
    let fed_by = |test: &dyn Fn(&Command) -> bool| {
        scene.is_fed_by(at, &|source| {
            scene.reading.commands().get(source).is_some_and(test)
        })
    };
    let coded = runs_what_it_is_fed(command) && fed_by(&decodes);
    if coded || is_encoded_script(command) {
        add(found, Rule::HiddenCode, spelled(command));
    }
    let program = command.program().unwrap_or_default();
    let shell_between = listed(CONNECTS, program)
        && fed_by(&|source| source.program().is_some_and(is_shell) && takes_code(source));
    if shell_between || gives_a_shell(command) {
        add(found, Rule::OpensShell, spelled(command));
    }
}

/// Whether what feeds it is code to it. An interpreter with a script of its own takes what a substitution prints as an
/// argument, which is data.
fn runs_what_it_is_fed(command: &Command) -> bool {
    let Some(program) = command.program() else {
        return command.program_word().is_some_and(Word::has_unknown);
    };
    let arguments = command.arguments();
    if matches!(program, "eval" | "source" | "." | "exec") {
        return true;
    }
    if !is_shell(program) && !is_language(program) {
        return false;
    }
    let behind_flag = arguments.windows(2).any(|pair| {
        matches!(pair, [flag, code] if code.has_unknown()
            && matches!(flag.literal(), Some("-c" | "-e" | "-lc" | "-ec" | "-r" | "--eval")))
    });
    let first = arguments
        .iter()
        .find(|word| !word.literal_prefix().starts_with('-'));
    let script = first.is_some_and(Word::has_unknown);
    behind_flag || script || (!arguments.iter().any(Word::has_unknown) && takes_code(command))
}

/// Whether it turns what nobody reads into text.
fn decodes(command: &Command) -> bool {
    let words: Vec<String> = command
        .arguments()
        .iter()
        .map(ToString::to_string)
        .collect();
    let has = |wanted: &dyn Fn(&str) -> bool| words.iter().any(|word| wanted(word));
    let short = |letters: &str| {
        has(&|word| {
            word.strip_prefix('-').is_some_and(|rest| {
                !rest.starts_with('-') && rest.contains(|c: char| letters.contains(c))
            })
        })
    };
    match command.program().unwrap_or_default() {
        "base64" | "base32" | "basenc" | "gbase64" => {
            short("dD") || has(&|word| word.len() > 2 && "--decode".starts_with(word))
        }
        "xxd" => short("r"),
        "uudecode" | "rev" => true,
        "openssl" => has(&|word| word == "-d"),
        "tr" => has(&|word| word.to_ascii_lowercase().contains("n-za-m")),
        "printf" | "echo" => has(&is_escaped),
        _ => false,
    }
}

/// Whether a text spells its letters by their numbers.
fn is_escaped(text: &str) -> bool {
    let hexadecimal = text.matches("\\x").count();
    let octal = text
        .match_indices('\\')
        .filter(|(at, _)| {
            text.get(at + 1..at + 4)
                .is_some_and(|digits| digits.chars().all(|c| c.is_digit(8)))
        })
        .count();
    hexadecimal + octal >= 3
}

/// `pwsh -EncodedCommand TEXT`, in each of its short forms.
fn is_encoded_script(command: &Command) -> bool {
    matches!(
        command.program(),
        Some("pwsh" | "powershell" | "powershell.exe" | "pwsh.exe")
    ) && command.arguments().iter().any(|word| {
        let word = word.to_string().to_ascii_lowercase();
        word.len() >= 2 && ("-encodedcommand".starts_with(&word) || word == "-enc")
    })
}

/// A shell with a connection for its input or output, or a connection that starts one.
fn gives_a_shell(command: &Command) -> bool {
    let program = command.program().unwrap_or_default();
    if command.role() == Role::Itself && is_shell(program) {
        return command.redirects().iter().any(|redirect| {
            matches!(redirect, Redirect::Read(word) | Redirect::Write(word)
                if ["/dev/tcp/", "/dev/udp/"].iter().any(|name| word.literal_prefix().starts_with(name)))
        });
    }
    let words: Vec<String> = command
        .arguments()
        .iter()
        .map(|word| word.to_string().to_ascii_lowercase())
        .collect();
    match program {
        "socat" => {
            let starts = words.iter().any(|word| {
                ["exec:", "system:", "shell:"]
                    .iter()
                    .any(|start| word.starts_with(start))
            });
            let network = words.iter().any(|word| {
                ["tcp", "udp", "openssl", "ssl", "sctp", "socks", "proxy"]
                    .iter()
                    .any(|start| word.starts_with(start))
            });
            starts && network
        }
        name if listed(CONNECTS, name) => {
            words.windows(2).any(|pair| {
                let [flag, value] = pair else { return false };
                let starts = matches!(flag.as_str(), "--exec" | "--sh-exec" | "--lua-exec")
                || (flag.starts_with('-') && !flag.starts_with("--") && flag.ends_with('e'))
                // To another `nc` this asks for an encrypted connection.
                || (flag == "-c" && value.contains("sh"));
                starts && !value.chars().all(|c| c.is_ascii_digit())
            }) || words.iter().any(|word| {
                ["--exec=", "--sh-exec=", "--lua-exec="]
                    .iter()
                    .any(|start| word.starts_with(start))
            })
        }
        "awk" | "gawk" | "mawk" => words
            .iter()
            .any(|word| word.contains("/inet/") && word.contains("getline")),
        _ => false,
    }
}
