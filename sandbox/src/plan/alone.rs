//! Each wall with the other three off: what it refuses, it refuses by itself. And each wall missing: nothing starts.
//!
//! Here, and not with the other tests on the real kernel, because no policy leads to such a plan: it is made by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::command::{Program, WorkingDirectory};
use crate::mounts::Access as Mounted;
use crate::sys;
use crate::{Ending, Sandbox, SandboxError, Wall};

/// A folder where everybody may write, so that nothing but a wall refuses anything.
struct Lab(PathBuf);

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let above = if rustix::process::geteuid().is_root() {
            PathBuf::from("/var/lib")
        } else {
            std::env::home_dir().unwrap()
        };
        let base = above.join(format!("sandbox-alone-{}-{number}", std::process::id()));
        for folder in ["", "outside", "workspace", "workspace/.git"] {
            fs::create_dir(base.join(folder)).unwrap();
            fs::set_permissions(base.join(folder), fs::Permissions::from_mode(0o777)).unwrap();
        }
        for file in ["outside/canary", "workspace/.git/config", "workspace/x.env"] {
            fs::write(base.join(file), "as it was").unwrap();
            fs::set_permissions(base.join(file), fs::Permissions::from_mode(0o666)).unwrap();
        }
        Self(base.canonicalize().unwrap())
    }

    fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    fn plan(&self, line: &str) -> (Plan, Command) {
        let policy = SandboxPolicy::workspace_write(self.workspace())
            .deny_matching(self.workspace(), "*.env")
            .build()
            .unwrap();
        let program = Program::open("/bin/sh").unwrap();
        let directory = WorkingDirectory::open(self.workspace()).unwrap();
        let command = Command::new(["sh", "-c", line], program, directory)
            .unwrap()
            .with_environment([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("OUT", self.outside()),
            ])
            .unwrap();
        (Plan::confined(&policy, &command).unwrap(), command)
    }

    fn outside(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// What `line` writes into the file `seen` of the workspace, under a plan that `changed` alone.
    fn seen(&self, line: &str, changed: impl Fn(Plan) -> Plan) -> String {
        let line = format!("exec > seen 2>/dev/null; {line}");
        let (plan, command) = self.plan(&line);
        let run = Sandbox::start(&changed(plan), command)
            .unwrap()
            .wait()
            .unwrap();
        assert!(matches!(run.ending, Ending::Exited(_)), "{:?}", run.ending);
        fs::read_to_string(self.workspace().join("seen")).unwrap()
    }

    fn is_as_it_was(&self, name: &str) -> bool {
        fs::read_to_string(self.0.join(name)).unwrap() == "as it was"
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn no_mounts() -> Vec<Operation> {
    let access = Mounted::ReadWrite;
    vec![Operation::OwnTree, Operation::Processes { access }]
}

const WRITES: &str = "echo x > $OUT/outside/canary; echo x > $OUT/outside/new; rm -f $OUT/outside/canary; \
                      mv new $OUT/outside/moved; chmod 600 $OUT/outside/canary; echo WROTE > in && cat in";

#[test]
fn the_mounts_hold_alone() {
    let lab = Lab::new();
    let line = format!("{WRITES}; cat x.env; echo x > .git/config; mv .git g; rm -rf .git");
    let seen = lab.seen(&line, |plan| Plan {
        landlock: None,
        filters: Vec::new(),
        ..plan
    });
    assert_eq!(seen, "WROTE\n");
    assert!(lab.is_as_it_was("outside/canary") && lab.is_as_it_was("workspace/.git/config"));
    assert_eq!(fs::read_dir(lab.0.join("outside")).unwrap().count(), 1);
}

#[test]
fn landlock_holds_alone() {
    let lab = Lab::new();
    let line = format!("{WRITES}; unshare -U -m sh -c 'mount --bind / /mnt && echo MOUNTED'");
    let workspace = lab.workspace();
    let seen = lab.seen(&line, |plan| Plan {
        operations: no_mounts(),
        placeholders: Vec::new(),
        landlock: Some(Domain::Writes {
            beneath: vec![workspace.clone()],
            files: Vec::new(),
            reads: Readable::Everything,
            devices: vec!["/dev".into()],
        }),
        filters: sys::landlock_abi()
            .ok()
            .and_then(landlock::beside)
            .into_iter()
            .collect(),
        ..plan
    });
    assert_eq!(seen, "WROTE\n");
    assert!(lab.is_as_it_was("outside/canary"));
    assert_eq!(fs::read_dir(lab.0.join("outside")).unwrap().count(), 1);
}

/// What stands beside a Landlock that does not judge truncation, on whichever kernel this is.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_file_is_emptied_that_was_not_opened_to_be_written() {
    let lab = Lab::new();
    // truncate; open and openat, to be read and to be neither read nor written; openat2 and io_uring_setup; at last, with
    // leave by Landlock, openat to be written.
    let script = "my $f = qq($ENV{OUT}/outside/canary); my $h = pack q(Q3), 512, 0, 0; \
                  for my $c ([76,$f,0],[2,$f,512],[2,$f,515],[257,-100,$f,512],[257,-100,$f,515],[437,-100,$f,$h,24],[425,1,0]) { \
                  my $r = syscall(shift @$c, @$c); print $r < 0 ? $!+0 : q(done), q( ) } \
                  print -s $f, q( ); syscall(257, -100, $f, 513) < 0 or print -s $f";
    let line = format!("perl -e '{script}'");
    let bare = |filters: &[Filter]| {
        lab.seen(&line, |plan| Plan {
            operations: no_mounts(),
            placeholders: Vec::new(),
            landlock: None,
            filters: filters.to_vec(),
            observed: Observing::Nothing,
            ..plan
        })
    };
    assert_eq!(bare(&[Filter::Truncation]), "13 13 13 13 13 38 38 9 0");
    // The probe can tell: without the filter the first of them empties it.
    let seen = bare(&[]);
    assert!(seen.starts_with("done done "), "{seen}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_filters_hold_alone() {
    let lab = Lab::new();
    // unshare with a new user namespace, mount, bpf, keyctl, userfaultfd, perf_event_open, an AF_PACKET socket.
    let script = "for my $c ([272,0x10000000],[165,0],[321,0],[250,0],[323,0],[298,0],[41,17]) { \
                  my $r = syscall($c->[0], $c->[1], 3, 0, 0, 0); print $r, q(:), $!+0, q( ) }";
    let line = format!("perl -e '{script}'");
    let bare = |filters: Vec<Filter>| {
        lab.seen(&line, |plan| Plan {
            operations: no_mounts(),
            placeholders: Vec::new(),
            landlock: None,
            filters: if filters.is_empty() {
                Vec::new()
            } else {
                plan.filters.clone()
            },
            ..plan
        })
    };
    let refused = "-1:1 -1:1 -1:1 -1:1 -1:1 -1:1 -1:97 ";
    assert_eq!(bare(vec![Filter::Surface]), refused);
    // The probe can tell: without the filters a namespace is made.
    assert!(
        bare(Vec::new()).starts_with("0:"),
        "the probe fires nowhere"
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_missing_capabilities_hold_alone() {
    let lab = Lab::new();
    // mount, sethostname, chroot, a raw socket, setting the time.
    let script = "for my $c ([165,q(x),q(/mnt),q(tmpfs)],[170,q(x),1,0],[161,q(/),0,0],[41,2,3,1],[227,0,0,0]) { \
                  my $r = syscall($c->[0], $c->[1], $c->[2], $c->[3], 0, 0); print $r, q( ) }";
    let line = format!(
        "perl -e '{script}'; grep -c '^Cap.*0000000000000000' /proc/self/status; grep NoNewPrivs /proc/self/status"
    );
    let seen = lab.seen(&line, |plan| Plan {
        operations: no_mounts(),
        placeholders: Vec::new(),
        landlock: None,
        filters: Vec::new(),
        ..plan
    });
    assert_eq!(seen, "-1 -1 -1 -1 -1 5\nNoNewPrivs:\t1\n");
}

/// The error of a start from a thread in which the call `number` fails with `errno`.
fn start_without(number: libc::c_long, errno: i32) -> SandboxError {
    let lab = Lab::new();
    let (plan, command) = lab.plan("echo RAN > ran");
    let start = move || {
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: u16::try_from(code).unwrap(),
            jt,
            jf,
            k,
        };
        let refuse = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        let program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                u32::try_from(number).unwrap(),
            ),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        rustix::thread::set_no_new_privs(true).unwrap();
        sys::child::seccomp_install(&program).unwrap();
        Sandbox::start(&plan, command).map(drop)
    };
    let error = std::thread::spawn(start).join().unwrap().unwrap_err();
    assert!(!Path::new(&lab.workspace()).join("ran").exists());
    let left = fs::read_dir(lab.workspace()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "call {number}, {errno}, {error:?}: {left:?}");
    error
}

#[test]
fn a_wall_that_is_missing_is_named_and_nothing_starts() {
    // Started as root, the workspace is attached for another user before anything is made read-only.
    let root = rustix::process::geteuid().is_root();
    let attached_by = if root {
        Wall::UserMapping
    } else {
        Wall::Mounts
    };
    for (call, errno, missing) in [
        (
            libc::SYS_landlock_create_ruleset,
            libc::ENOSYS,
            Wall::Landlock,
        ),
        (
            libc::SYS_landlock_create_ruleset,
            libc::EOPNOTSUPP,
            Wall::Landlock,
        ),
        (
            libc::SYS_landlock_restrict_self,
            libc::EPERM,
            Wall::Landlock,
        ),
        (libc::SYS_seccomp, libc::ENOSYS, Wall::Seccomp),
        (libc::SYS_mount_setattr, libc::EPERM, attached_by),
        (libc::SYS_move_mount, libc::EPERM, Wall::Mounts),
    ] {
        let error = start_without(call, errno);
        let named = matches!(&error, SandboxError::Unsupported { wall, .. } if *wall == missing);
        assert!(named, "{missing:?}: {error:?}");
    }
}
