//! Protected names, there or not, and what is left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use sandbox::{PROTECTED_NAMES, Plan, PlanError, Sandbox};

use crate::harness::{Lab, find, finish, terminal};

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_protected_name_that_is_there_cannot_be_changed() {
    let lab = Lab::new();
    for name in PROTECTED_NAMES {
        fs::create_dir_all(lab.workspace.join(name).join("hooks")).unwrap();
        fs::write(lab.workspace.join(name).join("config"), "as it was").unwrap();
        let line = format!(
            "echo x > {name}/config; echo x > {name}/hooks/x; mv {name} gone; rm -rf {name}; ln {name}/config h; echo x > h; \
             chmod 777 {name}/config; rmdir {name}/hooks; true"
        );
        lab.confined(&line);
        assert_eq!(
            fs::read_to_string(lab.workspace.join(name).join("config")).unwrap(),
            "as it was",
            "{name}"
        );
        assert_eq!(
            entries(&lab.workspace.join(name)),
            ["config", "hooks"],
            "{name}"
        );
    }
}

#[test]
fn a_protected_name_that_is_missing_cannot_be_made_and_leaves_nothing() {
    let lab = Lab::new();
    let line = "for n in .git .agents .codex; do mkdir $n; echo x > $n/config; echo x > $n; ln -sfn /tmp $n; \
                rmdir $n; mkdir d; mv -f d $n; rm -rf $n; done; true";
    let seen = lab.confined(line);
    assert_eq!(seen.code(), Some(0));
    for name in PROTECTED_NAMES {
        assert!(
            fs::symlink_metadata(lab.workspace.join(name)).is_err(),
            "{name} is left"
        );
    }
}

#[test]
fn a_process_left_behind_cannot_win_the_name_when_the_command_ends() {
    let lab = Lab::new();
    for _ in 0..10 {
        lab.confined("mkdir x; (while :; do mkdir .git/h .git; mv -f x .git; done) 2>/dev/null & (while :; do ln -s x .codex; done) 2>/dev/null & true");
        for name in PROTECTED_NAMES {
            assert!(
                fs::symlink_metadata(lab.workspace.join(name)).is_err(),
                "{name} is left"
            );
        }
    }
}

/// Says that it has started, waits to be told to go on, at most half a minute, and then does `line`.
fn until_told(line: &str) -> String {
    let wait = "for i in $(seq 1500); do [ -e go ] && break; sleep 0.02; done";
    format!(": > started; {wait}; rm started; {line}; true")
}

fn has_started(lab: &Lab) {
    for _ in 0..1500 {
        if lab.workspace.join("started").exists() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the command does not start");
}

#[test]
fn runs_beside_each_other_keep_the_names_until_the_last_has_ended() {
    let lab = Lab::new();
    thread::scope(|scope| {
        let long = scope.spawn(|| {
            lab.confined(&until_told(
                "mkdir .git/x; mkdir .git; rmdir .git; echo x > .git/HEAD",
            ))
        });
        has_started(&lab);
        for _ in 0..5 {
            lab.confined("true");
            assert!(
                lab.workspace.join(".git").exists(),
                "the first run lost its guard"
            );
        }
        fs::write(lab.workspace.join("go"), "").unwrap();
        long.join().unwrap();
    });
    fs::remove_file(lab.workspace.join("go")).unwrap();
    assert_eq!(entries(&lab.workspace), Vec::<String>::new());
}

#[test]
fn a_run_keeps_the_names_after_the_run_that_made_them_has_ended() {
    let lab = Lab::new();
    thread::scope(|scope| {
        let first = scope.spawn(|| lab.confined("sleep 0.3"));
        thread::sleep(Duration::from_millis(100));
        let second = scope.spawn(|| lab.confined(&until_told("mkdir .git; echo x > .git/HEAD")));
        has_started(&lab);
        first.join().unwrap();
        assert!(
            lab.workspace.join(".git").exists(),
            "the second run lost its guard"
        );
        fs::write(lab.workspace.join("go"), "").unwrap();
        second.join().unwrap();
    });
    fs::remove_file(lab.workspace.join("go")).unwrap();
    assert_eq!(entries(&lab.workspace), Vec::<String>::new());
}

#[test]
fn what_a_power_cut_left_is_taken_over_and_removed() {
    let lab = Lab::new();
    let left = lab.workspace.join(".codex");
    fs::create_dir(&left).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o1555)).unwrap();
    lab.confined("true");
    assert!(!left.exists());
}

#[test]
fn an_empty_folder_of_the_user_s_own_stays() {
    let lab = Lab::new();
    fs::create_dir(lab.workspace.join(".agents")).unwrap();
    lab.confined("true");
    assert!(lab.workspace.join(".agents").exists());
}

#[test]
fn a_protected_name_that_is_a_link_is_refused() {
    let lab = Lab::new();
    fs::create_dir(lab.workspace.join("real")).unwrap();
    std::os::unix::fs::symlink("real", lab.workspace.join(".git")).unwrap();
    let command = lab.command("true");
    let refused = Plan::confined(&lab.policy().build().unwrap(), &command);
    assert!(matches!(refused, Err(PlanError::ProtectedSymlink(_))));
}

#[test]
fn the_git_directory_behind_a_pointer_file_is_protected_too() {
    let lab = Lab::new();
    fs::create_dir_all(lab.workspace.join("store/tree/hooks")).unwrap();
    fs::write(lab.workspace.join(".git"), "gitdir: store/tree\n").unwrap();
    fs::write(lab.workspace.join("store/tree/commondir"), "..\n").unwrap();
    lab.confined("echo x > store/tree/hooks/post; echo x > store/config; mv store other; echo 'gitdir: x' > .git; true");
    assert_eq!(entries(&lab.workspace), [".git", "store"]);
    assert_eq!(entries(&lab.workspace.join("store")), ["tree"]);
    assert_eq!(
        entries(&lab.workspace.join("store/tree/hooks")),
        Vec::<String>::new()
    );
    assert_eq!(
        fs::read_to_string(lab.workspace.join(".git")).unwrap(),
        "gitdir: store/tree\n"
    );
}

#[test]
fn git_works_inside_and_finds_the_repository_around_the_workspace() {
    let lab = Lab::new();
    find("git");
    let outer = std::process::Command::new("git")
        .args(["init", "-q"])
        .arg(&lab.base)
        .status()
        .unwrap();
    assert!(outer.success());
    fs::write(lab.workspace.join("file"), "x").unwrap();
    let policy = lab.policy().readable(&lab.base).build().unwrap();
    let seen = lab.under(
        &policy,
        "git rev-parse --show-toplevel && git status --short",
    );
    assert_eq!(seen.output, format!("{}\n?? ./\n", lab.base.display()));
}

#[test]
fn a_failed_start_leaves_no_name() {
    let lab = Lab::new();
    fs::write(lab.workspace.join("broken"), "\x7fELF not really").unwrap();
    fs::set_permissions(
        lab.workspace.join("broken"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let broken = lab.workspace.join("broken");
    let command = lab.words(&[broken.to_str().unwrap()]);
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    assert!(Sandbox::start(&plan, command).is_err());
    assert_eq!(entries(&lab.workspace), ["broken"]);
}

#[test]
fn dropping_a_running_command_ends_it_and_removes_the_names() {
    let lab = Lab::new();
    let (_master, slave) = terminal();
    let command = lab
        .command("sleep 100")
        .with_terminal(sandbox::Terminal::Pty(slave));
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let running = Sandbox::start(&plan, command).unwrap();
    assert!(lab.workspace.join(".git").exists());
    drop(running);
    assert_eq!(entries(&lab.workspace), Vec::<String>::new());
    // The harness's own way of waiting sees the same.
    let (command, output) = crate::harness::captured(lab.command("true"));
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    finish(Sandbox::start(&plan, command).unwrap(), output);
    assert_eq!(entries(&lab.workspace), Vec::<String>::new());
}
