//! A plan in plain words, one line for each thing that will be done: what a person reads before agreeing to it.
//!
//! Apart from the plan because it decides nothing. Every operation has its line: what is not printed is not done. Paths
//! come from the disk, so that what could move a terminal's cursor is printed as an escape.

use std::fmt;
use std::path::Path;

use super::{Identity, Namespace, Plan, Walls};
use crate::landlock::{Domain, Readable};
use crate::mounts::{Access, Operation, Owner};
use crate::policy::Network;
use crate::seccomp::Filter;
use crate::surroundings::Kind;

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let walls = match self.walls {
            Walls::Confined => "confined: as the policy says",
            Walls::Widened => "widened: as the policy says, and what was granted",
            Walls::Escalated => {
                "escalated: the host as this user, but for what no command may touch"
            }
            Walls::Unconfined => "unconfined: none",
            Walls::Reduced => "reduced: as the policy says, by Landlock and filters alone",
        };
        writeln!(out, "walls       {walls}")?;
        writeln!(out, "program     {}", Shown(&self.program))?;
        writeln!(out, "works in    {}", Shown(&self.directory))?;
        writeln!(out, "runs as     {}", Who(self.identity))?;
        writeln!(
            out,
            "namespaces  {}",
            Listed(self.namespaces.iter().map(name))
        )?;
        match (self.network, &self.doorway) {
            (Network::Full, _) => writeln!(out, "network     the host's")?,
            (Network::Door, Some(doorway)) => {
                writeln!(out, "network     by the door at {} alone", doorway.proxy())?;
            }
            (Network::Off | Network::Door, _) => {
                writeln!(out, "network     none but its own loopback")?;
            }
        }
        for operation in &self.operations {
            writeln!(out, "files       {}", Line(operation))?;
        }
        for path in &self.placeholders {
            let path = Shown(path);
            writeln!(
                out,
                "kept free   {path}: made empty for the command's time, then removed"
            )?;
        }
        landlock(self.landlock.as_ref(), out)?;
        writeln!(
            out,
            "refused     {}",
            Listed(self.filters.iter().map(|filter| refused(*filter)))
        )?;
        for note in &self.notes {
            writeln!(out, "note        {}", protocol::Printable(note))?;
        }
        Ok(())
    }
}

fn landlock(domain: Option<&Domain>, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match domain {
        None => writeln!(out, "landlock    none"),
        Some(Domain::Frozen) => writeln!(out, "landlock    what is mounted where stays as it is"),
        Some(Domain::Writes {
            beneath,
            files,
            reads,
            devices,
        }) => {
            let paths = beneath.iter().chain(files).chain(devices);
            let paths = paths.map(|path| Shown(path));
            writeln!(out, "landlock    writes beneath {} alone", Listed(paths))?;
            if let Readable::Listed { folders, files } = reads {
                let paths = folders.iter().chain(files).map(|path| Shown(path));
                writeln!(out, "landlock    reads beneath {} alone", Listed(paths))?;
            }
            Ok(())
        }
    }
}

/// A path without what a terminal would obey.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", protocol::Printable(&self.0.to_string_lossy()))
    }
}

/// Things with commas between them, or that there is none.
struct Listed<I>(I);

impl<I: Iterator<Item: fmt::Display> + Clone> fmt::Display for Listed<I> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for thing in self.0.clone() {
            write!(out, "{between}{thing}")?;
            between = ", ";
        }
        if between.is_empty() {
            write!(out, "none")?;
        }
        Ok(())
    }
}

struct Who(Identity);

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Identity::Caller { user, group } => {
                write!(out, "the caller (user {user}, group {group})")
            }
            Identity::Unprivileged { user, group } => {
                write!(
                    out,
                    "another user without any of root's powers (user {user}, group {group})"
                )
            }
            Identity::ConfinedRoot => write!(out, "root over files and processes alone"),
        }
    }
}

fn name(namespace: &Namespace) -> &'static str {
    match namespace {
        Namespace::User => "users",
        Namespace::Mount => "mounts",
        Namespace::Process => "processes",
        Namespace::Ipc => "shared memory",
        Namespace::Network => "network",
        Namespace::HostName => "host name",
        Namespace::Cgroup => "cgroups",
    }
}

fn refused(filter: Filter) -> &'static str {
    match filter {
        Filter::Terminal => "typing into the terminal",
        Filter::Mounts => "mounting",
        Filter::Namespaces => "new namespaces",
        Filter::Surface => "kernel interfaces that no command needs",
        Filter::Sockets => "sockets but Unix, TCP, UDP and ping",
        Filter::UnixSockets => "Unix sockets but pairs",
        Filter::Internet => "every network",
        Filter::Shared => "what is shared with other programs, modes and times of files",
        Filter::Truncation => {
            "emptying files that are not opened to be written (this kernel's Landlock does not judge it)"
        }
    }
}

fn whose(owner: Owner) -> &'static str {
    match owner {
        Owner::AsIs => "",
        Owner::Command => ", its owner's files being the command's",
    }
}

struct Line<'a>(&'a Operation);

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = |access: &Access| match access {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "writable",
        };
        match self.0 {
            Operation::ReadOnlyTree => write!(
                out,
                "/: read-only, without set-user-id programs and devices"
            ),
            Operation::OwnTree => write!(out, "/: as on the host, writable"),
            Operation::Pin { path } => write!(out, "{}: cannot be renamed", Shown(path)),
            Operation::Memory { at, access, .. } => {
                write!(
                    out,
                    "{}: an empty folder in memory, {}",
                    Shown(at),
                    may(access)
                )
            }
            Operation::Devices => write!(
                out,
                "/dev: null, zero, full, random, urandom, tty, pts and shm alone"
            ),
            Operation::Processes { access } => {
                write!(
                    out,
                    "/proc: the command's own processes alone, {}",
                    may(access)
                )
            }
            Operation::Attach {
                from,
                at,
                access,
                owner,
            } => {
                write!(out, "{}: ", Shown(at))?;
                if from != at {
                    write!(out, "what is at {}, ", Shown(from))?;
                }
                write!(out, "{}{}", may(access), whose(*owner))
            }
            Operation::Protect { path } => {
                write!(out, "{}: read-only, cannot be removed", Shown(path))
            }
            Operation::Hide { path, kind } => {
                let cover = match kind {
                    Kind::File | Kind::Socket => "file",
                    Kind::Directory => "folder",
                };
                write!(out, "{}: hidden behind an empty {cover}", Shown(path))
            }
            Operation::Seal { path, bytes } => {
                write!(out, "{}: the reviewed copy of {bytes} bytes", Shown(path))
            }
            Operation::Resolver { at, .. } => {
                write!(out, "{}: names are asked of the door", Shown(at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::command;
    use crate::seccomp::Observing;

    const NOWHERE: command::Identity = command::Identity {
        device: 0,
        inode: 0,
    };

    fn plan() -> Plan {
        let path = PathBuf::from;
        let attach = Operation::Attach {
            from: path("/srv/app"),
            at: path("/srv/app"),
            access: Access::ReadWrite,
            owner: Owner::Command,
        };
        let memory = Operation::Memory {
            at: path("/tmp"),
            mode: 0o1777,
            access: Access::ReadWrite,
        };
        Plan {
            walls: Walls::Confined,
            words: vec!["make".into()],
            directory: path("/srv/app"),
            program: path("/usr/bin/make"),
            held: [NOWHERE; 2],
            identity: Identity::Unprivileged { user: 7, group: 8 },
            namespaces: vec![Namespace::User, Namespace::Network],
            network: Network::Off,
            doorway: None,
            operations: vec![
                Operation::ReadOnlyTree,
                Operation::Pin {
                    path: path("/srv/app/\u{1b}[2J"),
                },
                Operation::Devices,
                Operation::Processes {
                    access: Access::ReadOnly,
                },
                memory,
                attach,
                Operation::Protect {
                    path: path("/srv/app/.git"),
                },
                Operation::Seal {
                    path: path("/srv/app/run"),
                    bytes: 12,
                },
                Operation::Hide {
                    path: path("/var/state"),
                    kind: Kind::Directory,
                },
            ],
            placeholders: vec![path("/srv/app/.codex")],
            landlock: Some(Domain::Writes {
                beneath: vec![path("/srv/app")],
                files: Vec::new(),
                reads: Readable::Everything,
                devices: vec![path("/dev")],
            }),
            filters: vec![Filter::Terminal, Filter::Mounts],
            unlocated_host_sockets: 0,
            notes: Vec::new(),
            observed: Observing::Nothing,
            limits: crate::policy::Limits::default(),
            policy: None,
        }
    }

    #[test]
    fn a_plan_is_printed_in_plain_words() {
        insta::assert_snapshot!(plan(), @r"
        walls       confined: as the policy says
        program     /usr/bin/make
        works in    /srv/app
        runs as     another user without any of root's powers (user 7, group 8)
        namespaces  users, network
        network     none but its own loopback
        files       /: read-only, without set-user-id programs and devices
        files       /srv/app/\x1b[2J: cannot be renamed
        files       /dev: null, zero, full, random, urandom, tty, pts and shm alone
        files       /proc: the command's own processes alone, read-only
        files       /tmp: an empty folder in memory, writable
        files       /srv/app: writable, its owner's files being the command's
        files       /srv/app/.git: read-only, cannot be removed
        files       /srv/app/run: the reviewed copy of 12 bytes
        files       /var/state: hidden behind an empty folder
        kept free   /srv/app/.codex: made empty for the command's time, then removed
        landlock    writes beneath /srv/app, /dev alone
        refused     typing into the terminal, mounting
        ");
    }

    #[test]
    fn a_plan_without_walls_says_so() {
        let bare = Plan {
            walls: Walls::Unconfined,
            identity: Identity::Caller { user: 7, group: 8 },
            namespaces: Vec::new(),
            network: Network::Full,
            operations: Vec::new(),
            placeholders: Vec::new(),
            landlock: None,
            filters: Vec::new(),
            ..plan()
        };
        insta::assert_snapshot!(bare, @r"
        walls       unconfined: none
        program     /usr/bin/make
        works in    /srv/app
        runs as     the caller (user 7, group 8)
        namespaces  none
        network     the host's
        landlock    none
        refused     none
        ");
    }
}
