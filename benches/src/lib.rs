//! What the benchmarks share: samples, and how they are told.
//!
//! A benchmark interleaves what it measures with its yardstick, so that both meet the same machine, and prints the
//! yardstick's figure and the ratio beside its own. Nothing here passes or fails: machines differ.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Durations of one thing, as they were taken.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Adds many.
    pub fn extend(&mut self, samples: impl IntoIterator<Item = Duration>) {
        self.0.extend(samples);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which `percent` of a hundred lie; zero where there is none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len().saturating_sub(1) * percent) / 100;
        sorted.get(place).copied().unwrap_or_default()
    }
}

/// One line: the figure, its yardstick, what was added and the ratio.
#[must_use]
pub fn line(what: &str, samples: &Samples, yardstick: &Samples) -> String {
    let (ours, theirs) = (samples.percentile(50), yardstick.percentile(50));
    let added = ours.saturating_sub(theirs);
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64().max(f64::EPSILON);
    format!(
        "{what:<52} p50 {:>8}  p99 {:>8}  yardstick {:>8}  added {:>8}  ×{ratio:.2}",
        shown(ours),
        shown(samples.percentile(99)),
        shown(theirs),
        shown(added),
    )
}

/// A duration in the unit that fits it.
#[must_use]
pub fn shown(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..10_000 => format!("{micros} µs"),
        micros => format!(
            "{:.1} ms",
            Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).as_secs_f64() * 1e3
        ),
    }
}
