//! Judging alongside: a second policy or model looks at what was decided, and what it says is noted.
//!
//! Apart from the judging that binds, which never hears of it. Invariants: it begins after the end of a review is on record
//! and told, in a task of its own; its room is bounded and its own; whatever becomes of it, the review stands as it ended.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::{DecidedBy, Escalation, ReviewId, ReviewStatus, TenantId};
use reviewer::{Reviewed, Reviewer};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::judging::OVERRUN;
use super::{Desk, now};
use crate::store::Scope;
use crate::store::sqlite::history::{Came, LeftOut, ShadowLine};
use crate::verdict::Verdict;

/// How many judgements wait to be put on record at most, and how many are written at once.
const WAITING: usize = 1_024;
const BATCH: usize = 128;
/// How long judgements gather before they are written, so that many share a sync.
const GATHER: Duration = Duration::from_millis(100);

/// The room for judging alongside.
#[derive(Debug)]
pub(crate) struct Shadows {
    room: Arc<Semaphore>,
    told: mpsc::Sender<ShadowLine>,
    left_out: Mutex<BTreeMap<(TenantId, String), u64>>,
}

/// What stands in the chain.
#[derive(Serialize)]
struct Body<'a> {
    policy_revision: &'a str,
    agrees: Option<bool>,
    took_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    models: Vec<&'a str>,
    verdict: &'a Verdict,
}

/// What was decided and is now judged alongside.
#[derive(Debug)]
struct Decided {
    review_id: ReviewId,
    scope: Scope,
    status: ReviewStatus,
    escalation: Escalation,
}

impl Shadows {
    /// Room for `at_once` judgements, and where they come out.
    pub(crate) fn new(at_once: NonZeroU32) -> (Self, mpsc::Receiver<ShadowLine>) {
        let (told, lines) = mpsc::channel(WAITING);
        let room = usize::try_from(at_once.get()).unwrap_or(1);
        let shadows = Self {
            room: Arc::new(Semaphore::new(room)),
            told,
            left_out: Mutex::default(),
        };
        (shadows, lines)
    }

    fn leave_out(&self, tenant: &TenantId, reviewer: &Reviewer) {
        let revision = reviewer.policy_revision().to_string();
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        *left_out.entry((tenant.clone(), revision)).or_default() += 1;
    }

    fn take_left_out(&self) -> Vec<LeftOut> {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *left_out);
        drop(left_out);
        let at = now();
        let taken = taken.into_iter();
        taken
            .map(|((tenant, revision), count)| LeftOut {
                tenant,
                revision,
                at,
                count,
            })
            .collect()
    }
}

impl Desk {
    /// Who would judge alongside what ended in `verdict`, where somebody would: what was judged, and not by a person.
    pub(super) fn shadow_for(&self, tenant: &TenantId, verdict: &Verdict) -> Option<Arc<Reviewer>> {
        self.shadows.get()?;
        let judged = matches!(
            verdict.decided_by,
            DecidedBy::BuiltIn | DecidedBy::Model | DecidedBy::Rule
        );
        let ended = matches!(
            verdict.status,
            ReviewStatus::Approved | ReviewStatus::Denied
        );
        if !judged || !ended {
            return None;
        }
        self.policies.shadow_of(tenant)
    }

    /// Has `reviewer` judge `escalation` as well, which ended in `status` and is on record. Waits for nothing.
    pub(super) fn judge_alongside(
        self: &Arc<Self>,
        reviewer: Arc<Reviewer>,
        (review_id, scope, status): (ReviewId, &Scope, ReviewStatus),
        escalation: Escalation,
    ) {
        let Some(shadows) = self.shadows.get() else {
            return;
        };
        let Ok(place) = Arc::clone(&shadows.room).try_acquire_owned() else {
            return shadows.leave_out(&scope.tenant, &reviewer);
        };
        let decided = Decided {
            review_id,
            scope: scope.clone(),
            status,
            escalation,
        };
        let desk = Arc::clone(self);
        drop(self.tasks.spawn(async move {
            desk.look(&reviewer, decided).await;
            drop(place);
        }));
    }

    async fn look(&self, reviewer: &Reviewer, decided: Decided) {
        let Some(shadows) = self.shadows.get() else {
            return;
        };
        let begun = Instant::now();
        let deadline = begun + reviewer.time_limit();
        let judging = reviewer.review(&decided.escalation, deadline);
        let said = tokio::select! {
            biased;
            () = self.stopping.cancelled() => None,
            said = timeout_at(deadline + OVERRUN, judging) => said.ok(),
        };
        let line = said.and_then(|said| line(reviewer, &decided, said, begun.elapsed()));
        let told = line.is_some_and(|line| shadows.told.try_send(line).is_ok());
        if !told {
            shadows.leave_out(&decided.scope.tenant, reviewer);
        }
    }

    /// Puts on record what was judged alongside, until the service goes down.
    pub(crate) async fn keep_shadows(&self, mut lines: mpsc::Receiver<ShadowLine>) {
        let Some(shadows) = self.shadows.get() else {
            return;
        };
        loop {
            let over = tokio::select! {
                () = self.stopping.cancelled() => true,
                () = tokio::time::sleep(GATHER) => false,
            };
            while self.write_shadows(shadows, &mut lines).await {}
            if over {
                return;
            }
        }
    }

    /// Writes what is there; whether there may be more.
    async fn write_shadows(
        &self,
        shadows: &Shadows,
        lines: &mut mpsc::Receiver<ShadowLine>,
    ) -> bool {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Ok(line) = lines.try_recv()
        {
            batch.push(line);
        }
        let left_out = shadows.take_left_out();
        if batch.is_empty() && left_out.is_empty() {
            return false;
        }
        let full = batch.len() == BATCH;
        if let Err(error) = self.store.note_shadows(batch, left_out).await {
            tracing::warn!(%error, "what was judged alongside could not be put on record");
        }
        full
    }
}

fn line(
    reviewer: &Reviewer,
    decided: &Decided,
    said: Reviewed,
    took: Duration,
) -> Option<ShadowLine> {
    let verdict = Verdict::of(said.decision, None);
    let came = came(decided.status, verdict.status);
    let revision = reviewer.policy_revision().to_string();
    let tokens = said.exhibit.attempts.iter().filter_map(|it| it.tokens);
    let (input_tokens, output_tokens) = tokens.fold((0, 0), |(input, output), it| {
        (input + it.input, output + it.output)
    });
    let body = Body {
        policy_revision: &revision,
        agrees: match came {
            Came::Agreed => Some(true),
            Came::Flipped(..) => Some(false),
            Came::Failed | Came::Skipped => None,
        },
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        input_tokens,
        output_tokens,
        models: reviewer.model_names().collect(),
        verdict: &verdict,
    };
    Some(ShadowLine {
        review_id: decided.review_id,
        scope: decided.scope.clone(),
        at: now(),
        came,
        body: serde_json::to_string(&body).ok()?,
        revision,
    })
}

/// What it means that a shadow said `said` where `bound` binds. What did not come off says nothing either way (P5).
fn came(bound: ReviewStatus, said: ReviewStatus) -> Came {
    match said {
        ReviewStatus::Approved | ReviewStatus::Denied if said == bound => Came::Agreed,
        ReviewStatus::Approved | ReviewStatus::Denied => Came::Flipped(bound, said),
        ReviewStatus::Reviewing
        | ReviewStatus::TimedOut
        | ReviewStatus::Aborted
        | ReviewStatus::Failed => Came::Failed,
    }
}
