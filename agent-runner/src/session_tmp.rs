//! The `/tmp` that commands of a session have in common (design D28): [`SessionTmp`].
//!
//! What one command leaves there, the next one finds, as people and agents expect of `/tmp`. Only for commands that run
//! within the walls as they stand: what a reviewed command reads was held for its reviewer as it lies on the host, and
//! nothing in here was. Invariants: it lies in the runner's own folder, where no command reaches it but as its `/tmp`; nobody
//! removes it while a command has it; it goes with its session, or twelve hours after its last command.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use protocol::{CallerId, Canonical, SessionReference};
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::remove_tree::remove_tree;
use crate::state::{State, StateError};

/// How long one is kept behind its last command: longer than a working day.
const LONGEST: Duration = Duration::from_hours(12);
/// What the name of one ends with that is being removed.
const GOING: &str = "going";
/// How many files of those a command that makes a new one removes beside, in some tenths of a second at most.
const AT_A_TIME: usize = 20_000;
/// How often one that somebody is just removing is made anew.
const TRIES: usize = 20;

/// The temporary folder of a session, in use until this is dropped.
#[derive(Debug)]
pub(crate) struct SessionTmp {
    path: PathBuf,
    _used: File,
}

/// What became of a session's temporary folder at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It is gone.
    Yes,
    /// There was none.
    None,
    /// A command has it; it goes at the next end, or by its age.
    InUse,
}

impl Removed {
    /// Its name, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Yes => "removed",
            Self::None => "none",
            Self::InUse => "in_use",
        }
    }
}

impl SessionTmp {
    /// The folder of `session`, made where it is missing, for a run at `now`; `None` for a run of no session.
    ///
    /// # Errors
    /// It cannot be made or held.
    pub(crate) fn of(
        state: &State,
        session: &SessionReference,
        now: Timestamp,
    ) -> Result<Option<Self>, StateError> {
        let Some(outer) = folder(state, session)? else {
            return Ok(None);
        };
        if !outer.exists() {
            remove_old(&state.temporary(), now);
        }
        let held = hold(&outer, now).map_err(|source| StateError::Unusable {
            path: outer.clone(),
            source,
        })?;
        Ok(Some(held))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the folder of `session`, with what its commands left there.
///
/// # Errors
/// Something in it cannot be removed.
pub(crate) fn end(state: &State, session: &SessionReference) -> Result<Removed, StateError> {
    let Some(outer) = folder(state, session)? else {
        return Ok(Removed::None);
    };
    remove(&outer, usize::MAX).map_err(|source| StateError::Unusable {
        path: outer,
        source,
    })
}

/// Named by a keyed hash: nothing of the session's name stands in a folder's listing, and none can be guessed.
fn folder(state: &State, session: &SessionReference) -> Result<Option<PathBuf>, StateError> {
    let named = session.session_id.as_deref().filter(|id| !id.is_empty());
    let Some(id) = named else { return Ok(None) };
    let caller = CallerId::of_uid(rustix::process::geteuid().as_raw());
    let mut bytes = Canonical::new("auto-review session's temporary folder v1");
    bytes.text(id).text(caller.as_str());
    let hash = state.mask_key()?.hash(bytes.as_bytes());
    let name: String = hash.as_str().chars().take(32).collect();
    Ok(Some(state.temporary().join(name)))
}

fn hold(outer: &Path, now: Timestamp) -> io::Result<SessionTmp> {
    for _ in 0..TRIES {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(outer)?;
        let Ok(used) = File::open(outer) else {
            // Removed in between, by its age or its session's end.
            continue;
        };
        flock(&used, FlockOperation::LockShared)?;
        if !is_at(&used, outer)? {
            continue;
        }
        used.set_modified(now.into())?;
        let path = outer.join("tmp");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        // To a command it is a folder of its own, whose mode it may change.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        return Ok(SessionTmp { path, _used: used });
    }
    Err(io::Error::other("it is removed again and again"))
}

/// Removes those whose last command was long ago, and goes on with what is going. What cannot be removed is nobody's hindrance,
/// and neither is what is large: so much at a time.
fn remove_old(all: &Path, now: Timestamp) {
    let now = SystemTime::from(now);
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let last = entry.metadata().and_then(|found| found.modified());
        let old = last.is_ok_and(|last| now.duration_since(last).is_ok_and(|ago| ago > LONGEST));
        if old || is_going(&entry.path()) {
            drop(remove(&entry.path(), AT_A_TIME));
        }
    }
}

/// Takes it from its place at once, and removes it or as many `entries` of it.
fn remove(outer: &Path, entries: usize) -> io::Result<Removed> {
    let used = match File::open(outer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::None),
        opened => opened?,
    };
    if flock(&used, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(Removed::InUse);
    }
    if !is_at(&used, outer)? {
        // Somebody else ended it meanwhile. What may stand there now is a new one.
        return Ok(Removed::None);
    }
    let mut going = outer.to_owned();
    if !is_going(outer) {
        going.set_file_name(Uuid::new_v4().to_string());
        going.set_extension(GOING);
        std::fs::rename(outer, &going)?;
    }
    remove_tree(&going, entries)?;
    Ok(Removed::Yes)
}

/// Whether the open `folder` is still the one at `path`.
fn is_at(folder: &File, path: &Path) -> io::Result<bool> {
    let ours = folder.metadata()?;
    let there = path.symlink_metadata();
    Ok(there.is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())))
}

fn is_going(outer: &Path) -> bool {
    outer.extension().is_some_and(|ending| ending == GOING)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("auto-review-session-{}", Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("a folder");
            Self(path.canonicalize().expect("a path"))
        }

        fn state(&self) -> State {
            State::open(&self.0.join("state"), &self.0.join("codex"), &[]).expect("a state")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("the folder is removed");
        }
    }

    fn session(id: &str) -> SessionReference {
        SessionReference {
            session_id: Some(id.to_owned()),
            ..SessionReference::default()
        }
    }

    #[test]
    fn each_session_has_one_and_a_run_of_none_has_none() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let path = |id| {
            let held = SessionTmp::of(&state, &session(id), Timestamp::now()).expect("a folder");
            held.map(|held| held.path().to_owned())
        };
        assert_eq!(path("a"), path("a"));
        assert_ne!(path("a"), path("b"));
        assert_eq!(path(""), None);
        let none = SessionTmp::of(&state, &SessionReference::default(), Timestamp::now());
        assert!(none.expect("no folder").is_none());
        assert!(
            !path("a")
                .expect("a folder")
                .display()
                .to_string()
                .contains("/a/")
        );
    }

    #[test]
    fn its_mode_is_put_right_again() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let held = SessionTmp::of(&state, &session("a"), Timestamp::now()).expect("a folder");
        let path = held.expect("a session").path().to_owned();
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("a mode");
        SessionTmp::of(&state, &session("a"), Timestamp::now()).expect("a folder");
        let mode = path.metadata().expect("a folder").mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn it_ends_with_its_session_but_not_below_a_command() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let a = session("a");
        assert_eq!(end(&state, &a).expect("an end"), Removed::None);
        let held = SessionTmp::of(&state, &a, Timestamp::now())
            .expect("a folder")
            .expect("one");
        let closed = held.path().join("closed");
        std::fs::create_dir(&closed).expect("a folder");
        std::fs::write(closed.join("file"), "text").expect("a file");
        std::fs::set_permissions(&closed, Permissions::from_mode(0o500)).expect("a mode");
        assert_eq!(end(&state, &a).expect("an end"), Removed::InUse);
        assert!(closed.join("file").exists());
        drop(held);
        assert_eq!(end(&state, &a).expect("an end"), Removed::Yes);
        assert!(!closed.exists());
    }

    /// A command can nest folders deeper than a path is long.
    #[test]
    fn it_ends_whatever_was_left_in_it() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let a = session("a");
        let held = SessionTmp::of(&state, &a, Timestamp::now()).expect("a folder");
        let mut folder = File::open(held.expect("one").path()).expect("a folder");
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&folder, "deep", Mode::RWXU).expect("a folder");
            let inner = rustix::fs::openat(&folder, "deep", OFlags::DIRECTORY, Mode::empty());
            folder = inner.expect("a folder").into();
        }
        assert_eq!(end(&state, &a).expect("an end"), Removed::Yes);
        let left = std::fs::read_dir(state.temporary()).expect("a folder");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_large_goes_in_parts_and_its_name_at_once() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let a = session("a");
        let held = SessionTmp::of(&state, &a, Timestamp::now()).expect("a folder");
        let path = held.expect("one").path().to_owned();
        for name in 0..9 {
            std::fs::write(path.join(name.to_string()), "").expect("a file");
        }
        let outer = path.parent().expect("a folder");
        assert_eq!(remove(outer, 5).expect("a part"), Removed::Yes);
        assert!(!outer.exists());
        assert_eq!(end(&state, &a).expect("an end"), Removed::None);
        remove_old(&state.temporary(), Timestamp::now());
        let left = std::fs::read_dir(state.temporary()).expect("a folder");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_new_one_takes_those_with_it_that_were_left_long_ago() {
        let scratch = Scratch::new();
        let state = scratch.state();
        let outer = |id| {
            let held = SessionTmp::of(&state, &session(id), Timestamp::now()).expect("a folder");
            let path = held.expect("a session").path().to_owned();
            path.parent().expect("a folder").to_owned()
        };
        let (old, young) = (outer("old"), outer("young"));
        let long_ago = SystemTime::from(Timestamp::now()) - LONGEST - Duration::from_secs(1);
        File::open(&old)
            .and_then(|folder| folder.set_modified(long_ago))
            .expect("a time");
        outer("next");
        assert!(!old.exists() && young.exists());
    }
}
