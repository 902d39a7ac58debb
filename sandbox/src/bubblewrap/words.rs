//! A plan's namespaces and trees as bubblewrap is told them: [`words`]. Pure.
//!
//! Its operations are done in the order of its words, as ours are in the plan's, and what they take is taken from the host's
//! tree whatever was put before. Invariant: every operation of the plan has its words, or there are none at all.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::mounts::{Access, Operation, Owner};
use crate::plan::Namespace;
use crate::policy::Limits;
use crate::surroundings::Kind;

/// What bubblewrap is told, and the sealed files that it is to copy, in the order of their descriptors.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) words: Vec<OsString>,
    pub(super) sealed: Vec<PathBuf>,
}

/// Numbers of descriptors that the words name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// Where the number of the process goes that becomes our init.
    pub(super) info: RawFd,
    /// Where sealed files come from, this one and those behind it.
    pub(super) first_sealed: RawFd,
}

/// The words for a plan of these namespaces and operations. `None` where it asks for what bubblewrap cannot do.
pub(super) fn words(
    namespaces: &[Namespace],
    operations: &[Operation],
    limits: Limits,
    numbers: Numbers,
) -> Option<Told> {
    let mut telling = Telling {
        words: Vec::new(),
        sealed: Vec::new(),
        first_sealed: numbers.first_sealed,
        limits,
        pin: "--ro-bind",
    };
    telling.say(&["--as-pid-1", "--cap-drop", "ALL", "--chdir", "/"]);
    telling.say(&["--info-fd", &numbers.info.to_string()]);
    for namespace in namespaces {
        telling.words.extend(flag(*namespace).map(OsString::from));
    }
    for operation in operations {
        telling.put(operation)?;
    }
    // Now that every mount point in them is made.
    for operation in operations {
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
    /// How a folder is put at its own place: as the tree that it is in.
    pin: &'static str,
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
            Operation::OwnTree => {
                self.pin = "--dev-bind";
                self.say_of("--dev-bind", &[root, root]);
            }
            Operation::Pin { path } => self.say_of(self.pin, &[path, path]),
            Operation::Protect { path } => self.say_of("--ro-bind", &[path, path]),
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
            Operation::Resolver { .. }
            | Operation::Attach {
                owner: Owner::Command,
                ..
            } => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(operations: &[Operation]) -> Option<String> {
        let namespaces = [
            Namespace::User,
            Namespace::Mount,
            Namespace::Process,
            Namespace::Network,
        ];
        let limits = Limits {
            temporary_mebibytes: 8,
            shared_mebibytes: 4,
            ..Limits::none()
        };
        let numbers = Numbers {
            info: 9,
            first_sealed: 10,
        };
        let told = words(&namespaces, operations, limits, numbers)?;
        let words: Vec<_> = told
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        Some(words.join(" ").replace(" --", "\n--"))
    }

    /// One of each that a confined command of an ordinary user has.
    fn one_of_each() -> Vec<Operation> {
        let hide = |path: &str, kind| Operation::Hide {
            path: path.into(),
            kind,
        };
        let attach = |path: &str, access| Operation::Attach {
            from: path.into(),
            at: path.into(),
            access,
            owner: Owner::AsIs,
        };
        vec![
            Operation::ReadOnlyTree,
            Operation::Pin {
                path: "/home/u/code/sub".into(),
            },
            Operation::Devices,
            Operation::Processes {
                access: Access::ReadOnly,
            },
            Operation::Memory {
                at: "/tmp".into(),
                mode: 0o1777,
                access: Access::ReadWrite,
            },
            Operation::Memory {
                at: "/run".into(),
                mode: 0o755,
                access: Access::ReadOnly,
            },
            attach("/home/u/code", Access::ReadWrite),
            attach("/run/shown", Access::ReadOnly),
            Operation::Protect {
                path: "/home/u/code/.git".into(),
            },
            Operation::Seal {
                path: "/home/u/code/script".into(),
                bytes: 3,
            },
            hide("/home/u/code/private", Kind::Directory),
            hide("/home/u/code/.env", Kind::File),
            hide("/home/u/code/host.sock", Kind::Socket),
        ]
    }

    #[test]
    fn every_operation_is_told_in_its_order() {
        insta::assert_snapshot!(told(&one_of_each()).unwrap(), @r"
        --as-pid-1
        --cap-drop ALL
        --chdir /
        --info-fd 9
        --unshare-user
        --unshare-pid
        --unshare-net
        --ro-bind / /
        --ro-bind /home/u/code/sub /home/u/code/sub
        --dev /dev
        --perms 1777
        --size 4194304
        --tmpfs /dev/shm
        --remount-ro /dev
        --proc /proc
        --remount-ro /proc
        --perms 1777
        --size 8388608
        --tmpfs /tmp
        --perms 755
        --size 1048576
        --tmpfs /run
        --bind /home/u/code /home/u/code
        --ro-bind /run/shown /run/shown
        --ro-bind /home/u/code/.git /home/u/code/.git
        --perms 0555
        --ro-bind-data 10 /home/u/code/script
        --perms 0
        --size 1048576
        --tmpfs /home/u/code/private
        --remount-ro /home/u/code/private
        --ro-bind /dev/null /home/u/code/.env
        --ro-bind /dev/null /home/u/code/host.sock
        --remount-ro /run
        ");
    }

    #[test]
    fn a_tree_that_stays_writable_stays_so_where_a_folder_is_pinned() {
        let told = told(&[
            Operation::OwnTree,
            Operation::Pin {
                path: "/home/u".into(),
            },
            Operation::Processes {
                access: Access::ReadWrite,
            },
            Operation::Hide {
                path: "/home/u/secrets".into(),
                kind: Kind::Directory,
            },
        ]);
        let put = told.unwrap();
        let put = put.split_once("--dev-bind / /").unwrap().1;
        insta::assert_snapshot!(put, @r"

        --dev-bind /home/u /home/u
        --proc /proc
        --perms 0
        --size 1048576
        --tmpfs /home/u/secrets
        --remount-ro /home/u/secrets
        ");
    }

    #[test]
    fn what_it_cannot_do_is_not_told_in_part() {
        let of_another = Operation::Attach {
            from: "/home/u/code".into(),
            at: "/home/u/code".into(),
            access: Access::ReadWrite,
            owner: Owner::Command,
        };
        assert!(told(&[Operation::ReadOnlyTree, of_another]).is_none());
    }
}
