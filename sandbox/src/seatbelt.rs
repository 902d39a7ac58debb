//! A policy as macOS would be told it: the text of a Seatbelt profile. Pure, and never run by this project's tests.
//!
//! Made as data so that it can be read, compared and reviewed where there is no Mac; it claims nothing beyond its text. In
//! such a profile the last rule that matches decides, so that what closes comes behind what opens, and deeper paths behind
//! shallower ones. Invariant: what cannot be written as a rule is an error, never a rule less.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::glob::DeniedPattern;
use crate::policy::{Access, Network, PROTECTED_NAMES, PrivateTmp, Reads, Rule, SandboxPolicy};

/// What every program needs before it does anything of its own.
const BASE: &str = include_str!("seatbelt/base.sbpl");
/// What a program reads to start, where only what is listed may be read: the platform's own, curated.
const PLATFORM: &str = include_str!("seatbelt/platform.sbpl");

/// Why there is no text.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum InvalidSeatbelt {
    /// A path that a profile cannot hold.
    #[error("`{}` is not UTF-8 or holds control characters, which a Seatbelt profile cannot name", .0.display())]
    Path(PathBuf),
    /// A pattern that has no regular expression here.
    #[error("the pattern `{0}` cannot be written into a Seatbelt profile")]
    Pattern(String),
    /// Network access by the door, which stands in a network of the command's own.
    #[error("network access by the door cannot be written into a Seatbelt profile")]
    Door,
}

/// The Seatbelt profile that says what `policy` says, for `sandbox-exec -p`.
///
/// There is no private `/tmp` on that system: a session's folder is opened, and without one none is.
///
/// # Errors
/// A path or pattern cannot be written down.
pub fn seatbelt_profile(policy: &SandboxPolicy) -> Result<String, InvalidSeatbelt> {
    let mut text = BASE.to_owned();
    match policy.reads() {
        Reads::Everything => text.push_str("\n; reads: everything\n(allow file-read*)\n"),
        Reads::Listed => {
            text.push_str("\n; reads: the platform's own, and what is listed\n");
            text.push_str(PLATFORM);
        }
    }
    text.push_str("\n; rules by path, the deeper ones later\n");
    let mut rules: Vec<&Rule> = policy.rules().iter().collect();
    rules.sort_by_key(|rule| rule.path.components().count());
    for rule in rules {
        add_rule(&mut text, rule)?;
    }
    if let PrivateTmp::Session(folder) = policy.private_tmp() {
        line(
            &mut text,
            "allow",
            "file-read* file-write*",
            &subpath(folder)?,
        );
    }
    text.push_str("\n; names that decide what runs later\n");
    for root in policy
        .roots()
        .iter()
        .filter(|root| !ends_in_protected(root))
    {
        for name in PROTECTED_NAMES {
            line(
                &mut text,
                "deny",
                "file-write*",
                &subpath(&root.join(name))?,
            );
        }
        let nested = format!("(regex #\"^{}/(.*/)?\\.git(/.*)?$\")", expression(root)?);
        line(&mut text, "deny", "file-write*", &nested);
    }
    for root in policy.roots().iter().filter(|root| ends_in_protected(root)) {
        line(&mut text, "allow", "file-write*", &subpath(root)?);
    }
    text.push_str("\n; what no command may read, change or touch\n");
    for pattern in policy.denied_patterns() {
        let regex = format!("(regex #\"{}\")", pattern_expression(pattern)?);
        line(&mut text, "deny", "file-read* file-write*", &regex);
    }
    for path in policy.kept() {
        line(&mut text, "deny", "file-write*", &subpath(path)?);
    }
    for path in policy.hidden() {
        line(&mut text, "deny", "file-read* file-write*", &subpath(path)?);
    }
    text.push_str(match policy.network() {
        // There is no network of a command's own on that system, so no door either.
        Network::Door => return Err(InvalidSeatbelt::Door),
        Network::Off => "\n; network: none, the host's loopback included\n(deny network*)\n",
        Network::Full => "\n; network: the host's\n(allow network*)\n(allow system-socket)\n",
    });
    Ok(text)
}

fn add_rule(text: &mut String, rule: &Rule) -> Result<(), InvalidSeatbelt> {
    let path = subpath(&rule.path)?;
    match rule.access {
        Access::Write => line(text, "allow", "file-read* file-write*", &path),
        Access::Read => {
            line(text, "allow", "file-read*", &path);
            line(text, "deny", "file-write*", &path);
        }
        Access::Deny => line(text, "deny", "file-read* file-write*", &path),
    }
    Ok(())
}

fn line(text: &mut String, word: &str, operations: &str, filter: &str) {
    // Writing into a text cannot fail.
    writeln!(text, "({word} {operations} {filter})").unwrap_or_default();
}

fn ends_in_protected(root: &Path) -> bool {
    PROTECTED_NAMES.iter().any(|name| root.ends_with(name))
}

fn subpath(path: &Path) -> Result<String, InvalidSeatbelt> {
    Ok(format!("(subpath \"{}\")", quoted(path)?))
}

/// A path inside a string of the profile's language.
fn quoted(path: &Path) -> Result<String, InvalidSeatbelt> {
    let text = plain(path)?;
    Ok(text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as itself inside a regular expression.
fn expression(path: &Path) -> Result<String, InvalidSeatbelt> {
    plain(path)?
        .chars()
        .map(literal)
        .collect::<Option<String>>()
        .ok_or_else(|| InvalidSeatbelt::Path(path.to_path_buf()))
}

fn plain(path: &Path) -> Result<&str, InvalidSeatbelt> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| InvalidSeatbelt::Path(path.to_path_buf()))
}

/// One character as itself; none where the literal would end.
fn literal(character: char) -> Option<String> {
    match character {
        '"' => None,
        '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' | '\\' => {
            Some(format!("\\{character}"))
        }
        other => Some(other.to_string()),
    }
}

/// The pattern and everything beneath what it matches. It also covers what is made later.
fn pattern_expression(pattern: &DeniedPattern) -> Result<String, InvalidSeatbelt> {
    let unwritable = || InvalidSeatbelt::Pattern(pattern.text().to_owned());
    let mut expression = format!("^{}/", expression(pattern.base())?);
    let mut rest = pattern.text().trim_start_matches('/');
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            expression.push_str("(.*/)?");
            rest = after;
            continue;
        }
        if rest.starts_with("**") {
            return Err(unwritable());
        }
        match character {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' | ']' | '{' | '}' | '\\' => return Err(unwritable()),
            other => expression.push_str(&literal(other).ok_or_else(unwritable)?),
        }
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    expression.push_str("(/.*)?$");
    Ok(expression)
}

#[cfg(test)]
mod tests;
