//! A control group of a command's own (`cgroups(7)`, version 2), where its parent was handed to us: [`Leaf`].
//!
//! Beside the warden (`limits.rs`), which stays: what the kernel holds to a limit it holds at once, and counts what lies in
//! memory without a process. Invariants: a group is made only where the parent is ours (its user's, and for root one that
//! is marked as handed over), beside the runner's own group, since a group that has processes has no groups under limits
//! below it; no other group is written to; where anything of it fails, there is none, and the command is held as elsewhere.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, getxattr};
use rustix::process::geteuid;

use crate::policy::Limits;

/// Where systemd and containers mount it.
const ROOT: &str = "/sys/fs/cgroup";
/// What the names of our groups begin with; the runner's process follows.
const NAME: &str = "auto-review-";

/// How many names are tried: one may be left of an earlier process of this number.
const NUMBERS: u32 = 4;

/// How often a group is tried to be removed, and how long after each time.
const REMOVALS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A group with one command in it. Dropping it ends what is in it and removes it.
#[derive(Debug)]
pub(crate) struct Leaf {
    folder: PathBuf,
    holds: Holds,
}

/// What a group holds to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Holds {
    pub(crate) memory: bool,
    pub(crate) processes: bool,
}

impl Leaf {
    /// A new group under `limits`; `None` where nothing is to be limited, or none may be made.
    pub(crate) fn under(limits: &Limits) -> Option<Self> {
        let root = Path::new(ROOT);
        // One question is all that it costs where there is no version 2.
        rustix::fs::stat(root.join("cgroup.controllers")).ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let parent = parent(root, &own)?;
        if !is_ours(&parent) {
            return None;
        }
        sweep(&parent);
        Self::make(&parent, limits)
    }

    /// A group below `parent`, under what its groups can be limited by.
    fn make(parent: &Path, limits: &Limits) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let handed_on = fs::read_to_string(parent.join("cgroup.subtree_control")).ok()?;
        let settings = settings(limits, &handed_on);
        let has = |file| settings.iter().any(|(name, ..)| *name == file);
        let holds = Holds {
            memory: has("memory.max"),
            processes: has("pids.max"),
        };
        if holds == Holds::default() {
            return None;
        }
        let folder = (0..NUMBERS).find_map(|_| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{NAME}{}-{number}", std::process::id());
            let folder = parent.join(name);
            fs::create_dir(&folder).ok().map(|()| folder)
        })?;
        let leaf = Self { folder, holds };
        for (file, value, need) in settings {
            let written = fs::write(leaf.folder.join(file), value);
            if written.is_err() && need == Need::Must {
                return None;
            }
        }
        Some(leaf)
    }

    /// Moves a process in, before it has started anything.
    pub(crate) fn take(&self, process: libc::pid_t) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), process.to_string())
    }

    /// What it holds.
    pub(crate) fn holds(&self) -> Holds {
        self.holds
    }

    /// Whether the kernel ended something in it for want of memory within its own limit, and not the machine's (Linux 5.2).
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events.local"));
        events.is_ok_and(|events| count(&events, "oom") > 0 && count(&events, "oom_kill") > 0)
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // Nothing is left in it as a rule; where something is, it goes (Linux 5.14), and is waited for a little.
        for _ in 0..REMOVALS {
            match fs::remove_dir(&self.folder) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => {}
            }
            fs::write(self.folder.join("cgroup.kill"), "1").ok();
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether a group is none without a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    /// Not every kernel has it, or swap.
    May,
}

/// What is written, for those limits that `handed_on`, a list of controllers, can hold.
fn settings(limits: &Limits, handed_on: &str) -> Vec<(&'static str, String, Need)> {
    let has = |controller| handed_on.split_whitespace().any(|name| name == controller);
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes.filter(|_| has("memory")) {
        // Files in memory, which have a size of their own, count here.
        let files = u64::from(limits.temporary_mebibytes) + u64::from(limits.shared_mebibytes);
        let most = bytes.saturating_add(files << 20);
        settings.push(("memory.max", most.to_string(), Need::Must));
        settings.push(("memory.swap.max", "0".to_owned(), Need::May));
        // What runs out of memory goes as a whole (Linux 4.19).
        settings.push(("memory.oom.group", "1".to_owned(), Need::May));
    }
    if let Some(processes) = limits.processes.filter(|_| has("pids")) {
        // The init is one of ours.
        let most = processes.saturating_add(1).to_string();
        settings.push(("pids.max", most, Need::Must));
    }
    settings
}

/// The folder above the group that `own`, the text of `/proc/self/cgroup`, names. None above the root of what is shown.
pub(crate) fn parent(root: &Path, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let plain = !path.is_empty()
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != ".." && part != ".");
    // A group that is gone has ` (deleted)` behind it, and no folder.
    let folder = plain.then(|| root.join(path))?;
    Some(folder.parent()?.to_path_buf())
}

/// Whether groups may be made below it, and processes moved into them: delegation as `cgroups(7)` has it, by owner; root
/// owns all, so for root it has to be marked (systemd's `Delegate=`, an extended attribute).
pub(crate) fn is_ours(parent: &Path) -> bool {
    let user = geteuid();
    let owned = |path: &Path| {
        let metadata = fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| metadata.uid() == user.as_raw())
    };
    if !owned(parent) || !owned(&parent.join("cgroup.procs")) {
        return false;
    }
    let marked = |name| {
        let mut value = [0; 1];
        getxattr(parent, name, &mut value).is_ok_and(|length| length == 1 && value == *b"1")
    };
    !user.is_root() || marked("trusted.delegate") || marked("user.delegate")
}

/// Whether a group below `parent` can be limited in all that a command is.
pub(crate) fn hands_on_all(parent: &Path) -> bool {
    let handed_on = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |controller| handed_on.split_whitespace().any(|name| name == controller);
    has("memory") && has("pids")
}

/// Removes the groups of runners that were killed, once nothing is in them.
fn sweep(parent: &Path) {
    let Ok(folder) = rustix::fs::openat(
        CWD,
        parent,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) else {
        return;
    };
    let Ok(entries) = rustix::fs::Dir::new(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Directory && is_left_over(&name) {
            // One that still has processes stays.
            fs::remove_dir(parent.join(&*name)).ok();
        }
    }
}

/// Whether it is a group of ours whose runner is gone.
fn is_left_over(name: &str) -> bool {
    let process = name
        .strip_prefix(NAME)
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(process, _)| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

/// A number of `memory.events` and its like.
fn count(events: &str, name: &str) -> u64 {
    let mut lines = events.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(known, _)| *known == name);
    found.and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn limits(memory: Option<u64>, processes: Option<u64>) -> Limits {
        Limits {
            memory_bytes: memory,
            processes,
            temporary_mebibytes: 2,
            shared_mebibytes: 1,
            ..Limits::none()
        }
    }

    #[test]
    fn a_group_is_made_beside_ours_and_nowhere_else() {
        let root = Path::new("/c");
        for (own, above) in [
            ("0::/user.slice/a.scope\n", Some("/c/user.slice")),
            ("1:cpu:/x\n0::/a\n", Some("/c")),
            ("0::/\n", None),
            ("1:memory:/a\n", None),
            ("0::/../a\n", None),
            ("0::/a//b\n", None),
        ] {
            assert_eq!(parent(root, own).as_deref(), above.map(Path::new), "{own}");
        }
    }

    #[test]
    fn only_what_is_handed_on_is_limited() {
        let files = |limits: &Limits, handed_on: &str| -> Vec<_> {
            let settings = settings(limits, handed_on).into_iter();
            settings
                .map(|(file, value, _)| format!("{file}={value}"))
                .collect()
        };
        let all = limits(Some(1 << 20), Some(9));
        assert_eq!(
            files(&all, "cpu memory pids\n"),
            [
                "memory.max=4194304",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "pids.max=10"
            ]
        );
        assert_eq!(files(&all, "cpu pids"), ["pids.max=10"]);
        assert!(files(&all, "cpu").is_empty());
        assert!(files(&Limits::none(), "memory pids").is_empty());
    }

    #[test]
    fn what_the_kernel_counted_is_read_by_its_whole_name() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(count(events, "oom_kill"), 2);
        assert_eq!(count(events, "kill"), 0);
        assert_eq!(count("oom_kill x", "oom_kill"), 0);
    }

    #[test]
    fn only_groups_of_runners_that_are_gone_are_left_over() {
        let own = std::process::id();
        assert!(!is_left_over(&format!("auto-review-{own}-0")));
        assert!(is_left_over("auto-review-4294967295-0"));
        for other in [
            "auto-review-",
            "auto-review-x-0",
            "session-1.scope",
            "auto-review-1",
        ] {
            assert!(!is_left_over(other), "{other}");
        }
    }

    /// On the real file system: the walk, without a controller that limits (which one is there is the machine's to say).
    #[test]
    fn a_process_moves_in_ends_with_the_group_and_nothing_is_left() {
        let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .into_iter()
            .map(Path::new);
        let root = mounted
            .into_iter()
            .find(|root| root.join("cgroup.controllers").exists());
        let above = root.map(|root| root.join(format!("auto-review-test-{}", std::process::id())));
        let Some(above) = above.filter(|above| fs::create_dir(above).is_ok()) else {
            eprintln!("SKIPPED: no control groups of version 2 that this user may divide");
            return;
        };
        let leaf = Leaf {
            folder: above.join(format!("{NAME}{}-0", std::process::id())),
            holds: Holds::default(),
        };
        fs::create_dir(&leaf.folder).expect("a group");
        let mut inside = Command::new("sleep").arg("60").spawn().expect("a process");
        let process = i32::try_from(inside.id()).expect("a pid");
        leaf.take(process).expect("moved");
        let shown = fs::read_to_string(format!("/proc/{process}/cgroup")).expect("its group");
        assert!(shown.contains(NAME), "{shown}");
        assert!(!leaf.ran_out_of_memory());
        let folder = leaf.folder.clone();
        drop(leaf);
        let ended = inside.wait().expect("ended");
        assert!(!ended.success(), "the group's end is its own: {ended}");
        assert!(!folder.exists(), "removed with its last process");
        let gone = above.join(format!("{NAME}4294967295-0"));
        fs::create_dir(&gone).expect("a group of a runner that is gone");
        sweep(&above);
        assert!(!gone.exists());
        fs::remove_dir(&above).expect("empty");
    }

    /// Files of its own stand in for the kernel's: what is written, and what of it decides.
    #[test]
    fn a_group_says_what_it_holds_and_whose_want_of_memory_it_was() {
        let parent =
            std::env::temp_dir().join(format!("auto-review-cgroup-{}", std::process::id()));
        fs::create_dir_all(&parent).expect("a folder");
        fs::write(parent.join("cgroup.subtree_control"), "cpu pids\n").expect("written");
        let leaf = Leaf::make(&parent, &limits(Some(1 << 20), Some(9))).expect("a group");
        assert_eq!(
            leaf.holds(),
            Holds {
                memory: false,
                processes: true
            }
        );
        assert!(!hands_on_all(&parent));
        let most = fs::read_to_string(leaf.folder.join("pids.max")).expect("a limit");
        assert_eq!(most, "10");
        for (events, is_its_own) in [
            ("oom 0\noom_kill 1\n", false),
            ("oom 2\noom_kill 0\n", false),
            ("oom 1\noom_kill 3\n", true),
        ] {
            fs::write(leaf.folder.join("memory.events.local"), events).expect("written");
            assert_eq!(leaf.ran_out_of_memory(), is_its_own, "{events}");
        }
        fs::write(parent.join("cgroup.subtree_control"), "cpu\n").expect("written");
        assert!(Leaf::make(&parent, &limits(Some(1), Some(1))).is_none());
        fs::write(parent.join("cgroup.subtree_control"), "memory pids\n").expect("written");
        assert!(hands_on_all(&parent));
        fs::remove_dir_all(&leaf.folder).expect("removed");
        drop(leaf);
        fs::remove_dir_all(&parent).expect("removed");
    }

    #[test]
    fn a_group_that_is_not_handed_over_is_left_alone() {
        // Root's own: every machine's first group belongs to root, and nothing marks it.
        assert!(!is_ours(Path::new("/sys/fs/cgroup")));
        assert!(!is_ours(Path::new("/nonexistent")));
    }
}
