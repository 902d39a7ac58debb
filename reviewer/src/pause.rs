//! Leaves a provider alone that failed again and again.
//!
//! Apart from attempts, because it holds over all reviews of a process. Invariant: after five failures in a row nobody
//! asks for 30 seconds; then one asks, and all wait for what becomes of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row.
const FAILURES: u32 = 5;
/// For how long it is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// The state of one provider.
#[derive(Debug, Default)]
pub(crate) struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// Whether it may be asked now. Whoever gets a yes after a pause asks for all.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.until = Some(now + PAUSE);
                true
            }
        }
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// It could not be had.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pause;

    #[test]
    fn five_in_a_row_pause_and_one_asks_afterwards() {
        let pause = Pause::default();
        let now = Instant::now();
        for _ in 0..4 {
            pause.failed(now);
        }
        assert!(pause.may_ask(now));
        pause.answered();
        for _ in 0..5 {
            assert!(pause.may_ask(now));
            pause.failed(now);
        }
        assert!(!pause.may_ask(now + Duration::from_secs(29)));
        let later = now + Duration::from_secs(30);
        assert!(pause.may_ask(later) && !pause.may_ask(later));
        pause.answered();
        assert!(pause.may_ask(later) && pause.may_ask(later));
    }
}
