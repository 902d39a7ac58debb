//! What every confined command has of its own, whatever its plan says: [`steps`].
//!
//! Done while the plan is still being made (see `ahead`), in a process that shares its table of descriptors with its
//! parent, so nothing here leaves any open: devices are bound by path. All of it is made on one file system in memory, where the
//! command's `/proc` will stand over it; the plan's own steps take it from there.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::step::{Act, Confine, Make, Step};
use super::steps::Steps;
use crate::plan::Identity;
use crate::policy::Limits;

/// Where the command's own folders are made, before its `/proc` stands there.
pub(super) const STAGE: &str = "/proc";
/// On it: the folder that becomes `/dev`, the one that becomes `/dev/shm`, and the new `/proc`.
pub(super) const DEVICES: &str = "/proc/dev";
pub(super) const SHARED: &str = "/proc/shared";
pub(super) const PROCESSES: &str = "/proc/processes";

/// The devices every program expects.
const DEVICE_NAMES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// What the kernel counts for each user across all of its programs, also for those in user namespaces that the user made,
/// and which may be less within such a one (`user_namespaces(7)`, kernel 4.9; `inotify(7)`): so that a command does not
/// take everything from the user's editor. By the host's name, and by the namespace's own, below [`SETTINGS`].
const COUNTED_BY_USER: [(&CStr, &CStr); 2] = [
    (
        c"fs/inotify/max_user_instances",
        c"user/max_inotify_instances",
    ),
    (c"fs/inotify/max_user_watches", c"user/max_inotify_watches"),
];
/// Where the kernel's numbers are, some of them each user namespace's own (`proc_sys(5)`).
pub(crate) const SETTINGS: &str = "/proc/sys";

/// Leaves half to the user's other programs, by way of the folder `settings`. Only within a user namespace of one's own:
/// anywhere else it is the host's.
///
/// By way of a folder of the host's mount: what is open for writing in a mount of the new namespace, and be it for a moment
/// in a program that this one starts just then, keeps that mount from being made read-only.
pub(crate) fn leave_half(settings: RawFd) -> impl Iterator<Item = Step> {
    COUNTED_BY_USER.into_iter().map(move |(host, own)| Step {
        what: "leave half to the user of",
        object: "the command".into(),
        act: Act::Confine(Confine::Half {
            settings,
            host: host.to_owned(),
            own: own.to_owned(),
        }),
    })
}

/// The steps for a command that will be `identity`, done by this process's user.
pub(crate) fn steps(identity: Identity) -> Vec<Step> {
    let mut steps = Steps::default();
    let owner = owner(identity);
    let as_another = matches!(identity, Identity::Unprivileged { .. });
    if as_another {
        act_as(&mut steps, owner);
    }
    let usual = Limits::default();
    let size = (usual.temporary_mebibytes, 0o755);
    memory(&mut steps, Path::new(STAGE), owner, size);
    let devices = Path::new(DEVICES);
    steps.directory(devices, 0o755);
    steps.bind(devices, devices);
    for name in DEVICE_NAMES {
        let at = devices.join(name);
        steps.file(&at, &[], 0o444);
        steps.bind(&Path::new("/dev").join(name), &at);
    }
    for (target, name) in DEVICE_LINKS {
        steps.link(target, &devices.join(name));
    }
    let [terminals, shared] = ["pts", "shm"].map(|name| devices.join(name));
    steps.directory(&terminals, 0o755);
    steps.directory(&shared, 0o755);
    let options = "newinstance,ptmxmode=0666,mode=0620".to_owned();
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    steps.mount("devpts", &terminals, options, flags);
    steps.directory(Path::new(SHARED), 0o755);
    let size = (usual.shared_mebibytes, 0o1777);
    memory(&mut steps, Path::new(SHARED), owner, size);
    steps.directory(Path::new(PROCESSES), 0o755);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    steps.mount("proc", Path::new(PROCESSES), String::new(), flags);
    if as_another {
        let caller = [
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ];
        act_as(&mut steps, caller);
    }
    steps.list
}

/// Mounts a file system in memory of so many mebibytes, whose top has this mode.
pub(super) fn memory(
    steps: &mut Steps,
    at: &Path,
    [user, group]: [u32; 2],
    (mebibytes, mode): (u32, u32),
) {
    let options = format!("size={mebibytes}m,mode={mode:o},uid={user},gid={group}");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    steps.mount("tmpfs", at, options, flags);
}

/// Gives what was made with the usual size the size that the plan asks for.
pub(super) fn resize(steps: &mut Steps, at: &Path, mebibytes: u32) {
    let usual = Limits::default();
    let made = if at == Path::new(STAGE) {
        usual.temporary_mebibytes
    } else {
        usual.shared_mebibytes
    };
    if mebibytes != made {
        steps.resize(at, mebibytes);
    }
}

/// Whose the private folders are.
pub(super) fn owner(identity: Identity) -> [u32; 2] {
    match identity {
        Identity::Caller { user, group } | Identity::Unprivileged { user, group } => [user, group],
        Identity::ConfinedRoot => [0, 0],
    }
}

/// Makes files from here on as this user.
pub(super) fn act_as(steps: &mut Steps, [user, group]: [u32; 2]) {
    let make = Act::Make(Make::As { user, group });
    steps.add("act as", &PathBuf::from("another user"), make);
}
