//! What this kernel and host can do, and what to say where they cannot: facts for `doctor`, causes for errors.
//!
//! Reads and asks; changes nothing. A cause is looked up when something failed, not guessed from the errno alone.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;
use serde::Serialize;

use crate::error::{SandboxError, Wall};
use crate::landlock::OLDEST_LANDLOCK_ABI;
use crate::sys;

/// What this host can do.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read off the host and printed"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The newest Landlock interface; `None` where the kernel has none or keeps it off.
    pub landlock_abi: Option<u32>,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// `user.max_user_namespaces`; 0 forbids them.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, where the distribution has it; 0 forbids them to users.
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`; 1 gives namespaces without capabilities.
    pub apparmor_restricts_userns: Option<u64>,
    /// Whether this process is already under a filter, as in a container.
    pub under_seccomp: bool,
    /// Whether this process is inside a container that says so.
    pub container: bool,
    /// Whether this is a Windows subsystem, by its kernel's release.
    pub windows_subsystem: bool,
    /// `/usr/bin/bwrap`, owned by root.
    pub bubblewrap: bool,
}

/// Looks everything up.
#[must_use]
pub fn probe() -> Probe {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let containers = ["/.dockerenv", "/run/.containerenv"];
    Probe {
        landlock_abi: sys::landlock_abi().ok(),
        seccomp: sys::seccomp_filters().is_ok(),
        max_user_namespaces: sysctl("user/max_user_namespaces"),
        unprivileged_userns_clone: sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts_userns: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        under_seccomp: filtered.is_some_and(|mode| mode.trim() != "0"),
        container: containers.iter().any(|path| Path::new(path).exists()),
        windows_subsystem: release.to_ascii_lowercase().contains("microsoft"),
        bubblewrap: fs::metadata("/usr/bin/bwrap")
            .is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0),
    }
}

fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn unsupported(
    wall: Wall,
    source: io::Error,
    cause: impl Into<String>,
    hint: impl Into<String>,
) -> SandboxError {
    SandboxError::Unsupported {
        wall,
        cause: cause.into(),
        hint: hint.into(),
        source,
    }
}

/// The Landlock interface to use.
pub(crate) fn landlock() -> Result<u32, SandboxError> {
    let (cause, hint, error) = match sys::landlock_abi() {
        Ok(abi) if abi >= OLDEST_LANDLOCK_ABI => return Ok(abi),
        Ok(abi) => (
            format!("this kernel's Landlock (ABI {abi}) cannot keep a file from being truncated"),
            "use Linux 6.2 or newer",
            Errno::OPNOTSUPP,
        ),
        Err(Errno::OPNOTSUPP) => (
            "the kernel has Landlock but it is disabled at boot".to_owned(),
            "add `landlock` to the `lsm=` parameter of the kernel",
            Errno::OPNOTSUPP,
        ),
        Err(error) => (
            "the kernel has no Landlock".to_owned(),
            "use Linux 6.2 or newer with CONFIG_SECURITY_LANDLOCK",
            error,
        ),
    };
    Err(unsupported(Wall::Landlock, error.into(), cause, hint))
}

/// Whether filters can be installed.
pub(crate) fn seccomp() -> Result<(), SandboxError> {
    sys::seccomp_filters().map_err(|error| {
        let hint = "use a kernel with CONFIG_SECCOMP_FILTER";
        unsupported(
            Wall::Seccomp,
            error.into(),
            "the kernel cannot filter system calls",
            hint,
        )
    })
}

/// The cause of a clone that failed.
pub(crate) fn no_namespace(source: io::Error) -> SandboxError {
    let host = probe();
    let (cause, hint) = match source.raw_os_error() {
        Some(libc::ENOSPC) => match host.max_user_namespaces {
            Some(0) => (
                "`user.max_user_namespaces` is 0".to_owned(),
                "sysctl -w user.max_user_namespaces=15000",
            ),
            limit => (
                format!(
                    "all {} user namespaces are in use",
                    limit.unwrap_or_default()
                ),
                "raise user.max_user_namespaces, or end what holds them",
            ),
        },
        Some(libc::EPERM) if host.unprivileged_userns_clone == Some(0) => (
            "`kernel.unprivileged_userns_clone` is 0".to_owned(),
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        Some(libc::EPERM) if host.container || host.under_seccomp => (
            "the container around this process refuses user namespaces".to_owned(),
            "start the container with a seccomp profile that allows clone with CLONE_NEWUSER",
        ),
        Some(libc::EPERM) => (
            "a security policy of this host refuses user namespaces".to_owned(),
            "look for the refusal in the audit log",
        ),
        Some(libc::EINVAL) if host.windows_subsystem => (
            "the first Windows subsystem has no namespaces".to_owned(),
            "use WSL2",
        ),
        _ => (
            "the kernel does not make the namespaces".to_owned(),
            "use Linux 6.2 or newer with namespaces",
        ),
    };
    unsupported(Wall::Namespaces, source, cause, hint)
}

/// The cause of a user map that could not be written.
pub(crate) fn no_user_map(source: io::Error) -> SandboxError {
    let host = probe();
    if host.apparmor_restricts_userns == Some(1) {
        return apparmor(source);
    }
    if rustix::process::geteuid().is_root() {
        let hint = "give the container CAP_SETUID, CAP_SETGID and CAP_SETFCAP, or start as an ordinary user";
        return unsupported(
            Wall::UserMapping,
            source,
            "this root may not map users",
            hint,
        );
    }
    let cause = "the user map of a new namespace cannot be written";
    unsupported(
        Wall::UserMapping,
        source,
        cause,
        "look for the refusal in the audit log",
    )
}

fn apparmor(source: io::Error) -> SandboxError {
    let cause = "AppArmor gives user namespaces no capabilities (`kernel.apparmor_restrict_unprivileged_userns` is 1)";
    let hint = "install an AppArmor profile for this program that grants `userns,`";
    unsupported(Wall::Namespaces, source, cause, hint)
}

/// The cause of a step that the host does not permit.
pub(crate) fn no_wall(wall: Wall, step: &str, object: &Path, source: io::Error) -> SandboxError {
    let host = probe();
    let refused = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    if refused && host.apparmor_restricts_userns == Some(1) {
        return apparmor(source);
    }
    let cause = format!("cannot {step} `{}`", object.display());
    let hint = if refused && object == Path::new("/proc") {
        "a container masks parts of /proc; start it with an unmasked /proc (`--security-opt systempaths=unconfined`)"
    } else if refused {
        "a container or security policy around this process refuses it"
    } else {
        "use Linux 6.2 or newer"
    };
    unsupported(wall, source, cause, hint)
}
