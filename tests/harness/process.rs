//! Looking at the machine's processes, by `/proc` (proc(5)).

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A text by which the processes of one test are found, whoever started them and whoever their parent is now.
///
/// What still has it when it is dropped is ended: a test that finds something left behind leaves nothing behind itself.
#[derive(Debug)]
pub struct Marker(String);

impl Marker {
    /// The variable that carries it.
    pub const VARIABLE: &'static str = "E2E_MARK";

    /// A text that is nowhere else.
    #[must_use]
    pub fn new() -> Self {
        Self(format!("e2e-mark-{}", uuid::Uuid::new_v4().simple()))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The processes that have it in their environment or their words: number and words.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, String)> {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers
            .filter_map(|pid| self.words_of(pid).map(|words| (pid, words)))
            .collect()
    }

    fn words_of(&self, pid: i32) -> Option<String> {
        // A process may end at any moment, and one of another user does not show its environment.
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |bytes: &[u8]| {
            bytes
                .windows(self.0.len())
                .any(|window| window == self.0.as_bytes())
        };
        (has(&words) || has(&environment))
            .then(|| String::from_utf8_lossy(&words).replace('\0', " "))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        for pid in self
            .processes()
            .into_iter()
            .filter_map(|(pid, _)| Pid::from_raw(pid))
        {
            // One that ended meanwhile needs no signal.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

impl Default for Marker {
    fn default() -> Self {
        Self::new()
    }
}

/// The processes that `pid` started and that still live.
#[must_use]
pub fn children_of(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether `pid` is a process that has not ended; one that nobody waited for has.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    // The state follows the name, which is in brackets and may hold anything.
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends `signal` to the one process `pid`, which the test started.
///
/// # Panics
/// There is no such process.
pub fn kill(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process has a number");
    kill_process(pid, signal).expect("a process that the test started takes a signal");
}
