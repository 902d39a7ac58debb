//! The same question a second time, where the first answer is slow.
//!
//! Apart, because it must stay rare: a provider that is slow for everybody would otherwise be asked twice as much just
//! then. Invariant: at most one call in twenty is a hedge, however many reviews race; the first assessment counts, whatever
//! it says, and so does a refusal to make one; only where there is neither, what the other call says is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Called, Fault, call};
use crate::model::Model;
use crate::prompt::Prompt;

/// One call in so many may be a hedge.
const ONE_IN: u64 = 20;

/// When hedges are made, and how many were.
#[derive(Debug, Default)]
pub(crate) struct Hedges {
    after: Option<Duration>,
    calls: AtomicU64,
    made: AtomicU64,
}

impl Hedges {
    pub(crate) fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            ..Self::default()
        }
    }

    /// Asks once, and once more where the answer is slow and `reserve` finds room for it. The last of what comes back
    /// counts; what stands before it is for the record.
    pub(super) async fn call<M: Model>(
        &self,
        model: &M,
        prompt: &Prompt,
        deadline: Instant,
        reserve: impl FnOnce() -> bool,
    ) -> (Option<Called>, Called) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(after) = self.after else {
            return (None, call(model, prompt, deadline).await);
        };
        let started = Instant::now();
        let mut first = Box::pin(call(model, prompt, deadline));
        if let Ok(called) = timeout(after, &mut first).await {
            return (None, called);
        }
        if !self.take() || !reserve() {
            return (None, first.await);
        }
        let hedged = Instant::now();
        let mut second = Box::pin(call(model, prompt, deadline));
        tokio::select! {
            called = &mut first => match called.is_final() {
                true => (Some(Called::superseded(hedged.elapsed())), called),
                false => (Some(called), second.await),
            },
            called = &mut second => match called.is_final() {
                true => (Some(Called::superseded(started.elapsed())), called),
                false => (Some(called), first.await),
            },
        }
    }

    /// Whether one more hedge is one in twenty at most; it then counts as made.
    fn take(&self) -> bool {
        let calls = self.calls.load(Ordering::Relaxed);
        let rare = |made: u64| ((made + 1) * ONE_IN <= calls).then_some(made + 1);
        self.made
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rare)
            .is_ok()
    }
}

impl Called {
    /// Whether there is nothing to wait for behind it: an assessment, the deadline, or what asking again does not change.
    fn is_final(&self) -> bool {
        match &self.result {
            Ok(_) | Err(None) => true,
            Err(Some(Fault::Reply(_))) => false,
            Err(Some(fault)) => !fault.is_absence(),
        }
    }

    /// A call whose answer nobody waits for any more.
    fn superseded(took: Duration) -> Self {
        Self {
            result: Err(Some(Fault::Superseded)),
            completion: None,
            took,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Hedges;

    #[test]
    fn one_call_in_twenty_is_a_hedge_at_most() {
        let hedges = Hedges::new(Some(Duration::from_secs(1)));
        let mut made = 0;
        for calls in 1..=400_u64 {
            hedges
                .calls
                .store(calls, std::sync::atomic::Ordering::Relaxed);
            while hedges.take() {
                made += 1;
            }
            assert!(made * 20 <= calls, "{made} of {calls}");
        }
        assert_eq!(made, 20);
    }

    #[test]
    fn a_race_of_64_makes_no_more() {
        let hedges = std::sync::Arc::new(Hedges::new(None));
        hedges
            .calls
            .store(640, std::sync::atomic::Ordering::Relaxed);
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let hedges = std::sync::Arc::clone(&hedges);
                std::thread::spawn(move || hedges.take())
            })
            .collect();
        let made = threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .filter(|made| *made)
            .count();
        assert_eq!(made, 32);
    }
}
