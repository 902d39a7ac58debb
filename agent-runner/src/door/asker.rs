//! Who is asked about a host that no rule names: [`Asker::of`].
//!
//! Apart because four things decide it: the approval policy, the reviewer in force, how the command was started, and whose the
//! terminal is. Invariant: a person is asked only where the command has none of the terminal that the question stands on.

use std::io::IsTerminal as _;

use network_proxy::Misses;

use crate::ask::{Holds, PersonsTerminal};
use crate::config::{ApprovalsReviewer, OnEnd, Settings};
use crate::leaves::StandingHosts;
use crate::prepare::UnknownHosts;
use crate::request::TerminalWish;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Nobody: what no rule and no leave from before names stays closed.
    Nobody,
    /// The reviewer in force, whose yes holds so long.
    Reviewer(Holds),
    /// The person at the terminal, who chooses how long.
    Person,
    /// An approver at the server, who chooses how long but for ever.
    Approver,
}

/// Whose the terminal is while the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TerminalIs {
    /// There is none, or the command has a part of it and could draw over a question.
    Taken,
    /// The person's alone.
    Free,
}

impl Asker {
    /// Pure: who is asked under `settings`.
    pub(crate) fn of(settings: &Settings, unknown: UnknownHosts, terminal: TerminalIs) -> Self {
        match (unknown, settings.asks_about_hosts(), terminal) {
            (UnknownHosts::Closed, _, _) | (_, None, _) => Self::Nobody,
            (UnknownHosts::AsSet, Some(ApprovalsReviewer::AutoReview), _) => {
                Self::Reviewer(settings.runner.host_approvals.holds())
            }
            (UnknownHosts::AsSet, Some(ApprovalsReviewer::User), TerminalIs::Free) => Self::Person,
            // A person elsewhere, where none is here; never a model in a person's place.
            (UnknownHosts::AsSet, Some(ApprovalsReviewer::User), TerminalIs::Taken) => {
                match settings.runner.fallback.on_failure {
                    OnEnd::Queue => Self::Approver,
                    OnEnd::Block | OnEnd::User => Self::Nobody,
                }
            }
        }
    }

    /// What the door does with a host that no rule names. Leave from before counts only where somebody may be asked by now.
    pub(super) fn misses(
        self,
        settings: &Settings,
        unknown: UnknownHosts,
        hosts: &StandingHosts,
    ) -> Misses {
        let by_leave = unknown == UnknownHosts::AsSet
            && settings.asks_about_hosts().is_some()
            && !hosts.is_empty();
        match self {
            Self::Reviewer(_) | Self::Person | Self::Approver => Misses::Ask,
            Self::Nobody if by_leave => Misses::Ask,
            Self::Nobody => Misses::Refuse,
        }
    }
}

impl TerminalIs {
    /// Looks at the descriptors that the command inherits.
    pub(super) fn now(wish: TerminalWish) -> Self {
        let shared = std::io::stdin().is_terminal()
            || std::io::stdout().is_terminal()
            || std::io::stderr().is_terminal();
        if wish == TerminalWish::Own || shared || PersonsTerminal::open().is_err() {
            Self::Taken
        } else {
            Self::Free
        }
    }
}
