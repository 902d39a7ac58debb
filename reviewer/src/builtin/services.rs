//! Tools that ask a service or the machine, in the forms by which they only look.
//!
//! Apart from [`super::allow`] because it walks tables of its own ([`tools`], [`clouds`]). Invariant: a form is a program, a
//! subcommand and options of that program that are written there; any other option, a value that could be an option, a file
//! or an address, and any word that speaks of secrets take the form away. What a folder of the agent could steer to run a
//! program (`cargo`, `terraform plan`) is not here.

mod clouds;
#[cfg(test)]
mod tests;
mod tools;

use exec_policy::{Command, Word};

use self::tools::{Operands, TOOLS};
use super::{listed, machine, sql, stores};

/// Words that speak of secrets, wherever they stand in a call.
const SECRETS: &str = "\
    secret token password passwd credential keyvault private-key userdata user-data environ .env \
    config.env getenv kubeconfig --raw dockerconfigjson oauth";

/// Options that may stand before the subcommand.
const LEADING: &str = "--user --system --no-pager";
/// Options with a value that may stand before the subcommand.
const LEADING_VALUED: &str = "-n --namespace --context --region:~ --profile --project --output:table|wide|name|text -R:/ --repo:/";

/// The options of one line.
struct Line<'a> {
    flags: &'a str,
    /// As [`tools::Forms::valued`] spells them.
    valued: &'a str,
}

/// Whether a call only looks.
pub(super) fn looks(command: &Command) -> bool {
    // The home folder is certain, and no option.
    let texts: Option<Vec<String>> = command
        .arguments()
        .iter()
        .map(|word| match word.literal() {
            Some(text) => Some(text.to_owned()),
            None if word.has_unknown() || word.has_glob() => None,
            None => Some(word.to_string()),
        })
        .collect();
    let Some(texts) = texts else {
        return false;
    };
    let words: Vec<&str> = texts.iter().map(String::as_str).collect();
    let program = command.program().unwrap_or_default();
    if speaks_of_secrets(command) {
        return false;
    }
    if names_secrets(command) {
        return true;
    }
    if machine::looks(program, &words)
        || stores::looks(program, &words)
        || sql::looks(program, &words)
    {
        return true;
    }
    let words = words.get(leading_options(&words)..).unwrap_or_default();
    clouds::looks(program, words)
        || TOOLS
            .iter()
            .filter(|forms| forms.program == program)
            .any(|forms| is_form(forms, words))
        || (program == "docker" && inspects(words))
}

/// Whether a call speaks of secrets anywhere in its words.
pub(super) fn speaks_of_secrets(command: &Command) -> bool {
    // Wrappers repeat what they wrap; account names in `getent passwd` are no passwords.
    command.role() == exec_policy::Role::Itself
        && command.program() != Some("getent")
        && !names_secrets(command)
        && command.arguments().iter().any(|word| {
            let word = word.to_string().to_ascii_lowercase();
            SECRETS
                .split_whitespace()
                .any(|secret| word.contains(secret))
        })
}

/// A list of secrets by their names, in a store that gives no value back to anybody.
fn names_secrets(command: &Command) -> bool {
    let words: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let Some(words) = words else { return false };
    let words = words.get(leading_options(&words)..).unwrap_or_default();
    let program = command.program().unwrap_or_default();
    let (("gh", ["secret", "list", rest @ ..]) | ("docker", ["secret", "ls", rest @ ..])) =
        (program, words)
    else {
        return false;
    };
    let plain = rest.iter().all(|word| {
        let word = word.to_ascii_lowercase();
        !SECRETS.split_whitespace().any(|part| word.contains(part))
    });
    let line = Line {
        flags: "",
        valued: "-R:/ --repo:/ --env -e --filter:? --format:? --json",
    };
    plain && only_narrows(&line, rest, |_| false)
}

/// How many words stand before the subcommand: options that narrow, with their values.
fn leading_options(words: &[&str]) -> usize {
    let mut count = 0;
    while let Some(word) = words.get(count) {
        let name = word.split('=').next().unwrap_or(word);
        let fits = |value: &str| takes(LEADING_VALUED, name).is_some_and(|it| is_value(it, value));
        let glued = word.split_once('=').is_some_and(|(_, value)| fits(value));
        let apart = words.get(count + 1).is_some_and(|value| fits(value));
        if listed(LEADING, word) || glued {
            count += 1;
        } else if name == *word && apart {
            count += 2;
        } else {
            break;
        }
    }
    count
}

fn is_form(forms: &tools::Forms, words: &[&str]) -> bool {
    let line = Line {
        flags: forms.flags,
        valued: forms.valued,
    };
    forms.subcommands.split("; ").any(|form| {
        let form: Vec<&str> = form.split_whitespace().collect();
        let Some(rest) = words.strip_prefix(form.as_slice()) else {
            return false;
        };
        let operand = |word: &str| match forms.operands {
            Operands::None => false,
            Operands::One | Operands::Names => is_operand(forms.program, &form, word),
            Operands::Packages => is_package(word),
        };
        let most = match forms.operands {
            Operands::None => 0,
            Operands::One => 1,
            Operands::Names | Operands::Packages => usize::MAX,
        };
        only_narrows(&line, rest, operand) && operands(&line, rest) <= most
    })
}

fn is_operand(program: &str, form: &[&str], word: &str) -> bool {
    let owned = word.matches('/').count() <= 1;
    match (program, form) {
        ("gh", ["api"]) => word != "graphql" && is_path_of_an_api(word),
        // With one more part, the first is a host.
        ("gh" | "glab", _) => is_of_this_host(word),
        ("docker" | "podman", ["images" | "history" | "image", ..]) => is_name(word),
        ("kubectl" | "oc", _) => is_name(word) && owned,
        _ => is_name(word) && !word.contains('/'),
    }
}

fn is_path_of_an_api(word: &str) -> bool {
    let (path, query) = word.split_once('?').unwrap_or((word, ""));
    is_name(path.trim_start_matches('/'))
        && query.len() <= 60
        && query
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_=&.,".contains(c))
}

/// A name, or several with commas between: no option, no file by its path, no address.
fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 120
        && !word.starts_with(['-', '.', '/', '@', '='])
        && !word.contains("://")
        && !word.contains("..")
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.,:=!@+*/".contains(c))
}

/// A name, or an owner's and a name: no host before them, in none of the ways that git reads one.
fn is_of_this_host(word: &str) -> bool {
    is_name(word) && word.matches('/').count() <= 1 && !word.contains(['@', ':'])
}

/// An expression that selects or lays out: one that reads no environment and no file.
fn selects(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    (1..=200).contains(&text.len())
        && !text.starts_with(['-', '@', '/'])
        && !text.contains("://")
        && !text.chars().any(char::is_control)
        && !["env", "file", "import", "include", "exec", "read", "load"]
            .iter()
            .any(|word| lower.contains(word))
}

/// The name of a region: clouds put it into the address that they ask.
fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Columns by name, as `ID,Name` or `table(name,status)`: no layout that shows a whole resource.
fn lays_out(text: &str) -> bool {
    let columns = ["table(", "value(", "csv(", "get("]
        .iter()
        .find_map(|layout| text.strip_prefix(layout)?.strip_suffix(')'))
        .unwrap_or(text);
    let names: Vec<&str> = columns.split(',').map(str::trim).collect();
    let is_column = |name: &&str| {
        let lower = name.to_ascii_lowercase();
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._".contains(c))
            && !WHOLE.split_whitespace().any(|whole| lower.contains(whole))
    };
    text.len() <= 200 && names.iter().all(is_column)
}

/// Layouts and parts of a resource that show more than columns.
const WHOLE: &str = "\
    json yaml text flattened object config multi default diff env metadata masterauth spec template connection uri data \
    steps options substitutions version source build params variables";

/// What the value of an option may be: `None` where the option is none of `valued`.
fn takes<'a>(valued: &'a str, option: &str) -> Option<&'a str> {
    valued.split_whitespace().find_map(|entry| {
        let (name, kind) = entry.split_once(':').unwrap_or((entry, ""));
        (name == option).then_some(kind)
    })
}

fn is_value(kind: &str, value: &str) -> bool {
    match kind {
        "" => is_name(value),
        "#" => !value.is_empty() && value.chars().all(|c| c.is_ascii_digit()),
        "?" => selects(value),
        "/" => is_of_this_host(value),
        "~" => is_region(value),
        "|" => lays_out(value),
        _ => kind.split('|').any(|one| one == value),
    }
}

/// How many words of `rest` are neither options nor their values.
fn operands(line: &Line<'_>, rest: &[&str]) -> usize {
    let mut count = 0;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            count += 1;
        } else if takes(line.valued, word).is_some() {
            words.next();
        }
    }
    count
}

fn only_narrows(line: &Line<'_>, rest: &[&str], operand: impl Fn(&str) -> bool) -> bool {
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let fine = if !word.starts_with('-') {
            operand(word)
        } else if let Some((name, value)) = word.split_once('=')
            && let Some(kind) = takes(line.valued, name)
        {
            is_value(kind, value)
        } else if let Some(kind) = takes(line.valued, word) {
            words.next().is_some_and(|value| is_value(kind, value))
        } else if let Some(count) = word.strip_prefix("-n")
            && takes(line.valued, "-n") == Some("#")
        {
            is_value("#", count)
        } else {
            listed(line.flags, word)
        };
        if !fine {
            return false;
        }
    }
    true
}

/// A package by its name in a registry, with a version or a tag: of an address or a folder, tools ask what is there.
fn is_package(word: &str) -> bool {
    let (scope, name) = match word.strip_prefix('@') {
        Some(rest) => rest.split_once('/').unwrap_or(("", "")),
        None => ("x", word),
    };
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 80
            && !text.starts_with(['.', '-'])
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.@^~+".contains(c))
    };
    (plain(scope) && plain(name) && !name.contains("@git")) || is_architecture(word)
}

/// `libc6:amd64`: a package of an architecture.
fn is_architecture(word: &str) -> bool {
    word.split_once(':').is_some_and(|(name, architecture)| {
        listed("amd64 arm64 i386 armhf all any", architecture)
            && !name.starts_with(['-', '.'])
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    })
}

/// `docker inspect` shows the environment, but for one named field that is not it.
fn inspects(words: &[&str]) -> bool {
    let ["inspect", "--format" | "-f", format, names @ ..] = words else {
        return false;
    };
    let field = format
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .map(|rest| rest.trim().trim_start_matches("json "));
    let fields = "State NetworkSettings Image Name Created Id";
    let is_field = |field: &str| {
        field
            .strip_prefix('.')
            .and_then(|path| path.split('.').next())
            .is_some_and(|first| listed(fields, first))
            && field
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
    };
    !names.is_empty() && names.iter().all(|name| is_name(name)) && field.is_some_and(is_field)
}

/// Whether one of the effects that a form has by its program alone counts against it.
pub(super) fn explains(rule: super::Rule) -> bool {
    use super::Rule;
    matches!(
        rule,
        Rule::ReachesNetwork
            | Rule::PrivateNetwork
            | Rule::RunsPrograms
            | Rule::ChangesSystem
            | Rule::NothingKnown
    )
}
