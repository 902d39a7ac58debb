//! What one rule says: prefix rules, host executables and network rules, valid by construction.
//!
//! Apart from the rule set because rules come from two languages, Starlark files and the managed TOML file, and both
//! must mean the same. Invariant: a rule that exists has a pattern of at least one word, and every example it was given
//! held.

mod matching;
mod npm;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use matching::{Fit, Pattern, name_of as matching_name, operands_are_certain};

/// What a rule wants, mildest first: of several that match, the greatest binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It may run, outside the walls too.
    Allow,
    /// Somebody is asked.
    Prompt,
    /// A person is asked, whoever the reviewer is.
    PromptUser,
    /// It does not run.
    Forbidden,
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1; 0 where the file's format does not say.
    pub line: usize,
}

/// Which letters count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterCase {
    /// Only the same ones.
    Exact,
    /// Upper and lower case of one letter (ASCII).
    Ignored,
}

/// A rule about commands that begin with certain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRule {
    pub(crate) pattern: Pattern,
    pub(crate) verdict: Verdict,
    pub(crate) justification: Option<String>,
    pub(crate) origin: Origin,
}

/// A prefix rule as it was written, before it is checked.
#[derive(Debug, Clone)]
pub struct RawPrefixRule {
    /// For each place the words that may stand there.
    pub pattern: Vec<Vec<String>>,
    /// What it wants.
    pub verdict: Verdict,
    /// Why, for people.
    pub justification: Option<String>,
    /// Commands that the rule must match.
    pub matches: Vec<Vec<String>>,
    /// Commands that the rule must not match.
    pub not_matches: Vec<Vec<String>>,
    /// Which letters count as the same.
    pub letters: LetterCase,
    /// Where it stands.
    pub origin: Origin,
}

/// Where the program of a name may lie for an allow rule to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostExecutable {
    pub(crate) name: String,
    pub(crate) paths: Vec<PathBuf>,
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// Plain HTTP.
    Http,
    /// TLS through CONNECT.
    Https,
    /// A TCP connection by SOCKS5.
    Socks5Tcp,
    /// Datagrams by SOCKS5.
    Socks5Udp,
}

/// A rule about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// The host name in lower case, or the address.
    pub host: String,
    /// By which protocol.
    pub protocol: RuleProtocol,
    /// What it wants.
    pub verdict: Verdict,
    /// Why, for people.
    pub justification: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// Why something is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRule {
    /// No pattern.
    #[error("`pattern` is empty")]
    EmptyPattern,
    /// A place without a word, or a word without a letter.
    #[error("place {0} of `pattern` has no word")]
    EmptyPlace(usize),
    /// More words than a pattern may have.
    #[error("`pattern` has more than {} words", matching::MAX_PLACES + 1)]
    LongPattern,
    /// A blank justification.
    #[error("`justification` is blank\nhint: leave it out")]
    BlankJustification,
    /// Not one of the decisions.
    #[error("`{0}` is not a decision\nhint: `allow`, `prompt`, `prompt-user` or `forbidden`")]
    Decision(String),
    /// An example that does not hold.
    #[error("the example `{0}` is not matched by this rule")]
    Unmatched(String),
    /// A counter-example that does not hold.
    #[error("the counter-example `{0}` is matched by this rule")]
    Matched(String),
    /// An example that is not shell words.
    #[error("the example `{0}` is not shell words")]
    Example(String),
    /// A name that is a path.
    #[error("`name` is `{0}`, which is not a bare program name")]
    HostName(String),
    /// A path that is not absolute, or leads to another program.
    #[error("`{path}` in `paths` is not an absolute path that ends in `{name}`")]
    HostPath {
        /// The path.
        path: String,
        /// The program's name.
        name: String,
    },
    /// Not one host.
    #[error(
        "`host` is `{0}`, which is not one host name or address\nhint: no scheme, port, path or wildcard"
    )]
    NetworkHost(String),
    /// Not one of the protocols.
    #[error("`{0}` is not a protocol\nhint: `http`, `https`, `socks5_tcp` or `socks5_udp`")]
    Protocol(String),
}

impl Verdict {
    /// The name in rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Prompt => "prompt",
            Self::PromptUser => "prompt-user",
            Self::Forbidden => "forbidden",
        }
    }

    /// Reads the name.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        match text {
            "allow" => Ok(Self::Allow),
            "prompt" => Ok(Self::Prompt),
            "prompt-user" => Ok(Self::PromptUser),
            "forbidden" => Ok(Self::Forbidden),
            other => Err(InvalidRule::Decision(other.to_owned())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl RawPrefixRule {
    /// Checks it. Alternatives in the first place become a rule each, so that each program has its own.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn checked(self) -> Result<Vec<PrefixRule>, InvalidRule> {
        let (programs, rest) = self
            .pattern
            .split_first()
            .ok_or(InvalidRule::EmptyPattern)?;
        if rest.len() > matching::MAX_PLACES {
            return Err(InvalidRule::LongPattern);
        }
        let empty = self
            .pattern
            .iter()
            .position(|place| place.is_empty() || place.iter().any(String::is_empty));
        if let Some(at) = empty {
            return Err(InvalidRule::EmptyPlace(at + 1));
        }
        check_justification(self.justification.as_deref())?;
        let rules: Vec<PrefixRule> = programs
            .iter()
            .map(|program| PrefixRule {
                pattern: Pattern::new(program.clone(), rest, self.letters),
                verdict: self.verdict,
                justification: self.justification.clone(),
                origin: self.origin.clone(),
            })
            .collect();
        let hit = |example: &[String]| rules.iter().any(|rule| rule.pattern.begins(example));
        for example in &self.matches {
            if !hit(example) {
                return Err(InvalidRule::Unmatched(example.join(" ")));
            }
        }
        for example in &self.not_matches {
            if hit(example) {
                return Err(InvalidRule::Matched(example.join(" ")));
            }
        }
        Ok(rules)
    }
}

impl PrefixRule {
    /// What it wants.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why, for people.
    #[must_use]
    pub fn justification(&self) -> Option<&str> {
        self.justification.as_deref()
    }

    /// Where it stands.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The pattern as a person reads it: alternatives between bars.
    #[must_use]
    pub fn pattern(&self) -> String {
        self.pattern.to_string()
    }

    /// How many words the pattern has.
    #[must_use]
    pub fn words(&self) -> usize {
        self.pattern.words()
    }
}

impl HostExecutable {
    /// Checks that `name` is bare and each of `paths` absolute and called so; `~/…` is expanded by the caller.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn new(name: &str, paths: Vec<String>) -> Result<Self, InvalidRule> {
        if name.is_empty() || name.contains('/') {
            return Err(InvalidRule::HostName(name.to_owned()));
        }
        let checked = paths.into_iter().map(|path| {
            let as_path = PathBuf::from(&path);
            let plain = as_path.components().all(|part| {
                !matches!(
                    part,
                    std::path::Component::ParentDir | std::path::Component::CurDir
                )
            });
            if as_path.is_absolute() && plain && as_path.file_name() == Some(name.as_ref()) {
                Ok(as_path)
            } else {
                Err(InvalidRule::HostPath {
                    path,
                    name: name.to_owned(),
                })
            }
        });
        Ok(Self {
            name: name.to_owned(),
            paths: checked.collect::<Result<_, _>>()?,
        })
    }
}

impl NetworkRule {
    /// Checks the host: one name or address. `deny` is another word for `forbidden` here.
    ///
    /// # Errors
    /// See [`InvalidRule`].
    pub fn new(
        host: &str,
        protocol: &str,
        decision: &str,
        justification: Option<String>,
        origin: Origin,
    ) -> Result<Self, InvalidRule> {
        check_justification(justification.as_deref())?;
        let verdict = match decision {
            "deny" => Verdict::Forbidden,
            other => Verdict::parse(other)?,
        };
        Ok(Self {
            host: one_host(host).ok_or_else(|| InvalidRule::NetworkHost(host.to_owned()))?,
            protocol: RuleProtocol::parse(protocol)?,
            verdict,
            justification,
            origin,
        })
    }
}

impl RuleProtocol {
    fn parse(text: &str) -> Result<Self, InvalidRule> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "socks5_tcp" => Ok(Self::Socks5Tcp),
            "socks5_udp" => Ok(Self::Socks5Udp),
            other => Err(InvalidRule::Protocol(other.to_owned())),
        }
    }
}

fn check_justification(text: Option<&str>) -> Result<(), InvalidRule> {
    if text.is_some_and(|text| text.trim().is_empty()) {
        return Err(InvalidRule::BlankJustification);
    }
    Ok(())
}

/// An address, or a name of letters, digits, hyphens and dots (RFC 1123, section 2.1), in lower case, without a last dot.
fn one_host(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(name)
}
