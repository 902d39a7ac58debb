//! Inside the namespaces: the steps, one after the other, then the init.
//!
//! Runs on memory shared with the parent (see `sys::clone`): nothing here allocates, locks or panics. The first step that
//! fails is reported by its place in the list, and the process ends; the command never starts with a wall less.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use crate::ahead;
use crate::command::Identity;
use crate::door::inside;
use crate::prepare::{Act, Confine, Gone, Make, Mount, Prepared, READ_ONLY, Reach, Slot, Step};
use crate::record;
use crate::sys::clone::Ended;
use crate::sys::{self, MountAttributes, child};
use crate::watch;

/// Where the init expects its descriptors (`init/main.rs`).
const CONTROL: RawFd = 3;
const ORDERS: RawFd = 4;
const PROGRAM: RawFd = 5;

/// Everything from the first step to the init's exec.
pub(crate) fn run(prepared: &Prepared) -> Ended {
    let context = Context {
        slots: &prepared.slots,
        told_by: prepared.told_by,
    };
    if let Err((place, error)) = take(&prepared.steps, context) {
        return fail(prepared, place, error);
    }
    let error = hand_over(prepared);
    fail(prepared, prepared.steps.len(), error)
}

/// What steps work with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) slots: &'a [AtomicI32],
    /// The ends by which the parent says to go on and by which its end shows.
    pub(crate) told_by: [RawFd; 2],
}

/// Does `steps`, as far as the first that fails: its place and why.
pub(crate) fn take(steps: &[Step], context: Context<'_>) -> Result<(), (usize, Errno)> {
    let mask = rustix::process::umask(Mode::empty());
    for (place, step) in steps.iter().enumerate() {
        act(&step.act, context).map_err(|error| (place, error))?;
    }
    rustix::process::umask(mask);
    Ok(())
}

fn fail(prepared: &Prepared, place: usize, error: Errno) -> Ended {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    let code = error.raw_os_error().cast_unsigned();
    let record = record::bytes(record::SET_UP_FAILED, place, code);
    // Nobody is left to tell where this fails: the end of the pipe says it too.
    child::with_descriptor(prepared.control, |control| {
        rustix::io::write(control, &record)
    })
    .ok();
    child::end()
}

/// Lays the descriptors out, closes all others and becomes the init.
fn hand_over(prepared: &Prepared) -> Errno {
    match lay_out(prepared) {
        Ok(()) => child::execute(prepared.image, &prepared.arguments, &prepared.environment),
        Err(error) => error,
    }
}

fn lay_out(prepared: &Prepared) -> Result<(), Errno> {
    let program = prepared
        .program
        .map(|place| above_the_layout(prepared, place));
    let program = program.transpose()?;
    let terminal = prepared.terminal;
    let [output, error] = prepared.output;
    for (target, descriptor) in [
        (0, terminal.or(prepared.stdin)),
        (1, terminal.or(output)),
        (2, terminal.or(error)),
    ] {
        if let Some(descriptor) = descriptor {
            child::dup_to(descriptor, target)?;
        }
    }
    child::dup_to(prepared.control, CONTROL)?;
    child::dup_to(prepared.orders, ORDERS)?;
    let first_closed = match program {
        Some(program) => {
            child::dup_to(program, PROGRAM)?;
            PROGRAM + 1
        }
        None => PROGRAM,
    };
    child::close_all_but(first_closed, prepared.image)
}

/// The descriptor in a slot, under a number that the layout does not overwrite.
fn above_the_layout(prepared: &Prepared, place: Slot) -> Result<RawFd, Errno> {
    let descriptor = slot(&prepared.slots, place)?.load(Ordering::Relaxed);
    child::with_descriptor(descriptor, |descriptor| {
        let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, 64)?;
        // Closed with all others when the layout stands.
        Ok(copy.into_raw_fd())
    })
}

fn slot(slots: &[AtomicI32], slot: Slot) -> Result<&AtomicI32, Errno> {
    slots.get(slot).ok_or(Errno::BADF)
}

fn act(act: &Act, context: Context<'_>) -> Result<(), Errno> {
    match act {
        Act::Mount(act) => mount(act, context.slots),
        Act::Door { act, channel } => inside::act(act, *channel),
        Act::Make(act) => make(act),
        Act::Confine(act) => confine(act),
        Act::AwaitGo => ahead::await_go(context.told_by),
        Act::WorkIn { path, identity } => {
            let directory = open_same(path, *identity)?;
            rustix::process::fchdir(&directory)
        }
        Act::OpenProgram {
            path,
            identity,
            slot: place,
        } => {
            let program = open_same(path, *identity)?;
            slot(context.slots, *place)?.store(program.into_raw_fd(), Ordering::Relaxed);
            Ok(())
        }
    }
}

fn mount(act: &Mount, slots: &[AtomicI32]) -> Result<(), Errno> {
    match act {
        Mount::Take {
            path,
            slot: place,
            set,
        } => {
            let tree = copy(path, *set)?;
            slot(slots, *place)?.store(tree.into_raw_fd(), Ordering::Relaxed);
            Ok(())
        }
        Mount::Place { slot: from, at } => {
            let descriptor = slot(slots, *from)?.load(Ordering::Relaxed);
            child::with_descriptor(descriptor, |tree| place(tree, at))
        }
        Mount::Cover {
            slot: from,
            at,
            gone,
        } => cover(slot(slots, *from)?.load(Ordering::Relaxed), at, *gone),
        Mount::Guard { path } => {
            let tree = copy(path, READ_ONLY)?;
            place(tree.as_fd(), path)
        }
        Mount::Bind { from, at } => rustix::mount::mount_bind(from.as_c_str(), at.as_c_str()),
        Mount::Attributes {
            path,
            set,
            clear,
            reach,
        } => {
            let wanted = MountAttributes {
                set: *set,
                clear: *clear,
                propagation: libc::MS_PRIVATE,
                ..MountAttributes::default()
            };
            let flags = if *reach == Reach::Tree {
                libc::AT_RECURSIVE
            } else {
                0
            };
            sys::mount_setattr(CWD, path, wanted, flags)
        }
        Mount::Resize { at, options } => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount_remount(at.as_c_str(), flags, options.as_c_str())
        }
        Mount::New {
            kind,
            at,
            options,
            flags,
        } => {
            let [kind, at, options] = [kind, at, options].map(|text| text.as_c_str());
            rustix::mount::mount(kind, at, kind, *flags, options)
        }
    }
}

fn cover(tree: RawFd, at: &CStr, gone: Gone) -> Result<(), Errno> {
    match child::with_descriptor(tree, |tree| place(tree, at)) {
        // What this user cannot reach is hidden from it; the command is the same user, with fewer powers.
        Err(Errno::ACCESS) => Ok(()),
        Err(Errno::NOENT) if gone == Gone::Passed => Ok(()),
        other => other,
    }
}

/// Writes half of the number in the file `from` to the file `to`, and at least one.
fn halve(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    let open = |path: &CStr, flags| {
        rustix::fs::openat(folder, path, flags | OFlags::CLOEXEC, Mode::empty())
    };
    let mut text = [0; 32];
    let length = rustix::io::read(open(from, OFlags::RDONLY)?, &mut text)?;
    let digits = text.get(..length).unwrap_or_default().trim_ascii();
    let number = str::from_utf8(digits).map_err(|_| Errno::INVAL)?;
    let number: u64 = number.parse().map_err(|_| Errno::INVAL)?;
    let mut half = std::io::Cursor::new([0; 32]);
    write!(half, "{}", (number / 2).max(1)).map_err(|_| Errno::INVAL)?;
    let length = usize::try_from(half.position()).unwrap_or_default();
    let half = half.get_ref().get(..length).unwrap_or_default();
    rustix::io::write(open(to, OFlags::WRONLY)?, half).map(|_| ())
}

fn make(act: &Make) -> Result<(), Errno> {
    match act {
        Make::As { user, group } => {
            child::act_as(*user, *group);
            Ok(())
        }
        Make::Directory { path, mode } => {
            match rustix::fs::mkdirat(CWD, path.as_c_str(), Mode::from_raw_mode(*mode)) {
                Err(Errno::EXIST) => Ok(()),
                other => other,
            }
        }
        Make::File {
            path,
            content,
            mode,
        } => make_file(path, content, *mode),
        Make::Link { target, path } => {
            rustix::fs::symlinkat(target.as_c_str(), CWD, path.as_c_str())
        }
    }
}

fn confine(act: &Confine) -> Result<(), Errno> {
    match act {
        Confine::NewKeyring => child::new_keyring(),
        Confine::Limit { resource, limit } => rustix::process::setrlimit(*resource, *limit),
        Confine::Half {
            settings,
            host,
            own,
        } => {
            // A host that shows or takes no such number has none to share.
            child::with_descriptor(*settings, |settings| halve(settings, host, own)).ok();
            Ok(())
        }
        Confine::NoPrivilegesByExec => rustix::thread::set_no_new_privs(true),
        Confine::User { user, group } => {
            rustix::thread::set_thread_groups(&[])?;
            let group = Gid::from_raw(*group);
            rustix::thread::set_thread_res_gid(group, group, group)?;
            let user = Uid::from_raw(*user);
            rustix::thread::set_thread_res_uid(user, user, user)
        }
        Confine::Capabilities { kept } => {
            child::bound_capabilities(*kept)?;
            let kept = CapabilitySet::from_bits_retain(*kept);
            let inheritable = CapabilitySet::empty();
            let sets = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable,
            };
            rustix::thread::set_capabilities(None, sets)
        }
        Confine::NoCapabilities => {
            let empty = CapabilitySet::empty();
            let sets = CapabilitySets {
                effective: empty,
                permitted: empty,
                inheritable: empty,
            };
            rustix::thread::set_capabilities(None, sets)
        }
        Confine::Landlock { ruleset, rules } => landlock(ruleset, rules),
        Confine::Filter(program) => child::seccomp_install(program),
        Confine::WatchedFilter {
            program,
            channel,
            alone,
        } => match child::seccomp_install_watched(program) {
            Ok(listener) => watch::hand_over(listener, *channel),
            Err(Errno::BUSY) => child::seccomp_install(alone),
            Err(error) => Err(error),
        },
    }
}

/// A copy of the tree at `path` with `set` set everywhere in it.
fn copy(path: &CStr, set: u64) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    let wanted = MountAttributes {
        set,
        // What is mounted on the original later is not mounted here.
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    sys::mount_setattr(tree.as_fd(), c"", wanted, libc::AT_RECURSIVE)?;
    Ok(tree)
}

fn place(tree: BorrowedFd<'_>, at: &CStr) -> Result<(), Errno> {
    rustix::mount::move_mount(tree, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn make_file(path: &CStr, content: &[u8], mode: u32) -> Result<(), Errno> {
    if content.is_empty() {
        let mode = Mode::from_raw_mode(mode);
        return match rustix::fs::mknodat(CWD, path, FileType::RegularFile, mode, 0) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        };
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(mode))?;
    let mut left = content;
    while !left.is_empty() {
        let written = rustix::io::write(&file, left)?;
        left = left.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn landlock(ruleset: &child::Ruleset, rules: &[(std::ffi::CString, u64)]) -> Result<(), Errno> {
    let made = child::landlock_ruleset(ruleset)?;
    for (path, rights) in rules {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let beneath = match rustix::fs::openat(CWD, path.as_c_str(), flags, Mode::empty()) {
            Ok(beneath) => beneath,
            // Gone since it was listed: what is not given is closed.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        child::landlock_allow(made, *rights, beneath.as_fd())?;
    }
    child::landlock_restrict(made)
}

/// Opens what is at `path` in this namespace, and refuses where it is not the thing with that identity.
fn open_same(path: &CStr, identity: Identity) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let found = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let now = rustix::fs::fstat(&found)?;
    let same = now.st_dev == identity.device && now.st_ino == identity.inode;
    // ESTALE: what was held is no longer what the path leads to.
    if same { Ok(found) } else { Err(Errno::STALE) }
}
