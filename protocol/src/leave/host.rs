//! Leave to reach one host for the rest of a session, and the form in which it is kept.
//!
//! Apart from permissions that last, because it moves no wall: it answers a question that the network's door would put.
//! Invariants: a [`KeptHost`] is made from a spent approval of exactly this host, port and protocol; it opens only under the
//! key that sealed it, for the session, caller and workspace that it was given in, and holds for nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LeaveEnded, LeavePlace, NoLeave};
use crate::action::{AbsolutePath, Action, NetworkAccess, Sha256Hex};
use crate::canonical::Canonical;
use crate::permit::{PermitSource, PermittedAction};
use crate::review::ReviewId;

/// Leave to reach one host as it is kept between two runs, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptHost {
    access: NetworkAccess,
    review_id: ReviewId,
    session_id: String,
    caller: String,
    workspace: AbsolutePath,
    expires_at: Timestamp,
    seal: Sha256Hex,
}

/// Leave to reach one host by one port and protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingHost {
    access: NetworkAccess,
    review_id: ReviewId,
    expires_at: Timestamp,
}

impl KeptHost {
    /// Turns a spent approval of network access into leave that lasts until `expires_at` at most. `seal` is a keyed hash
    /// (RFC 2104) under a key that no command can read.
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
        let Action::NetworkAccess(access) = permitted.action() else {
            return Err(NoLeave::NotAsked);
        };
        let review_id = match permitted.source() {
            PermitSource::Review(id) | PermitSource::Person(id) => *id,
            PermitSource::AllowRule(_) | PermitSource::FullAccess => return Err(NoLeave::Source),
        };
        let mut kept = Self {
            access: access.clone(),
            review_id,
            session_id: place.session_id.clone(),
            caller: place.caller.as_str().to_owned(),
            workspace: place.workspace.clone(),
            expires_at,
            seal: Sha256Hex::of(&[0; 32]),
        };
        kept.seal = seal(kept.canonical().as_bytes());
        Ok(kept)
    }

    /// Opens it for a run in `place` at `now`. The turn is of no matter.
    ///
    /// # Errors
    /// See [`LeaveEnded`]; the host stays a question then.
    pub fn open(
        self,
        place: &LeavePlace,
        now: Timestamp,
        seal: impl Fn(&[u8]) -> Sha256Hex,
    ) -> Result<StandingHost, LeaveEnded> {
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
        Ok(StandingHost {
            access: self.access,
            review_id: self.review_id,
            expires_at: self.expires_at,
        })
    }

    /// Everything but the seal, as the bytes that are sealed.
    fn canonical(&self) -> Canonical {
        let mut out = Canonical::new("auto-review standing host v1");
        out.text(&self.access.host)
            .number(self.access.port.into())
            .text(self.access.protocol.as_str())
            .text(&self.review_id.to_string())
            .text(&self.session_id)
            .text(&self.caller)
            .text(self.workspace.as_str())
            .text(&self.expires_at.to_string());
        out
    }
}

impl StandingHost {
    /// The review that gave it, where it covers exactly `access` at `now`.
    #[must_use]
    pub fn covers(&self, access: &NetworkAccess, now: Timestamp) -> Option<ReviewId> {
        (self.access == *access && now < self.expires_at).then_some(self.review_id)
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use sha2::{Digest as _, Sha256};

    use super::{KeptHost, LeaveEnded, LeavePlace, NoLeave, StandingHost};
    use crate::action::{AbsolutePath, Action, NetworkAccess, NetworkProtocol, Sha256Hex};
    use crate::decision::RuleId;
    use crate::permit::{PermitSource, PermittedAction};
    use crate::review::ReviewId;
    use crate::tenant::CallerId;

    fn access() -> NetworkAccess {
        NetworkAccess {
            host: "pypi.org".to_owned(),
            port: 443,
            protocol: NetworkProtocol::Https,
        }
    }

    fn review() -> ReviewId {
        "0198f0d0-0000-7000-8000-000000000001"
            .parse()
            .expect("an id")
    }

    fn place() -> LeavePlace {
        LeavePlace {
            session_id: "s-1".to_owned(),
            turn_id: Some("t-1".to_owned()),
            caller: CallerId::of_uid(1000),
            workspace: AbsolutePath::try_from("/home/u/code/app".to_owned()).expect("a path"),
        }
    }

    fn now() -> Timestamp {
        "2026-11-22T18:00:00Z".parse().expect("a time")
    }

    fn later() -> Timestamp {
        now() + SignedDuration::from_hours(1)
    }

    fn sealed_by(key: u8) -> impl Fn(&[u8]) -> Sha256Hex {
        move |bytes| {
            let hash = Sha256::new().chain_update([key]).chain_update(bytes);
            Sha256Hex::of(&hash.finalize().into())
        }
    }

    fn kept() -> KeptHost {
        let source = PermitSource::Person(review());
        let permitted = PermittedAction::for_tests(Action::NetworkAccess(access()), source);
        KeptHost::of(permitted, &place(), later(), sealed_by(7)).expect("leave")
    }

    fn opened(kept: KeptHost, place: &LeavePlace) -> Result<StandingHost, LeaveEnded> {
        kept.open(place, now(), sealed_by(7))
    }

    #[test]
    fn it_holds_for_this_host_port_and_protocol_until_its_time_is_over() {
        let standing = opened(kept(), &place()).expect("it opens");
        assert_eq!(standing.covers(&access(), now()), Some(review()));
        let others = [
            NetworkAccess {
                host: "files.pypi.org".to_owned(),
                ..access()
            },
            NetworkAccess {
                port: 8443,
                ..access()
            },
            NetworkAccess {
                protocol: NetworkProtocol::Socks5Tcp,
                ..access()
            },
            NetworkAccess {
                protocol: NetworkProtocol::Http,
                ..access()
            },
        ];
        for other in others {
            assert_eq!(standing.covers(&other, now()), None, "{other:?}");
        }
        assert_eq!(standing.covers(&access(), later()), None);
    }

    #[test]
    fn it_opens_in_every_turn_of_its_session_and_nowhere_else() {
        let turn = |turn: Option<&str>| LeavePlace {
            turn_id: turn.map(str::to_owned),
            ..place()
        };
        for same in [turn(None), turn(Some("t-2"))] {
            opened(kept(), &same).expect("the same session");
        }
        let elsewhere = [
            LeavePlace {
                session_id: "s-2".to_owned(),
                ..place()
            },
            LeavePlace {
                caller: CallerId::of_uid(1001),
                ..place()
            },
            LeavePlace {
                workspace: AbsolutePath::try_from("/home/u/code".to_owned()).expect("a path"),
                ..place()
            },
        ];
        for place in elsewhere {
            assert_eq!(opened(kept(), &place), Err(LeaveEnded::Elsewhere));
        }
        assert_eq!(
            kept().open(&place(), later(), sealed_by(7)),
            Err(LeaveEnded::Expired)
        );
    }

    #[test]
    fn what_was_changed_or_sealed_by_another_key_does_not_open() {
        assert_eq!(
            kept().open(&place(), now(), sealed_by(8)),
            Err(LeaveEnded::Forged)
        );
        let text = serde_json::to_string(&kept()).expect("JSON");
        for (from, to) in [
            ("pypi.org", "evil.example"),
            ("443", "22"),
            ("\"https\"", "\"socks5_tcp\""),
            ("\"s-1\"", "\"s-2\""),
            ("T19:00:00Z", "T23:00:00Z"),
            ("000000000001", "000000000002"),
            ("/home/u/code/app", "/home/u/code"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let forged: KeptHost = serde_json::from_str(&changed).expect("its form holds");
            assert_eq!(opened(forged, &place()), Err(LeaveEnded::Forged), "{from}");
        }
    }

    #[test]
    fn nothing_but_a_reviewed_access_becomes_leave() {
        let rule = PermitSource::AllowRule(RuleId::new("r"));
        let permitted = PermittedAction::for_tests(Action::NetworkAccess(access()), rule);
        assert_eq!(
            KeptHost::of(permitted, &place(), later(), sealed_by(7)),
            Err(NoLeave::Source)
        );
    }
}
