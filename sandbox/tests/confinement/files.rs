//! What can be written and read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use sandbox::{PrivateTmp, RanAs, SandboxPolicy};

use crate::harness::{Lab, is_root};

#[test]
fn the_workspace_can_be_written_and_its_files_belong_to_the_caller() {
    let lab = Lab::new();
    let seen = lab.confined("echo inside > new && mkdir folder && id -u");
    assert_eq!(seen.code(), Some(0), "{}", seen.output);
    let made = fs::metadata(lab.workspace.join("new")).unwrap();
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::read_to_string(lab.workspace.join("new")).unwrap(),
        "inside\n"
    );
}

#[test]
fn nothing_outside_the_workspace_can_be_written() {
    let lab = Lab::new();
    let canary = lab.outside("canary", "as it was\n");
    let line = format!(
        "echo x >> {0}; echo x > {0}2; chmod 777 {0}; rm -f {0}; mv {0} {0}3; ln {0} link; echo x >> link; touch {0}; true",
        canary.display()
    );
    lab.confined(&line);
    assert_eq!(fs::read_to_string(&canary).unwrap(), "as it was\n");
    assert_eq!(fs::metadata(&canary).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&lab.base).unwrap().count(), 2);
}

#[test]
fn a_read_only_policy_writes_nothing_but_the_private_folder() {
    let lab = Lab::new();
    fs::write(lab.workspace.join("file"), "text").unwrap();
    let policy = SandboxPolicy::read_only()
        .readable(&lab.workspace)
        .build()
        .unwrap();
    let seen = lab.under(
        &policy,
        "cat file; echo x > /tmp/x && echo kept; echo x > file; echo x > new",
    );
    assert!(seen.output.starts_with("textkept"), "{}", seen.output);
    assert_eq!(
        fs::read_to_string(lab.workspace.join("file")).unwrap(),
        "text"
    );
    assert!(!lab.workspace.join("new").exists());
}

#[test]
fn started_as_root_the_command_is_another_user_without_any_power() {
    let lab = Lab::new();
    let seen = lab.confined(
        "id -u; grep -c '^Cap.*0000000000000000' /proc/self/status; cat /etc/shadow && echo READ; true",
    );
    let expected = if is_root() {
        RanAs::AnotherUser
    } else {
        RanAs::Caller
    };
    assert_eq!(seen.run.confinement.ran_as(), expected);
    assert!(!seen.output.contains("READ"), "{}", seen.output);
    // Inherited, permitted, effective, bounding, ambient.
    assert!(
        seen.output
            .lines()
            .nth(1)
            .is_some_and(|line| line.trim() == "5"),
        "{}",
        seen.output
    );
    assert!(!seen.output.starts_with("0\n"), "{}", seen.output);
}

#[test]
fn what_is_hidden_below_a_folder_of_the_caller_alone_stays_hidden() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let private = lab.base.join("private");
    fs::create_dir_all(private.join("state")).unwrap();
    fs::write(private.join("state/key"), "SECRET").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let policy = lab.policy().hide(private.join("state")).build().unwrap();
    let line = format!(
        "chmod 755 {0}; cat {0}/state/key; ls {0}/state; echo ran",
        private.display()
    );
    let seen = lab.under(&policy, &line);
    assert!(seen.output.contains("ran"), "{}", seen.output);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
}

#[test]
fn what_is_hidden_can_neither_be_read_nor_written_nor_replaced() {
    let lab = Lab::new();
    let state = lab.base.join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("key"), "SECRET").unwrap();
    let token = lab.outside("token", "SECRET");
    let policy = lab.policy().hide(&state).hide(&token).build().unwrap();
    let line = format!(
        "cat {0} {1}/key; ls -la {1}; stat -c %s {0}; echo x > {0}; rm -rf {0} {1}; mv {1} {1}2; chmod 755 {1}; ls {1}; \
         cat /proc/self/root{0}; true",
        token.display(),
        state.display()
    );
    let seen = lab.under(&policy, &line);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert!(!seen.output.contains("key\n"), "{}", seen.output);
    assert_eq!(fs::read_to_string(&token).unwrap(), "SECRET");
    assert_eq!(fs::read_to_string(state.join("key")).unwrap(), "SECRET");
}

#[test]
fn a_denied_read_inside_the_workspace_survives_renaming_what_is_around_it() {
    let lab = Lab::new();
    fs::create_dir_all(lab.workspace.join("a/b")).unwrap();
    fs::write(lab.workspace.join("a/b/.env"), "SECRET").unwrap();
    let policy = lab
        .policy()
        .deny_read(lab.workspace.join("a/b/.env"))
        .build()
        .unwrap();
    let line = "cat a/b/.env; mv a/b/.env z; cat z; mv a/b c; cat c/.env; mv a d; cat d/b/.env; ln a/b/.env h; cat h; \
                ln -s a/b/.env s; cat s; cp -r a e; cat e/b/.env; true";
    let seen = lab.under(&policy, line);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert_eq!(
        fs::read_to_string(lab.workspace.join("a/b/.env")).unwrap(),
        "SECRET"
    );
}

#[test]
fn the_temporary_folder_is_private() {
    let lab = Lab::new();
    let name = format!("/tmp/sandbox-probe-{}", std::process::id());
    fs::write(&name, "of the host").unwrap();
    let seen = lab.confined(&format!(
        "ls -A /tmp /var/tmp | grep probe; echo x > {name}-inside; ls /run; true"
    ));
    fs::remove_file(&name).unwrap();
    assert_eq!(seen.output, "", "the host's files show");
    assert!(!std::path::Path::new(&format!("{name}-inside")).exists());
}

#[test]
fn a_session_folder_is_the_temporary_folder_of_every_confined_run_of_the_session() {
    let lab = Lab::new();
    let session = lab.base.join("session");
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700)
        .create(&session)
        .unwrap();
    let policy = lab.policy().build().unwrap().in_session(&session).unwrap();
    lab.under(&policy, "echo kept > /tmp/kept");
    let seen = lab.under(&policy, "cat /tmp/kept");
    assert_eq!(seen.output, "kept\n");
    // What left the walls was held as it lies on the host, so that is what it finds.
    let again = lab.permitted(&policy, "require_escalated", "ls /tmp/kept");
    assert!(!again.output.starts_with("/tmp/kept"), "{}", again.output);
}

#[test]
fn a_session_folder_that_is_excluded_stays_so_and_one_that_others_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let session = lab.base.join("session");
    fs::create_dir(&session).unwrap();
    let policy = |tmp| lab.policy().private_tmp(tmp).build().unwrap();
    let open = fs::Permissions::from_mode(0o750);
    fs::set_permissions(&session, open).unwrap();
    assert!(policy(PrivateTmp::Fresh).in_session(&session).is_err());
    fs::set_permissions(&session, fs::Permissions::from_mode(0o700)).unwrap();
    let excluded = policy(PrivateTmp::Excluded).in_session(&session).unwrap();
    assert_eq!(*excluded.private_tmp(), PrivateTmp::Excluded);
}

/// A command of the session could have left a link where the next one's workspace would be attached.
#[test]
fn nothing_is_attached_within_a_session_folder() {
    let folder = std::env::temp_dir().join(format!("sandbox-in-session-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let lab = Lab {
        base: folder.clone(),
        workspace: folder.canonicalize().unwrap(),
    };
    let elsewhere = Lab::new();
    let session = elsewhere.base.join("session");
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700)
        .create(&session)
        .unwrap();
    let name = folder.strip_prefix("/tmp").unwrap();
    std::os::unix::fs::symlink("/usr", session.join(name)).unwrap();
    let policy = lab.policy().build().unwrap().in_session(&session).unwrap();
    let seen = lab.under(
        &policy,
        "echo x > made; ls -A /tmp | wc -l; ls /usr/bin/env",
    );
    assert!(lab.workspace.join("made").exists(), "{}", seen.output);
    assert_eq!(seen.output, "1\n/usr/bin/env\n");
    assert_eq!(fs::read_dir(&session).unwrap().count(), 1);
}

#[test]
fn a_workspace_under_the_temporary_folder_is_attached_over_it() {
    let folder = std::env::temp_dir().join(format!("sandbox-under-tmp-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let lab = Lab {
        base: folder.clone(),
        workspace: folder.canonicalize().unwrap(),
    };
    let seen = lab.confined("echo x > made; ls -A /tmp | wc -l");
    assert!(lab.workspace.join("made").exists(), "{}", seen.output);
    assert_eq!(seen.output.trim(), "1");
}

#[test]
fn a_read_only_command_can_work_under_the_temporary_folder() {
    let folder = std::env::temp_dir().join(format!("sandbox-read-only-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "text\n").unwrap();
    let lab = Lab {
        base: folder.clone(),
        workspace: folder.canonicalize().unwrap(),
    };
    let policy = SandboxPolicy::read_only().build().unwrap();
    let seen = lab.under(
        &policy,
        "cat file; ls -A /tmp | wc -l; (echo x > new) 2>/dev/null || echo refused",
    );
    assert_eq!(
        seen.output.split_whitespace().collect::<Vec<_>>(),
        ["text", "1", "refused"]
    );
}

#[test]
fn the_kernel_s_own_files_are_read_only() {
    let lab = Lab::new();
    let seen = lab.confined(
        "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/self/oom_score_adj /sys/power/state; do \
         (echo 1 > $f) 2>/dev/null && echo WROTE $f; done; true",
    );
    assert_eq!(seen.output, "");
}

#[test]
fn paths_with_any_byte_in_them_work() {
    let lab = Lab::new();
    for name in [
        "with space",
        "with\nline",
        "col:on,comma",
        "back\\slash",
        "quo\"te",
    ] {
        let workspace = lab.base.join(name);
        fs::create_dir(&workspace).unwrap();
        let odd = Lab {
            base: workspace.clone(),
            workspace: workspace.canonicalize().unwrap(),
        };
        let seen = odd.confined("echo x > made");
        assert!(workspace.join("made").exists(), "{name:?} {}", seen.output);
    }
}
