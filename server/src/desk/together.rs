//! Identical questions at the same time: one is judged, and the others hear what came of it.
//!
//! Apart, because what may be shared is a rule (D17): a denial, or that the review did not come off. Invariant: an
//! approval goes to the one question that was judged; everybody else's is judged for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use protocol::{Decision, FailedStep, ReviewFailure, ReviewId, ReviewStatus};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::Desk;
use super::judging::{Case, Judged};
use crate::flight::Flight;
use crate::store::{Scope, Tally};
use crate::verdict::Verdict;

/// What makes two questions one: who asks, in which session, and the SHA-256 of everything that was sent.
type Same = (Scope, Option<String>, [u8; 32]);

/// What the others hear.
#[derive(Debug, Clone)]
enum Heard {
    /// Nothing yet.
    Nothing,
    /// How the review with this id ended.
    Ended(ReviewId, Box<Verdict>),
    /// That it cannot be shared.
    NotShared,
}

/// The questions that are being judged.
#[derive(Debug, Default)]
pub(crate) struct Together(Mutex<HashMap<Same, watch::Receiver<Heard>>>);

/// The one question that is judged. Dropped, it leaves the others to themselves.
struct Lead<'a> {
    together: &'a Together,
    same: Same,
    tell: watch::Sender<Heard>,
}

enum Part<'a> {
    Lead(Lead<'a>),
    Follow(watch::Receiver<Heard>),
}

impl Together {
    fn join(&self, same: Same) -> Part<'_> {
        let mut judged = self.judged();
        if let Some(leader) = judged.get(&same) {
            return Part::Follow(leader.clone());
        }
        let (tell, heard) = watch::channel(Heard::Nothing);
        judged.insert(same.clone(), heard);
        drop(judged);
        Part::Lead(Lead {
            together: self,
            same,
            tell,
        })
    }

    fn judged(&self) -> std::sync::MutexGuard<'_, HashMap<Same, watch::Receiver<Heard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.together.judged().remove(&self.same);
    }
}

impl Desk {
    /// Has `case` judged by the reviewer, once for all who ask the same at the same time.
    pub(super) async fn judge_together(&self, case: &Case, flight: &Flight) -> Judged {
        let session = case.escalation.session.session_id.clone();
        let same = (flight.scope().clone(), session, case.request_digest);
        match self.together.join(same) {
            Part::Lead(lead) => {
                let judged = self.judge_in_turn(case, flight).await;
                let heard = shared(flight.review_id(), &judged.verdict);
                // Nobody may have followed.
                lead.tell.send_replace(heard);
                judged
            }
            Part::Follow(leader) => match hear(case, leader).await {
                // One judgement, however many ask: the turn's breaker counts it once.
                Some((id, verdict)) => Judged {
                    tally: Tally::Shared,
                    ..Judged::new(verdict, Some(format!("{{\"shared_with\":\"{id}\"}}")))
                },
                None => self.judge_in_turn(case, flight).await,
            },
        }
    }

    /// Waits for a slot, and asks the reviewer.
    async fn judge_in_turn(&self, case: &Case, flight: &Flight) -> Judged {
        let waiting = self.admission.slots.take(&flight.scope().tenant);
        match timeout_at(case.deadline, waiting).await {
            Ok(_slot) => self.ask_reviewer(flight, case).await,
            Err(_elapsed) => Decision::Failed(not_in_turn()).into(),
        }
    }
}

async fn hear(case: &Case, mut leader: watch::Receiver<Heard>) -> Option<(ReviewId, Verdict)> {
    let told = leader.wait_for(|heard| !matches!(heard, Heard::Nothing));
    let heard = timeout_at(case.deadline, told).await.ok()?.ok()?.clone();
    match heard {
        Heard::Ended(id, verdict) => Some((id, *verdict)),
        Heard::Nothing | Heard::NotShared => None,
    }
}

fn shared(id: ReviewId, verdict: &Verdict) -> Heard {
    match verdict.status {
        ReviewStatus::Denied | ReviewStatus::Failed => Heard::Ended(id, Box::new(verdict.clone())),
        ReviewStatus::Approved
        | ReviewStatus::TimedOut
        | ReviewStatus::Aborted
        | ReviewStatus::Reviewing => Heard::NotShared,
    }
}

fn not_in_turn() -> ReviewFailure {
    ReviewFailure {
        step: FailedStep::Admission,
        code: "no_slot".to_owned(),
        retryable: true,
        message:
            "Too much was being reviewed, and this review's turn did not come before its deadline."
                .to_owned(),
    }
}
