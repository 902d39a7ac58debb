//! Counts what a command's processes hold in memory: [`Held`], and what may be theirs: [`Growth`].
//!
//! Apart from the warden, who decides by it, because it only reads what the kernel tells about processes. What is known is
//! never more than they hold, so that nobody is ended for what others did; what has grown is never less than what they added.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Processes that are looked at; a command that has more is over whatever limit there is for them.
const MOST_PROCESSES: usize = 65_536;
/// Descriptors that are looked at in one look: those of sixteen processes that have all they may.
const MOST_DESCRIPTORS: usize = 65_536;

/// What processes hold together.
#[derive(Debug)]
pub(super) struct Held {
    processes: BTreeSet<i32>,
    /// Bytes that they map, where what is shared counts more than once: quick to have, and never too small.
    pub(super) quick: u64,
}

impl Held {
    /// What `init` and the processes below it hold.
    pub(super) fn by_family(init: i32) -> Self {
        let processes = family(init);
        let each = processes.iter().copied().filter_map(resident);
        Self {
            quick: each.fold(0, u64::saturating_add),
            processes,
        }
    }

    /// Bytes that are theirs for certain: each page once, and files in memory without a name also where nobody maps them.
    pub(super) fn known(&self) -> u64 {
        let each = self.processes.iter().copied().filter_map(proportional);
        let (private, shared) = each.fold((0_u64, 0_u64), |(private, shared), one| {
            (
                private.saturating_add(one.private),
                shared.saturating_add(one.shared),
            )
        });
        // A page of such a file that is mapped as well is in both sums.
        private.saturating_add(shared.max(nameless(&self.processes)))
    }
}

/// By how much the shared memory of the whole machine has grown: files in memory, System V segments, shared pages. What a
/// command did to it is never more, unless others gave some back meanwhile.
#[derive(Debug)]
pub(super) struct Growth {
    least: u64,
}

impl Growth {
    pub(super) fn from_now() -> Self {
        Self {
            least: shared_by_all(),
        }
    }

    /// Bytes above the least there was at any look.
    pub(super) fn now(&mut self) -> u64 {
        let now = shared_by_all();
        self.least = self.least.min(now);
        now.saturating_sub(self.least)
    }
}

/// Bytes of shared memory on the machine (`sysinfo(2)`).
fn shared_by_all() -> u64 {
    let host = rustix::system::sysinfo();
    host.sharedram.saturating_mul(u64::from(host.mem_unit))
}

/// Bytes that the machine can still give without swapping (`proc_meminfo(5)`).
pub(super) fn available() -> Option<u64> {
    bytes_of("MemAvailable:", &fs::read_to_string("/proc/meminfo").ok()?)
}

/// Bytes of the files in memory without a name (`memfd_create(2)`) that these processes have open, each once.
fn nameless(processes: &BTreeSet<i32>) -> u64 {
    let folders = processes
        .iter()
        .filter_map(|process| fs::read_dir(format!("/proc/{process}/fd")).ok());
    let descriptors = folders.flatten().flatten().take(MOST_DESCRIPTORS);
    let mut files = BTreeMap::new();
    for descriptor in descriptors {
        let path = descriptor.path();
        let open = fs::read_link(&path);
        if open.is_ok_and(|open| open.as_os_str().as_bytes().starts_with(b"/memfd:"))
            && let Ok(file) = fs::metadata(&path)
        {
            files.insert((file.dev(), file.ino()), file.blocks().saturating_mul(512));
        }
    }
    files.into_values().fold(0, u64::saturating_add)
}

/// The process and everything it or its children started. A parent that ends leaves its children to the init, so that
/// nothing is lost by asking one after the other.
fn family(init: i32) -> BTreeSet<i32> {
    // Kernels may be built without these lists (`CONFIG_PROC_CHILDREN`); then every process is asked for its parent.
    let listed = Path::new("/proc/thread-self/children").exists();
    let mut by_parent = BTreeMap::new();
    if !listed {
        by_parent = every_process();
    }
    let mut known = BTreeSet::new();
    let mut left = vec![init];
    while let Some(process) = left.pop() {
        if known.len() >= MOST_PROCESSES || !known.insert(process) {
            continue;
        }
        if listed {
            left.extend(children(process));
        } else {
            left.extend(by_parent.remove(&process).unwrap_or_default());
        }
    }
    known
}

/// The processes that one started, as the kernel lists them by thread.
fn children(process: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| numbers(&list).collect::<Vec<_>>())
        .collect()
}

/// All processes there are, by their parents (`proc_pid_stat(5)`: the fourth column, after the name in brackets).
fn every_process() -> BTreeMap<i32, Vec<i32>> {
    let mut by_parent: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        let parent = stat.ok().and_then(|stat| {
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.split(' ').nth(1)?.parse().ok()
        });
        if let (Some(number), Some(parent)) = (number, parent) {
            by_parent.entry(parent).or_default().push(number);
        }
    }
    by_parent
}

fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.split_whitespace()
        .filter_map(|word| word.parse::<i32>().ok())
}

/// Bytes of a process that are in memory.
fn resident(process: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    bytes_of("VmRSS:", &text)
}

/// Bytes of a process, where a page that several have counts once altogether.
#[derive(Debug, PartialEq, Eq)]
struct Proportional {
    private: u64,
    /// Of files in memory and of pages shared without one.
    shared: u64,
}

fn proportional(process: i32) -> Option<Proportional> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    let Ok(text) = text else {
        // One that cannot be looked into counts whole.
        return resident(process).map(|private| Proportional { private, shared: 0 });
    };
    rolled_up(&text)
}

/// What `proc_pid_smaps(5)` says in its sum. Before Linux 5.4 it does not tell the shared part, which is then private.
fn rolled_up(text: &str) -> Option<Proportional> {
    let all = bytes_of("Pss:", text)?;
    let shared = bytes_of("Pss_Shmem:", text).unwrap_or(0).min(all);
    let private = all.saturating_sub(shared);
    Some(Proportional { private, shared })
}

/// The bytes on the line that begins with `name`, which counts in `kB`.
fn bytes_of(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_family_and_holds_something() {
        let own = std::process::id().cast_signed();
        assert!(family(own).contains(&own));
        let parent = std::os::unix::process::parent_id().cast_signed();
        assert!(every_process()[&parent].contains(&own));
        let held = Held::by_family(own);
        assert!(held.quick > 4096 && held.known() > 4096);
        assert!(proportional(own).unwrap().private > 4096);
        assert!(available().unwrap() > 4096);
    }

    #[test]
    fn a_file_without_a_name_counts_once_and_by_what_it_holds() {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        let file = memfd_create("counted", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 1 << 40).unwrap();
        let _again = rustix::io::dup(&file).unwrap();
        let own = BTreeSet::from([std::process::id().cast_signed()]);
        let before = nameless(&own);
        assert!(before < 1 << 40, "{before}");
        rustix::io::pwrite(&file, &[1; 1 << 20], 0).unwrap();
        // Other tests of this process may have such files too, though none as large.
        assert!((1 << 20..1 << 30).contains(&nameless(&own)));
    }

    #[test]
    fn what_is_shared_is_told_apart_where_the_kernel_does() {
        let text = "Rss: 90 kB\nPss:                 16 kB\nPss_Anon: 4 kB\nPss_Shmem:             12 kB\n";
        let expected = |private, shared| Some(Proportional { private, shared });
        assert_eq!(rolled_up(text), expected(4 << 10, 12 << 10));
        assert_eq!(rolled_up("Pss: 16 kB\n"), expected(16 << 10, 0));
        assert_eq!(rolled_up("Rss: 16 kB\n"), None);
    }

    #[test]
    fn growth_is_above_the_least_there_was() {
        let mut growth = Growth { least: u64::MAX };
        assert_eq!(growth.now(), 0);
        assert!(growth.least < u64::MAX);
    }
}
