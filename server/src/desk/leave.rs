//! A person's leave after a denial: given for what was judged and denied, used once by the judgement. The store spends it
//! in the transaction that records the approval.
//!
//! Apart from the people's queue, which says who may give it. Invariant: leave lifts a judged denial below `critical`,
//! for exactly the action, session and caller it was given for, once; no model is asked what a person meant.

use std::time::Duration;

use protocol::{
    Decision, Denial, GiveLeave, Grant, ReviewId, RiskLevel, TenantId, WithdrawLeave,
    WithdrawnLeave,
};
use reviewer::{Retry, Reviewed};

use super::judging::Judged;
use super::people::reason_of;
use super::{Caller, Case, Desk, after, now};
use crate::error::ApiError;
use crate::flight::Flight;
use crate::store::{Leave, LeaveKey, RedeemRefusal, Sight, Withdrawal, Withdrawn};
use crate::verdict::Verdict;

/// The longest that a leave holds, and how long where nothing is said.
const LONGEST_SECS: u64 = 86_400;
const STANDARD_SECS: u64 = 900;

/// The leave that somebody wants to give. Who may is checked before.
#[derive(Debug, Clone)]
pub(crate) struct LeaveWanted {
    pub(crate) tenant: TenantId,
    /// The review that was denied.
    pub(crate) review_id: ReviewId,
    pub(crate) by: String,
    pub(crate) reason: String,
    /// How long it may be used; a day at most.
    pub(crate) lifetime: Duration,
}

impl Desk {
    /// An approver's leave: with a reason, for the action they saw, and never for what they asked themselves.
    ///
    /// # Errors
    /// As [`Desk::give_leave`], and where the approver may not give it.
    pub(crate) async fn leave_by_person(
        &self,
        caller: &Caller,
        review_id: ReviewId,
        wanted: GiveLeave,
    ) -> Result<Leave, ApiError> {
        if self.limits.approvals_wanted.get() > 1 {
            return Err(ApiError::WantsSeveralPeople);
        }
        let reason = reason_of(&wanted.reason)?;
        let secs = wanted.valid_secs.unwrap_or(STANDARD_SECS);
        if !(1..=LONGEST_SECS).contains(&secs) {
            return Err(ApiError::InvalidBody(format!(
                "`valid_secs` must be from 1 to {LONGEST_SECS}"
            )));
        }
        let tenant = caller.scope.tenant.clone();
        let denied = self
            .recorded(&Sight::Tenant(tenant.clone()), review_id)
            .await?;
        let asker = self.store.person_of(&denied.scope.caller).await?;
        let same_person = caller.person.is_some() && caller.person == asker;
        if same_person || denied.scope.caller == caller.scope.caller {
            return Err(ApiError::OwnQuestion);
        }
        if denied.action_digest != wanted.action_digest {
            return Err(ApiError::NotRedeemable(RedeemRefusal::OtherAction));
        }
        self.give_leave(LeaveWanted {
            tenant,
            review_id,
            by: name_of(caller),
            reason: reason.to_owned(),
            lifetime: Duration::from_secs(secs),
        })
        .await
    }

    /// Gives leave for the action that a review denied, and starts the counts of its turn anew.
    ///
    /// # Errors
    /// There is no such review, it was not denied by a judgement, what was denied is critical, or leave was given before.
    pub(crate) async fn give_leave(&self, wanted: LeaveWanted) -> Result<Leave, ApiError> {
        let reason = self.said(&wanted.tenant, &wanted.reason);
        let sight = Sight::Tenant(wanted.tenant);
        let denied = self.recorded(&sight, wanted.review_id).await?;
        let verdict = denied.end.map(|end| end.verdict);
        if !verdict.as_ref().is_some_and(Verdict::can_be_lifted) {
            return Err(ApiError::NotLiftable);
        }
        let given_at = now();
        let leave = Leave {
            review_id: denied.review_id,
            scope: denied.scope,
            session_id: denied.session_id,
            action_digest: denied.action_digest,
            nonce: denied.nonce,
            given_by: wanted.by,
            reason,
            given_at,
            expires_at: after(
                given_at,
                wanted.lifetime.min(Duration::from_secs(LONGEST_SECS)),
            ),
            signature: String::new(),
        }
        .signed(&self.key);
        if self.store.give_leave(leave.clone()).await? {
            Ok(leave)
        } else {
            Err(ApiError::AlreadyLifted)
        }
    }

    /// Takes back leave that was not used, with a reason. Whoever may give leave may, and so may an admin: also what
    /// they gave themselves, or what was given for them, since nothing is allowed by it.
    ///
    /// # Errors
    /// The tenant has no such leave, it was used or taken back before, or the reason is none.
    pub(crate) async fn withdraw_leave(
        &self,
        caller: &Caller,
        review_id: ReviewId,
        wanted: &WithdrawLeave,
    ) -> Result<WithdrawnLeave, ApiError> {
        let tenant = caller.scope.tenant.clone();
        let withdrawal = Withdrawal {
            reason: self.said(&tenant, reason_of(&wanted.reason)?),
            tenant,
            review_id,
            by: name_of(caller),
            at: now(),
        };
        let (withdrawn_by, withdrawn_at) = (withdrawal.by.clone(), withdrawal.at);
        match self.store.withdraw_leave(withdrawal).await? {
            Withdrawn::Recorded => Ok(WithdrawnLeave {
                review_id,
                withdrawn_by,
                withdrawn_at,
            }),
            Withdrawn::Before => Err(ApiError::AlreadyWithdrawn),
            Withdrawn::Spent => Err(ApiError::LeaveSpent),
            Withdrawn::Unknown => Err(ApiError::NotFound),
        }
    }

    /// Whether there is leave that could lift a denial of `case`.
    pub(super) async fn has_leave(&self, key: &LeaveKey) -> bool {
        match self.store.leave(key).await {
            Ok(leave) => leave.is_some_and(|leave| leave.is_signed_by(&self.key)),
            Err(error) => {
                tracing::warn!(%error, "whether a person gave leave cannot be read; what is denied stays denied");
                false
            }
        }
    }

    /// Lifts a denial where a person gave leave for exactly this. Whatever fails, what was denied stays so.
    pub(super) async fn lift(&self, case: &Case, flight: &Flight, reviewed: Reviewed) -> Judged {
        let Decision::Denied(denial) = &reviewed.decision else {
            return reviewed.into();
        };
        match self.leave_for(case, flight, denial, &reviewed).await {
            Some(leave) => lifted(case, leave, reviewed),
            None => reviewed.into(),
        }
    }

    async fn leave_for(
        &self,
        case: &Case,
        flight: &Flight,
        denial: &Denial,
        reviewed: &Reviewed,
    ) -> Option<Leave> {
        let session_id = case.escalation.session.session_id.clone();
        let key = LeaveKey {
            scope: flight.scope().clone(),
            session_id: session_id.clone(),
            action_digest: case.escalation.action_digest,
        };
        let leave = self.store.leave(&key).await.ok().flatten()?;
        let at = now();
        let retry = Retry {
            action: case.escalation.action_digest,
            session: session_id.as_deref(),
            now: at.as_second(),
        };
        let floor = reviewed.exhibit.built_in.risk_floor;
        let lifts = leave.to_rule().lifts(denial, floor, retry);
        (leave.is_signed_by(&self.key) && lifts.is_ok()).then_some(leave)
    }
}

/// By the person, or by the token where it names none.
fn name_of(caller: &Caller) -> String {
    let name = caller.person.clone();
    name.unwrap_or_else(|| caller.scope.caller.as_str().to_owned())
}

fn lifted(case: &Case, leave: Leave, reviewed: Reviewed) -> Judged {
    let decision = Decision::Approved(Grant::by_person(case.escalation.action_digest));
    let denied = Judged::from(reviewed);
    let verdict = Verdict {
        answered_by: Some(leave.given_by),
        lifts: Some(leave.review_id),
        ..Verdict::of(decision, Some(leave.reason.into()))
    };
    Judged {
        without_leave: Some(Box::new(denied.verdict)),
        ..Judged::new(verdict, denied.exhibit)
    }
}

impl Verdict {
    /// Whether a person's leave may lift it: a denial that was judged, below `critical`.
    fn can_be_lifted(&self) -> bool {
        use protocol::{DecidedBy, ReviewStatus};
        let judged = matches!(self.decided_by, DecidedBy::BuiltIn | DecidedBy::Model);
        self.status == ReviewStatus::Denied
            && judged
            && self
                .risk_level
                .is_some_and(|risk| risk < RiskLevel::Critical)
    }
}
