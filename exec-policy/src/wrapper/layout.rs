//! Wrappers whose words follow one plan: options, some operands, then a program.
//!
//! Apart, because it is a table, kept by the manual page of each program. Invariant: an option that is not in the table
//! makes the split a guess.

use super::{Certainty, Wrapped, is_assignment};
use crate::word::Word;

/// How one wrapper's words are laid out.
pub(super) struct Layout {
    pub(super) names: &'static [&'static str],
    /// Options without a value.
    flags: &'static [&'static str],
    /// Options with a value.
    valued: &'static [&'static str],
    /// Words between the options and the program.
    operands: usize,
    certainty: Certainty,
}

/// The wrappers whose words follow one plan.
pub(super) const LAYOUTS: &[Layout] = &[
    layout(
        &["nohup", "builtin", "coproc"],
        &[],
        &[],
        0,
        Certainty::Transparent,
    ),
    layout(&["command"], &["-p"], &[], 0, Certainty::Transparent),
    layout(
        &["time"],
        &["-p", "-v", "--verbose", "-q", "--portability"],
        &["-f", "--format"],
        0,
        Certainty::Transparent,
    ),
    layout(
        &["nice"],
        &[],
        &["-n", "--adjustment"],
        0,
        Certainty::Transparent,
    ),
    layout(
        &["ionice"],
        &["-t"],
        &["-c", "-n", "--class", "--classdata"],
        0,
        Certainty::Transparent,
    ),
    layout(
        &["timeout"],
        &["--foreground", "--preserve-status", "-v", "-f", "-p"],
        &["-k", "-s", "--kill-after", "--signal"],
        1,
        Certainty::Transparent,
    ),
    layout(
        &["stdbuf"],
        &[],
        &["-i", "-o", "-e", "--input", "--output", "--error"],
        0,
        Certainty::Transparent,
    ),
    layout(
        &["setsid"],
        &["-c", "-f", "-w", "--ctty", "--fork", "--wait"],
        &[],
        0,
        Certainty::Changed,
    ),
    layout(&["exec"], &["-c", "-l"], &["-a"], 0, Certainty::Changed),
    layout(
        &["sudo"],
        &[
            "-A",
            "-b",
            "-E",
            "-H",
            "-i",
            "-k",
            "-n",
            "-P",
            "-S",
            "-s",
            "-B",
            "-N",
            "--non-interactive",
            "--preserve-env",
            "--login",
            "--shell",
            "--stdin",
            "--background",
            "--set-home",
        ],
        &[
            "-u", "-g", "-p", "-C", "-D", "-h", "-R", "-r", "-T", "-t", "-U", "--user", "--group",
            "--prompt", "--chdir", "--host", "--chroot", "--role", "--type",
        ],
        0,
        Certainty::Changed,
    ),
    layout(
        &["doas"],
        &["-n", "-s", "-L"],
        &["-u", "-C", "-a"],
        0,
        Certainty::Changed,
    ),
    layout(
        &["pkexec"],
        &["--disable-internal-agent", "--keep-cwd"],
        &["--user"],
        0,
        Certainty::Changed,
    ),
    layout(
        &["chroot"],
        &["--skip-chdir"],
        &["--userspec", "--groups"],
        1,
        Certainty::Changed,
    ),
    layout(
        &["taskset"],
        &["-a", "--all-tasks"],
        &[],
        1,
        Certainty::Changed,
    ),
    layout(
        &["chrt"],
        &["-b", "-f", "-i", "-o", "-r", "-R"],
        &["-T", "-P", "-D"],
        1,
        Certainty::Changed,
    ),
    layout(
        &["setarch", "linux32", "linux64", "i386", "x86_64"],
        &["-R"],
        &[],
        0,
        Certainty::Changed,
    ),
    layout(
        &[
            "unshare",
            "nsenter",
            "setpriv",
            "systemd-run",
            "run0",
            "firejail",
            "bwrap",
            "prlimit",
            "numactl",
            "flock",
            "watch",
            "strace",
            "ltrace",
            "gdb",
            "valgrind",
            "parallel",
            "unbuffer",
            "rlwrap",
            "fakeroot",
            "xvfb-run",
            "dbus-run-session",
            "daemonize",
            "start-stop-daemon",
            "caffeinate",
            "proxychains",
            "proxychains4",
            "torsocks",
            "choom",
            "uidmap",
            "cgexec",
            "eatmydata",
            "entr",
            "hyperfine",
            "perf",
            "tmux",
            "screen",
            "dtach",
            "abduco",
        ],
        &[],
        &[],
        0,
        Certainty::Guessed,
    ),
    layout(&["busybox", "toybox"], &[], &[], 0, Certainty::Transparent),
];

pub(super) const fn layout(
    names: &'static [&'static str],
    flags: &'static [&'static str],
    valued: &'static [&'static str],
    operands: usize,
    certainty: Certainty,
) -> Layout {
    Layout {
        names,
        flags,
        valued,
        operands,
        certainty,
    }
}

impl Layout {
    pub(super) fn unwrap(&self, arguments: &[Word]) -> Wrapped {
        let mut certainty = self.certainty;
        let mut rest = arguments;
        while let Some((word, tail)) = rest.split_first() {
            let prefix = word.literal_prefix();
            // `sudo NAME=value program`.
            let assigns = is_assignment(word) && matches!(certainty, Certainty::Changed);
            if !prefix.starts_with('-') && !assigns {
                break;
            }
            rest = tail;
            if prefix == "--" {
                break;
            }
            if assigns || self.flag(prefix) {
                continue;
            }
            match self.value(prefix) {
                Value::Next => rest = rest.get(1..).unwrap_or_default(),
                Value::Glued => {}
                Value::NotKnown => certainty = Certainty::Guessed,
            }
        }
        rest = rest.get(self.operands..).unwrap_or_default();
        if rest.is_empty() {
            return Wrapped::Nothing;
        }
        Wrapped::Command {
            words: rest.to_vec(),
            certainty,
        }
    }

    /// A flag, or a cluster of flags.
    fn flag(&self, text: &str) -> bool {
        if self.flags.contains(&text) {
            return true;
        }
        let cluster = text.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        cluster.is_some_and(|letters| {
            !letters.is_empty()
                && letters
                    .chars()
                    .all(|letter| self.flags.contains(&format!("-{letter}").as_str()))
        })
    }

    fn value(&self, text: &str) -> Value {
        if self.valued.contains(&text) {
            return Value::Next;
        }
        let glued = self.valued.iter().any(|name| {
            text.strip_prefix(name)
                .is_some_and(|rest| !name.starts_with("--") || rest.starts_with('='))
        });
        // `nice -5`.
        let number = text
            .strip_prefix('-')
            .is_some_and(|rest| rest.parse::<i32>().is_ok());
        if glued || (number && self.names.contains(&"nice")) {
            Value::Glued
        } else {
            Value::NotKnown
        }
    }
}

enum Value {
    Next,
    Glued,
    NotKnown,
}
