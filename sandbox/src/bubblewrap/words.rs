//! A plan's namespaces and trees as bubblewrap is told them: [`words`]. Pure.
//!
//! Its operations are done in the order of its words, as ours are in the plan's, and what they take is taken from the host's
//! tree whatever was put before. Invariant: every operation of the plan has its words, or there are none at all.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::mounts::{Access, Operation, Owner};
use crate::plan::{Namespace, Plan};
use crate::policy::Limits;
use crate::surroundings::Kind;

/// What bubblewrap is told, and the sealed files that it is to copy, in the order of their descriptors.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) words: Vec<OsString>,
    pub(super) sealed: Vec<PathBuf>,
}

/// The words for `plan`; sealed files come by descriptors from `first_sealed` on, the container's number goes to `info`.
/// `None` where the plan asks for what bubblewrap cannot do.
pub(super) fn words(plan: &Plan, info: RawFd, first_sealed: RawFd) -> Option<Told> {
    let mut telling = Telling {
        words: Vec::new(),
        sealed: Vec::new(),
        first_sealed,
        limits: *plan.limits(),
    };
    telling.say(&["--as-pid-1", "--cap-drop", "ALL", "--chdir", "/"]);
    telling.say(&["--info-fd", &info.to_string()]);
    for namespace in plan.namespaces() {
        telling.words.extend(flag(*namespace).map(OsString::from));
    }
    for operation in plan.operations() {
        telling.put(operation)?;
    }
    // Now that every mount point in them is made.
    for operation in plan.operations() {
        if let Operation::Memory {
            at,
            access: Access::ReadOnly,
            ..
        } = operation
        {
            telling.say_of("--remount-ro", &[at]);
        }
    }
    Some(Told {
        words: telling.words,
        sealed: telling.sealed,
    })
}

fn flag(namespace: Namespace) -> Option<&'static str> {
    match namespace {
        Namespace::User => Some("--unshare-user"),
        // Made whatever it is told.
        Namespace::Mount => None,
        Namespace::Process => Some("--unshare-pid"),
        Namespace::Ipc => Some("--unshare-ipc"),
        Namespace::Network => Some("--unshare-net"),
        Namespace::HostName => Some("--unshare-uts"),
        Namespace::Cgroup => Some("--unshare-cgroup"),
    }
}

struct Telling {
    words: Vec<OsString>,
    sealed: Vec<PathBuf>,
    first_sealed: RawFd,
    limits: Limits,
}

impl Telling {
    fn say(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(OsString::from));
    }

    fn say_of(&mut self, word: &str, paths: &[&Path]) {
        self.words.push(word.into());
        self.words
            .extend(paths.iter().map(|path| path.as_os_str().to_owned()));
    }

    fn memory(&mut self, at: &Path, mode: u32, mebibytes: u32) {
        let bytes = u64::from(mebibytes) << 20;
        self.say(&[
            "--perms",
            &format!("{mode:o}"),
            "--size",
            &bytes.to_string(),
        ]);
        self.say_of("--tmpfs", &[at]);
    }

    fn devices(&mut self) {
        let dev = Path::new("/dev");
        self.say_of("--dev", &[dev]);
        self.memory(&dev.join("shm"), 0o1777, self.limits.shared_mebibytes);
        self.say_of("--remount-ro", &[dev]);
    }

    fn put(&mut self, operation: &Operation) -> Option<()> {
        let root = Path::new("/");
        match operation {
            Operation::ReadOnlyTree => self.say_of("--ro-bind", &[root, root]),
            Operation::Pin { path } | Operation::Protect { path } => {
                self.say_of("--ro-bind", &[path, path]);
            }
            Operation::Memory { at, mode, access } => {
                let size = match access {
                    Access::ReadWrite => self.limits.temporary_mebibytes,
                    // Mount points alone stand in it.
                    Access::ReadOnly => 1,
                };
                self.memory(at, *mode, size);
            }
            Operation::Devices => self.devices(),
            Operation::Processes { access } => {
                let at = Path::new("/proc");
                self.say_of("--proc", &[at]);
                if *access == Access::ReadOnly {
                    self.say_of("--remount-ro", &[at]);
                }
            }
            Operation::Attach {
                from,
                at,
                access,
                owner: Owner::AsIs,
            } => {
                let bind = match access {
                    Access::ReadOnly => "--ro-bind",
                    Access::ReadWrite => "--bind",
                };
                self.say_of(bind, &[from, at]);
            }
            Operation::Hide {
                path,
                kind: Kind::Directory,
            } => {
                self.memory(path, 0, 1);
                self.say_of("--remount-ro", &[path]);
            }
            // A device cannot be opened where it is put, since devices are not allowed there.
            Operation::Hide { path, .. } => {
                self.say_of("--ro-bind", &[Path::new("/dev/null"), path]);
            }
            Operation::Seal { path, .. } => {
                let place = RawFd::try_from(self.sealed.len()).ok()?;
                let number = self.first_sealed.checked_add(place)?;
                self.say(&["--perms", "0555", "--ro-bind-data", &number.to_string()]);
                self.words.push(path.as_os_str().to_owned());
                self.sealed.push(path.clone());
            }
            Operation::OwnTree
            | Operation::Attach {
                owner: Owner::Command,
                ..
            } => return None,
        }
        Some(())
    }
}
