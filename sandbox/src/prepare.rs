//! From a plan to steps that need nothing more: [`Prepared`]. All allocation and every descriptor of the start is here.
//!
//! What comes after runs on shared memory, where nothing may allocate or lock, so this is where strings get their NUL,
//! trees of another owner are taken, images are opened and filters compiled. Steps keep the plan's order.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI32;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::MountFlags;

use crate::command::{Command, Identity as FileIdentity, Stdin, Terminal};
use crate::error::{SandboxError, Wall};
use crate::mounts::{Access, Operation, Owner};
use crate::plan::{Identity, Namespace, Plan, Walls};
use crate::surroundings::Kind;
use crate::sys::child::{Ruleset, Words};
use crate::{image, probe, seccomp, user_namespace};

pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const NO_SET_USER_ID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(crate) const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;

/// Descriptors below this number are the command's init's to lay out.
const HIGH: RawFd = 64;
/// Where covers and sealed copies are made, before the command's own `/proc` stands there.
const STAGE: &str = "/proc";

/// Capabilities over files and processes that an escalated root keeps: nothing that moves a mount, a network or a kernel.
const KEPT_BY_CONFINED_ROOT: u64 = {
    let (chown, dac_override, dac_read_search, fowner, fsetid, kill) = (0, 1, 2, 3, 4, 5);
    let (setgid, setuid, net_bind_service, sys_chroot, audit_write, setfcap) =
        (6, 7, 10, 18, 29, 31);
    1 << chown
        | 1 << dac_override
        | 1 << dac_read_search
        | 1 << fowner
        | 1 << fsetid
        | 1 << kill
        | 1 << setgid
        | 1 << setuid
        | 1 << net_bind_service
        | 1 << sys_chroot
        | 1 << audit_write
        | 1 << setfcap
};

/// One thing to do in the new process.
#[derive(Debug)]
pub(crate) struct Step {
    /// For the error: what was being done, to what.
    pub(crate) what: &'static str,
    pub(crate) object: PathBuf,
    pub(crate) act: Act,
}

/// A place that a taken tree waits in; the value is its descriptor in the new process.
pub(crate) type Slot = usize;

#[derive(Debug)]
pub(crate) enum Act {
    /// Takes a copy of the tree at a path.
    Take {
        path: CString,
        slot: Slot,
        set: u64,
    },
    /// Puts a taken tree at a path.
    Place {
        slot: Slot,
        at: CString,
    },
    /// As both, for what is there. Where nothing can be reached, the command cannot either.
    Guard {
        path: CString,
    },
    /// Sets attributes of a tree in place and makes it this namespace's own.
    Attributes {
        path: CString,
        set: u64,
        reach: Reach,
    },
    /// Waits until the parent has written the user map and the keeper knows this process.
    AwaitGo,
    /// Makes files as the command's user from here on.
    ActAs {
        user: u32,
        group: u32,
    },
    Memory {
        at: CString,
        options: CString,
        flags: MountFlags,
    },
    Processes {
        at: CString,
        flags: MountFlags,
    },
    Terminals {
        at: CString,
        options: CString,
    },
    MakeDirectory {
        path: CString,
        mode: u32,
    },
    MakeFile {
        path: CString,
        content: Vec<u8>,
        mode: u32,
    },
    MakeLink {
        target: CString,
        path: CString,
    },
    NewKeyring,
    LoopbackUp,
    NoCoreFiles,
    NoPrivilegesByExec,
    Become {
        user: u32,
        group: u32,
        groups: Groups,
    },
    Capabilities {
        kept: u64,
    },
    Landlock {
        ruleset: Ruleset,
        rules: Vec<(CString, u64)>,
    },
    Filter(seccomp::Program),
    WorkIn {
        path: CString,
        identity: FileIdentity,
    },
    OpenProgram {
        path: CString,
        identity: FileIdentity,
        slot: Slot,
    },
}

/// How far attributes reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount at the path and every one below it.
    Tree,
    /// That mount alone.
    Mount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    Keep,
    Drop,
}

/// Everything the new process needs. Descriptors are numbers: they are valid in the new process, which got a copy of
/// the table, while the parent closes its own ([`Held`]) so that a pipe ends when the new process does.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) steps: Vec<Step>,
    pub(crate) slots: Vec<AtomicI32>,
    /// `None` where the program is executed by path.
    pub(crate) program: Option<Slot>,
    pub(crate) image: RawFd,
    pub(crate) control: RawFd,
    pub(crate) orders: RawFd,
    pub(crate) go: RawFd,
    pub(crate) stdin: Option<RawFd>,
    pub(crate) terminal: Option<RawFd>,
    pub(crate) arguments: Words,
    pub(crate) environment: Words,
}

/// The parent's copies of what the new process gets. To be dropped when it has been made.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<OwnedFd>);

impl Held {
    /// Keeps `descriptor` under a number that the init's layout does not use.
    fn keep(&mut self, descriptor: OwnedFd) -> Result<RawFd, SandboxError> {
        let descriptor = high(descriptor)?;
        let number = descriptor.as_raw_fd();
        self.0.push(descriptor);
        Ok(number)
    }
}

/// The ends of the pipes that the new process gets.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) control: OwnedFd,
    pub(crate) orders: OwnedFd,
    pub(crate) go: OwnedFd,
}

/// Prepares the start of `command` by `plan`.
pub(crate) fn prepare(
    plan: &Plan,
    command: Command,
    ends: Ends,
) -> Result<(Prepared, Held), SandboxError> {
    let mut builder = Builder::default();
    let by = how_to_execute(plan, &command);
    builder.operations(plan, &command)?;
    builder.walls(plan)?;
    let program = builder.place_of_work(&command, by)?;
    builder.filters(plan)?;
    let arguments = arguments(&command, by, plan)?;
    let pairs = command.environment.into_iter().map(|(name, value)| {
        let mut pair = name.into_vec();
        pair.push(b'=');
        pair.extend(value.into_vec());
        OsString::from_vec(pair)
    });
    let environment = Words::new(pairs.collect()).map_err(|_| SandboxError::OtherCommand)?;
    let terminal = match command.terminal {
        Terminal::None => None,
        Terminal::Pty(descriptor) => Some(descriptor),
    };
    let stdin = match command.stdin {
        Stdin::Inherit => None,
        Stdin::Null => Some(
            std::fs::File::open("/dev/null")
                .map_err(descriptor_error)?
                .into(),
        ),
        Stdin::Bytes(bytes) => Some(image::sealed("stdin", &bytes).map_err(descriptor_error)?),
    };
    let Builder {
        steps,
        slots,
        mut held,
        ..
    } = builder;
    let prepared = Prepared {
        steps,
        slots,
        program,
        image: held.keep(image::init().map_err(descriptor_error)?)?,
        control: held.keep(ends.control)?,
        orders: held.keep(ends.orders)?,
        go: held.keep(ends.go)?,
        stdin: stdin.map(|stdin| held.keep(stdin)).transpose()?,
        terminal: terminal.map(|terminal| held.keep(terminal)).transpose()?,
        arguments,
        environment,
    };
    Ok((prepared, held))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Execute {
    /// What was opened again inside and found the same.
    Descriptor,
    /// By path, where the sealed copy of a script stands.
    Path,
    /// The sealed copy of a script, without a place to stand.
    OpenCopy,
}

fn how_to_execute(plan: &Plan, command: &Command) -> Execute {
    match (command.program.script(), plan.walls()) {
        (None, _) => Execute::Descriptor,
        (Some(_), Walls::Unconfined) => Execute::OpenCopy,
        (Some(_), Walls::Confined | Walls::Widened | Walls::Escalated) => Execute::Path,
    }
}

/// The init's own argument, then the command's words.
fn arguments(command: &Command, by: Execute, plan: &Plan) -> Result<Words, SandboxError> {
    let how = match by {
        Execute::Descriptor => b'd',
        Execute::Path => b'p',
        Execute::OpenCopy => b'f',
    };
    let terminal = if matches!(command.terminal, Terminal::Pty(_)) {
        b't'
    } else {
        b'-'
    };
    let outside = if plan.walls() == Walls::Unconfined {
        b's'
    } else {
        b'-'
    };
    let mut own = vec![how, terminal, outside];
    if by == Execute::Path {
        own.extend_from_slice(command.program.path().as_os_str().as_bytes());
    }
    let mut words = vec![OsString::from_vec(own)];
    words.extend(command.words.iter().cloned());
    Words::new(words).map_err(|_| SandboxError::OtherCommand)
}

fn descriptor_error(source: io::Error) -> SandboxError {
    SandboxError::SetUp {
        step: "open a descriptor for",
        object: PathBuf::from("the command"),
        source,
    }
}

/// The same descriptor with a number that the init's layout does not use.
fn high(descriptor: OwnedFd) -> Result<OwnedFd, SandboxError> {
    if descriptor.as_raw_fd() >= HIGH {
        return Ok(descriptor);
    }
    fcntl_dupfd_cloexec(&descriptor, HIGH).map_err(|error| descriptor_error(error.into()))
}

fn c_path(path: &Path) -> CString {
    // Paths come from the system or passed the policy's and command's doors, so that none holds a NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Builder {
    steps: Vec<Step>,
    slots: Vec<AtomicI32>,
    held: Held,
    read_only_at_last: Vec<PathBuf>,
    /// The command's user inside.
    user: u32,
    group: u32,
}

impl Builder {
    fn slot(&mut self, value: i32) -> Slot {
        self.slots.push(AtomicI32::new(value));
        self.slots.len() - 1
    }

    /// A slot that holds `descriptor` from the start.
    fn hold(&mut self, descriptor: OwnedFd) -> Result<Slot, SandboxError> {
        let number = self.held.keep(descriptor)?;
        Ok(self.slot(number))
    }

    fn step(&mut self, what: &'static str, object: &Path, act: Act) {
        self.steps.push(Step {
            what,
            object: object.to_path_buf(),
            act,
        });
    }

    fn take(&mut self, what: &'static str, path: &Path, set: u64) -> Slot {
        let slot = self.slot(-1);
        self.step(
            what,
            path,
            Act::Take {
                path: c_path(path),
                slot,
                set,
            },
        );
        slot
    }

    fn place(&mut self, what: &'static str, slot: Slot, at: &Path) {
        self.step(
            what,
            at,
            Act::Place {
                slot,
                at: c_path(at),
            },
        );
    }

    fn attributes(&mut self, what: &'static str, path: &Path, set: u64, reach: Reach) {
        self.step(
            what,
            path,
            Act::Attributes {
                path: c_path(path),
                set,
                reach,
            },
        );
    }

    fn directory(&mut self, path: &Path, mode: u32) {
        self.step(
            "make the directory",
            path,
            Act::MakeDirectory {
                path: c_path(path),
                mode,
            },
        );
    }

    fn file(&mut self, path: &Path, content: &[u8], mode: u32) {
        let act = Act::MakeFile {
            path: c_path(path),
            content: content.to_vec(),
            mode,
        };
        self.step("make the file", path, act);
    }

    fn memory(&mut self, at: &Path, kibibytes: u32, mode: u32) {
        let options = format!(
            "size={kibibytes}k,mode={mode:o},uid={},gid={}",
            self.user, self.group
        );
        let options = CString::new(options).unwrap_or_default();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        self.step(
            "put a folder in memory at",
            at,
            Act::Memory {
                at: c_path(at),
                options,
                flags,
            },
        );
    }

    fn operations(&mut self, plan: &Plan, command: &Command) -> Result<(), SandboxError> {
        (self.user, self.group) = match plan.identity() {
            Identity::Caller { user, group } | Identity::Unprivileged { user, group } => {
                (user, group)
            }
            Identity::ConfinedRoot => (0, 0),
        };
        let operations = plan.operations();
        if operations.is_empty() {
            return Ok(());
        }
        // First every tree is taken as it is; the descriptors wait in slots.
        let taken = self.take_trees(operations)?;
        let mut devices = Vec::new();
        if operations.contains(&Operation::Devices) {
            devices = DEVICES
                .map(|name| self.take("take the device", &Path::new("/dev").join(name), 0))
                .to_vec();
        }
        let own = if operations.contains(&Operation::OwnTree) {
            0
        } else {
            READ_ONLY | NO_SET_USER_ID | NO_DEVICES
        };
        let what = if own == 0 {
            "make a tree of its own of"
        } else {
            "make read-only"
        };
        self.attributes(what, Path::new("/"), own, Reach::Tree);
        for path in operations.iter().filter_map(|operation| match operation {
            Operation::Pin { path } => Some(path),
            _ => None,
        }) {
            let slot = self.take("pin", path, 0);
            self.place("pin", slot, path);
        }
        self.step(
            "wait for the user map of",
            Path::new("the command"),
            Act::AwaitGo,
        );
        if let Identity::Unprivileged { user, group } = plan.identity() {
            self.step(
                "act as",
                Path::new("the command's user"),
                Act::ActAs { user, group },
            );
        }
        let covers = self.covers(operations, command);
        let mut taken = taken.into_iter();
        for (place, operation) in operations.iter().enumerate() {
            self.put(operation, &devices, &covers);
            if let Operation::Attach { at, .. } = operation
                && let Some(slot) = taken.next()
            {
                self.mount_point(at, operations.get(..place).unwrap_or_default());
                self.place("attach", slot, at);
            }
        }
        for path in std::mem::take(&mut self.read_only_at_last) {
            self.attributes("make read-only", &path, READ_ONLY, Reach::Mount);
        }
        Ok(())
    }

    fn take_trees(&mut self, operations: &[Operation]) -> Result<Vec<Slot>, SandboxError> {
        let mut slots = Vec::new();
        for operation in operations {
            let Operation::Attach {
                from,
                access,
                owner,
                ..
            } = operation
            else {
                continue;
            };
            let read_only = if *access == Access::ReadOnly {
                READ_ONLY
            } else {
                0
            };
            let set = read_only | NO_SET_USER_ID | NO_DEVICES;
            let slot = match owner {
                Owner::AsIs => self.take("take", from, set),
                Owner::Command => {
                    let tree = user_namespace::tree_of_the_commands_own(from, set)?;
                    self.hold(tree)?
                }
            };
            slots.push(slot);
        }
        Ok(slots)
    }

    /// Makes what covers are copied from, where the command's `/proc` will stand over it.
    fn covers(&mut self, operations: &[Operation], command: &Command) -> Covers {
        let wanted = |operation: &Operation| {
            matches!(operation, Operation::Hide { .. } | Operation::Seal { .. })
        };
        if !operations.iter().any(wanted) {
            return Covers::default();
        }
        let stage = Path::new(STAGE);
        self.memory(stage, 64 * 1024, 0o755);
        let covers = Covers {
            directory: stage.join("directory"),
            file: stage.join("file"),
            ..Covers::default()
        };
        self.directory(&covers.directory, 0);
        self.file(&covers.file, &[], 0);
        let mut sealed = Vec::new();
        for (place, (path, content)) in command.copies().enumerate() {
            let copy = stage.join(place.to_string());
            self.file(&copy, content, 0o555);
            sealed.push((path.to_path_buf(), copy));
        }
        self.attributes("make read-only", stage, READ_ONLY, Reach::Mount);
        // Taken now, because the place they were made in is about to be covered.
        let mut covers = Covers { sealed, ..covers };
        for operation in operations {
            let from = match operation {
                Operation::Hide {
                    kind: Kind::Directory,
                    ..
                } => &covers.directory,
                Operation::Hide {
                    kind: Kind::File, ..
                } => &covers.file,
                Operation::Seal { path, .. } => {
                    let mut sealed = covers.sealed.iter();
                    sealed
                        .find(|(sealed, _)| sealed == path)
                        .map_or(&covers.file, |(_, copy)| copy)
                }
                _ => continue,
            };
            let slot = self.slot(-1);
            let act = Act::Take {
                path: c_path(from),
                slot,
                set: 0,
            };
            self.step("take a cover for", &covers.directory.clone(), act);
            covers.slots.push((operation.clone(), slot));
        }
        covers
    }

    fn put(&mut self, operation: &Operation, devices: &[Slot], covers: &Covers) {
        match operation {
            Operation::ReadOnlyTree
            | Operation::OwnTree
            | Operation::Pin { .. }
            | Operation::Attach { .. } => {}
            Operation::Memory {
                at,
                mebibytes,
                mode,
                access,
            } => {
                self.memory(at, mebibytes * 1024, *mode);
                if *access == Access::ReadOnly {
                    // Mount points are still to be made in it.
                    self.read_only_at_last.push(at.clone());
                }
            }
            Operation::Devices => self.devices(devices),
            Operation::Processes { access } => {
                let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                if *access == Access::ReadOnly {
                    flags |= MountFlags::RDONLY;
                }
                let at = Path::new("/proc");
                self.step(
                    "show the own processes at",
                    at,
                    Act::Processes {
                        at: c_path(at),
                        flags,
                    },
                );
            }
            Operation::Protect { path } => {
                self.step("make read-only", path, Act::Guard { path: c_path(path) });
            }
            Operation::Hide { path, .. } => self.cover("hide", operation, path, covers),
            Operation::Seal { path, .. } => self.cover("seal", operation, path, covers),
        }
    }

    fn cover(&mut self, what: &'static str, operation: &Operation, path: &Path, covers: &Covers) {
        if let Some((_, slot)) = covers.slots.iter().find(|(known, _)| known == operation) {
            self.place(what, *slot, path);
        }
    }

    fn devices(&mut self, devices: &[Slot]) {
        let dev = Path::new("/dev");
        self.memory(dev, 64, 0o755);
        for (name, slot) in DEVICES.iter().zip(devices) {
            let path = dev.join(name);
            self.file(&path, &[], 0o444);
            self.place("put the device at", *slot, &path);
        }
        for (target, name) in DEVICE_LINKS {
            let path = dev.join(name);
            let target = CString::new(target).unwrap_or_default();
            self.step(
                "make the link",
                &path,
                Act::MakeLink {
                    target,
                    path: c_path(&path),
                },
            );
        }
        let [terminals, shared] = ["pts", "shm"].map(|name| dev.join(name));
        self.directory(&terminals, 0o755);
        self.directory(&shared, 0o755);
        self.attributes("make read-only", dev, READ_ONLY, Reach::Mount);
        let options = CString::from(c"newinstance,ptmxmode=0666,mode=0620");
        self.step(
            "make terminals at",
            &terminals,
            Act::Terminals {
                at: c_path(&terminals),
                options,
            },
        );
        self.memory(&shared, 256 * 1024, 0o1777);
    }

    /// Makes the directories (or the file) that `at` needs to stand on, where an earlier folder in memory covers the
    /// host's.
    fn mount_point(&mut self, at: &Path, before: &[Operation]) {
        let innermost = before.iter().filter_map(|operation| match operation {
            Operation::Memory { at: folder, .. } if at.starts_with(folder) => Some((folder, true)),
            Operation::Attach { at: tree, .. } if at.starts_with(tree) => Some((tree, false)),
            _ => None,
        });
        let Some((folder, true)) = innermost.max_by_key(|(path, _)| path.components().count())
        else {
            return;
        };
        let mut way: Vec<_> = at
            .ancestors()
            .take_while(|ancestor| ancestor != folder)
            .collect();
        way.reverse();
        let is_file = at.is_file();
        for directory in way {
            if is_file && directory == at {
                self.file(directory, &[], 0o444);
            } else {
                self.directory(directory, 0o755);
            }
        }
    }

    fn walls(&mut self, plan: &Plan) -> Result<(), SandboxError> {
        if plan.walls() == Walls::Unconfined {
            return Ok(());
        }
        let command = Path::new("the command");
        self.step("leave the keyring of", command, Act::NewKeyring);
        self.step("forbid core files of", command, Act::NoCoreFiles);
        if plan.namespaces().contains(&Namespace::Network) {
            self.step("bring up loopback for", command, Act::LoopbackUp);
        }
        let (groups, kept) = match plan.identity() {
            Identity::Caller { .. } => (Groups::Keep, 0),
            Identity::Unprivileged { .. } => (Groups::Drop, 0),
            Identity::ConfinedRoot => (Groups::Keep, KEPT_BY_CONFINED_ROOT),
        };
        if let Identity::Unprivileged { user, group } = plan.identity() {
            self.step(
                "change the user of",
                command,
                Act::Become {
                    user,
                    group,
                    groups,
                },
            );
        }
        self.step(
            "drop the capabilities of",
            command,
            Act::Capabilities { kept },
        );
        self.step(
            "forbid new privileges for",
            command,
            Act::NoPrivilegesByExec,
        );
        if let Some(domain) = plan.landlock() {
            let abi = probe::landlock()?;
            let words = domain.words(abi);
            let rules = words
                .rules
                .iter()
                .map(|(path, rights)| (c_path(path), *rights))
                .collect();
            let ruleset = Ruleset {
                handled_files: words.handled,
                handled_network: 0,
                scoped: words.scoped,
            };
            self.step(
                "put up Landlock for",
                command,
                Act::Landlock { ruleset, rules },
            );
        }
        Ok(())
    }

    fn place_of_work(
        &mut self,
        command: &Command,
        by: Execute,
    ) -> Result<Option<Slot>, SandboxError> {
        let directory = &command.directory;
        let act = Act::WorkIn {
            path: c_path(directory.path()),
            identity: directory.identity(),
        };
        self.step("work in", directory.path(), act);
        let program = &command.program;
        match by {
            Execute::Path => Ok(None),
            Execute::OpenCopy => {
                let text = program.script().unwrap_or_default();
                self.hold(image::sealed("script", text).map_err(descriptor_error)?)
                    .map(Some)
            }
            Execute::Descriptor => {
                let slot = self.slot(-1);
                let act = Act::OpenProgram {
                    path: c_path(program.path()),
                    identity: program.identity(),
                    slot,
                };
                self.step("open the program", program.path(), act);
                Ok(Some(slot))
            }
        }
    }

    fn filters(&mut self, plan: &Plan) -> Result<(), SandboxError> {
        if !plan.filters().is_empty() {
            probe::seccomp()?;
            let program = seccomp::compile(plan.filters())?;
            self.step(
                "filter the system calls of",
                Path::new("the command"),
                Act::Filter(program),
            );
        }
        Ok(())
    }
}

/// The devices every program expects.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Where covers are copied from, and those taken.
#[derive(Debug, Default)]
struct Covers {
    directory: PathBuf,
    file: PathBuf,
    sealed: Vec<(PathBuf, PathBuf)>,
    slots: Vec<(Operation, Slot)>,
}

/// The wall that a failed step belongs to, for a host that cannot put it up at all.
pub(crate) fn wall(act: &Act) -> Option<Wall> {
    match act {
        Act::Attributes { .. } | Act::Processes { .. } | Act::Memory { .. } | Act::Take { .. } => {
            Some(Wall::Mounts)
        }
        Act::Landlock { .. } => Some(Wall::Landlock),
        Act::Filter(_) => Some(Wall::Seccomp),
        Act::LoopbackUp | Act::Capabilities { .. } => Some(Wall::Namespaces),
        _ => None,
    }
}
