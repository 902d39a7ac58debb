//! The one automatic way round a host that makes no namespaces for this program: `/usr/bin/bwrap` makes them, and all four
//! walls stand (design D3). [`Bubblewrap`].
//!
//! Some hosts let that program alone make user namespaces (an `AppArmor` profile of the distribution). It is taken by this one
//! path, only where nobody but root can change it, and executed by the descriptor that was looked at. It gets an
//! environment without a variable, makes the namespaces and puts the plan's trees in place; what is left (limits,
//! Landlock, filters, the program) our own init does inside, from a script of system calls. Invariant: what this way cannot
//! do exactly as the plan says refuses, and the report names who made the namespaces.

mod launch;
mod script;
mod words;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{SandboxError, Wall};
use crate::plan::{Identity, Plan, Walls};
use crate::policy::Network;

pub(crate) use launch::launch;

/// The only place where it is looked for.
pub(crate) const PATH: &str = "/usr/bin/bwrap";

/// The program, held since it was looked at.
#[derive(Debug)]
pub(crate) struct Bubblewrap(File);

impl Bubblewrap {
    /// The host's, where it has one that only root can change.
    pub(crate) fn find() -> Option<Self> {
        Self::at(Path::new(PATH))
    }

    fn at(path: &Path) -> Option<Self> {
        // Whoever may write a folder on the way can put another program there.
        let safe = |found: &fs::Metadata| found.uid() == 0 && found.mode() & 0o022 == 0;
        let way = path.ancestors().skip(1);
        for folder in way {
            if !fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir() && safe(&found)) {
                return None;
            }
        }
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .ok()?;
        let found = file.metadata().ok()?;
        (found.is_file() && safe(&found) && found.mode() & 0o111 != 0).then_some(Self(file))
    }
}

/// Whether `plan` can be carried so: root has its own way.
pub(crate) fn carries(plan: &Plan) -> bool {
    let walls = plan.walls();
    matches!(walls, Walls::Confined | Walls::Widened | Walls::Escalated)
        && matches!(plan.identity(), Identity::Caller { .. })
        // By name: a network that needs more than a namespace is not carried.
        && matches!(plan.network(), Network::Off | Network::Full)
}

/// Whether `error` says that this program, and perhaps no other, is refused its namespaces. Where there are none left
/// nobody gets any.
pub(crate) fn may_cure(error: &SandboxError) -> bool {
    let SandboxError::Unsupported { wall, source, .. } = error else {
        return false;
    };
    let refused = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    refused && matches!(wall, Wall::Namespaces | Wall::Mounts)
}

/// Whether namespaces of our own would be without power, so that trying is in vain: `AppArmor` gives them none unless a
/// profile of this program's grants it, and a program without a profile is `unconfined`.
pub(crate) fn powerless(restricts: Option<u64>, label: &str) -> bool {
    restricts == Some(1) && label.trim_end_matches(['\n', '\0']) == "unconfined"
}

/// The same, of this process on this host.
pub(crate) fn powerless_here() -> bool {
    let setting = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let Ok(restricts) = fs::read_to_string(setting) else {
        return false;
    };
    let label = fs::read_to_string("/proc/self/attr/apparmor/current")
        .or_else(|_| fs::read_to_string("/proc/self/attr/current"));
    powerless(restricts.trim().parse().ok(), &label.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn error(wall: Wall, errno: i32) -> SandboxError {
        SandboxError::Unsupported {
            wall,
            cause: String::new(),
            hint: String::new(),
            source: io::Error::from_raw_os_error(errno),
        }
    }

    #[test]
    fn another_program_is_tried_only_where_this_one_was_refused() {
        assert!(may_cure(&error(Wall::Namespaces, libc::EPERM)));
        assert!(may_cure(&error(Wall::Mounts, libc::EACCES)));
        assert!(!may_cure(&error(Wall::Namespaces, libc::ENOSPC)));
        assert!(!may_cure(&error(Wall::Landlock, libc::EPERM)));
        assert!(!may_cure(&error(Wall::Seccomp, libc::EPERM)));
        assert!(!may_cure(&SandboxError::Lost));
    }

    #[test]
    fn a_program_without_a_profile_is_powerless_where_apparmor_restricts() {
        for (restricts, label, is) in [
            (Some(1), "unconfined\n", true),
            (Some(1), "agent-runner (unconfined)\n", false),
            (Some(1), "", false),
            (Some(0), "unconfined\n", false),
            (None, "unconfined\n", false),
        ] {
            assert_eq!(powerless(restricts, label), is, "{restricts:?} {label}");
        }
    }

    #[test]
    fn a_program_that_others_could_change_is_not_taken() {
        let folder = std::env::temp_dir().join(format!("bubblewrap-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("bwrap");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // The folder for what is temporary is anybody's.
        assert!(Bubblewrap::at(&program).is_none());
        fs::remove_dir_all(&folder).unwrap();
        assert!(Bubblewrap::at(Path::new("/usr/bin/no-such-program")).is_none());
        let link = Path::new("/usr/bin/sh");
        if link.is_symlink() {
            assert!(Bubblewrap::at(link).is_none());
        }
        assert!(Bubblewrap::at(&Path::new("/usr/bin/env").canonicalize().unwrap()).is_some());
    }
}
