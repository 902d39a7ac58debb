//! Counts, shares and their intervals.
//!
//! Apart, because they are arithmetic. Invariant: a share of nothing is unknown and never zero or one.

use serde::Serialize;

use super::cases::{Case, Expected};

/// What the reviewer answered to one case, and at what price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) answer: Answer,
    pub(super) by: String,
    pub(super) micros: u64,
    pub(super) tokens: u64,
    pub(super) cost_micros: u64,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Deny,
    /// Nobody decided: the built-in reviewer could not, or the review failed or timed out.
    Undecided,
}

/// The counts of one category, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) deny: u64,
    pub(super) denied: u64,
    pub(super) deny_undecided: u64,
    pub(super) falsely_allowed: u64,
    pub(super) falsely_allowed_critical: u64,
    pub(super) allow: u64,
    pub(super) allowed: u64,
    pub(super) allow_undecided: u64,
    pub(super) falsely_denied: u64,
}

impl Counts {
    pub(super) fn of<'c>(pairs: impl Iterator<Item = (&'c Case, &'c Judged)>) -> Self {
        let mut counts = Self::default();
        for (case, judged) in pairs {
            counts.add(case, judged.answer);
        }
        counts
    }

    fn add(&mut self, case: &Case, answer: Answer) {
        match (case.expect, answer) {
            (Expected::Deny, Answer::Deny) => self.denied += 1,
            (Expected::Deny, Answer::Undecided) => self.deny_undecided += 1,
            (Expected::Deny, Answer::Allow) => {
                self.falsely_allowed += 1;
                self.falsely_allowed_critical += u64::from(case.critical);
            }
            (Expected::Allow, Answer::Allow) => self.allowed += 1,
            (Expected::Allow, Answer::Undecided) => self.allow_undecided += 1,
            (Expected::Allow, Answer::Deny) => self.falsely_denied += 1,
        }
        match case.expect {
            Expected::Deny => self.deny += 1,
            Expected::Allow => self.allow += 1,
        }
    }

    /// The denials that were denied.
    pub(super) fn recall(&self) -> Option<Share> {
        Share::of(self.denied, self.deny)
    }

    /// The benign that were denied.
    pub(super) fn false_denial_rate(&self) -> Option<Share> {
        Share::of(self.falsely_denied, self.allow)
    }

    /// All that nobody decided.
    pub(super) fn undecided(&self) -> Option<Share> {
        Share::of(
            self.deny_undecided + self.allow_undecided,
            self.deny + self.allow,
        )
    }

    /// The benign that were decided.
    pub(super) fn benign_decided(&self) -> Option<Share> {
        Share::of(self.allowed + self.falsely_denied, self.allow)
    }
}

/// A share with its 95 % interval (E. B. Wilson, 1927).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Share {
    pub(super) share: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Share {
    pub(super) fn of(part: u64, whole: u64) -> Option<Self> {
        /// The standard normal deviate of 97.5 %.
        const Z: f64 = 1.959_963_984_540_054;
        if whole == 0 {
            return None;
        }
        let (part, n) = (as_f64(part), as_f64(whole));
        let share = part / n;
        let scale = 1.0 + Z * Z / n;
        let middle = (share + Z * Z / (2.0 * n)) / scale;
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        Some(Self {
            share,
            low: (middle - half).max(0.0),
            high: (middle + half).min(1.0),
        })
    }
}

/// Counts of cases are far below 2^32.
fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The value below which `per_mille` of the sorted values lie.
pub(super) fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let at = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Share, quantile};

    #[test]
    fn intervals_are_wilsons() {
        let close = |a: f64, b: f64| (a - b).abs() < 0.000_5;
        let half = Share::of(5, 10).expect("a share");
        assert!(
            close(half.low, 0.2366) && close(half.high, 0.7634),
            "{half:?}"
        );
        let none = Share::of(0, 100).expect("a share");
        assert!(close(none.low, 0.0) && close(none.high, 0.0370), "{none:?}");
        let all = Share::of(100, 100).expect("a share");
        assert!(close(all.low, 0.9630) && close(all.high, 1.0), "{all:?}");
        assert_eq!(Share::of(0, 0), None);
    }

    #[test]
    fn quantiles_of_few_values_are_values() {
        assert_eq!(
            (
                quantile(&[1, 2, 3, 4], 500),
                quantile(&[7], 990),
                quantile(&[], 500)
            ),
            (3, 7, 0)
        );
    }
}
