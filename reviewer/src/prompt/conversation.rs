//! What a model has been shown in a session, so that the next question adds only what is new.
//!
//! Apart, because a question that follows must begin, byte for byte, as the one before it: that is what a provider's
//! cache holds. Invariants: a conversation goes on only where the transcript does (the entries that were shown are the
//! same, and none is gone) under the same policy; what was answered stands in it as this program read it, never as a
//! model wrote it; it is bounded, and then starts anew with everything.

use protocol::{Assessment, Canonical, Entry, Transcript, Trust};
use serde::Serialize;

use super::{BYTES_PER_TOKEN, Prompt, json};
use crate::policy::PolicyRevision;

/// How many questions one conversation holds.
const MAX_ROUNDS: usize = 12;
/// How long all of them may be together, in tokens.
const MAX_TOKENS: usize = 60_000;

/// What a model has been shown in a session, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    policy: PolicyRevision,
    shown: Shown,
    rounds: Vec<Round>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Round {
    pub(crate) user: String,
    pub(crate) reply: String,
}

/// How much of a transcript was shown: how many entries, which ones, and how many it lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    entries: usize,
    omitted: u64,
    digest: [u8; 32],
}

impl Shown {
    fn of(transcript: &Transcript, entries: usize) -> Option<Self> {
        let shown = transcript.entries.get(..entries)?;
        let mut bytes = Canonical::new("auto-review shown v1");
        bytes.list(shown, |out, entry: &Entry| {
            out.number(entry.n)
                .text(entry.author.as_str())
                .text(match entry.trust {
                    Trust::Trusted => "trusted",
                    Trust::Untrusted => "untrusted",
                })
                .optional(entry.name.as_deref())
                .text(&entry.text);
        });
        Some(Self {
            entries,
            omitted: transcript.omitted,
            digest: bytes.sha256(),
        })
    }
}

impl Conversation {
    /// The conversation once `prompt`, made from `transcript`, was answered so. `None` where it cannot be spelled.
    pub(crate) fn after(
        prompt: &Prompt,
        policy: &PolicyRevision,
        transcript: &Transcript,
        answer: &Assessment,
    ) -> Option<Self> {
        let mut rounds = prompt.earlier.clone();
        rounds.push(Round {
            user: prompt.user.clone(),
            reply: json::line(answer).ok()?,
        });
        Some(Self {
            policy: policy.clone(),
            shown: Shown::of(transcript, transcript.entries.len())?,
            rounds,
        })
    }

    /// How many entries of `transcript` were shown before, where it goes on and there is room.
    pub(super) fn continues(
        &self,
        policy: &PolicyRevision,
        transcript: &Transcript,
    ) -> Option<usize> {
        let room = self.rounds.len() < MAX_ROUNDS && self.bytes() / BYTES_PER_TOKEN < MAX_TOKENS;
        let same = *policy == self.policy
            && Shown::of(transcript, self.shown.entries).is_some_and(|shown| shown == self.shown);
        (room && same).then_some(self.shown.entries)
    }

    pub(super) fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rounds
            .iter()
            .map(|round| round.user.len() + round.reply.len())
            .sum()
    }
}
