//! Leave that lasts: permissions that were given for the rest of a turn or a session, and the form in which they are kept.
//!
//! Apart from [`crate::permit`] because what is kept on a disk is no proof by itself. Invariants: a [`KeptLeave`] is made
//! from a spent approval alone and opens only under the key that sealed it, for the session, turn, caller and workspace
//! that it was given in; what opens is never more than what was asked for.

mod host;

use std::path::{Component, Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::{AbsolutePath, Action, AdditionalPermissions, PermissionScope, Sha256Hex};
use crate::canonical::Canonical;
use crate::permit::{PermitSource, PermittedAction};
use crate::review::ReviewId;
use crate::tenant::CallerId;

pub use host::{KeptHost, StandingHost};

/// Where leave was given, and where alone it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavePlace {
    /// The session.
    pub session_id: String,
    /// The turn in it, where one is named.
    pub turn_id: Option<String>,
    /// Whose session it is.
    pub caller: CallerId,
    /// The folder that commands run in.
    pub workspace: AbsolutePath,
}

/// Leave as it is kept between two runs, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptLeave {
    permissions: AdditionalPermissions,
    scope: PermissionScope,
    review_id: ReviewId,
    session_id: String,
    turn_id: Option<String>,
    caller: String,
    workspace: AbsolutePath,
    expires_at: Timestamp,
    seal: Sha256Hex,
}

/// Permissions that hold for the commands of a turn or session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingLeave {
    permissions: AdditionalPermissions,
    reviews: Vec<ReviewId>,
}

/// Why an approval gives no leave that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoLeave {
    /// What was permitted is something else.
    #[error("the permitted action is not what leave of this kind is for")]
    NotAsked,
    /// Nobody was asked.
    #[error("only a review or a person gives leave that lasts")]
    Source,
    /// It is to end with a turn that nobody named.
    #[error("leave for a turn needs the turn's name")]
    NoTurn,
}

/// Why kept leave does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LeaveEnded {
    /// It is not as it was sealed.
    #[error("it was not kept by this runner, or was changed since")]
    Forged,
    /// It was given elsewhere.
    #[error("it was given to another session, caller or workspace")]
    Elsewhere,
    /// Its turn is over.
    #[error("its turn is over")]
    TurnOver,
    /// A run that names no turn has no part in a turn's leave.
    #[error("it holds in its turn alone")]
    NoTurn,
    /// Its time is over.
    #[error("its time is over")]
    Expired,
}

impl KeptLeave {
    /// Turns a spent approval of a request for permissions into leave that lasts until `expires_at` at most. `seal` is a
    /// keyed hash (RFC 2104) under a key that no command can read.
    ///
    /// # Errors
    /// See [`NoLeave`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "leave is for one purpose: it is used up here"
    )]
    pub fn of(
        permitted: PermittedAction,
        place: &LeavePlace,
        expires_at: Timestamp,
        seal: impl Fn(&[u8]) -> Sha256Hex,
    ) -> Result<Self, NoLeave> {
        let Action::PermissionRequest(request) = permitted.action() else {
            return Err(NoLeave::NotAsked);
        };
        let review_id = match permitted.source() {
            PermitSource::Review(id) | PermitSource::Person(id) => *id,
            PermitSource::AllowRule(_) | PermitSource::FullAccess => return Err(NoLeave::Source),
        };
        if request.scope == PermissionScope::Turn && place.turn_id.is_none() {
            return Err(NoLeave::NoTurn);
        }
        let mut kept = Self {
            permissions: request.permissions.clone(),
            scope: request.scope,
            review_id,
            session_id: place.session_id.clone(),
            turn_id: place.turn_id.clone(),
            caller: place.caller.as_str().to_owned(),
            workspace: place.workspace.clone(),
            expires_at,
            seal: Sha256Hex::of(&[0; 32]),
        };
        kept.seal = seal(kept.canonical().as_bytes());
        Ok(kept)
    }

    /// Opens it for a run in `place` at `now`.
    ///
    /// # Errors
    /// See [`LeaveEnded`]; no wall moves then.
    pub fn open(
        self,
        place: &LeavePlace,
        now: Timestamp,
        seal: impl Fn(&[u8]) -> Sha256Hex,
    ) -> Result<StandingLeave, LeaveEnded> {
        if seal(self.canonical().as_bytes()) != self.seal {
            return Err(LeaveEnded::Forged);
        }
        let same = self.session_id == place.session_id
            && self.caller == place.caller.as_str()
            && self.workspace == place.workspace;
        if !same {
            return Err(LeaveEnded::Elsewhere);
        }
        if now >= self.expires_at {
            return Err(LeaveEnded::Expired);
        }
        if self.scope == PermissionScope::Turn {
            match &place.turn_id {
                None => return Err(LeaveEnded::NoTurn),
                turn if *turn != self.turn_id => return Err(LeaveEnded::TurnOver),
                Some(_) => {}
            }
        }
        Ok(StandingLeave {
            permissions: self.permissions,
            reviews: vec![self.review_id],
        })
    }

    /// Everything but the seal, as the bytes that are sealed.
    fn canonical(&self) -> Canonical {
        let mut out = Canonical::new("auto-review standing leave v1");
        for paths in [&self.permissions.read, &self.permissions.write] {
            out.list(paths, |out, path| {
                out.text(path.as_str());
            });
        }
        out.number(self.permissions.network.into())
            .text(self.scope.as_str())
            .text(&self.review_id.to_string())
            .text(&self.session_id)
            .optional(self.turn_id.as_deref())
            .text(&self.caller)
            .text(self.workspace.as_str())
            .text(&self.expires_at.to_string());
        out
    }
}

impl StandingLeave {
    /// What it permits beside what the policy allows.
    #[must_use]
    pub fn permissions(&self) -> &AdditionalPermissions {
        &self.permissions
    }

    /// The reviews that gave it.
    #[must_use]
    pub fn reviews(&self) -> &[ReviewId] {
        &self.reviews
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let add = |into: &mut Vec<AbsolutePath>, more: Vec<AbsolutePath>| {
            for path in more {
                if !into.contains(&path) {
                    into.push(path);
                }
            }
        };
        add(&mut self.permissions.read, other.permissions.read);
        add(&mut self.permissions.write, other.permissions.write);
        self.permissions.network |= other.permissions.network;
        self.reviews.extend(other.reviews);
        self
    }

    /// The part of it whose paths `keep` keeps; `None` where nothing is left.
    #[must_use]
    pub fn narrowed(mut self, mut keep: impl FnMut(&AbsolutePath) -> bool) -> Option<Self> {
        self.permissions.read.retain(&mut keep);
        self.permissions.write.retain(&mut keep);
        (self.permissions != AdditionalPermissions::default()).then_some(self)
    }

    /// Whether it permits all of `wanted`. What may be written may be read; what lies below a folder goes with it.
    #[must_use]
    pub fn covers(&self, wanted: &AdditionalPermissions) -> bool {
        let held = &self.permissions;
        let below = |path: &AbsolutePath, folders: &[AbsolutePath]| {
            is_plain(path.as_path())
                && folders
                    .iter()
                    .any(|folder| path.as_path().starts_with(folder.as_path()))
        };
        let read = |path| below(path, &held.read) || below(path, &held.write);
        wanted.read.iter().all(read)
            && wanted.write.iter().all(|path| below(path, &held.write))
            && (held.network || !wanted.network)
    }
}

/// Without `..`, which may lead out again.
fn is_plain(path: &Path) -> bool {
    !path
        .components()
        .any(|part| matches!(part, Component::ParentDir))
}

#[cfg(test)]
mod tests;
