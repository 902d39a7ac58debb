//! Leave that lasts for a turn or session, kept in the runner's own folder between two runs.
//!
//! Apart from the question that gives it ([`crate::request_permissions`]) because every run looks for it. One sealed file
//! for each leave (0600, in a folder that no command can touch). Invariants: what cannot be read whole, does not open
//! under the runner's key, or was given elsewhere moves no wall; a leave ends with its turn for good.

mod hosts;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use protocol::{
    AbsolutePath, AdditionalPermissions, CallerId, Canonical, KeptLeave, LeaveEnded, LeavePlace,
    PermittedAction, Printable, SessionReference, StandingLeave,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::config::Environment;
use crate::failure::Failure;
use crate::own_file;
use crate::prepare::Prepared;
use crate::route::{Category, may_ask};
use crate::state::{MaskKey, State, StateError};
use crate::walls;

pub(crate) use hosts::StandingHosts;

/// How long leave lasts at most, whatever becomes of its session: longer than a working day.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);
/// The longest file of a leave, in bytes.
const MAX_BYTES: u64 = 256 * 1024;
/// How many leaves of one session can stand. No more are kept.
const MAX_LEAVES: usize = 256;
/// How the files of permissions end, and those of hosts.
const PERMISSIONS: &str = ".json";
const HOSTS: &str = ".host";

/// Why leave cannot be kept or ended.
#[derive(Debug, Error)]
pub(crate) enum LeavesError {
    /// The folder or a file in it cannot be used.
    #[error("cannot use `{}`", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no key to seal under.
    #[error(transparent)]
    Key(#[from] StateError),
    /// The approval gives no leave that lasts.
    #[error(transparent)]
    NoLeave(#[from] protocol::NoLeave),
    /// The session has as many as can stand.
    #[error(
        "this session has {MAX_LEAVES} leaves, and no more can stand\nhint: end them with `request-permissions --end`, then ask again"
    )]
    TooMany,
}

/// The leaves of one session in one workspace.
#[derive(Debug)]
pub(crate) struct Leaves {
    folder: PathBuf,
    place: LeavePlace,
    key: MaskKey,
}

/// What stands for one run.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The leave; `None`: there is none.
    pub(crate) leave: Option<StandingLeave>,
    /// What the user should know of it, a line each.
    pub(crate) notes: Vec<String>,
    /// What has ended.
    ended: Vec<PathBuf>,
}

impl Standing {
    /// Removes what has ended, so that it cannot begin again.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove_ended(&self) -> Result<(), LeavesError> {
        self.ended.iter().try_for_each(|path| remove(path))
    }
}

/// Where leave is given and holds; `None` without a session, which nothing could last for.
pub(crate) fn place(session: &SessionReference, workspace: &Path) -> Option<LeavePlace> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    Some(LeavePlace {
        session_id: named(&session.session_id)?,
        turn_id: named(&session.turn_id),
        caller: CallerId::of_uid(rustix::process::geteuid().as_raw()),
        workspace: AbsolutePath::try_from(workspace.to_str()?.to_owned()).ok()?,
    })
}

/// The leave that stands for a run of `session` in `workspace` under `settings`. Without a session, or where none was ever
/// given, this costs nothing.
///
/// # Errors
/// The folder is there and cannot be read.
pub(crate) fn standing(
    prepared: &Prepared,
    environment: &Environment,
    session: &SessionReference,
) -> Result<Standing, LeavesError> {
    let settings = &prepared.settings;
    let place = place(session, prepared.directory.path());
    let Some(place) = place.filter(|_| prepared.state.leaves().exists()) else {
        return Ok(Standing::default());
    };
    let mut standing = Leaves::new(&prepared.state, place)?.standing(Timestamp::now())?;
    let Some(leave) = standing.leave.take() else {
        return Ok(standing);
    };
    // Settings that are stricter by now end what milder ones allowed to be asked.
    if let Err(refusal) = may_ask(settings.approval, Category::Permissions) {
        let because = refusal.because();
        standing.notes.push(format!(
            "permissions that were given before are not used: {because}"
        ));
        return Ok(standing);
    }
    if matches!(prepared.standing, walls::Standing::Reduced(_)) {
        let note = "permissions that were given before are not used: this host makes no namespaces, and `--best-effort` opens nothing more than the settings do";
        standing.notes.push(note.to_owned());
        return Ok(standing);
    }
    let mut dropped = Vec::new();
    let narrowed = leave.narrowed(|path| {
        let as_it_was = path
            .as_path()
            .canonicalize()
            .is_ok_and(|now| now == path.as_path());
        let barred = walls::managed_denial(settings, environment, &prepared.policy, [path]);
        let barred = barred.is_some();
        if !as_it_was || barred {
            dropped.push(format!(
                "permissions for `{}` were given and are not used: it is gone, leads elsewhere, or is denied by now",
                Printable(path.as_str())
            ));
        }
        as_it_was && !barred
    });
    standing.notes.extend(dropped);
    if let Some(leave) = &narrowed {
        standing.notes.push(told(leave));
    }
    standing.leave = narrowed;
    Ok(standing)
}

/// What `leave` permits, in one line.
fn told(leave: &StandingLeave) -> String {
    let reviews: Vec<String> = leave.reviews().iter().map(ToString::to_string).collect();
    format!(
        "this turn or session has leave to {} (review {})",
        shown_permissions(leave.permissions()),
        reviews.join(", ")
    )
}

/// Permissions as a person reads them.
pub(crate) fn shown_permissions(permissions: &AdditionalPermissions) -> String {
    let list = |verb: &str, paths: &[AbsolutePath]| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("`{}`", Printable(path.as_str())))
            .collect();
        (!paths.is_empty()).then(|| format!("{verb} {}", paths.join(", ")))
    };
    let network = permissions.network.then(|| "reach the network".to_owned());
    let all = [
        list("read", &permissions.read),
        list("write", &permissions.write),
        network,
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

impl Leaves {
    /// The leaves of `place`.
    ///
    /// # Errors
    /// There is no key to open them with.
    pub(crate) fn new(state: &State, place: LeavePlace) -> Result<Self, LeavesError> {
        Ok(Self {
            folder: state.leaves(),
            key: state.mask_key()?,
            place,
        })
    }

    /// Keeps the leave that `permitted` gives, durably.
    ///
    /// # Errors
    /// It is no leave that lasts, or is not on disk: then it does not hold.
    pub(crate) fn keep(&self, permitted: PermittedAction) -> Result<KeptLeave, LeavesError> {
        let until = Timestamp::now() + LONGEST;
        let kept = KeptLeave::of(permitted, &self.place, until, |bytes| self.key.hash(bytes))?;
        self.write(&kept, PERMISSIONS)?;
        Ok(kept)
    }

    /// Puts `kept` into a file of its own, durably.
    fn write(&self, kept: &impl Serialize, ending: &str) -> Result<(), LeavesError> {
        if self.files(ending)?.len() >= MAX_LEAVES {
            return Err(LeavesError::TooMany);
        }
        let name = format!("{}-{}{ending}", self.tag(), uuid::Uuid::new_v4());
        let path = self.folder.join(name);
        let write = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)?;
            let draft = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            serde_json::to_writer(&mut file, kept)?;
            file.flush()?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(unusable(&path))
    }

    /// Ends every leave of the session in this workspace; answers how many there were.
    ///
    /// # Errors
    /// One cannot be removed: it still holds.
    pub(crate) fn end(&self) -> Result<usize, LeavesError> {
        let mut files = self.files(PERMISSIONS)?;
        files.extend(self.files(HOSTS)?);
        for path in &files {
            remove(path)?;
        }
        Ok(files.len())
    }

    /// What stands at `now`.
    fn standing(&self, now: Timestamp) -> Result<Standing, LeavesError> {
        let mut standing = Standing::default();
        // Each is looked at before every command; `write` lets no more come into being.
        for path in self.files(PERMISSIONS)?.into_iter().take(MAX_LEAVES) {
            let opened = read::<KeptLeave>(&path)
                .map_err(|error| error.to_string())
                .and_then(|kept| {
                    let opened = kept.open(&self.place, now, |bytes| self.key.hash(bytes));
                    match opened {
                        Ok(leave) => Ok(Some(leave)),
                        Err(LeaveEnded::NoTurn) => Ok(None),
                        Err(LeaveEnded::TurnOver | LeaveEnded::Expired) => {
                            standing.ended.push(path.clone());
                            Ok(None)
                        }
                        Err(error @ (LeaveEnded::Forged | LeaveEnded::Elsewhere)) => {
                            Err(error.to_string())
                        }
                    }
                });
            match opened {
                Ok(None) => {}
                Ok(Some(leave)) => {
                    standing.leave = Some(match standing.leave.take() {
                        Some(known) => known.and(leave),
                        None => leave,
                    });
                }
                Err(reason) => standing.notes.push(format!(
                    "`{}` moves no wall: {reason}",
                    Printable(&path.display().to_string())
                )),
            }
        }
        Ok(standing)
    }

    /// The files of this session, caller and workspace with this ending, by name.
    fn files(&self, ending: &str) -> Result<Vec<PathBuf>, LeavesError> {
        let tag = self.tag();
        let listed = match std::fs::read_dir(&self.folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(&self.folder)(error)),
        };
        let mut files = Vec::new();
        for entry in listed {
            let entry = entry.map_err(unusable(&self.folder))?;
            let name = entry.file_name();
            let ours = name
                .to_str()
                .is_some_and(|name| name.starts_with(&tag) && name.ends_with(ending));
            if ours {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// What the files of one place begin with: nothing of the session's name stands in a folder's listing.
    fn tag(&self) -> String {
        let mut bytes = Canonical::new("auto-review leave's place v1");
        bytes
            .text(&self.place.session_id)
            .text(self.place.caller.as_str())
            .text(self.place.workspace.as_str());
        let hash = self.key.hash(bytes.as_bytes());
        hash.as_str().chars().take(32).collect()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = own_file::read(path, MAX_BYTES)?;
    protocol::parse_strict(&text).map_err(io::Error::other)
}

fn remove(path: &Path) -> Result<(), LeavesError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> LeavesError {
    let path = path.to_owned();
    move |source| LeavesError::Unusable { path, source }
}

/// A request's paths as the disk has them now: what is reviewed is what is given.
///
/// # Errors
/// A path is not there.
pub(crate) fn resolved(wanted: &AdditionalPermissions) -> Result<AdditionalPermissions, Failure> {
    let one = |path: &AbsolutePath| -> Result<AbsolutePath, Failure> {
        let shown = Printable(path.as_str()).to_string();
        let failed =
            |reason: String| Failure::because(format!("`{shown}` cannot be given: {reason}"));
        let found = path
            .as_path()
            .canonicalize()
            .map_err(|error| failed(error.to_string()))?;
        let text = found.into_os_string().into_string();
        let text = text.map_err(|_| failed("its path is not UTF-8".to_owned()))?;
        AbsolutePath::try_from(text).map_err(failed)
    };
    let all = |paths: &[AbsolutePath]| paths.iter().map(one).collect::<Result<Vec<_>, _>>();
    Ok(AdditionalPermissions {
        read: all(&wanted.read)?,
        write: all(&wanted.write)?,
        network: wanted.network,
    })
}
