//! What a yes about a host leaves behind: nothing, leave for the session, or a rule of the user's.
//!
//! Apart from asking because here something is written that outlasts the command. Invariants: it is in the journal before it
//! is kept; what cannot be kept holds for this command and no longer; a rule is the very line that the person was shown.

use jiff::Timestamp;
use protocol::{Action, PermittedAction, ReviewId};

use super::Reviews;
use crate::ask::Holds;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::rules_allow::add_line;

impl Reviews {
    /// Makes of `permitted` what lasts as long as `holds` says; answers how long it does.
    pub(super) async fn keep(
        &self,
        permitted: PermittedAction,
        review_id: ReviewId,
        holds: Holds,
    ) -> Holds {
        let line = match permitted.action() {
            Action::NetworkAccess(access) => super::rule(access),
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
