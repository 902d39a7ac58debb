//! What a host's facts mean for each wall: [`diagnose`]. Pure.
//!
//! Facts alone never prove that a wall stands; the one who asks tries them out and hands in what came of it. What came
//! off stands, whatever the facts make one fear.

use serde::Serialize;

use crate::cause::{self, Cause};
use crate::error::{SandboxError, Wall};
use crate::landlock::{self, OLDEST_LANDLOCK_ABI};
use crate::probe::{ControlGroups, Probe, WindowsSubsystem};

/// What was found about one wall, or about what surrounds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what.
    pub of: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What there is to say, one line.
    pub says: String,
    /// What would help, where something would.
    pub cure: Option<String>,
}

/// How a wall stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It stands.
    Stands,
    /// It stands, with less than it could have; nothing that was asked for is missing.
    Reduced,
    /// It could not be looked at, because another is missing.
    Unknown,
    /// It is missing: commands do not start.
    Missing,
}

/// What came of putting the walls up around a command that does nothing.
#[derive(Debug)]
pub enum Trial {
    /// They stood.
    CameOff,
    /// They did not.
    Failed(SandboxError),
}

const NAMESPACES: &str = "namespaces";

impl Finding {
    fn new(of: &'static str, standing: Standing, says: impl Into<String>) -> Self {
        Self {
            of,
            standing,
            says: says.into(),
            cure: None,
        }
    }

    fn missing(of: &'static str, cause: Cause) -> Self {
        Self {
            cure: Some(cause.cure),
            ..Self::new(of, Standing::Missing, cause.cause)
        }
    }

    fn cured_by(self, cure: impl Into<String>) -> Self {
        Self {
            cure: Some(cure.into()),
            ..self
        }
    }
}

/// What `host` and the `trial` on it mean, wall by wall, then what surrounds them.
#[must_use]
pub fn diagnose(host: &Probe, trial: &Trial) -> Vec<Finding> {
    let mut findings = vec![
        by_trial(Wall::Namespaces, host, trial),
        by_trial(Wall::Mounts, host, trial),
        landlock(host, trial),
        seccomp(host, trial),
        capabilities(trial),
    ];
    if host.root {
        findings.push(by_trial(Wall::UserMapping, host, trial));
    }
    findings.push(limits(host));
    findings.extend(surroundings(host));
    findings
}

/// A wall that only a trial shows.
fn by_trial(wall: Wall, host: &Probe, trial: &Trial) -> Finding {
    let of = match wall {
        Wall::Namespaces => NAMESPACES,
        other @ (Wall::Mounts | Wall::Landlock | Wall::Seccomp | Wall::UserMapping) => {
            other.as_str()
        }
    };
    match trial {
        Trial::CameOff => Finding::new(of, Standing::Stands, "tried and stood"),
        Trial::Failed(SandboxError::Unsupported {
            wall: missing,
            cause,
            hint,
            ..
        }) if *missing == wall => Finding::missing(of, Cause::new(cause.clone(), hint.clone())),
        Trial::Failed(SandboxError::Unsupported { wall: missing, .. }) => {
            let waits = format!("not tried: {} cannot be put up", missing.as_str());
            Finding::new(of, Standing::Unknown, waits)
        }
        Trial::Failed(other) if wall == Wall::Namespaces && !host.proc => {
            Finding::missing(of, cause::of_namespace(host, None)).because(other)
        }
        Trial::Failed(other) => {
            Finding::new(of, Standing::Unknown, "the trial failed").because(other)
        }
    }
}

impl Finding {
    fn because(mut self, error: &SandboxError) -> Self {
        let first = error.to_string();
        let first = first.lines().next().unwrap_or_default();
        self.says = format!("{}: {first}", self.says);
        self
    }
}

fn landlock(host: &Probe, trial: &Trial) -> Finding {
    let of = Wall::Landlock.as_str();
    match (host.landlock_abi, trial) {
        (Some(abi), _) if abi >= OLDEST_LANDLOCK_ABI => {
            let beside = landlock::beside(abi).map_or("", |_| {
                "; before Linux 6.2 it does not judge truncation, so nothing is truncated by name (`truncate(2)`)"
            });
            Finding::new(of, Standing::Stands, format!("interface {abi}{beside}"))
        }
        (
            _,
            Trial::Failed(SandboxError::Unsupported {
                wall: Wall::Landlock,
                cause,
                hint,
                ..
            }),
        ) => Finding::missing(of, Cause::new(cause.clone(), hint.clone())),
        (Some(abi), _) => Finding::missing(of, cause::of_landlock(Ok(abi)).unwrap_or_default()),
        (None, _) => {
            let cause = cause::of_landlock(Err(rustix::io::Errno::NOSYS));
            Finding::missing(of, cause.unwrap_or_default())
        }
    }
}

fn seccomp(host: &Probe, trial: &Trial) -> Finding {
    let of = Wall::Seccomp.as_str();
    match (host.seccomp, trial) {
        (false, _) => Finding::missing(of, cause::of_seccomp()),
        (true, Trial::CameOff) => Finding::new(of, Standing::Stands, "tried and stood"),
        (true, Trial::Failed(_)) => {
            Finding::new(of, Standing::Stands, "the kernel filters system calls")
        }
    }
}

fn capabilities(trial: &Trial) -> Finding {
    match trial {
        Trial::CameOff => Finding::new("no capabilities", Standing::Stands, "tried and stood"),
        Trial::Failed(_) => {
            let says = "not tried: they are given up inside namespaces";
            Finding::new("no capabilities", Standing::Unknown, says)
        }
    }
}

fn limits(host: &Probe) -> Finding {
    const OF: &str = "limits";
    match &host.control_groups {
        ControlGroups::Delegated { folder } => {
            let says = format!(
                "by process, memory by a watch over all of them, and both by a control group of each command in {}",
                folder.display()
            );
            Finding::new(OF, Standing::Stands, says)
        }
        ControlGroups::NotDelegated => {
            let says = "by process, and memory by a watch over all of them: no control group was handed over to this program";
            Finding::new(OF, Standing::Reduced, says)
        }
        ControlGroups::Missing => {
            let says = "by process, not by control group: there is no version 2 of them here";
            Finding::new(OF, Standing::Reduced, says)
        }
    }
}

/// What is around the walls: said because it explains much, and because an outer boundary is not ours to vouch for.
fn surroundings(host: &Probe) -> Vec<Finding> {
    let mut findings = Vec::new();
    match host.windows_subsystem {
        Some(WindowsSubsystem::One) => {
            let cause = Cause::new(
                "this is the first Windows subsystem, which has no namespaces",
                "use WSL2",
            );
            findings.push(Finding::missing("platform", cause));
        }
        Some(WindowsSubsystem::Two) => {
            let says = "WSL2: Windows drives are reached through their own permissions; /run is covered and AF_VSOCK refused inside";
            findings.push(Finding::new("platform", Standing::Stands, says));
        }
        None => {}
    }
    if let Some(container) = host.container {
        let says = format!(
            "inside a container already ({container:?}): it is an outer boundary that is not vouched for here"
        );
        findings.push(Finding::new("container", Standing::Stands, says));
    }
    if host.proc_masked {
        let says = "parts of /proc are covered, so that no second one can be mounted where namespaces are our own";
        findings.push(
            Finding::new("proc", Standing::Reduced, says)
                .cured_by("start the container with --security-opt systempaths=unconfined"),
        );
    }
    if host.apparmor_restricts_userns == Some(1) {
        let says = "kernel.apparmor_restrict_unprivileged_userns is 1: namespaces need a profile that grants `userns,`; without one, `/usr/bin/bwrap` makes them where it is installed";
        findings.push(Finding::new("apparmor", Standing::Reduced, says));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::tests::host;
    use crate::probe::Container;

    fn refused(wall: Wall, cause: &str) -> Trial {
        let source = std::io::Error::from_raw_os_error(libc::EPERM);
        Trial::Failed(Cause::new(cause, "do this").error(wall, source))
    }

    fn finding(findings: &[Finding], of: &str) -> Finding {
        let found = findings.iter().find(|finding| finding.of == of);
        found
            .unwrap_or_else(|| panic!("nothing is said of {of}"))
            .clone()
    }

    #[test]
    fn what_was_tried_and_stood_stands_whatever_one_fears() {
        let ubuntu = Probe {
            apparmor_restricts_userns: Some(1),
            container: Some(Container::Docker),
            max_user_namespaces: Some(0),
            ..host()
        };
        let findings = diagnose(&ubuntu, &Trial::CameOff);
        for of in [
            "namespaces",
            "mounts",
            "landlock",
            "seccomp",
            "no capabilities",
        ] {
            assert_eq!(finding(&findings, of).standing, Standing::Stands, "{of}");
        }
        assert!(
            findings
                .iter()
                .all(|finding| finding.standing != Standing::Missing)
        );
    }

    #[test]
    fn a_wall_that_failed_is_missing_with_its_cure_and_those_behind_it_are_not_known() {
        let findings = diagnose(&host(), &refused(Wall::Namespaces, "a policy says no"));
        let namespaces = finding(&findings, "namespaces");
        assert_eq!(namespaces.standing, Standing::Missing);
        assert_eq!(namespaces.says, "a policy says no");
        assert_eq!(namespaces.cure.as_deref(), Some("do this"));
        assert_eq!(finding(&findings, "mounts").standing, Standing::Unknown);
        assert_eq!(
            finding(&findings, "no capabilities").standing,
            Standing::Unknown
        );
        assert_eq!(finding(&findings, "landlock").standing, Standing::Stands);
    }

    #[test]
    fn each_host_reads_as_what_it_is() {
        let trial = || refused(Wall::Landlock, "off");
        let of = |change: fn(&mut Probe)| {
            let mut host = host();
            change(&mut host);
            host
        };
        let folder = || ControlGroups::Delegated {
            folder: "/sys/fs/cgroup/x".into(),
        };
        let mut delegated = host();
        delegated.control_groups = folder();
        let cases = [
            (
                of(|host| host.landlock_abi = None),
                "landlock",
                Standing::Missing,
            ),
            (
                of(|host| host.landlock_abi = Some(1)),
                "landlock",
                Standing::Missing,
            ),
            (
                of(|host| host.seccomp = false),
                "seccomp",
                Standing::Missing,
            ),
            (
                of(|host| host.windows_subsystem = Some(WindowsSubsystem::One)),
                "platform",
                Standing::Missing,
            ),
            (
                of(|host| host.windows_subsystem = Some(WindowsSubsystem::Two)),
                "platform",
                Standing::Stands,
            ),
            (
                of(|host| host.proc_masked = true),
                "proc",
                Standing::Reduced,
            ),
            (
                of(|host| host.control_groups = ControlGroups::Missing),
                "limits",
                Standing::Reduced,
            ),
            (delegated, "limits", Standing::Stands),
        ];
        for (host, of, standing) in cases {
            let found = finding(&diagnose(&host, &trial()), of);
            assert_eq!(found.standing, standing, "{found:?}");
        }
    }

    #[test]
    fn root_is_told_about_the_mapping_of_users_and_others_are_not() {
        let of = |root| diagnose(&Probe { root, ..host() }, &Trial::CameOff);
        assert!(of(true).iter().any(|finding| finding.of == "user mapping"));
        assert!(!of(false).iter().any(|finding| finding.of == "user mapping"));
    }

    #[test]
    fn a_failure_that_is_no_missing_wall_is_told_as_it_is() {
        let findings = diagnose(&host(), &Trial::Failed(SandboxError::Lost));
        assert!(
            finding(&findings, "namespaces")
                .says
                .contains("ended before")
        );
    }
}
