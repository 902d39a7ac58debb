//! The short way: what the built-in rules decide as it comes in is recorded as opened and ended in one transaction.
//!
//! Apart from the long way, because here the judgement comes before the record. Invariant: nothing outside this process
//! is asked on this way, and nobody learns of the review before both its events are on record.

use std::sync::Arc;
use std::time::Duration;

use protocol::Decision;
use tokio::time::Instant;

use super::judging::{Asks, Case, Judged};
use super::{Desk, GRACE};
use crate::error::ApiError;
use crate::intake::Accepted;
use crate::store::{
    Ending, LeaveKey, Opened, Recorded, RecordedEnd, ReviewStore as _, Scope, Sight, StoreError,
};
use crate::telemetry::Asked;

impl Desk {
    /// How `case` ends, where the reviewer's built-in rules decide it, in no time and without anything outside this
    /// process. `None`: a model or a person has to be asked, or the caller does not wait, or a person's leave is there
    /// to be spent, and before that the review must be on record. Notes whom the case asks.
    pub(super) async fn judge_at_once(
        &self,
        scope: &Scope,
        case: &mut Case,
        wait: Duration,
    ) -> Option<Judged> {
        if case.escalation.must_be_human {
            return None;
        }
        let reviewed = case
            .reviewer
            .review_at_once(&case.escalation, case.deadline)?;
        case.asks = Asks::Rules;
        if wait.is_zero() {
            return None;
        }
        if matches!(reviewed.decision, Decision::Denied(_)) {
            let key = LeaveKey {
                scope: scope.clone(),
                session_id: case.escalation.session.session_id.clone(),
                action_digest: case.escalation.action_digest,
            };
            // On the heap: rare, and every submission carries this future.
            if Box::pin(self.has_leave(&key)).await {
                return None;
            }
        }
        Some(reviewed.into())
    }

    /// Puts a review on record that was decided as it came in, opened and ended in one transaction.
    ///
    /// P4 holds as it does in two: the caller, the only one who could act on it, is answered after the commit that holds
    /// both events. Until then nobody has the review's id, so there is nothing to wait for, abort or redeem, and a crash
    /// leaves either both events or no trace of a question that nobody was answered. No task of its own is needed: a
    /// caller that goes away leaves a review that is ended, or none.
    pub(super) async fn record_at_once(
        self: &Arc<Self>,
        accepted: Accepted,
        judged: Judged,
        (until, asked): (Instant, Option<Asked>),
    ) -> Result<Recorded, ApiError> {
        let recorded = accepted.as_recorded();
        let ending = self.ending(recorded.review_id, &recorded.scope, judged);
        let end = RecordedEnd {
            verdict: ending.verdict.clone(),
            completed_at: ending.completed_at,
            expires_at: ending.expires_at,
        };
        let told_of = asked.map(|asked| (asked, ending.clone()));
        let shadow = self.shadow_for(&recorded.scope.tenant, &end.verdict);
        let recording = self.store.record(accepted.opening, ending);
        let told = tokio::time::timeout_at(accepted.case.deadline + GRACE, recording).await;
        match told.map_err(|_elapsed| StoreError::Locked)?? {
            Opened::New => {
                if let Some((asked, ending)) = &told_of {
                    self.observer.ended(Some(asked), ending);
                }
                if let Some(shadow) = shadow {
                    let ended = (recorded.review_id, &recorded.scope, end.verdict.status);
                    self.judge_alongside(shadow, ended, accepted.case.escalation);
                }
                Ok(Recorded {
                    end: Some(end),
                    ..recorded
                })
            }
            Opened::Same(before) => self.wait(&Sight::Own(recorded.scope), before, until).await,
            Opened::Stopped(end) => {
                if let Some((asked, _)) = &told_of {
                    let ending = Ending::as_recorded(recorded.review_id, &recorded.scope, &end);
                    self.observer.ended(Some(asked), &ending);
                }
                Ok(Recorded {
                    end: Some(*end),
                    ..recorded
                })
            }
            Opened::OtherBody => Err(ApiError::IdempotencyConflict),
            Opened::SessionTaken => Err(ApiError::SessionTaken),
        }
    }
}
