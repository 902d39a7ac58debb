//! What the walls refused, a line each, for a person: `sandbox --log-denials`.
//!
//! Only what the sandbox saw. Paths and addresses come from outside and are shown so that they steer nothing.

use protocol::Printable;
use sandbox::{Reason, SandboxDenial};

use crate::report::Report;

/// A line for each refusal in `report`, and one where there is none.
pub(crate) fn lines(report: &Report) -> String {
    let Some(seen) = &report.denials else {
        return "refused: not known, nothing was observed\n".to_owned();
    };
    let mut lines: Vec<String> = seen
        .iter()
        .map(|denial| format!("refused: {}\n", Printable(&line(denial))))
        .collect();
    match report.unlisted_denials {
        0 if lines.is_empty() => lines.push("refused: nothing that was seen\n".to_owned()),
        0 => {}
        more => lines.push(format!("refused: {more} more\n")),
    }
    lines.concat()
}

/// One refusal, as read by a person.
pub(crate) fn line(denial: &SandboxDenial) -> String {
    match denial {
        SandboxDenial::Write { call, path, by } => {
            format!("write {} ({call}): {}", path.display(), because(by))
        }
        SandboxDenial::Read { path, by } => format!("read {}: {}", path.display(), because(by)),
        SandboxDenial::Connect { address } => {
            format!("connect {address}: the command's network does not lead there")
        }
        SandboxDenial::Socket { family } => format!("socket {family}: no such family inside"),
        SandboxDenial::SystemCall { name } => format!("system call {name}: no command may make it"),
        other => format!("{other:?}"),
    }
}

fn because(reason: &Reason) -> String {
    match reason {
        Reason::Default => "no rule opens it".to_owned(),
        Reason::Path { path } => format!("the rule for {}", path.display()),
        Reason::Pattern { pattern } => format!("the pattern {pattern}"),
        Reason::ProtectedName { path } => {
            format!("{} decides what runs later", path.display())
        }
        Reason::NeverTouched { path } => format!("no command may touch {}", path.display()),
        Reason::NeverChanged { path } => format!("no command may change {}", path.display()),
        Reason::OwnFolder => "a folder of the sandbox's own".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use sandbox::{Reason, SandboxDenial};

    use super::lines;
    use crate::report::Report;

    #[test]
    fn each_refusal_reads_as_what_was_tried_and_why_not() {
        let write = |path: &str, by| SandboxDenial::Write {
            call: "openat".to_owned(),
            path: path.into(),
            by,
        };
        let report = Report {
            denials: Some(vec![
                write("/etc/x\u{1b}[2J", Reason::Default),
                write(
                    "/w/.git/config",
                    Reason::ProtectedName {
                        path: "/w/.git".into(),
                    },
                ),
                SandboxDenial::Read {
                    path: "/w/.env".into(),
                    by: Reason::Pattern {
                        pattern: "**/*.env".to_owned(),
                    },
                },
                SandboxDenial::Connect {
                    address: "10.0.0.1:80".to_owned(),
                },
                SandboxDenial::SystemCall {
                    name: "mount".to_owned(),
                },
            ]),
            unlisted_denials: 3,
            ..Report::default()
        };
        insta::assert_snapshot!(lines(&report), @r"
        refused: write /etc/x\x1b[2J (openat): no rule opens it
        refused: write /w/.git/config (openat): /w/.git decides what runs later
        refused: read /w/.env: the pattern **/*.env
        refused: connect 10.0.0.1:80: the command's network does not lead there
        refused: system call mount: no command may make it
        refused: 3 more
        ");
    }

    #[test]
    fn nothing_seen_and_nothing_observed_read_differently() {
        let seen = |denials| {
            lines(&Report {
                denials,
                ..Report::default()
            })
        };
        assert_ne!(seen(None), seen(Some(Vec::new())));
    }
}
