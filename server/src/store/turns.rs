//! In which turn a review is asked for, and what the user had said by then: what breaker and staleness hang on.
//!
//! Apart and pure, because a back end only keeps it. Invariant: a turn is one caller's; nobody can stop or free another
//! caller's turn, whatever names they send.

use jiff::Timestamp;
use protocol::{
    Canonical, EnvironmentDescription, Escalation, FailedStep, ReviewFailure, SessionReference,
    Trust,
};
use reviewer::{AuthorizationVersion, BreakerLimits, CircuitBreaker, Span, Tripped};

use super::Scope;

/// Names a turn of one caller.
pub(crate) type TurnKey = [u8; 16];
/// Names what a user had said.
pub(crate) type Words = [u8; 16];

/// The turn that a review belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TurnReference {
    pub(crate) key: TurnKey,
    pub(crate) span: Span,
    pub(crate) limits: BreakerLimits,
    pub(crate) turn_id: Option<String>,
}

impl TurnReference {
    /// The turn of a session where both are named; else the session, or the user in the workspace, over the last hour
    /// (design D17).
    pub(crate) fn of(
        scope: &Scope,
        session: &SessionReference,
        environment: &EnvironmentDescription,
        limits: BreakerLimits,
    ) -> Self {
        let mut bytes = Canonical::new("auto-review turn v1");
        bytes
            .text(scope.tenant.as_str())
            .text(scope.caller.as_str())
            .optional(session.session_id.as_deref());
        let named = session.session_id.is_some();
        let turn_id = session.turn_id.clone().filter(|_| named);
        bytes.optional(turn_id.as_deref());
        if session.session_id.is_none() {
            bytes
                .text(&environment.user)
                .list(&environment.workspace_roots, |out, root| {
                    out.text(root.as_str());
                });
        }
        Self {
            key: half(bytes.sha256()),
            span: if turn_id.is_some() {
                Span::Turn
            } else {
                Span::Hour
            },
            limits,
            turn_id,
        }
    }

    /// A breaker that has seen nothing of it.
    pub(crate) fn breaker(&self) -> CircuitBreaker {
        CircuitBreaker::new(self.span, self.limits)
    }
}

/// What the user had said, where an escalation carries words of theirs.
pub(crate) fn words(escalation: &Escalation) -> Option<Words> {
    let entries = &escalation.transcript.entries;
    let said = entries.iter().any(|entry| entry.trust == Trust::Trusted);
    said.then(|| half(AuthorizationVersion::of(&escalation.transcript).to_bytes()))
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// A turn as it is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TurnRecord {
    pub(crate) turn_id: Option<String>,
    pub(crate) opened_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) breaker: CircuitBreaker,
}

/// A session as it is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRecord {
    pub(crate) session_id: String,
    pub(crate) caller: String,
    pub(crate) opened_at: Timestamp,
    /// Newest first; the newest thousand.
    pub(crate) turns: Vec<TurnRecord>,
}

/// The failure of a review that is not taken on any more.
pub(crate) fn stopped(tripped: Tripped, turn: &TurnReference) -> ReviewFailure {
    tripped.failure(turn.span)
}

/// The failure of an approval that was given under other words than the user's last.
pub(crate) fn stale() -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::Prompt,
        code: "stale_authorization".to_owned(),
        retryable: true,
        message: "The user said something more while the action was judged, so the approval does not count. Ask again with the whole conversation."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{CallerId, EnvironmentDescription, SessionReference, TenantId};
    use reviewer::{BreakerLimits, Span};
    use serde_json::json;

    use super::super::Scope;
    use super::TurnReference;

    fn turn(caller: u32, session: Option<&str>, turn: Option<&str>, root: &str) -> TurnReference {
        let scope = Scope {
            tenant: TenantId::default(),
            caller: CallerId::of_uid(caller),
        };
        let session = SessionReference {
            session_id: session.map(str::to_owned),
            turn_id: turn.map(str::to_owned),
            ..SessionReference::default()
        };
        let environment: EnvironmentDescription = serde_json::from_value(json!({
            "host": "h", "user": "u", "cwd": "/w", "workspace_roots": [root],
            "sandbox_mode": "workspace-write", "approval_policy": "on-request",
        }))
        .expect("an environment");
        TurnReference::of(&scope, &session, &environment, BreakerLimits::default())
    }

    #[test]
    fn a_turn_is_one_callers_and_has_its_session_and_name() {
        let base = turn(1, Some("s"), Some("t"), "/w");
        assert_eq!(base, turn(1, Some("s"), Some("t"), "/elsewhere"));
        assert_eq!(base.span, Span::Turn);
        for other in [
            turn(2, Some("s"), Some("t"), "/w"),
            turn(1, Some("r"), Some("t"), "/w"),
            turn(1, Some("s"), Some("u"), "/w"),
            turn(1, Some("s"), None, "/w"),
            turn(1, None, Some("t"), "/w"),
        ] {
            assert_ne!(base.key, other.key, "{other:?}");
        }
    }

    #[test]
    fn without_a_turn_it_is_the_hour_of_the_session_or_of_user_and_workspace() {
        let session = turn(1, Some("s"), None, "/w");
        assert_eq!((session.span, session.turn_id), (Span::Hour, None));
        let nobody = turn(1, None, Some("t"), "/w");
        assert_eq!(nobody.span, Span::Hour);
        assert_eq!(nobody.key, turn(1, None, None, "/w").key);
        assert_ne!(nobody.key, turn(1, None, None, "/other").key);
    }
}
