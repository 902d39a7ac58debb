//! Starts a command through bubblewrap: [`launch`].
//!
//! Bubblewrap is executed by a process of this program's that has the descriptors it needs and no other, in a session of its own,
//! without a variable. It tells the number of the process that becomes our init, which waits with everything until it is told
//! to go on; by then the keeper knows it. What bubblewrap complains of goes to a pipe, not to the command's standard error.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::script::{GO, KEPT_ERROR, KEPT_OUTPUT, Script, WATCHER};
use super::words::{Numbers, words};
use super::{Bubblewrap, PATH};
use crate::command::Command;
use crate::error::SandboxError;
use crate::image;
use crate::keeper::Keeper;
use crate::plan::Plan;
use crate::prepare;
use crate::record::{self, Record};
use crate::start::{Ours, for_the_command};
use crate::sys::child::{self, Words};
use crate::sys::clone::{Descriptors, Ended, Sharing};
use crate::watch::{self, Watcher};

/// Numbers above all that the layout uses.
const HIGH: RawFd = 256;
/// The layout: what bubblewrap reads and writes, and what our init finds.
const CONTROL: RawFd = 3;
const ORDERS: RawFd = 4;
const TOLD: RawFd = 5;
const INIT: RawFd = 6;
const SCRIPT: RawFd = 7;
const INFO: RawFd = 9;
/// Sealed files that can be carried.
const MOST_SEALED: usize = 64;
/// The most of what bubblewrap says that is read.
const MOST_SAID: usize = 4096;

/// A command that was started so.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bubblewrap, our child: it ends when the command's init has.
    pub(crate) pidfd: OwnedFd,
    /// The init, whose end is the end of everything in its namespace.
    pub(crate) init: OwnedFd,
    pub(crate) ours: Ours,
    pub(crate) watcher: Option<Watcher>,
}

/// What the process that becomes bubblewrap works with.
#[derive(Debug)]
struct Task {
    /// What is known under which number, in order; nothing else stays open.
    layout: Vec<(RawFd, RawFd)>,
    image: RawFd,
    arguments: Words,
    environment: Words,
}

/// This side's ends, and what the new process gets.
struct Prepared {
    script: Script,
    steps: Vec<prepare::Step>,
    ours: Ours,
    info: PipeReader,
    complaints: PipeReader,
    task: Task,
    _held: Vec<OwnedFd>,
}

/// Starts `command` by `plan` in namespaces that `bubblewrap` makes.
///
/// # Errors
/// See [`SandboxError`]; nothing of the command has run.
pub(crate) fn launch(
    bubblewrap: &Bubblewrap,
    plan: &Plan,
    command: Command,
    mut keeper: Option<&mut Keeper>,
) -> Result<Carried, SandboxError> {
    let program = command.program().path().to_path_buf();
    let (watcher, channel) = Watcher::prepare(plan)?.unzip();
    let prepared = prepare(bubblewrap, plan, command, channel.as_ref())?;
    drop(channel);
    if let Some(keeper) = &mut keeper {
        keeper.ready()?;
    }
    let Prepared {
        script,
        steps,
        mut ours,
        mut info,
        mut complaints,
        task,
        _held,
    } = prepared;
    let process = Sharing::start(0, Descriptors::Copied, Box::new(task), become_bubblewrap);
    let process = process.map_err(|source| for_the_command("start bubblewrap for", source))?;
    // Only the new process holds the other ends now, so that its end shows.
    drop(_held);
    let init = init_of(&process, &mut info).ok_or_else(|| refused(&mut complaints))?;
    let admitted = || -> io::Result<()> {
        if let Some(keeper) = keeper {
            keeper.watch(init.as_fd())?;
        }
        (&ours.orders).write_all(&[GO])
    };
    admitted().map_err(|source| for_the_command("let go on", source))?;
    // What the filters tell of waits for its answer, the program's own start for one.
    let watcher = watcher.map(watch::Prepared::start).transpose()?;
    let failed = |place: usize, errno| match script.step_at(place).and_then(|at| steps.get(at)) {
        Some(step) => prepare::step_failed(step, errno),
        None => for_the_command("finish", io::Error::from_raw_os_error(errno)),
    };
    match record::read(&mut ours.control) {
        Some(Record::Started(proof)) => {
            let pidfd = process.executed(proof).ok_or(SandboxError::Lost)?;
            Ok(Carried {
                pidfd,
                init,
                ours,
                watcher,
            })
        }
        Some(Record::ExecFailed(errno)) => Err(prepare::exec_failed(program, errno)),
        Some(Record::SetUpFailed { step, errno }) => Err(failed(step, errno)),
        Some(Record::Ended(_)) | None => Err(refused(&mut complaints)),
    }
}

fn prepare(
    bubblewrap: &Bubblewrap,
    plan: &Plan,
    mut command: Command,
    watcher: Option<&OwnedFd>,
) -> Result<Prepared, SandboxError> {
    let descriptors = |source| for_the_command("open a descriptor for", source);
    let cannot = || SandboxError::Bubblewrap("it cannot do what the plan says".to_owned());
    // Without a gap: what lies in one would be passed on.
    let first_sealed = WATCHER + RawFd::from(watcher.is_some());
    let numbers = Numbers {
        info: INFO,
        first_sealed,
    };
    let (namespaces, operations) = (plan.namespaces(), plan.operations());
    let told = words(namespaces, operations, *plan.limits(), numbers).ok_or_else(cannot)?;
    if told.sealed.len() > MOST_SEALED {
        return Err(cannot());
    }
    let rest = prepare::inside(plan, &mut command, watcher.is_some().then_some(WATCHER))?;
    let script = Script::of(&rest.steps).ok_or_else(cannot)?;
    let file = script.file(&rest.arguments, &rest.environment);
    let pipes = || -> io::Result<_> { Ok((io::pipe()?, io::pipe()?, io::pipe()?, io::pipe()?)) };
    let (
        (control, control_end),
        (orders_end, orders),
        (info, info_end),
        (complaints, complaints_end),
    ) = pipes().map_err(descriptors)?;
    let files = [
        image::sealed("told", &joined(&told.words)).map_err(descriptors)?,
        image::init().map_err(descriptors)?,
        image::sealed("script", &file).map_err(descriptors)?,
    ];
    let mut layout = Layout::default();
    layout.streams(&mut command, &complaints_end)?;
    layout.take(control_end, CONTROL)?;
    layout.take(orders_end, ORDERS)?;
    for (file, number) in files.iter().zip([TOLD, INIT, SCRIPT]) {
        layout.take(file, number)?;
    }
    layout.take(info_end, INFO)?;
    if let Some(watcher) = watcher {
        layout.take(watcher, WATCHER)?;
    }
    layout.sealed(&command, (&told.sealed, first_sealed))?;
    layout.in_order();
    drop(complaints_end);
    let image = layout.hold(&bubblewrap.0)?;
    let own = [PATH, "--args", "5", "--", "/proc/self/fd/6"].map(OsString::from);
    let words = |words: Vec<OsString>| Words::new(words).map_err(|_| SandboxError::OtherCommand);
    let task = Task {
        layout: layout.numbers,
        image,
        arguments: words(own.to_vec())?,
        environment: words(Vec::new())?,
    };
    Ok(Prepared {
        script,
        steps: rest.steps,
        ours: Ours { control, orders },
        info,
        complaints,
        task,
        _held: layout.held,
    })
}

/// Words as bubblewrap reads them from a file: each with its end.
fn joined(words: &[OsString]) -> Vec<u8> {
    let ended = words.iter().flat_map(|word| [word.as_bytes(), b"\0"]);
    ended.flatten().copied().collect()
}

/// Descriptors on their way to their numbers.
#[derive(Default)]
struct Layout {
    numbers: Vec<(RawFd, RawFd)>,
    held: Vec<OwnedFd>,
}

impl Layout {
    fn hold(&mut self, descriptor: impl AsFd) -> Result<RawFd, SandboxError> {
        let high = fcntl_dupfd_cloexec(descriptor, HIGH)
            .map_err(|error| for_the_command("open a descriptor for", error.into()))?;
        let number = high.as_raw_fd();
        self.held.push(high);
        Ok(number)
    }

    /// The command's streams, of which bubblewrap gets the first alone.
    fn streams(
        &mut self,
        command: &mut Command,
        complaints: &PipeWriter,
    ) -> Result<(), SandboxError> {
        let streams = prepare::streams(command);
        let [stdin, stdout, stderr] =
            streams.map_err(|source| for_the_command("open a descriptor for", source))?;
        self.take(stdin, 0)?;
        self.take(complaints, 1)?;
        self.take(complaints, 2)?;
        self.take(stdout, KEPT_OUTPUT)?;
        self.take(stderr, KEPT_ERROR)
    }

    /// Copies of the files at `paths`, in their order, from the number `first` on.
    fn sealed(
        &mut self,
        command: &Command,
        (paths, first): (&[PathBuf], RawFd),
    ) -> Result<(), SandboxError> {
        for (path, number) in paths.iter().zip(first..) {
            let mut copies = command.copies();
            let content = copies.find(|(known, _)| known == path);
            let content = content.map_or(&[][..], |(_, content)| content);
            let file = image::sealed("sealed", content)
                .map_err(|source| for_the_command("open a descriptor for", source))?;
            self.take(file, number)?;
        }
        Ok(())
    }

    /// The highest number last: what lies above it is closed.
    fn in_order(&mut self) {
        self.numbers.sort_by_key(|(_, target)| *target);
    }

    fn take(&mut self, descriptor: impl AsFd, target: RawFd) -> Result<(), SandboxError> {
        let number = self.hold(descriptor)?;
        self.numbers.push((number, target));
        Ok(())
    }
}

/// Shares this program's memory: allocates, locks and panics nowhere.
fn become_bubblewrap(task: &Task) -> Ended {
    child::reset_signals();
    rustix::process::setsid().ok();
    let mut next = 0;
    for (from, to) in &task.layout {
        if child::dup_to(*from, *to).is_err() {
            return child::end();
        }
        next = *to + 1;
    }
    if child::close_all_but(next, task.image).is_ok() {
        child::execute(task.image, &task.arguments, &task.environment);
    }
    child::end()
}

/// The process that becomes our init: bubblewrap tells its number, and it is held where it is bubblewrap's child.
fn init_of(process: &Sharing<Task>, info: &mut PipeReader) -> Option<OwnedFd> {
    let said = object(info)?;
    let number = i32::try_from(said.get("child-pid")?.as_i64()?).ok()?;
    let init = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // Looked at after it is held: another process of that number has another parent.
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    (parent.trim().parse() == Ok(process.pid())).then_some(init)
}

/// The first whole JSON object. Nothing where the other side has ended before.
fn object(info: &mut PipeReader) -> Option<serde_json::Value> {
    let (mut said, mut piece) = (Vec::new(), [0; 512]);
    loop {
        let read = info.read(&mut piece).ok().filter(|read| *read > 0)?;
        said.extend_from_slice(piece.get(..read)?);
        if let Ok(object) = serde_json::from_slice(&said) {
            return Some(object);
        }
        if said.len() > MOST_SAID {
            return None;
        }
    }
}

/// What bubblewrap had to say.
fn refused(complaints: &mut PipeReader) -> SandboxError {
    let mut said = Vec::new();
    // It has ended, or is ended next; a complaint that is not there yet is not waited for.
    let flags = rustix::fs::OFlags::NONBLOCK;
    if rustix::fs::fcntl_setfl(&*complaints, flags).is_ok() {
        complaints
            .take(MOST_SAID as u64)
            .read_to_end(&mut said)
            .unwrap_or_default();
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or("it ended without a word");
    SandboxError::Bubblewrap(protocol::Printable(line).to_string())
}
