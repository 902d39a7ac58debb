//! Reviews that wait for a person, and the answers of approvers.
//!
//! Apart from the judging, because the rules of who may answer stand here: an approver of the tenant, for exactly the
//! action that was asked about, with a reason, never for a question of their own, and as many as the settings want.
//! Invariant: who answered is part of the verdict, and so of the chain; where several must agree, each answer is on record
//! before it counts.

use protocol::{ApproverAnswer, CallerId, HostScope, PersonsAnswer, ReviewId, TenantId};
use serde::Serialize;
use tokio::time::Instant;

use super::{ABORT_PATIENCE, Caller, Desk, now};
use crate::error::ApiError;
use crate::flight::{Flight, Vote, Voted};
use crate::role::Right;
use crate::said;
use crate::store::sqlite::history::VoteLine;
use crate::store::{Recorded, RedeemRefusal, Sight, StoreError};

/// The longest reason, in characters.
const MAX_REASON: usize = 1_000;
/// How many waiting reviews are told at once.
const MOST: usize = 200;

impl Desk {
    /// The reviews of the caller's tenant that wait for a person here, oldest first.
    pub(crate) fn waiting(&self, caller: &Caller) -> Vec<ReviewId> {
        let sight = Sight::Tenant(caller.scope.tenant.clone());
        let flights = self.flights();
        let waiting = flights
            .values()
            .filter(|flight| flight.waits_for_person() && sight.covers(flight.scope()));
        let mut ids: Vec<_> = waiting.map(|flight| flight.review_id()).collect();
        ids.sort_unstable();
        ids.truncate(MOST);
        ids
    }

    /// Who has agreed to a review that waits here.
    pub(crate) fn agreed(&self, review_id: ReviewId) -> Vec<String> {
        let flights = self.flights();
        let flight = flights.get(&review_id);
        flight.map(|flight| flight.agreed()).unwrap_or_default()
    }

    /// Hands an approver's answer in, and waits for the end where it decides.
    pub(crate) async fn answer_for_person(
        &self,
        caller: &Caller,
        review_id: ReviewId,
        wanted: ApproverAnswer,
    ) -> Result<Recorded, ApiError> {
        let reason = reason_of(&wanted.reason)?;
        let sight = Sight::Tenant(caller.scope.tenant.clone());
        let Some(flight) = self.flight(&sight, review_id) else {
            self.recorded(&sight, review_id).await?;
            return Err(ApiError::NotWaiting);
        };
        if flight.is_asked_by(&caller.scope, caller.person.as_deref()) {
            return Err(ApiError::OwnQuestion);
        }
        if flight.action_digest() != wanted.action_digest {
            return Err(ApiError::NotRedeemable(RedeemRefusal::OtherAction));
        }
        let scope = self.scope_of(&sight, &flight, &wanted).await?;
        let vote = Vote {
            answer: wanted.answer,
            scope,
            reason: self.said(&caller.scope.tenant, reason),
            caller: caller.scope.caller.clone(),
            person: caller.person.clone(),
        };
        let wanted = usize::from(self.limits.approvals_wanted.get());
        if wanted > 1 {
            self.note_vote(&flight, &vote, wanted).await?;
        }
        match flight.vote(vote, wanted) {
            Voted::Decided => {}
            Voted::Counted => return self.recorded(&sight, review_id).await,
            Voted::Before => return Err(ApiError::AgreedBefore),
            Voted::NotAsked => return Err(ApiError::NotWaiting),
        }
        Ok(flight.wait(Instant::now() + ABORT_PATIENCE).await?)
    }

    /// How long a yes is to hold: what is said counts for hosts alone.
    async fn scope_of(
        &self,
        sight: &Sight,
        flight: &Flight,
        wanted: &ApproverAnswer,
    ) -> Result<HostScope, ApiError> {
        let Some(scope) = wanted.scope else {
            return Ok(HostScope::Once);
        };
        if wanted.answer == PersonsAnswer::Deny {
            return Err(ApiError::InvalidBody(
                "a denial has no `scope`: it holds for this question".to_owned(),
            ));
        }
        // Of what is on record, as everybody is shown it.
        let asked = self.store.detail(sight, flight.review_id()).await?;
        let question = asked.and_then(|detail| detail.question);
        let tool = question
            .as_ref()
            .and_then(|question| question.pointer("/action/tool")?.as_str());
        match (tool, scope, flight.has_session()) {
            (Some("network_access"), HostScope::Session, false) => Err(ApiError::NoSession),
            (Some("network_access"), HostScope::Once, _)
            | (Some("network_access"), HostScope::Session, true) => Ok(scope),
            (Some(_) | None, _, _) => Err(ApiError::ScopeNotPossible),
        }
    }

    /// Puts one of several votes on record, before it counts; and what was said by those who may not answer any more
    /// counts no longer.
    async fn note_vote(&self, flight: &Flight, vote: &Vote, wanted: usize) -> Result<(), ApiError> {
        match flight.begin_vote(vote) {
            Some(Voted::Before) => return Err(ApiError::AgreedBefore),
            Some(Voted::NotAsked | Voted::Decided | Voted::Counted) => {
                return Err(ApiError::NotWaiting);
            }
            None => {}
        }
        let noted = self.put_on_record(flight, vote, wanted).await;
        if noted.is_err() {
            flight.forget_vote(vote);
        }
        noted
    }

    async fn put_on_record(
        &self,
        flight: &Flight,
        vote: &Vote,
        wanted: usize,
    ) -> Result<(), ApiError> {
        let gone = self.not_approvers(flight.voters()).await?;
        flight.drop_voters(&gone);
        let body = VoteBody {
            answer: vote.answer,
            by: vote.by(),
            caller: vote.caller.as_str(),
            reason: &vote.reason,
            scope: vote.scope,
            wanted,
            no_longer: gone.iter().map(CallerId::as_str).collect(),
        };
        let line = VoteLine {
            review_id: flight.review_id(),
            scope: flight.scope().clone(),
            at: now(),
            body: serde_json::to_string(&body)
                .map_err(|_| StoreError::Corrupt("a vote cannot be spelled"))?,
        };
        if self.store.note_vote(line).await? {
            Ok(())
        } else {
            Err(ApiError::NotWaiting)
        }
    }

    /// Those of `voters` whose token was revoked, ran out or lost the role since they answered.
    async fn not_approvers(&self, mut voters: Vec<CallerId>) -> Result<Vec<CallerId>, StoreError> {
        if voters.is_empty() {
            return Ok(voters);
        }
        let tokens = self.store.tokens().await?;
        let at = now();
        let counts = |caller: &CallerId| {
            tokens.iter().any(|token| {
                CallerId::of_token_hash(&token.hash) == *caller
                    && token.counts_at(at)
                    && token.grants.roles.allow(Right::Answer)
            })
        };
        voters.retain(|voter| !counts(voter));
        Ok(voters)
    }

    /// What a person said, as it is kept.
    pub(super) fn said(&self, tenant: &TenantId, text: &str) -> String {
        said::masked(&self.key, tenant, text)
    }
}

/// What stands in the chain of one of several votes.
#[derive(Serialize)]
struct VoteBody<'a> {
    answer: PersonsAnswer,
    by: &'a str,
    caller: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "HostScope::is_once")]
    scope: HostScope,
    /// How many must say yes.
    wanted: usize,
    /// Whose yes counts no longer, because they may not answer any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_longer: Vec<&'a str>,
}

/// A reason that says something.
pub(super) fn reason_of(text: &str) -> Result<&str, ApiError> {
    let reason = text.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(ApiError::InvalidBody(format!(
            "`reason` must have 1 to {MAX_REASON} characters"
        )));
    }
    Ok(reason)
}
