//! Hosts that somebody approved for the rest of a session, between two runs.
//!
//! Apart from permissions because they move no wall: the door's questions alone look here, after its rules. Invariants: what
//! does not open under the runner's key, in the same session, workspace and for the same caller, answers no question; a rule
//! that denies a host by now is asked first, so that no leave outlasts it.

use jiff::Timestamp;
use protocol::{
    KeptHost, LeaveEnded, NetworkAccess, PermittedAction, Printable, ReviewId, SessionReference,
    StandingHost,
};

use super::{HOSTS, LONGEST, Leaves, LeavesError, place, read};
use crate::prepare::Prepared;

/// What stands for the door of one run, and where more is kept.
#[derive(Debug, Default)]
pub(crate) struct StandingHosts {
    /// `None` without a session, which nothing could last for.
    leaves: Option<Leaves>,
    hosts: Vec<StandingHost>,
    /// What the user should know of it, a line each.
    pub(crate) notes: Vec<String>,
}

impl StandingHosts {
    /// What stands for a run of `session`. Where no leave was ever given, nothing is read.
    ///
    /// # Errors
    /// The folder is there and cannot be read, or there is no key.
    pub(crate) fn of(prepared: &Prepared, session: &SessionReference) -> Result<Self, LeavesError> {
        let Some(place) = place(session, prepared.directory.path()) else {
            return Ok(Self::default());
        };
        let leaves = Leaves::new(&prepared.state, place)?;
        let mut standing = leaves.hosts(Timestamp::now())?;
        standing.leaves = Some(leaves);
        Ok(standing)
    }

    /// The review that covers `access` at `now`, if one does.
    pub(crate) fn covers(&self, access: &NetworkAccess, now: Timestamp) -> Option<ReviewId> {
        self.hosts.iter().find_map(|host| host.covers(access, now))
    }

    /// Whether nothing stands.
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether there is a session that an answer could last for.
    pub(crate) fn has_session(&self) -> bool {
        self.leaves.is_some()
    }

    /// Keeps the leave that `permitted` gives for the rest of the session, durably; answers whether there is a session.
    ///
    /// # Errors
    /// It is not on disk: then it does not hold beyond this command.
    pub(crate) fn keep(&self, permitted: PermittedAction) -> Result<bool, LeavesError> {
        let Some(leaves) = &self.leaves else {
            return Ok(false);
        };
        let until = Timestamp::now() + LONGEST;
        let kept = KeptHost::of(permitted, &leaves.place, until, |bytes| {
            leaves.key.hash(bytes)
        })?;
        leaves.write(&kept, HOSTS)?;
        Ok(true)
    }
}

impl Leaves {
    /// The hosts that stand at `now`; what has ended is removed where it can be.
    fn hosts(&self, now: Timestamp) -> Result<StandingHosts, LeavesError> {
        let mut standing = StandingHosts::default();
        for path in self.files(HOSTS)?.into_iter().take(super::MAX_LEAVES) {
            let kept = match read::<KeptHost>(&path) {
                Ok(kept) => kept,
                Err(error) => {
                    standing.notes.push(unused(&path, &error.to_string()));
                    continue;
                }
            };
            match kept.open(&self.place, now, |bytes| self.key.hash(bytes)) {
                Ok(host) => standing.hosts.push(host),
                // It stays shut, removed or not.
                Err(LeaveEnded::Expired) => std::fs::remove_file(&path).unwrap_or_default(),
                Err(error) => standing.notes.push(unused(&path, &error.to_string())),
            }
        }
        Ok(standing)
    }
}

fn unused(path: &std::path::Path, reason: &str) -> String {
    format!(
        "`{}` opens no host: {reason}",
        Printable(&path.display().to_string())
    )
}
