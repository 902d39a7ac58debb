//! Ceilings of what models may be asked, take and cost, reserved before each call.
//!
//! Apart from attempts, because they hold over all reviews of a process. Invariant: what is reserved and what is spent
//! never exceed a ceiling together, however many reviews race; what a call did not use goes back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The ceilings of one window. `None`: no ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ceilings {
    pub(crate) requests: Option<u64>,
    pub(crate) tokens: Option<u64>,
    pub(crate) cost_micros: Option<u64>,
}

/// One hour; the window starts with the first call after the last one ended.
const WINDOW: Duration = Duration::from_secs(3_600);

/// What has been used of the ceilings.
#[derive(Debug)]
pub(crate) struct Budget {
    ceilings: Ceilings,
    used: Mutex<Used>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    since: Option<Instant>,
    requests: u64,
    tokens: u64,
    cost_micros: u64,
}

/// What one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    tokens: u64,
    cost_micros: u64,
    since: Instant,
}

impl Budget {
    pub(crate) fn new(ceilings: Ceilings) -> Self {
        let used = Used {
            since: None,
            requests: 0,
            tokens: 0,
            cost_micros: 0,
        };
        Self {
            ceilings,
            used: Mutex::new(used),
        }
    }

    /// Reserves one call; `None` where a ceiling would be passed.
    pub(crate) fn reserve(
        &self,
        now: Instant,
        tokens: u64,
        cost_micros: u64,
    ) -> Option<Reservation> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match used.since {
            Some(since) if now.saturating_duration_since(since) < WINDOW => since,
            _ => now,
        };
        let fresh = used.since != Some(since);
        let before = if fresh {
            (0, 0, 0)
        } else {
            (used.requests, used.tokens, used.cost_micros)
        };
        let after = (
            before.0 + 1,
            before.1.saturating_add(tokens),
            before.2.saturating_add(cost_micros),
        );
        let fits =
            |ceiling: Option<u64>, value: u64| ceiling.is_none_or(|ceiling| value <= ceiling);
        if !fits(self.ceilings.requests, after.0)
            || !fits(self.ceilings.tokens, after.1)
            || !fits(self.ceilings.cost_micros, after.2)
        {
            return None;
        }
        *used = Used {
            since: Some(since),
            requests: after.0,
            tokens: after.1,
            cost_micros: after.2,
        };
        Some(Reservation {
            tokens,
            cost_micros,
            since,
        })
    }

    /// Puts what was truly used in the place of what was reserved. A call whose use is not known keeps its reservation.
    pub(crate) fn settle(&self, reserved: Reservation, tokens: u64, cost_micros: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.since != Some(reserved.since) {
            return;
        }
        used.tokens = used
            .tokens
            .saturating_sub(reserved.tokens)
            .saturating_add(tokens);
        used.cost_micros = used
            .cost_micros
            .saturating_sub(reserved.cost_micros)
            .saturating_add(cost_micros);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Budget, Ceilings};

    #[test]
    fn a_race_of_64_overspends_nothing() {
        let budget = Arc::new(Budget::new(Ceilings {
            requests: Some(40),
            tokens: Some(1_000),
            cost_micros: None,
        }));
        let now = Instant::now();
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || budget.reserve(now, 30, 0).is_some())
            })
            .collect();
        let granted = threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .filter(|granted| *granted)
            .count();
        assert_eq!(granted, 33, "33 times 30 tokens fit into 1,000");
    }

    #[test]
    fn what_was_not_used_goes_back_and_the_window_ends() {
        let budget = Budget::new(Ceilings {
            requests: None,
            tokens: Some(100),
            cost_micros: Some(50),
        });
        let now = Instant::now();
        let first = budget.reserve(now, 90, 10).expect("room");
        assert_eq!(budget.reserve(now, 20, 0), None);
        budget.settle(first, 10, 1);
        assert!(budget.reserve(now, 90, 49).is_some());
        assert_eq!(budget.reserve(now, 1, 0), None);
        assert_eq!(budget.reserve(now + Duration::from_secs(3_599), 1, 0), None);
        let later = now + Duration::from_secs(3_600);
        assert!(budget.reserve(later, 100, 0).is_some());
        budget.settle(first, 0, 0);
        assert_eq!(
            budget.reserve(later, 1, 0),
            None,
            "an old call gives nothing back to a new window"
        );
    }
}
