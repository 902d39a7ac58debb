//! `agent-runner doctor`: which walls this host can put up, what is in the way and what would cure it.
//!
//! The facts are the sandbox's, what they mean is decided there by a pure function; here the walls are tried out, and all
//! of it is told. Nothing is changed.

mod door_test;
mod self_test;

use std::io::Write;

use protocol::Printable;
use sandbox::{Confinement, Finding, MadeBy, Probe, Standing, Trial, diagnose, probe};
use serde::Serialize;

use crate::cli;
use crate::config::Environment;
use crate::failure::Failure;
pub(crate) use door_test::{DENIED, DoorTested, from_behind_the_door, try_door};
use door_test::{Unaware, door_test};
pub(crate) use self_test::from_inside;
use self_test::{Attempt, Tested, self_test};

/// The exit status where a wall is missing or did not hold.
const NOT_WELL: u8 = 1;

/// Everything that is told.
#[derive(Debug, Serialize)]
struct Diagnosis {
    version: u32,
    host: Probe,
    findings: Vec<Finding>,
    /// What a command tried from inside; empty where none could be started.
    self_test: Vec<Attempt>,
    /// Which walls stood around it.
    confinement: Option<String>,
}

/// Tries the walls and tells; the answer is the exit status.
///
/// # Errors
/// Nothing could be tried, or nothing could be told.
pub(crate) async fn doctor(
    args: &cli::Doctor,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let host = probe();
    let (trial, mut attempts, confinement) = match self_test(environment)? {
        Tested::Tried {
            attempts,
            confinement,
        } => (Trial::CameOff, attempts, Some(confinement)),
        Tested::NotStarted(error) => (Trial::Failed(error), Vec::new(), None),
    };
    let mut findings = diagnose(&host, &trial);
    match confinement.as_ref().map(Confinement::made_by) {
        None => {}
        Some(MadeBy::Bubblewrap) => findings.push(no_door()),
        Some(MadeBy::OwnCalls) => {
            let tested = door_test().await?;
            findings.push(door(&tested));
            attempts.extend(tested.attempts);
        }
    }
    let diagnosis = Diagnosis {
        version: 1,
        findings,
        host,
        self_test: attempts,
        confinement: confinement.map(|confinement| confinement.to_string()),
    };
    let written = if args.json {
        serde_json::to_writer_pretty(&mut *out, &diagnosis)
            .map_err(std::io::Error::other)
            .and_then(|()| writeln!(out))
    } else {
        diagnosis.write(out)
    };
    written.map_err(|error| Failure::because(format!("cannot print the diagnosis: {error}")))?;
    Ok(if diagnosis.is_well() { 0 } else { NOT_WELL })
}

/// Where somebody else makes the namespaces, nothing can be bound in them before the walls stand.
fn no_door() -> Finding {
    Finding {
        of: "door",
        standing: Standing::Reduced,
        says: "none where /usr/bin/bwrap makes the namespaces: a network with rules is refused"
            .to_owned(),
        cure: None,
    }
}

/// What the door's test says of it.
fn door(tested: &DoorTested) -> Finding {
    let (standing, says) = match (tested.answers, tested.unaware) {
        (true, Unaware::EveryPort) => (
            Standing::Stands,
            "programs with a proxy, and those that know of none, are decided by name at every port",
        ),
        (true, Unaware::UsualPorts) => (
            Standing::Stands,
            "programs with a proxy, and those that know of none, are decided by name; the latter at usual ports (nf_tables \
             would take every one)",
        ),
        (true, Unaware::Cut) => (
            Standing::Reduced,
            "programs that know of no proxy have no network: their names are not answered",
        ),
        (false, _) => (
            Standing::Missing,
            "the network's door does not answer inside",
        ),
    };
    Finding {
        of: "door",
        standing,
        says: says.to_owned(),
        cure: None,
    }
}

impl Diagnosis {
    fn is_well(&self) -> bool {
        let stand = self
            .findings
            .iter()
            .all(|finding| finding.standing < Standing::Unknown);
        stand && !self.self_test.is_empty() && self.self_test.iter().all(|attempt| attempt.held)
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(
            out,
            "host            Linux {}",
            Printable(&self.host.kernel)
        )?;
        for finding in &self.findings {
            let standing = match finding.standing {
                Standing::Stands => "ok",
                Standing::Reduced => "less",
                Standing::Unknown => "?",
                Standing::Missing => "MISSING",
            };
            writeln!(
                out,
                "{:<15} {standing:<8} {}",
                finding.of,
                Printable(&finding.says)
            )?;
            if let Some(cure) = &finding.cure {
                writeln!(out, "{:<15} {:<8} cure: {}", "", "", Printable(cure))?;
            }
        }
        for attempt in &self.self_test {
            let held = if attempt.held {
                "refused"
            } else {
                "NOT REFUSED"
            };
            writeln!(out, "from inside     {held:<8} {}", attempt.what)?;
        }
        match &self.confinement {
            Some(confinement) => writeln!(out, "walls           {confinement}"),
            None => writeln!(
                out,
                "walls           none could be tried: no command starts here, but with --best-effort where Landlock stands"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Diagnosis};
    use sandbox::{Trial, diagnose, probe};

    fn diagnosis(held: &[bool]) -> Diagnosis {
        let host = probe();
        Diagnosis {
            version: 1,
            findings: diagnose(&host, &Trial::CameOff),
            host,
            self_test: held
                .iter()
                .map(|held| Attempt {
                    what: "a write outside",
                    held: *held,
                })
                .collect(),
            confinement: None,
        }
    }

    #[test]
    fn a_host_is_well_only_where_the_walls_were_tried_and_each_held() {
        assert!(diagnosis(&[true, true]).is_well());
        assert!(!diagnosis(&[true, false]).is_well());
        assert!(!diagnosis(&[]).is_well());
    }

    #[test]
    fn what_was_not_refused_is_shouted() {
        let mut text = Vec::new();
        diagnosis(&[false]).write(&mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(text.contains("NOT REFUSED a write outside"), "{text}");
    }
}
