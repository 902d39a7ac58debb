//! Waiting with an end: no test waits for ever.

use std::time::{Duration, Instant};

/// How long anything that should happen soon may take before a test fails. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Looks again and again until `look` finds something, and fails the test after [`LIMIT`].
///
/// # Panics
/// It was not found in time; `what` says what was waited for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < until,
            "waited {} s in vain for: {what}",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
