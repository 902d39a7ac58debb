//! What holds when the walls are wide.

use std::fs;

use sandbox::{Network, RanAs, Walls};

use crate::harness::{Lab, find, is_root};

#[test]
fn an_escalated_command_has_the_host_but_what_is_hidden() {
    let lab = Lab::new();
    let token = lab.outside("token", "SECRET");
    let open = lab.outside("open", "as it was");
    let policy = lab.policy().hide(&token).build().unwrap();
    let line = format!(
        "echo changed > {}; cat {1}; echo x > {1}; rm -f {1}; true",
        open.display(),
        token.display()
    );
    let seen = lab.permitted(&policy, "require_escalated", &line);
    assert_eq!(seen.run.confinement.walls(), Walls::Escalated);
    assert_eq!(seen.run.confinement.network(), Network::Full);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert_eq!(fs::read_to_string(&open).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(&token).unwrap(), "SECRET");
}

#[test]
fn the_covers_of_an_escalated_command_cannot_be_taken_away() {
    let lab = Lab::new();
    let state = lab.base.join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("key"), "SECRET").unwrap();
    let policy = lab.policy().hide(&state).build().unwrap();
    let line = format!(
        "umount {0}; umount -l {0}; mount --bind {1} /mnt; cat /mnt/state/key; mv {0} {0}2; cat {0}2/key; \
         unshare -Urm sh -c 'umount {0}; cat {0}/key; mount --bind {1} /mnt; cat /mnt/state/key; mount -t tmpfs t {1}; mv {0} {0}3; cat {0}3/key'; \
         cat /proc/1/root{0}/key; chmod 755 {0}; ls {0}; for p in /proc/[0-9]*; do cat $p/root{0}/key; done; true",
        state.display(),
        lab.base.display()
    );
    let seen = lab.permitted(&policy, "require_escalated", &line);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert!(state.join("key").exists());
}

#[test]
fn the_way_to_what_is_hidden_cannot_be_made_anew() {
    let lab = Lab::new();
    let state = lab.base.join("local/state/runner");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("key"), "SECRET").unwrap();
    let policy = lab.policy().hide(&state).build().unwrap();
    let line = format!(
        "exec < /dev/null; cd {0}; mv local gone; mv local/state local/gone; mv local/state/runner local/state/gone; \
         rm -rf local; mv {0} {0}-gone; mkdir -p local/state/runner; echo forged > local/state/runner/key; \
         echo beside > local/state/beside; true",
        lab.base.display()
    );
    let seen = lab.permitted(&policy, "require_escalated", &line);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert_eq!(
        fs::read_to_string(state.join("key")).unwrap(),
        "SECRET",
        "{}",
        seen.output
    );
    // The rest of the host is the command's.
    assert!(
        lab.base.join("local/state/beside").exists(),
        "{}",
        seen.output
    );
}

#[test]
fn what_is_kept_cannot_be_changed_in_any_plan() {
    let lab = Lab::new();
    fs::create_dir_all(lab.workspace.join("bin")).unwrap();
    fs::create_dir_all(lab.base.join("lib/deep")).unwrap();
    let (file, folder) = (lab.workspace.join("bin/runner"), lab.base.join("lib/deep"));
    fs::write(&file, "as it was").unwrap();
    fs::write(folder.join("part"), "as it was").unwrap();
    let policy = lab.policy().keep(&file).keep(&folder).build().unwrap();
    let line = format!(
        "cd {0}; echo x > workspace/bin/runner; echo x > lib/deep/part; echo x > lib/deep/new; rm -rf workspace/bin lib; \
         mv workspace/bin workspace/gone; mv lib gone; mv lib/deep lib/gone; mv workspace/bin/runner workspace/old; \
         chmod 777 workspace/bin/runner; ln workspace/bin/runner workspace/link && echo x > workspace/link; \
         cat workspace/bin/runner; true",
        lab.base.display()
    );
    for seen in [
        lab.under(&policy, &line),
        lab.permitted(&policy, "require_escalated", &line),
    ] {
        assert!(seen.output.contains("as it was"), "{}", seen.output);
        for path in [&file, &folder.join("part")] {
            assert_eq!(
                fs::read_to_string(path).unwrap(),
                "as it was",
                "{}",
                seen.output
            );
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{}", seen.output);
    }
    assert!(lab.policy().keep(&lab.base).build().is_err());
    assert!(lab.policy().keep(lab.base.join("missing")).build().is_err());
}

#[test]
fn an_escalated_command_of_root_can_change_owners() {
    if !is_root() {
        return;
    }
    let lab = Lab::new();
    let file = lab.outside("file", "x");
    let seen = lab.permitted(
        &lab.policy().build().unwrap(),
        "require_escalated",
        &format!(
            "chown 1234:1234 {0} && id -u; cat /etc/shadow > /dev/null && echo root",
            file.display()
        ),
    );
    assert_eq!(seen.output, "0\nroot\n");
    assert_eq!(seen.run.confinement.ran_as(), RanAs::RootOverFiles);
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap()),
        1234
    );
}

#[test]
fn an_escalated_command_sees_no_process_but_its_own_and_leaves_none() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let seen = lab.permitted(
        &policy,
        "require_escalated",
        "ls /proc | grep -c '^[0-9]'; (setsid sleep 1000 &)",
    );
    assert!(
        seen.output.trim().parse::<u32>().unwrap() < 8,
        "{}",
        seen.output
    );
}

#[test]
fn an_escalated_command_cannot_type_into_the_terminal() {
    find("perl");
    let lab = Lab::new();
    let line = r#"perl -e 'my $c = "x"; print ioctl(STDIN, 0x5412, $c) ? "TYPED" : "refused"'"#;
    let seen = lab.permitted(&lab.policy().build().unwrap(), "require_escalated", line);
    assert_eq!(seen.output, "refused");
}

#[test]
fn an_unconfined_command_has_no_walls_and_says_so() {
    let lab = Lab::new();
    let token = lab.outside("token", "SECRET");
    let policy = lab.policy().hide(&token).build().unwrap();
    let seen = lab.permitted(
        &policy,
        "require_unconfined",
        &format!("cat {}", token.display()),
    );
    assert_eq!(seen.output, "SECRET");
    let said = seen.run.confinement.to_string();
    assert!(
        said.starts_with(
            "unconfined: namespaces: none, mounts: none, landlock: none, seccomp: none"
        ),
        "{said}"
    );
    assert!(said.ends_with("leftovers: ended where possible"), "{said}");
}

#[test]
fn what_an_unconfined_command_left_running_is_ended() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let line = "(setsid sh -c 'echo $$ > one; sleep 1000 & echo $! > two; wait' &) ; sleep 0.3";
    lab.permitted(&policy, "require_unconfined", line);
    for name in ["one", "two"] {
        let pid = fs::read_to_string(lab.workspace.join(name)).unwrap();
        assert!(
            !std::path::Path::new("/proc").join(pid.trim()).exists(),
            "{name}"
        );
    }
}

#[test]
fn a_widened_command_writes_exactly_what_was_granted() {
    let lab = Lab::new();
    for name in ["granted", "other"] {
        fs::create_dir(lab.base.join(name)).unwrap();
    }
    let (command, output) =
        crate::harness::captured(lab.command("echo x > ../granted/x; echo x > ../other/x; true"));
    let additional = serde_json::json!({ "write": [lab.base.join("granted")] }).to_string();
    let leave = crate::harness::leave(&command, "with_additional_permissions", &additional);
    let plan = sandbox::Plan::permitted(&lab.policy().build().unwrap(), leave, &command).unwrap();
    let seen = crate::harness::finish(sandbox::Sandbox::start(&plan, command).unwrap(), output);
    assert_eq!(seen.run.confinement.walls(), Walls::Widened);
    assert!(lab.base.join("granted/x").exists());
    assert!(!lab.base.join("other/x").exists());
}
