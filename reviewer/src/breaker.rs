//! Stops a turn in which too much is denied or too much is asked.
//!
//! Apart, because the server keeps one for each turn and the counts must be exact. Pure: no clock, no lock; it is stored
//! as it is between two reviews. Invariant: only denials count and only approvals reset; what failed, timed out or was
//! taken back does neither (P5); what tripped in a turn stays tripped in it.

use std::collections::VecDeque;

use protocol::{FailedStep, ReviewFailure, ReviewStatus};
use serde::{Deserialize, Serialize};

/// How many decided reviews are looked back on.
const WINDOW: usize = 50;
/// How long a decision counts where no turn is named, in milliseconds (design D17).
const HOUR: i64 = 3_600_000;

/// What one turn has asked for and got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    span: Span,
    limits: BreakerLimits,
    asked: u32,
    /// When, in milliseconds since 1970, and how: the last that were decided, oldest first.
    recent: VecDeque<(i64, Decided)>,
    /// What it tripped by, and when.
    tripped: Option<(Tripped, i64)>,
}

/// How far back a breaker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Over one turn, whole.
    Turn,
    /// Over the last hour, because nobody names the turns. There is no ceiling on reviews then.
    Hour,
}

/// From how much on a turn is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerLimits {
    /// Denials in a row: 1 to 50.
    pub denials_in_a_row: u32,
    /// Denials among the last 50 that were decided: 1 to 50.
    pub denials_among_last_50: u32,
    /// Reviews of one turn: 1 or more.
    pub reviews_per_turn: u32,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            denials_in_a_row: 3,
            denials_among_last_50: 10,
            reviews_per_turn: 200,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Decided {
    #[serde(rename = "a")]
    Approved,
    #[serde(rename = "d")]
    Denied,
}

/// Why no further review is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tripped {
    /// So many denials in a row.
    DenialsInARow(u32),
    /// So many denials among the last 50 decided.
    DenialsAmongLast(u32),
    /// So many reviews were asked for.
    Reviews(u32),
}

impl CircuitBreaker {
    /// A breaker that has seen nothing.
    #[must_use]
    pub fn new(span: Span, limits: BreakerLimits) -> Self {
        Self {
            span,
            limits,
            asked: 0,
            recent: VecDeque::new(),
            tripped: None,
        }
    }

    /// Whether one more review is taken on at `now` (milliseconds since 1970). Call it before a review is opened, and
    /// [`Self::opened`] after.
    ///
    /// # Errors
    /// Why not. By denials, it is not until the turn ends, or for an hour where there is none.
    pub fn check(&self, now: i64) -> Result<(), Tripped> {
        if let Some((tripped, at)) = self.tripped
            && self.counts(at, now)
        {
            return Err(tripped);
        }
        match self.span {
            Span::Turn if self.asked >= self.limits.reviews_per_turn => {
                Err(Tripped::Reviews(self.asked))
            }
            Span::Turn | Span::Hour => Ok(()),
        }
    }

    /// Holds it to other limits from now on.
    pub fn limit(&mut self, limits: BreakerLimits) {
        self.limits = limits;
    }

    /// A review was opened.
    pub fn opened(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// A review ended at `now`. What did not end in a decision is not noted; whether it was, is the answer.
    pub fn note(&mut self, status: ReviewStatus, now: i64) -> bool {
        let decided = match status {
            ReviewStatus::Approved => Decided::Approved,
            ReviewStatus::Denied => Decided::Denied,
            ReviewStatus::Reviewing
            | ReviewStatus::TimedOut
            | ReviewStatus::Aborted
            | ReviewStatus::Failed => return false,
        };
        // Reviews that were open when it tripped may still end; what tripped stays so.
        if self.tripped.is_some_and(|(_, at)| self.counts(at, now)) {
            return false;
        }
        let span = self.span;
        self.tripped = None;
        self.recent.retain(|(at, _)| span.counts(*at, now));
        self.recent.push_back((now, decided));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let (in_a_row, among) = (self.denied_in_a_row(now), self.denied_among_last(now));
        let tripped = if in_a_row >= self.limits.denials_in_a_row {
            Some(Tripped::DenialsInARow(in_a_row))
        } else if among >= self.limits.denials_among_last_50 {
            Some(Tripped::DenialsAmongLast(among))
        } else {
            None
        };
        self.tripped = tripped.map(|tripped| (tripped, now));
        true
    }

    /// A person looked at what was denied and gave leave: the denials before that count no more.
    pub fn forgive(&mut self) {
        self.tripped = None;
        self.recent.clear();
    }

    /// Denials since the last approval.
    #[must_use]
    pub fn denied_in_a_row(&self, now: i64) -> u32 {
        let newest_first = self.recent.iter().rev();
        let row =
            newest_first.take_while(|(at, one)| *one == Decided::Denied && self.counts(*at, now));
        u32::try_from(row.count()).unwrap_or(u32::MAX)
    }

    /// Denials among the last 50 decided.
    #[must_use]
    pub fn denied_among_last(&self, now: i64) -> u32 {
        let denied = self
            .recent
            .iter()
            .filter(|(at, one)| *one == Decided::Denied && self.counts(*at, now));
        u32::try_from(denied.count()).unwrap_or(u32::MAX)
    }

    /// How many reviews were taken on.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.asked
    }

    /// How far back it looks.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    fn counts(&self, at: i64, now: i64) -> bool {
        self.span.counts(at, now)
    }
}

impl Span {
    fn counts(self, at: i64, now: i64) -> bool {
        match self {
            Self::Turn => true,
            // A clock that was set back lengthens the hour, which is the safe side.
            Self::Hour => now.saturating_sub(at) < HOUR,
        }
    }
}

impl Tripped {
    /// The same for the record: a failure, never a denial.
    #[must_use]
    pub fn failure(self, span: Span) -> ReviewFailure {
        let (step, code, what) = match self {
            Self::DenialsInARow(count) => (
                FailedStep::Breaker,
                "too_many_denials",
                format!("{count} reviews {} were denied in a row", span.words()),
            ),
            Self::DenialsAmongLast(count) => (
                FailedStep::Breaker,
                "too_many_denials",
                format!(
                    "{count} of the last {WINDOW} reviews {} were denied",
                    span.words()
                ),
            ),
            Self::Reviews(count) => (
                FailedStep::Budget,
                "too_many_reviews",
                format!("{count} reviews {} were asked for", span.words()),
            ),
        };
        let hint = match span {
            Span::Turn => {
                "finish with what needs no review, and tell the user what was refused and why; the next turn starts anew"
            }
            Span::Hour => {
                "finish with what needs no review, and tell the user what was refused and why; with `--session` and `--turn` each turn counts for itself"
            }
        };
        ReviewFailure {
            step,
            code: code.to_owned(),
            retryable: false,
            message: format!("{what}, so no more are taken on\nhint: {hint}"),
        }
    }
}

impl Span {
    fn words(self) -> &'static str {
        match self {
            Self::Turn => "of this turn",
            Self::Hour => "of this user in this workspace in the last hour",
        }
    }
}

#[cfg(test)]
mod tests;
