//! A host that no rule names, put to the person at the terminal, with a choice of how long a yes holds.
//!
//! Apart from the other questions because a command is running meanwhile. Invariants: only a key that is named in the
//! question is a yes; a choice that is not offered is a no; who waited for the answer being gone ends the question.

use std::io::{self, PipeReader, Write as _};
use std::time::{Duration, Instant};

use protocol::{NetworkAccess, Printable};

use super::PersonsTerminal;

/// How long a yes holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Holds {
    /// Until the command ends.
    Command,
    /// For the rest of the session.
    Session,
    /// From now on, by a rule in the user's own file.
    Always,
}

impl Holds {
    /// The word in records.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Session => "session",
            Self::Always => "always",
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct HostQuestion {
    /// Where to.
    pub(crate) access: NetworkAccess,
    /// The command that wants it, as people read it.
    pub(crate) command: String,
    /// Whether there is a session for an answer to last for.
    pub(crate) session: Option<String>,
    /// The rule that "always" would write, where one says exactly this.
    pub(crate) rule: Option<String>,
}

/// What the person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAnswer {
    /// No.
    Deny,
    /// Yes, for this long.
    Allow(Holds),
}

impl PersonsTerminal {
    /// Asks, until somebody answers, `limit` is over or the other end of `waiting` is closed. `None`: nobody answered.
    ///
    /// # Errors
    /// The terminal went away.
    pub(crate) fn ask_host(
        &mut self,
        question: &HostQuestion,
        limit: Duration,
        waiting: &PipeReader,
    ) -> io::Result<Option<HostAnswer>> {
        self.show(&question.text(limit))?;
        let deadline = Instant::now() + limit;
        let Some(line) = self.read_line(deadline, Some(waiting))? else {
            self.0.write_all(b"\nno answer\n")?;
            return Ok(None);
        };
        Ok(Some(question.answer(&line)))
    }
}

impl HostQuestion {
    fn text(&self, limit: Duration) -> String {
        let NetworkAccess {
            host,
            port,
            protocol,
        } = &self.access;
        let mut text = format!(
            "\nA command wants to reach a host that no rule names:\n  {}, port {port}, by {}\n  it is {}\n",
            Printable(host),
            protocol.as_str(),
            Printable(&self.command)
        );
        let mut keys = String::from("y");
        text.push_str("  y  for this command\n");
        if let Some(session) = &self.session {
            text.push_str(&format!(
                "  s  for the rest of the session {}\n",
                Printable(session)
            ));
            keys.push_str("/s");
        }
        if let Some(rule) = &self.rule {
            text.push_str(&format!(
                "  a  always: {} is added to your rules\n",
                Printable(rule)
            ));
            keys.push_str("/a");
        }
        text.push_str(&format!(
            "  Let it? [{keys}/N] (within {} s) ",
            limit.as_secs()
        ));
        text
    }

    fn answer(&self, line: &str) -> HostAnswer {
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => HostAnswer::Allow(Holds::Command),
            "s" if self.session.is_some() => HostAnswer::Allow(Holds::Session),
            "a" if self.rule.is_some() => HostAnswer::Allow(Holds::Always),
            _ => HostAnswer::Deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{NetworkAccess, NetworkProtocol};

    use super::{Holds, HostAnswer, HostQuestion};

    fn question(session: Option<&str>, rule: Option<&str>) -> HostQuestion {
        HostQuestion {
            access: NetworkAccess {
                host: "pypi.org".to_owned(),
                port: 443,
                protocol: NetworkProtocol::Https,
            },
            command: "pip install\u{1b}[2J six\n  y  for".to_owned(),
            session: session.map(str::to_owned),
            rule: rule.map(str::to_owned),
        }
    }

    #[test]
    fn the_question_names_each_choice_and_what_the_command_is_draws_nothing() {
        let rule = "network_rule(host=\"pypi.org\", protocol=\"https\", decision=\"allow\")";
        let shown = question(Some("s-1"), Some(rule)).text(Duration::from_secs(80));
        insta::assert_snapshot!(shown, @r#"

        A command wants to reach a host that no rule names:
          pypi.org, port 443, by https
          it is pip install\x1b[2J six\n  y  for
          y  for this command
          s  for the rest of the session s-1
          a  always: network_rule(host="pypi.org", protocol="https", decision="allow") is added to your rules
          Let it? [y/s/a/N] (within 80 s)
        "#);
    }

    #[test]
    fn a_choice_that_is_not_offered_is_a_no() {
        let (whole, bare) = (question(Some("s"), Some("r")), question(None, None));
        let yes = HostAnswer::Allow;
        for (line, with, without) in [
            ("y", yes(Holds::Command), yes(Holds::Command)),
            (" YES ", yes(Holds::Command), yes(Holds::Command)),
            ("s", yes(Holds::Session), HostAnswer::Deny),
            ("A", yes(Holds::Always), HostAnswer::Deny),
            ("", HostAnswer::Deny, HostAnswer::Deny),
            ("n", HostAnswer::Deny, HostAnswer::Deny),
            ("ya", HostAnswer::Deny, HostAnswer::Deny),
        ] {
            assert_eq!((whole.answer(line), bare.answer(line)), (with, without));
        }
    }
}
