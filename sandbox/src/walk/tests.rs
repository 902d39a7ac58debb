//! Walks of real trees, anew and from memory.

use super::*;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

struct Disk(PathBuf);

impl Disk {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandbox-walk-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder.canonicalize().unwrap())
    }

    fn file(&self, name: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn walk(&self, patterns: &[DeniedPattern], memory: Option<&Path>) -> Vec<(String, Why)> {
        let wanted = Wanted {
            patterns,
            depth: None,
            aliases: &[],
            memory,
        };
        let found = walk(&self.0, wanted).unwrap().into_iter();
        let below = |path: PathBuf| path.strip_prefix(&self.0).unwrap().display().to_string();
        let mut found: Vec<_> = found.map(|found| (below(found.path), found.why)).collect();
        found.sort();
        found
    }

    fn pattern(&self, text: &str) -> DeniedPattern {
        DeniedPattern::parse(&self.0, text).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn hidden_and_ignored_files_are_found_at_every_depth() {
    let disk = Disk::new();
    disk.file(".gitignore");
    fs::write(disk.0.join(".gitignore"), "*\n").unwrap();
    disk.file(".secret/a/.env");
    disk.file("node_modules/x/prod.env");
    disk.file("vendor/one/.git/HEAD");
    disk.file("sub/.git");
    let found = disk.walk(&[disk.pattern("**/*.env")], None);
    assert_eq!(
        found,
        [
            (".secret/a/.env".to_owned(), Why::Denied),
            ("node_modules/x/prod.env".to_owned(), Why::Denied),
            ("sub/.git".to_owned(), Why::Repository),
            ("vendor/one/.git".to_owned(), Why::Repository),
        ]
    );
}

#[test]
fn what_changes_between_walks_is_seen_in_memory_and_from_the_file() {
    let disk = Disk::new();
    let memory = Disk::new();
    for folder in 0..64 {
        disk.file(&format!("f{folder}/in/file"));
    }
    let patterns = [disk.pattern("**/*.env")];
    let walk = || disk.walk(&patterns, Some(&memory.0));
    assert_eq!(walk(), []);
    // Past the tick of the clock, so that what is remembered counts.
    std::thread::sleep(std::time::Duration::from_millis(80));
    assert_eq!(walk(), []);
    memory::forget(&disk.0);
    assert_eq!(walk(), []);
    for round in 0..3 {
        let name = format!("f{round}/in/new.env");
        disk.file(&name);
        memory::forget(&disk.0);
        assert_eq!(walk(), [(name.clone(), Why::Denied)], "made");
        fs::rename(disk.0.join(format!("f{round}/in")), disk.0.join("moved")).unwrap();
        assert_eq!(walk(), [("moved/new.env".to_owned(), Why::Denied)], "moved");
        fs::remove_dir_all(disk.0.join("moved")).unwrap();
        memory::forget(&disk.0);
        assert_eq!(walk(), [], "removed");
    }
}

#[test]
fn other_patterns_are_looked_for_anew() {
    let disk = Disk::new();
    disk.file("a/x.env");
    disk.file("a/x.pem");
    std::thread::sleep(std::time::Duration::from_millis(80));
    assert_eq!(disk.walk(&[disk.pattern("**/*.env")], None).len(), 1);
    let other = disk.walk(&[disk.pattern("**/*.pem")], None);
    assert_eq!(other, [("a/x.pem".to_owned(), Why::Denied)]);
    assert_eq!(disk.walk(&[], None), []);
}

#[test]
fn a_depth_bounds_patterns_and_nothing_else() {
    let disk = Disk::new();
    disk.file("x.env");
    disk.file("a/x.env");
    disk.file("a/b/x.env");
    disk.file("a/b/c/.git/HEAD");
    let patterns = [disk.pattern("**/*.env")];
    let wanted = Wanted {
        patterns: &patterns,
        depth: Some(1),
        aliases: &[],
        memory: None,
    };
    let mut found: Vec<_> = walk(&disk.0, wanted)
        .unwrap()
        .into_iter()
        .map(|found| found.path)
        .collect();
    found.sort();
    let expected = ["a/b/c/.git", "a/x.env", "x.env"].map(|name| disk.0.join(name));
    assert_eq!(found, expected);
}

#[test]
fn more_than_can_be_guarded_is_refused() {
    let disk = Disk::new();
    for number in 0..=MOST_FOUND {
        fs::write(disk.0.join(format!("{number}.env")), "").unwrap();
    }
    let patterns = [disk.pattern("*.env")];
    let wanted = Wanted {
        patterns: &patterns,
        depth: None,
        aliases: &[],
        memory: None,
    };
    let refused = walk(&disk.0, wanted);
    assert!(matches!(refused, Err(PlanError::TooManyFound { .. })));
}
