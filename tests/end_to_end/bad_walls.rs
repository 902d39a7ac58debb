//! Workspaces, roots and hosts that are not as one expects: each a clear refusal before anything runs, or walls that hold.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{Missing, Ran, Stage, is_root, lacks, launches, mount_namespace};

/// `agent-runner sandbox` in `folder`, running `script`.
fn inside(stage: &Stage, folder: &Path, script: &str) -> Ran {
    stage
        .runner()
        .args(["sandbox", "--sandbox", "workspace-write", "--cd"])
        .arg(folder.as_os_str().to_owned())
        .args(["--", "sh", "-c", script])
        .ran()
}

fn with_root(stage: &Stage, root: &str) -> Ran {
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nwritable_roots = [{root:?}]\n"
    ));
    stage.exec(&[], &["touch", "ran"]).ran()
}

#[test]
fn a_root_that_is_no_root_is_refused_in_one_clear_line() {
    let stage = Stage::new();
    symlink(stage.outside("loop"), stage.outside("loop")).expect("a link");
    let outside = |name: &str| stage.outside(name).display().to_string();
    for (root, says) in [
        ("/".to_owned(), "`/`"),
        ("/etc".to_owned(), "/etc"),
        ("/proc/self".to_owned(), "/proc"),
        (outside("missing"), "missing"),
        (outside("loop"), "loop"),
    ] {
        let ran = with_root(&stage, &root);
        assert_eq!(ran.code(), 125, "{root}: {}", ran.stderr);
        let first = ran.stderr.lines().next().unwrap_or_default();
        assert!(first.contains(says), "`{says}` is not in: {}", ran.stderr);
        assert!(!stage.workspace("ran").exists(), "{root}: it ran");
    }
}

#[test]
fn a_root_of_a_single_file_opens_that_file_alone() {
    let stage = Stage::new();
    fs::write(stage.outside("file"), "old\n").expect("a file");
    fs::write(stage.outside("beside"), "old\n").expect("a file");
    let root = stage.outside("file").display().to_string();
    assert_eq!(with_root(&stage, &root).code(), 0);
    let script = format!(
        "echo new > '{0}/file'; echo new > '{0}/beside'",
        stage.outside("").display()
    );
    let ran = stage.exec(&[], &["sh", "-c", &script]).ran();
    let read = |name| fs::read_to_string(stage.outside(name)).expect("text");
    assert_eq!(
        (read("file"), read("beside")),
        ("new\n".to_owned(), "old\n".to_owned()),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_workspace_may_be_called_anything_and_the_walls_hold_around_it() {
    let stage = Stage::new();
    for name in [
        OsString::from("with spaces and 'quotes'"),
        OsString::from("with\nnewlines\n"),
        OsString::from("with:colons,commas\\and=more"),
        OsString::from_vec(b"with\xff\xfebytes".to_vec()),
        OsString::from("-rf"),
        OsString::from("\u{1b}[2Jcleared"),
    ] {
        let folder = stage.root().join(&name);
        fs::create_dir(&folder).expect("a folder");
        fs::create_dir(folder.join(".git")).expect("a folder");
        let shown = String::from_utf8_lossy(name.as_bytes()).into_owned();
        let ran = inside(
            &stage,
            &folder,
            "echo x > made; echo x > .git/config; echo x > ../escaped; pwd > where",
        );
        assert!(
            !ran.stderr.contains("agent-runner:"),
            "{shown:?}: {}",
            ran.stderr
        );
        assert!(folder.join("made").exists(), "{shown:?}: {}", ran.stderr);
        assert!(!folder.join(".git/config").exists(), "{shown:?}");
        assert!(!stage.root().join("escaped").exists(), "{shown:?}");
        let stood = fs::read(folder.join("where")).expect("where it stood");
        assert_eq!(stood, [folder.as_os_str().as_bytes(), b"\n"].concat());
    }
}

#[test]
fn a_tmpdir_that_the_project_names_moves_nothing() {
    let stage = Stage::new();
    let ran = stage
        .exec(
            &[],
            &[
                "sh",
                "-c",
                "echo $TMPDIR; echo x > $TMPDIR/t; echo x > \"$0/t\"",
            ],
        )
        .env("TMPDIR", stage.outside("").as_os_str().to_owned())
        .ran();
    assert_eq!(ran.text(), "/tmp\n", "{}", ran.stderr);
    assert!(!stage.outside("t").exists());
    let elsewhere = stage
        .runner()
        .args([
            "sandbox",
            "--",
            "sh",
            "-c",
            "echo x > /etc/auto-review-made; echo $TMPDIR",
        ])
        .env("TMPDIR", "/etc")
        .ran();
    assert_eq!(elsewhere.text(), "/tmp\n", "{}", elsewhere.stderr);
    assert!(!Path::new("/etc/auto-review-made").exists());
}

#[test]
fn a_pattern_that_names_ten_thousand_files_hides_all_of_them_or_starts_nothing() {
    let stage = Stage::new();
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"**/*.env\" = \"deny\"\n",
    );
    for folder in 0..100 {
        let folder = stage.workspace(&format!("d{folder}"));
        fs::create_dir(&folder).expect("a folder");
        for file in 0..100 {
            fs::write(folder.join(format!("{file}.env")), "hunter2\n").expect("a file");
        }
    }
    let ran = stage.exec(&[], &["sh", "-c", "cat d*/*.env; true"]).ran();
    assert!(!ran.text().contains("hunter2"));
    if ran.code() != 0 {
        assert_eq!(ran.code(), 125, "{}", ran.stderr);
        assert!(ran.stderr.contains("must be guarded"), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
}

#[test]
fn a_read_only_disk_under_the_workspace_stays_read_only() {
    let stage = Stage::new();
    let Some(launcher) = mount_namespace() else {
        lacks(Missing::MountNamespace, "a workspace on a read-only disk");
        return;
    };
    let folder = stage.workspace("");
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let launcher = launcher
        .into_iter()
        .chain(["sh", "-c", mount].map(OsString::from));
    let ran = stage
        .exec(&[], &["sh", "-c", "echo x > made; cat .git/HEAD"])
        .launched_by(launcher.chain([folder.into_os_string()]))
        .ran();
    // Said or contained: the command may start and find that it cannot write, or be refused by name.
    assert!(!stage.workspace("made").exists(), "{}", ran.stderr);
    assert!(
        ran.code() != 125 || ran.stderr.contains("agent-runner: "),
        "{}",
        ran.stderr
    );
}

/// A program that serves its first argument as a file system and starts the rest on it.
const SERVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/tiny_fuse.py");

/// An ordinary user who may mount, and whose command may not.
const WHO_MAY_MOUNT: [&str; 8] = [
    "unshare",
    "--user",
    "--map-user=1000",
    "--map-group=1000",
    "--keep-caps",
    "--mount",
    "--propagation",
    "private",
];

#[test]
fn a_workspace_that_another_program_serves_is_kept_like_any_other() {
    let stage = Stage::new();
    stage.settings(
        "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
         [permissions.p.filesystem.\":workspace_roots\"]\n\"**/.env\" = \"deny\"\n",
    );
    if fs::File::options().write(true).open("/dev/fuse").is_err() {
        lacks(Missing::Root, "a workspace on FUSE");
        return;
    }
    let folder = stage.workspace("");
    let serve = [
        "/usr/bin/python3".into(),
        SERVED.into(),
        folder.into_os_string(),
    ];
    let without_powers = ["setpriv", "--ambient-caps", "-all", "--inh-caps", "-all"];
    let launcher = || {
        let words = WHO_MAY_MOUNT.iter().copied().map(OsString::from);
        words
            .chain(serve.clone())
            .chain(without_powers.map(OsString::from))
    };
    let tried: Vec<String> = launcher()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if !launches(&tried.iter().map(String::as_str).collect::<Vec<_>>()) {
        lacks(Missing::UserNamespace, "a workspace on FUSE");
        return;
    }
    let script = "cat .env; echo said > made; mkdir .git .vscode; echo x > .vscode/tasks.json; mv .env seen; cat seen; \
                  echo x > ../beside; ls -A | tr '\\n' ' '";
    let ran = stage
        .exec(&[], &["sh", "-c", script])
        .launched_by(launcher())
        .ran();
    assert!(!ran.text().contains("hunter2"), "{}", ran.text());
    assert!(!stage.root().join("beside").exists());
    // What it serves at the end: the one file that was made, and no name that was kept free.
    assert!(
        ran.text().ends_with("[said\n]\n"),
        "{} {}",
        ran.text(),
        ran.stderr
    );
    assert!(
        ran.text().contains(".env ") && !ran.text().contains("seen"),
        "{}",
        ran.text()
    );
}

#[test]
fn root_is_told_where_a_file_system_cannot_be_given_to_another_user() {
    if !is_root() {
        lacks(Missing::Root, "root's workspace on FUSE");
        return;
    }
    let stage = Stage::new();
    let folder = stage.workspace("").into_os_string();
    let launcher = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "/usr/bin/python3",
        SERVED,
    ];
    let launcher = launcher.map(OsString::from).into_iter().chain([folder]);
    let ran = stage
        .exec(&[], &["sh", "-c", "cat .env; echo said > made"])
        .launched_by(launcher)
        .ran();
    assert_eq!(ran.code(), 125, "{} {}", ran.text(), ran.stderr);
    assert_eq!(ran.text(), "[]\n");
    assert!(
        ran.stderr.contains("cannot be attached for another user") && ran.stderr.contains("hint: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn without_a_proc_nothing_starts_and_the_cause_is_named() {
    let stage = Stage::new();
    let Some(launcher) = mount_namespace() else {
        lacks(Missing::MountNamespace, "a host without /proc");
        return;
    };
    let hide = "mount -t tmpfs none /proc && exec \"$@\"";
    let launcher = launcher
        .into_iter()
        .chain(["sh", "-c", hide, "sh"].map(OsString::from));
    let ran = stage
        .exec(&[], &["touch", "ran"])
        .launched_by(launcher)
        .ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(!stage.workspace("ran").exists());
    assert!(ran.stderr.contains("/proc"), "{}", ran.stderr);
}

#[test]
fn root_that_starts_a_command_gives_it_none_of_roots_powers() {
    if !is_root() {
        lacks(Missing::Root, "what root's command may do");
        return;
    }
    let stage = Stage::new();
    let script = "id -u; grep -E 'CapEff|CapPrm|CapBnd' /proc/self/status; cat /etc/shadow; chown 0:0 made; mknod disk b 8 0; echo end";
    let ran = stage.exec(&[], &["sh", "-c", script]).ran();
    let text = ran.text();
    assert!(!text.starts_with("0\n"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("Cap")) {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    assert!(!text.contains("root:") && text.ends_with("end\n"), "{text}");
    assert!(!stage.workspace("disk").exists());
}
