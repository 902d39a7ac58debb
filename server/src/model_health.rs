//! Whether the configured models can be had, found out when the server starts: a wrong name or key is then one line in
//! the log and a readiness that says no, and not a thousand failed reviews.
//!
//! Apart from the reviews, because nothing of it is a verdict. Invariant: a model that answered is not probed again; one
//! that did not is asked every half minute at most.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use reviewer::{Probe, Reviewer};
use tokio::time::Instant;

use crate::desk::Desk;

/// How long one round of probes may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before the next round, where a model did not answer.
const PAUSE: Duration = Duration::from_secs(30);

/// Whether every reviewer of the process has a model that answers, where it has any.
#[derive(Debug, Default)]
pub(crate) struct ModelHealth(AtomicU8);

/// They answered. Nothing else (0) is said before they are asked, or where nobody asks.
const FINE: u8 = 1;
const FAILING: u8 = 2;

impl ModelHealth {
    /// Whether it is known that some reviewer has no model that answers.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FAILING
    }

    fn note(&self, fine: bool) {
        let now = if fine { FINE } else { FAILING };
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Desk {
    /// Probes the models until all reviewers have one that answers, or the service goes down.
    pub(crate) async fn keep_probing(&self) {
        loop {
            let fine = tokio::select! {
                () = self.stopping.cancelled() => return,
                fine = self.all_answer() => fine,
            };
            self.models.note(fine);
            if fine {
                return;
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn all_answer(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut fine = true;
        for reviewer in std::iter::once(&self.reviewer).chain(self.tenants.values()) {
            fine &= one_answers(reviewer, deadline).await;
        }
        fine
    }
}

/// Whether one of a reviewer's models answers, where it has any. What is wrong with the others is told all the same.
async fn one_answers(reviewer: &Reviewer, deadline: Instant) -> bool {
    if !reviewer.wants_probe() {
        return true;
    }
    let probes = reviewer.probe(deadline).await;
    for probe in &probes {
        tell(probe);
    }
    probes.is_empty() || probes.iter().any(|probe| probe.problem.is_none())
}

fn tell(probe: &Probe) {
    if let Some(problem) = &probe.problem {
        tracing::error!(
            provider = probe.provider.as_str(),
            model = probe.model,
            problem,
            "a configured model does not answer; reviews that need it fail"
        );
    }
}
