//! Kernel interfaces that are refused, and what is inherited.

use std::os::fd::AsRawFd as _;

use crate::harness::{Lab, find};

/// Calls by number, on the processor the numbers are known for, and prints those that were not refused with `errno`.
#[cfg(target_arch = "x86_64")]
fn not_refused(lab: &Lab, calls: &[(u32, &str)], errno: u32) -> String {
    find("perl");
    let calls = calls.iter().map(|(number, arguments)| {
        format!("my $r = syscall({number}{arguments}); print qq({number} $r \" . ($!+0) . \"\\n) unless $r == -1 && $! == {errno};")
    });
    let script = calls
        .map(|call| call.replace("qq(", "\"").replace("\\n)", "\\n\""))
        .collect::<Vec<_>>()
        .join(" ");
    let script = script.replace("my $r", "$r");
    std::fs::write(lab.workspace.join("probe.pl"), script).unwrap();
    lab.confined("perl probe.pl").output
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_no_command_needs_are_refused() {
    let lab = Lab::new();
    // bpf, perf_event_open, userfaultfd, ptrace, keyctl, add_key, mount, umount2, pivot_root, setns, unshare with a new
    // user namespace, move_mount, open_tree, fsopen, mount_setattr, chroot, pidfd_getfd, init_module, kexec_load, swapon.
    let calls = [
        (321, ",0,0,0"),
        (298, ",0,0,0,0,0"),
        (323, ",0"),
        (101, ",0,0,0,0"),
        (250, ",0,0"),
        (248, ",0,0,0,0,0"),
        (165, ",0,0,0,0,0"),
        (166, ",0,0"),
        (155, ",0,0"),
        (308, ",0,0"),
        (272, ",0x10000000"),
        (429, ",0,0,0,0,0"),
        (428, ",0,0,0"),
        (430, ",0,0"),
        (442, ",0,0,0,0,0"),
        (161, ",0"),
        (438, ",0,0,0"),
        (175, ",0,0,0"),
        (246, ",0,0,0,0"),
        (167, ",0,0"),
    ];
    assert_eq!(not_refused(&lab, &calls, 1), "");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_programs_must_believe_missing_are() {
    let lab = Lab::new();
    // io_uring_setup, clone3, and an x32 number.
    let calls = [(425, ",0,0"), (435, ",0,0"), (0x4000_0027, "")];
    assert_eq!(not_refused(&lab, &calls, 38), "");
}

#[test]
fn no_descriptor_of_the_caller_is_inherited() {
    let lab = Lab::new();
    let canary = lab.outside("canary", "x");
    let open = std::fs::File::open(&canary).unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let seen = lab.confined(&format!(
        "ls -1 /proc/self/fd; cat /proc/self/fd/{} ; true",
        open.as_raw_fd()
    ));
    assert!(seen.output.starts_with("0\n1\n2\n3\n"), "{}", seen.output);
    assert!(!seen.output.contains("\n4\n"), "{}", seen.output);
}

#[test]
fn nothing_of_the_caller_s_environment_is_inherited() {
    let lab = Lab::new();
    let seen = lab.confined(
        "env | cut -d= -f1 | grep -v -x -e PATH -e HOME -e PWD -e _ -e SHLVL -e OLDPWD; true",
    );
    assert_eq!(seen.output, "");
}

#[test]
fn the_init_shows_nothing() {
    let lab = Lab::new();
    let seen = lab.confined(
        "cat /proc/1/environ /proc/1/maps; ls /proc/1/fd /proc/1/root; kill -9 1; echo alive",
    );
    assert!(seen.output.ends_with("alive\n"), "{}", seen.output);
    assert_eq!(
        seen.output.matches("ermission denied").count(),
        4,
        "{}",
        seen.output
    );
}

#[test]
fn the_terminal_cannot_be_typed_into() {
    find("perl");
    let lab = Lab::new();
    let seen = lab
        .confined(r#"perl -e 'my $c = "x"; print ioctl(STDIN, 0x5412, $c) ? "TYPED" : "refused"'"#);
    assert_eq!(seen.output, "refused");
}

#[test]
fn a_terminal_given_is_the_command_s_own() {
    let lab = Lab::new();
    let seen = lab.confined("echo to the terminal > /dev/tty && test -t 0 && test -t 1 && ps -o stat= -p $$ | grep -q s && echo leader");
    assert_eq!(seen.output, "to the terminal\nleader\n");
}
