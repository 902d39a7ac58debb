//! The life of a tenant's policy: what was done with policies, and which one judges a session because of it.
//!
//! Apart and pure, because command line, API and the judging must come to the same from the same lines. Invariants: what is
//! in force follows from signed changes alone, each signed over the one before it; a session is judged by one policy as
//! long as nothing changes; a shadow is never chosen.

use jiff::Timestamp;
use protocol::{Canonical, TenantId};
use thiserror::Error;

use crate::key::SigningKey;
use crate::store::Scope;

/// How many policies one can go back.
const MOST_BEFORE: usize = 100;
/// The share of sessions is decided in parts of this.
const PARTS: u64 = 100;

/// What is done with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The settings hold another one than before: it is in force.
    Settings,
    /// It judges alongside and binds nobody; without one, nothing does any more.
    Shadow,
    /// It judges a share of the sessions, or all from a time on.
    Stage,
    /// It judges everything.
    Activate,
    /// The one before judges again.
    Rollback,
}

impl What {
    pub(crate) const ALL: [Self; 5] = [
        Self::Settings,
        Self::Shadow,
        Self::Stage,
        Self::Activate,
        Self::Rollback,
    ];

    /// The name in the store and on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Shadow => "shadow",
            Self::Stage => "stage",
            Self::Activate => "activate",
            Self::Rollback => "rollback",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }
}

/// A policy by its name, and what it is made of by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) revision: String,
    /// SHA-256 of its body, in hex: the revision also covers a template that programs bring along.
    pub(crate) body_digest: String,
}

/// For whom a staged policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// So many of a hundred sessions: 1 to 99.
    Percent(u8),
    /// All, from then on.
    From(Timestamp),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) tenant: TenantId,
    /// 1 for a tenant's first.
    pub(crate) number: i64,
    pub(crate) at: Timestamp,
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) what: What,
    pub(crate) policy: Option<Named>,
    pub(crate) share: Option<Share>,
    pub(crate) signature: String,
}

/// What somebody wants to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) what: What,
    pub(crate) policy: Option<Named>,
    pub(crate) share: Option<Share>,
}

/// A policy on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) policy: Named,
    pub(crate) share: Share,
    /// What sessions are told apart by: nobody who asks for reviews knows it.
    seed: String,
}

/// What follows from the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) active: Named,
    /// Those that were in force before, the last one last.
    before: Vec<Named>,
    pub(crate) staged: Option<Staged>,
    pub(crate) shadow: Option<Named>,
    /// What the settings held when they were last noted.
    pub(crate) settings: Named,
    /// The number of the last change, and its signature.
    pub(crate) last: (i64, String),
}

/// Why a change cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotChanged {
    #[error("the policy of the settings is noted first")]
    NotFirst,
    #[error("no policy is named")]
    NoPolicy,
    #[error("this policy is in force already")]
    InForce,
    #[error("no policy is staged")]
    NothingStaged,
    #[error("no policy judges alongside")]
    NothingShadowed,
    #[error("there is no policy to go back to")]
    NothingBefore,
    #[error("a staged policy wants a share from 1 to 99 percent, or a time")]
    NoShare,
}

/// Why the changes on record cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotBelieved {
    #[error("change {0} of the policies is not the next one")]
    Number(i64),
    #[error("change {0} of the policies is not signed by this server")]
    Forged(i64),
    #[error("change {0} of the policies could not be made: {1}")]
    Impossible(i64, NotChanged),
}

impl Wanted {
    /// The change that follows `life`, signed. A rollback names what it goes back to, and an activation without a policy
    /// takes what is staged.
    ///
    /// # Errors
    /// It cannot follow.
    pub(crate) fn after(
        self,
        life: Option<&Life>,
        (tenant, at): (&TenantId, Timestamp),
        key: &SigningKey,
    ) -> Result<Change, NotChanged> {
        let (last, before) = life.map_or((0, ""), |life| (life.last.0, life.last.1.as_str()));
        let mut change = Change {
            tenant: tenant.clone(),
            number: last + 1,
            at,
            author: self.author,
            reason: crate::said::masked(key, tenant, &self.reason),
            what: self.what,
            policy: self.policy,
            share: self.share,
            signature: String::new(),
        };
        let staged = life.and_then(|life| life.staged.as_ref());
        match (change.what, &change.policy) {
            (What::Activate, None) => {
                let staged = staged.ok_or(NotChanged::NothingStaged)?;
                change.policy = Some(staged.policy.clone());
            }
            (What::Rollback, _) => {
                change.policy = Some(Life::back(life.ok_or(NotChanged::NothingBefore)?, at)?);
            }
            (What::Settings | What::Shadow | What::Stage | What::Activate, _) => {}
        }
        change.signature = key.sign_canonical(&change.to_canonical(before));
        Life::after(life.cloned(), &change)?;
        Ok(change)
    }
}

impl Change {
    fn to_canonical(&self, before: &str) -> Canonical {
        let mut out = Canonical::new("auto-review policy change v1");
        let policy = self.policy.as_ref();
        let (percent, from) = match self.share {
            Some(Share::Percent(percent)) => (Some(percent.to_string()), None),
            Some(Share::From(time)) => (None, Some(time.as_millisecond().to_string())),
            None => (None, None),
        };
        out.text(self.tenant.as_str())
            .bytes(&self.number.to_be_bytes())
            .bytes(&self.at.as_millisecond().to_be_bytes())
            .text(&self.author)
            .text(&self.reason)
            .text(self.what.as_str())
            .optional(policy.map(|it| it.revision.as_str()))
            .optional(policy.map(|it| it.body_digest.as_str()))
            .optional(percent.as_deref())
            .optional(from.as_deref())
            .text(before);
        out
    }
}

impl Life {
    /// What follows from `changes`, oldest first; nothing where there are none.
    ///
    /// # Errors
    /// One of them is missing, forged or impossible.
    pub(crate) fn of(changes: &[Change], key: &SigningKey) -> Result<Option<Self>, NotBelieved> {
        let mut life: Option<Self> = None;
        for change in changes {
            let (last, before) = life.as_ref().map_or((0, ""), |it| (it.last.0, &it.last.1));
            if change.number != last + 1 {
                return Err(NotBelieved::Number(change.number));
            }
            // Ed25519 signs the same bytes the same way each time (RFC 8032, 5.1.6).
            if key.sign_canonical(&change.to_canonical(before)) != change.signature {
                return Err(NotBelieved::Forged(change.number));
            }
            life = Some(
                Self::after(life, change)
                    .map_err(|reason| NotBelieved::Impossible(change.number, reason))?,
            );
        }
        Ok(life)
    }

    fn after(life: Option<Self>, change: &Change) -> Result<Self, NotChanged> {
        let last = (change.number, change.signature.clone());
        let Some(life) = life else {
            let named = change.policy.clone().ok_or(NotChanged::NoPolicy)?;
            if change.what != What::Settings {
                return Err(NotChanged::NotFirst);
            }
            return Ok(Self {
                active: named.clone(),
                before: Vec::new(),
                staged: None,
                shadow: None,
                settings: named,
                last,
            });
        };
        let life = life.at(change.at);
        let next = match change.what {
            What::Settings => {
                let named = change.policy.clone().ok_or(NotChanged::NoPolicy)?;
                Self {
                    settings: named.clone(),
                    ..life.activated(named)
                }
            }
            What::Shadow => life.shadowed(change.policy.clone())?,
            What::Stage => life.stage(change)?,
            What::Activate => {
                let named = change.policy.clone().ok_or(NotChanged::NoPolicy)?;
                if named == life.active && life.staged.is_none() {
                    return Err(NotChanged::InForce);
                }
                life.activated(named)
            }
            What::Rollback => {
                let back = life.back(change.at)?;
                let mut before = life.before;
                if life.staged.is_none() {
                    before.pop();
                }
                Self {
                    active: back,
                    before,
                    staged: None,
                    ..life
                }
            }
        };
        Ok(Self { last, ..next })
    }

    /// The same where a staged policy whose time has come is the one in force.
    fn at(self, now: Timestamp) -> Self {
        match &self.staged {
            Some(staged) if staged.is_whole(now) => {
                let policy = staged.policy.clone();
                self.activated(policy)
            }
            Some(_) | None => self,
        }
    }

    fn activated(self, policy: Named) -> Self {
        let mut before = self.before;
        if policy != self.active {
            before.push(self.active);
        }
        if before.len() > MOST_BEFORE {
            before.remove(0);
        }
        Self {
            active: policy,
            before,
            staged: None,
            ..self
        }
    }

    fn shadowed(self, policy: Option<Named>) -> Result<Self, NotChanged> {
        if policy.is_none() && self.shadow.is_none() {
            return Err(NotChanged::NothingShadowed);
        }
        Ok(Self {
            shadow: policy,
            ..self
        })
    }

    fn stage(self, change: &Change) -> Result<Self, NotChanged> {
        let policy = change.policy.clone().ok_or(NotChanged::NoPolicy)?;
        if policy == self.active {
            return Err(NotChanged::InForce);
        }
        let share = change.share.ok_or(NotChanged::NoShare)?;
        if matches!(share, Share::Percent(percent) if !(1..=99).contains(&percent)) {
            return Err(NotChanged::NoShare);
        }
        Ok(Self {
            staged: Some(Staged {
                policy,
                share,
                seed: change.signature.clone(),
            }),
            ..self
        })
    }

    /// What a rollback at `now` goes back to: what is in force beside a staged policy, or what was before.
    fn back(&self, now: Timestamp) -> Result<Named, NotChanged> {
        let life = self.clone().at(now);
        match (&life.staged, life.before.last()) {
            (Some(_), _) => Ok(life.active),
            (None, Some(before)) => Ok(before.clone()),
            (None, None) => Err(NotChanged::NothingBefore),
        }
    }

    /// The policy that judges what `scope` asks in `session`. Without a session, a caller counts as one.
    pub(crate) fn judges(
        &self,
        (scope, session): (&Scope, Option<&str>),
        now: Timestamp,
    ) -> &Named {
        match &self.staged {
            Some(staged) if staged.covers(scope, session, now) => &staged.policy,
            Some(_) | None => &self.active,
        }
    }

    /// The policy that judges whoever no staged policy judges.
    pub(crate) fn in_force(&self, now: Timestamp) -> &Named {
        match &self.staged {
            Some(staged) if staged.is_whole(now) => &staged.policy,
            Some(_) | None => &self.active,
        }
    }

    /// The policy that is staged and does not judge everything yet.
    pub(crate) fn on_its_way(&self, now: Timestamp) -> Option<&Named> {
        let staged = self.staged.as_ref();
        staged
            .filter(|staged| !staged.is_whole(now))
            .map(|staged| &staged.policy)
    }

    /// Every policy that judges somebody.
    pub(crate) fn judging(&self) -> impl Iterator<Item = &Named> {
        let staged = self.staged.as_ref().map(|staged| &staged.policy);
        std::iter::once(&self.active).chain(staged)
    }
}

impl Staged {
    fn is_whole(&self, now: Timestamp) -> bool {
        matches!(self.share, Share::From(time) if time <= now)
    }

    fn covers(&self, scope: &Scope, session: Option<&str>, now: Timestamp) -> bool {
        match self.share {
            Share::From(time) => time <= now,
            Share::Percent(percent) => {
                let mut bytes = Canonical::new("auto-review staged session v1");
                bytes
                    .text(&self.seed)
                    .text(scope.tenant.as_str())
                    .text(scope.caller.as_str())
                    .optional(session);
                let hash = bytes.sha256();
                let start = hash.first_chunk().copied().unwrap_or_default();
                u64::from_be_bytes(start) % PARTS < u64::from(percent)
            }
        }
    }
}

#[cfg(test)]
mod tests;
