//! Repositories that look quiet and are not: what the built-in reviewer would allow alone runs nothing of the workspace's
//! outside the walls (P1, P2, D6, D23). No model is there, so that what is not provably harmless does not run at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use harness::Stage;

/// A stage with one commit, a program that leaves a mark, and the mark's place.
struct Trap {
    stage: Stage,
    program: String,
    mark: PathBuf,
}

impl Trap {
    fn new() -> Self {
        let stage = Stage::new();
        stage.file("f.t", "1\n");
        let mark = stage.outside("ran");
        let text = format!("#!/bin/sh\ntouch '{}'\nexit 1\n", mark.display());
        let program = stage.file("pwn.sh", &text);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        stage.git(&["add", "."]);
        stage.git(&["commit", "--quiet", "-m", "first"]);
        let program = program.display().to_string();
        Self {
            stage,
            program,
            mark,
        }
    }

    fn set(&self, name: &str, value: &str) {
        self.stage.git(&["config", name, value]);
    }

    fn file(&self, name: &str, text: &str) {
        let place = self.stage.workspace(name);
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::write(place, text).expect("a file");
    }

    /// Asks for `command` outside the walls: it does not run, and nothing of the workspace does.
    fn holds(&self, what: &str, command: &[&str]) {
        let ran = self.stage.exec(&["--escalate"], command).ran();
        assert!(!self.mark.exists(), "{what}: {command:?} ran the program");
        assert_eq!(ran.code(), 126, "{what}: {}", ran.stderr);
    }

    fn repository_inside(&self) {
        let nested = self.stage.workspace("n").display().to_string();
        self.stage.git(&["init", "--quiet", &nested]);
        self.file("n/x", "x");
        let own = |arguments: &[&str]| {
            let all = [&["-C", nested.as_str()], arguments].concat();
            self.stage.git(&all);
        };
        own(&["add", "x"]);
        own(&["commit", "--quiet", "-m", "x"]);
        own(&["config", "core.fsmonitor", &self.program]);
    }
}

#[test]
fn a_repository_that_is_quiet_is_worked_in() {
    let trap = Trap::new();
    trap.set("remote.origin.url", "https://git.example/a.git");
    trap.set("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*");
    trap.set("branch.main.remote", "origin");
    trap.set("branch.main.merge", "refs/heads/main");
    trap.file("g.t", "2\n");
    trap.file(".gitattributes", "* text=auto\n");
    for command in [&["git", "status", "-s"][..], &["git", "add", "-A"]] {
        let ran = trap.stage.exec(&["--escalate"], command).ran();
        assert_eq!(ran.code(), 0, "{command:?}: {}", ran.stderr);
    }
    assert!(trap.stage.git(&["status", "-s"]).contains("A  g.t"));
    let both = ["sh", "-c", "git add -A && git status -s"];
    trap.holds("one call on what another added", &both);
}

#[test]
fn a_repository_inside_another_is_not_acted_on() {
    for file in [false, true] {
        let trap = Trap::new();
        trap.repository_inside();
        if file {
            let place = trap.stage.workspace("n/.git");
            fs::rename(&place, trap.stage.workspace("m")).expect("moved");
            fs::write(&place, "gitdir: ../m\n").expect("a file");
        }
        for command in [
            &["sh", "-c", "git add -A && git status -s"][..],
            &["git", "add", "-A"],
            &["git", "status", "-s"],
        ] {
            trap.holds("a repository inside", command);
        }
    }
}

#[test]
fn a_setting_that_nobody_knows_to_be_harmless_is_not() {
    for (name, value) in [
        ("include.path", "/tmp/not-there-yet"),
        ("includeIf.onbranch:main.path", "/tmp/not-there-yet"),
        ("protocol.ext.allow", "always"),
        ("hook.x.command", "PROGRAM"),
        ("gc.recentObjectsHook", "PROGRAM"),
        ("log.showSignature", "true"),
        ("core.worktree", "/tmp"),
        ("remote.origin.vcs", "ext"),
        ("remote.origin.url", "ext::PROGRAM"),
        ("remote.origin.url", "./n"),
        ("remote.origin.promisor", "true"),
        ("branch.main.remote", "./n"),
        ("a.setting.of-tomorrow", "x"),
    ] {
        let trap = Trap::new();
        trap.set(name, &value.replace("PROGRAM", &trap.program));
        for command in [
            &["git", "status", "-s"][..],
            &["git", "fetch"],
            &["git", "-c", "safe.bareRepository=explicit", "show"],
        ] {
            trap.holds(name, command);
        }
    }
}

#[test]
fn drivers_and_hooks_are_found_where_they_hide() {
    let trap = Trap::new();
    trap.file(".gitattributes", "*.t diff=foo\n");
    trap.stage.git(&["add", "-A"]);
    trap.stage.git(&["commit", "--quiet", "-m", "attributes"]);
    let show = [
        "git",
        "-c",
        "safe.bareRepository=explicit",
        "show",
        "HEAD~1",
    ];
    trap.holds("attributes alone", &["git", "status", "-s"]);
    trap.set("diff.foo.textconv", &trap.program);
    trap.holds("a driver", &show);
    fs::remove_file(trap.stage.workspace(".gitattributes")).expect("a file");
    trap.set("diff.foo.textconv", "");
    trap.stage.git(&["config", "--remove-section", "diff.foo"]);
    trap.holds("attributes in the index alone", &["git", "status", "-s"]);

    let trap = Trap::new();
    let hooks = trap.stage.workspace(".git/hooks");
    fs::create_dir_all(&hooks).expect("a folder");
    for number in 0..1100 {
        fs::write(hooks.join(format!("junk{number}")), "").expect("a file");
    }
    fs::copy(&trap.program, hooks.join("pre-commit")).expect("a hook");
    let commit = ["git", "commit", "--message=x", "-a"];
    trap.holds("among junk", &commit);
    fs::remove_dir_all(&hooks).expect("a folder");
    fs::create_dir_all(trap.stage.outside("hooks")).expect("a folder");
    symlink(trap.stage.outside("hooks"), &hooks).expect("a link");
    fs::copy(&trap.program, trap.stage.outside("hooks/pre-commit")).expect("a hook");
    fs::set_permissions(
        trap.stage.outside("hooks"),
        fs::Permissions::from_mode(0o311),
    )
    .expect("a mode");
    trap.holds("in a folder that nobody may list", &commit);
    fs::set_permissions(
        trap.stage.outside("hooks"),
        fs::Permissions::from_mode(0o755),
    )
    .expect("a mode");
}

#[test]
fn a_tool_that_obeys_files_of_the_workspace_is_not_called() {
    let trap = Trap::new();
    trap.file(".npmrc", &format!("git={}\n", trap.program));
    for address in [
        "git+https://127.0.0.1:9/x/y.git",
        "git+ssh://git@127.0.0.1/x.git",
    ] {
        for command in ["view", "info"] {
            trap.holds("npm", &["npm", command, address]);
        }
    }
}
