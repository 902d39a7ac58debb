//! "Always" for one host: the rule that lets it through from now on, where a rule says exactly that.
//!
//! Apart from commands' prefixes because it is about a host. Invariant: a rule that would open more than the one port that
//! was asked about is not proposed, and neither is one for anything but a single host.

use super::quoted;
use crate::rule::{NetworkRule, Origin};

/// A rule that allows one host by one protocol at its usual port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProposal {
    host: String,
    protocol: &'static str,
}

impl HostProposal {
    /// The rule for `host` by `protocol` (`http` or `https`) at `port`; `None` where a rule would open more: rules name no
    /// port, so that only 80 and 443 can be meant exactly.
    #[must_use]
    pub fn of(host: &str, protocol: &str, port: u16) -> Option<Self> {
        let protocol = match (protocol, port) {
            ("http", 80) => "http",
            ("https", 443) => "https",
            _ => return None,
        };
        let origin = Origin {
            file: "proposed".into(),
            line: 0,
        };
        let rule = NetworkRule::new(host, protocol, "allow", None, origin).ok()?;
        // A host that the rule reads as another one is not the one that was asked about.
        (rule.host == host).then(|| Self {
            host: host.to_owned(),
            protocol,
        })
    }

    /// The line that says it in a rules file.
    ///
    /// ```
    /// let proposal = exec_policy::HostProposal::of("pypi.org", "https", 443).unwrap();
    /// assert_eq!(proposal.line(), r#"network_rule(host="pypi.org", protocol="https", decision="allow")"#);
    /// ```
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "network_rule(host={}, protocol={}, decision=\"allow\")",
            quoted(&self.host),
            quoted(self.protocol)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::HostProposal;
    use crate::rule::{RuleProtocol, Verdict};
    use crate::ruleset::RuleSet;
    use crate::written::load_rules;

    #[test]
    fn the_line_reads_back_as_the_rule_for_that_host_alone() {
        for (host, protocol, port, read) in [
            ("pypi.org", "https", 443, RuleProtocol::Https),
            ("xn--bcher-kva.example", "http", 80, RuleProtocol::Http),
        ] {
            let proposal = HostProposal::of(host, protocol, port).expect("a rule");
            let mut rules = RuleSet::default();
            load_rules(&mut rules, "default.rules", &proposal.line(), "/home/u").expect("it loads");
            let rules: Vec<_> = rules
                .network()
                .iter()
                .map(|rule| (rule.host.as_str(), rule.protocol, rule.verdict))
                .collect();
            assert_eq!(rules, [(host, read, Verdict::Allow)]);
        }
    }

    #[test]
    fn nothing_is_proposed_that_would_open_more_than_was_asked_about() {
        for (host, protocol, port) in [
            ("pypi.org", "https", 8443),
            ("pypi.org", "http", 8080),
            ("pypi.org", "http", 443),
            ("pypi.org", "socks5_tcp", 443),
            ("pypi.org", "socks5_udp", 53),
            ("*.pypi.org", "https", 443),
            ("**.pypi.org", "https", 443),
            ("*", "https", 443),
            ("https://pypi.org", "https", 443),
            ("pypi.org:443", "https", 443),
            ("pypi.org/simple", "https", 443),
            ("PyPI.org", "https", 443),
            ("py\"pi.org", "https", 443),
            ("", "https", 443),
        ] {
            assert_eq!(HostProposal::of(host, protocol, port), None, "{host}");
        }
    }
}
