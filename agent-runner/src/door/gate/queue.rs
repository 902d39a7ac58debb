//! When a question about a host waits for an approver at the server, and how long their yes holds.
//!
//! Apart and pure, because here a yes is made to last longer or not. Invariants: what a person said in the receipt's scope
//! alone is what their yes holds for, whatever the settings give a reviewer's; a yes from elsewhere never holds always.

use std::time::Duration;

use protocol::{Decision, Denial, Grant, HostScope, ReviewId};

use crate::ask::Holds;
use crate::config::{Fallback, OnEnd};
use crate::door::Asker;
use crate::review_client::{Answered, Question};
use crate::reviewers;

/// A question about a host that has ended.
pub(super) struct Put {
    pub(super) put: Question,
    pub(super) review_id: ReviewId,
    pub(super) answered: Answered,
    pub(super) holds: Said,
}

/// How long a yes holds, as far as the runner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The person at this terminal chose it.
    Here(Holds),
    /// The settings say so of a reviewer's.
    Set(Holds),
}

impl Said {
    /// How long a yes of `by` holds whose receipt says `scope`.
    pub(super) fn after(self, by: Who, scope: HostScope) -> Holds {
        match (self, by, scope) {
            (Self::Here(holds), Who::Person, _) | (Self::Set(holds), Who::Reviewer, _) => holds,
            (Self::Set(_), Who::Person, HostScope::Session) => Holds::Session,
            (Self::Set(_), Who::Person, HostScope::Once) | (Self::Here(_), Who::Reviewer, _) => {
                Holds::Command
            }
        }
    }
}

/// Who said yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Person,
    Reviewer,
}

impl Who {
    /// Who gave `grant`: behind a person's there is no judgement.
    pub(super) fn gave(grant: &Grant) -> Self {
        match grant.judgement() {
            Some(_) => Self::Reviewer,
            None => Self::Person,
        }
    }
}

/// How long an answer of `asker` is waited for.
pub(super) fn patience(asker: Asker) -> Duration {
    match asker {
        Asker::Approver => reviewers::QUEUE_LIMIT,
        Asker::Nobody | Asker::Reviewer(_) | Asker::Person => reviewers::TIME_LIMIT,
    }
}

/// Whether what a reviewer left so is put to an approver. What a rule or a person said is final, and so is what could not be
/// put to the server at all.
pub(super) fn goes_to_queue(asker: Asker, answered: &Answered, fallback: Fallback) -> bool {
    let follows = match (asker, &answered.decision) {
        (Asker::Reviewer(_), Decision::Denied(Denial::Judged(_))) => fallback.on_deny,
        (Asker::Reviewer(_), Decision::TimedOut) => fallback.on_timeout,
        (Asker::Reviewer(_), Decision::Failed(_)) => fallback.on_failure,
        (
            Asker::Reviewer(_),
            Decision::Approved(_)
            | Decision::Aborted
            | Decision::Denied(Denial::ByRule(_) | Denial::ByPerson(_)),
        )
        | (Asker::Nobody | Asker::Person | Asker::Approver, _) => OnEnd::Block,
    };
    follows == OnEnd::Queue
}

#[cfg(test)]
mod tests {
    use protocol::{Decision, Denial, HostScope};

    use super::{Said, Who, goes_to_queue};
    use crate::ask::Holds;
    use crate::config::{Fallback, OnEnd};
    use crate::door::Asker;
    use crate::review_client::{Answered, Retry, server_failure};

    #[test]
    fn only_an_approvers_own_word_makes_a_yes_from_elsewhere_last_and_it_narrows_as_well() {
        use HostScope::{Once, Session};
        let all = [Holds::Command, Holds::Session, Holds::Always];
        for holds in all {
            for scope in [Once, Session] {
                // The person at this terminal chose; what a server says of it is of no matter.
                assert_eq!(Said::Here(holds).after(Who::Person, scope), holds);
                // Nothing that a receipt says makes a model's yes last longer than the settings let it.
                assert_eq!(Said::Set(holds).after(Who::Reviewer, scope), holds);
            }
            assert_eq!(Said::Set(holds).after(Who::Person, Once), Holds::Command);
            assert_eq!(Said::Set(holds).after(Who::Person, Session), Holds::Session);
            // Who was to be a person and was none opens nothing beyond the command.
            assert_eq!(
                Said::Here(holds).after(Who::Reviewer, Session),
                Holds::Command
            );
        }
    }

    #[test]
    fn an_approver_is_asked_where_the_settings_say_so_of_how_a_review_ended() {
        let ends = || {
            [
                Decision::TimedOut,
                Decision::Failed(server_failure("x", Retry::IsUseless, "x")),
                Decision::Aborted,
                Decision::Denied(Denial::ByPerson("no".to_owned())),
                Decision::Denied(Denial::ByRule(protocol::RuleId::new("r"))),
            ]
        };
        let asked = |asker, fallback| {
            ends().map(|decision| {
                let answered = Answered {
                    decision,
                    review: None,
                };
                goes_to_queue(asker, &answered, fallback)
            })
        };
        let reviewer = Asker::Reviewer(Holds::Session);
        let queue = Fallback {
            on_deny: OnEnd::Queue,
            on_timeout: OnEnd::Queue,
            on_failure: OnEnd::Queue,
        };
        assert_eq!(asked(reviewer, queue), [true, true, false, false, false]);
        let never = [false; 5];
        assert_eq!(asked(Asker::Approver, queue), never, "asked once");
        assert_eq!(asked(Asker::Person, queue), never);
        for end in [OnEnd::Block, OnEnd::User] {
            let fallback = Fallback {
                on_deny: end,
                on_timeout: end,
                on_failure: end,
            };
            assert_eq!(asked(reviewer, fallback), never);
        }
    }
}
