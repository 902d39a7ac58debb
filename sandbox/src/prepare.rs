//! From a plan to steps that need nothing more: [`Prepared`]. All allocation and every descriptor of the start is here.
//!
//! What comes after runs on shared memory, where nothing may allocate or lock, so this is where strings get their NUL,
//! trees of another owner are taken, images are opened and filters compiled. Steps keep the plan's order.

pub(crate) mod early;
mod failure;
mod inside;
mod step;
mod steps;
mod trees;

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::atomic::AtomicI32;

pub(crate) use failure::{exec_failed, step_failed};
pub(crate) use inside::{inside, streams};
pub(crate) use step::{Act, Confine, Gone, Make, Mount, Reach, Slot, Step};
pub(crate) use steps::Held;
use steps::{Steps, c_path, descriptor_error};

use crate::command::{Command, Output, Stdin, Terminal};
use crate::door;
use crate::error::SandboxError;
use crate::plan::{Identity, Plan, Walls};
use crate::seccomp::Observing;
use crate::sys::child::{Ruleset, Words};
use crate::{image, limits, probe, seccomp};

pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NO_SET_USER_ID: u64 = libc::MOUNT_ATTR_NOSUID;
const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;

/// Capabilities over files and processes that an escalated root keeps, by number (`linux/capability.h`): `CHOWN`,
/// `DAC_OVERRIDE`, `DAC_READ_SEARCH`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `NET_BIND_SERVICE`, `SYS_CHROOT`,
/// `AUDIT_WRITE`, `SETFCAP`. Nothing that moves a mount, a network or the kernel.
const KEPT_BY_CONFINED_ROOT: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 18, 29, 31];

/// Everything the new process needs. Descriptors are numbers: they are valid in the new process, which shares the table
/// until it has this and then copies it; the parent keeps its own ([`Held`]) until the command is executed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) steps: Vec<Step>,
    pub(crate) slots: Vec<AtomicI32>,
    /// `None` where the program is executed by path.
    pub(crate) program: Option<Slot>,
    pub(crate) image: RawFd,
    pub(crate) control: RawFd,
    pub(crate) orders: RawFd,
    /// The ends by which the parent says to go on and by which its end shows.
    pub(crate) told_by: [RawFd; 2],
    pub(crate) stdin: Option<RawFd>,
    pub(crate) terminal: Option<RawFd>,
    /// Standard output and error, where they are not the caller's.
    pub(crate) output: [Option<RawFd>; 2],
    pub(crate) arguments: Words,
    pub(crate) environment: Words,
}

/// The ends of the pipes that the new process gets.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) control: OwnedFd,
    pub(crate) orders: OwnedFd,
    pub(crate) told_by: [RawFd; 2],
    /// Where the listener of the filters goes, where somebody watches.
    pub(crate) watcher: Option<OwnedFd>,
    /// Where the door's sockets go, where the plan has a door.
    pub(crate) door: Option<OwnedFd>,
}

/// Prepares the start of `command` by `plan`.
pub(crate) fn prepare(
    plan: &Plan,
    command: Command,
    ends: Ends,
) -> Result<(Prepared, Held), SandboxError> {
    let mut steps = Steps::default();
    let sealed = trees::build(&mut steps, plan, &command)?;
    let by = how_to_execute(plan, &command, sealed);
    door(&mut steps, plan, ends.door)?;
    walls(&mut steps, plan)?;
    place_of_work(&mut steps, &command);
    let program = program(&mut steps, &command, by)?;
    let watcher = ends.watcher.map(|channel| steps.held.keep(channel));
    filters(&mut steps, plan, watcher.transpose()?)?;
    let words = |words| Words::new(words).map_err(|_| SandboxError::OtherCommand);
    let arguments = words(own_and_words(&command, by, plan))?;
    let environment = words(variables(command.environment))?;
    let terminal = match command.terminal {
        Terminal::None => None,
        Terminal::Pty(descriptor) => Some(descriptor),
    };
    let stdin = input(plan, command.stdin)?;
    let output = match command.output {
        Output::Inherit => [None, None],
        Output::Only(descriptor) => {
            let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
            [
                Some(descriptor),
                Some(nowhere.map_err(descriptor_error)?.into()),
            ]
        }
        Output::To { output, error } => [output, error],
    };
    let Steps {
        list,
        slots,
        mut held,
    } = steps;
    let prepared = Prepared {
        steps: list,
        slots,
        program,
        image: held.keep(image::init().map_err(descriptor_error)?)?,
        control: held.keep(ends.control)?,
        orders: held.keep(ends.orders)?,
        told_by: ends.told_by,
        stdin: stdin.map(|stdin| held.keep(stdin)).transpose()?,
        terminal: terminal.map(|terminal| held.keep(terminal)).transpose()?,
        output: {
            let [output, error] = output;
            let mut keep = |end: Option<OwnedFd>| end.map(|end| held.keep(end)).transpose();
            [keep(output)?, keep(error)?]
        },
        arguments,
        environment,
    };
    Ok((prepared, held))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Execute {
    /// What was opened again inside and found the same.
    Descriptor,
    /// The sealed copy of a program that stands at its path, by the descriptor it was put there with.
    SealedTree(Slot),
    /// By path, where the sealed copy of a script stands: its interpreter opens it by that.
    Path,
    /// The sealed copy of a program, without a place to stand.
    Copy,
    /// The sealed copy of a script, without a place to stand.
    OpenCopy,
}

/// How the program is executed; `sealed` is where its sealed copy stands.
fn how_to_execute(plan: &Plan, command: &Command, sealed: Option<Slot>) -> Execute {
    let is_script = |content: &[u8]| content.starts_with(b"#!");
    match (command.program_copy().map(is_script), plan.walls()) {
        (None, _) => Execute::Descriptor,
        (Some(true), Walls::Unconfined | Walls::Reduced) => Execute::OpenCopy,
        (Some(false), Walls::Unconfined | Walls::Reduced) => Execute::Copy,
        (Some(true), _) => Execute::Path,
        // Where the command would see nothing at that path, there is no such program.
        (Some(false), _) => sealed.map_or(Execute::Path, Execute::SealedTree),
    }
}

/// The init's own argument, then the command's words.
fn own_and_words(command: &Command, by: Execute, plan: &Plan) -> Vec<OsString> {
    let how = match by {
        Execute::Descriptor | Execute::SealedTree(_) | Execute::Copy => b'd',
        Execute::Path => b'p',
        Execute::OpenCopy => b'f',
    };
    let terminal = if matches!(command.terminal, Terminal::Pty(_)) {
        b't'
    } else {
        b'-'
    };
    let outside = if matches!(plan.walls(), Walls::Unconfined | Walls::Reduced) {
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
    words
}

/// Variables as programs get them.
fn variables(pairs: Vec<(OsString, OsString)>) -> Vec<OsString> {
    let joined = pairs.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    joined.collect()
}

/// The door's sockets, while the powers over the command's network are still held.
fn door(steps: &mut Steps, plan: &Plan, channel: Option<OwnedFd>) -> Result<(), SandboxError> {
    let (Some(doorway), Some(channel)) = (plan.doorway(), channel) else {
        return Ok(());
    };
    let channel = steps.held.keep(channel)?;
    for act in doorway.acts() {
        let (what, object) = match act {
            door::inside::Act::Route(_) | door::inside::Act::EveryPort(_) => {
                ("lead every address to", "the door".to_owned())
            }
            door::inside::Act::Socket { address, .. } => ("open the door at", address.to_string()),
        };
        steps.add(what, Path::new(&object), Act::Door { act, channel });
    }
    Ok(())
}

/// What the command reads, where that is not what the caller does.
fn input(plan: &Plan, stdin: Stdin) -> Result<Option<OwnedFd>, SandboxError> {
    let given = match stdin {
        Stdin::Inherit if matches!(plan.walls(), Walls::Confined | Walls::Widened) => {
            image::callers_input()
        }
        Stdin::Inherit => Ok(None),
        Stdin::Null => std::fs::File::open("/dev/null").map(|file| Some(file.into())),
        Stdin::Bytes(bytes) => image::sealed("stdin", &bytes).map(Some),
    };
    given.map_err(descriptor_error)
}

fn walls(steps: &mut Steps, plan: &Plan) -> Result<(), SandboxError> {
    if plan.walls() == Walls::Unconfined {
        return Ok(());
    }
    let command = Path::new("the command");
    let mut confine = |what, confine| steps.add(what, command, Act::Confine(confine));
    confine("leave the keyring of", Confine::NewKeyring);
    for (resource, limit) in limits::of_the_kernel(plan.limits()) {
        confine("limit", Confine::Limit { resource, limit });
    }
    let mut kept = 0;
    match plan.identity() {
        Identity::Caller { .. } => {}
        Identity::Unprivileged { user, group } => {
            confine("change the user of", Confine::User { user, group });
        }
        Identity::ConfinedRoot => {
            kept = KEPT_BY_CONFINED_ROOT
                .iter()
                .fold(0, |kept, number| kept | 1 << number);
        }
    }
    if plan.walls() == Walls::Reduced {
        confine("drop the capabilities of", Confine::NoCapabilities);
    } else {
        confine("drop the capabilities of", Confine::Capabilities { kept });
    }
    confine("forbid new privileges for", Confine::NoPrivilegesByExec);
    if let Some(domain) = plan.landlock() {
        let words = domain.words(probe::landlock()?);
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
        confine("put up Landlock for", Confine::Landlock { ruleset, rules });
    }
    Ok(())
}

fn place_of_work(steps: &mut Steps, command: &Command) {
    let directory = &command.directory;
    let act = Act::WorkIn {
        path: c_path(directory.path()),
        identity: directory.identity(),
    };
    steps.add("work in", directory.path(), act);
}

/// Where the program's descriptor will be.
fn program(
    steps: &mut Steps,
    command: &Command,
    by: Execute,
) -> Result<Option<Slot>, SandboxError> {
    let program = &command.program;
    match by {
        Execute::Path => Ok(None),
        Execute::SealedTree(slot) => Ok(Some(slot)),
        Execute::OpenCopy | Execute::Copy => {
            let content = command.program_copy().unwrap_or_default();
            let copy = image::sealed("program", content).map_err(descriptor_error)?;
            steps.hold(copy).map(Some)
        }
        Execute::Descriptor => {
            let slot = steps.slot();
            let path = c_path(program.path());
            let act = Act::OpenProgram {
                path,
                identity: program.identity(),
                slot,
            };
            steps.add("open the program", program.path(), act);
            Ok(Some(slot))
        }
    }
}

/// The filters; `watcher` is the number of the channel that their listener goes out by.
fn filters(steps: &mut Steps, plan: &Plan, watcher: Option<RawFd>) -> Result<(), SandboxError> {
    if plan.filters().is_empty() {
        return Ok(());
    }
    probe::seccomp()?;
    let (alone, _) = seccomp::compile(plan.filters(), Observing::Nothing)?;
    let filter = match watcher {
        None => Confine::Filter(alone),
        Some(channel) => Confine::WatchedFilter {
            program: seccomp::compile(plan.filters(), plan.observed())?.0,
            channel,
            alone,
        },
    };
    steps.add(
        "filter the system calls of",
        Path::new("the command"),
        Act::Confine(filter),
    );
    Ok(())
}
