//! Further attempts, one by one: roundabout ways to a protected name or a hidden file, the kernel's own doors, and what is tried
//! to stay, to starve the machine or to use a neighbour. Judged from outside, or by what was printed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use sandbox::{Plan, Sandbox};

use crate::harness::{Lab, captured, find, finish};

/// A workspace with a repository, a nested one, a hidden file and a folder beside it.
fn lab() -> Lab {
    find("perl");
    let lab = Lab::new();
    for folder in [".git/hooks", "sub/.GIT/hooks", "deep/er"] {
        fs::create_dir_all(lab.workspace.join(folder)).unwrap();
    }
    fs::write(lab.workspace.join(".git/config"), "as it was").unwrap();
    fs::write(lab.workspace.join("sub/.GIT/config"), "as it was").unwrap();
    fs::write(lab.workspace.join("deep/er/x.env"), "hunter2").unwrap();
    lab.outside("canary", "as it was");
    lab
}

fn run(lab: &Lab, line: &str) -> String {
    let policy = lab
        .policy()
        .deny_matching(&lab.workspace, "**/*.env")
        .build()
        .unwrap();
    let seen = lab.under(&policy, line);
    for (path, is) in [
        (lab.workspace.join(".git/config"), "as it was"),
        (lab.workspace.join("sub/.GIT/config"), "as it was"),
        (lab.workspace.join("deep/er/x.env"), "hunter2"),
        (lab.base.join("canary"), "as it was"),
    ] {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, is, "{}: {line}", path.display());
    }
    let hooks = [".git/hooks", "sub/.GIT/hooks"].map(|hooks| lab.workspace.join(hooks));
    for folder in hooks {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "{line}");
    }
    assert!(!seen.output.contains("hunter2"), "{line}: {}", seen.output);
    seen.output
}

#[test]
fn no_roundabout_way_leads_to_a_protected_name() {
    let lab = lab();
    for line in [
        // A repository whose name is spelled otherwise, which on some file systems is the same.
        "echo x > sub/.GIT/hooks/x; echo x > sub/.GIT/config; mv sub/.GIT g; rm -rf sub",
        // Names that lead through links of /proc.
        "echo x > /proc/self/cwd/.git/config; echo x > /proc/self/root$PWD/.git/hooks/x",
        "exec 7< .; echo x > /proc/self/fd/7/.git/config; echo x > /proc/$$/cwd/.git/hooks/x",
        // From a folder of another name, and from one that is gone.
        "cd deep && echo x > ../.git/hooks/x; mkdir d; cd d; rmdir ../d; echo x > ../../.git/hooks/x",
        // A file without a name is given that one; a hard link; one in place of the other.
        "perl -e 'sysopen F, \".\", 020200002, 0644; syswrite F, \"x\"; syscall 265, -100, \"/proc/self/fd/\" . fileno(F), -100, \".git/hooks/x\", 0x400'",
        "ln .git/config c; echo x > c; ln -s .git/config s; echo x > s; cp -l .git/config c2; echo x > c2",
        "mkdir d; perl -e 'syscall 316, -100, \".git\", -100, \"d\", 2; syscall 316, -100, \"d\", -100, \".git\", 0; syscall 316, -100, \".git\", -100, \"d\", 4'",
        // By way of what is around it.
        "mv deep d2; mv ../workspace ../w2; mv $PWD /tmp/w; rmdir ../workspace",
        // Changed without being written.
        "chmod 777 .git .git/config; touch -d 2001-01-01 .git/config; perl -e 'syscall 188, \".git/config\", \"user.x\", \"1\", 1, 0'",
        "perl -e 'truncate \".git/config\", 0; open F, \"<\", \".git/config\"; syscall 285, fileno(F), 3, 0, 4'",
    ] {
        run(&lab, line);
    }
    let config = fs::metadata(lab.workspace.join(".git/config")).unwrap();
    assert!(config.mtime() > 1_500_000_000 && config.mode() & 0o022 == 0);
}

#[test]
fn no_roundabout_way_shows_a_hidden_file() {
    let lab = lab();
    for line in [
        "cat deep/er/x.env /proc/self/cwd/deep/er/x.env /proc/self/root$PWD/deep/er/x.env",
        "mv deep d; cat d/er/x.env; ln deep/er/x.env l; cat l; ln -s deep/er/x.env s; cat s",
        "perl -e 'syscall 257, -100, \"deep/er/x.env\", 010000000; open F, \"<\", \"/proc/self/fd/3\"; print <F>'",
        "cp -r deep copy; cat copy/er/x.env; tar cf - deep | cat; dd if=deep/er/x.env; sh deep/er/x.env",
        "cd deep/er && cat x.env ./x.env ../er/x.env; exec 8<x.env; cat <&8",
        "perl -e 'rename \"deep/er\", \"e2\"; open F, \"<\", \"e2/x.env\"; print <F>'",
        "chmod 777 deep/er/x.env; cat deep/er/x.env; rm -f deep/er/x.env; rm -rf deep/er; cat deep/er/x.env",
    ] {
        run(&lab, line);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn newer_calls_lead_to_a_protected_name_no_more_than_older_ones() {
    let lab = lab();
    let config = "my $c = \".git/config\"; my $h = \".git/hooks/x\"; my $n = \"x\" x 64;";
    for call in [
        // openat2 to write: as it is, the working directory as the root, and beneath it; to make one.
        "for my $r (0, 16, 8) { my $how = pack \"QQQ\", 1, 0, $r; my $f = syscall 437, -100, $c, $how, 24; syscall 1, $f, $n, 8 if $f >= 0 }",
        "for my $r (0, 16, 8) { my $how = pack \"QQQ\", 65, 0644, $r; syscall 437, -100, $h, $how, 24 }",
        // A descriptor that was opened to read, or only to name it, as the end of a copy within the kernel.
        "open R, \"<\", $c; open Z, \"<\", \"/dev/zero\"; pipe P, Q; syswrite Q, $n; syscall 275, fileno(P), 0, fileno(R), 0, 8, 0; \
         syscall 40, fileno(R), fileno(Z), 0, 8; syscall 326, fileno(Z), 0, fileno(R), 0, 8, 0",
        "my $f = syscall 257, -100, $c, 010000000; my $p = \"/proc/self/fd/$f\"; syscall 76, $p, 0; open W, \">\", $p and syswrite W, $n; \
         syscall 265, -100, $p, -100, $h, 0x400",
        // A walled process that puts up walls of its own gains nothing by them: a ruleset that handles nothing but making files.
        "my $a = pack \"Q\", 256; my $f = syscall 444, $a, 8, 0; syscall 157, 38, 1, 0, 0, 0; syscall 446, $f, 0; \
         for (\"../canary\", $c, $h) { open W, \">\", $_ and syswrite W, $n }",
        // Pages of the file changed in memory, by a mapping that may not be written and is asked to be.
        "my $f = syscall 257, -100, $c, 0; my $at = syscall 9, 0, 4096, 1, 1, $f, 0; syscall 10, $at, 4096, 3; \
         open Z, \"<\", \"/dev/zero\"; syscall 0, fileno(Z), $at, 4; syscall 26, $at, 4096, 4",
        // Attributes by the newer calls, and a whiteout in its place.
        "my $k = \"user.x\"; my $v = pack \"QLL\", unpack(\"Q\", pack \"p\", $n), 1, 0; syscall 463, -100, $c, 0, $k, $v, 16; \
         my $d = \"gone\"; syscall 316, -100, $c, -100, $d, 4; syscall 316, -100, $d, -100, $c, 2",
    ] {
        run(&lab, &format!("perl -e '{config} {call}'"));
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn newer_calls_show_a_hidden_file_no_more_than_older_ones() {
    let lab = lab();
    let hidden = "$| = 1; my $c = \"deep/er/x.env\"; my $b = \"\\0\" x 64;";
    for call in [
        "for my $r (0, 16, 8) { my $how = pack \"QQQ\", 0, 0, $r; my $f = syscall 437, -100, $c, $how, 24; \
         syscall(0, $f, $b, 64) > 0 and print $b if $f >= 0 }",
        "open R, \"<\", $c or exit; pipe P, Q; syscall 275, fileno(R), 0, fileno(Q), 0, 8, 0; syscall 40, 1, fileno(R), 0, 8",
        "my $d = syscall 257, -100, \"deep/er\", 010200000; my $n = \"x.env\"; my $f = syscall 257, $d, $n, 0; \
         syscall(0, $f, $b, 64) > 0 and print $b if $f >= 0",
        // Walls of one's own, and with them a fresh look.
        "my $a = pack \"Q\", 4; my $f = syscall 444, $a, 8, 0; syscall 446, $f, 0; open R, \"<\", $c and print <R>",
        // What lies beneath the cover, by the mount's own root.
        "opendir D, \"/proc/self/map_files\"; open R, \"<\", \"/proc/1/root$ENV{PWD}/$c\" and print <R>; \
         open R, \"<\", \"/proc/self/task/$$/root$ENV{PWD}/$c\" and print <R>",
    ] {
        run(&lab, &format!("perl -e '{hidden} {call}'"));
    }
}

#[test]
fn a_command_that_stops_everything_it_can_is_taken_down_in_time() {
    let lab = lab();
    let limits = sandbox::Limits {
        wall_time: Some(Duration::from_millis(700)),
        ..sandbox::Limits::default()
    };
    let policy = lab.policy().limits(limits).build().unwrap();
    let line = "sleep 50 & sleep 50 & kill -STOP 1; kill -STOP -1; kill -STOP $$; echo woken";
    let seen = lab.under(&policy, line);
    assert_eq!(seen.output, "");
    assert_eq!(seen.run.limit, Some(sandbox::LimitReached::WallTime));
}

/// Takes as many inotify instances and timers as there are, says so and waits for a line.
#[cfg(target_arch = "x86_64")]
const TAKES_ALL: &str = "my ($i, $t, @kept) = (0, 0); \
    while ($i < 20000) { my $f = syscall 294, 0; last if $f < 0; push @kept, $f; $i++ } \
    while ($t < 200000) { my $id = \"\\0\" x 8; last if syscall(222, 0, 0, $id) < 0; $t++ } \
    print \"$i instances $t timers\\n\"";

#[cfg(target_arch = "x86_64")]
#[test]
fn what_the_kernel_counts_by_user_is_left_to_the_users_other_programs() {
    let lab = lab();
    let line = format!("perl -e '$| = 1; {TAKES_ALL}; sleep 3'");
    let (command, output) = captured(lab.command(&line));
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let running = Sandbox::start(&plan, command).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let outside = std::process::Command::new(find("perl"))
        .args([
            "-e",
            "my $id = \"\\0\" x 8; print syscall(294, 0) >= 0, syscall(222, 0, 0, $id) >= 0",
        ])
        .output()
        .unwrap();
    let seen = finish(running, output);
    assert_eq!(outside.stdout, b"11", "{}", seen.output);
    let counts: Vec<u32> = seen
        .output
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(
        matches!(counts[..], [_, timers] if timers <= 4096),
        "{}",
        seen.output
    );
}

#[test]
fn the_kernels_own_doors_are_shut() {
    let lab = lab();
    let doors = "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hostname /proc/sys/vm/overcommit_memory \
         /proc/sys/fs/binfmt_misc/register /proc/sysrq-trigger /proc/self/oom_score_adj /proc/self/uid_map /proc/self/mem \
         /proc/self/attr/current /proc/1/comm /proc/1/mem /proc/1/environ /dev/kmsg /proc/kmsg /dev/mem /dev/kvm /dev/fuse /dev/net/tun \
         /sys/kernel/uevent_helper /sys/power/state /sys/fs/cgroup/cgroup.procs /sys/kernel/mm/transparent_hugepage/enabled";
    let script = format!(
        "for f in {doors}; do (: >> $f) 2>/dev/null && echo open $f; done; mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup; true"
    );
    assert_eq!(run(&lab, &script), "");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_opens_the_kernel_further_is_refused() {
    let lab = lab();
    // Each prints what was not refused. READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, TIOCSETD, TIOCSTI by the lower half of its word,
    // memfd_secret, a program out of memory, fanotify, handles, process_vm_writev, kcmp; iopl, ioperm, syslog, acct, a clock,
    // a module, quotas by descriptor, modify_ldt, what was `uselib`; a mount's own calls.
    for (call, arguments) in [
        ("135", "0x0400000"),
        ("135", "0x0100000"),
        ("16", "0, 0x5423, $buffer"),
        ("16", "0, 0x5412 | 1 << 32, $buffer"),
        ("447", "0"),
        ("319", "$buffer, 0"),
        ("300", "0, 0"),
        ("304", "-100, $buffer, 0"),
        ("311", "$$, $buffer, 1, $buffer, 1, 0"),
        ("312", "$$, $$, 0, 0, 0"),
        ("172", "3"),
        ("173", "0x80, 1, 1"),
        ("103", "3, $buffer, 64"),
        ("163", "$buffer"),
        ("227", "0, $buffer"),
        ("313", "0, $buffer, 0"),
        ("443", "0, 0, 0, $buffer"),
        ("154", "1, $buffer, 16"),
        ("134", "$buffer"),
        ("432", "0, 0, 0"),
        ("433", "-100, $buffer, 0"),
        ("467", "-100, $buffer, 0, $buffer, 32"),
        // A process of a number or in a control group of its choice.
        ("435", "pack(\"Q10Q\", (0) x 8, 1, 0, 0), 88"),
        ("435", "pack(\"Q11\", 0x200000000, (0) x 9, 0), 88"),
    ] {
        let line = format!(
            "perl -e '$buffer = \"\\0\" x 64; $! = 0; print \"done\" if syscall({call}, {arguments}) >= 0 or ($! != 1 and $! != 38)'"
        );
        assert_eq!(run(&lab, &line), "", "{call}({arguments})");
    }
    // Asking, and what old programs set, goes on.
    let line = "perl -e 'print syscall(135, 0xffffffff) >= 0 ? 1 : 0, syscall(135, 0x0040000) >= 0 ? 1 : 0'";
    assert_eq!(run(&lab, line), "11");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn newer_calls_tell_and_change_nothing_of_others() {
    let lab = lab();
    for call in [
        // The init's memory is put aside, and its pages counted.
        "my $p = syscall 434, 1, 0; my $v = pack \"QQ\", 4096, 4096; \
         for my $how (8, 20, 21) { print \"advised $how\" if syscall(440, $p, $v, 1, $how, 0) >= 0 }",
        // Mounts of other namespaces, by number: no more than the command's own are listed or told.
        "my ($n, $b) = (0, \"\\0\" x 4096); for my $ns (1 .. 5000) { my $of = pack \"LLQQQ\", 32, 0, ~0, 0, $ns; \
         $n++ if syscall(458, $of, $b, 64, 0) >= 0 } print \"lists $n\" if $n > 1",
        // The hidden file's pages in memory, by a descriptor that names it alone.
        "my $c = \"deep/er/x.env\"; my $f = syscall 257, -100, $c, 010000000; my $all = pack \"QQ\", 0, 0; \
         my $told = \"\\0\" x 40; print \"counted\" if $f >= 0 and syscall(451, $f, $all, $told, 0) == 0",
    ] {
        assert_eq!(run(&lab, &format!("perl -e '{call}'")), "", "{call}");
    }
}

#[test]
fn a_neighbour_in_the_sandbox_cannot_be_taken_over_and_the_init_neither() {
    let lab = lab();
    let line = "sleep 30 & n=$!; perl -e 'for my $p (@ARGV) { print qq(traced $p) if syscall(101, 16, $p, 0, 0) == 0; \
                open(F, \"+<\", \"/proc/$p/mem\") and print qq(mem $p); }' $n 1; kill -9 1; kill -STOP 1; kill $n; echo alive";
    assert_eq!(
        run(
            &lab,
            &line
                .replace("qq(traced $p)", "\"traced\"")
                .replace("qq(mem $p)", "\"mem\"")
        ),
        "alive\n"
    );
}

#[test]
fn nothing_that_was_set_to_come_later_comes() {
    let lab = lab();
    // A double fork, a timer, a signal at the end of input, a job of the user's: none outlives the command.
    let line = "(setsid sh -c '(sleep 1; echo late > late1) &' &); perl -e 'if (fork == 0) { setpgrp; \
                $SIG{ALRM} = sub { open F, \">late2\"; exit }; alarm 1; sleep 9 }'; \
                (trap 'echo x > late3' EXIT TERM HUP INT; sleep 9) & sleep 0.1; echo done";
    assert!(run(&lab, line).starts_with("done\n"));
    // What came while the command still ran came in time.
    for name in ["late1", "late2", "late3"] {
        fs::remove_file(lab.workspace.join(name)).unwrap_or_default();
    }
    std::thread::sleep(Duration::from_millis(1300));
    for name in ["late1", "late2", "late3"] {
        assert!(!lab.workspace.join(name).exists(), "{name}");
    }
}

#[test]
fn what_is_left_in_the_workspace_carries_no_power() {
    let lab = lab();
    let line = "cp /bin/true tool; chmod 6755 tool; mknod disk b 8 0; mkfifo pipe; \
                perl -e 'syscall 188, \"tool\", \"security.capability\", \"\\1\\0\\0\\2\" . \"\\377\" x 16, 20, 0'; true";
    run(&lab, line);
    assert!(!lab.workspace.join("disk").exists());
    let tool = fs::metadata(lab.workspace.join("tool")).unwrap();
    // It is the caller's file: with that bit, whoever started it would be the caller, root for one.
    assert_eq!(tool.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(tool.mode() & 0o4000, 0, "{:o}", tool.mode());
    run(
        &lab,
        "cp /bin/true t2; perl -e 'chmod 04755, \"t2\"; open F, \"t2\"; syscall 91, fileno(F), 04755; syscall 452, -100, \"t2\", 04755, 0'",
    );
    let other = fs::metadata(lab.workspace.join("t2")).unwrap();
    assert_eq!(other.mode() & 0o4000, 0, "{:o}", other.mode());
}
