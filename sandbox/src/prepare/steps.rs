//! Gathers steps, and the descriptors they need, in order: [`Steps`].

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI32;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::MountFlags;

use super::step::{Act, Make, Mount, Reach, Slot, Step};
use crate::error::SandboxError;

/// Descriptors below this number are the command's init's to lay out.
const HIGH: RawFd = 64;

/// The parent's copies of what the new process gets. To be dropped when it has been made.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<OwnedFd>);

impl Held {
    /// Keeps `descriptor` under a number that the init's layout does not use.
    pub(super) fn keep(&mut self, descriptor: OwnedFd) -> Result<RawFd, SandboxError> {
        let descriptor = if descriptor.as_raw_fd() >= HIGH {
            descriptor
        } else {
            fcntl_dupfd_cloexec(&descriptor, HIGH)
                .map_err(|error| descriptor_error(error.into()))?
        };
        let number = descriptor.as_raw_fd();
        self.0.push(descriptor);
        Ok(number)
    }
}

pub(super) fn descriptor_error(source: io::Error) -> SandboxError {
    let object = PathBuf::from("the command");
    SandboxError::SetUp {
        step: "open a descriptor for",
        object,
        source,
    }
}

/// The path as the kernel takes it.
pub(super) fn c_path(path: &Path) -> CString {
    // Paths come from the system or passed the policy's and command's doors, so that none holds a NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Steps so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) list: Vec<Step>,
    pub(super) slots: Vec<AtomicI32>,
    pub(super) held: Held,
}

impl Steps {
    pub(super) fn add(&mut self, what: &'static str, object: &Path, act: Act) {
        self.list.push(Step {
            what,
            object: object.to_path_buf(),
            act,
        });
    }

    /// A slot for a descriptor that a step will open.
    pub(super) fn slot(&mut self) -> Slot {
        self.slots.push(AtomicI32::new(-1));
        self.slots.len() - 1
    }

    /// A slot that holds `descriptor` from the start.
    pub(super) fn hold(&mut self, descriptor: OwnedFd) -> Result<Slot, SandboxError> {
        let number = self.held.keep(descriptor)?;
        self.slots.push(AtomicI32::new(number));
        Ok(self.slots.len() - 1)
    }

    pub(super) fn take(&mut self, what: &'static str, path: &Path, set: u64) -> Slot {
        let slot = self.slot();
        self.add(
            what,
            path,
            Act::Mount(Mount::Take {
                path: c_path(path),
                slot,
                set,
            }),
        );
        slot
    }

    pub(super) fn place(&mut self, what: &'static str, slot: Slot, at: &Path) {
        self.add(
            what,
            at,
            Act::Mount(Mount::Place {
                slot,
                at: c_path(at),
            }),
        );
    }

    /// Covers what another user than its owner might reach.
    pub(super) fn cover(&mut self, slot: Slot, at: &Path) {
        let act = Act::Mount(Mount::Cover {
            slot,
            at: c_path(at),
        });
        self.add("hide", at, act);
    }

    pub(super) fn attributes(&mut self, what: &'static str, path: &Path, set: u64, reach: Reach) {
        self.add(
            what,
            path,
            Act::Mount(Mount::Attributes {
                path: c_path(path),
                set,
                clear: 0,
                reach,
            }),
        );
    }

    /// Takes attributes back that were set on this namespace's own mounts.
    pub(super) fn clear(&mut self, path: &Path, clear: u64, reach: Reach) {
        let act = Act::Mount(Mount::Attributes {
            path: c_path(path),
            set: 0,
            clear,
            reach,
        });
        self.add("give back", path, act);
    }

    pub(super) fn bind(&mut self, from: &Path, at: &Path) {
        let [from, at_path] = [from, at].map(c_path);
        self.add(
            "put a device at",
            at,
            Act::Mount(Mount::Bind { from, at: at_path }),
        );
    }

    /// A new file system of `kind` at `at`.
    pub(super) fn mount(&mut self, kind: &str, at: &Path, options: String, flags: MountFlags) {
        let c_text = |text: String| CString::new(text).unwrap_or_default();
        let [kind, options] = [kind.to_owned(), options].map(c_text);
        let mount = Mount::New {
            kind,
            at: c_path(at),
            options,
            flags,
        };
        self.add("mount a file system of its own at", at, Act::Mount(mount));
    }

    pub(super) fn resize(&mut self, at: &Path, mebibytes: u32) {
        let options = CString::new(format!("size={mebibytes}m")).unwrap_or_default();
        let resize = Mount::Resize {
            at: c_path(at),
            options,
        };
        self.add("set the size of", at, Act::Mount(resize));
    }

    pub(super) fn directory(&mut self, path: &Path, mode: u32) {
        let make = Make::Directory {
            path: c_path(path),
            mode,
        };
        self.add("make the directory", path, Act::Make(make));
    }

    pub(super) fn file(&mut self, path: &Path, content: &[u8], mode: u32) {
        let make = Make::File {
            path: c_path(path),
            content: content.to_vec(),
            mode,
        };
        self.add("make the file", path, Act::Make(make));
    }

    pub(super) fn link(&mut self, target: &str, path: &Path) {
        let target = CString::new(target).unwrap_or_default();
        self.add(
            "make the link",
            path,
            Act::Make(Make::Link {
                target,
                path: c_path(path),
            }),
        );
    }
}
