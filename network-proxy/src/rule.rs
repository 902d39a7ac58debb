//! Domain rules: one rule as text ([`HostRule`]) and many as an index that costs a hash per label ([`RuleSet`]).
//!
//! Apart because a rule is what people write and every report quotes. Pure.
//! INVARIANT: no pattern is matched by characters: a rule names a whole host, or whole labels below a suffix. A pattern that
//! is none of the four forms is an error, never a literal.

use std::collections::HashMap;
use std::fmt;

use crate::host::{Host, HostName, InvalidHost, parse_port, to_ascii};

/// One rule's pattern: `host`, `*.host`, `**.host` or `*`, each with an optional `:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostRule {
    pattern: Pattern,
    port: Option<u16>,
}

/// What a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    /// `*`: every host.
    Any,
    /// Only the host itself.
    Exact(Host),
    /// `*.host`: what lies below, not the host.
    Below(HostName),
    /// `**.host`: the host and what lies below.
    Tree(HostName),
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Not one of the four forms.
    #[error(
        "a wildcard is `*` alone, or `*.` or `**.` in front of a name\nhint: write `**.example.com` for a name and all below it"
    )]
    Wildcard,
    /// The host in it is none.
    #[error("the pattern names no host")]
    Host(#[source] InvalidHost),
    /// `*` without a port in a deny rule.
    #[error("`*` is valid for allow rules only\nhint: what no rule allows is denied already")]
    DenyAll,
}

impl HostRule {
    /// Reads a pattern; blanks around it do not count.
    ///
    /// # Errors
    /// Where it is not one of the four forms; see [`InvalidRule`].
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        let (text, port) = split_port(text.trim())?;
        if text == "*" {
            return Ok(Self {
                pattern: Pattern::Any,
                port,
            });
        }
        let name = |text| match parse_host(text)? {
            Host::Name(name) => Ok(name),
            Host::Address(_) => Err(InvalidRule::Wildcard),
        };
        let pattern = if let Some(rest) = text.strip_prefix("**.") {
            Pattern::Tree(name(rest)?)
        } else if let Some(rest) = text.strip_prefix("*.") {
            Pattern::Below(name(rest)?)
        } else if text.contains('*') {
            return Err(InvalidRule::Wildcard);
        } else {
            Pattern::Exact(parse_host(text)?)
        };
        Ok(Self { pattern, port })
    }

    /// Whether it covers the host, at that port.
    #[must_use]
    pub fn covers(&self, host: &Host, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match (&self.pattern, host) {
            (Pattern::Any, _) => true,
            (Pattern::Exact(own), host) => own == host,
            (Pattern::Below(own), Host::Name(name)) => {
                name.ancestry().skip(1).any(|part| part == own.as_str())
            }
            (Pattern::Tree(own), Host::Name(name)) => {
                name.ancestry().any(|part| part == own.as_str())
            }
            (Pattern::Below(_) | Pattern::Tree(_), Host::Address(_)) => false,
        }
    }

    /// Whether it names one host by its exact spelling.
    pub(crate) const fn exact(&self) -> Option<&Host> {
        match &self.pattern {
            Pattern::Exact(host) => Some(host),
            Pattern::Any | Pattern::Below(_) | Pattern::Tree(_) => None,
        }
    }

    /// Whether it is for one port alone.
    pub(crate) const fn names_a_port(&self) -> bool {
        self.port.is_some()
    }

    /// Whether it is `*` for every port.
    pub(crate) const fn is_global(&self) -> bool {
        matches!(self.pattern, Pattern::Any) && self.port.is_none()
    }

    /// Whether it covers all names below one label, such as `*.com`: somebody's whole registry.
    pub(crate) fn is_registry_wide(&self) -> bool {
        match &self.pattern {
            Pattern::Below(name) | Pattern::Tree(name) => !name.as_str().contains('.'),
            Pattern::Any | Pattern::Exact(_) => false,
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Any => formatter.write_str("*")?,
            Pattern::Exact(Host::Address(std::net::IpAddr::V6(address))) => {
                write!(formatter, "[{address}]")?
            }
            Pattern::Exact(host) => host.fmt(formatter)?,
            Pattern::Below(name) => write!(formatter, "*.{}", name.as_str())?,
            Pattern::Tree(name) => write!(formatter, "**.{}", name.as_str())?,
        }
        self.port
            .map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

/// Takes the port off; a bare IPv6 address has colons and no port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), InvalidRule> {
    let bracketed = text.starts_with('[');
    let split = match text.rsplit_once(':') {
        Some((host, _)) if bracketed && !host.ends_with(']') => None,
        Some((host, _)) if !bracketed && host.contains(':') => None,
        split => split,
    };
    match split {
        Some((host, port)) => parse_port(port)
            .map(|port| (host, Some(port)))
            .map_err(InvalidRule::Host),
        None => Ok((text, None)),
    }
}

/// A rule's host: Unicode becomes ASCII here, once, and may not become an address on the way.
fn parse_host(text: &str) -> Result<Host, InvalidRule> {
    if let Some(inside) = text.strip_prefix('[') {
        let address = inside.strip_suffix(']').unwrap_or_default();
        let address: std::net::Ipv6Addr = address
            .parse()
            .map_err(|_| InvalidRule::Host(InvalidHost::Brackets))?;
        return Ok(Host::from(std::net::IpAddr::V6(address)));
    }
    let ascii = to_ascii(text).map_err(InvalidRule::Host)?;
    match Host::parse(ascii.as_bytes()).map_err(InvalidRule::Host)? {
        Host::Address(_) if !text.is_ascii() => Err(InvalidRule::Host(InvalidHost::Numeric)),
        host @ (Host::Name(_) | Host::Address(_)) => Ok(host),
    }
}

/// Rules of one verdict, indexed: a question costs one hash per label, however many rules there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleSet {
    any: Vec<HostRule>,
    exact: HashMap<Host, Vec<HostRule>>,
    below: HashMap<Box<str>, Vec<HostRule>>,
    tree: HashMap<Box<str>, Vec<HostRule>>,
}

impl RuleSet {
    /// Adds a rule; the same rule twice is one.
    pub(crate) fn insert(&mut self, rule: HostRule) {
        let slot = match &rule.pattern {
            Pattern::Any => &mut self.any,
            Pattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            Pattern::Below(name) => self.below.entry(name.as_str().into()).or_default(),
            Pattern::Tree(name) => self.tree.entry(name.as_str().into()).or_default(),
        };
        if !slot.contains(&rule) {
            slot.push(rule);
        }
    }

    /// The most exact rule that covers the host at the port.
    pub(crate) fn find(&self, host: &Host, port: u16) -> Option<&HostRule> {
        self.find_exact(host, port)
            .or_else(|| self.find_below(host, port))
            .or_else(|| at_port(&self.any, port))
    }

    /// The rule that names exactly this host.
    pub(crate) fn find_exact(&self, host: &Host, port: u16) -> Option<&HostRule> {
        self.exact.get(host).and_then(|rules| at_port(rules, port))
    }

    fn find_below(&self, host: &Host, port: u16) -> Option<&HostRule> {
        let name = host.name()?;
        for (depth, part) in name.ancestry().enumerate() {
            let tree = self.tree.get(part).and_then(|rules| at_port(rules, port));
            let below = || {
                self.below
                    .get(part)
                    .filter(|_| depth > 0)
                    .and_then(|rules| at_port(rules, port))
            };
            if let Some(rule) = tree.or_else(below) {
                return Some(rule);
            }
        }
        None
    }

    /// Whether a rule covers the host, at whatever port.
    pub(crate) fn covers_at_some_port(&self, host: &Host) -> bool {
        let below = host
            .name()
            .into_iter()
            .flat_map(HostName::ancestry)
            .enumerate();
        !self.any.is_empty()
            || self.exact.contains_key(host)
            || below.into_iter().any(|(depth, part)| {
                self.tree.contains_key(part) || depth > 0 && self.below.contains_key(part)
            })
    }

    /// Every rule, in no order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &HostRule> {
        let listed = [&self.below, &self.tree]
            .into_iter()
            .flat_map(|rules| rules.values());
        self.any
            .iter()
            .chain(self.exact.values().chain(listed).flatten())
    }
}

fn at_port(rules: &[HostRule], port: u16) -> Option<&HostRule> {
    rules
        .iter()
        .find(|rule| rule.port.is_none_or(|only| only == port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(rule: &str, host: &str, port: u16) -> bool {
        let rule = HostRule::parse(rule).expect("a rule");
        rule.covers(&Host::parse(host.as_bytes()).expect("a host"), port)
    }

    #[test]
    fn the_four_forms_cover_what_the_page_says() {
        for (rule, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("example.com", "badexample.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("**.example.com", "example.com", true),
            ("**.example.com", "a.example.com", true),
            ("**.example.com", "xexample.com", false),
            ("*", "anything.test", true),
            ("*", "8.8.8.8", true),
            ("**.example.com.", "example.com", true),
            (" Example.COM ", "example.com", true),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("[::1]", "::1", true),
            ("::1", "0:0::1", true),
            ("::ffff:8.8.8.8", "8.8.8.8", true),
        ] {
            assert_eq!(covers(rule, host, 443), expected, "{rule} {host}");
        }
    }

    #[test]
    fn a_port_narrows_a_rule() {
        assert!(covers("a.test:443", "a.test", 443));
        assert!(!covers("a.test:443", "a.test", 22));
        assert!(covers("[::1]:80", "::1", 80));
        assert!(!covers("[::1]:80", "::1", 81));
        assert!(covers("*:22", "b.test", 22));
    }

    #[test]
    fn what_is_none_of_the_four_forms_is_an_error() {
        for text in [
            "",
            "foo*.a.test",
            "*.*.a.test",
            "a.*",
            "[ab].test",
            "{a,b}.test",
            "ex?mple.com",
            "127.1",
            "*.127.0.0.1",
            "a.test:0",
            "a.test:",
            "http://a.test",
            "a.test/x",
            "a test",
            "**",
            "*.",
            "１２７.0.0.1",
            "***.a.test",
            "u@a.test",
        ] {
            assert!(HostRule::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_the_rules_one_by_one(
            texts in proptest::collection::vec("(\\*\\.|\\*\\*\\.)?[ab](\\.[ab]){0,2}(:1)?|\\*(:1)?", 0..8),
            host in "[ab](\\.[ab]){0,3}",
            port in 1_u16..3,
        ) {
            let host = Host::parse(host.as_bytes()).expect("a host");
            let rules: Vec<_> = texts.iter().map(|text| HostRule::parse(text).expect("a rule")).collect();
            let mut index = RuleSet::default();
            rules.iter().cloned().for_each(|rule| index.insert(rule));
            let found = index.find(&host, port);
            prop_assert_eq!(found.is_some(), rules.iter().any(|rule| rule.covers(&host, port)));
            prop_assert!(found.is_none_or(|rule| rule.covers(&host, port)));
        }

        #[test]
        fn a_rule_reads_back(text in "[*\\[\\]a-z0-9:.]{0,24}") {
            if let Ok(rule) = HostRule::parse(&text) {
                prop_assert_eq!(HostRule::parse(&rule.to_string()), Ok(rule));
            }
        }
    }
}
