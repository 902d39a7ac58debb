//! A host that makes no namespaces: nothing runs there unless less was chosen by name, and then Landlock and the filters
//! alone keep what the policy says.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use harness::{Missing, Ran, Stage, lacks, launches};

/// Starts a program where no user namespace can be made any more, as a user without any of root's powers.
const WITHOUT_NAMESPACES: [&str; 8] = [
    "unshare",
    "--user",
    "--map-user=1000",
    "--map-group=1000",
    "--keep-caps",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps -all --inh-caps -all \"$@\"",
];

/// A stage on such a host, or none where this machine cannot make one.
fn stage() -> Option<Stage> {
    let launcher = WITHOUT_NAMESPACES.iter().copied().chain(["sh"]);
    if launches(&launcher.collect::<Vec<_>>()) {
        Some(Stage::new())
    } else {
        lacks(Missing::UserNamespace, "what happens without namespaces");
        None
    }
}

fn run(stage: &Stage, flags: &[&str], script: &str) -> Ran {
    let launcher = WITHOUT_NAMESPACES.iter().copied().chain(["sh"]);
    stage
        .exec(flags, &["sh", "-c", script])
        .launched_by(launcher)
        .ran()
}

#[test]
fn nothing_runs_unless_less_was_chosen_by_name() {
    let Some(stage) = stage() else { return };
    let trace = stage.workspace("trace");
    let script = format!("touch '{}'", trace.display());
    let ran = run(&stage, &[], &script);
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`user.max_user_namespaces` is 0"),
        "{}",
        ran.stderr
    );
    assert!(!trace.exists());
    let launcher = WITHOUT_NAMESPACES.iter().copied().chain(["sh"]);
    let doctor = stage.runner().arg("doctor").launched_by(launcher).ran();
    assert_eq!(doctor.code(), 1, "{}", doctor.text());
    assert!(doctor.text().contains("MISSING"), "{}", doctor.text());
}

#[test]
fn two_walls_keep_the_files_that_the_policy_closes() {
    let Some(stage) = stage() else { return };
    fs::create_dir(stage.workspace("src")).expect("a folder");
    stage.file("src/code", "old\n");
    fs::write(stage.outside("note"), "outside\n").expect("a file");
    fs::write(stage.codex("auth.json"), "hunter2\n").expect("a file");
    let script = format!(
        "echo new > src/code; echo x > src/made; echo x > $TMPDIR/t && cat $TMPDIR/t; \
         cat '{codex}/auth.json' {state}/*; \
         echo x > .git/hooks/pre-commit; echo x >> .git/config; echo x > .vscode; echo x > '{outside}/made'; \
         echo x >> '{outside}/note'; rm '{outside}/note'; mv '{outside}/note' src/; ln '{outside}/note' src/link; \
         chmod 000 '{outside}/note'; touch -d 2001-01-01 '{outside}/note'; echo done",
        codex = stage.codex("").display(),
        state = stage.state("").display(),
        outside = stage.outside("").display(),
    );
    let ran = run(&stage, &["--best-effort"], &script);
    assert_eq!(ran.text(), "x\ndone\n", "{}", ran.stderr);
    assert_eq!(
        fs::read_to_string(stage.workspace("src/code")).expect("text"),
        "new\n"
    );
    assert!(stage.workspace("src/made").exists());
    assert_eq!(
        fs::read_to_string(stage.outside("note")).expect("text"),
        "outside\n"
    );
    for made in [".git/hooks/pre-commit", ".vscode", "src/note", "src/link"] {
        assert!(!stage.workspace(made).exists(), "{made}");
    }
    assert!(!stage.outside("made").exists());
    let changed = fs::metadata(stage.outside("note"))
        .and_then(|found| found.modified())
        .expect("a time");
    assert!(
        changed.elapsed().expect("past").as_secs() < 3600,
        "its time was changed"
    );
    assert_eq!(ran.report["confinement"]["walls"], "reduced");
    assert!(
        ran.report["notes"]
            .to_string()
            .contains("without namespaces"),
        "{}",
        ran.report
    );
}

#[test]
fn denied_reads_are_carved_out_of_what_is_given() {
    let Some(stage) = stage() else { return };
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"private\" = \"deny\"\n\"**/*.env\" = \"deny\"\n\"docs\" = \"read\"\n",
    );
    for folder in ["private", "docs", "src"] {
        fs::create_dir(stage.workspace(folder)).expect("a folder");
    }
    stage.file("private/diary", "hunter2\n");
    stage.file("src/.env", "hunter2\n");
    stage.file("docs/guide", "read me\n");
    let script =
        "cat private/diary src/.env; cat docs/guide; echo x > docs/guide; echo x > src/made; ls";
    let ran = run(&stage, &["--best-effort"], script);
    assert!(!ran.text().contains("hunter2"), "{}", ran.text());
    assert!(
        ran.text().contains("read me"),
        "{} {}",
        ran.text(),
        ran.stderr
    );
    assert_eq!(
        fs::read_to_string(stage.workspace("docs/guide")).expect("text"),
        "read me\n"
    );
}

#[test]
fn no_network_no_socket_and_no_signal_of_the_host_is_reached() {
    let Some(stage) = stage() else { return };
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    udp.set_nonblocking(true).expect("set");
    let path = stage.outside("socket");
    let unix = UnixListener::bind(&path).expect("a socket");
    for listener in [tcp.set_nonblocking(true), unix.set_nonblocking(true)] {
        listener.expect("set");
    }
    let script = format!(
        "perl -e 'use Socket; \
           socket(S, PF_INET, SOCK_STREAM, 0) && connect(S, sockaddr_in({tcp}, INADDR_LOOPBACK)) && print \"tcp\"; \
           socket(M, PF_INET, SOCK_STREAM, 262) && connect(M, sockaddr_in({tcp}, INADDR_LOOPBACK)) && print \"mptcp\"; \
           socket(U, PF_INET, SOCK_DGRAM, 0) && send(U, \"x\", 0, sockaddr_in({udp}, INADDR_LOOPBACK)) && print \"udp\"; \
           socket(X, PF_UNIX, SOCK_STREAM, 0) && connect(X, sockaddr_un(\"{unix}\")) && print \"unix\"; \
           socketpair(A, B, PF_UNIX, SOCK_STREAM, 0) && print \"pair\"; \
           kill(0, {pid}) && print \"kill\"; \
           open(F, \"/proc/{pid}/environ\") && read(F, $x, 1) && print \"environ\"; \
           unshare_not_there() if 0; print \" end\"'; unshare --user true && echo namespace; exit 0",
        tcp = tcp.local_addr().expect("an address").port(),
        udp = udp.local_addr().expect("an address").port(),
        unix = path.display(),
        pid = std::process::id(),
    );
    let ran = run(&stage, &["--best-effort"], &script);
    assert_eq!(ran.text(), "pair end", "{}", ran.stderr);
    assert!(tcp.accept().is_err() && unix.accept().is_err());
    assert!(udp.recv(&mut [0; 8]).is_err());
}

#[test]
fn what_stays_behind_is_ended_and_what_is_temporary_is_gone() {
    let Some(stage) = stage() else { return };
    let ran = run(
        &stage,
        &["--best-effort"],
        "setsid sleep 321 & echo $! $TMPDIR",
    );
    let text = ran.text();
    let (pid, folder) = text.trim().split_once(' ').expect("two words");
    assert!(!std::path::Path::new(folder).exists());
    let left = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(!left.contains("321"), "it is still there");
}

#[test]
fn full_walls_stand_where_they_can_whoever_asked_for_less() {
    let stage = Stage::new();
    let ran = stage.exec(&["--best-effort"], &["true"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(ran.report["confinement"]["walls"], "confined");
}

#[test]
fn an_escalation_does_not_stand_on_fewer_walls() {
    let Some(stage) = stage() else { return };
    let canary = stage.outside("canary");
    let script = format!("touch '{}'", canary.display());
    let ran = run(
        &stage,
        &["--best-effort", "--escalate", "--justification", "try"],
        &script,
    );
    assert_ne!(ran.code(), 0);
    assert!(!canary.exists(), "{}", ran.stderr);
}
