//! The server's record of judging one escalation: its id, its events, and the status that follows from them.
//!
//! The events are the truth; a status is a pure fold over them. Invariant: a review that has ended never changes its
//! status again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Names one review: a UUID of version 7 (RFC 9562), so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ReviewId(Uuid);

/// Why a text is not a review id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a review id is a UUID")]
pub struct InvalidReviewId;

impl ReviewId {
    /// Wraps a UUID that the server made.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub fn uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for ReviewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ReviewId {
    type Err = InvalidReviewId;

    fn from_str(text: &str) -> Result<Self, InvalidReviewId> {
        // One id, one spelling: the braced, URN and undashed forms are refused.
        Uuid::parse_str(text)
            .ok()
            .filter(|uuid| uuid.to_string() == text)
            .map(Self)
            .ok_or(InvalidReviewId)
    }
}

/// Where a review stands. Derived from its events, never set by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReviewStatus {
    /// Not decided yet.
    Reviewing,
    /// The action may be done, once.
    Approved,
    /// An assessment, a rule or a person said no.
    Denied,
    /// The deadline passed first. Not evidence of danger.
    TimedOut,
    /// Whoever asked took the question back.
    Aborted,
    /// The review did not come off. Not evidence of danger.
    Failed,
}

/// Something that happened to a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReviewEvent {
    /// It was accepted.
    Opened,
    /// It ended in an approval.
    Approved,
    /// It ended in a denial.
    Denied,
    /// It ended because the deadline passed.
    TimedOut,
    /// It ended because the question was taken back.
    Aborted,
    /// It ended because a step of the review failed.
    Failed,
    /// Its approval was spent.
    Redeemed,
    /// What it allowed was run, as its runner tells it.
    Ran,
    /// One of several approvers who must agree has answered.
    Voted,
    /// A second policy or model judged it as well. It binds nobody.
    Shadowed,
    /// What was sent with it and what its reviewer was shown were erased.
    Erased,
    /// A person gave leave for what it denied, once.
    LeaveGiven,
    /// Another review was approved by that leave.
    LeaveSpent,
    /// What the door decided while a command ran. Its id is the run's and no review's, so no review stands where it did not.
    Network,
    /// Somebody took that leave back before it was spent.
    LeaveWithdrawn,
}

impl ReviewStatus {
    /// Every status, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Reviewing,
        Self::Approved,
        Self::Denied,
        Self::TimedOut,
        Self::Aborted,
        Self::Failed,
    ];

    /// The status after `event`, or `None` where that event cannot happen. `before` is `None` for a review that does
    /// not exist yet. That an approval is spent once only is the store's unique index, not a status.
    #[must_use]
    pub fn after(before: Option<Self>, event: ReviewEvent) -> Option<Self> {
        match (before, event) {
            (None, ReviewEvent::Opened) => Some(Self::Reviewing),
            (Some(Self::Reviewing), ReviewEvent::Approved) => Some(Self::Approved),
            (Some(Self::Reviewing), ReviewEvent::Denied) => Some(Self::Denied),
            (Some(Self::Reviewing), ReviewEvent::TimedOut) => Some(Self::TimedOut),
            (Some(Self::Reviewing), ReviewEvent::Aborted) => Some(Self::Aborted),
            (Some(Self::Reviewing), ReviewEvent::Failed) => Some(Self::Failed),
            (Some(Self::Approved), ReviewEvent::Redeemed | ReviewEvent::Ran) => {
                Some(Self::Approved)
            }
            (Some(Self::Reviewing), ReviewEvent::Voted) => Some(Self::Reviewing),
            (Some(ended @ (Self::Approved | Self::Denied)), ReviewEvent::Shadowed) => Some(ended),
            (
                Some(Self::Denied),
                ReviewEvent::LeaveGiven | ReviewEvent::LeaveSpent | ReviewEvent::LeaveWithdrawn,
            ) => Some(Self::Denied),
            (Some(ended), ReviewEvent::Erased) if ended.is_terminal() => Some(ended),
            (None | Some(_), _) => None,
        }
    }

    /// Whether the review has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self != Self::Reviewing
    }

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reviewing => "reviewing",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }

    /// The words that people read.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Reviewing => "Reviewing",
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::TimedOut => "Timed out",
            Self::Aborted => "Aborted",
            Self::Failed => "Failed",
        }
    }

    /// Reads [`ReviewStatus::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl ReviewEvent {
    /// Every event, in the order in which they may happen.
    pub const ALL: [Self; 15] = [
        Self::Opened,
        Self::Approved,
        Self::Denied,
        Self::TimedOut,
        Self::Aborted,
        Self::Failed,
        Self::Redeemed,
        Self::Ran,
        Self::Voted,
        Self::Shadowed,
        Self::Erased,
        Self::LeaveGiven,
        Self::LeaveSpent,
        Self::Network,
        Self::LeaveWithdrawn,
    ];

    /// Reads [`ReviewEvent::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Redeemed => "redeemed",
            Self::Ran => "ran",
            Self::Voted => "voted",
            Self::Shadowed => "shadowed",
            Self::Erased => "erased",
            Self::LeaveGiven => "leave_given",
            Self::LeaveSpent => "leave_spent",
            Self::Network => "network",
            Self::LeaveWithdrawn => "leave_withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ReviewEvent, ReviewId, ReviewStatus};

    #[test]
    fn every_pair_of_status_and_event_has_the_answer_of_this_table() {
        let before = [None].into_iter().chain(ReviewStatus::ALL.map(Some));
        let table: String = before
            .map(|before| {
                let name = before.map_or("-", ReviewStatus::as_str);
                let after = ReviewEvent::ALL.map(|event| {
                    ReviewStatus::after(before, event).map_or("-", ReviewStatus::as_str)
                });
                format!("{name}: {}\n", after.join(" "))
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        -: reviewing - - - - - - - - - - - - - -
        reviewing: - approved denied timed_out aborted failed - - reviewing - - - - - -
        approved: - - - - - - approved approved - approved approved - - - -
        denied: - - - - - - - - - denied denied denied denied - denied
        timed_out: - - - - - - - - - - timed_out - - - -
        aborted: - - - - - - - - - - aborted - - - -
        failed: - - - - - - - - - - failed - - - -
        ");
    }

    #[test]
    fn a_review_id_has_one_spelling() {
        let text = "01980000-0000-7000-8000-0000000000ab";
        assert_eq!(text.parse::<ReviewId>().expect("an id").to_string(), text);
        for odd in [
            text.to_uppercase(),
            format!("{{{text}}}"),
            text.replace('-', ""),
            "1".to_owned(),
        ] {
            assert!(odd.parse::<ReviewId>().is_err(), "{odd} was accepted");
        }
    }
}
