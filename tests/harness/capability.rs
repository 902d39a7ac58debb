//! What a machine may lack. It is said loudly, and where `CI=true` it is a failure: a test that silently does nothing
//! is worse than none.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a test may find missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A mount namespace of a child's own.
    MountNamespace,
    /// A user namespace of a child's own.
    UserNamespace,
    /// `chattr +i` on this file system.
    Immutable,
    /// `setsid --ctty`, to give a child a controlling terminal.
    ControllingTerminal,
    /// Connections to every port led to one listener (`nf_tables` with `tproxy`).
    EveryPort,
    /// A program that people work with.
    Tool,
    /// The rights of root. No failure anywhere: it is shown where root runs the tests.
    Root,
}

impl Missing {
    fn words(self) -> &'static str {
        match self {
            Self::MountNamespace => "no mount namespace can be made (unshare --mount)",
            Self::UserNamespace => "no user namespace can be made (unshare --user)",
            Self::Immutable => {
                "no file can be made immutable here (chattr +i needs root and ext4, xfs, btrfs or tmpfs)"
            }
            Self::EveryPort => "the kernel has no nf_tables with tproxy",
            Self::Tool => "a tool is not installed (`cargo xtask test` installs it)",
            Self::Root => "only root can set it up",
            Self::ControllingTerminal => "there is no `setsid --ctty` (util-linux)",
        }
    }
}

/// Says that `missing` is missing and that `what` is not shown therefore.
///
/// # Panics
/// `CI` is `true`.
pub fn lacks(missing: Missing, what: &str) {
    let in_ci = std::env::vars_os().any(|(name, value)| name == "CI" && value == "true");
    assert!(
        !in_ci || missing == Missing::Root,
        "{}: {what} cannot be shown here",
        missing.words()
    );
    // Past the test runner's own capture: whoever runs the tests must see what they did not show.
    let text = format!("\n*** NOT SHOWN: {what}\n*** because {}\n", missing.words());
    std::io::stderr()
        .write_all(text.as_bytes())
        .unwrap_or_default();
}

/// Whether this is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The words that start a program in a mount namespace of its own, as root in it; `None` where that cannot be.
#[must_use]
pub fn mount_namespace() -> Option<Vec<OsString>> {
    let words: &[&str] = if is_root() {
        &["unshare", "--mount", "--propagation", "private", "--"]
    } else {
        &[
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--propagation",
            "private",
            "--",
        ]
    };
    works(words).then(|| words.iter().map(OsString::from).collect())
}

/// Whether `words` start a program: `true` is tried.
#[must_use]
pub fn launches(words: &[&str]) -> bool {
    works(words)
}

/// Whether `words` start `true`.
pub(crate) fn works(words: &[&str]) -> bool {
    let (first, rest) = words.split_first().unwrap_or((&"true", &[]));
    let status = Command::new(first)
        .args(rest)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
