//! What a yes about a host leaves behind (nothing, leave for the session, or a rule of the user's), and what stands from before.
//!
//! Apart from asking because here something is written that outlasts the command. Invariants: it is in the journal before it
//! is kept; what cannot be kept holds for this command and no longer; a rule is the very line that the person was shown.

use exec_policy::HostProposal;
use jiff::Timestamp;
use network_proxy::Answer;
use protocol::{Action, NetworkAccess, PermittedAction, ReviewId, ReviewStatus};

use super::{HostReview, Reviews};
use crate::ask::Holds;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::rules_allow::add_line;

impl Reviews {
    /// Opened by leave that stood before, where one covers exactly this; that is on record before anything is connected.
    pub(super) fn by_leave(&self, access: &NetworkAccess) -> Option<Answer> {
        let review_id = self.hosts.covers(access, Timestamp::now())?;
        let mut asked = self.asked.borrow_mut();
        if !asked.by_leave.contains(access) {
            let action = Action::NetworkAccess(access.clone());
            let entry = JournalEntry {
                at: Timestamp::now(),
                event: JournalEvent::StandingLeave {
                    reviews: vec![review_id],
                },
                action_digest: action.digest(),
                action,
                session: self.body.session.clone(),
            };
            if journal::append(&self.state.journal(), &entry).is_err() {
                return Some(Answer::Failed);
            }
            asked.by_leave.push(access.clone());
            asked.reviews.push(HostReview {
                host: access.host.clone(),
                port: access.port,
                review_id: Some(review_id),
                status: ReviewStatus::Approved,
                holds: Some(Holds::Session),
            });
        }
        // Not for the rest of the command: what comes by another protocol is another question.
        Some(Answer::Once)
    }

    /// Makes of `permitted` what lasts as long as `holds` says; answers how long it does.
    pub(super) async fn keep(
        &self,
        permitted: PermittedAction,
        review_id: ReviewId,
        holds: Holds,
    ) -> Holds {
        let line = match permitted.action() {
            Action::NetworkAccess(access) => rule(access),
            Action::Command(_)
            | Action::FileChange(_)
            | Action::ToolCall(_)
            | Action::PermissionRequest(_) => None,
        };
        let kept = match holds {
            Holds::Command => false,
            Holds::Session => {
                self.hosts.has_session()
                    && self.note(&permitted, review_id, holds, None)
                    && self.hosts.keep(permitted).is_ok_and(|kept| kept)
            }
            Holds::Always => match line {
                Some(line) if self.note(&permitted, review_id, holds, Some(&line)) => {
                    let environment = self.environment.clone();
                    let adding = tokio::task::spawn_blocking(move || add_line(&environment, &line));
                    adding.await.is_ok_and(|added| added.is_ok())
                }
                Some(_) | None => false,
            },
        };
        if kept { holds } else { Holds::Command }
    }

    /// Writes down that it is about to last; answers whether that is on disk.
    fn note(
        &self,
        permitted: &PermittedAction,
        review_id: ReviewId,
        holds: Holds,
        rule: Option<&str>,
    ) -> bool {
        let action = permitted.action();
        let entry = JournalEntry {
            at: Timestamp::now(),
            event: JournalEvent::HostAllowed {
                review_id,
                holds: holds.as_str().to_owned(),
                rule: rule.map(str::to_owned),
            },
            action: action.clone(),
            action_digest: action.digest(),
            session: self.body.session.clone(),
        };
        journal::append(&self.state.journal(), &entry).is_ok()
    }
}

/// The rule that would let exactly `access` through from now on.
pub(super) fn rule(access: &NetworkAccess) -> Option<String> {
    let protocol = access.protocol.as_str();
    let proposal = HostProposal::of(&access.host, protocol, access.port)?;
    Some(proposal.line())
}
