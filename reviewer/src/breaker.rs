//! Stops a turn in which too much is denied or too much is asked.
//!
//! Apart, because the server keeps one for each turn and the counts must be exact. Pure: no clock, no lock. Invariant:
//! only denials count and only approvals reset; what failed, timed out or was taken back does neither (P5).

use std::collections::VecDeque;

use protocol::{FailedStep, ReviewFailure, ReviewStatus};

/// How many denials in a row.
const IN_A_ROW: u32 = 3;
/// How many denials among the last [`WINDOW`] that were decided.
const AMONG_LAST: usize = 10;
/// How many decided reviews are looked back on.
const WINDOW: usize = 50;
/// How many reviews one turn may ask for where nothing else is set.
const MAX_REVIEWS: u32 = 200;

/// What one turn has asked for and got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    in_a_row: u32,
    recent: VecDeque<Decided>,
    asked: u32,
    max_asked: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    Approved,
    Denied,
}

/// Why no further review is taken on in the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tripped {
    /// So many denials in a row.
    DenialsInARow(u32),
    /// So many denials among the last 50 decided.
    DenialsAmongLast(usize),
    /// So many reviews were asked for.
    Reviews(u32),
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::with_ceiling(MAX_REVIEWS)
    }
}

impl CircuitBreaker {
    /// A breaker for a turn that may ask for at most `max_asked` reviews.
    #[must_use]
    pub fn with_ceiling(max_asked: u32) -> Self {
        Self {
            in_a_row: 0,
            recent: VecDeque::new(),
            asked: 0,
            max_asked,
        }
    }

    /// Whether the turn may ask for one more review. Call it before a review is opened, and [`Self::opened`] after.
    ///
    /// # Errors
    /// Why it may not. Once it may not by denials, it may not until the turn ends.
    pub fn check(&self) -> Result<(), Tripped> {
        let denied = self.denied_among_last();
        if self.in_a_row >= IN_A_ROW {
            Err(Tripped::DenialsInARow(self.in_a_row))
        } else if denied >= AMONG_LAST {
            Err(Tripped::DenialsAmongLast(denied))
        } else if self.asked >= self.max_asked {
            Err(Tripped::Reviews(self.asked))
        } else {
            Ok(())
        }
    }

    /// A review was opened.
    pub fn opened(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// A review ended. What did not end in a decision is not noted.
    pub fn note(&mut self, status: ReviewStatus) {
        // Reviews that were open when it tripped may still end; the turn stays stopped.
        if self
            .check()
            .is_err_and(|tripped| !matches!(tripped, Tripped::Reviews(_)))
        {
            return;
        }
        let decided = match status {
            ReviewStatus::Approved => Decided::Approved,
            ReviewStatus::Denied => Decided::Denied,
            ReviewStatus::Reviewing
            | ReviewStatus::TimedOut
            | ReviewStatus::Aborted
            | ReviewStatus::Failed => return,
        };
        self.in_a_row = match decided {
            Decided::Approved => 0,
            Decided::Denied => self.in_a_row + 1,
        };
        self.recent.push_back(decided);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
    }

    /// Denials since the last approval.
    #[must_use]
    pub fn denied_in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Denials among the last 50 decided.
    #[must_use]
    pub fn denied_among_last(&self) -> usize {
        self.recent
            .iter()
            .filter(|one| **one == Decided::Denied)
            .count()
    }
}

impl Tripped {
    /// The same for the record: a failure, never a denial.
    #[must_use]
    pub fn failure(self) -> ReviewFailure {
        let (step, code, message) = match self {
            Self::DenialsInARow(count) => (
                FailedStep::Breaker,
                "too_many_denials",
                format!(
                    "{count} reviews of this turn were denied in a row, so no more are taken on\nhint: finish with what needs no review, and tell the user what was refused and why"
                ),
            ),
            Self::DenialsAmongLast(count) => (
                FailedStep::Breaker,
                "too_many_denials",
                format!(
                    "{count} of the last {WINDOW} reviews of this turn were denied, so no more are taken on\nhint: finish with what needs no review, and tell the user what was refused and why"
                ),
            ),
            Self::Reviews(count) => (
                FailedStep::Budget,
                "too_many_reviews",
                format!(
                    "this turn has asked for {count} reviews, and no more are taken on\nhint: finish with what needs no review, or ask the user to start a new turn"
                ),
            ),
        };
        ReviewFailure {
            step,
            code: code.to_owned(),
            retryable: false,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{FailedStep, ReviewStatus};

    use super::{CircuitBreaker, Tripped};

    fn after(statuses: &[ReviewStatus]) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        for status in statuses {
            breaker.opened();
            breaker.note(*status);
        }
        breaker
    }

    const DENIED: ReviewStatus = ReviewStatus::Denied;
    const APPROVED: ReviewStatus = ReviewStatus::Approved;

    #[test]
    fn three_in_a_row_trip_and_two_do_not() {
        assert_eq!(after(&[DENIED, DENIED]).check(), Ok(()));
        assert_eq!(
            after(&[DENIED, DENIED, DENIED]).check(),
            Err(Tripped::DenialsInARow(3))
        );
        assert_eq!(
            after(&[DENIED, DENIED, APPROVED, DENIED, DENIED]).check(),
            Ok(())
        );
    }

    #[test]
    fn failures_and_timeouts_neither_count_nor_reset() {
        for other in [
            ReviewStatus::Failed,
            ReviewStatus::TimedOut,
            ReviewStatus::Aborted,
        ] {
            assert_eq!(after(&[DENIED, DENIED, other]).check(), Ok(()));
            assert_eq!(
                after(&[DENIED, other, DENIED, other, DENIED]).check(),
                Err(Tripped::DenialsInARow(3))
            );
            assert_eq!(after(&[other; 30]).check(), Ok(()));
        }
    }

    #[test]
    fn ten_of_the_last_fifty_trip_and_an_eleventh_back_does_not() {
        let spread = |denials: usize, gap: usize| {
            let mut statuses = Vec::new();
            for _ in 0..denials {
                statuses.push(DENIED);
                statuses.extend(vec![APPROVED; gap]);
            }
            after(&statuses)
        };
        assert_eq!(spread(9, 1).check(), Ok(()));
        assert_eq!(spread(10, 1).check(), Err(Tripped::DenialsAmongLast(10)));
        // The tenth denial comes 45 decisions after the first: all ten are in the window.
        assert_eq!(spread(10, 4).denied_among_last(), 10);
        // 54 decisions: the first has left it.
        assert_eq!(spread(10, 5).check(), Ok(()));
    }

    #[test]
    fn what_tripped_stays_tripped() {
        let mut breaker = after(&[DENIED, DENIED, DENIED]);
        breaker.note(APPROVED);
        assert_eq!(breaker.check(), Err(Tripped::DenialsInARow(3)));
    }

    #[test]
    fn a_turn_asks_for_so_many_reviews_and_no_more() {
        let mut breaker = CircuitBreaker::with_ceiling(2);
        assert_eq!(breaker.check(), Ok(()));
        breaker.opened();
        breaker.note(APPROVED);
        breaker.opened();
        assert_eq!(breaker.check(), Err(Tripped::Reviews(2)));
        let failure = Tripped::Reviews(2).failure();
        assert_eq!(
            (failure.step, failure.code.as_str()),
            (FailedStep::Budget, "too_many_reviews")
        );
        assert_eq!(
            Tripped::DenialsInARow(3).failure().step,
            FailedStep::Breaker
        );
    }
}
