//! What the door lets in, and what the rules say of paths.

use super::*;

#[test]
fn the_root_of_the_system_is_no_workspace() {
    for path in ["/", "/etc", "/usr", "/proc", "/proc/self", "/tmp", "/home"] {
        let refused = SandboxPolicy::workspace_write(path).build();
        assert!(refused.is_err(), "{path}");
    }
}

#[test]
fn the_home_folder_is_no_workspace() {
    for home in homes_of_this_user() {
        if home.exists() {
            let refused = SandboxPolicy::workspace_write(home).build();
            assert!(matches!(refused, Err(InvalidPolicy::NotAWorkspace { .. })));
        }
    }
}

#[test]
fn a_relative_or_missing_root_is_refused() {
    let relative = SandboxPolicy::workspace_write("src").build();
    assert!(matches!(relative, Err(InvalidPolicy::Relative(_))));
    let missing = SandboxPolicy::workspace_write("/srv/there/is/no/such").build();
    assert!(matches!(missing, Err(InvalidPolicy::Unresolved { .. })));
}

#[test]
fn what_is_hidden_cannot_lie_inside_a_root() {
    let folder = std::env::temp_dir().join(format!("sandbox-policy-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("state")).unwrap();
    let refused = SandboxPolicy::workspace_write(&folder)
        .hide(folder.join("state"))
        .build();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(
        refused,
        Err(InvalidPolicy::HiddenInsideRoot { .. })
    ));
}

/// A folder of its own, removed at the end.
struct Disk(PathBuf);

impl Disk {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("sandbox-rules-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("a/b/c")).unwrap();
        std::fs::write(folder.join("a/file"), "x").unwrap();
        Self(folder.canonicalize().unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_policy_says_of_every_path_what_holds_and_why() {
    let disk = Disk::new("says");
    let [root, a, b, c] = ["", "a", "a/b", "a/b/c"]
        .map(|name| disk.0.join(name).components().as_path().to_path_buf());
    let policy = SandboxPolicy::workspace_write(&root)
        .access(&a, Access::Deny)
        .access(&b, Access::Write)
        .access(&c, Access::Read)
        .deny_matching(&root, "**/*.env")
        .build()
        .unwrap();
    let says = |path: &Path| {
        let ruling = policy.access(path);
        (ruling.access, ruling.by)
    };
    let by = |path: &Path| Reason::Path {
        path: path.to_path_buf(),
    };
    assert_eq!(says(&root.join("x")), (Access::Write, by(&root)));
    assert_eq!(says(&a.join("file")), (Access::Deny, by(&a)));
    assert_eq!(says(&b.join("x")), (Access::Write, by(&b)));
    assert_eq!(says(&c.join("x")), (Access::Read, by(&c)));
    let pattern = Reason::Pattern {
        pattern: "**/*.env".to_owned(),
    };
    assert_eq!(says(&b.join("x.env")), (Access::Deny, pattern.clone()));
    assert_eq!(says(&b.join("x.env/in")), (Access::Deny, pattern));
    assert_eq!(
        says(Path::new("/etc/passwd")),
        (Access::Read, Reason::Default)
    );
    let git = Reason::ProtectedName {
        path: b.join("deep/.git"),
    };
    assert_eq!(says(&b.join("deep/.git/hooks/x")), (Access::Read, git));
    assert_eq!(says(&root.join(".vscode/tasks.json")).0, Access::Read);
}

#[test]
fn only_what_is_listed_may_be_read_where_nothing_else_is() {
    let disk = Disk::new("listed");
    let policy = SandboxPolicy::workspace_write(&disk.0)
        .reads(Reads::Listed)
        .access("/usr", Access::Read)
        .build()
        .unwrap();
    let says = |path: &str| policy.access(Path::new(path)).access;
    assert_eq!(says("/usr/bin/env"), Access::Read);
    assert_eq!(says("/etc/passwd"), Access::Deny);
    assert_eq!(policy.access(&disk.0.join("x")).access, Access::Write);
}

#[test]
fn a_grant_by_name_beats_a_protected_name_and_is_noted() {
    let disk = Disk::new("grant");
    std::fs::create_dir(disk.0.join(".git")).unwrap();
    let git = disk.0.join(".git");
    let granted = SandboxPolicy::workspace_write(&disk.0)
        .root(&git)
        .build()
        .unwrap();
    assert_eq!(granted.access(&git.join("config")).access, Access::Write);
    let given_up = SandboxPolicy::workspace_write(&disk.0)
        .unprotect(&git)
        .build()
        .unwrap();
    assert_eq!(given_up.access(&git.join("config")).access, Access::Write);
    for policy in [granted, given_up] {
        assert_eq!(policy.notes().len(), 1);
        assert!(policy.notes()[0].contains(".git"));
    }
    let plain = SandboxPolicy::workspace_write(&disk.0).build().unwrap();
    assert_eq!(plain.access(&git.join("config")).access, Access::Read);
    assert_eq!(plain.notes(), Vec::<String>::new());
}

#[test]
fn what_is_denied_through_a_link_that_a_command_could_turn_is_refused() {
    let disk = Disk::new("link");
    std::os::unix::fs::symlink("a", disk.0.join("link")).unwrap();
    let refused = SandboxPolicy::workspace_write(&disk.0)
        .deny_read(disk.0.join("link/file"))
        .build();
    assert!(matches!(
        refused,
        Err(InvalidPolicy::ThroughWritableLink { link, .. }) if link == disk.0.join("link")
    ));
    std::os::unix::fs::symlink("loop", disk.0.join("loop")).unwrap();
    let refused = SandboxPolicy::read_only()
        .deny_read(disk.0.join("loop"))
        .build();
    assert!(refused.is_err());
    // Where nobody may turn the link, what it points to is denied.
    let policy = SandboxPolicy::read_only()
        .deny_read(disk.0.join("link/file"))
        .build()
        .unwrap();
    assert_eq!(policy.denied_reads(), [disk.0.join("a/file")]);
}

#[test]
fn a_file_may_be_writable_and_what_is_neither_file_nor_folder_may_not() {
    let disk = Disk::new("file");
    let policy = SandboxPolicy::read_only()
        .root(disk.0.join("a/file"))
        .build()
        .unwrap();
    assert_eq!(policy.roots(), [disk.0.join("a/file")]);
    let refused = SandboxPolicy::read_only().root("/dev/null").build();
    assert!(refused.is_err());
}
