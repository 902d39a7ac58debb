//! Who is asked about a host behind a reviewer, and how long a yes holds.
//!
//! Apart and pure, because here a yes is made to last longer or not. Invariants: only the signed receipt says who gave it and
//! how long a person's holds; the settings count for a reviewer's alone; a yes from elsewhere never holds always.

use std::time::Duration;

use protocol::{Decision, Denial, ReceiptScope, ReviewId};

use crate::ask::Holds;
use crate::config::{Fallback, OnEnd};
use crate::door::{Asker, TerminalIs};
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
    /// How long a yes holds whose receipt says `scope`.
    pub(super) fn after(self, scope: ReceiptScope) -> Holds {
        match (self, scope) {
            (Self::Here(holds), ReceiptScope::Once | ReceiptScope::Session)
            | (Self::Set(holds), ReceiptScope::Reviewer) => holds,
            (Self::Set(_), ReceiptScope::Session) => Holds::Session,
            (Self::Set(_), ReceiptScope::Once) | (Self::Here(_), ReceiptScope::Reviewer) => {
                Holds::Command
            }
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

/// What decides who is asked next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follows {
    /// Who was asked.
    pub(super) asker: Asker,
    pub(super) fallback: Fallback,
    pub(super) terminal: TerminalIs,
}

impl Follows {
    /// Who is asked behind `decision`. What a rule or a person said is final, and nobody is asked a third time.
    pub(super) fn decision(self, decision: &Decision) -> Option<Asker> {
        let follows = match (self.asker, decision) {
            (Asker::Reviewer(_), Decision::Denied(Denial::Judged(_))) => self.fallback.on_deny,
            (Asker::Reviewer(_), Decision::TimedOut) => self.fallback.on_timeout,
            (Asker::Reviewer(_), Decision::Failed(_)) => self.fallback.on_failure,
            (
                Asker::Reviewer(_),
                Decision::Approved(_)
                | Decision::Aborted
                | Decision::Denied(Denial::ByRule(_) | Denial::ByPerson(_)),
            )
            | (Asker::Nobody | Asker::Person | Asker::Approver, _) => OnEnd::Block,
        };
        match (follows, self.terminal) {
            (OnEnd::Queue, _) => Some(Asker::Approver),
            (OnEnd::User, TerminalIs::Free) => Some(Asker::Person),
            (OnEnd::Block, _) | (OnEnd::User, TerminalIs::Taken) => None,
        }
    }

    /// Who is asked where the server could not be: no approver, who waits at the same one.
    pub(super) fn nothing(self) -> Option<Asker> {
        match (self.asker, self.fallback.on_failure, self.terminal) {
            (Asker::Reviewer(_), OnEnd::User, TerminalIs::Free) => Some(Asker::Person),
            (Asker::Reviewer(_) | Asker::Nobody | Asker::Person | Asker::Approver, _, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Decision, Denial, ReceiptScope};

    use super::{Follows, Said};
    use crate::ask::Holds;
    use crate::config::{Fallback, OnEnd};
    use crate::door::Asker;
    use crate::door::TerminalIs::{Free, Taken};
    use crate::review_client::{Retry, server_failure};

    #[test]
    fn only_a_signed_word_makes_a_yes_from_elsewhere_last_and_it_narrows_as_well() {
        use ReceiptScope::{Once, Reviewer, Session};
        for holds in [Holds::Command, Holds::Session, Holds::Always] {
            let (here, set) = (Said::Here(holds), Said::Set(holds));
            // The person at this terminal chose; what a server says of it is of no matter.
            assert_eq!([Once, Session].map(|it| here.after(it)), [holds; 2]);
            // Who was to be a person and was none opens nothing beyond the command.
            assert_eq!(here.after(Reviewer), Holds::Command);
            // What the settings let a reviewer's yes hold for is nothing to a person's, or to one that nobody signed for.
            assert_eq!(set.after(Reviewer), holds);
            assert_eq!(set.after(Once), Holds::Command);
            assert_eq!(set.after(Session), Holds::Session);
        }
    }

    #[test]
    fn a_person_is_asked_where_the_settings_say_so_of_how_a_review_ended() {
        let ends = || {
            [
                Decision::TimedOut,
                Decision::Failed(server_failure("x", Retry::IsUseless, "x")),
                Decision::Aborted,
                Decision::Denied(Denial::ByPerson("no".to_owned())),
                Decision::Denied(Denial::ByRule(protocol::RuleId::new("r"))),
            ]
        };
        let after = |asker, end, terminal| {
            let fallback = Fallback {
                on_deny: end,
                on_timeout: end,
                on_failure: end,
            };
            let follows = Follows {
                asker,
                fallback,
                terminal,
            };
            let next = ends().map(|decision| follows.decision(&decision));
            (next, follows.nothing())
        };
        let reviewer = Asker::Reviewer(Holds::Session);
        let first_two = |next| ([Some(next), Some(next), None, None, None], None);
        for terminal in [Free, Taken] {
            let asked = after(reviewer, OnEnd::Queue, terminal);
            assert_eq!(asked, first_two(Asker::Approver));
            for asker in [Asker::Approver, Asker::Person, Asker::Nobody] {
                for end in [OnEnd::Queue, OnEnd::User] {
                    assert_eq!(after(asker, end, terminal), ([None; 5], None), "asked once");
                }
            }
            let blocked = after(reviewer, OnEnd::Block, terminal);
            assert_eq!(blocked, ([None; 5], None));
        }
        // The person here answers for a server that cannot be reached as well; never beside a command's own terminal.
        let (next, unreached) = after(reviewer, OnEnd::User, Free);
        assert_eq!((next, None), first_two(Asker::Person));
        assert_eq!(unreached, Some(Asker::Person));
        let taken = after(reviewer, OnEnd::User, Taken);
        assert_eq!(taken, ([None; 5], None));
    }
}
