//! The order of operations, on surroundings made by hand.

use super::*;
use crate::command::{Program, WorkingDirectory};
use crate::surroundings::HostSockets;

fn around(user: u32) -> Surroundings {
    Surroundings {
        user,
        landlock_abi: Some(7),
        protected: Vec::new(),
        covered: Vec::new(),
        files: Vec::new(),
        top: Vec::new(),
        notes: Vec::new(),
        sockets: HostSockets::default(),
        veils: Vec::new(),
        shown: Vec::new(),
        home: None,
        standing: vec!["/run".into()],
        raw_devices: Vec::new(),
        name_files: Vec::new(),
    }
}

fn command() -> Command {
    let program = Program::open("/bin/true").unwrap();
    Command::new(["true"], program, WorkingDirectory::open("/").unwrap()).unwrap()
}

fn place(operations: &[Operation], wanted: impl Fn(&Operation) -> bool) -> usize {
    operations.iter().position(wanted).unwrap()
}

#[test]
fn what_is_hidden_comes_after_everything_that_could_show_it() {
    let policy = SandboxPolicy::read_only().build().unwrap();
    let mut around = around(1000);
    around.covered = vec![("/srv/secret".into(), Kind::Directory)];
    let operations = confined(&policy, &command(), &around);
    let hide = place(&operations, |operation| {
        matches!(operation, Operation::Hide { .. })
    });
    assert_eq!(hide, operations.len() - 1);
}

#[test]
fn a_path_under_a_private_folder_needs_no_cover() {
    let policy = SandboxPolicy::read_only().build().unwrap();
    let mut around = around(1000);
    around.covered = vec![("/run/secret".into(), Kind::File)];
    let operations = confined(&policy, &command(), &around);
    assert!(
        !operations
            .iter()
            .any(|operation| matches!(operation, Operation::Hide { .. }))
    );
}

#[test]
fn the_tree_is_read_only_before_anything_is_put_on_it() {
    let policy = SandboxPolicy::read_only().build().unwrap();
    let operations = confined(&policy, &command(), &around(1000));
    assert_eq!(operations.first(), Some(&Operation::ReadOnlyTree));
}

#[test]
fn every_directory_above_a_guarded_path_in_a_root_is_pinned_before_the_root_is_attached() {
    let root = std::env::temp_dir().join(format!("sandbox-pins-{}", std::process::id()));
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    let policy = SandboxPolicy::workspace_write(&root).build().unwrap();
    let mut around = around(1000);
    around.covered = vec![(policy.roots()[0].join("a/b/secret"), Kind::File)];
    let operations = confined(&policy, &command(), &around);
    std::fs::remove_dir_all(&root).unwrap();
    let pins = operations
        .iter()
        .filter(|operation| matches!(operation, Operation::Pin { .. }));
    assert_eq!(pins.count(), 2);
    let last_pin = operations
        .iter()
        .rposition(|operation| matches!(operation, Operation::Pin { .. }));
    assert!(
        last_pin.unwrap()
            < place(&operations, |operation| matches!(
                operation,
                Operation::Attach { .. }
            ))
    );
}

#[test]
fn only_the_roots_and_the_private_folders_can_be_written() {
    let policy = SandboxPolicy::read_only().build().unwrap();
    let operations = confined(&policy, &command(), &around(1000));
    let mut writable = writable(&operations);
    writable.sort();
    assert_eq!(writable, ["/dev/shm", "/tmp"].map(PathBuf::from));
}
