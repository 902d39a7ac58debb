//! Access by path, nested to any depth, and reads that are denied by default.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use sandbox::{Access, Plan, PlanError, Reads, SandboxPolicy};

use crate::harness::{Lab, find};

#[test]
fn the_deepest_rule_holds_inside() {
    find("perl");
    let lab = Lab::new();
    fs::create_dir_all(lab.workspace.join("denied/open/kept")).unwrap();
    for name in ["denied/secret", "denied/open/file", "denied/open/kept/file"] {
        fs::write(lab.workspace.join(name), "TEXT\n").unwrap();
    }
    let policy = lab
        .policy()
        .access(lab.workspace.join("denied"), Access::Deny)
        .access(lab.workspace.join("denied/open"), Access::Write)
        .access(lab.workspace.join("denied/open/kept"), Access::Read)
        .build()
        .unwrap();
    let line = "cat denied/secret; ls denied; echo x > denied/new; mv denied gone; perl -e 'rename(\"denied/open\", \"away\")'; \
                cat denied/open/file && echo x > denied/open/new && cat denied/open/kept/file && echo DONE; \
                echo x > denied/open/kept/new; echo x > denied/open/kept/file; perl -e 'rename(\"denied/open/kept\", \"k\")'; \
                echo x > new; true";
    let seen = lab.under(&policy, line);
    assert_eq!(seen.output.matches("TEXT").count(), 2, "{}", seen.output);
    assert!(seen.output.contains("DONE"), "{}", seen.output);
    let names = |folder: &str| {
        let entries = fs::read_dir(lab.workspace.join(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["denied", "new"]);
    assert_eq!(names("denied"), ["open", "secret"]);
    assert_eq!(names("denied/open"), ["file", "kept", "new"]);
    assert_eq!(names("denied/open/kept"), ["file"]);
    assert_eq!(
        fs::read_to_string(lab.workspace.join("denied/open/kept/file")).unwrap(),
        "TEXT\n"
    );
    let made = fs::metadata(lab.workspace.join("denied/open/new")).unwrap();
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn only_what_is_listed_can_be_read() {
    let lab = Lab::new();
    let secret = lab.outside("secret", "SECRET\n");
    let shown = lab.base.join("shown");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("file"), "SHOWN\n").unwrap();
    let listed = [
        "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    ];
    let mut builder = lab
        .policy()
        .reads(Reads::Listed)
        .access(&shown, Access::Read);
    for path in listed {
        builder = builder.access(path, Access::Read);
    }
    let policy = builder.build().unwrap();
    let line = format!(
        "cat {0}; ls {1}; cat {2}/file; cat /etc/passwd; ls /sys /srv /var; cat /proc/self/root{0}; \
         echo x > {2}/new; echo x > new && cat new; ls /proc/self > /dev/null && echo PROC; echo x > /tmp/t && cat /tmp/t",
        secret.display(),
        lab.base.display(),
        shown.display()
    );
    let seen = lab.under(&policy, &line);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
    assert!(!seen.output.contains("root:"), "{}", seen.output);
    assert!(seen.output.contains("SHOWN\n"), "{}", seen.output);
    assert!(seen.output.ends_with("x\nPROC\nx\n"), "{}", seen.output);
    assert!(!shown.join("new").exists());
}

#[test]
fn a_program_that_may_not_be_read_is_named() {
    let lab = Lab::new();
    let policy = SandboxPolicy::workspace_write(&lab.workspace)
        .reads(Reads::Listed)
        .build()
        .unwrap();
    let command = lab.words(&["/bin/true"]);
    assert!(matches!(
        Plan::confined(&policy, &command),
        Err(PlanError::ProgramDenied(_))
    ));
}

#[test]
fn a_single_file_may_be_writable() {
    let lab = Lab::new();
    let file = lab.outside("log", "first\n");
    let policy = SandboxPolicy::read_only()
        .readable(&lab.workspace)
        .root(&file)
        .build()
        .unwrap();
    let line = format!(
        "echo second >> {0}; rm -f {0}; echo x > {0}2; echo x > new; mv {0} {0}3; true",
        file.display()
    );
    let seen = lab.under(&policy, &line);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "first\nsecond\n",
        "{}",
        seen.output
    );
    assert_eq!(fs::read_dir(&lab.base).unwrap().count(), 2);
    assert!(!lab.workspace.join("new").exists());
}

#[test]
fn denied_patterns_hold_under_every_name_of_the_file() {
    let lab = Lab::new();
    let workspace = &lab.workspace;
    fs::create_dir_all(workspace.join("a/.hidden")).unwrap();
    fs::create_dir_all(workspace.join("links")).unwrap();
    fs::write(workspace.join(".gitignore"), "*.env\n").unwrap();
    for name in ["x.env", "a/.hidden/deep.env"] {
        fs::write(workspace.join(name), "SECRET\n").unwrap();
    }
    fs::hard_link(workspace.join("x.env"), workspace.join("links/hard.txt")).unwrap();
    std::os::unix::fs::symlink("../x.env", workspace.join("links/soft.txt")).unwrap();
    let elsewhere = lab.outside("prod", "SECRET\n");
    std::os::unix::fs::symlink(&elsewhere, workspace.join("linked.env")).unwrap();
    let policy = lab
        .policy()
        .deny_matching(workspace, "**/*.env")
        .build()
        .unwrap();
    let line = format!(
        "cat x.env a/.hidden/deep.env links/hard.txt links/soft.txt linked.env {0}; mv x.env y; mv a b; cat b/.hidden/*; \
         cp -r links c; cat c/*; ln links/hard.txt h; cat h; echo RAN",
        elsewhere.display()
    );
    let seen = lab.under(&policy, &line);
    assert!(seen.output.ends_with("RAN\n"), "{}", seen.output);
    assert!(!seen.output.contains("SECRET"), "{}", seen.output);
}

#[test]
fn a_name_of_a_denied_file_that_lies_elsewhere_is_noted() {
    let lab = Lab::new();
    fs::write(lab.workspace.join("x.env"), "SECRET\n").unwrap();
    fs::hard_link(lab.workspace.join("x.env"), lab.base.join("alias")).unwrap();
    let policy = lab
        .policy()
        .deny_matching(&lab.workspace, "*.env")
        .build()
        .unwrap();
    let plan = Plan::confined(&policy, &lab.command("true")).unwrap();
    assert!(
        plan.notes()
            .iter()
            .any(|note| note.contains("1 more name elsewhere")),
        "{:?}",
        plan.notes()
    );
}

#[test]
fn repositories_inside_the_workspace_are_protected() {
    find("git");
    let lab = Lab::new();
    fs::create_dir_all(lab.workspace.join("vendor/nested/.git/hooks")).unwrap();
    fs::write(lab.workspace.join("vendor/nested/.git/config"), "[core]\n").unwrap();
    fs::create_dir_all(lab.workspace.join("store/hooks")).unwrap();
    fs::create_dir_all(lab.workspace.join("sub")).unwrap();
    fs::write(lab.workspace.join("sub/.git"), "gitdir: ../store\n").unwrap();
    let line = "mkdir evil; echo 'gitdir: ../evil' > sub/.git; rm -f sub/.git; mv sub s; mv vendor v; mv vendor/nested n; \
                echo x > vendor/nested/.git/hooks/post; git -C vendor/nested config core.fsmonitor x; \
                rm -rf vendor/nested/.git; echo x > store/hooks/post; mv store t; echo x > vendor/nested/file; true";
    let seen = lab.confined(line);
    let read = |name: &str| {
        fs::read_to_string(lab.workspace.join(name))
            .unwrap_or_else(|_| panic!("{name}: {}", seen.output))
    };
    assert_eq!(read("sub/.git"), "gitdir: ../store\n");
    assert_eq!(read("vendor/nested/.git/config"), "[core]\n");
    assert_eq!(read("vendor/nested/file"), "x\n");
    for folder in ["vendor/nested/.git/hooks", "store/hooks"] {
        assert_eq!(
            fs::read_dir(lab.workspace.join(folder)).unwrap().count(),
            0,
            "{folder}"
        );
    }
}

#[test]
fn a_repository_granted_by_name_can_be_committed_to() {
    find("git");
    let lab = Lab::new();
    let git = lab.workspace.join(".git");
    let made = std::process::Command::new("git")
        .args(["init", "-q"])
        .arg(&lab.workspace)
        .status();
    assert!(made.unwrap().success());
    let policy = lab.policy().root(&git).build().unwrap();
    let line = "echo x > f && git add f && git -c user.name=n -c user.email=e commit -qm one && git log --oneline | wc -l";
    assert_eq!(lab.under(&policy, line).output.trim(), "1");
}

#[test]
fn a_folder_that_the_runner_cannot_look_into_cannot_be_opened_by_the_command() {
    use std::os::unix::fs::PermissionsExt as _;
    if crate::harness::is_root() {
        // Nothing is closed to root.
        return;
    }
    let lab = Lab::new();
    let closed = lab.workspace.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("x.env"), "SECRET").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let policy = lab
        .policy()
        .deny_matching(&lab.workspace, "**/*.env")
        .build()
        .unwrap();
    let seen = lab.under(
        &policy,
        "chmod 755 closed; cat closed/x.env; mv closed c; chmod 755 c; cat c/x.env; echo RAN",
    );
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        seen.output.ends_with("RAN\n") && !seen.output.contains("SECRET"),
        "{}",
        seen.output
    );
}
