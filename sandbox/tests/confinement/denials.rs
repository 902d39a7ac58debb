//! What was refused is told with its path or call and the rule, and nothing else is.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use sandbox::{Observing, Plan, Reason, Sandbox, SandboxDenial, SandboxPolicy};

use crate::harness::{HOST_SOCKETS, Lab, Seen, captured, find, finish};

fn observed(lab: &Lab, policy: &SandboxPolicy, observing: Observing, line: &str) -> Seen {
    let (command, output) = captured(lab.command(line));
    let plan = Plan::confined(policy, &command)
        .unwrap()
        .observing(observing);
    finish(Sandbox::start(&plan, command).unwrap(), output)
}

fn denials(lab: &Lab, line: &str) -> Vec<SandboxDenial> {
    let policy = lab.policy().build().unwrap();
    let seen = observed(lab, &policy, Observing::Changes, line);
    seen.run
        .denials
        .unwrap_or_else(|| panic!("nothing was observed: {}", seen.output))
}

fn write(call: &str, path: impl AsRef<Path>, by: Reason) -> SandboxDenial {
    SandboxDenial::Write {
        call: call.to_owned(),
        path: path.as_ref().to_path_buf(),
        by,
    }
}

fn paths(denials: &[SandboxDenial]) -> Vec<PathBuf> {
    let path = |denial: &SandboxDenial| {
        if let SandboxDenial::Write { path, .. } | SandboxDenial::Read { path, .. } = denial {
            Some(path.clone())
        } else {
            None
        }
    };
    denials.iter().filter_map(path).collect()
}

#[test]
fn what_is_allowed_is_no_denial() {
    let lab = Lab::new();
    let line = "echo x > file; mkdir -p a/b; mv file a; rm -rf a; echo x > /tmp/x; echo x > /dev/null; echo x > /dev/stdout; \
                cat /etc/passwd > copy; ln -s copy link; chmod 600 copy; mkdir -p /tmp /usr/bin; rm -f /etc/there-is-none; \
                cat /there/is/none; echo x > /there/is/none; true";
    assert_eq!(denials(&lab, line), []);
}

#[test]
fn a_write_outside_is_told_by_every_way_there() {
    let lab = Lab::new();
    let canary = lab.outside("canary", "x");
    std::os::unix::fs::symlink(&lab.base, lab.workspace.join("out")).unwrap();
    let line = format!(
        "echo x > {0}; echo x > ../canary; echo x > out/canary; cd /; echo x > .{0}; ln -s {0} /tmp/l",
        canary.display()
    );
    // The first word names the call, which differs by library and processor.
    let seen = denials(&lab, &line);
    assert_eq!(paths(&seen), [canary.as_path()], "{seen:?}");
    assert!(matches!(
        &seen[0],
        SandboxDenial::Write {
            by: Reason::Default,
            ..
        }
    ));
    assert_eq!(fs::read_to_string(canary).unwrap(), "x");
}

#[test]
fn every_kind_of_change_is_told() {
    find("perl");
    let lab = Lab::new();
    for name in ["a", "b", "c", "d", "e"] {
        lab.outside(name, "x");
    }
    fs::write(lab.workspace.join("in"), "x").unwrap();
    let script = "mkdir '../new1'; unlink '../a'; rename '../b', '../b2'; rename 'in', '../new2'; symlink 'x', '../new3'; \
                  chmod 0600, '../c'; truncate '../d', 0; link 'in', '../new4'; rmdir '../workspace'; open(F, '>>', '../e')";
    fs::write(lab.workspace.join("probe.pl"), script).unwrap();
    let seen = denials(&lab, "perl probe.pl");
    let mut names: Vec<_> = paths(&seen)
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    let expected = [
        "a", "b", "b2", "c", "d", "e", "new1", "new2", "new3", "new4",
    ];
    for name in expected {
        assert!(names.iter().any(|known| known == name), "{name}: {seen:?}");
    }
}

#[test]
fn a_protected_name_is_told_as_such() {
    let lab = Lab::new();
    fs::create_dir(lab.workspace.join(".git")).unwrap();
    let seen = denials(&lab, "mkdir .git/hooks; true");
    let path = lab.workspace.join(".git");
    let by = Reason::ProtectedName { path: path.clone() };
    let expected = |call| vec![write(call, path.join("hooks"), by.clone())];
    assert!(
        seen == expected("mkdir") || seen == expected("mkdirat"),
        "{seen:?}"
    );
}

#[test]
fn a_connection_that_leads_nowhere_is_told_and_loopback_is_not() {
    let _alone = HOST_SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    find("perl");
    let lab = Lab::new();
    let socket = lab.base.join("host.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let script = format!(
        "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, pack_sockaddr_in(443, inet_aton('192.0.2.1'))); \
         socket(my $l, PF_INET, SOCK_STREAM, 0); connect($l, pack_sockaddr_in(9, inet_aton('127.0.0.1'))); \
         socket(my $u, PF_UNIX, SOCK_STREAM, 0); connect($u, pack_sockaddr_un('{}'));",
        socket.display()
    );
    fs::write(lab.workspace.join("probe.pl"), script).unwrap();
    let connect = |address: &str| SandboxDenial::Connect {
        address: address.to_owned(),
    };
    let expected = [connect("192.0.2.1:443"), connect(&socket.to_string_lossy())];
    assert_eq!(denials(&lab, "perl probe.pl"), expected);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_that_the_filters_refuse_is_told_and_stays_refused() {
    find("perl");
    let lab = Lab::new();
    // mount, unshare with a new user namespace, ptrace, bpf, an AF_PACKET socket; clone3 and io_uring are silent.
    let script = "for my $c ([165,0,0,0,0,0],[272,0x10000000],[101,0,0,0,0],[321,0,0,0],[41,17,3,0],[435,0,0],[425,0,0]) { \
                  my $r = syscall($c->[0], $c->[1] // 0, $c->[2] // 0, $c->[3] // 0, $c->[4] // 0, $c->[5] // 0); \
                  print $r, ':', $!+0, ' ' }";
    fs::write(lab.workspace.join("probe.pl"), script).unwrap();
    let policy = lab.policy().build().unwrap();
    let seen = observed(&lab, &policy, Observing::Changes, "perl probe.pl");
    assert_eq!(seen.output.trim(), "-1:1 -1:1 -1:1 -1:1 -1:97 -1:38 -1:38");
    let call = |name: &str| SandboxDenial::SystemCall {
        name: name.to_owned(),
    };
    let family = "AF_PACKET".to_owned();
    let expected = vec![
        call("mount"),
        call("unshare"),
        call("ptrace"),
        call("bpf"),
        SandboxDenial::Socket { family },
    ];
    assert_eq!(seen.run.denials, Some(expected));
}

#[test]
fn a_denied_read_is_told_where_reads_are_observed() {
    let lab = Lab::new();
    fs::write(lab.workspace.join("x.env"), "SECRET").unwrap();
    let policy = lab
        .policy()
        .deny_matching(&lab.workspace, "*.env")
        .build()
        .unwrap();
    let seen = observed(
        &lab,
        &policy,
        Observing::Everything,
        "cat x.env; cat /etc/passwd > /dev/null; cat none",
    );
    let expected = SandboxDenial::Read {
        path: lab.workspace.join("x.env"),
        by: Reason::Pattern {
            pattern: "*.env".to_owned(),
        },
    };
    assert_eq!(seen.run.denials, Some(vec![expected]), "{}", seen.output);
}

#[test]
fn a_flood_of_refusals_is_bounded_and_counted() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let line = "i=0; while [ $i -lt 200 ]; do mkdir ../d$i; i=$((i+1)); done 2>/dev/null; true";
    let seen = observed(&lab, &policy, Observing::Changes, line);
    assert_eq!(seen.run.denials.unwrap().len(), 64);
    assert_eq!(seen.run.unlisted_denials, 136);
}

#[test]
fn a_command_nobody_observes_is_refused_all_the_same() {
    let lab = Lab::new();
    let canary = lab.outside("canary", "x");
    let policy = lab.policy().build().unwrap();
    let line = format!("echo y > {}; unshare -U true; echo RAN", canary.display());
    let seen = observed(&lab, &policy, Observing::Nothing, &line);
    assert_eq!(seen.run.denials, None);
    assert_eq!(seen.run.confinement.observed(), Observing::Nothing);
    assert!(seen.output.ends_with("RAN\n"), "{}", seen.output);
    assert_eq!(fs::read_to_string(canary).unwrap(), "x");
}

#[test]
fn many_commands_at_once_are_observed_each_by_its_own() {
    let lab = Lab::new();
    std::thread::scope(|scope| {
        let one = |number: usize| {
            let lab = &lab;
            scope.spawn(move || {
                let seen = denials(
                    lab,
                    &format!(
                        "for i in 1 2 3 4 5; do mkdir ../d{number}; echo x > f{number}; done; true"
                    ),
                );
                assert_eq!(paths(&seen), [lab.base.join(format!("d{number}"))]);
            })
        };
        let all: Vec<_> = (0..8).map(one).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_command_that_changes_a_path_while_it_is_read_gains_nothing() {
    find("perl");
    let lab = Lab::new();
    let canary = lab.outside("canary", "as it was");
    // Two threads of control on one memory are not in perl's reach; a fork that races on a link is.
    let line = format!(
        "(while :; do ln -sfn {0} l; ln -sfn /tmp l; done) & p=$!; \
         i=0; while [ $i -lt 300 ]; do echo x > l/canary; i=$((i+1)); done 2>/dev/null; kill $p; true",
        lab.base.display()
    );
    denials(&lab, &line);
    assert_eq!(fs::read_to_string(canary).unwrap(), "as it was");
}
