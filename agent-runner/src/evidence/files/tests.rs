use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Barred, Missing, look};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("auto-review-look-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).expect("a folder");
        Self(path.canonicalize().expect("a path"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder is removed");
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_link_is_told_and_not_followed_and_a_pipe_or_device_is_not_read() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("secret"), "s").expect("a file");
    symlink(scratch.0.join("secret"), scratch.0.join("link")).expect("a link");
    let none = Barred::default();
    let found = look(&scratch.0.join("link"), &none)
        .expect("seen")
        .expect("there");
    assert_eq!(found.kind, "link");
    assert_eq!(found.read(10), Err(Missing::NotARegularFile));
    assert!(
        found
            .points_to
            .is_some_and(|target| target.ends_with("secret"))
    );
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        scratch.0.join("pipe"),
        rustix::fs::Mode::RUSR,
    )
    .expect("a pipe");
    let found = look(&scratch.0.join("pipe"), &none)
        .expect("seen")
        .expect("there");
    assert_eq!(
        (found.kind, found.read(10)),
        ("pipe", Err(Missing::NotARegularFile))
    );
    let found = look("/dev/zero".as_ref(), &none)
        .expect("seen")
        .expect("there");
    assert_eq!(
        (found.kind, found.read(10)),
        ("device", Err(Missing::NotARegularFile))
    );
    let found = look("/proc/self/status".as_ref(), &none)
        .expect("seen")
        .expect("there");
    assert_eq!(found.read(10), Err(Missing::KernelFile));
}

#[test]
fn what_the_command_may_not_read_is_not_read_by_any_of_its_names() {
    let scratch = Scratch::new();
    let secret = scratch.0.join("secret");
    fs::write(&secret, "s").expect("a file");
    fs::hard_link(&secret, scratch.0.join("second")).expect("a second name");
    fs::create_dir(scratch.0.join("closed")).expect("a folder");
    fs::write(scratch.0.join("closed/x"), "x").expect("a file");
    let barred = Barred::new(vec![secret, scratch.0.join("closed")]);
    for name in ["secret", "second", "closed", "closed/x"] {
        let seen = look(&scratch.0.join(name), &barred);
        assert_eq!(seen.err(), Some(Missing::DeniedRead), "{name}");
    }
    let all = look(&scratch.0, &barred).expect("seen").expect("there");
    let count = all.count(100, soon(), &barred).expect("counted");
    assert_eq!((count.entries, count.not_counted), (3, 1), "{count:?}");
}

#[test]
fn a_swap_after_the_look_shows_what_was_looked_at() {
    let scratch = Scratch::new();
    let path = scratch.0.join("x");
    fs::write(&path, "first").expect("a file");
    let found = look(&path, &Barred::default())
        .expect("seen")
        .expect("there");
    fs::remove_file(&path).expect("removed");
    symlink("/etc/passwd", &path).expect("a link");
    assert_eq!(found.read(100), Ok(b"first".to_vec()));
}

#[test]
fn a_large_folder_is_counted_in_part_and_a_sparse_file_by_what_it_takes() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("many");
    fs::create_dir(&folder).expect("a folder");
    for at in 0..500 {
        fs::write(folder.join(at.to_string()), "x").expect("a file");
    }
    let none = Barred::default();
    let found = look(&folder, &none).expect("seen").expect("there");
    let whole = found.count(10_000, soon(), &none).expect("counted");
    assert_eq!((whole.entries, whole.bytes, whole.more), (500, 500, false));
    let part = found.count(100, soon(), &none).expect("counted");
    assert_eq!((part.entries, part.more), (100, true));
    let late = found.count(10_000, Instant::now(), &none).expect("counted");
    assert!(late.more);

    let sparse = scratch.0.join("sparse");
    let file = fs::File::create(&sparse).expect("a file");
    file.set_len(10 << 30).expect("10 GiB of nothing");
    let found = look(&sparse, &none).expect("seen").expect("there");
    assert_eq!(found.bytes, 10 << 30);
    assert!(found.allocated < 1 << 20);
    assert_eq!(found.read(1000).map(|bytes| bytes.len()), Ok(1000));
}

#[test]
fn folders_on_the_way_are_resolved_and_what_is_missing_is_missing() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.0.join("real")).expect("a folder");
    fs::write(scratch.0.join("real/x"), "x").expect("a file");
    symlink(scratch.0.join("real"), scratch.0.join("way")).expect("a link");
    let none = Barred::default();
    let found = look(&scratch.0.join("way/x"), &none)
        .expect("seen")
        .expect("there");
    assert_eq!(found.path, scratch.0.join("real/x"));
    assert!(
        look(&scratch.0.join("none"), &none)
            .expect("seen")
            .is_none()
    );
    assert!(
        look(&scratch.0.join("none/x"), &none)
            .expect("seen")
            .is_none()
    );
    assert!(
        look(&scratch.0.join("real/x/y"), &none)
            .expect("seen")
            .is_none()
    );
}
