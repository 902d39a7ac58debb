//! Whether the machine's clock is believed when it says that something is old enough to be erased.
//!
//! Apart and pure, because what is erased does not come back: a clock that jumps years ahead would have everything erased
//! at once. Invariant: a time that is further ahead of the last one that was believed, and of the time that has passed
//! since by the monotonic clock, is believed only when it has been told steadily for [`PATIENCE`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// How far ahead a clock may be: a server that was switched off over a week goes on at once.
const SLACK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long people have for correcting a clock that jumped.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// What was believed, and what was told since.
#[derive(Debug)]
pub(crate) struct Clock {
    believed: Reading,
    last: Reading,
    /// Since when a time is told that is not believed.
    ahead_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    told: Timestamp,
    seen: Instant,
}

/// Whether a time is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Believed {
    Yes,
    /// How far it is ahead of what can be.
    NotYet(SignedDuration, Told),
}

/// Whether that is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    New,
    Before,
}

impl Reading {
    /// How much further the clock has come by `other` than time has passed.
    fn ahead(self, other: Self) -> SignedDuration {
        let passed = other.seen.saturating_duration_since(self.seen);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        other.told.duration_since(self.told).saturating_sub(passed)
    }
}

impl Clock {
    /// Believes `witness`, the newest time on record, at the moment `seen`.
    pub(super) fn new(witness: Timestamp, seen: Instant) -> Self {
        let reading = Reading {
            told: witness,
            seen,
        };
        Self {
            believed: reading,
            last: reading,
            ahead_since: None,
        }
    }

    /// Whether the machine's clock is believed, which says `told` at the moment `seen`.
    pub(super) fn believe(&mut self, told: Timestamp, seen: Instant) -> Believed {
        let reading = Reading { told, seen };
        let jumped = self.last.ahead(reading).abs() > SLACK;
        self.last = reading;
        let ahead = self.believed.ahead(reading);
        let since = self.ahead_since.filter(|_| !jumped);
        let patient = since.is_some_and(|since| seen.duration_since(since) >= PATIENCE);
        if ahead <= SLACK || patient {
            self.believed = reading;
            self.ahead_since = None;
            return Believed::Yes;
        }
        self.ahead_since = Some(since.unwrap_or(seen));
        let news = if since.is_none() {
            Told::New
        } else {
            Told::Before
        };
        Believed::NotYet(ahead, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    struct World {
        clock: Clock,
        start: Instant,
        passed: Duration,
    }

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + days * 86_400).expect("a time")
    }

    impl World {
        /// The newest line is of day 0.
        fn new() -> Self {
            let start = Instant::now();
            Self {
                clock: Clock::new(at(0), start),
                start,
                passed: Duration::ZERO,
            }
        }

        /// What comes of the clock's saying day `told` after `passed` more.
        fn after(&mut self, passed: Duration, told: i64) -> Believed {
            self.passed += passed;
            self.clock.believe(at(told), self.start + self.passed)
        }
    }

    fn not_yet(days: i64, told: Told) -> Believed {
        Believed::NotYet(SignedDuration::from_hours(24 * days), told)
    }

    #[test]
    fn a_clock_that_goes_with_time_is_believed_however_long_nobody_asks() {
        let mut world = World::new();
        for day in 1..400 {
            assert_eq!(world.after(DAY, day), Believed::Yes);
        }
        assert_eq!(world.after(100 * DAY, 499), Believed::Yes, "slept through");
    }

    #[test]
    fn a_week_off_is_believed_at_once_and_more_after_a_day_that_confirms_it() {
        assert_eq!(World::new().after(Duration::ZERO, 7), Believed::Yes);
        let mut world = World::new();
        assert_eq!(world.after(Duration::ZERO, 60), not_yet(60, Told::New));
        let again = world.after(Duration::ZERO, 60);
        assert_eq!(again, not_yet(60, Told::Before));
        assert_eq!(world.after(DAY, 61), Believed::Yes);
        assert_eq!(world.after(DAY, 62), Believed::Yes);
    }

    #[test]
    fn a_jump_of_years_that_is_corrected_within_a_day_never_counts() {
        let mut world = World::new();
        assert_eq!(world.after(DAY, 1), Believed::Yes);
        assert_eq!(
            world.after(Duration::ZERO, 3_651),
            not_yet(3_650, Told::New)
        );
        assert_eq!(world.after(DAY / 4, 1), Believed::Yes, "corrected");
        assert_eq!(world.after(DAY * 2, 3_651), not_yet(3_648, Told::New));
    }

    #[test]
    fn a_clock_that_jumps_again_is_waited_for_again() {
        let mut world = World::new();
        assert_eq!(world.after(Duration::ZERO, 100), not_yet(100, Told::New));
        assert_eq!(world.after(DAY, 301), not_yet(300, Told::New));
        assert_eq!(world.after(DAY, 302), Believed::Yes);
    }

    #[test]
    fn a_clock_that_goes_back_is_believed_and_its_way_forth_is_bounded() {
        let mut world = World::new();
        assert_eq!(world.after(Duration::ZERO, -300), Believed::Yes);
        assert_eq!(world.after(Duration::ZERO, 0), not_yet(300, Told::New));
    }
}
