//! Which walls stood while a command ran: [`Confinement`] (P7).
//!
//! Made from the plan after every step of it came off, so it never claims what was only asked for.

use std::fmt;

use serde::Serialize;

use crate::cgroup::Leaf;
use crate::plan::{Identity, Namespace, Plan, Walls};
use crate::policy::Network;
use crate::probe;
use crate::seccomp::{Filter, Observing};

/// How the command stood to the host's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RanAs {
    /// The caller, without any capability where a user namespace stood.
    Caller,
    /// Another user of the host; root started it.
    AnotherUser,
    /// Root over files alone; root started it.
    RootOverFiles,
}

/// Who made the namespaces and put the trees in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// This library's own system calls.
    OwnCalls,
    /// `/usr/bin/bwrap`, because this program was refused them. The other walls are our own all the same.
    Bubblewrap,
}

/// Which walls stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confinement {
    walls: Walls,
    namespaces: Vec<Namespace>,
    mounts: usize,
    landlock_abi: Option<u32>,
    seccomp: Vec<Filter>,
    network: Network,
    ran_as: RanAs,
    made_by: MadeBy,
    unix_sockets_refused: Option<usize>,
    leftovers: Leftovers,
    limits_by: LimitsBy,
    observed: Observing,
}

/// What holds memory and processes to their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum LimitsBy {
    /// The kernel, for all processes together.
    ControlGroup,
    /// The kernel counts memory so, and processes by user.
    ControlGroupOfMemory,
    /// The kernel counts processes so; memory is watched.
    ControlGroupOfProcesses,
    /// The kernel counts processes by user; memory is watched.
    ProcessAndWatch,
    /// Neither has a limit.
    Nobody,
}

/// What becomes of processes the command leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Leftovers {
    /// The kernel ends them with the process namespace.
    Ended,
    /// The init ends those it may signal; one of another user, or after the init itself was killed, stays.
    EndedWherePossible,
}

impl Confinement {
    pub(crate) fn of(plan: &Plan) -> Self {
        let own_processes = plan.namespaces().contains(&Namespace::Process);
        let unix_refused = plan.filters().contains(&Filter::UnixSockets);
        Self {
            walls: plan.walls(),
            namespaces: plan.namespaces().to_vec(),
            mounts: plan.operations().len(),
            landlock_abi: plan.landlock().and_then(|_| probe::landlock().ok()),
            seccomp: plan.filters().to_vec(),
            network: plan.network(),
            ran_as: match plan.identity() {
                Identity::Caller { .. } => RanAs::Caller,
                Identity::Unprivileged { .. } => RanAs::AnotherUser,
                Identity::ConfinedRoot => RanAs::RootOverFiles,
            },
            made_by: MadeBy::OwnCalls,
            unix_sockets_refused: unix_refused.then(|| plan.unlocated_host_sockets()),
            limits_by: match (plan.limits().memory_bytes, plan.limits().processes) {
                (None, None) => LimitsBy::Nobody,
                _ => LimitsBy::ProcessAndWatch,
            },
            leftovers: if own_processes {
                Leftovers::Ended
            } else {
                Leftovers::EndedWherePossible
            },
            observed: plan.observed(),
        }
    }

    /// The same in a control group of its own, where there is one.
    pub(crate) fn in_a_group(self, group: Option<&Leaf>) -> Self {
        let holds = group.map(Leaf::holds).unwrap_or_default();
        if self.limits_by == LimitsBy::Nobody {
            return self;
        }
        let limits_by = match (holds.memory, holds.processes) {
            (true, true) => LimitsBy::ControlGroup,
            (true, false) => LimitsBy::ControlGroupOfMemory,
            (false, true) => LimitsBy::ControlGroupOfProcesses,
            (false, false) => LimitsBy::ProcessAndWatch,
        };
        Self { limits_by, ..self }
    }

    /// The same by bubblewrap's hand.
    pub(crate) fn carried(self) -> Self {
        Self {
            made_by: MadeBy::Bubblewrap,
            ..self
        }
    }

    /// Nobody could observe the command, as it turned out.
    pub(crate) fn unobserved(&mut self) {
        self.observed = Observing::Nothing;
    }

    /// How much of what the command does was observed.
    #[must_use]
    pub fn observed(&self) -> Observing {
        self.observed
    }

    /// How wide the walls stood.
    #[must_use]
    pub fn walls(&self) -> Walls {
        self.walls
    }

    /// The Landlock interface that was used; `None` where the plan asks for none.
    #[must_use]
    pub fn landlock_abi(&self) -> Option<u32> {
        self.landlock_abi
    }

    /// The filters that stood.
    #[must_use]
    pub fn seccomp(&self) -> &[Filter] {
        &self.seccomp
    }

    /// The network that could be reached.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Who made the namespaces.
    #[must_use]
    pub fn made_by(&self) -> MadeBy {
        self.made_by
    }

    /// How the command stood to the host's users.
    #[must_use]
    pub fn ran_as(&self) -> RanAs {
        self.ran_as
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let walls = match self.walls {
            Walls::Confined => "confined",
            Walls::Widened => "widened",
            Walls::Escalated => "escalated",
            Walls::Unconfined => "unconfined",
            Walls::Reduced => "reduced",
        };
        write!(out, "{walls}: namespaces: ")?;
        match self.namespaces.len() {
            0 => write!(out, "none")?,
            count => write!(out, "{count}")?,
        }
        write!(out, ", mounts: ")?;
        if self.mounts == 0 {
            write!(out, "none")?
        } else {
            write!(out, "{}", self.mounts)?
        }
        match self.landlock_abi {
            Some(abi) => write!(out, ", landlock: ABI {abi}")?,
            None => write!(out, ", landlock: none")?,
        }
        let filters: Vec<_> = self.seccomp.iter().map(|filter| filter.as_str()).collect();
        let filters = if filters.is_empty() {
            "none".to_owned()
        } else {
            filters.join("+")
        };
        write!(out, ", seccomp: {filters}")?;
        let user = match self.ran_as {
            RanAs::Caller => "the caller",
            RanAs::AnotherUser => "another user",
            RanAs::RootOverFiles => "root over files",
        };
        let network = match self.network {
            Network::Off => "off",
            Network::Door => "by the door",
            Network::Full => "full",
        };
        write!(out, ", user: {user}, network: {network}")?;
        if self.made_by == MadeBy::Bubblewrap {
            write!(out, ", namespaces made by: /usr/bin/bwrap")?;
        }
        if let Some(count) = self.unix_sockets_refused {
            write!(
                out,
                ", unix sockets: refused ({count} of the host cannot be located)"
            )?;
        }
        let observed = match self.observed {
            Observing::Nothing => "not observed",
            Observing::Changes => "changes and connections observed",
            Observing::Everything => "reads, changes and connections observed",
        };
        write!(out, ", refusals: {observed}")?;
        if self.leftovers == Leftovers::EndedWherePossible {
            write!(out, ", leftovers: ended where possible")?;
        }
        Ok(())
    }
}
