//! Why a wall could not be put up, and what would cure it. Pure: from what the host is and what the system said.
//!
//! Apart from the probe, so that every host can be tried on one machine. A cause is named only where a fact shows it; the
//! cure never begins with taking a protection of the host away.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use serde::Serialize;

use crate::error::{SandboxError, Wall};
use crate::landlock::OLDEST_LANDLOCK_ABI;
use crate::probe::{Probe, WindowsSubsystem};

/// A cause and its cure, each one line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What stands in the way.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl Cause {
    pub(crate) fn new(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        let (cause, cure) = (cause.into(), cure.into());
        Self { cause, cure }
    }

    pub(crate) fn error(self, wall: Wall, source: io::Error) -> SandboxError {
        SandboxError::Unsupported {
            wall,
            cause: self.cause,
            hint: self.cure,
            source,
        }
    }
}

/// What keeps Landlock from standing, where something does.
pub(crate) fn of_landlock(found: Result<u32, Errno>) -> Option<Cause> {
    match found {
        Ok(abi) if abi >= OLDEST_LANDLOCK_ABI => None,
        Ok(abi) => Some(Cause::new(
            format!("this kernel's Landlock (ABI {abi}) lets no file be moved to another folder"),
            "use Linux 5.19 or newer",
        )),
        Err(Errno::OPNOTSUPP) => Some(Cause::new(
            "the kernel has Landlock but it is disabled at boot",
            "add `landlock` to the `lsm=` parameter of the kernel",
        )),
        Err(Errno::PERM) => Some(Cause::new(
            "a filter around this process refuses Landlock",
            "start the container with a seccomp profile that allows landlock_create_ruleset",
        )),
        Err(_) => Some(Cause::new(
            "the kernel has no Landlock",
            "use Linux 5.19 or newer with CONFIG_SECURITY_LANDLOCK",
        )),
    }
}

/// What keeps filters from standing.
pub(crate) fn of_seccomp() -> Cause {
    Cause::new(
        "the kernel cannot filter system calls",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    )
}

/// What refuses namespaces, when the clone ended with `errno`.
pub(crate) fn of_namespace(host: &Probe, errno: Option<i32>) -> Cause {
    if host.windows_subsystem == Some(WindowsSubsystem::One) {
        return Cause::new("the first Windows subsystem has no namespaces", "use WSL2");
    }
    if !host.proc {
        return no_proc();
    }
    match errno {
        Some(libc::ENOSPC) => match host.max_user_namespaces {
            Some(0) => Cause::new(
                "`user.max_user_namespaces` is 0",
                "sysctl -w user.max_user_namespaces=15000",
            ),
            Some(limit) => Cause::new(
                format!("all {limit} user namespaces are in use, or 32 are nested"),
                "raise user.max_user_namespaces, or end what holds them",
            ),
            None => Cause::new(
                "the user namespaces that are allowed are in use",
                "raise user.max_user_namespaces, or end what holds them",
            ),
        },
        Some(libc::EPERM) if host.unprivileged_userns_clone == Some(0) && !host.root => Cause::new(
            "`kernel.unprivileged_userns_clone` is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        Some(libc::EPERM) if host.container.is_some() || host.under_seccomp => Cause::new(
            "the container around this process refuses user namespaces",
            "start the container with a seccomp profile that allows clone with CLONE_NEWUSER",
        ),
        Some(libc::EPERM | libc::EACCES) if host.apparmor_restricts_userns == Some(1) => {
            of_apparmor()
        }
        Some(libc::EPERM | libc::EACCES) => Cause::new(
            "a security policy of this host refuses user namespaces",
            "look for the refusal in the audit log",
        ),
        _ => Cause::new(
            "the kernel does not make the namespaces",
            "use Linux 5.19 or newer with namespaces",
        ),
    }
}

fn no_proc() -> Cause {
    let cure = "mount it: mount -t proc proc /proc";
    Cause::new("`/proc` is not mounted", cure)
}

/// What refuses a user map.
pub(crate) fn of_user_map(host: &Probe) -> (Wall, Cause) {
    if !host.proc {
        return (Wall::Namespaces, no_proc());
    }
    if host.apparmor_restricts_userns == Some(1) && !host.root {
        return (Wall::Namespaces, of_apparmor());
    }
    let cause = if host.root {
        Cause::new(
            "this root may not map users",
            "give the container CAP_SETUID, CAP_SETGID and CAP_SETFCAP, or start as an ordinary user",
        )
    } else {
        Cause::new(
            "the user map of a new namespace cannot be written",
            "look for the refusal in the audit log",
        )
    };
    (Wall::UserMapping, cause)
}

fn of_apparmor() -> Cause {
    Cause::new(
        "AppArmor gives user namespaces no capabilities (`kernel.apparmor_restrict_unprivileged_userns` is 1)",
        "install an AppArmor profile for this program that grants `userns,` (docs/sandbox.md has one)",
    )
}

/// What refuses a `step` on an object, and which wall is missing for it.
pub(crate) fn of_step(
    host: &Probe,
    wall: Wall,
    (step, object): (&str, &Path),
    errno: Option<i32>,
) -> (Wall, Cause) {
    let refused = matches!(errno, Some(libc::EPERM | libc::EACCES));
    if refused && host.apparmor_restricts_userns == Some(1) && !host.root {
        return (Wall::Namespaces, of_apparmor());
    }
    let cause = format!("cannot {step} `{}`", object.display());
    let cure = if refused && object == Path::new("/proc") {
        "a container masks parts of /proc; start it with an unmasked /proc (`--security-opt systempaths=unconfined`)"
    } else if refused {
        "a container or security policy around this process refuses it"
    } else {
        "use Linux 5.19 or newer"
    };
    (wall, Cause::new(cause, cure))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::probe::{Container, ControlGroups};

    /// A host on which everything stands.
    pub(crate) fn host() -> Probe {
        Probe {
            kernel: "6.18.0".to_owned(),
            root: false,
            landlock_abi: Some(7),
            seccomp: true,
            max_user_namespaces: Some(15_000),
            unprivileged_userns_clone: None,
            apparmor_restricts_userns: None,
            under_seccomp: false,
            container: None,
            windows_subsystem: None,
            proc: true,
            proc_masked: false,
            control_groups: ControlGroups::NotDelegated,
        }
    }

    fn says(host: &Probe, errno: i32, wanted: &str) {
        let cause = of_namespace(host, Some(errno));
        assert!(
            cause.cause.contains(wanted),
            "`{wanted}` is not in {cause:?}"
        );
        assert!(!cause.cure.is_empty());
    }

    #[test]
    fn each_host_that_refuses_namespaces_is_told_its_own_cause() {
        let none = Probe {
            max_user_namespaces: Some(0),
            ..host()
        };
        says(&none, libc::ENOSPC, "`user.max_user_namespaces` is 0");
        says(&host(), libc::ENOSPC, "15000 user namespaces are in use");
        let debian = Probe {
            unprivileged_userns_clone: Some(0),
            ..host()
        };
        says(
            &debian,
            libc::EPERM,
            "`kernel.unprivileged_userns_clone` is 0",
        );
        let as_root = Probe {
            root: true,
            container: Some(Container::Docker),
            ..debian
        };
        says(&as_root, libc::EPERM, "the container around");
        let filtered = Probe {
            under_seccomp: true,
            ..host()
        };
        says(&filtered, libc::EPERM, "the container around");
        let ubuntu = Probe {
            apparmor_restricts_userns: Some(1),
            ..host()
        };
        says(&ubuntu, libc::EACCES, "AppArmor");
        says(&host(), libc::EPERM, "a security policy of this host");
        let windows = Probe {
            windows_subsystem: Some(WindowsSubsystem::One),
            ..host()
        };
        says(&windows, libc::EINVAL, "the first Windows subsystem");
        let bare = Probe {
            proc: false,
            ..host()
        };
        says(&bare, libc::ENOENT, "`/proc` is not mounted");
        says(&host(), libc::ENOSYS, "does not make the namespaces");
    }

    #[test]
    fn apparmor_is_cured_by_a_profile_and_never_by_turning_it_off() {
        let ubuntu = Probe {
            apparmor_restricts_userns: Some(1),
            ..host()
        };
        let (wall, cause) = of_user_map(&ubuntu);
        assert_eq!(wall, Wall::Namespaces);
        assert!(cause.cure.contains("userns,") && !cause.cure.contains("sysctl"));
        let step = ("mount", Path::new("/"));
        let (wall, _) = of_step(&ubuntu, Wall::Mounts, step, Some(libc::EPERM));
        assert_eq!(wall, Wall::Namespaces);
    }

    #[test]
    fn landlock_that_is_off_old_filtered_or_missing_reads_differently() {
        assert_eq!(of_landlock(Ok(3)), None);
        let causes: std::collections::BTreeSet<_> = [
            Ok(1),
            Err(Errno::OPNOTSUPP),
            Err(Errno::PERM),
            Err(Errno::NOSYS),
        ]
        .into_iter()
        .map(|found| of_landlock(found).expect("a cause").cause)
        .collect();
        assert_eq!(causes.len(), 4);
    }

    #[test]
    fn root_without_the_right_to_map_is_told_which_capability_is_missing() {
        let root = Probe {
            root: true,
            ..host()
        };
        assert!(of_user_map(&root).1.cure.contains("CAP_SETFCAP"));
        assert!(of_user_map(&host()).1.cure.contains("audit"));
    }

    #[test]
    fn a_masked_proc_is_told_by_its_name() {
        let step = ("mount", Path::new("/proc"));
        let (_, cause) = of_step(&host(), Wall::Mounts, step, Some(libc::EPERM));
        assert!(cause.cure.contains("systempaths=unconfined"));
    }
}
