//! What this kernel and host can do: [`Probe`], facts for `doctor` and for the causes of errors.
//!
//! Reads and asks; changes nothing and concludes nothing: that is [`crate::cause`]'s and [`crate::doctor`]'s, which are
//! pure. What the text of a system file means is read by pure functions here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cause;
use crate::cgroup;
use crate::error::{SandboxError, Wall};
use crate::sys;

/// What this host can do.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read off the host and printed"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The kernel's release.
    pub kernel: String,
    /// Whether root asks.
    pub root: bool,
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
    /// The container around this process, where it says so.
    pub container: Option<Container>,
    /// Which Windows subsystem this is, by its kernel's release.
    pub windows_subsystem: Option<WindowsSubsystem>,
    /// Whether `/proc` is there.
    pub proc: bool,
    /// Whether something covers parts of `/proc`, as containers do: then no second one can be mounted.
    pub proc_masked: bool,
    /// Whether control groups can limit a command.
    pub control_groups: ControlGroups,
}

/// Who says that there is a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// Docker, by `/.dockerenv`.
    Docker,
    /// Podman, by `/run/.containerenv`.
    Podman,
    /// Kubernetes, by its mounted service account.
    Kubernetes,
}

/// A Linux on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowsSubsystem {
    /// The first: Linux system calls without a Linux kernel, and without namespaces.
    One,
    /// The second: a Linux kernel in a virtual machine.
    Two,
}

/// What control groups (`cgroups(7)`) can do for a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlGroups {
    /// Version 2, and the group above ours was handed over with memory and processes: a command has a group of its own there.
    Delegated {
        /// The folder of the group above.
        folder: PathBuf,
    },
    /// Version 2, and it is somebody else's.
    NotDelegated,
    /// Version 1 or none.
    Missing,
}

/// Looks everything up.
#[must_use]
pub fn probe() -> Probe {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().to_owned();
    Probe {
        windows_subsystem: windows_subsystem(&kernel),
        kernel,
        root: rustix::process::geteuid().is_root(),
        landlock_abi: sys::landlock_abi().ok(),
        seccomp: sys::seccomp_filters().is_ok(),
        max_user_namespaces: sysctl("user/max_user_namespaces"),
        unprivileged_userns_clone: sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts_userns: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        under_seccomp: filtered.is_some_and(|mode| mode.trim() != "0"),
        container: container(|path| path.exists()),
        proc: Path::new("/proc/self").exists(),
        proc_masked: proc_masked(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        control_groups: control_groups(
            &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            |path| path.exists(),
            |parent| cgroup::is_ours(parent) && cgroup::hands_on_all(parent),
        ),
    }
}

fn container(exists: impl Fn(&Path) -> bool) -> Option<Container> {
    let marks = [
        ("/.dockerenv", Container::Docker),
        ("/run/.containerenv", Container::Podman),
        (
            "/var/run/secrets/kubernetes.io/serviceaccount",
            Container::Kubernetes,
        ),
    ];
    marks
        .into_iter()
        .find_map(|(path, container)| exists(Path::new(path)).then_some(container))
}

/// The subsystem that a kernel's release names: the second writes itself in small letters, with its name at the end.
fn windows_subsystem(release: &str) -> Option<WindowsSubsystem> {
    let lower = release.to_ascii_lowercase();
    if !lower.contains("microsoft") {
        None
    } else if lower.contains("wsl2") || release.contains("microsoft-standard") {
        Some(WindowsSubsystem::Two)
    } else {
        Some(WindowsSubsystem::One)
    }
}

/// Whether `mountinfo` (`proc_pid_mountinfo(5)`) has a mount beneath `/proc` that hides what is there. A filter of
/// formats that the kernel offers to mount by itself hides nothing.
fn proc_masked(mountinfo: &str) -> bool {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter_map(|point| point.strip_prefix("/proc/"))
        .any(|below| !below.starts_with("sys/fs/binfmt_misc"))
}

/// What `/proc/self/cgroup` and the disk say of control groups.
fn control_groups(
    own: &str,
    exists: impl Fn(&Path) -> bool,
    is_ours: impl Fn(&Path) -> bool,
) -> ControlGroups {
    let root = Path::new("/sys/fs/cgroup");
    if !exists(&root.join("cgroup.controllers")) {
        return ControlGroups::Missing;
    }
    if !own.lines().any(|line| line.starts_with("0::/")) {
        return ControlGroups::Missing;
    }
    match cgroup::parent(root, own).filter(|parent| is_ours(parent)) {
        Some(folder) => ControlGroups::Delegated { folder },
        None => ControlGroups::NotDelegated,
    }
}

fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The Landlock interface to use.
pub(crate) fn landlock() -> Result<u32, SandboxError> {
    let found = sys::landlock_abi();
    match (cause::of_landlock(found), found) {
        (None, Ok(abi)) => Ok(abi),
        (cause, found) => {
            let cause = cause.unwrap_or_default();
            let error = found.err().unwrap_or(rustix::io::Errno::OPNOTSUPP);
            Err(cause.error(Wall::Landlock, error.into()))
        }
    }
}

/// Whether filters can be installed.
pub(crate) fn seccomp() -> Result<(), SandboxError> {
    sys::seccomp_filters().map_err(|error| cause::of_seccomp().error(Wall::Seccomp, error.into()))
}

/// The cause of a clone that failed.
pub(crate) fn no_namespace(source: io::Error) -> SandboxError {
    cause::of_namespace(&probe(), source.raw_os_error()).error(Wall::Namespaces, source)
}

/// The cause of a user map that could not be written.
pub(crate) fn no_user_map(source: io::Error) -> SandboxError {
    let (wall, cause) = cause::of_user_map(&probe());
    cause.error(wall, source)
}

/// The cause of a step that the host does not permit.
pub(crate) fn no_wall(wall: Wall, step: &str, object: &Path, source: io::Error) -> SandboxError {
    let (wall, cause) = cause::of_step(&probe(), wall, (step, object), source.raw_os_error());
    cause.error(wall, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_windows_subsystems_are_told_apart_by_the_release() {
        for (release, found) in [
            ("4.4.0-19041-Microsoft", Some(WindowsSubsystem::One)),
            (
                "5.15.90.1-microsoft-standard-WSL2",
                Some(WindowsSubsystem::Two),
            ),
            ("4.19.104-microsoft-standard", Some(WindowsSubsystem::Two)),
            ("6.18.0-1-amd64", None),
            ("", None),
        ] {
            assert_eq!(windows_subsystem(release), found, "{release}");
        }
    }

    #[test]
    fn a_container_says_so_by_its_mark() {
        let marked = |mark: &'static str| container(move |path| path == Path::new(mark));
        assert_eq!(marked("/.dockerenv"), Some(Container::Docker));
        assert_eq!(marked("/run/.containerenv"), Some(Container::Podman));
        assert_eq!(marked("/etc"), None);
    }

    #[test]
    fn a_cover_beneath_proc_masks_it_and_the_kernels_own_mount_does_not() {
        let line = |point: &str| format!("30 25 0:26 / {point} rw,relatime - proc proc rw\n");
        assert!(proc_masked(&line("/proc/kcore")));
        assert!(proc_masked(&line("/proc/sys")));
        assert!(!proc_masked(&line("/proc")));
        assert!(!proc_masked(&line("/processes")));
        assert!(!proc_masked(&line("/proc/sys/fs/binfmt_misc")));
    }

    #[test]
    fn control_groups_are_ours_only_where_they_were_handed_to_us() {
        let unified = |path: &Path| path.ends_with("cgroup.controllers");
        let own = "0::/user.slice/user@1000.service/app\n";
        let given = control_groups(own, unified, |_| true);
        let folder = PathBuf::from("/sys/fs/cgroup/user.slice/user@1000.service");
        assert_eq!(given, ControlGroups::Delegated { folder });
        for (own, ours) in [(own, false), ("0::/\n", true)] {
            let not = control_groups(own, unified, |_| ours);
            assert_eq!(not, ControlGroups::NotDelegated, "{own}");
        }
        assert_eq!(
            control_groups(own, |_| false, |_| true),
            ControlGroups::Missing
        );
        assert_eq!(
            control_groups("1:cpu:/\n", unified, |_| true),
            ControlGroups::Missing
        );
    }
}
