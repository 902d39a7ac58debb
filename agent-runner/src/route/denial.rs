//! What becomes of a command that the walls stopped: the table of retries (design D24). Pure.
//!
//! Apart, because it is asked after a run and not before one. Invariant: what is not askable stays stopped, and nobody is
//! ever asked under `never`.

use super::{Category, may_ask};
use crate::config::ApprovalPolicy;

/// What the walls stopped. Hosts are the door's to name, and to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Something of the file system, a mount or a system call: only leaving the walls helps.
    Walls,
    /// A path that may not be read, which leaving the walls does not change.
    Secret,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterDenial {
    /// The command's end stands.
    Stays,
    /// Somebody is asked whether it may run again, told that it already ran in part.
    AskAgain,
}

/// Whether the runner asks by itself after `denied`. `on_request_too` is `retry_on_denial` of `agent-runner.toml`.
pub(crate) fn on_denial(
    policy: ApprovalPolicy,
    on_request_too: OnRequest,
    denied: Denied,
) -> AfterDenial {
    let category = match denied {
        Denied::Walls => Category::Sandbox,
        Denied::Secret => return AfterDenial::Stays,
    };
    if may_ask(policy, category).is_err() {
        return AfterDenial::Stays;
    }
    match (policy, denied, on_request_too) {
        // There the agent asks by itself.
        (ApprovalPolicy::OnRequest, Denied::Walls, OnRequest::AgentAsks) => AfterDenial::Stays,
        _ => AfterDenial::AskAgain,
    }
}

/// Who asks again under `on-request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OnRequest {
    /// The agent, where it wants to.
    #[default]
    AgentAsks,
    /// The runner.
    RunnerAsks,
}

#[cfg(test)]
mod tests {
    use super::AfterDenial::{AskAgain, Stays};
    use super::Denied::{Secret, Walls};
    use super::OnRequest::{AgentAsks, RunnerAsks};
    use super::on_denial;
    use crate::config::ApprovalPolicy::{self, Granular, Never, OnFailure, OnRequest, Untrusted};
    use crate::config::Granular as Switches;

    fn granular(sandbox_approval: bool) -> ApprovalPolicy {
        Granular(Switches {
            sandbox_approval,
            rules: true,
            mcp_elicitations: true,
            request_permissions: false,
            skill_approval: false,
        })
    }

    #[test]
    fn the_table_of_retries_holds() {
        let rows = [
            (Never, AgentAsks, Walls, Stays),
            (Never, RunnerAsks, Walls, Stays),
            (Untrusted, AgentAsks, Walls, AskAgain),
            (OnFailure, AgentAsks, Walls, AskAgain),
            (granular(true), AgentAsks, Walls, AskAgain),
            (granular(false), RunnerAsks, Walls, Stays),
            (OnRequest, AgentAsks, Walls, Stays),
            (OnRequest, RunnerAsks, Walls, AskAgain),
            (Untrusted, RunnerAsks, Secret, Stays),
        ];
        for (policy, on_request, denied, wanted) in rows {
            let found = on_denial(policy, on_request, denied);
            assert_eq!(found, wanted, "{policy:?} {on_request:?} {denied:?}");
        }
    }
}
